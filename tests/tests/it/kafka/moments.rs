//! When events of a topic could be read, events that are in a history too, and a log that takes no hole.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use tidemill::components::Server as Engine;
use tidemill::source::{Decoded, Decoder, json};
use tidemill_client::{Client, v1};
use tidemill_features::definitions::{DefinitionFile, check};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Message, Redis, RedisKind, RedisOptions};
use tokio_stream::StreamExt;

use super::world::{Event, consumed, get, reading, start, state_says, status, twin, values, wait_for};
use crate::bad_input::Mounted;

/// The number of events of ten years before each row's time, by an export.
async fn exported(client: &Client, folder: &std::path::Path, name: &str, visibility: v1::Visibility) -> Vec<i64> {
    let mut request = v1::ExportRequest {
        features: vec!["v:n_3650d".into()],
        spine: folder.join("spine.csv").display().to_string(),
        time_column: "at".into(),
        out: folder.join(name).display().to_string(),
        ..v1::ExportRequest::default()
    };
    request.set_visibility(visibility);
    let mut steps = client.export(request).await.unwrap();
    let mut files = Vec::new();
    while let Some(step) = steps.next().await {
        files.extend(step.unwrap().result.into_iter().flat_map(|result| result.files));
    }
    let files: Vec<serde_json::Value> = files.into_iter().map(serde_json::Value::String).collect();
    let rows = crate::histories::rows_of(&files);
    rows.column_by_name("v__n_3650d").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

/// Training sees of a topic what a read at that moment saw: no event before it was applied, however early it was produced. It is
/// written in transactions, whose markers are no events: they are never waited for.
#[tokio::test(flavor = "multi_thread")]
async fn training_sees_what_serving_saw() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    training_sees("").await;
    training_sees(&format!("store = \"redis\"\n[redis]\naddress = \"{}\"\n", redis.address())).await;
}

async fn training_sees(settings: &str) {
    let kafka = Kafka::shared();
    let topic = topic_name("moments");
    kafka.create_topic(&topic, 1, &[]);
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let path = project.path().join("tidemill.toml");
    std::fs::write(&path, format!("{settings}{}", std::fs::read_to_string(&path).unwrap())).unwrap();
    let producer = kafka.transactional(&topic);
    let produce = |messages: &[Message]| {
        producer.begin();
        producer.send(&topic, messages);
        producer.commit();
    };
    // An amount that the view's filter takes.
    let ids: Vec<u64> = (0..100).filter(|id| id * 37 % 1_000 > 60).collect();
    let messages = |ids: &[u64]| ids.iter().map(|id| Event::new(*id, 0, 0).message()).collect::<Vec<_>>();
    produce(&messages(&ids[..30]));
    let (server, client) = start(project.path()).await;
    consumed(&client, 30).await;
    let first = get(&client, 1).await.read_time;
    server.kill();
    // Produced now, applied later.
    produce(&messages(&ids[30..50]));
    let (_server, client) = start(project.path()).await;
    consumed(&client, 50).await;
    let second = get(&client, 1).await.read_time;
    let time = tidemill_features::time::rfc3339;
    let spine = format!("card,at\nc0,{}\nc0,{}\n", time(first), time(second));
    std::fs::write(project.path().join("spine.csv"), spine).unwrap();
    let seen = exported(&client, project.path(), "served", v1::Visibility::Served).await;
    assert_eq!(seen, [30, 50]);
    let known = exported(&client, project.path(), "known", v1::Visibility::EventTime).await;
    assert_eq!(known, [50, 50]);
    wait_for(&client, "not behind", |status| status["sources"]["tx"]["lag"] == 0).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(get(&client, 1).await.stale.is_empty(), "it is at its end, and max_lag has passed");
}

/// Events that are both in the history and in the topic count once.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_and_a_topic_overlap() {
    let kafka = Kafka::shared();
    let topic = topic_name("overlap");
    kafka.create_topic(&topic, 1, &[]);
    let project = reading(
        &kafka.address(),
        &format!("topic = \"{topic}\""),
        "history = \"lake/*.ndjson\"\ndedup_horizon = \"3650d\"",
    );
    let events: Vec<Event> = (0..60).map(|id| Event::new(id, id as u32 % 4, 0)).collect();
    let lines: Vec<String> = events.iter().map(Event::json).collect();
    std::fs::create_dir(project.path().join("lake")).unwrap();
    std::fs::write(project.path().join("lake/a.ndjson"), lines[..40].join("\n")).unwrap();
    kafka.produce(&topic, &events[20..].iter().map(Event::message).collect::<Vec<_>>());
    let (_server, client) = start(project.path()).await;
    let shown = consumed(&client, 80).await;
    assert_eq!(shown["sources"]["tx"]["positions"]["0"], 40);
    wait_for(&client, "loaded", |status| status["sources"]["tx"]["history"]["state"] == "loaded").await;
    assert_eq!(values(&client, 4).await, twin(&lines, 4).await.0);
    // What `where` leaves out leaves no id behind.
    let twice = (20..40).filter(|id| id * 37 % 1_000 >= 50).count();
    assert_eq!(status(&client).await["views"]["v"]["duplicate"], twice);
}

/// A disk that is full: nothing is lost, the source waits and says so, and goes on when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_the_source_wait() {
    let kafka = Kafka::shared();
    let topic = topic_name("full");
    kafka.create_topic(&topic, 1, &[]);
    let project = reading(&kafka.address(), &format!("topic = \"{topic}\""), "");
    let data = project.path().join("data");
    let _small = Mounted::new(&data, "size=96m");
    let events: Vec<Event> = (0..3_000).map(|id| Event::new(id, id as u32 % 7, 0)).collect();
    let messages: Vec<_> = events.iter().map(Event::message).collect();
    kafka.produce(&topic, &messages[..1_000]);
    let (_server, client) = start(project.path()).await;
    consumed(&client, 1_000).await;
    let ballast = data.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    kafka.produce(&topic, &messages[1_000..]);
    state_says(&client, "disk full").await;
    std::fs::remove_file(&ballast).unwrap();
    drop(file);
    consumed(&client, 3_000).await;
    let lines: Vec<String> = events.iter().map(Event::json).collect();
    assert_eq!(values(&client, 7).await, twin(&lines, 7).await.0);
}

/// Events whose offsets do not follow those in the log are refused: to take them would leave a hole.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_takes_no_hole() {
    let text = "[source.s]\nconnector = 'kafka'\ntopic = 't'\nevent_time = 'at'\nfields = { at = 'timestamp[ms]' }\n";
    let registry = check(&[DefinitionFile { path: "a.toml".into(), text: text.into() }]).unwrap();
    let source = registry.sources[0].clone();
    let folder = tempfile::tempdir().unwrap();
    let (engine, threads) = Engine::open(registry, folder.path()).unwrap();
    let events = |at: &[u64], to: u64| -> Decoded {
        let mut decoder = Decoder::new(source.clone(), Arc::default(), 1_000_000);
        for index in at {
            decoder.skip_to(*index);
            json::decode(br#"{"at":1}"#, &mut decoder);
        }
        decoder.skip_to(to);
        decoder.finish()
    };
    let send = async |begins: u64, decoded: Decoded| match engine
        .ingest
        .enqueue_at((0, 7, begins), 1_000_000, decoded)
        .await
    {
        Ok(reply) => reply.await.map(|receipt| receipt.next_offset).map_err(|failure| failure.code),
        Err(failure) => Err(failure.code),
    };
    // The first events stand at 5 and 9, and what lies around them is nothing.
    assert_eq!(send(0, events(&[5, 9], 12)).await, Ok(12));
    assert_eq!(send(13, events(&[0], 1)).await, Err("E1051"));
    assert_eq!(send(11, events(&[0], 1)).await, Err("E1051"));
    assert_eq!(send(12, events(&[3], 4)).await, Ok(16));
    for _ in 0..500 {
        if engine.memory.read().positions.get(&(0, 7)) == Some(&16) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ledger = engine.memory.read().sources[0];
    assert_eq!((ledger.consumed, ledger.accepted, engine.ingest.pending[0].events()), (3, 3, 0));
    engine.stop();
    drop(engine);
    threads.join();
}
