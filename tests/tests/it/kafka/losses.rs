//! What is lost halts its source with the range, and nothing else; somebody has to give it up before it goes on.

use serde_json::json;
use tidemill_client::Client;
use tidemill_tests::services::Kafka;
use tidemill_tests::services::kafka::topic_name;

use super::world::{Event, consumed, get, reading, start, state_says, status};

async fn produce(kafka: &Kafka, topic: &str, ids: std::ops::Range<u64>) {
    let messages: Vec<_> = ids.map(|id| Event::new(id, id as u32 % 5, 0).message()).collect();
    kafka.produce(topic, &messages);
}

/// Refused without the word, then resumed; what was given up comes back.
async fn resume(client: &Client) -> serde_json::Value {
    let refused = client.resume_source("tx", false).await.unwrap_err();
    assert_eq!(refused.code, "E1055", "{refused:?}");
    let given_up = client.resume_source("tx", true).await.unwrap().given_up;
    let ranges: Vec<_> = given_up.iter().map(|lost| json!([lost.partition, lost.from, lost.to])).collect();
    json!(ranges)
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_passes_the_position_halts() {
    let kafka = Kafka::shared();
    let topic = topic_name("retained");
    kafka.create_topic(&topic, 1, &[]);
    produce(kafka, &topic, 0..10).await;
    kafka.delete_records(&topic, 0, 4);
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let (server, client) = start(project.path()).await;
    // What was gone before the source began is told, and no reason to halt.
    let shown = consumed(&client, 6).await;
    let begun = &shown["sources"]["tx"]["kafka"]["given_up"][0];
    assert_eq!((&begun["from"], &begun["to"]), (&json!(0), &json!(4)), "{shown}");
    assert_eq!(client.resume_source("tx", true).await.unwrap_err().code, "E1056");
    server.terminate();
    produce(kafka, &topic, 10..30).await;
    kafka.delete_records(&topic, 0, 25);

    let (server, client) = start(project.path()).await;
    let shown = state_says(&client, "stopped: E1052: offsets 10 to 24").await;
    assert_eq!(shown["sources"]["tx"]["consumed"], 6);
    assert_eq!(get(&client, 5).await.stale, ["tx"], "what is there is served, as stale");
    // A new start forgets nothing of it.
    server.kill();
    let (server, client) = start(project.path()).await;
    state_says(&client, "tidemill source resume tx --accept-loss").await;
    assert_eq!(resume(&client).await, json!([[0, 10, 25]]));
    consumed(&client, 11).await;
    server.kill();
    produce(kafka, &topic, 30..31).await;
    let (_server, client) = start(project.path()).await;
    let shown = consumed(&client, 12).await;
    let lost = &shown["sources"]["tx"]["kafka"]["given_up"][1];
    assert_eq!((&lost["topic"], &lost["from"], &lost["to"]), (&json!(topic), &json!(10), &json!(25)));
    assert_eq!(shown["sources"]["tx"]["positions"]["0"], 31);
}

/// The last offsets of a partition may be markers of transactions. They are never read, and nothing is lost when they go.
#[tokio::test(flavor = "multi_thread")]
async fn markers_that_retention_removes_are_no_loss() {
    let kafka = Kafka::shared();
    let topic = topic_name("markers");
    kafka.create_topic(&topic, 1, &[]);
    let producer = kafka.transactional(&topic);
    let messages: Vec<_> = (0..10).map(|id| Event::new(id, 0, 0).message()).collect();
    for is_kept in [true, false] {
        producer.begin();
        producer.send(&topic, &messages);
        if is_kept { producer.commit() } else { producer.abort() }
    }
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let (server, client) = start(project.path()).await;
    consumed(&client, 10).await;
    let notes = project.path().join("data/files/tx.kafka.json");
    for _ in 0..1_000 {
        let noted = std::fs::read_to_string(&notes).unwrap_or_default();
        if noted.contains("\"begun\": 22") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    server.kill();
    kafka.delete_records(&topic, 0, 22);
    let (_server, client) = start(project.path()).await;
    kafka.produce(&topic, &[Event::new(10, 0, 0).message()]);
    let shown = consumed(&client, 11).await;
    assert_eq!(shown["sources"]["tx"]["kafka"]["given_up"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_halts() {
    let kafka = Kafka::shared();
    // With fewer records than before, and with more: the latter differs by what is in it alone.
    for (case, count) in [("fewer", 3), ("more", 40)] {
        let topic = topic_name(case);
        kafka.create_topic(&topic, 1, &[]);
        produce(kafka, &topic, 0..20).await;
        let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
        let (server, client) = start(project.path()).await;
        consumed(&client, 20).await;
        server.kill();
        kafka.make_anew(&topic, 1);
        produce(kafka, &topic, 100..100 + count).await;
        let (server, client) = start(project.path()).await;
        let shown = state_says(&client, "stopped: E1053").await;
        assert_eq!(shown["sources"]["tx"]["consumed"], 20, "{case}");
        assert_eq!(resume(&client).await, json!([[0, 20, null]]));
        let shown = consumed(&client, 20 + count).await;
        assert_eq!(shown["sources"]["tx"]["positions"], json!({"0": 20, "65536": count}), "{case}");
        // From now on the new one is the topic.
        server.kill();
        produce(kafka, &topic, 200..203).await;
        let (_server, client) = start(project.path()).await;
        consumed(&client, 23 + count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_while_it_is_read_halts() {
    let kafka = Kafka::shared();
    for (case, count) in [("live-fewer", 3), ("live-more", 40)] {
        let topic = topic_name(case);
        kafka.create_topic(&topic, 1, &[]);
        produce(kafka, &topic, 0..20).await;
        let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
        let (_server, client) = start(project.path()).await;
        consumed(&client, 20).await;
        kafka.make_anew(&topic, 1);
        produce(kafka, &topic, 100..100 + count).await;
        state_says(&client, "stopped: E1053").await;
        assert_eq!(status(&client).await["sources"]["tx"]["consumed"], 20, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_halts() {
    let kafka = Kafka::shared();
    let topic = topic_name("moved");
    kafka.create_topic(&topic, 1, &[]);
    produce(kafka, &topic, 0..5).await;
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let (server, client) = start(project.path()).await;
    consumed(&client, 5).await;
    server.terminate();
    let notes = project.path().join("data/files/tx.kafka.json");
    let text = std::fs::read_to_string(&notes).unwrap();
    let mut known: serde_json::Value = serde_json::from_str(&text).unwrap();
    known["cluster"] = json!("another");
    std::fs::write(&notes, known.to_string()).unwrap();
    let (_server, client) = start(project.path()).await;
    state_says(&client, "stopped: E1054").await;
    // The records are the same, so nothing is lost.
    assert_eq!(resume(&client).await, json!([]));
    produce(kafka, &topic, 5..7).await;
    consumed(&client, 7).await;
}
