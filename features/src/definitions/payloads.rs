//! Checking how the messages of a topic are encoded, and finding the place of what only the server can check: schema files are
//! read there.

use super::check::{Definition, shortened};
use super::document::{DefinitionFile, Files, Item, Key};
use super::model::{Payload, PayloadFormat};
use crate::problem::Problem;

/// What the messages of a Kafka topic are; None for sources that have none.
pub(super) fn check_payload(files: &Files<'_>, definition: &Definition<'_>) -> Option<Payload> {
    let declared = definition.text("format");
    let connector = definition.text("connector")?;
    if connector != "kafka" {
        check_elsewhere(files, definition, connector, declared);
        return None;
    }
    let format = match declared {
        None | Some("json") => PayloadFormat::Json,
        Some("avro") => PayloadFormat::Avro,
        Some("protobuf") => PayloadFormat::Protobuf,
        Some(other) => {
            let message = format!("records of Kafka are json, avro or protobuf, not `{}`", shortened(other));
            let place = definition.get("format").map_or(definition.place, |item| &item.place);
            files.report("E0003", place, message, None);
            return None;
        }
    };
    let unused = |key: &str, why: &str| {
        if definition.get(key).is_some() {
            files.report("E0018", definition.key_place(key), format!("`{key}` has no effect {why}"), None);
        }
    };
    if format == PayloadFormat::Json {
        unused("schema_file", "on json, which names its columns itself");
    }
    if format != PayloadFormat::Protobuf {
        unused("message", "but on protobuf");
    }
    for (key, example) in [("schema_file", "schemas/txn.avsc"), ("message", "shop.Txn")] {
        if let Some(item) = definition.get(key).filter(|item| item.text().is_some_and(|text| text.trim().is_empty())) {
            files.report("E0003", &item.place, format!("`{key}` is a text such as \"{example}\", not empty"), None);
        }
    }
    let text = |key: &str| definition.text(key).map(str::to_string);
    Some(Payload { format, schema_file: text("schema_file"), message: text("message") })
}

/// Of the other connectors files have a format, too; none has a schema.
fn check_elsewhere(files: &Files<'_>, definition: &Definition<'_>, connector: &str, declared: Option<&str>) {
    if let (Some(format @ ("avro" | "protobuf")), Some(item)) = (declared, definition.get("format")) {
        let instead = if connector == "file" { "files are ndjson, csv or parquet" } else { "clients push rows" };
        let message = format!("`{format}` is read from Kafka topics; {instead}");
        files.report("E0003", &item.place, message, None);
    }
    for key in ["schema_file", "message"].into_iter().filter(|key| definition.get(key).is_some()) {
        let message = format!("`{key}` has no effect on a {connector} source");
        files.report("E0018", definition.key_place(key), message, None);
    }
}

/// A problem of a source that is found after the check, at the place of one of its keys: `["fields", "amount"]`. Where there is
/// no such key, at the nearest one around it.
pub fn problem_of_source(
    files: &[DefinitionFile],
    source: &str,
    path: &[&str],
    (code, message, near): (&'static str, String, Option<String>),
) -> Option<Problem> {
    let context = Files::new(files);
    let trees: Vec<Vec<(Key, Item)>> = (0..files.len()).map(|file| context.parse(file)).collect();
    let sections = trees.iter().flatten().filter(|(key, _)| key.name == "source");
    let mut sources = sections.filter_map(|(_, item)| item.table()).flatten();
    let (mut key, mut item) = sources.find(|(key, _)| key.name == source).map(|(key, item)| (key, item))?;
    for name in path {
        let Some((inner, value)) = item.table().unwrap_or(&[]).iter().find(|(key, _)| key.name == *name) else { break };
        (key, item) = (inner, value);
    }
    context.report(code, &key.place, message, near);
    context.into_problems().pop()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::check;

    const FIELDS: &str = "event_time = 't'\nfields = { t = 'timestamp', \"p.x\" = 'float64' }\n";

    fn checked(keys: &str) -> Result<Option<Payload>, Vec<String>> {
        let text = format!("[source.s]\n{keys}\n{FIELDS}");
        let shown = |p: Problem| format!("{} {}:{} {}", p.code, p.line, p.column, p.message);
        match check(&[DefinitionFile { path: "a.toml".into(), text }]) {
            Ok(registry) => Ok(registry.sources[0].payload.clone()),
            Err(problems) => Err(problems.into_iter().map(shown).collect()),
        }
    }

    #[test]
    fn formats_have_the_keys_that_they_need() {
        let kafka = "connector = 'kafka'\ntopic = 'a'";
        let json = checked(kafka).unwrap().unwrap();
        assert_eq!((json.format, json.schema_file), (PayloadFormat::Json, None));
        let keys = "format = 'protobuf'\nschema_file = 'a.proto'\nmessage = 'shop.Txn'";
        let protobuf = checked(&format!("{kafka}\n{keys}")).unwrap().unwrap();
        assert_eq!(
            (protobuf.format, protobuf.schema_file.as_deref(), protobuf.message.as_deref()),
            (PayloadFormat::Protobuf, Some("a.proto"), Some("shop.Txn"))
        );
        assert_eq!(checked("connector = 'push'"), Ok(None));
        for (keys, expected) in [
            (format!("{kafka}\nformat = 'csv'"), "E0003 4:10 records of Kafka are json, avro or protobuf, not `csv`"),
            (format!("{kafka}\nschema_file = 'a'"), "E0018 4:1 `schema_file` has no effect on json"),
            (format!("{kafka}\nmessage = 'a.B'"), "E0018 4:1 `message` has no effect but on protobuf"),
            (format!("{kafka}\nformat = 'avro'\nmessage = 'a.B'"), "E0018 5:1 `message` has no effect but on protobuf"),
            (format!("{kafka}\nformat = 'avro'\nschema_file = ' '"), "E0003 5:15 `schema_file` is a text such as"),
            ("connector = 'push'\nformat = 'avro'".into(), "E0003 3:10 `avro` is read from Kafka topics; clients push"),
            (
                "connector = 'file'\npath = 'a'\nformat = 'protobuf'".into(),
                "E0003 4:10 `protobuf` is read from Kafka topics; files are ndjson, csv or parquet",
            ),
            ("connector = 'push'\nschema_file = 'a'".into(), "E0018 3:1 `schema_file` has no effect on a push source"),
        ] {
            let told = checked(&keys).unwrap_err();
            assert!(told.len() == 1 && told[0].starts_with(expected), "{keys}: {told:?}");
        }
    }

    /// Fields of records have names with dots, which expressions quote.
    #[test]
    fn names_with_dots_are_columns() {
        let text = format!(
            "[source.s]\nconnector = 'push'\n{FIELDS}[entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n\
             [view.v.features]\na = {{ agg = 'sum(\"p.x\")' }}\n"
        )
        .replace("fields = {", "fields = { k = 'string',");
        assert!(check(&[DefinitionFile { path: "a.toml".into(), text }]).is_ok());
    }

    #[test]
    fn problems_are_told_at_the_nearest_key() {
        let files = ["[entity.e]\nkey = 'k'\n", "[source.a]\n[source.b]\nfields = { x = 'int64' }\n"];
        let files = files.map(|text| DefinitionFile { path: format!("{}.toml", text.len()), text: text.into() });
        let place = |source: &str, path: &[&str]| {
            let problem = problem_of_source(&files, source, path, ("E0020", "odd".to_string(), None))?;
            Some((problem.file.clone(), problem.line, problem.column))
        };
        let file = files[1].path.clone();
        assert_eq!(place("b", &["fields", "x"]), Some((file.clone(), 3, 12)));
        assert_eq!(place("b", &["fields", "y"]), Some((file.clone(), 3, 1)));
        assert_eq!(place("b", &["schema_file"]), Some((file.clone(), 2, 9)));
        assert_eq!((place("a", &[]), place("c", &[])), (Some((file, 1, 9)), None));
    }
}
