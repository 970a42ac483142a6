//! Topics that are missing or not compacted, brokers that are away, files that are damaged, roles that cannot publish: each is said,
//! and nothing else stops.

use std::process::Command;

use serde_json::Value as Json;
use tidemill_client::v1;
use tidemill_tests::server::{Server, binary, free_port, ndjson};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Redis, RedisKind, RedisOptions};

use super::life::{compacted, counts, now, push, sent, sink, with_sink};
use super::messages::all;
use crate::kafka::world::{project, wait_for};

fn says<'t>(key: &'t str, text: &'t str) -> impl Fn(&Json) -> bool + 't {
    move |status| status["sinks"]["a"][key].as_str().is_some_and(|said| said.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_come_later() {
    let kafka = Kafka::shared();
    let topic = topic_name("later");
    let folder = with_sink(&kafka.address(), &sink(&topic, ""));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    wait_for(&client, "naming the topic", says("state", "waiting: E1081")).await;
    let told = wait_for(&client, "naming the topic", says("state", "create it, with cleanup.policy=compact")).await;
    assert!(told["sinks"]["a"]["state"].as_str().unwrap().contains(&topic), "{told}");
    push(&client, ["k".to_string()].into_iter(), (1.0, now() - 1)).await;
    kafka.create_topic(&topic, 1, &[("cleanup.policy", "delete")]);
    let status = sent(&client).await;
    assert!(status["warning"].as_str().unwrap().contains("E1082"), "{status}");
    assert_eq!(counts(kafka, &topic), [("k".to_string(), 1)]);
    // A topic that is deleted and made anew gets everything again, whichever entity changes next.
    kafka.delete_topic(&topic);
    push(&client, ["other".to_string()].into_iter(), (1.0, now() - 1)).await;
    wait_for(&client, "missing the topic", says("state", "waiting: ")).await;
    kafka.create_topic(&topic, 1, &[("cleanup.policy", "compact,delete")]);
    sent(&client).await;
    wait_for(&client, "content with the topic", |status| status["sinks"]["a"]["warning"] == Json::Null).await;
    let both = [("k".to_string(), 1), ("other".to_string(), 1)];
    for _ in 0..3_000 {
        if counts(kafka, &topic) == both {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(counts(kafka, &topic), both);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_may_be_away() {
    let address = format!("127.0.0.1:{}", free_port());
    let folder = with_sink(&address, &sink("nowhere", ""));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    push(&client, ["k".to_string()].into_iter(), (1.0, now() - 1)).await;
    let status = wait_for(&client, "naming the brokers", says("state", "waiting: E1080")).await;
    assert!(status["sinks"]["a"]["state"].as_str().unwrap().contains(&address), "{status}");
    assert_eq!((&status["sinks"]["a"]["lag"], &status["sources"]["s"]["lag"]), (&1.into(), &0.into()));
    let output = Command::new(binary()).args(["--server", &server.address, "status"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("tombstones") && shown.contains("E1080"), "{shown}");
    let listed =
        Command::new(binary()).args(["--server", &server.address, "show", "sink/a", "--json"]).output().unwrap();
    let shown: Json = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(
        (&shown["publishes"]["name"], &shown["every"], &shown["keys"][0]),
        (&"v".into(), &"100ms".into(), &"key".into())
    );
    assert_eq!(shown["features"], serde_json::json!(["v:n", "v:total"]));
    assert_eq!(server.terminate(), Some(0), "it ends all the same");
}

/// A message that is too large is named, and sent once it may be so large.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_too_large() {
    let kafka = Kafka::shared();
    let topic = compacted(kafka, "large");
    let definitions = "[source.s]\nconnector = \"push\"\nevent_time = \"at\"\n\
        fields = { key = \"string\", x = \"string\", at = \"timestamp[us]\" }\n[entity.e]\nkey = \"key\"\n[view.v]\nentity = \"e\"\n\
        source = \"s\"\n[view.v.features]\nn = { agg = \"count()\" }\nlast = { agg = \"last_k(x, 4)\" }\n";
    let folder = project(&kafka.address(), &format!("{definitions}{}", sink(&topic, "")));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let text = "y".repeat(400_000);
    for _ in 0..4 {
        let line = serde_json::json!({ "key": "large", "x": text, "at": now() - 1 }).to_string();
        client.push(ndjson("s", line, v1::Wait::Readable)).await.unwrap();
    }
    let status = wait_for(&client, "naming what is too large", says("state", "waiting: E1080")).await;
    let state = status["sinks"]["a"]["state"].as_str().unwrap();
    assert!(state.contains("message.max.bytes") && state.contains("{\"key\":\"large\"}"), "{state}");
    server.terminate();
    kafka.configure_topic(&topic, &[("max.message.bytes", "4000000"), ("cleanup.policy", "compact")]);
    let settings = std::fs::read_to_string(folder.path().join("tidemill.toml")).unwrap();
    let larger = format!("{settings}properties = {{ \"message.max.bytes\" = \"4000000\" }}\n");
    std::fs::write(folder.path().join("tidemill.toml"), larger).unwrap();
    let server = Server::start(folder.path()).await;
    sent(&server.client().await).await;
    assert_eq!(counts(kafka, &topic), [("large".to_string(), 4)]);
}

/// A file that cannot be used is no loss: everything is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_sends_everything() {
    let kafka = Kafka::shared();
    let topic = compacted(kafka, "damaged");
    let folder = with_sink(&kafka.address(), &sink(&topic, "every = \"1ms\""));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    push(&client, (0..20).map(|key| format!("k{key}")), (1.0, now() - 1)).await;
    sent(&client).await;
    server.terminate();
    let file = folder.path().join("data/files/sinks/a.json");
    let mut text = std::fs::read(&file).unwrap();
    let at = text.windows(8).position(|window| window == b"\"byte\": ").unwrap() + 8;
    text[at] = if text[at] == b'9' { b'8' } else { b'9' };
    std::fs::write(&file, text).unwrap();
    let before = all(kafka, &topic).len();
    let server = Server::start(folder.path()).await;
    let status = sent(&server.client().await).await;
    assert_eq!((&status["messages"], all(kafka, &topic).len()), (&20.into(), before + 20), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_publish_says_so() {
    let folder = with_sink("", &sink("nowhere", ""));
    let said = Server::try_start(folder.path()).await.err().expect("there are no brokers");
    assert!(said.contains("E5040") && said.contains("sink `a` writes to Kafka"), "{said}");

    let (kafka, redis) = (Kafka::shared(), Redis::start(RedisKind::Debian, &RedisOptions::default()));
    let topic = compacted(kafka, "roles");
    let folder = with_sink(&kafka.address(), &sink(&topic, ""));
    let settings = std::fs::read_to_string(folder.path().join("tidemill.toml")).unwrap();
    let store = format!("store = \"redis\"\n[redis]\naddress = \"{}\"\n{settings}", redis.address());
    std::fs::write(folder.path().join("tidemill.toml"), store).unwrap();
    let start = |role| Server::try_start_as(folder.path(), role, ("error", std::process::Stdio::piped()));
    let said = start(&["--role", "ingest"]).await.err().expect("a group has no log");
    assert!(said.contains("E5054") && said.contains("sink `a`"), "{said}");
    let server = start(&["--role", "serve"]).await.unwrap_or_else(|said| panic!("{said}"));
    wait_for(&server.client().await, "leaving the sink to others", says("state", "not run by this process")).await;
}
