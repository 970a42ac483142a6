//! Checking what a source reads from Kafka: topics, and columns that come from the record and not from its value.

use super::check::{Definition, shortened};
use super::document::{Files, Item, ItemValue};
use super::model::{KafkaTopics, Metadata};
use super::types::{FieldType, TimeUnit};
use crate::problem::nearest;
use crate::value::DataType;

/// Topics of one source: a partition number has 15 bits for them.
const TOPICS_MAX: usize = 1_000;
/// What a broker takes as the name of a topic.
const TOPIC_NAME_MAX: usize = 249;
/// The column that a table gets which declares none for it: records without a value delete their key.
const TOMBSTONE: &str = "_tombstone";
/// What a column can be bound to, besides `header.NAME`.
const NAMES: [&str; 7] = ["key", "topic", "partition", "offset", "timestamp", "tombstone", "header.NAME"];

pub(super) fn check_kafka(
    files: &Files<'_>,
    definition: &Definition<'_>,
    fields: &mut Vec<(String, FieldType)>,
) -> KafkaTopics {
    let topics = check_topics(files, definition);
    let mut metadata = Vec::new();
    for (key, item) in definition.table("metadata") {
        let Some(text) = item.text() else { continue };
        let Some(bound) = parse(text) else {
            let message = format!("column `{}`: `{}` is none of {}", key.name, shortened(text), NAMES.join(", "));
            files.report("E0003", &item.place, message, nearest(text, NAMES));
            continue;
        };
        let Some(at) = fields.iter().position(|(name, _)| *name == key.name) else {
            let near = nearest(&key.name, fields.iter().map(|(name, _)| name.as_str()));
            let message = format!("`metadata`: source `{}` has no column `{}`", definition.name, shortened(&key.name));
            files.report("E0007", &key.place, message, near);
            continue;
        };
        check_type(files, item, &bound, &fields[at]);
        metadata.push((at, bound));
    }
    let deletes_by_itself =
        definition.text("kind") == Some("table") && !metadata.iter().any(|(_, bound)| *bound == Metadata::Tombstone);
    if deletes_by_itself && !fields.iter().any(|(name, _)| name == TOMBSTONE) {
        fields.push((TOMBSTONE.to_string(), FieldType { data_type: DataType::Bool, unit: TimeUnit::Text }));
        metadata.push((fields.len() - 1, Metadata::Tombstone));
    }
    metadata.sort_by_key(|(at, _)| *at);
    let dead_letter_topic = definition.get("dead_letter_topic").and_then(|item| topic(files, item));
    if let Some(name) = dead_letter_topic.as_ref().filter(|name| topics.contains(name)) {
        let message = format!("bad events of topic `{name}` would go into it again: name another topic");
        files.report("E0012", definition.key_place("dead_letter_topic"), message, None);
    }
    KafkaTopics { topics, metadata, dead_letter_topic }
}

/// The column that says of a row that its record had no value.
pub(super) fn tombstone_column<'f>(kafka: &KafkaTopics, fields: &'f [(String, FieldType)]) -> Option<&'f str> {
    let (at, _) = kafka.metadata.iter().find(|(_, metadata)| *metadata == Metadata::Tombstone)?;
    Some(&fields[*at].0)
}

fn check_topics(files: &Files<'_>, definition: &Definition<'_>) -> Vec<String> {
    let items: Vec<&Item> = match (definition.get("topic"), definition.get("topics")) {
        (Some(topic), None) => vec![topic],
        (None, Some(Item { value: ItemValue::Array(list), .. })) => list.iter().collect(),
        (Some(_), Some(topics)) => {
            files.report("E0011", &topics.place, "`topic` and `topics` exclude one another", None);
            Vec::new()
        }
        (None, Some(_)) => Vec::new(),
        (None, None) => {
            files.report("E0004", definition.place, "a kafka source needs `topic` or `topics`", None);
            Vec::new()
        }
    };
    let is_empty = |item: &Item| matches!(&item.value, ItemValue::Array(list) if list.is_empty());
    if definition.get("topics").is_some_and(is_empty) || items.len() > TOPICS_MAX {
        let message = format!("a source reads 1 to {TOPICS_MAX} topics");
        files.report("E0017", definition.key_place("topics"), message, None);
    }
    let mut topics: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = topic(files, item) else { continue };
        if topics.contains(&name) {
            files.report("E0012", &item.place, format!("topic `{name}` twice"), None);
            continue;
        }
        topics.push(name);
    }
    topics
}

/// A name that a broker would take.
pub(super) fn topic(files: &Files<'_>, item: &Item) -> Option<String> {
    let name = item.text()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_topic = !name.is_empty() && name.len() <= TOPIC_NAME_MAX && name.bytes().all(plain);
    if !is_topic || name == "." || name == ".." {
        let message =
            format!("`{}` is not a topic: 1 to {TOPIC_NAME_MAX} letters, digits, `.`, `_` and `-`", shortened(name));
        files.report("E0005", &item.place, message, None);
        return None;
    }
    Some(name.to_string())
}

fn parse(text: &str) -> Option<Metadata> {
    Some(match text {
        "key" => Metadata::Key,
        "topic" => Metadata::Topic,
        "partition" => Metadata::Partition,
        "offset" => Metadata::Offset,
        "timestamp" => Metadata::Timestamp,
        "tombstone" => Metadata::Tombstone,
        _ => Metadata::Header(text.strip_prefix("header.").filter(|name| !name.is_empty())?.to_string()),
    })
}

fn check_type(files: &Files<'_>, item: &Item, bound: &Metadata, (name, field): &(String, FieldType)) {
    let data_type = &field.data_type;
    let (fits, expected) = match bound {
        Metadata::Key | Metadata::Header(_) => (
            !matches!(data_type, DataType::List(_) | DataType::Vector(_)),
            "a type that a text can be read as, or bytes",
        ),
        Metadata::Topic => (*data_type == DataType::Text, "string"),
        Metadata::Partition | Metadata::Offset => (*data_type == DataType::Int64, "int64"),
        Metadata::Timestamp => (*data_type == DataType::Timestamp, "timestamp"),
        Metadata::Tombstone => (*data_type == DataType::Bool, "bool"),
    };
    if !fits {
        let what = item.text().unwrap_or_default();
        files.report("E0015", &item.place, format!("`{what}` is {expected}, but `{name}` is {data_type}"), None);
    }
}
