//! Checking sources: connectors, columns, times, ids.

use super::check::{Definition, NotReady};
use super::columns::compile_filter;
use super::document::{Files, Item, ItemValue};
use super::kafka;
use super::model::{Connector, HistoryFiles, Source};
use super::payloads::check_payload;
use super::types::{FieldType, TYPE_NAMES, parse_type};
use crate::expression::{Expression, Scope};
use crate::problem::nearest;
use crate::time::{HOUR, SECOND, parse_rfc3339};
use crate::value::DataType;

/// Columns of one source.
const FIELDS_MAX: usize = 2_000;

/// Resolves a key that names another definition.
pub(super) fn reference<T>(
    files: &Files<'_>,
    definition: &Definition<'_>,
    key: &str,
    known: &[T],
    name_of: impl Fn(&T) -> &str,
) -> Option<usize> {
    let item = definition.get(key)?;
    let name = item.text()?;
    let found = known.iter().position(|k| name_of(k) == name);
    if found.is_none() {
        let near = nearest(name, known.iter().map(&name_of));
        files.report("E0007", &item.place, format!("unknown {key} `{name}`"), near);
    }
    found
}

pub(super) fn check_source(files: &Files<'_>, definition: &Definition<'_>, not_ready: &mut NotReady) -> Source {
    let mut fields = check_fields(files, definition);
    // What is broken stays known, as something plain: its uses are right or wrong all the same.
    let connector = check_connector(files, definition, &mut fields).unwrap_or(Connector::Push);
    let column = |key: &str, fits: fn(&DataType) -> bool, expected: &str| {
        let item = definition.get(key)?;
        column_of(files, &fields, item, definition.name, key, fits, expected)
    };
    let is_time = |data_type: &DataType| *data_type == DataType::Timestamp;
    let event_time = column("event_time", is_time, "a timestamp");
    let is_id = |data_type: &DataType| matches!(data_type, DataType::Text | DataType::Int64);
    let event_id = column("event_id", is_id, "string or int64");
    let arrival_time = column("arrival_time", is_time, "a timestamp");
    let not_yet = |what: &str| format!("source `{}`: {what}", definition.name);
    if definition.text("dedup") == Some("global") {
        not_ready.push(not_yet("global deduplication cannot run yet"));
    }
    for key in ["dedup_horizon", "dedup"] {
        if definition.get(key).is_some() && definition.get("event_id").is_none() {
            let message = format!("`{key}` has no effect without `event_id`");
            files.report("E0018", definition.key_place(key), message, None);
        }
    }
    if definition.get("delete_when").is_some() && definition.text("kind") != Some("table") {
        files.report("E0018", definition.key_place("delete_when"), "`delete_when` has no effect on a stream", None);
    }
    let delete_when = check_deletes(files, definition, &fields, &connector);
    Source {
        name: definition.name.to_string(),
        connector,
        is_table: definition.text("kind") == Some("table"),
        delete_when,
        fields,
        event_time: event_time.unwrap_or(0),
        event_id,
        arrival_time,
        dedup_horizon: definition.duration("dedup_horizon").unwrap_or(HOUR),
        assumed_delay: definition.duration("assumed_delay").unwrap_or(0),
        max_future_skew: definition.duration("max_future_skew").unwrap_or(300 * SECOND),
        max_lag: definition.duration("max_lag"),
        history: check_history(files, definition),
        vectors: Vec::new(),
        payload: check_payload(files, definition),
    }
}

/// The rows of a table that delete their key: those that the definition says, and records of Kafka without a value.
fn check_deletes(
    files: &Files<'_>,
    definition: &Definition<'_>,
    fields: &[(String, FieldType)],
    connector: &Connector,
) -> Option<Expression> {
    let columns = SourceColumns { fields };
    let declared = definition.get("delete_when");
    let compiled = declared.and_then(|item| compile_filter(files, item, &columns));
    let tombstone = match connector {
        Connector::Kafka(kafka) if definition.text("kind") == Some("table") => kafka::tombstone_column(kafka, fields),
        _ => None,
    };
    let Some(tombstone) = tombstone else { return compiled };
    let text = match declared.and_then(Item::text) {
        None => tombstone.to_string(),
        Some(text) if compiled.is_some() => format!("({text}) OR {tombstone}"),
        Some(_) => return None,
    };
    let item = Item { place: definition.place.clone(), value: ItemValue::Text(text) };
    compile_filter(files, &item, &columns)
}

fn check_history(files: &Files<'_>, definition: &Definition<'_>) -> Option<HistoryFiles> {
    if definition.get("history_until").is_some() && definition.get("history").is_none() {
        let message = "`history_until` has no effect without `history`";
        files.report("E0018", definition.key_place("history_until"), message, None);
    }
    let item = definition.get("history")?;
    let path = item.text()?;
    if path.trim().is_empty() {
        files.report("E0003", &item.place, "`history` is a glob such as \"lake/**/*.parquet\", not empty", None);
    }
    if definition.text("connector") == Some("file") {
        let message = "`history` has no effect on a file source: let its `path` name these files too";
        files.report("E0018", definition.key_place("history"), message, None);
    }
    let until = definition.text("history_until").and_then(parse_rfc3339);
    Some(HistoryFiles { path: path.to_string(), until })
}

/// Whether values of a type can name an entity or a table's row.
pub(super) fn key_type_fits(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Float64 | DataType::Float32 | DataType::List(_) | DataType::Vector(_))
}

/// What `delete_when` sees.
struct SourceColumns<'f> {
    fields: &'f [(String, FieldType)],
}

impl Scope for SourceColumns<'_> {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        let whole = path.join(".");
        match self.fields.iter().position(|(name, _)| *name == whole) {
            Some(at) => Ok((at, self.fields[at].1.data_type.clone())),
            None => {
                let near = nearest(&whole, self.fields.iter().map(|(name, _)| name.as_str()));
                Err((format!("unknown column `{whole}`"), near))
            }
        }
    }

    fn at_read(&self) -> bool {
        false
    }
}

fn check_fields(files: &Files<'_>, definition: &Definition<'_>) -> Vec<(String, FieldType)> {
    let mut fields = Vec::new();
    let declared = definition.table("fields");
    for (key, item) in declared.iter().take(FIELDS_MAX) {
        let Some(text) = item.text() else { continue };
        match parse_type(text) {
            Some(field_type) => fields.push((key.name.clone(), field_type)),
            None => {
                let message =
                    format!("column `{}`: `{text}` is not a type; types are {}", key.name, TYPE_NAMES.join(", "));
                files.report("E0015", &item.place, message, nearest(text, TYPE_NAMES));
                // The column is there all the same, so that its uses are not reported as unknown.
                fields.push((key.name.clone(), FieldType { data_type: DataType::Text, unit: super::TimeUnit::Text }));
            }
        }
    }
    if declared.len() > FIELDS_MAX {
        files.report("E0017", definition.key_place("fields"), format!("more than {FIELDS_MAX} columns"), None);
    }
    fields
}

fn column_of(
    files: &Files<'_>,
    fields: &[(String, FieldType)],
    item: &Item,
    source: &str,
    key: &str,
    fits: fn(&DataType) -> bool,
    expected: &str,
) -> Option<usize> {
    let name = item.text()?;
    let Some(at) = fields.iter().position(|(field, _)| field == name) else {
        let near = nearest(name, fields.iter().map(|(field, _)| field.as_str()));
        files.report("E0007", &item.place, format!("`{key}`: source `{source}` has no column `{name}`"), near);
        return None;
    };
    let data_type = &fields[at].1.data_type;
    if !fits(data_type) {
        files.report("E0015", &item.place, format!("`{key}` is {expected}, but `{name}` is {data_type}"), None);
    }
    Some(at)
}

/// Keys that only Kafka sources have.
const OF_KAFKA: [&str; 4] = ["topic", "topics", "metadata", "dead_letter_topic"];

fn check_connector(
    files: &Files<'_>,
    definition: &Definition<'_>,
    fields: &mut Vec<(String, FieldType)>,
) -> Option<Connector> {
    let connector = definition.text("connector")?;
    let needs = |key: &str| {
        if definition.get(key).is_none() {
            let message = format!("a {connector} source needs `{key}`");
            files.report("E0004", definition.place, message, None);
        }
    };
    let unused = |keys: &[&str]| {
        for key in keys.iter().filter(|key| definition.get(key).is_some()) {
            let message = format!("`{key}` has no effect on a {connector} source");
            files.report("E0018", definition.key_place(key), message, None);
        }
    };
    match connector {
        "push" => {
            unused(&OF_KAFKA);
            unused(&["path", "follow"]);
            Some(Connector::Push)
        }
        "file" => {
            needs("path");
            unused(&OF_KAFKA);
            Some(Connector::File {
                path: definition.text("path").unwrap_or_default().to_string(),
                follow: definition.flag("follow"),
                format: definition.text("format").map(str::to_string),
            })
        }
        "kafka" => {
            unused(&["path", "follow"]);
            Some(Connector::Kafka(kafka::check_kafka(files, definition, fields)))
        }
        _ => None,
    }
}
