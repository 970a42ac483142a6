//! The door that messages come in by, with a real registry behind it.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tidemill::settings::RegistrySettings;
use tidemill::source::{Decoded, Decoder, MessageReader, SchemaRegistry};
use tidemill_features::definitions::{DefinitionFile, Source, check};
use tidemill_tests::services::Registry;

use super::written::{field, long, registered, text, varint};

fn source(keys: &str, columns: &str) -> Arc<Source> {
    let text = format!(
        "[source.s]\nconnector = 'kafka'\ntopic = 't'\nevent_time = 'at'\n{keys}\n[source.s.fields]\n{columns}\nat = 'timestamp[ms]'\n"
    );
    let checked = check(&[DefinitionFile { path: "a.toml".into(), text }]);
    checked.unwrap_or_else(|problems| panic!("{}", problems[0])).sources[0].clone()
}

struct Door {
    source: Arc<Source>,
    reader: MessageReader,
    now: i64,
    /// how often a schema was asked for
    learned: usize,
}

impl Door {
    fn new(registry: &Registry, source: Arc<Source>) -> Door {
        let settings = RegistrySettings { urls: vec![registry.url()], ..RegistrySettings::default() };
        let registry = SchemaRegistry::open(settings).unwrap();
        let reader = MessageReader::open(source.clone(), Path::new("."), Some(registry)).unwrap();
        Door { source, reader, now: 1_800_000_000_000_000, learned: 0 }
    }

    /// Reads messages in order, as a feed does; Err: the registry is away.
    async fn read(&mut self, messages: &[Vec<u8>]) -> Result<Decoded, String> {
        let mut decoder = Decoder::new(self.source.clone(), Arc::default(), self.now);
        for message in messages {
            while let Err(needed) = self.reader.read(message, &[], &mut decoder) {
                self.learned += 1;
                self.reader.learn(&needed, self.now).await.map_err(|away| away.to_string())?;
            }
        }
        Ok(decoder.finish())
    }
}

/// Each row as text, then each bad event.
fn shown(decoded: &Decoded) -> Vec<String> {
    let row = |batch: &tidemill_features::stream::EventBatch, row: usize| {
        batch
            .columns
            .iter()
            .map(|column| format!("{:?} ", column.value(row)))
            .collect::<String>()
            .trim_end()
            .to_string()
    };
    let rows = decoded.batches.iter().flat_map(|batch| (0..batch.len()).map(move |at| row(batch, at)));
    rows.chain(decoded.bad.iter().map(|bad| format!("{} {}", bad.code, bad.reason))).collect()
}

#[tokio::test]
async fn avro_of_every_version_is_read_and_a_registry_may_go() {
    let registry = Registry::start();
    let currency = r#"{"type": "enum", "name": "Currency", "namespace": "money", "symbols": ["EUR", "USD"]}"#;
    registry.register("money", currency, "AVRO");
    let of =
        |fields: &str| format!(r#"{{"type": "record", "name": "Txn", "namespace": "shop", "fields": [{fields}]}}"#);
    let at = r#"{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}"#;
    let first = of(&format!(r#"{{"name": "id", "type": "string"}}, {{"name": "amount", "type": "int"}}, {at}"#));
    let second = of(&format!(
        r#"{at}, {{"name": "currency", "type": "money.Currency"}}, {{"name": "amount", "type": "double"}},
           {{"name": "id", "type": ["null", "string"]}}"#
    ));
    let one = registry.register("txn", &first, "AVRO");
    registry.set_compatibility("txn", "NONE");
    let references = json!([{"name": "money.Currency", "subject": "money", "version": 1}]);
    let two = registry.register_with("txn", &second, "AVRO", &references);
    let three = registry.register("other", &of(r#"{"name": "id", "type": "string", "doc": "no time"}"#), "AVRO");

    let source = source("format = 'avro'", "id = 'string'\namount = 'float64'\ncurrency = 'string'");
    let mut door = Door::new(&registry, source);
    let old = |id: &str| registered(one, &[text(id), long(3), long(1_000)].concat());
    let new = registered(two, &[long(2_000), long(1), 2.5f64.to_le_bytes().to_vec(), long(1), text("b")].concat());
    let decoded = door.read(&[old("a"), new.clone(), old("c")]).await.unwrap();
    assert_eq!(
        shown(&decoded),
        [
            "Text(\"a\") Float64(3.0) Null Timestamp(1000000)",
            "Text(\"b\") Float64(2.5) Text(\"USD\") Timestamp(2000000)",
            "Text(\"c\") Float64(3.0) Null Timestamp(1000000)",
        ]
    );
    assert_eq!(door.learned, 2);
    let unknown = registered(4_000_000, b"x");
    let odd =
        door.read(&[unknown.clone(), b"{}".to_vec(), registered(three, &text("x")), unknown.clone()]).await.unwrap();
    let told = shown(&odd);
    for (at, expected) in [
        (0, "E1070 the schema registry does not know schema 4000000 (http://"),
        (1, "E1001 not a message of a schema registry: it begins with the byte 0x7b"),
        (2, "E1003 event_time `at` is null or missing"),
        (3, "E1070"),
    ] {
        assert!(told[at].starts_with(expected), "{expected}: {told:?}");
    }
    assert_eq!(door.learned, 4, "an unknown schema is asked for once in a while");

    registry.kill();
    assert_eq!(door.read(&[old("d"), new]).await.unwrap().accepted(), 2, "what is known stays");
    door.now += 11_000_000;
    let away = door.read(&[old("e"), unknown]).await.unwrap_err();
    assert!(away.contains("does not give schema 4000000, tried 4 times") && away.contains(&registry.url()), "{away}");
}

#[tokio::test]
async fn protobuf_messages_are_found_by_their_place() {
    let registry = Registry::start();
    let money = "syntax = \"proto3\";\npackage shop;\nmessage Money { int64 cents = 1; }\n";
    registry.register("money", money, "PROTOBUF");
    let schema = "syntax = \"proto3\";\npackage shop;\nimport \"money.proto\";\nimport \"google/protobuf/timestamp.proto\";\n\
        message Outer {\n  map<string, int32> labels = 1;\n  message Txn {\n    string id = 1;\n    Money paid = 2;\n    \
        google.protobuf.Timestamp at = 3;\n  }\n}\nmessage Other {\n  int32 n = 1;\n}\n";
    let references = json!([{"name": "money.proto", "subject": "money", "version": 1}]);
    let id = registry.register_with("txn", schema, "PROTOBUF", &references);
    let source = source("format = 'protobuf'\nmessage = 'shop.Outer.Txn'", "id = 'string'\n'paid.cents' = 'int64'");
    let mut door = Door::new(&registry, source);
    let payload = [field(1, b"a"), field(2, &[vec![8], varint(250)].concat()), field(3, &[8, 9])].concat();
    // Two indexes: the first message, and in it the first that was declared.
    let nested = registered(id, &[&[4, 0, 0][..], &payload].concat());
    let other = registered(id, &[&[2, 2][..], &[8, 1]].concat());
    let nowhere = registered(id, &[&[2, 8][..], &[8, 1]].concat());
    let decoded = door.read(&[nested.clone(), other, nowhere, nested]).await.unwrap();
    let told = shown(&decoded);
    assert_eq!(told[..2], ["Text(\"a\") Int64(250) Timestamp(9000000)"; 2]);
    assert!(told[2].contains("E1071") && told[2].contains("the message is a shop.Other"), "{told:?}");
    assert!(told[3].contains("it has no message at the place [4]"), "{told:?}");
}
