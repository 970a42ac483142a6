//! Two processes that both believe to own a store: the older one is fenced, and what it has not written it never writes.

use std::path::Path;
use std::time::Duration;

use tidemill_client::v1;
use tidemill_tests::server::{Server, ndjson};
use tidemill_tests::services::{Redis, RedisKind, RedisOptions};

use super::world::{DEFINITIONS, World, compare, configure, project, random};

fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let all = format!("{}/.", from.display());
    let copied = std::process::Command::new("cp").args(["-r", &all]).arg(to.path()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    to
}

/// The older one is stopped in the midst of its commits, and goes on when the younger one has taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_owners_the_older_one_is_fenced_and_writes_nothing_stale() {
    let mut random = random("two owners");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start(project(&redis.address(), "timeout = \"300ms\""), &mut random).await;
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(200)).await).await;
    world.settle().await;
    // A copy of the data directory, as a restored backup would be.
    assert_eq!(world.server.take().and_then(Server::terminate), Some(0));
    let younger = copied(world.project.path());
    let older = Server::start(world.project.path()).await;
    let client = older.client().await;
    // One that has not claimed yet would be the younger one.
    while !client.status().await.unwrap().ready {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let line = |id: i64| {
        format!("{{\"id\":{id},\"key\":\"k{}\",\"x\":999999,\"at\":{}}}\n", id % 40, 1_700_000_000_000_000i64)
    };
    let flood: String = (1_000_000..1_020_000).map(line).collect();
    let flooding = tokio::spawn(async move { client.push(ndjson("s", flood, v1::Wait::None)).await });
    tokio::time::sleep(Duration::from_millis(random.below(30))).await;
    older.pause();
    // What of the flood was committed before that is gone with it: the store goes back to what both agree on.
    redis.cli(&["flushall"]);
    let _older = std::mem::replace(&mut world.project, younger);
    world.restart().await;
    world.settle().await;
    older.resume();
    drop(flooding.await);
    let status = loop {
        let status = older.client().await.status().await.unwrap();
        if status.sources["s"].state.contains("E1063") {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.sources["s"].state.starts_with("stopped: E1063: another process has taken over s:0"), "{status:?}");
    let refused = older.client().await.push(ndjson("s", line(2_000_000), v1::Wait::Readable)).await;
    assert_eq!(refused.expect_err("it is fenced").code, "E1063");
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(200)).await).await;
    world.settle().await;
    drop(older);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_definitions_and_other_data_directories_are_refused() {
    let mut random = random("strangers");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start(project(&redis.address(), ""), &mut random).await;
    let other = tidemill_tests::server::project(&DEFINITIONS.replace("max(x)", "min(x)"));
    configure(other.path(), &redis.address(), "");
    let refused = async |project: &Path| Server::try_start(project).await.err().expect("it is refused");
    let said = refused(other.path()).await;
    assert!(said.contains("E5051") && said.contains("(different: w)") && said.contains("`prefix`"), "{said}");
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(100)).await).await;
    world.settle().await;
    let empty = project(&redis.address(), "");
    let said = refused(empty.path()).await;
    assert!(said.contains("E5052") && said.contains("s:0") && said.contains("`prefix`"), "{said}");
    // Under a prefix of its own it has its own store in the same Redis.
    configure(other.path(), &redis.address(), "prefix = \"other\"");
    let beside = Server::start(other.path()).await;
    let one = "{\"id\":1,\"key\":\"k1\",\"x\":5,\"at\":1700000000000000}\n".to_string();
    beside.client().await.push(ndjson("s", one, v1::Wait::Readable)).await.unwrap();
    compare(&world.client().await, world.writer()).await.unwrap();
    // An empty store is filled by whoever comes; the one whose it was sees that, and does not mix.
    redis.cli(&["flushall"]);
    drop(beside);
    world.settle().await;
    configure(other.path(), &redis.address(), "");
    let said = refused(other.path()).await;
    assert!(said.contains("E5051"), "{said}");
    let said = redis.cli(&["get", "{other:group}:definitions"]);
    assert_eq!(said, "", "it was emptied");
    redis.cli(&["set", "{other:group}:definitions", r#"{"format":1,"shards":256,"views":{}}"#]);
    configure(other.path(), &redis.address(), "prefix = \"other\"");
    let said = refused(other.path()).await;
    assert!(said.contains("E5051") && said.contains("another version") && said.contains("`prefix`"), "{said}");
}
