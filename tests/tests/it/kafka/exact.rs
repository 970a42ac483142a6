//! The same events by push and by Kafka give the same values and ledgers, whatever happens on the way.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, KafkaOptions, Message};

use super::world::{Event, consumed, ledger, reading, start, status, twin, values};

const CARDS: u32 = 40;

fn seed() -> u64 {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("TIDEMILL_SEED={seed}");
    seed
}

fn rounds() -> usize {
    std::env::var("TIDEMILL_KAFKA_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6)
}

/// Random events, some of them twice; a card stays in its partition, as it does with a key.
struct Events {
    random: StdRng,
    sent: Vec<Event>,
    partitions: i32,
}

impl Events {
    fn next(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            let again = !self.sent.is_empty() && self.random.random_bool(0.05);
            let event = if again {
                self.sent[self.random.random_range(0..self.sent.len())].clone()
            } else {
                let card = self.random.random_range(0..CARDS);
                // Cards that come later may live in partitions that come later.
                let partition = card as i32 % self.partitions.min(2 + card as i32 / 10);
                Event::new(u64::from(self.random.random::<u32>()), card, partition)
            };
            self.sent.push(event.clone());
            events.push(event);
        }
        events
    }
}

/// Kills of the server and of the broker, new partitions, aborted transactions: what a broker has committed counts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_changes_nothing() {
    let kafka = Kafka::start(&KafkaOptions::default());
    let topic = topic_name("storm");
    kafka.create_topic(&topic, 2, &[]);
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let mut events = Events { random: StdRng::seed_from_u64(seed()), sent: Vec::new(), partitions: 2 };
    let (mut server, mut client) = start(project.path()).await;
    let (mut kills, mut restarts, mut aborted) = (0, 0, 0);
    for round in 0..rounds() {
        let batch = events.next(400);
        let messages: Vec<Message> = batch.iter().map(Event::message).collect();
        let producer = kafka.transactional(&topic_name("bank"));
        producer.begin();
        producer.send(&topic, &messages[..200]);
        producer.commit();
        if events.random.random_bool(0.5) {
            producer.begin();
            let lost: Vec<Message> = (0..50).map(|id| Event::new(1 << 40 | id, 1, 1).message()).collect();
            producer.send(&topic, &lost);
            producer.abort();
            aborted += lost.len();
        }
        match round % 3 {
            0 => {
                server.kill();
                kafka.produce(&topic, &messages[200..]);
                (server, client) = start(project.path()).await;
                kills += 1;
            }
            1 => {
                kafka.kill();
                kafka.restart();
                kafka.produce(&topic, &messages[200..]);
                restarts += 1;
            }
            _ => {
                if events.partitions < 5 {
                    events.partitions += 1;
                    kafka.add_partitions(&topic, events.partitions);
                }
                kafka.produce(&topic, &messages[200..]);
            }
        }
    }
    consumed(&client, events.sent.len() as u64).await;
    eprintln!("{kills} kills of the server, {restarts} of the broker, {aborted} records aborted");
    let lines: Vec<String> = events.sent.iter().map(Event::json).collect();
    let (expected, expected_ledger) = twin(&lines, CARDS).await;
    assert_eq!(values(&client, CARDS).await, expected);
    assert_eq!(ledger(&status(&client).await), expected_ledger);
    let verified = client.verify(Default::default()).await.unwrap();
    assert_eq!(verified.differences, 0);
    // The log alone, without what the state store has, comes to the same.
    server.terminate();
    std::fs::remove_dir_all(project.path().join("data/state")).unwrap();
    let (_server, client) = start(project.path()).await;
    consumed(&client, events.sent.len() as u64).await;
    assert_eq!(values(&client, CARDS).await, expected);
}

/// Compaction leaves gaps between offsets, and an event's offset is its place all the same.
#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_no_events() {
    let kafka = Kafka::shared();
    let topic = topic_name("gaps");
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0.001")];
    kafka.create_topic(&topic, 1, &settings);
    // One card a key: only the last event of each stays.
    for round in 0..4 {
        let batch: Vec<Message> =
            (0..30).map(|card| Event::new(round * 100 + card, card as u32, 0).message()).collect();
        kafka.produce(&topic, &batch);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mut left = Vec::new();
    for _ in 0..300 {
        left = kafka.read_texts(&topic, tidemill_tests::services::kafka::Isolation::Committed);
        if left.len() < 70 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(left.len() < 120, "nothing was compacted");
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let (server, client) = start(project.path()).await;
    let shown = super::world::wait_for(&client, "at the end", |status| {
        status["sources"]["tx"]["positions"]["0"] == 120 && status["sources"]["tx"]["lag"] == 0
    });
    let consumed_now = shown.await["sources"]["tx"]["consumed"].as_u64().unwrap();
    assert!((30..120).contains(&consumed_now), "{consumed_now}");
    let before = values(&client, 30).await;
    server.kill();
    kafka.produce(&topic, &[Event::new(999, 0, 0).message()]);
    let (_server, client) = start(project.path()).await;
    consumed(&client, consumed_now + 1).await;
    assert_ne!(values(&client, 30).await, before);
    let explained = {
        let mut request = tidemill_client::v1::ExplainRequest { feature: "v:total".into(), ..Default::default() };
        request.keys.insert("card".into(), tidemill_client::texts(["c0"]));
        client.explain(request).await.unwrap()
    };
    assert!(explained.bit_identical);
    assert!(explained.counted.iter().chain(&explained.excluded).any(|event| event.offset == 120), "{explained:?}");
}

/// Two topics in one source; their order in the definition may change.
#[tokio::test(flavor = "multi_thread")]
async fn topics_may_be_listed_in_any_order() {
    let kafka = Kafka::shared();
    let (one, two) = (topic_name("one"), topic_name("two"));
    let mut lines = Vec::new();
    for (at, topic) in [&one, &two].into_iter().enumerate() {
        kafka.create_topic(topic, 1, &[]);
        let batch: Vec<Event> = (0..20).map(|id| Event::new(at as u64 * 1_000 + id, id as u32 % 10, 0)).collect();
        kafka.produce(topic, &batch.iter().map(Event::message).collect::<Vec<_>>());
        lines.extend(batch.iter().map(Event::json));
    }
    let project = reading(&kafka.address(), &format!("topics = [\"{one}\", \"{two}\"]"), "");
    let (server, client) = start(project.path()).await;
    consumed(&client, 40).await;
    server.terminate();
    let path = project.path().join("features/test.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&format!("\"{one}\", \"{two}\""), &format!("\"{two}\", \"{one}\""))).unwrap();
    let more = Event::new(7_777, 3, 0);
    kafka.produce(&two, &[more.message()]);
    lines.push(more.json());
    let (server, client) = start(project.path()).await;
    let shown = consumed(&client, 41).await;
    assert_eq!(shown["sources"]["tx"]["positions"], serde_json::json!({"0": 20, "65536": 21}));
    assert_eq!(shown["sources"]["tx"]["kafka"]["partitions"]["65536"]["topic"], serde_json::json!(two));
    let (expected, expected_ledger) = twin(&lines, 10).await;
    assert_eq!((values(&client, 10).await, ledger(&status(&client).await)), (expected, expected_ledger));
    // Without the notes nobody knows which topic a position is of.
    server.kill();
    std::fs::remove_file(project.path().join("data/files/tx.kafka.json")).unwrap();
    let (_server, client) = start(project.path()).await;
    super::world::state_says(&client, "stopped: E1057").await;
}
