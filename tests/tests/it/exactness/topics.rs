//! Topics that grow while they are read, transactions of which some are aborted, and compaction that leaves gaps: by a group, and
//! by one process.

use std::time::Duration;

use rand::Rng;
use tidemill_tests::oracle::model::Row;
use tidemill_tests::services::kafka::{Isolation, topic_name};
use tidemill_tests::services::{Kafka, Redis, RedisKind, RedisOptions};

use super::group::{Group, Process};
use super::load::{Load, exact_from};
use super::paths::ask_all;
use super::random;

const PATIENCE: Duration = Duration::from_secs(120);

/// A group of two with one that serves, and a process that does everything, on stores of their own.
async fn readers(load: &Load, kafka: &Kafka, redis: &Redis) -> [Process; 4] {
    let group = Group::new(&load.definitions(), &kafka.address(), &[redis.address()]);
    let alone = Group::new(&load.definitions(), &kafka.address(), &[redis.address()]);
    [group.start("serve").await, alone.start("all").await, group.start("ingest").await, group.start("ingest").await]
}

/// Everything is in, and every value is right.
async fn right(load: &mut Load, readers: &[Process; 4]) {
    for (at, exact_from) in [(0, exact_from()), (1, i64::MIN)] {
        let client = readers[at].client().await;
        if let Err(said) = load.ledgers().wait(&client, PATIENCE).await {
            let logs: Vec<String> = readers.iter().map(Process::log).collect();
            panic!("{said}\n{}", logs.join("\n-----\n"));
        }
        let times = load.times();
        let questions = load.world.questions(&client, &load.rows, &times, &mut load.random).await;
        println!("{:?}", ask_all(&client, &questions, exact_from).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_added_under_load_and_transactions_abort() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut load = Load::new(kafka, 3_000, 2, random("partitions are added"));
    let readers = readers(&load, kafka, &redis).await;
    let table = load.table_rows(100);
    load.write(kafka, 1, table);
    let producer = kafka.transactional(&topic_name("producer"));
    let mut aborted = 0;
    for round in 0..9 {
        if round % 3 == 1 {
            load.partitions[0] += 1;
            kafka.add_partitions(&load.topics[0], load.partitions[0]);
        }
        producer.begin();
        let rows = load.events(150);
        load.send(&producer, rows);
        producer.commit();
        if load.random.random_bool(0.6) {
            let lost = load.events(40);
            producer.begin();
            producer.send(&load.topics[0], &load.messages(0, &lost));
            producer.abort();
            aborted += lost.len();
        }
        load.more(kafka, 50);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("{} partitions, {aborted} records aborted", load.partitions[0]);
    assert_eq!(load.partitions[0], 5);
    right(&mut load, &readers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_of_compaction_are_no_events() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut load = Load::new(kafka, 2_000, 2, random("gaps of compaction"));
    let topic = load.topics[0].clone();
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0.001")];
    kafka.configure_topic(&topic, &settings);
    let table = load.table_rows(100);
    load.write(kafka, 1, table);
    // Every third event stays; of the others only the last one of each key.
    for _ in 0..6 {
        let rows = load.events(150);
        let key = |at: usize, row: &Row| {
            if at.is_multiple_of(3) { format!("{at}/{}", row.arrival) } else { "gone".to_string() }
        };
        let messages = load.messages(0, &rows);
        let messages: Vec<_> = messages
            .into_iter()
            .zip(rows.iter().enumerate())
            .map(|(message, (at, row))| message.key(key(at, row)))
            .collect();
        let places = kafka.produce(&topic, &messages);
        load.remember(0, rows, &places);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let written = load.rows.iter().filter(|(source, _)| *source == 0).count();
    let mut left = kafka.read_all(&topic, Isolation::Committed);
    for _ in 0..300 {
        if left.len() < written / 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        left = kafka.read_all(&topic, Isolation::Committed);
    }
    assert!(left.len() < written / 2, "{} of {written} are left: nothing was compacted", left.len());
    kafka.configure_topic(&topic, &[("cleanup.policy", "delete")]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let left: std::collections::BTreeSet<(u32, u64)> = kafka
        .read_all(&topic, Isolation::Committed)
        .iter()
        .map(|record| (record.partition as u32, record.offset as u64))
        .collect();
    load.rows.retain(|(source, row)| *source == 1 || left.contains(&(row.partition, row.offset)));
    println!("{} of {written} are left", left.len());
    let mut readers = readers(&load, kafka, &redis).await;
    right(&mut load, &readers).await;
    // What comes next stands behind the gaps, also for who takes a partition over.
    readers[2].kill();
    load.more(kafka, 100);
    right(&mut load, &readers).await;
}
