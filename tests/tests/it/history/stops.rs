//! A history that cannot be loaded says why, and the stream goes on; what is changed behind its back is noticed.

use std::path::Path;
use std::time::Duration;

use tidemill_client::{Client, texts, v1};
use tidemill_tests::server::{Server, ndjson, project};

use super::run;

const DEFINITIONS: &str = "[source.s]\nconnector = 'push'\nevent_time = 'at'\nhistory = 'lake/*'\n\
    fields = { k = 'string', x = 'int64', at = 'timestamp' }\n\
    [entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\nn = { agg = 'count()' }\n";

/// What `status` says of the history once it does not go on.
async fn settled(client: &Client) -> v1::HistoryStatus {
    for _ in 0..3000 {
        let history = client.status().await.unwrap().sources["s"].history.clone().unwrap();
        if history.state != "loading" {
            return history;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the history neither ends nor stops");
}

/// The count of key `a`, and whether it is said to be stale.
async fn count(client: &Client) -> (i64, bool) {
    let keys = [("k".to_string(), texts(["a"]))].into();
    let request = v1::GetRequest { features: vec!["v:n".into()], keys, ..Default::default() };
    let answer = client.get(request).await.unwrap();
    match &answer.columns[0].values {
        Some(v1::column::Values::Int64s(values)) => (values.values[0], answer.stale == ["s"]),
        other => panic!("{other:?}"),
    }
}

/// Starts a server, pushes an event, and gives the history's status and the count with it.
async fn started(folder: &Path) -> (Server, v1::HistoryStatus, (i64, bool)) {
    let server = Server::start(folder).await;
    let client = server.client().await;
    let event = "{\"k\":\"a\",\"x\":1,\"at\":\"2026-01-01T00:00:00Z\"}\n".to_string();
    client.push(ndjson("s", event, v1::Wait::Readable)).await.unwrap();
    let history = settled(&client).await;
    let counted = count(&client).await;
    (server, history, counted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_cannot_be_loaded_says_why_and_the_stream_goes_on() {
    let folder = project(DEFINITIONS);
    let (path, lake) = (folder.path(), folder.path().join("lake"));
    let (server, history, counted) = started(path).await;
    assert!(history.state.starts_with("stopped: ") && history.state.contains("no file matches"), "{history:?}");
    assert_eq!(counted, (1, true), "what is missing makes answers stale");
    let output = run(&server, &["status"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("history of s: 0 rows, 0 of 0 files, stopped: "), "{shown}");
    assert_eq!(server.terminate(), Some(0));

    let rows = |from: usize, to: usize| -> String {
        (from..to).map(|n| format!("a,{n},2025-01-01T00:00:{:02}Z\n", n % 60)).collect()
    };
    std::fs::create_dir(&lake).unwrap();
    std::fs::write(lake.join("1.csv"), format!("k,x,at\n{}", rows(0, 70))).unwrap();
    std::fs::write(lake.join("2.parquet"), "PAR1 and then something else").unwrap();
    let (server, history, counted) = started(path).await;
    assert!(history.state.starts_with("stopped: ") && history.state.contains("2.parquet"), "{history:?}");
    assert_eq!((history.files_done, history.files, history.rows), (1, 2, 70));
    assert_eq!(counted, (72, true));
    assert_eq!(server.terminate(), Some(0));

    // Another file under a known name is not what was listed.
    let whole = format!("k,x,at\n{}", rows(0, 3));
    std::fs::write(lake.join("2.parquet"), &whole).unwrap();
    let (server, history, _) = started(path).await;
    assert!(history.state.contains(&format!("has {} bytes, but had 28", whole.len())), "{history:?}");
    assert_eq!(server.terminate(), Some(0));
    std::fs::remove_file(lake.join("2.parquet")).unwrap();
    let (server, history, counted) = started(path).await;
    assert!(history.state.contains("2.parquet: No such file"), "{history:?}");
    assert_eq!(counted, (74, true));
    assert_eq!(server.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_come_later_are_not_of_the_history() {
    let folder = project(DEFINITIONS);
    let (path, lake) = (folder.path(), folder.path().join("lake"));
    std::fs::create_dir(&lake).unwrap();
    let line = "{\"k\":\"a\",\"x\":1,\"at\":\"2025-01-01T00:00:00Z\"}\n";
    std::fs::write(lake.join("1.ndjson"), line.repeat(5) + "{broken\n" + line.trim()).unwrap();
    let (server, history, counted) = started(path).await;
    assert_eq!((history.state.as_str(), history.files_done, history.files, history.rows), ("loaded", 1, 1, 7));
    assert_eq!(counted, (7, false), "six good ones and a pushed one");
    let status = server.client().await.status().await.unwrap();
    assert_eq!(status.sources["s"].dead_lettered, 1);
    assert_eq!(server.terminate(), Some(0));
    std::fs::write(lake.join("0.ndjson"), line.repeat(100)).unwrap();
    std::fs::write(lake.join("1.ndjson"), line.repeat(100)).unwrap();
    let (server, history, counted) = started(path).await;
    assert_eq!((history.state.as_str(), history.files, history.rows), ("loaded", 1, 7));
    assert_eq!(counted, (8, false));
    let shown = run(&server, &["show", "source/s", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["history"]["path"], "lake/*");
    assert_eq!(server.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_the_fence_count_once_it_has_moved() {
    let fenced = |until: &str| DEFINITIONS.replace("'lake/*'", &format!("'lake/*'\nhistory_until = '{until}'"));
    let folder = project(&fenced("2026-06-01T00:00:00Z"));
    let (path, lake) = (folder.path(), folder.path().join("lake"));
    std::fs::create_dir(&lake).unwrap();
    let rows = "k,x,at\na,1,2026-02-01T00:00:00Z\na,2,2026-06-01T00:00:00Z\na,3,2025-12-01T00:00:00Z\n";
    std::fs::write(lake.join("1.csv"), rows).unwrap();
    let (server, history, counted) = started(path).await;
    assert_eq!((history.state.as_str(), history.rows), ("loaded", 3));
    assert_eq!(counted, (2, false), "one row is the stream's, one event the history's");
    let status = server.client().await.status().await.unwrap();
    let source = &status.sources["s"];
    assert_eq!((source.consumed, source.accepted, source.dead_lettered), (3, 2, 1));
    let listed = run(&server, &["dead-letters", "list", "--source", "s"]);
    let shown = String::from_utf8(listed.stdout).unwrap();
    assert!(shown.contains("E1004") && shown.contains("before history_until 2026-06-01"), "{shown}");
    assert_eq!(server.terminate(), Some(0));

    std::fs::write(path.join("features/test.toml"), fenced("2026-01-01T00:00:00Z")).unwrap();
    let server = Server::start(path).await;
    let client = server.client().await;
    let request = v1::DeadLettersRequest { source: "s".into(), limit: 10, ..Default::default() };
    let replayed = client.replay_dead_letters(request).await.unwrap();
    assert_eq!((replayed.accepted, replayed.dead_lettered), (1, 0));
    assert_eq!(count(&client).await, (3, false), "the history is as it was");
    assert_eq!(server.terminate(), Some(0));
}
