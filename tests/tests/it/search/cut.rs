//! Neighbours where the event log was cut: what records hold is searched as ever, what nobody can know is said. And searches that
//! read whole collections, of which few may run at once.

use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use tidemill_client::v1;
use tidemill_tests::server::{Server, binary, ndjson, project};

use super::model::{Asked, Metric, Random};
use super::world::{World, ask, found};

const HOUR: i64 = 3_600_000_000;
const EVENTS: i64 = 300;

const SOURCES: &str = r#"
[source.clicks]
connector = "push"
event_time = "at"
fields = { user = "string", at = "timestamp[us]" }
[source.tastes]
connector = "push"
event_time = "at"
fields = { user = "string", taste = "vector<4>", at = "timestamp[us]" }
[entity.user]
key = "user"
[view.pop]
entity = "user"
source = "clicks"
features = { clicks = { agg = "count()", windows = ["1h"] } }
[view.taste]
entity = "user"
source = "tastes"
features = { sum = { agg = "vector_sum(taste)", windows = ["1h"] } }
"#;

const NEWEST: &str = r#"
[embedding.newest]
entity = "user"
source = "tastes"
vector = "taste"
dims = 4
metric = "l2"
"#;

const SUMS: &str = r#"
[embedding.sums]
entity = "user"
view = "taste"
vector = "sum_1h"
dims = 4
metric = "l2"
"#;

async fn begin(folder: &tempfile::TempDir) -> (Server, tidemill_client::Client) {
    let settings = "[log]\nsegment_mb = 0.003\nkeep_mb = 0.001\n";
    std::fs::write(folder.path().join("tidemill.toml"), settings).unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    (server, client)
}

async fn push(client: &tidemill_client::Client, source: &str, lines: Vec<String>) {
    for lines in lines.chunks(20) {
        let answer = client.push(ndjson(source, lines.concat(), v1::Wait::Readable)).await.unwrap();
        assert_eq!(answer.dead_lettered, 0, "{:?}", answer.dead_letters);
    }
}

/// Waits until so many events are gone from the log.
async fn cut(server: &Server, events: i64) {
    let gone = || {
        let mut status = Command::new(binary());
        let said = status.args(["status", "--json", "--server", &server.address]).output().unwrap().stdout;
        let status: Json = serde_json::from_slice(&said).unwrap();
        status["log"]["cut_events"].as_i64().unwrap_or(0)
    };
    let waiting = async {
        while gone() < events {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("the log is cut");
}

fn now() -> i64 {
    tidemill::clock::Clock::default().now()
}

fn search(embedding: &str) -> v1::SearchRequest {
    let vectors = vec![v1::Vector { values: vec![0.0; 4] }];
    v1::SearchRequest { embedding: embedding.into(), vectors, k: 9, ..v1::SearchRequest::default() }
}

/// The vectors of that time are there, the clicks of the hour before it are not: the condition is refused, and neighbours without
/// it, or with one that can be told, are found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_nobody_can_tell() {
    let folder = project(&format!("{SOURCES}{NEWEST}"));
    let (server, client) = begin(&folder).await;
    let now = now();
    let click =
        |number: i64| format!("{{\"user\":\"u{}\",\"at\":{}}}\n", number % 3, now - 5 * HOUR + number * 1_000_000);
    push(&client, "clicks", (0..EVENTS).map(click).collect()).await;
    let taste = |user: i64, at: i64| format!("{{\"user\":\"u{user}\",\"taste\":[{user},0,0,0],\"at\":{at}}}\n");
    push(&client, "tastes", (0..3).map(|user| taste(user, now - 5 * HOUR)).collect()).await;
    push(
        &client,
        "clicks",
        (0..3).map(|user| format!("{{\"user\":\"u{user}\",\"at\":{}}}\n", now - HOUR / 2)).collect(),
    )
    .await;
    cut(&server, EVENTS / 2).await;
    let then = || v1::SearchRequest { as_of: Some(now - 4 * HOUR - HOUR / 2), ..search("newest") };
    let all = [("u0".to_string(), 0.0), ("u1".to_string(), -1.0), ("u2".to_string(), -2.0)];
    assert_eq!(found(&ask(&client, then()).await), all);
    let told = v1::SearchRequest { r#where: "clicks_1h = 1".into(), ..search("newest") };
    assert_eq!(found(&ask(&client, told).await), all);
    let refused = client.search(v1::SearchRequest { r#where: "clicks_1h > 0".into(), ..then() }).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status), ("E4030", tonic::Code::InvalidArgument), "{refused:?}");
    assert!(refused.message.contains("gone from the log"), "{}", refused.message);
}

/// The vectors are what the last hour holds, which records tell although the log was cut before the embedding was thought of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedding_that_comes_after_the_cut() {
    let folder = project(SOURCES);
    let (server, client) = begin(&folder).await;
    let now = now();
    let taste = |number: i64| {
        let at = now - 4 * HOUR + number * (4 * HOUR - HOUR / 60) / EVENTS;
        (number % 7, [number % 5, number % 3, 1, number % 2], at)
    };
    let line =
        |(user, taste, at): (i64, [i64; 4], i64)| format!("{{\"user\":\"u{user}\",\"taste\":{taste:?},\"at\":{at}}}\n");
    push(&client, "tastes", (0..EVENTS).map(|number| line(taste(number))).collect()).await;
    cut(&server, EVENTS / 4).await;
    assert_eq!(server.terminate(), Some(0));
    std::fs::write(folder.path().join("features/test.toml"), format!("{SOURCES}{SUMS}")).unwrap();
    for kill in [true, false] {
        let (server, client) = begin(&folder).await;
        let answer = ask(&client, search("sums")).await;
        let t = answer.read_time;
        let mut expected: Vec<(String, f32)> = Vec::new();
        for user in 0..7 {
            let held = (0..EVENTS).map(taste).filter(|(own, _, at)| *own == user && (t - HOUR..t).contains(at));
            let sum = held.fold([0; 4], |sum, (_, taste, _)| std::array::from_fn(|at| sum[at] + taste[at]));
            let square: i64 = sum.iter().map(|x| x * x).sum();
            expected.push((format!("u{user}"), -(square as f64).sqrt() as f32));
        }
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        assert_eq!(found(&answer), expected, "{:?}", answer.plans);
        if kill {
            server.kill();
        }
    }
}

/// Searches of the past read all records: so few at once that others are served. The others are told to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn few_searches_of_the_past_at_once() {
    let mut world = World::start(Metric::L2).await;
    let mut random = Random::seeded();
    world.fill(&mut random, 3_000).await;
    let past = world.now().await;
    let asked = Asked { vector: [1.0; 4], k: 5, ..Asked::default() };
    let request = v1::SearchRequest { as_of: Some(past), ..asked.request() };
    let expected = found(&ask(&world.client, request.clone()).await);
    let mut refused = 0;
    for _ in 0..100 {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (client, request) = (world.client.clone(), request.clone());
            all.spawn(async move { client.search(request).await });
        }
        for answer in all.join_all().await {
            match answer {
                Ok(answer) => assert_eq!(found(&answer), expected),
                Err(error) => {
                    assert_eq!(
                        (error.code.as_str(), error.status),
                        ("E4031", tonic::Code::ResourceExhausted),
                        "{error:?}"
                    );
                    refused += 1;
                }
            }
        }
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0, "sixteen at once are too many");
    assert_eq!(found(&ask(&world.client, request).await), expected, "and then one is served again");
}
