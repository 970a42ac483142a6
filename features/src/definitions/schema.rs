//! The JSON Schema of definition files, from the same tables as the check.

use serde_json::{Map, Value, json};

use super::grammar::{Field, Kind, SECTIONS};

const NAME: &str = "^[a-z][a-z0-9_]{0,62}$";
const DURATION: &str = "^([0-9]+(us|ms|s|m|h|d|w))+$";

/// The schema, a JSON object (draft 2020-12).
pub fn json_schema() -> Value {
    let section = |(name, fields): &(&str, &[Field])| {
        let named =
            json!({ "type": "object", "patternProperties": { NAME: table(fields) }, "additionalProperties": false });
        (name.to_string(), named)
    };
    let sections: Map<String, Value> = SECTIONS.iter().map(section).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tidemill definitions",
        "type": "object",
        "properties": sections,
        "additionalProperties": false,
    })
}

fn table(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = kind(field.kind);
        schema["description"] = json!(field.says);
        properties.insert(field.name.to_string(), schema);
    }
    let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Expression => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Kind::Duration => json!({ "type": "string", "pattern": DURATION }),
        Kind::Time => json!({ "type": "string", "format": "date-time" }),
        Kind::Choice(names) => json!({ "enum": names }),
        Kind::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Durations => json!({ "type": "array", "items": { "type": "string", "pattern": DURATION } }),
        Kind::Map(inner) => {
            let value = self::kind(*inner);
            json!({ "type": "object", "patternProperties": { NAME: value }, "additionalProperties": false })
        }
        Kind::Table(fields) => table(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key of each kind.
    #[test]
    fn keys_have_the_schema_of_their_kind() {
        let schema = json_schema();
        let of = |section: &str| &schema["properties"][section]["patternProperties"][NAME];
        let (source, view) = (&of("source")["properties"], &of("view")["properties"]);
        let feature = &view["features"]["patternProperties"][NAME];
        let kind = |schema: &Value| {
            let mut schema = schema.clone();
            schema.as_object_mut().unwrap().remove("description");
            schema
        };
        assert_eq!(kind(&source["topic"]), json!({ "type": "string" }));
        assert_eq!(kind(&source["follow"]), json!({ "type": "boolean" }));
        assert_eq!(kind(&source["max_lag"]), json!({ "type": "string", "pattern": DURATION }));
        assert_eq!(kind(&source["kind"]), json!({ "enum": ["stream", "table"] }));
        assert_eq!(kind(&view["where"]), json!({ "type": "string" }));
        assert_eq!(
            kind(&feature["properties"]["last_n"]),
            json!({ "type": "integer", "minimum": 1, "maximum": 10_000 })
        );
        assert_eq!(kind(&feature["properties"]["default"]), json!({ "type": ["string", "number", "boolean"] }));
        let durations = json!({ "type": "array", "items": { "type": "string", "pattern": DURATION } });
        assert_eq!(kind(&feature["properties"]["windows"]), durations);
        let texts = json!({ "type": "array", "items": { "type": "string" } });
        assert_eq!(kind(&of("service")["properties"]["features"]), texts);
        assert_eq!((&feature["required"], &feature["additionalProperties"]), (&json!(["agg"]), &json!(false)));
        assert_eq!(of("source")["required"], json!(["connector", "event_time", "fields"]));
        assert_eq!(source["topic"]["description"], "Kafka topic");
    }
}
