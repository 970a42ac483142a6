//! Avro schemas: JSON into nodes that refer to one another by number, so that recursive types need no care.
//!
//! It takes what producers' libraries take: names are not restricted, defaults are not looked at (data are read by the schema that
//! they were written with, which has no use for them), and a logical type that is unknown or does not fit is its plain type.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};

/// A node by its number.
pub(super) type Id = usize;

/// A whole schema.
#[derive(Debug)]
pub(super) struct Schema {
    pub nodes: Vec<Node>,
    pub root: Id,
}

/// A type, as far as it decides what stands in the bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    /// an instant, as a number of a unit; how many to a second
    Instant(i64),
    /// a time without a zone
    LocalTime,
    /// a time of the day
    TimeOfDay,
    /// days since the epoch
    Date,
    /// big-endian, in bytes or in so many of them
    Decimal {
        scale: u8,
        size: Option<usize>,
    },
    /// 16 bytes that are shown as text
    Uuid,
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Record(Vec<Field>),
    /// a name whose type has not been seen yet
    Unknown(String),
}

/// A field of a record.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub node: Id,
}

/// What is wrong with a schema, and a text of the file that is near it.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub message: String,
    pub near: Option<String>,
}

type Parsed<T> = Result<T, Wrong>;

fn wrong<T>(message: impl Into<String>, near: Option<&str>) -> Parsed<T> {
    Err(Wrong { message: message.into(), near: near.map(str::to_string) })
}

impl Schema {
    /// Reads a schema; `others` have types that it refers to by name.
    pub(super) fn parse<'t>(text: &str, others: impl IntoIterator<Item = &'t str>) -> Parsed<Schema> {
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new(), defined: HashSet::new() };
        for other in others {
            parser.node(&json(other)?, "")?;
        }
        let root = parser.node(&json(text)?, "")?;
        for node in &parser.nodes {
            if let Node::Unknown(name) = node {
                let own = name.rsplit('.').next().unwrap_or(name);
                return wrong(format!("unknown type `{name}`"), Some(own));
            }
        }
        Ok(Schema { nodes: parser.nodes, root })
    }
}

fn json(text: &str) -> Parsed<Json> {
    serde_json::from_str(text).or_else(|error| wrong(format!("not JSON: {error}"), None))
}

struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, Id>,
    /// what is known, or just being read; other names were only mentioned
    defined: HashSet<String>,
}

impl Parser {
    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn node(&mut self, json: &Json, namespace: &str) -> Parsed<Id> {
        match json {
            Json::String(name) => Ok(self.named(name, namespace)),
            Json::Array(branches) => {
                let mut nodes = Vec::with_capacity(branches.len());
                for branch in branches {
                    if branch.is_array() {
                        return wrong("a union stands in a union", None);
                    }
                    nodes.push(self.node(branch, namespace)?);
                }
                Ok(self.add(Node::Union(nodes)))
            }
            Json::Object(object) => self.object(object, namespace),
            other => wrong(format!("`{other}` is not a type"), None),
        }
    }

    /// A primitive type, or one that is defined somewhere.
    fn named(&mut self, name: &str, namespace: &str) -> Id {
        if let Some(primitive) = primitive(name) {
            return self.add(primitive);
        }
        let full = full_name(name, namespace);
        if let Some(known) = self.names.get(&full) {
            return *known;
        }
        let id = self.add(Node::Unknown(full.clone()));
        self.names.insert(full, id);
        id
    }

    fn object(&mut self, object: &Map<String, Json>, namespace: &str) -> Parsed<Id> {
        let Some(kind) = object.get("type") else {
            let near = object.keys().next().map(String::as_str);
            return wrong("a type without `type`", near);
        };
        let Json::String(kind) = kind else { return self.node(kind, namespace) };
        match kind.as_str() {
            "record" | "error" | "enum" | "fixed" => self.definition(kind, object, namespace),
            "array" | "map" => {
                let key = if kind == "array" { "items" } else { "values" };
                let Some(inner) = object.get(key) else { return wrong(format!("`{kind}` needs `{key}`"), Some(kind)) };
                let inner = self.node(inner, namespace)?;
                Ok(self.add(if kind == "array" { Node::Array(inner) } else { Node::Map(inner) }))
            }
            name => match primitive(name) {
                Some(plain) => Ok(self.add(logical(object, plain))),
                None => Ok(self.named(name, namespace)),
            },
        }
    }

    /// A record, enum or fixed, which has a name.
    fn definition(&mut self, kind: &str, object: &Map<String, Json>, namespace: &str) -> Parsed<Id> {
        let Some(name) = object.get("name").and_then(Json::as_str) else {
            return wrong(format!("`{kind}` needs `name`"), Some(kind));
        };
        let full = full_name(name, object.get("namespace").and_then(Json::as_str).unwrap_or(namespace));
        if !self.defined.insert(full.clone()) {
            return wrong(format!("type `{full}` is defined twice"), Some(name));
        }
        let id = match self.names.get(&full) {
            Some(mentioned) => *mentioned,
            None => self.add(Node::Unknown(full.clone())),
        };
        self.names.insert(full.clone(), id);
        let inner = full.rsplit_once('.').map_or("", |(inner, _)| inner);
        let node = match kind {
            "enum" => {
                let symbols = object.get("symbols").and_then(Json::as_array);
                let texts = symbols.map(|symbols| symbols.iter().map(|s| s.as_str().map(str::to_string)).collect());
                let Some(Some(symbols)) = texts else {
                    return wrong(format!("enum `{full}` needs `symbols`, a list of texts"), Some(name));
                };
                Node::Enum(symbols)
            }
            "fixed" => {
                let size = object.get("size").and_then(Json::as_u64).and_then(|size| usize::try_from(size).ok());
                let Some(size) = size else { return wrong(format!("fixed `{full}` needs `size`"), Some(name)) };
                logical(object, Node::Fixed(size))
            }
            _ => {
                let Some(fields) = object.get("fields").and_then(Json::as_array) else {
                    return wrong(format!("record `{full}` needs `fields`"), Some(name));
                };
                Node::Record(fields.iter().map(|field| self.field(field, &full, inner)).collect::<Parsed<_>>()?)
            }
        };
        self.nodes[id] = node;
        Ok(id)
    }

    fn field(&mut self, json: &Json, record: &str, namespace: &str) -> Parsed<Field> {
        let Some(name) = json.get("name").and_then(Json::as_str) else {
            return wrong(format!("a field of record `{record}` needs `name`"), record.rsplit('.').next());
        };
        let Some(node) = json.get("type") else {
            return wrong(format!("field `{name}` of record `{record}` needs `type`"), Some(name));
        };
        let node = self.node(node, namespace).map_err(|wrong| Wrong {
            message: format!("field `{name}` of record `{record}`: {}", wrong.message),
            near: wrong.near.or_else(|| Some(name.to_string())),
        })?;
        let aliases = json.get("aliases").and_then(Json::as_array);
        let aliases = aliases.into_iter().flatten().filter_map(|alias| alias.as_str().map(str::to_string)).collect();
        Ok(Field { name: name.to_string(), aliases, node })
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::Text,
        _ => return None,
    })
}

/// A plain type with what its `logicalType` says.
fn logical(object: &Map<String, Json>, plain: Node) -> Node {
    let Some(name) = object.get("logicalType").and_then(Json::as_str) else { return plain };
    match (name, &plain) {
        ("timestamp-millis", Node::Long) => Node::Instant(1_000),
        ("timestamp-micros", Node::Long) => Node::Instant(1_000_000),
        ("timestamp-nanos", Node::Long) => Node::Instant(1_000_000_000),
        ("local-timestamp-millis" | "local-timestamp-micros" | "local-timestamp-nanos", Node::Long) => Node::LocalTime,
        ("time-millis", Node::Int) | ("time-micros", Node::Long) => Node::TimeOfDay,
        ("date", Node::Int) => Node::Date,
        ("uuid", Node::Fixed(16)) => Node::Uuid,
        ("decimal", Node::Bytes | Node::Fixed(_)) => {
            let number = |key: &str| object.get(key).map_or(Some(0), |v| v.as_u64().and_then(|v| u8::try_from(v).ok()));
            let size = if let Node::Fixed(size) = plain { Some(size) } else { None };
            match (number("precision"), number("scale")) {
                // Beyond 38 digits no column can hold them; as bytes they can be had.
                (Some(precision @ 1..=38), Some(scale)) if scale <= precision => Node::Decimal { scale, size },
                _ => plain,
            }
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(schema: &Schema, record: Id) -> Vec<(&str, &Node)> {
        let Node::Record(fields) = &schema.nodes[record] else { panic!("{:?}", schema.nodes[record]) };
        fields.iter().map(|field| (field.name.as_str(), &schema.nodes[field.node])).collect()
    }

    #[test]
    fn names_are_looked_for_in_their_namespace() {
        let text = r#"{"type": "record", "name": "a.b.Outer", "fields": [
            {"name": "own", "type": {"type": "enum", "name": "E", "symbols": ["X"]}},
            {"name": "again", "type": "E"},
            {"name": "full", "type": "a.b.E"},
            {"name": "other", "type": {"type": "fixed", "name": "F", "namespace": "c", "size": 16, "logicalType": "uuid"}},
            {"name": "of_other", "type": "c.F"},
            {"name": "self", "type": ["null", "Outer"]},
            {"name": "referred", "type": {"type": "d.R"}}]}"#;
        let referred =
            r#"{"type": "record", "name": "d.R", "fields": [{"name": "back", "type": ["null", "a.b.Outer"]}]}"#;
        let schema = Schema::parse(text, [referred]).unwrap();
        let found = fields(&schema, schema.root);
        let symbols = Node::Enum(vec!["X".into()]);
        assert_eq!([found[0].1, found[1].1, found[2].1], [&symbols; 3]);
        assert_eq!([found[3].1, found[4].1], [&Node::Uuid; 2]);
        let Node::Union(branches) = found[5].1 else { panic!("{:?}", found[5]) };
        assert_eq!(branches[1], schema.root);
        assert!(matches!(found[6].1, Node::Record(_)));
    }

    #[test]
    fn logical_types_that_do_not_fit_are_plain() {
        for (text, node) in [
            (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, Node::Instant(1_000)),
            (r#"{"type": "int", "logicalType": "timestamp-millis"}"#, Node::Int),
            (r#"{"type": "int", "logicalType": "date"}"#, Node::Date),
            (r#"{"type": "string", "logicalType": "uuid"}"#, Node::Text),
            (r#"{"type": {"type": "long", "logicalType": "timestamp-nanos"}}"#, Node::Instant(1_000_000_000)),
            (
                r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
                Node::Decimal { scale: 2, size: None },
            ),
            (
                r#"{"type": "fixed", "name": "d", "size": 4, "logicalType": "decimal", "precision": 9}"#,
                Node::Decimal { scale: 0, size: Some(4) },
            ),
            (r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 10}"#, Node::Bytes),
            (r#"{"type": "bytes", "logicalType": "decimal", "precision": 400}"#, Node::Bytes),
            (r#"{"type": "bytes", "logicalType": "decimal"}"#, Node::Bytes),
        ] {
            let schema = Schema::parse(text, []).unwrap();
            assert_eq!(schema.nodes[schema.root], node, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_stands_near() {
        let field =
            |kind: &str| format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {kind}}}]}}"#);
        for (text, message, near) in [
            ("{".to_string(), "not JSON: EOF", None),
            ("7".to_string(), "`7` is not a type", None),
            ("{\"nam\": 1}".to_string(), "a type without `type`", Some("nam")),
            (field("\"strng\""), "unknown type `strng`", Some("strng")),
            (field("{\"type\": \"array\"}"), "field `f` of record `R`: `array` needs `items`", Some("array")),
            (field("[\"null\", [\"int\"]]"), "a union stands in a union", Some("f")),
            (field("{\"type\": \"enum\", \"name\": \"E\"}"), "enum `E` needs `symbols`", Some("E")),
            (field("{\"type\": \"fixed\", \"name\": \"F\", \"size\": -1}"), "fixed `F` needs `size`", Some("F")),
            (field("{\"type\": \"record\", \"name\": \"R\", \"fields\": []}"), "`R` is defined twice", Some("R")),
            (field("7"), "`7` is not a type", Some("f")),
        ] {
            let wrong = Schema::parse(&text, []).unwrap_err();
            assert!(wrong.message.contains(message), "{text}: {}", wrong.message);
            assert_eq!(wrong.near.as_deref(), near, "{text}");
        }
    }
}
