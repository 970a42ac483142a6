//! Long records: what a read needs of many of them is fetched in few steps, and a snapshot of all keeps nobody waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill_client::{texts, v1};
use tidemill_tests::server::{Server, ndjson, project};
use tidemill_tests::services::{Proxy, Redis, RedisKind, RedisOptions};

use super::world::{World, configure, ints, project as world_project, random, values};

const DEFINITIONS: &str = r#"
[source.s]
connector = "push"
event_time = "at"
event_id = "id"
fields = { id = "int64", key = "string", x = "int64", at = "timestamp[us]" }
[entity.e]
key = "key"
[view.v]
entity = "e"
source = "s"
[view.v.features]
n = { agg = "count()", windows = ["5h", "17h", "30h"] }
total = { agg = "sum(x)", windows = ["9h"] }
[service.all]
features = ["v:*"]
"#;
const KEYS: i64 = 60;
/// Of each key: more than fit into a record without chunks.
const EVENTS: i64 = 600;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

/// An event of a key: every four minutes, each key at another second.
fn event(begin: i64, key: i64, number: i64) -> (i64, i64) {
    (begin + number * 4 * MINUTE + key * 1_000_003, key * 7 + number % 5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_read_asks_for_many_long_records() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let project = project(DEFINITIONS);
    configure(project.path(), &redis.address(), "");
    let server = Server::start(project.path()).await;
    let client = server.client().await;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
    let begin = now - EVENTS * 4 * MINUTE - HOUR;
    for numbers in (0..EVENTS).collect::<Vec<_>>().chunks(100) {
        let line = |number: i64, key: i64| {
            let (at, x) = event(begin, key, number);
            format!("{{\"id\":{},\"key\":\"k{key}\",\"x\":{x},\"at\":{at}}}\n", number * KEYS + key)
        };
        let lines = numbers.iter().flat_map(|number| (0..KEYS).map(|key| line(*number, key))).collect();
        client.push(ndjson("s", lines, v1::Wait::Readable)).await.unwrap();
    }
    let as_of = begin + EVENTS * 4 * MINUTE + 17_345_678;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    let keys = [("key".to_string(), texts(&keys))].into();
    let request = v1::GetRequest { service: "all".into(), keys, as_of: Some(as_of), ..v1::GetRequest::default() };
    let found = client.get(request).await.unwrap();
    for key in 0..KEYS {
        let events: Vec<(i64, i64)> = (0..EVENTS).map(|number| event(begin, key, number)).collect();
        let within = |hours: i64| {
            let from = as_of - hours * HOUR;
            events.iter().filter(move |(at, _)| (from..as_of).contains(at))
        };
        let count = |hours: i64| within(hours).count() as i64;
        let wanted = [count(5), count(17), count(30), within(9).map(|(_, x)| x).sum()];
        let answered: Vec<i64> = found.columns.iter().map(|column| ints(column)[key as usize]).collect();
        assert_eq!(answered, wanted, "k{key}");
    }
}

/// Names in a Redis that others use, too: a scan goes over them.
const OTHERS: &str = "for i = 1, 40000 do redis.call('SET', 'other:' .. i, i) end";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_pushes_go_on_while_a_snapshot_scans() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    redis.cli(&["eval", OTHERS, "0"]);
    let proxy = Proxy::start(&redis.address());
    let mut world = World::start(world_project(&proxy.address(), ""), &mut random("while a snapshot scans")).await;
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(200)).await).await;
    world.settle().await;
    let keys: Vec<String> = world.writer().known.keys().cloned().collect();
    // Forty steps of the scan take a second or two.
    proxy.delay(Duration::from_millis(10));
    let out = world.project.path().join("snapshot").display().to_string();
    let entities = 2 * keys.len();
    world
        .while_writing(async |world| {
            let (client, done) = (world.client().await, Arc::new(AtomicBool::new(false)));
            let read = |_| {
                let (client, keys, done) = (client.clone(), keys.clone(), done.clone());
                tokio::spawn(async move {
                    let mut reads = 0;
                    while !done.load(Ordering::SeqCst) {
                        values(&client, &keys).await.unwrap();
                        client.status().await.unwrap();
                        reads += 1;
                    }
                    reads
                })
            };
            let reads: Vec<_> = (0..4).map(read).collect();
            let request = v1::SnapshotRequest { out, ..v1::SnapshotRequest::default() };
            let snapshot = async {
                let mut progress = client.snapshot(request).await.unwrap();
                let mut rows = 0;
                while let Some(told) = progress.message().await.unwrap() {
                    rows = told.result.map_or(rows, |result| result.rows);
                }
                rows
            };
            let rows = tokio::time::timeout(Duration::from_secs(60), snapshot).await.expect("nobody waits for another");
            done.store(true, Ordering::SeqCst);
            assert!(rows as usize >= entities, "{rows} rows");
            for reads in reads {
                assert!(reads.await.unwrap() > 0);
            }
        })
        .await;
    proxy.delay(Duration::ZERO);
    world.settle().await;
}
