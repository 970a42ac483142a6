//! A process that only reads, beside the one that owns everything: it says how old its answers are, and needs no more of Redis than
//! reads do.

use std::process::Stdio;
use std::time::Duration;

use tidemill_client::{Client, texts, v1};
use tidemill_tests::server::{Server, ndjson, project};
use tidemill_tests::services::{Redis, RedisKind, RedisOptions};

use super::world::{DEFINITIONS, configure};

/// The value of a key and whether it is said to be stale, once both are so.
async fn until(client: &Client, wanted: (i64, bool)) {
    let mut last = String::new();
    for _ in 0..600 {
        let keys = [("key".to_string(), texts(["k"]))].into();
        let request = v1::GetRequest { features: vec!["v:n".into()], keys, ..v1::GetRequest::default() };
        match client.get(request).await {
            Ok(answer) => {
                let found = (super::world::ints(&answer.columns[0])[0], !answer.stale.is_empty());
                if found == wanted {
                    return;
                }
                last = format!("{found:?}");
            }
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{wanted:?} is not answered within half a minute: {last}, {:?}", client.status().await);
}

async fn push(client: &Client, id: i64) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
    let line = format!("{{\"id\":{id},\"key\":\"k\",\"x\":1,\"at\":{}}}\n", now - 1_000_000);
    client.push(ndjson("s", line, v1::Wait::Readable)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_knows_how_the_owner_is() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let definitions = DEFINITIONS.replace("connector = \"push\"", "connector = \"push\"\nmax_lag = \"2s\"");
    let [owners, readers, late] = [0; 3].map(|_| {
        let folder = project(&definitions);
        configure(folder.path(), &redis.address(), "timeout = \"500ms\"");
        folder
    });
    let owner = Server::start(owners.path()).await;
    push(&owner.client().await, 1).await;
    let serve = async |folder: &std::path::Path| {
        Server::try_start_as(folder, &["--role", "serve"], ("error", Stdio::piped())).await.unwrap()
    };
    let reader = serve(readers.path()).await;
    let client = reader.client().await;
    until(&client, (1, false)).await;
    // Nobody owns anything any more: what is there is served, and grows old.
    owner.kill();
    until(&client, (1, true)).await;
    let owner = Server::start(owners.path()).await;
    push(&owner.client().await, 2).await;
    until(&client, (2, false)).await;
    // Readers are wanted most when nothing can be written.
    redis.configure("maxmemory", "1");
    let late = serve(late.path()).await;
    until(&late.client().await, (2, true)).await;
    redis.configure("maxmemory", "0");
    until(&late.client().await, (2, false)).await;
}

const LONG: &str = r#"
[source.s]
connector = "push"
event_time = "at"
fields = { key = "string", text = "string", at = "timestamp[us]" }
[entity.e]
key = "key"
[view.v]
entity = "e"
source = "s"
features = { newest = { agg = "last(text)" }, n = { agg = "count()", window = "lifetime" } }
"#;

/// A read of more than the 256 MB that one may fetch is refused; less of it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_for_one_read_is_refused() {
    const KEYS: usize = 300;
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let folder = project(LONG);
    configure(folder.path(), &redis.address(), "");
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let text = "x".repeat(1_000_000);
    for keys in (0..KEYS).collect::<Vec<_>>().chunks(10) {
        let line = |key: &usize| format!("{{\"key\":\"k{key}\",\"text\":\"{text}\",\"at\":1700000000000000}}\n");
        let lines: String = keys.iter().map(line).collect();
        let pushed = client.push(ndjson("s", lines, v1::Wait::Readable)).await.unwrap();
        assert_eq!(pushed.accepted, keys.len() as u64);
    }
    let get = async |keys: usize| {
        let keys = [("key".to_string(), texts((0..keys).map(|key| format!("k{key}"))))].into();
        client.get(v1::GetRequest { features: vec!["v:n".into()], keys, ..v1::GetRequest::default() }).await
    };
    let refused = get(KEYS).await.unwrap_err();
    assert!(refused.code == "E2062" && refused.message.contains("fewer keys"), "{refused}");
    let answer = get(KEYS / 2).await.unwrap();
    assert_eq!(super::world::ints(&answer.columns[0]), vec![1; KEYS / 2]);
}
