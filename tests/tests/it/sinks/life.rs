//! What a sink does in its life: it sends everything once, then what changes; entities whose events are dated ahead in their time.

use serde_json::{Value as Json, json};
use tidemill_client::{Client, v1};
use tidemill_features::time::rfc3339;
use tidemill_tests::server::{Server, ndjson};
use tidemill_tests::services::Kafka;
use tidemill_tests::services::kafka::topic_name;

use super::messages::{all, newest};
use crate::kafka::world::{project, status, wait_for};

const DEFINITIONS: &str = r#"
[source.s]
connector = "push"
event_time = "at"
fields = { key = "string", x = "float64", at = "timestamp[us]" }
[entity.e]
key = "key"
[view.v]
entity = "e"
source = "s"
where = "x >= 0"
[view.v.features]
n = { agg = "count()", window = "lifetime" }
total = { agg = "sum(x)", window = "lifetime" }
"#;

/// A sink of the view.
pub fn sink(topic: &str, more: &str) -> String {
    format!("[sink.a]\nconnector = \"kafka\"\ntopic = \"{topic}\"\nview = \"v\"\n{more}\n")
}

/// A project with a sink of its view, or without one.
pub fn with_sink(kafka: &str, sink: &str) -> tempfile::TempDir {
    project(kafka, &format!("{DEFINITIONS}{sink}"))
}

/// Other definitions of the same project.
pub fn redefine(folder: &std::path::Path, text: &str) {
    std::fs::write(folder.join("features/test.toml"), text).unwrap();
}

/// A topic as it should be.
pub fn compacted(kafka: &Kafka, name: &str) -> String {
    let topic = topic_name(name);
    kafka.create_topic(&topic, 2, &[("cleanup.policy", "compact")]);
    topic
}

/// The clock.
pub fn now() -> i64 {
    tidemill::clock::Clock::default().now()
}

/// Pushes an event of each key; they can be read then.
pub async fn push(client: &Client, keys: impl Iterator<Item = String>, (x, at): (f64, i64)) {
    let lines: Vec<String> = keys.map(|key| json!({ "key": key, "x": x, "at": at }).to_string()).collect();
    let answer = client.push(ndjson("s", lines.join("\n"), v1::Wait::Readable)).await.unwrap();
    assert_eq!(answer.accepted as usize, lines.len());
}

/// Waits until the sink has sent everything.
pub async fn sent(client: &Client) -> Json {
    let all_sent = |status: &Json| status["sinks"]["a"]["lag"] == 0 && status["sinks"]["a"]["state"] == "running";
    wait_for(client, "everything sent", all_sent).await["sinks"]["a"].clone()
}

/// The last count of each key on a topic.
pub fn counts(kafka: &Kafka, topic: &str) -> Vec<(String, i64)> {
    let of = |(_, sent): (String, super::messages::Sent)| {
        let count = sent.value.as_ref().unwrap()["values"]["v:n"].as_i64().unwrap();
        (sent.key["key"].as_str().unwrap().to_string(), count)
    };
    newest(&all(kafka, topic)).into_iter().map(of).collect()
}

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|key| format!("k{key:05}"))
}

/// A sink that is new, or that publishes something else now, sends every entity, also those whose events came long before.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_begins_with_everything() {
    let kafka = Kafka::shared();
    let topic = compacted(kafka, "new");
    let folder = with_sink(&kafka.address(), "");
    let server = Server::start(folder.path()).await;
    push(&server.client().await, keys(1_000), (1.0, now() - 1)).await;
    // What is filtered out changes nothing.
    push(&server.client().await, (0..5).map(|key| format!("filtered{key}")), (-1.0, now() - 1)).await;
    server.terminate();
    redefine(folder.path(), &format!("{DEFINITIONS}{}", sink(&topic, "every = \"1ms\"")));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    sent(&client).await;
    let found = counts(kafka, &topic);
    assert!(found.len() == 1_000 && found.iter().all(|(_, count)| *count == 1), "{} keys", found.len());
    push(&client, keys(3).chain(["filtered0".to_string()]), (1.0, now() - 1)).await;
    push(&client, (7..9).map(|key| format!("filtered{key}")), (-1.0, now() - 1)).await;
    let status = sent(&client).await;
    assert_eq!(status["messages"], 1_004, "one for each that has changed: {status}");
    // After a restart nothing is sent that was sent.
    server.terminate();
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let status = sent(&client).await;
    assert_eq!((&status["messages"], all(kafka, &topic).len()), (&json!(0), 1_004), "{status}");
    // Other values are other messages.
    server.terminate();
    let changed = DEFINITIONS.replace("sum(x)", "sum(x * 2)");
    redefine(folder.path(), &format!("{changed}{}", sink(&topic, "every = \"1ms\"")));
    let server = Server::start(folder.path()).await;
    sent(&server.client().await).await;
    let sent = all(kafka, &topic);
    assert_eq!(sent.len(), 2_005);
    let doubled = |total: &Json| total == &json!(2.0) || total == &json!(4.0);
    let newest = newest(&sent);
    assert!(newest.values().all(|sent| doubled(&sent.value.as_ref().unwrap()["values"]["v:total"])));
}

/// A view that is derived anew may have other values: everything is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_back_fill_sends_everything() {
    let kafka = Kafka::shared();
    let topic = compacted(kafka, "again");
    let folder = with_sink(&kafka.address(), &sink(&topic, "every = \"1ms\""));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    push(&client, keys(30), (1.0, now() - 1)).await;
    sent(&client).await;
    let before = all(kafka, &topic).len();
    let back_fill = std::process::Command::new(tidemill_tests::server::binary())
        .args(["--server", &server.address, "backfill", "v", "--quiet"])
        .output()
        .unwrap();
    assert!(back_fill.status.success(), "{}", String::from_utf8_lossy(&back_fill.stderr));
    wait_for(&client, "sending everything", |status| status["sinks"]["a"]["messages"] == before + 30).await;
    sent(&client).await;
    let found = counts(kafka, &topic);
    assert!(found.len() == 30 && found.iter().all(|(_, count)| *count == 1), "{found:?}");
}

/// Changes within `every` are one message; what waits is sent by the next start.
#[tokio::test(flavor = "multi_thread")]
async fn changes_within_a_time_are_one_message() {
    let kafka = Kafka::shared();
    let topic = compacted(kafka, "every");
    let folder = with_sink(&kafka.address(), &sink(&topic, "every = \"1h\""));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    sent(&client).await;
    // Once something is sent that has just changed, the sink rests for an hour.
    let (mut pushed, mut before) = (0, Json::Null);
    while before["lag"].as_u64().unwrap_or(0) < 50 {
        assert!(pushed < 2_000, "it does not rest: {before}");
        push(&client, keys(1), (1.0, now() - 1)).await;
        pushed += 1;
        before = status(&client).await["sinks"]["a"].clone();
    }
    server.kill();
    let server = Server::start(folder.path()).await;
    sent(&server.client().await).await;
    assert_eq!(counts(kafka, &topic), [("k00000".to_string(), pushed)]);
    // Of those that waited, some may have been on their way just then.
    let messages = all(kafka, &topic).len() as i64;
    assert!(messages <= pushed - 50 + 5, "{messages} messages of {pushed} events");
}

/// An event that is dated ahead counts from its time on, and then a message says so; a kill in between forgets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn events_dated_ahead_are_sent_in_their_time() {
    let kafka = Kafka::shared();
    let topic = compacted(kafka, "ahead");
    let folder = with_sink(&kafka.address(), &sink(&topic, "every = \"10ms\""));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    push(&client, keys(2), (1.0, now() - 1)).await;
    let ahead = now() + 4_000_000;
    push(&client, keys(3), (1.0, ahead)).await;
    sent(&client).await;
    // The first of them has something that is not dated ahead, too.
    push(&client, keys(1), (1.0, now() - 1)).await;
    sent(&client).await;
    let before: Vec<_> = all(kafka, &topic).into_iter().filter(|sent| sent.time().unwrap() <= ahead).collect();
    assert!(before.iter().all(|sent| sent.key["key"] != "k00002"), "it has nothing yet that counts");
    server.kill();
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let expected: Vec<(String, i64)> = keys(3).zip([3, 2, 1]).collect();
    for _ in 0..6_000 {
        if now() > ahead && counts(kafka, &topic) == expected {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(counts(kafka, &topic), expected);
    let last = newest(&all(kafka, &topic));
    assert!(last.values().all(|sent| sent.time().unwrap() > ahead), "after {}: {last:?}", rfc3339(ahead));
    sent(&client).await;
}

/// More changed keys than there is room for, while the broker is silent: the sink goes on from the log.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_keys_come_from_the_log() {
    let kafka = Kafka::start(&Default::default());
    let topic = compacted(&kafka, "many");
    let folder = with_sink(&kafka.address(), &sink(&topic, "every = \"1ms\""));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    push(&client, keys(1), (1.0, now() - 1)).await;
    sent(&client).await;
    kafka.pause();
    push(&client, keys(1), (1.0, now() - 1)).await;
    // Each some 60 kB, together more than the room for keys.
    let long = |key: usize| format!("{key:05}{}", "x".repeat(60_000));
    let count = tidemill::limits::SINK_KEYS_BYTES / 60_000 + 40;
    for from in (0..count).step_by(40) {
        push(&client, (from..count.min(from + 40)).map(long), (1.0, now() - 1)).await;
    }
    let says = |status: &Json| status["sinks"]["a"]["state"].as_str().unwrap().contains("do not acknowledge");
    let status = wait_for(&client, "saying that it waits", says).await;
    assert!(status["sinks"]["a"]["lag"].as_u64().unwrap() >= count as u64, "{status}");
    assert!(status["sinks"]["a"]["last_error"].as_str().unwrap().contains("E1080"), "{status}");
    kafka.resume();
    sent(&client).await;
    let found = counts(&kafka, &topic);
    assert_eq!((found.len(), found[count].1), (count + 1, 2), "{} keys", found.len());
    // From here on it is told again what changes.
    push(&client, keys(1), (1.0, now() - 1)).await;
    sent(&client).await;
    assert_eq!(counts(&kafka, &topic)[count].1, 3);
}
