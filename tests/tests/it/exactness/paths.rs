//! The four paths: pushed into one process, read from topics by one process, the same with Redis, and by a group of processes
//! over a Redis Cluster, of which another one serves.

use std::time::Duration;

use tidemill_tests::oracle::model::Row;
use tidemill_tests::server::{Server, project};
use tidemill_tests::services::{Kafka, Redis, RedisCluster, RedisKind, RedisOptions};

use super::group::Group;
use super::load::{Load, exact_from};
use super::{random, size};
use crate::vocabulary::push;
use crate::vocabulary::world::{Question, Tally};

const PATIENCE: Duration = Duration::from_secs(300);
const TABLE_ROWS: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_events_give_the_same_over_every_path() {
    let count = size("TIDEMILL_EXACT_EVENTS", 20_000);
    let kafka = Kafka::shared();
    let mut load = Load::new(kafka, count, 3, random("four paths"));
    load.more(kafka, count / 2);
    let table = load.table_rows(TABLE_ROWS);
    load.write(kafka, 1, table);
    load.more(kafka, count - count / 2);

    pushed(&mut load).await;
    // One process, with its own log: everything is known at all times.
    let folder = project(&load.definitions());
    let settings = format!("[kafka]\nbrokers = \"{}\"\n", kafka.address());
    std::fs::write(folder.path().join("tidemill.toml"), settings).unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    load.ledgers().wait(&client, PATIENCE).await.unwrap();
    let times = load.times();
    let questions = load.world.questions(&client, &load.rows, &times, &mut load.random).await;
    let tally = ask_all(&client, &questions, i64::MIN).await;
    println!("Kafka, embedded: {tally:?}");
    drop(server);

    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let group = Group::new(&load.definitions(), &kafka.address(), &[redis.address()]);
    let alone = group.start("all").await;
    load.ledgers().wait(&alone.client().await, PATIENCE).await.unwrap_or_else(|e| panic!("{e}\n{}", alone.log()));
    println!("Kafka, Redis: {:?}", ask_all(&alone.client().await, &questions, i64::MIN).await);
    drop((alone, redis));

    let cluster = RedisCluster::start();
    let group = Group::new(&load.definitions(), &kafka.address(), &cluster.addresses());
    let (one, two, serving) = (group.start("ingest").await, group.start("ingest").await, group.start("serve").await);
    let client = serving.client().await;
    let waited = load.ledgers().wait(&client, PATIENCE).await;
    waited.unwrap_or_else(|e| panic!("{e}\none: {}\ntwo: {}", one.log(), two.log()));
    let tally = ask_all(&client, &questions, exact_from()).await;
    println!("Kafka, Redis Cluster, a group: {tally:?}");
    assert!(tally.beyond > 0 && tally.beyond * 2 < tally.compared, "records hold the last hours: {tally:?}");
}

/// All in one partition, so that it is other events that are duplicates.
async fn pushed(load: &mut Load) {
    let world = &load.world;
    let folder = project(&world.pushed());
    let server = Server::start(folder.path()).await;
    let mut rows = Vec::new();
    for source in [0, 1] {
        let mut of: Vec<Row> = load.rows.iter().filter(|(at, _)| *at == source).map(|(_, row)| row.clone()).collect();
        of.iter_mut().zip(0..).for_each(|(row, offset)| (row.partition, row.offset) = (0, offset));
        push(&server, world, source, &of).await;
        rows.extend(of.into_iter().map(|row| (source, row)));
    }
    let as_they_are = std::mem::replace(&mut load.rows, rows);
    let client = server.client().await;
    load.ledgers().wait(&client, PATIENCE).await.unwrap();
    let times = load.times();
    let questions = load.world.questions(&client, &load.rows, &times, &mut load.random).await;
    println!("push, embedded: {:?}", ask_all(&client, &questions, i64::MIN).await);
    load.rows = as_they_are;
}

/// Asks everything; most of it is there.
pub async fn ask_all(client: &tidemill_client::Client, questions: &[Question], exact_from: i64) -> Tally {
    let mut tally = Tally::default();
    for question in questions {
        question.ask(client, exact_from, &mut tally).await;
    }
    assert!(tally.present * 5 > tally.compared, "{tally:?}");
    tally
}
