//! Messages of a topic: how many events a CPU-second are decoded into batches, of JSON, Avro and Protobuf? Kafka is not part of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use tidemill::source::{Decoder, MessageReader};
use tidemill_features::definitions::{DefinitionFile, check};

use crate::backfill::timed;
use crate::row;

const EVENTS: usize = 400_000;
/// What a feed decodes at once.
const CHUNK: usize = 8 * 1024;
/// 2026-01-01T00:00:00Z
const NOW: i64 = 1_767_225_600_000;

const AVRO: &str = r#"{"type": "record", "name": "Txn", "fields": [
    {"name": "txn_id", "type": "string"}, {"name": "card_id", "type": "string"}, {"name": "merchant_id", "type": "string"},
    {"name": "amount", "type": "double"}, {"name": "country", "type": ["null", "string"]},
    {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["declined", "approved"]}},
    {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
const PROTOBUF: &str = "syntax = \"proto3\";\nenum Status { declined = 0; approved = 1; }\nmessage Txn { string txn_id = 1; \
    string card_id = 2; string merchant_id = 3; double amount = 4; optional string country = 5; Status status = 6; \
    int64 created_at = 7; }\n";

/// An event of seven columns.
pub struct Txn {
    id: String,
    /// the key
    pub card: String,
    merchant: String,
    amount: f64,
    country: &'static str,
    is_approved: bool,
    created_at: i64,
}

impl Txn {
    /// The event of a number.
    pub fn new(number: usize) -> Txn {
        let random = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        Txn {
            id: format!("txn-{number:09}"),
            card: format!("card-{}", random % 100_000),
            merchant: format!("merchant-{}", random % 3_000),
            amount: (random % 100_000) as f64 / 100.0,
            country: ["DE", "FR", "AT", "NL"][(random % 4) as usize],
            is_approved: !random.is_multiple_of(7),
            created_at: NOW - (random % 3_600_000) as i64,
        }
    }

    fn status(&self) -> &'static str {
        if self.is_approved { "approved" } else { "declined" }
    }

    fn json(&self) -> Vec<u8> {
        serde_json::json!({
            "txn_id": self.id, "card_id": self.card, "merchant_id": self.merchant, "amount": self.amount,
            "country": self.country, "status": self.status(), "created_at": self.created_at,
        })
        .to_string()
        .into_bytes()
    }

    fn avro(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let text = |text: &str, bytes: &mut Vec<u8>| {
            varint(2 * text.len() as u64, bytes);
            bytes.extend_from_slice(text.as_bytes());
        };
        [&self.id, &self.card, &self.merchant].into_iter().for_each(|own| text(own, &mut bytes));
        bytes.extend(self.amount.to_le_bytes());
        // The second branch of the union, then the text.
        bytes.push(2);
        text(self.country, &mut bytes);
        bytes.push(2 * u8::from(self.is_approved));
        varint(2 * self.created_at as u64, &mut bytes);
        bytes
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let text = |number: u8, text: &str, bytes: &mut Vec<u8>| {
            bytes.push(number << 3 | 2);
            varint(text.len() as u64, bytes);
            bytes.extend_from_slice(text.as_bytes());
        };
        text(1, &self.id, &mut bytes);
        text(2, &self.card, &mut bytes);
        text(3, &self.merchant, &mut bytes);
        bytes.push(4 << 3 | 1);
        bytes.extend(self.amount.to_le_bytes());
        text(5, self.country, &mut bytes);
        bytes.extend([6 << 3, u8::from(self.is_approved), 7 << 3]);
        varint(self.created_at as u64, &mut bytes);
        bytes
    }
}

fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A way to write events.
pub struct Format {
    /// its name
    pub name: &'static str,
    /// what a source says of it
    keys: &'static str,
    /// an event
    pub encode: fn(&Txn) -> Vec<u8>,
    /// what is asked of it
    pub bar: &'static str,
}

/// The formats that topics have.
pub const FORMATS: [Format; 3] = [
    Format { name: "JSON", keys: "format = 'json'", encode: Txn::json, bar: "at least 200 k" },
    Format {
        name: "Avro",
        keys: "format = 'avro'\nschema_file = 'txn.avsc'",
        encode: Txn::avro,
        bar: "at least 300 k",
    },
    Format {
        name: "Protobuf",
        keys: "format = 'protobuf'\nschema_file = 'txn.proto'",
        encode: Txn::protobuf,
        bar: "at least 300 k",
    },
];

impl Format {
    /// A source that reads a topic of it.
    pub fn source(&self, topic: &str) -> String {
        format!(
            "[source.s]\nconnector = 'kafka'\ntopic = '{topic}'\nevent_time = 'created_at'\n{}\n[source.s.fields]\ntxn_id = 'string'\n\
             card_id = 'string'\nmerchant_id = 'string'\namount = 'float64'\ncountry = 'string'\nstatus = 'string'\n\
             created_at = 'timestamp[ms]'\n",
            self.keys
        )
    }
}

/// Puts the schemas into a project.
pub fn write_schemas(project: &Path) -> Result<()> {
    std::fs::write(project.join("txn.avsc"), AVRO)?;
    Ok(std::fs::write(project.join("txn.proto"), PROTOBUF)?)
}

/// The table.
pub fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_schemas(folder.path())?;
    let events: Vec<Txn> = (0..EVENTS).map(Txn::new).collect();
    for format in FORMATS {
        let Format { name, encode, bar, .. } = format;
        let messages: Vec<Vec<u8>> = events.iter().map(encode).collect();
        let bytes = messages.iter().map(Vec::len).sum::<usize>() / EVENTS;
        let speed = speed(folder.path(), &format, &messages)?;
        let question = format!("decoding {name} messages of 7 columns, {bytes} bytes, into batches");
        row(&question, &format!("{:.2} M events per CPU-second", speed / 1e6), bar);
    }
    Ok(())
}

fn speed(project: &Path, format: &Format, messages: &[Vec<u8>]) -> Result<f64> {
    let text = format.source("t");
    let checked = check(&[DefinitionFile { path: "bench.toml".into(), text }]);
    let source = checked.map_err(|problems| anyhow!("{}", problems[0]))?.sources[0].clone();
    let reader = MessageReader::open(source.clone(), project, None)?;
    let mut accepted = 0;
    let mut decode = || {
        for chunk in messages.chunks(CHUNK) {
            let mut decoder = Decoder::new(source.clone(), Arc::default(), NOW * 1_000);
            for message in chunk {
                // A file has the schema: no message has to wait for it.
                let _ = reader.read(message, &[], &mut decoder);
            }
            accepted += decoder.finish().accepted();
        }
        Ok(())
    };
    decode()?;
    let (_, cpu) = timed(&mut decode)?;
    anyhow::ensure!(accepted == 2 * messages.len() as u64, "{accepted} of {} messages are read", messages.len());
    Ok(messages.len() as f64 / cpu)
}
