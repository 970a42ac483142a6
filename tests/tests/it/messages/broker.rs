//! From a real broker and a real registry into features: the same values as the same events pushed as JSON.

use tempfile::TempDir;
use tidemill_client::v1;
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Message, Registry};

use super::written::{field, long, registered, text, varint};
use crate::kafka::world::{Event, consumed, reading, start, state_says, twin, values};

const CARDS: u32 = 20;
const AVRO: [&str; 2] = [
    r#"{"type": "record", "name": "Txn", "fields": [{"name": "id", "type": "string"}, {"name": "card", "type": ["null", "string"]},
        {"name": "amount", "type": "double"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#,
    r#"{"type": "record", "name": "Txn", "fields": [{"name": "at", "type": "long"}, {"name": "note", "type": "string", "default": ""},
        {"name": "card", "type": "string"}, {"name": "id", "type": "string"}, {"name": "amount", "type": "double"}]}"#,
];
const PROTOBUF: &str = "syntax = \"proto3\";\npackage shop;\nmessage Txn {\n  string id = 1;\n  string card = 2;\n  \
    double amount = 3;\n  int64 at = 4;\n}\n";

fn event(number: u64) -> Event {
    Event::new(number, (number * 7 % u64::from(CARDS)) as u32, (number % 3) as i32)
}

/// By one of two versions of the schema.
fn avro(event: &Event, ids: [u32; 2], version: usize) -> Vec<u8> {
    let (id, amount) = (format!("e{}", event.id), event.amount().to_le_bytes().to_vec());
    let payload = match version {
        0 => [text(&id), long(1), text(&event.key()), amount, long(event.at())].concat(),
        _ => [long(event.at()), text("a note"), text(&event.key()), text(&id), amount].concat(),
    };
    registered(ids[version], &payload)
}

fn protobuf(event: &Event, id: u32) -> Vec<u8> {
    let amount = [&[3 << 3 | 1][..], &event.amount().to_le_bytes()].concat();
    let at = [vec![4 << 3], varint(event.at() as u64)].concat();
    let payload =
        [field(1, format!("e{}", event.id).as_bytes()), field(2, event.key().as_bytes()), amount, at].concat();
    registered(id, &[&[0][..], &payload].concat())
}

/// Both versions of the schema, which the registry would not take for one another.
fn schemas(registry: &Registry) -> [u32; 2] {
    let first = registry.register("txn", AVRO[0], "AVRO");
    registry.set_compatibility("txn", "NONE");
    [first, registry.register("txn", AVRO[1], "AVRO")]
}

/// A project that reads a topic whose schemas a registry has.
fn project(kafka: &Kafka, registry: &Registry, topic: &str, format: &str) -> TempDir {
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), &format!("format = \"{format}\""));
    let settings = format!("[kafka]\nbrokers = \"{}\"\nregistry = \"{}\"\n", kafka.address(), registry.url());
    std::fs::write(project.path().join("tidemill.toml"), settings).unwrap();
    project
}

/// What the same events give where they are pushed.
async fn pushed(events: &[Event]) -> String {
    let lines: Vec<String> = events.iter().map(Event::json).collect();
    twin(&lines, CARDS).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_and_protobuf_give_the_values_of_json() {
    let (kafka, registry) = (Kafka::shared(), Registry::start());
    let ids = schemas(&registry);
    let id = registry.register("txn-proto", PROTOBUF, "PROTOBUF");
    let events: Vec<Event> = (0..3_000).map(event).collect();
    let expected = pushed(&events).await;
    for format in ["avro", "protobuf"] {
        let topic = topic_name(format);
        kafka.create_topic(&topic, 3, &[]);
        let message = |(number, event): (usize, &Event)| {
            let payload = match format {
                "avro" => avro(event, ids, number / 5 % 2),
                _ => protobuf(event, id),
            };
            Message::new(payload).partition(event.partition)
        };
        let messages: Vec<Message> = events.iter().enumerate().map(message).collect();
        kafka.produce(&topic, &messages);
        let project = project(kafka, &registry, &topic, format);
        let (_server, client) = start(project.path()).await;
        let source = consumed(&client, events.len() as u64).await["sources"]["tx"].clone();
        assert_eq!(source["dead_lettered"], 0, "{format}: {source}");
        assert_eq!(values(&client, CARDS).await, expected, "{format}");
    }
}

/// A registry that is away keeps messages waiting whose schema is not known yet; nothing is lost, and it is said.
#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_a_registry_that_is_away() {
    let (kafka, registry) = (Kafka::shared(), Registry::start());
    let ids = schemas(&registry);
    let topic = topic_name("away");
    kafka.create_topic(&topic, 1, &[]);
    let events: Vec<Event> = (0..40).map(event).collect();
    let send = |range: std::ops::Range<usize>, version: usize| {
        let messages: Vec<Message> =
            events[range].iter().map(|event| Message::new(avro(event, ids, version))).collect();
        kafka.produce(&topic, &messages);
    };
    send(0..10, 0);
    let project = project(kafka, &registry, &topic, "avro");
    let (_server, client) = start(project.path()).await;
    consumed(&client, 10).await;
    registry.kill();
    send(10..20, 0);
    consumed(&client, 20).await;
    send(20..30, 1);
    send(30..40, 0);
    let waiting = state_says(&client, "schema registry").await["sources"]["tx"].clone();
    assert_eq!(waiting["consumed"], 20, "{waiting}");
    registry.restart();
    let source = consumed(&client, 40).await["sources"]["tx"].clone();
    assert_eq!(source["dead_lettered"], 0, "{source}");
    assert_eq!(values(&client, CARDS).await, pushed(&events).await);
    // A number that was never given out is not worth waiting for.
    kafka.produce(&topic, &[Message::new(registered(4_000_000, b"x"))]);
    consumed(&client, 41).await;
    let letters = client.dead_letters(v1::DeadLettersRequest::default()).await.unwrap().letters;
    assert_eq!(letters.iter().map(|letter| letter.code.as_str()).collect::<Vec<_>>(), ["E1070"]);
}
