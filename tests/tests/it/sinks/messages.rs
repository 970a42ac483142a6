//! Messages as other programs read them, and their values as the engine's, by their types.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tidemill_features::read::{Answer, Status};
use tidemill_features::time::parse_rfc3339;
use tidemill_features::value::{DataType, Value};
use tidemill_tests::services::Kafka;
use tidemill_tests::services::kafka::Isolation;

/// A message of a sink.
#[derive(Clone, Debug)]
pub struct Sent {
    pub key: Json,
    /// none: the entity is gone
    pub value: Option<Json>,
}

/// All messages of a topic; those of a key in their order, and in one partition.
pub fn all(kafka: &Kafka, topic: &str) -> Vec<Sent> {
    let mut partitions: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    let mut sent = Vec::new();
    for record in kafka.read_all(topic, Isolation::Committed) {
        let key = record.key.expect("a message has a key");
        let partition = *partitions.entry(key.clone()).or_insert(record.partition);
        assert_eq!(partition, record.partition, "{}", String::from_utf8_lossy(&key));
        let json = |bytes: &[u8]| serde_json::from_slice(bytes).expect("a message is JSON");
        sent.push(Sent { key: json(&key), value: record.payload.as_deref().map(json) });
    }
    sent
}

/// The newest message of each key: what compaction leaves. Times of a key's messages never go back.
pub fn newest(sent: &[Sent]) -> BTreeMap<String, Sent> {
    let mut newest: BTreeMap<String, Sent> = BTreeMap::new();
    for message in sent {
        let before = newest.insert(message.key.to_string(), message.clone());
        if let Some((before, now)) = before.and_then(|before| before.time()).zip(message.time()) {
            assert!(before <= now, "{} as of {now} after {before}", message.key);
        }
    }
    newest
}

impl Sent {
    /// T of its values.
    pub fn time(&self) -> Option<i64> {
        parse_rfc3339(self.value.as_ref()?["as_of"].as_str().expect("a text"))
    }

    /// Whether it has seen an event.
    pub fn has_seen(&self, source: &str, partition: u32, offset: u64) -> bool {
        let value = self.value.as_ref().expect("it has positions");
        value["positions"][source][partition.to_string()].as_u64().is_some_and(|next| offset < next)
    }

    /// One of its values.
    pub fn answer(&self, name: &str, data_type: &DataType) -> Answer {
        let value = self.value.as_ref().expect("it has values");
        let status = match value["statuses"][name].as_str() {
            None => Status::Present,
            Some("DEFAULTED") => Status::Defaulted,
            Some("EMPTY") => Status::Empty,
            Some("NOT_FOUND") => Status::NotFound,
            Some("ERROR") => Status::Error,
            Some(other) => panic!("{other} is no status"),
        };
        let newest = value["newest"][name].as_str().map(|time| parse_rfc3339(time).expect("a time"));
        Answer { value: read(&value["values"][name], data_type), status, newest, capped: false }
    }
}

/// A value from its JSON.
fn read(json: &Json, data_type: &DataType) -> Value<'static> {
    if json.is_null() {
        return Value::Null;
    }
    let text = || json.as_str().unwrap_or_else(|| panic!("{json} is no text")).to_string();
    match data_type {
        DataType::Bool => Value::Bool(json.as_bool().expect("a bool")),
        DataType::Int64 => Value::Int64(json.as_i64().expect("an integer")),
        DataType::Float64 => Value::Float64(match json.as_str() {
            Some("Infinity") => f64::INFINITY,
            Some("-Infinity") => f64::NEG_INFINITY,
            _ => json.as_f64().expect("a number"),
        }),
        DataType::Text => Value::Text(text().into()),
        DataType::Timestamp => Value::Timestamp(parse_rfc3339(&text()).expect("a time")),
        DataType::Decimal { .. } => Value::Decimal(text().replace('.', "").parse().expect("digits")),
        DataType::List(of) => Value::List(items(json).map(|item| read(item, of)).collect()),
        DataType::Vector(_) => Value::List(items(json).map(|item| read(item, &DataType::Float64)).collect()),
        DataType::Map(keys, values) => {
            let entry = |(key, value): (&String, &Json)| {
                let key = match &**keys {
                    DataType::Text => Json::from(key.as_str()),
                    _ => serde_json::from_str(key).expect("a number"),
                };
                (read(&key, keys), read(value, values))
            };
            Value::Map(json.as_object().expect("a map").iter().map(entry).collect())
        }
        other => panic!("no feature of these tests is {other}"),
    }
}

fn items(json: &Json) -> impl Iterator<Item = &Json> {
    json.as_array().expect("a list").iter()
}
