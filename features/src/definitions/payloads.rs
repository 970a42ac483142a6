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
