//! What a record says of itself, records that are no events, and tables.

use serde_json::json;
use tidemill_client::v1;
use tidemill_tests::services::kafka::{Isolation, topic_name};
use tidemill_tests::services::{Kafka, Message};

use super::world::{BEGIN, Event, consumed, ledger, project, reading, start, status, twin, values};

/// Columns that come from the record and not from its value, and are not taken from the value either.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_are_columns() {
    let kafka = Kafka::shared();
    let topic = topic_name("metadata");
    // Its records are dated long ago: retention would take them away before they are read.
    kafka.create_topic(&topic, 2, &[("retention.ms", "-1")]);
    let definitions = format!(
        r#"
[source.tx]
connector = "kafka"
topic = "{topic}"
event_time = "ts"
[source.tx.fields]
card = "int64"
x = "float64"
ts = "timestamp"
part = "int64"
off = "int64"
name = "string"
trace = "string"
[source.tx.metadata]
card = "key"
ts = "timestamp"
part = "partition"
off = "offset"
name = "topic"
trace = "header.trace-id"
[entity.card]
key = "card"
[view.v]
entity = "card"
source = "tx"
[view.v.features]
part = {{ agg = "last(part)", window = "lifetime" }}
off = {{ agg = "last(off)", window = "lifetime" }}
name = {{ agg = "last(name)", window = "lifetime" }}
trace = {{ agg = "last(trace)", window = "lifetime" }}
at = {{ agg = "max(ts)", window = "lifetime" }}
[service.s]
features = ["v:*"]
"#
    );
    let project = project(&kafka.address(), &definitions);
    let record =
        |card: &str| Message::new(r#"{"x":1,"card":"wrong","off":"wrong"}"#).key(card).partition(1).at_ms(BEGIN);
    let traced = record("7").header("trace-id", "first").header("trace-id", "t1");
    kafka.produce(&topic, &[record("8"), traced, record("no number"), Message::new("{}").partition(1)]);
    let (_server, client) = start(project.path()).await;
    let shown = consumed(&client, 4).await;
    assert_eq!(shown["sources"]["tx"]["dead_lettered"], 1, "a key that is no int64");
    assert_eq!(shown["views"]["v"]["keyless"], 1, "a record without a key");
    let mut request = v1::GetRequest { service: "s".into(), ..v1::GetRequest::default() };
    request.keys.insert("card".into(), tidemill_client::int64s([7]));
    let answer = format!("{:?}", client.get(request).await.unwrap().columns);
    for expected in ["[1]", "t1", &topic, &format!("{}", BEGIN * 1_000)] {
        assert!(answer.contains(expected), "{expected}: {answer}");
    }
}

/// Poison between good events: each piece becomes a dead letter with its place, its neighbours are exact, and the topic for
/// dead letters has it too.
#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_the_dead_letters() {
    let kafka = Kafka::shared();
    let (topic, dead) = (topic_name("poison"), topic_name("dead"));
    kafka.create_topic(&topic, 1, &[("max.message.bytes", "4000000")]);
    kafka.create_topic(&dead, 1, &[]);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!(r#"{{"id":"{}"}}"#, "x".repeat(2_000_000));
    let poison: [&[u8]; 9] = [
        b"",
        b"\xff\xfe",
        br#"{"id":"a","card":"c1","amount":1e400,"at":1700000000000}"#,
        br#"{"id":"a","card":"c1","amount":NaN,"at":1700000000000}"#,
        br#"{"id":"a","card":"c1","amount":1,"at":"yesterday"}"#,
        br#"{"id":"a","card":"c1","amount":1,"at":99999999999999999}"#,
        br#"{"id":"a","card":"c1"}{"id":"b"}"#,
        deep.as_bytes(),
        huge.as_bytes(),
    ];
    let producer = kafka.producer(&[("message.max.bytes", "4000000")]);
    let mut lines = Vec::new();
    for (at, payload) in poison.iter().enumerate() {
        let event = Event::new(at as u64, 1, 0);
        producer.send(&topic, &[event.message(), Message::new(*payload).partition(0)]);
        lines.push(event.json());
    }
    producer.send(&topic, &[Message::tombstone("c1").partition(0), Event::new(99, 1, 0).message()]);
    lines.push(Event::new(99, 1, 0).json());
    let more = format!("dead_letter_topic = \"{dead}\"");
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), &more);
    let (_server, client) = start(project.path()).await;
    let total = 2 * poison.len() as u64 + 2;
    let shown = consumed(&client, total).await;
    assert_eq!(shown["sources"]["tx"]["dead_lettered"], poison.len() as u64 + 1);
    let (expected, _) = twin(&lines, 2).await;
    assert_eq!(values(&client, 2).await, expected);
    let letters = client.dead_letters(Default::default()).await.unwrap().letters;
    let offsets: Vec<u64> = letters.iter().map(|letter| letter.offset).collect();
    let odd: Vec<u64> = (0..poison.len() as u64).map(|at| 2 * at + 1).chain([total - 2]).collect();
    assert_eq!(offsets, odd);
    assert_eq!(letters.last().map(|letter| letter.code.as_str()), Some("E1050"));
    let sent = kafka.read_all(&dead, Isolation::Committed);
    let header = |at: usize, name: &str| {
        let found = sent[at].headers.iter().find(|(header, _)| header == name).and_then(|(_, value)| value.clone());
        String::from_utf8(found.unwrap_or_default()).unwrap()
    };
    assert_eq!(sent.len(), letters.len());
    for (at, letter) in letters.iter().enumerate() {
        assert_eq!(header(at, "tidemill.offset"), letter.offset.to_string());
        assert_eq!(
            (header(at, "tidemill.code"), header(at, "tidemill.source")),
            (letter.code.clone(), "tx".to_string())
        );
        assert_eq!(header(at, "tidemill.topic"), topic);
    }
}

/// A producer that counts in another unit: its records are dead letters, whatever depends on their times, and a restart finds a
/// sound state.
#[tokio::test(flavor = "multi_thread")]
async fn times_beyond_all_years_are_dead_letters() {
    let kafka = Kafka::shared();
    let topic = topic_name("microseconds");
    kafka.create_topic(&topic, 1, &[("message.timestamp.after.max.ms", "9223372036854775807")]);
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let events: Vec<Event> = (0..40).map(|id| Event::new(id, id as u32 % 2, 0)).collect();
    let message = |event: &Event| match event.id {
        10 => event.message().at_ms(BEGIN * 1_000),
        _ => event.message(),
    };
    kafka.produce(&topic, &events[..20].iter().map(message).collect::<Vec<_>>());
    let (server, client) = start(project.path()).await;
    consumed(&client, 20).await;
    server.kill();
    kafka.produce(&topic, &events[20..].iter().map(message).collect::<Vec<_>>());
    let (_server, client) = start(project.path()).await;
    let shown = consumed(&client, 40).await;
    assert_eq!(shown["sources"]["tx"]["dead_lettered"], 1);
    let letters = client.dead_letters(Default::default()).await.unwrap().letters;
    assert_eq!((letters[0].offset, letters[0].code.as_str()), (10, "E1029"), "{}", letters[0].reason);
    let lines: Vec<String> = events.iter().filter(|event| event.id != 10).map(Event::json).collect();
    assert_eq!(values(&client, 2).await, twin(&lines, 2).await.0);
}

/// A record without a value deletes its key, by its own time.
#[tokio::test(flavor = "multi_thread")]
async fn tombstones_delete_rows_of_a_table() {
    let kafka = Kafka::shared();
    let topic = topic_name("merchants");
    kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
    let definitions = format!(
        r#"
[source.merchants]
connector = "kafka"
kind = "table"
topic = "{topic}"
event_time = "at"
arrival_time = "known"
[source.merchants.fields]
merchant = "string"
country = "string"
shape = "vector<2>"
known = "timestamp[ms]"
at = "timestamp"
[source.merchants.metadata]
merchant = "key"
at = "timestamp"
[entity.merchant]
key = "merchant"
[view.v]
entity = "merchant"
source = "merchants"
[view.v.features]
country = {{ agg = "last(country)" }}
[service.s]
features = ["v:*"]
"#
    );
    let project = project(&kafka.address(), &definitions);
    let row = |key: &str, country: &str, at: i64| {
        let row = json!({"country": country, "shape": [1, 2], "known": BEGIN + at});
        Message::new(row.to_string()).key(key).at_ms(BEGIN + at)
    };
    let messages = [
        row("a", "DE", 0),
        row("b", "FR", 0),
        Message::tombstone("a").at_ms(BEGIN + 10),
        row("b", "IT", 20),
        row("a", "ES", 5),
        // Of which nobody can tell what it deletes.
        Message { key: None, ..Message::tombstone("") }.at_ms(BEGIN + 30),
    ];
    kafka.produce(&topic, &messages.map(|message| message.partition(0)));
    let (_server, client) = start(project.path()).await;
    super::world::wait_for(&client, "6 consumed", |status| status["sources"]["merchants"]["consumed"] == 6).await;
    let get = |at: Option<i64>| {
        let mut request =
            v1::GetRequest { service: "s".into(), as_of: at.map(|at| (BEGIN + at) * 1_000 + 1), ..Default::default() };
        request.keys.insert("merchant".into(), tidemill_client::texts(["a", "b"]));
        client.get(request)
    };
    let now = get(None).await.unwrap();
    assert!(!format!("{now:?}").contains("ES"), "a delete that is newer counts: {now:?}");
    let before = get(Some(7)).await.unwrap();
    assert!(format!("{before:?}").contains("ES"), "{before:?}");
    let counts = status(&client).await;
    assert_eq!(counts["views"]["v"]["applied"], 5, "{}", ledger(&counts));
    let letters = client.dead_letters(Default::default()).await.unwrap().letters;
    let found: Vec<_> = letters.iter().map(|letter| (letter.offset, letter.code.as_str())).collect();
    assert_eq!(found, [(5, "E1050")]);
}
