//! Who belongs to a group: what is refused, and that members come and go while nothing is missed.

use std::time::Duration;

use tidemill_client::{texts, v1};
use tidemill_tests::services::{Kafka, KafkaOptions, Redis, RedisKind, RedisOptions};

use super::group::{Group, Process};
use super::load::{Load, exact_from};
use super::paths::ask_all;
use super::random;

const PATIENCE: Duration = Duration::from_secs(120);

async fn right(load: &Load, client: &tidemill_client::Client, members: &[&Process]) {
    if let Err(said) = load.ledgers().wait(client, PATIENCE).await {
        let logs: Vec<String> = members.iter().map(|member| member.log()).collect();
        panic!("{said}\n{}", logs.join("\n-----\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut load = Load::new(kafka, 2_000, 4, random("members come and go"));
    let group = Group::new(&load.definitions(), &kafka.address(), &[redis.address()]);
    let mut one = group.start("ingest").await;
    let serving = group.start("serve").await;
    let client = serving.client().await;
    let table = load.table_rows(100);
    load.write(kafka, 1, table);
    load.more(kafka, 200);
    right(&load, &client, &[&one]).await;
    // One that comes late gets its share, while events come.
    load.more(kafka, 300);
    let mut two = group.start("ingest").await;
    load.more(kafka, 300);
    right(&load, &client, &[&one, &two]).await;
    // One that is told to go lets the other take over.
    load.more(kafka, 100);
    assert_eq!(one.terminate(), Some(0));
    load.more(kafka, 200);
    right(&load, &client, &[&one, &two]).await;
    // The last one goes, and comes back.
    load.more(kafka, 100);
    assert_eq!(two.terminate(), Some(0));
    load.more(kafka, 200);
    two.start().await;
    right(&load, &client, &[&one, &two]).await;
    // The store forgets everything while nobody is there.
    two.kill();
    redis.cli(&["flushall"]);
    load.more(kafka, 100);
    one.start().await;
    right(&load, &client, &[&one, &two]).await;
    let times = load.times();
    let questions = load.world.questions(&client, &load.rows, &times, &mut load.random).await;
    println!("{:?}", ask_all(&client, &questions, exact_from()).await);
}

/// A store loses everything while there is no broker from which it could be filled again: processes that only read are told, though
/// the source declares no `max_lag`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_told_that_the_store_lacks_events() {
    let kafka = Kafka::start(&KafkaOptions::default());
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut load = Load::new(&kafka, 1_000, 2, random("the store lacks events"));
    let group = Group::new(&load.definitions(), &kafka.address(), &[redis.address()]);
    let member = group.start("ingest").await;
    let serving = group.start("serve").await;
    let client = serving.client().await;
    load.more(&kafka, 300);
    right(&load, &client, &[&member]).await;
    kafka.kill();
    redis.cli(&["flushall"]);
    is_stale(&client, true).await;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(stale(&client).await, "nothing has been read again");
    }
    kafka.restart();
    right(&load, &client, &[&member]).await;
    is_stale(&client, false).await;
}

async fn stale(client: &tidemill_client::Client) -> bool {
    let keys = [("card".to_string(), texts(["c0"]))].into();
    let request = v1::GetRequest { features: vec!["joined:last_shop".into()], keys, ..v1::GetRequest::default() };
    client.get(request).await.unwrap().stale.iter().any(|source| source == "events")
}

async fn is_stale(client: &tidemill_client::Client, wanted: bool) {
    for _ in 0..1_200 {
        if stale(client).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a minute later `stale` is not {wanted}: {:?}", client.status().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_definitions_and_other_sources_are_refused() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut load = Load::new(kafka, 1_000, 2, random("other definitions"));
    let group = Group::new(&load.definitions(), &kafka.address(), &[redis.address()]);
    let other = group.redefined(&load.definitions().replace("agg = \"count()\"", "agg = \"count(n)\""));
    let refused = |said: Result<Process, String>| said.err().expect("it does not start");
    let member = group.start("ingest").await;
    for flushed in [false, true] {
        if flushed {
            // Who runs says again what the definitions are.
            load.more(kafka, 50);
            right(&load, &member.client().await, &[&member]).await;
            redis.cli(&["flushall"]);
            while redis.cli(&["keys", "*:definitions"]).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        for role in ["ingest", "serve", "all"] {
            let said = refused(other.try_start(role).await);
            assert!(said.contains("E5051") && said.contains("cards"), "role {role}: {said}");
        }
    }
    let pushed = group.redefined(&load.world.pushed());
    let said = refused(pushed.try_start("ingest").await);
    assert!(said.contains("E5053") && said.contains("`events`"), "{said}");
    load.more(kafka, 50);
    right(&load, &member.client().await, &[&member]).await;
}
