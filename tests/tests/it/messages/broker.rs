//! From a real broker and a real registry into features: the same values as the same events pushed as JSON.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill_client::{Client, v1};
use tidemill_tests::server::{self, Server};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Message, Registry};

use super::written::{field, long, registered, text, varint};

const DEFINITIONS: &str = r#"
[source.tx]
CONNECTOR
event_time = "at"
event_id = "id"
[source.tx.fields]
id = "string"
card = "string"
amount = "float64"
at = "timestamp[ms]"
[entity.card]
key = "card"
[view.v]
entity = "card"
source = "tx"
[view.v.features]
n = { agg = "count()", windows = ["1h", "3650d"] }
total = { agg = "sum(amount)", window = "lifetime" }
few = { agg = "last_k(id, 3)", window = "lifetime" }
[service.s]
features = ["v:*"]
"#;

const CARDS: u64 = 20;
const AVRO: [&str; 2] = [
    r#"{"type": "record", "name": "Txn", "fields": [{"name": "id", "type": "string"}, {"name": "card", "type": ["null", "string"]},
        {"name": "amount", "type": "double"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#,
    r#"{"type": "record", "name": "Txn", "fields": [{"name": "at", "type": "long"}, {"name": "note", "type": "string", "default": ""},
        {"name": "card", "type": "string"}, {"name": "id", "type": "string"}, {"name": "amount", "type": "double"}]}"#,
];
const PROTOBUF: &str = "syntax = \"proto3\";\npackage shop;\nmessage Txn {\n  string id = 1;\n  string card = 2;\n  \
    double amount = 3;\n  int64 at = 4;\n}\n";

struct Event {
    id: String,
    card: String,
    amount: f64,
    at: i64,
}

impl Event {
    fn new(number: u64) -> Event {
        Event {
            id: format!("e{number}"),
            card: format!("c{}", number * 7 % CARDS),
            amount: (number * 37 % 1_000) as f64 / 10.0 - 5.0,
            at: 1_700_000_000_000 + (number * 7_919 % 5_000_000) as i64,
        }
    }

    fn json(&self) -> String {
        json!({"id": self.id, "card": self.card, "amount": self.amount, "at": self.at}).to_string()
    }

    /// By one of two versions of the schema.
    fn avro(&self, ids: [u32; 2], version: usize) -> Vec<u8> {
        let amount = self.amount.to_le_bytes().to_vec();
        let payload = match version {
            0 => [text(&self.id), long(1), text(&self.card), amount, long(self.at)].concat(),
            _ => [long(self.at), text("a note"), text(&self.card), text(&self.id), amount].concat(),
        };
        registered(ids[version], &payload)
    }

    fn protobuf(&self, id: u32) -> Vec<u8> {
        let amount = [&[3 << 3 | 1][..], &self.amount.to_le_bytes()].concat();
        let at = [vec![4 << 3], varint(self.at as u64)].concat();
        let payload = [field(1, self.id.as_bytes()), field(2, self.card.as_bytes()), amount, at].concat();
        registered(id, &[&[0][..], &payload].concat())
    }
}

/// Both versions of the schema, which the registry would not take for one another.
fn schemas(registry: &Registry) -> [u32; 2] {
    let first = registry.register("txn", AVRO[0], "AVRO");
    registry.set_compatibility("txn", "NONE");
    [first, registry.register("txn", AVRO[1], "AVRO")]
}

fn project(connector: &str, settings: &str) -> tempfile::TempDir {
    let project = server::project(&DEFINITIONS.replace("CONNECTOR", connector));
    std::fs::write(project.path().join("tidemill.toml"), settings).unwrap();
    project
}

async fn start(project: &Path) -> (Server, Client) {
    let server = Server::start(project).await;
    let client = server.client().await;
    (server, client)
}

async fn source_is(client: &Client, what: &str, ready: impl Fn(&Json) -> bool) -> Json {
    for _ in 0..6000 {
        let now = tidemill::serving::http::status_json(&client.status().await.unwrap());
        if ready(&now["sources"]["tx"]) {
            return now["sources"]["tx"].clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after a minute still not {what}: {:?}", client.status().await);
}

async fn consumed(client: &Client, count: u64) -> Json {
    source_is(client, &format!("{count} consumed"), |source| source["consumed"] == count).await
}

async fn values(client: &Client) -> String {
    let mut request = v1::GetRequest { service: "s".into(), as_of: Some(1_800_000_000_000_000), ..Default::default() };
    request.keys.insert("card".into(), tidemill_client::texts((0..CARDS).map(|card| format!("c{card}"))));
    format!("{:?}", client.get(request).await.unwrap().columns)
}

/// What the same events give where they are pushed.
async fn pushed(events: &[Event]) -> String {
    let project = project("connector = \"push\"", "");
    let (_server, client) = start(project.path()).await;
    let lines: Vec<String> = events.iter().map(Event::json).collect();
    client.push(server::ndjson("tx", lines.join("\n"), v1::Wait::Readable)).await.unwrap();
    values(&client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_and_protobuf_give_the_values_of_json() {
    let (kafka, registry) = (Kafka::shared(), Registry::start());
    let ids = schemas(&registry);
    let id = registry.register("txn-proto", PROTOBUF, "PROTOBUF");
    let events: Vec<Event> = (0..3_000).map(Event::new).collect();
    let expected = pushed(&events).await;
    let settings = format!("[kafka]\nbrokers = \"{}\"\nregistry = \"{}\"\n", kafka.address(), registry.url());
    for format in ["avro", "protobuf"] {
        let topic = topic_name(format);
        kafka.create_topic(&topic, 3, &[]);
        let message = |(number, event): (usize, &Event)| {
            let payload = match format {
                "avro" => event.avro(ids, number / 5 % 2),
                _ => event.protobuf(id),
            };
            Message::new(payload).partition((number % 3) as i32)
        };
        let messages: Vec<Message> = events.iter().enumerate().map(message).collect();
        kafka.produce(&topic, &messages);
        let connector = format!("connector = \"kafka\"\ntopic = \"{topic}\"\nformat = \"{format}\"");
        let project = project(&connector, &settings);
        let (_server, client) = start(project.path()).await;
        let source = consumed(&client, events.len() as u64).await;
        assert_eq!(source["dead_lettered"], 0, "{format}: {source}");
        assert_eq!(values(&client).await, expected, "{format}");
    }
}

/// A registry that is away keeps messages waiting whose schema is not known yet; nothing is lost, and it is said.
#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_a_registry_that_is_away() {
    let (kafka, registry) = (Kafka::shared(), Registry::start());
    let ids = schemas(&registry);
    let topic = topic_name("away");
    kafka.create_topic(&topic, 1, &[]);
    let events: Vec<Event> = (0..40).map(Event::new).collect();
    let send = |range: std::ops::Range<usize>, version: usize| {
        let messages: Vec<Message> = events[range].iter().map(|event| Message::new(event.avro(ids, version))).collect();
        kafka.produce(&topic, &messages);
    };
    send(0..10, 0);
    let settings = format!("[kafka]\nbrokers = \"{}\"\nregistry = \"{}\"\n", kafka.address(), registry.url());
    let project = project(&format!("connector = \"kafka\"\ntopic = \"{topic}\"\nformat = \"avro\""), &settings);
    let (_server, client) = start(project.path()).await;
    consumed(&client, 10).await;
    registry.kill();
    send(10..20, 0);
    consumed(&client, 20).await;
    send(20..30, 1);
    send(30..40, 0);
    let says = |source: &Json| source["state"].as_str().is_some_and(|state| state.contains("schema registry"));
    let waiting = source_is(&client, "waiting for the registry", says).await;
    assert_eq!(waiting["consumed"], 20, "{waiting}");
    registry.restart();
    let source = consumed(&client, 40).await;
    assert_eq!(source["dead_lettered"], 0, "{source}");
    assert_eq!(values(&client).await, pushed(&events).await);
    // A number that was never given out is not worth waiting for.
    kafka.produce(&topic, &[Message::new(registered(4_000_000, b"x"))]);
    consumed(&client, 41).await;
    let letters = client.dead_letters(v1::DeadLettersRequest::default()).await.unwrap().letters;
    assert_eq!(letters.iter().map(|letter| letter.code.as_str()).collect::<Vec<_>>(), ["E1070"]);
}
