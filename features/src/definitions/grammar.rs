//! The keys of definition files, as data: what may stand where. The check and the JSON Schema both come from these tables.

use super::check::shortened;
use super::document::{Files, Item, ItemValue, Key, Place};
use crate::problem::nearest;
use crate::time::{parse_duration, parse_rfc3339};

/// What a key's value must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Bool,
    /// from, to
    Int(i64, i64),
    Duration,
    /// an RFC 3339 time
    Time,
    /// a SQL scalar expression
    Expression,
    /// one of these texts
    Choice(&'static [&'static str]),
    /// a text, number or bool
    Scalar,
    Texts,
    Durations,
    /// names to the kind of their values
    Map(&'static Kind),
    Table(&'static [Field]),
}

/// A key, whether it must be there, what its value is, what it means.
pub(super) struct Field {
    pub name: &'static str,
    pub required: bool,
    pub kind: Kind,
    pub says: &'static str,
}

const fn may(name: &'static str, kind: Kind, says: &'static str) -> Field {
    Field { name, required: false, kind, says }
}

const fn must(name: &'static str, kind: Kind, says: &'static str) -> Field {
    Field { name, required: true, kind, says }
}

/// The kinds of definitions: `[source.NAME]` and so on.
pub(super) const SECTIONS: [(&str, &[Field]); 6] = [
    ("source", SOURCE),
    ("entity", ENTITY),
    ("view", VIEW),
    ("embedding", EMBEDDING),
    ("service", SERVICE),
    ("sink", SINK),
];

const METADATA_SAYS: &str =
    "columns that a Kafka record says of itself: key, topic, partition, offset, timestamp, tombstone or header.NAME";

const SOURCE: &[Field] = &[
    must("connector", Kind::Choice(&["kafka", "push", "file"]), "where events come from"),
    must("event_time", Kind::Text, "the column that says when an event happened"),
    must("fields", Kind::Map(&Kind::Text), "columns and their types"),
    may("kind", Kind::Choice(&["stream", "table"]), "a stream of events, or rows of which the newest per key counts"),
    may("topic", Kind::Text, "Kafka topic"),
    may("topics", Kind::Texts, "several Kafka topics"),
    may("metadata", Kind::Map(&Kind::Text), METADATA_SAYS),
    may("dead_letter_topic", Kind::Text, "a Kafka topic that bad events are sent to besides"),
    may("format", Kind::Choice(&["json", "avro", "protobuf", "ndjson", "csv", "parquet"]), "how events are encoded"),
    may(
        "schema_file",
        Kind::Text,
        "the Avro schema, .proto file or descriptor set of the messages; else the schema registry",
    ),
    may("message", Kind::Text, "the Protobuf message that the topic holds, such as shop.Txn"),
    may("path", Kind::Text, "files to read, a glob"),
    may("follow", Kind::Bool, "whether to wait for more at the end of the files"),
    may("event_id", Kind::Text, "the column that identifies an event: duplicates count once"),
    may("dedup", Kind::Choice(&["partition", "global"]), "where duplicates are looked for"),
    may("dedup_horizon", Kind::Duration, "how long after an event its duplicates are dropped; 1h"),
    may("arrival_time", Kind::Text, "the column that says when an event became known"),
    may("assumed_delay", Kind::Duration, "how long after it happened an event became known; 0s"),
    may("max_future_skew", Kind::Duration, "how far ahead of its arrival an event may be dated; 5m"),
    may("max_lag", Kind::Duration, "beyond this, answers are flagged stale"),
    may("history", Kind::Text, "the same events at rest, a glob of parquet, csv and ndjson files: loaded once"),
    may("history_until", Kind::Time, "events before this are the history's, the others the stream's"),
    may("delete_when", Kind::Expression, "rows of a table that delete their key"),
];

const ENTITY: &[Field] = &[
    may("key", Kind::Text, "the column that names one instance"),
    may("keys", Kind::Texts, "the columns of a composite key"),
    may("description", Kind::Text, "for people"),
];

const VIEW: &[Field] = &[
    must("entity", Kind::Text, "what the features describe"),
    may("source", Kind::Text, "the events that they are computed from"),
    may("where", Kind::Expression, "which events count"),
    may("select", Kind::Map(&Kind::Expression), "columns derived from each event"),
    may("features", Kind::Map(&Kind::Table(FEATURE)), "aggregates over windows"),
    may("derived", Kind::Map(&Kind::Expression), "computed at read from features"),
    may("request", Kind::Map(&Kind::Text), "values that only the request knows, and their types"),
    may("join", Kind::Map(&Kind::Table(JOIN)), "table rows that each event sees"),
    may("approximate_parity", Kind::Bool, "allows sketches whose online and offline values may differ"),
    may("description", Kind::Text, "for people"),
];

pub(super) const FEATURE: &[Field] = &[
    must("agg", Kind::Text, "the aggregate: sum(amount)"),
    may("windows", Kind::Durations, "one feature for each, named NAME_WINDOW"),
    may("window", Kind::Text, "lifetime, tumbling(1h), session(30m), calendar(day, 'Zone'), or one duration"),
    may("ttl", Kind::Duration, "only events younger than this"),
    may("last_n", Kind::Int(1, 10_000), "only the newest n events"),
    may("hop", Kind::Duration, "moves the left edge in steps"),
    may("offset", Kind::Duration, "the window as seen this long ago"),
    may("where", Kind::Expression, "which events of the view count"),
    may("default", Kind::Scalar, "the value where no event counts"),
    may("distinct", Kind::Bool, "equal values count once, in first_k and last_k"),
    may("include_request", Kind::Bool, "the request counts as one more event"),
];

const JOIN: &[Field] = &[
    must("source", Kind::Text, "a source of kind table"),
    must("on", Kind::Text, "the column that holds the table's key"),
];

const EMBEDDING: &[Field] = &[
    must("entity", Kind::Text, "what the vectors describe"),
    may("source", Kind::Text, "where they come from: rows, of which the newest counts"),
    may("view", Kind::Text, "or the view that has them as a feature"),
    must(
        "vector",
        Kind::Text,
        "the column, or feature, that holds them: vector<N>, list<float32>, string (a JSON array) or bytes (float32)",
    ),
    must("dims", Kind::Int(1, 8_192), "length of a vector"),
    may("metric", Kind::Choice(&["cosine", "dot", "l2"]), "how near is measured"),
    may("attributes", Kind::Map(&Kind::Text), "columns to filter on, and their types"),
    may("index", Kind::Table(INDEX), "how the graph is built"),
    may("description", Kind::Text, "for people"),
];

const INDEX: &[Field] = &[
    may("m", Kind::Int(2, 128), "neighbours of a node"),
    may("ef_construction", Kind::Int(2, 4_096), "candidates while building"),
    may(
        "ef_search",
        Kind::Int(1, 20_000),
        "candidates while searching; unsaid, as many as find 99 % of the neighbours, at most 1024",
    ),
    may("exact_below", Kind::Int(0, 100_000_000), "smaller collections are scanned"),
    may("rows", Kind::Choice(&["memory", "disk"]), "where the vectors of a graph lie, beside their codes"),
];

const SERVICE: &[Field] = &[
    must("features", Kind::Texts, "what one model reads, in this order"),
    may("owner", Kind::Text, "whom to ask"),
    may("description", Kind::Text, "for people"),
];

const SINK: &[Field] = &[
    must("connector", Kind::Choice(&["kafka"]), "where values go as they change"),
    must("topic", Kind::Text, "a Kafka topic, which should be compacted"),
    may("service", Kind::Text, "the service whose values are published"),
    may("view", Kind::Text, "the view whose values are published, where it is no service"),
    may("every", Kind::Duration, "changes of an entity within this are one message; 100ms"),
    may("description", Kind::Text, "for people"),
];

impl Kind {
    fn expected(self) -> String {
        match self {
            Kind::Text => "a text".into(),
            Kind::Bool => "true or false".into(),
            Kind::Int(from, to) => format!("an integer from {from} to {to}"),
            Kind::Duration => "a duration such as \"10m\"".into(),
            Kind::Time => "a time such as \"2026-01-01T00:00:00Z\", as text".into(),
            Kind::Expression => "an expression, as text".into(),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::Scalar => "a text, a number or a bool".into(),
            Kind::Texts => "a list of texts".into(),
            Kind::Durations => "a list of durations such as [\"10m\", \"1h\"]".into(),
            Kind::Map(_) | Kind::Table(_) => "a table".into(),
        }
    }

    /// Reports whatever in `item` is not of this kind.
    pub(super) fn check(self, files: &Files<'_>, key: &Key, item: &Item) {
        match (self, &item.value) {
            (Kind::Text | Kind::Expression, ItemValue::Text(_)) | (Kind::Bool, ItemValue::Bool(_)) => {}
            (Kind::Scalar, ItemValue::Text(_) | ItemValue::Int(_) | ItemValue::Float(_) | ItemValue::Bool(_)) => {}
            (Kind::Int(from, to), ItemValue::Int(v)) if (from..=to).contains(v) => {}
            (Kind::Choice(names), ItemValue::Text(text)) => {
                if !names.contains(&text.as_str()) {
                    let near = nearest(text, names.iter().copied());
                    files.report(
                        "E0003",
                        &item.place,
                        format!("`{}` is {}, not `{text}`", key.name, self.expected()),
                        near,
                    );
                }
            }
            (Kind::Duration, ItemValue::Text(text)) => check_duration(files, item, text),
            (Kind::Time, ItemValue::Text(text)) if parse_rfc3339(text).is_some() => {}
            (Kind::Texts | Kind::Durations, ItemValue::Array(list)) => {
                let element = if matches!(self, Kind::Texts) { Kind::Text } else { Kind::Duration };
                list.iter().for_each(|item| element.check(files, key, item));
            }
            (Kind::Map(kind), ItemValue::Table(entries)) => {
                entries.iter().for_each(|(key, item)| kind.check(files, key, item));
            }
            (Kind::Table(fields), ItemValue::Table(entries)) => {
                check_table(files, fields, &key.place, &key.name, entries)
            }
            _ => {
                let given = match &item.value {
                    ItemValue::Int(v) => v.to_string(),
                    ItemValue::Text(text) if matches!(self, Kind::Time) => format!("`{}`", shortened(text)),
                    _ => item.kind().to_string(),
                };
                let message = format!("`{}` is {}, not {given}", key.name, self.expected());
                files.report("E0003", &item.place, message, None);
            }
        }
    }
}

fn check_duration(files: &Files<'_>, item: &Item, text: &str) {
    if let Err(message) = parse_duration(text) {
        files.report("E0009", &item.place, message, None);
    }
}

/// Reports unknown and missing keys of a table, and values of the wrong kind.
pub(super) fn check_table(files: &Files<'_>, fields: &[Field], place: &Place, name: &str, entries: &[(Key, Item)]) {
    for (key, item) in entries.iter().take_while(|_| !files.is_full()) {
        match fields.iter().find(|field| field.name == key.name) {
            Some(field) => field.kind.check(files, key, item),
            None => {
                let near = nearest(&key.name, fields.iter().map(|field| field.name));
                let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                let message = format!("unknown key `{}` in `{name}`; known are {}", key.name, known.join(", "));
                files.report("E0002", &key.place, message, near);
            }
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if !entries.iter().any(|(key, _)| key.name == field.name) {
            files.report("E0004", place, format!("`{name}` needs `{}`: {}", field.name, field.says), None);
        }
    }
}
