//! Brokers that are away, refuse, or have no such topic: the server starts, says what is wrong, and goes on when it is right.

use std::process::Command;

use tidemill_tests::server::{Server, binary, free_port};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, KafkaOptions};

use super::world::{Event, consumed, get, reading, start, state_says, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_come_later() {
    let kafka = Kafka::shared();
    let topic = topic_name("later");
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let (_server, client) = start(project.path()).await;
    state_says(&client, &format!("waiting: topic `{topic}` does not exist at {}", kafka.address())).await;
    assert_eq!(get(&client, 1).await.stale, ["tx"]);
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &[Event::new(1, 0, 0).message()]);
    consumed(&client, 1).await;
    let lag = |status: &serde_json::Value| {
        status["sources"]["tx"]["state"] == "running" && status["sources"]["tx"]["lag"] == 0
    };
    wait_for(&client, "running", lag).await;
    // What is at the end of its topics is not stale, and a broker that is silent makes it so.
    for _ in 0..500 {
        if get(&client, 1).await.stale.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(get(&client, 1).await.stale.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_makes_answers_stale() {
    let kafka = Kafka::start(&KafkaOptions::default());
    let topic = topic_name("away");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &[Event::new(1, 0, 0).message()]);
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let (server, client) = start(project.path()).await;
    consumed(&client, 1).await;
    let stale = async |wanted: bool| {
        for _ in 0..3_000 {
            if get(&client, 1).await.stale.is_empty() != wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("stale is still not {wanted}");
    };
    stale(false).await;
    // It answers nobody, and its connections stay.
    kafka.pause();
    stale(true).await;
    kafka.resume();
    stale(false).await;
    kafka.kill();
    state_says(&client, &format!("waiting: no broker can be reached at {}", kafka.address())).await;
    stale(true).await;
    // A start without any broker serves what there is.
    server.terminate();
    let (_server, client) = start(project.path()).await;
    assert_eq!(get(&client, 1).await.stale, ["tx"]);
    state_says(&client, &kafka.address()).await;
    kafka.restart();
    kafka.produce(&topic, &[Event::new(2, 0, 0).message()]);
    consumed(&client, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_said_without_showing_them() {
    let kafka = Kafka::start(&KafkaOptions { tls: true, ..KafkaOptions::default() });
    let topic = topic_name("secret");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &[Event::new(1, 0, 0).message()]);
    let project = reading(&kafka.tls().sasl, &format!("topic = \"{topic}\""), "");
    let secret = project.path().join("secret");
    let settings = |user: &str| {
        format!(
            "[kafka]\nbrokers = \"{}\"\nsecurity_protocol = \"sasl_plaintext\"\nsasl_mechanism = \"PLAIN\"\n\
             username = \"${{file:{}}}\"\npassword = \"${{file:{}}}\"\n",
            kafka.tls().sasl,
            user,
            secret.display()
        )
    };
    let user = project.path().join("user");
    std::fs::write(&user, &kafka.tls().user).unwrap();
    std::fs::write(&secret, "canary-of-a-password").unwrap();
    std::fs::write(project.path().join("tidemill.toml"), settings(&user.display().to_string())).unwrap();
    let (server, client) = start(project.path()).await;
    let shown = state_says(&client, &kafka.tls().sasl).await;
    let shown = match shown["sources"]["tx"]["state"].as_str().unwrap().contains("redential") {
        true => shown,
        false => state_says(&client, "uthentication").await,
    };
    assert!(!shown.to_string().contains("canary"), "{shown}");
    let words = server.last_words();
    assert!(!words.contains("canary"), "{words}");
    std::fs::write(&secret, &kafka.tls().secret).unwrap();
    let (_server, client) = start(project.path()).await;
    consumed(&client, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_refused_at_start() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let project = reading(&nowhere, "topic = \"t\"", "");
    let settings = project.path().join("tidemill.toml");
    for (text, code, says) in [
        (String::new(), "E5040", "set kafka.brokers"),
        ("[kafka]\nbroker = \"a:1\"\n".to_string(), "E5004", "kafka.brokers"),
        (format!("[kafka]\nbrokers = \"{nowhere}\"\npassword = \"plain\"\n"), "E5030", "kafka.password"),
        (
            format!("[kafka]\nbrokers = \"{nowhere}\"\nproperties = {{ \"fetch.min.bytes\" = \"no\" }}\n"),
            "E5041",
            "fetch.min.bytes",
        ),
        (
            format!("[kafka]\nbrokers = \"{nowhere}\"\nproperties = {{ \"auto.offset.reset\" = \"latest\" }}\n"),
            "E5002",
            "never skipped",
        ),
    ] {
        std::fs::write(&settings, &text).unwrap();
        let refused = Server::try_start(project.path()).await.err().expect("it does not start");
        assert!(refused.contains(code) && refused.contains(says), "{text}: {refused}");
    }
    // Brokers that are away are no reason not to serve.
    std::fs::write(&settings, format!("[kafka]\nbrokers = \"{nowhere}\"\n")).unwrap();
    let (server, client) = start(project.path()).await;
    state_says(&client, &nowhere).await;
    let resumed =
        Command::new(binary()).args(["--server", &server.address, "source", "resume", "tx"]).output().unwrap();
    assert_eq!(resumed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&resumed.stderr).contains("--accept-loss"));
}
