//! Entities of which nothing more comes: whatever is lost of one of them is not made good by its next event.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use tidemill_client::{Client, v1};
use tidemill_tests::server::{Server, ndjson};
use tidemill_tests::services::{Kafka, KafkaOptions, Redis, RedisKind, RedisOptions};

use super::life::{compacted, counts, now, push, sent, sink, with_sink};
use super::world::{random, scale};

/// Pushes an event of a new entity after the other until it is told to stop; gives those that were acknowledged.
async fn write(address: Arc<Mutex<String>>, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let (mut written, mut next) = (BTreeSet::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let to = address.lock().unwrap().clone();
        let Ok(client) = Client::connect(&to).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        loop {
            let keys: Vec<String> = (next..next + 5).map(|key| format!("k{key:06}")).collect();
            next += 5;
            let line = |key: &String| serde_json::json!({ "key": key, "x": 1.0, "at": now() - 1 }).to_string();
            let lines: Vec<String> = keys.iter().map(line).collect();
            if client.push(ndjson("s", lines.join("\n"), v1::Wait::Durable)).await.is_err() {
                break;
            }
            written.extend(keys);
            tokio::time::sleep(Duration::from_millis(3)).await;
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    written
}

/// kill -9 of the server while the broker is silent, dies, or answers: each entity has its message in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_forgets_no_entity() {
    let kafka = Kafka::start(&KafkaOptions::default());
    let topic = compacted(&kafka, "kills");
    let folder = with_sink(&kafka.address(), &sink(&topic, "every = \"5ms\""));
    let mut random = random("kills");
    let mut server = Server::start(folder.path()).await;
    let address = Arc::new(Mutex::new(server.address.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(address.clone(), stop.clone()));
    for round in 0..9 * scale() {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
        match round % 3 {
            0 => {}
            1 => kafka.pause(),
            _ => kafka.kill(),
        }
        // Longer than it takes until it is written down how far the sink is.
        if round % 3 > 0 {
            tokio::time::sleep(Duration::from_millis(random.random_range(900..1_600))).await;
        }
        server.kill();
        match round % 3 {
            0 => {}
            1 => kafka.resume(),
            _ => kafka.restart(),
        }
        server = Server::start(folder.path()).await;
        *address.lock().unwrap() = server.address.clone();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    sent(&server.client().await).await;
    let found: BTreeSet<String> = counts(&kafka, &topic).into_iter().map(|(key, _)| key).collect();
    let missing: Vec<&String> = written.difference(&found).collect();
    println!("{} entities, {} on the topic", written.len(), found.len());
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), written.len());
}

/// What was read of a store that has just lost everything, before that was found, is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_that_is_found_later_forgets_no_entity() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let topic = compacted(kafka, "flushed");
    let folder = with_sink(&kafka.address(), &sink(&topic, "every = \"80ms\""));
    let settings = std::fs::read_to_string(folder.path().join("tidemill.toml")).unwrap();
    let store = format!("store = \"redis\"\n[redis]\naddress = \"{}\"\n{settings}", redis.address());
    std::fs::write(folder.path().join("tidemill.toml"), store).unwrap();
    let mut random = random("losses");
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let mut written = Vec::new();
    for round in 0..8 * scale() {
        for half in ["a", "b"] {
            let key = format!("{half}{round:04}");
            push(&client, std::iter::once(key.clone()), (1.0, now() - 1)).await;
            written.push((key, 1));
        }
        // The second of them waits until the sink may send again.
        redis.cli(&["flushall"]);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
    }
    written.sort();
    for _ in 0..150 {
        sent(&client).await;
        if counts(kafka, &topic) == written {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(counts(kafka, &topic), written);
}
