//! Sources whose messages are read by a schema file: a column of every type, and beside them what nobody asks for.

use std::sync::Arc;

use tidemill::source::{Decoder, MessageReader};
use tidemill_features::definitions::{DefinitionFile, check};

use crate::definitions::FIELDS;
use crate::memory_folder;
use crate::rows::NOW;

/// Avro: unions, logical types, lists, a map, and records that hold themselves.
pub const AVRO: (&str, &str) = (
    "avro",
    r#"{"type": "record", "name": "Event", "fields": [
    {"name": "id", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "key", "type": ["null", "string"]},
    {"name": "other_key", "type": ["long", "null", "string"]},
    {"name": "amount", "type": ["double", "float", "int"]},
    {"name": "country", "type": {"type": "enum", "name": "Country", "symbols": ["DE", "FR", "AT"]}},
    {"name": "foreign", "type": ["null", "boolean"]},
    {"name": "fraud", "type": "int"},
    {"name": "self", "type": ["null", "Event"]},
    {"name": "counts", "type": {"type": "map", "values": {"type": "array", "items": "null"}}},
    {"name": "seen", "aliases": ["often"], "type": "long"},
    {"name": "taste", "type": {"type": "array", "items": "float"}},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}},
    {"name": "huge", "type": ["null", {"type": "fixed", "name": "Huge", "size": 18, "logicalType": "decimal", "precision": 38}]},
    {"name": "blob", "type": ["bytes", {"type": "fixed", "name": "Three", "size": 3}]},
    {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}},
    {"name": "singles", "type": ["null", {"type": "array", "items": ["double", "long"]}]},
    {"name": "at_s", "type": ["null", {"type": "int", "logicalType": "date"}, "long"]},
    {"name": "at_ms", "type": ["null", "long"]},
    {"name": "at_us", "type": ["null", {"type": "long", "logicalType": "timestamp-nanos"}]}]}"#,
);

/// Protobuf: a oneof, wrappers, lists in both forms, groups by their bytes, and messages that hold themselves.
pub const PROTOBUF: (&str, &str) = (
    "protobuf",
    "syntax = \"proto3\";\nimport \"google/protobuf/timestamp.proto\";\nimport \"google/protobuf/wrappers.proto\";\n\
    enum Country { DE = 0; FR = 1; AT = 5; }\nmessage Event {\n  string id = 1;\n  google.protobuf.Timestamp at = 2;\n  \
    optional string key = 3;\n  sint64 other_key = 4;\n  double amount = 5;\n  Country country = 6;\n  \
    google.protobuf.BoolValue foreign = 7;\n  Event self = 8;\n  map<string, Event> events = 9;\n  \
    oneof choice { fixed64 fraud = 10; uint32 seen = 11; string other = 12; google.protobuf.Timestamp at_us = 13; }\n  \
    repeated float taste = 14;\n  string price = 15;\n  string huge = 16;\n  bytes blob = 17;\n  repeated string tags = 18;\n  \
    repeated double singles = 300;\n  optional sfixed64 at_s = 19;\n  optional int64 at_ms = 20;\n  optional int64 at_ns = 21;\n}\n",
);

/// A reader of messages by a schema, and decoders for what it reads.
pub struct Messages {
    reader: MessageReader,
    new_decoder: Box<dyn Fn() -> Decoder + Send + Sync>,
}

impl Messages {
    /// For one of the schemas.
    pub fn new((format, schema): (&str, &str)) -> Messages {
        let folder = tempfile::tempdir_in(memory_folder()).expect("a temporary folder");
        let ending = if format == "avro" { "avsc" } else { "proto" };
        std::fs::write(folder.path().join(format!("event.{ending}")), schema).expect("a file takes some bytes");
        // What the schema does not have the record has.
        let given: Vec<&str> = ["at_ns", "at_us"].into_iter().filter(|name| !schema.contains(name)).collect();
        let bound: Vec<String> = given.iter().map(|name| format!("{name} = \"timestamp\"")).collect();
        let text = format!(
            "[source.s]\nconnector = \"kafka\"\ntopic = \"t\"\nformat = \"{format}\"\nschema_file = \"event.{ending}\"\n\
             event_time = \"at\"\nevent_id = \"id\"\nmetadata = {{ {} }}\nfields = {FIELDS}\n",
            bound.join(", ")
        );
        let checked = check(&[DefinitionFile { path: "fuzz.toml".into(), text }]);
        let source = checked.unwrap_or_else(|problems| panic!("{}", problems[0])).sources[0].clone();
        let reader = MessageReader::open(source.clone(), folder.path(), None).unwrap_or_else(|error| panic!("{error}"));
        let keys = Arc::new(vec![vec![1], vec![1, 2]]);
        let new_decoder = Box::new(move || Decoder::new(source.clone(), keys.clone(), NOW));
        Messages { reader, new_decoder }
    }

    /// Reads a message, and again: what one leaves behind must not matter to the next.
    pub fn read(&self, message: &[u8]) -> tidemill::source::Decoded {
        let mut decoder = (self.new_decoder)();
        for _ in 0..2 {
            self.reader.read(message, &[], &mut decoder).expect("a file has the schema");
        }
        decoder.finish()
    }
}
