//! The event log in an object store, from outside: under load and kills, on a machine that has lost everything, and while the
//! store is away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemill::objects::{Expected, ObjectUrl};
use tidemill_client::{Client, v1};
use tidemill_tests::s3::S3;
use tidemill_tests::server::{Server, ndjson, project};

use crate::sealing::{DEFINITIONS, answers, dead_letters, lines, load_with_kills};

/// Tiny segments, and room for so many MiB of archived files.
fn settings(cache_mb: f64) -> String {
    format!("[log]\nsegment_mb = 0.01\ncache_mb = {cache_mb}\narchive = \"s3://lake/log\"\n")
}

/// Raw segments on a machine.
fn raw(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("data/log")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    found
}

/// Sealed files on a machine.
fn sealed(folder: &Path) -> Vec<PathBuf> {
    let below =
        tidemill::objects::Objects::new(Default::default()).below(&ObjectUrl::Local(folder.join("data/log"))).unwrap();
    let path = |object: tidemill::objects::Object| match object.url {
        ObjectUrl::Local(path) => Some(path).filter(|path| path.extension().is_some_and(|ending| ending == "parquet")),
        ObjectUrl::S3 { .. } => None,
    };
    below.into_iter().filter_map(path).collect()
}

/// Waits until every closed segment is in the archive and gone.
async fn settled(folder: &Path) {
    for _ in 0..1500 {
        if raw(folder).len() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} are not archived", raw(folder));
}

fn batches(count: i64) -> Vec<(i64, i64)> {
    (0..count).map(|batch| (batch * 40, 1 + (batch * 13) % 40)).collect()
}

async fn push(client: &Client, batches: &[(i64, i64)]) {
    for (first, count) in batches {
        client.push(ndjson("s", lines(*first, *count), v1::Wait::Readable)).await.unwrap();
    }
}

/// What a server says whose log was never sealed.
async fn plain(batches: &[(i64, i64)]) -> (Vec<Vec<v1::Column>>, std::collections::BTreeSet<String>) {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    push(&client, batches).await;
    (answers(&client).await, dead_letters(&client).await)
}

/// A machine that has lost everything, with room for so much of the archive.
fn another(s3: &S3, cache_mb: f64) -> tempfile::TempDir {
    let folder = project(DEFINITIONS);
    s3.configure(folder.path(), &settings(cache_mb));
    folder
}

/// Waits until so few bytes of sealed files are left here, beside the largest: the file that was used last stays, however large
/// it is, and a compacted one stays until the archive has it.
async fn evicted(folder: &Path, most: u64) {
    let mut bytes = u64::MAX;
    for _ in 0..1500 {
        let lengths: Vec<u64> =
            sealed(folder).iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).collect();
        bytes = lengths.iter().sum::<u64>() - lengths.iter().max().unwrap_or(&0);
        if bytes <= most {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{bytes} bytes of archived files stay beside the largest: {:?}", sealed(folder));
}

async fn consumed(client: &Client) -> u64 {
    client.status().await.unwrap().sources.values().map(|source| source.consumed).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_archived_under_kills_answers_as_one_that_is_not() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("archiving under kills: TIDEMILL_SEED={seed}");
    let s3 = S3::start();
    let folder = another(&s3, 0.02);
    let batches = batches(250);
    load_with_kills(folder.path(), &batches, seed).await;
    let (expected, letters) = plain(&batches).await;
    let server = Server::start(folder.path()).await;
    settled(folder.path()).await;
    let client = server.client().await;
    assert_eq!(answers(&client).await, expected);
    assert_eq!(dead_letters(&client).await, letters);
    let archived = s3.objects().below(&s3.url("log/events/s")).unwrap();
    // How many there are depends on how far compaction has come.
    assert!(archived.len() >= 2, "{} files of events", archived.len());
    evicted(folder.path(), 20 << 10).await;
    assert_eq!(server.terminate(), Some(0));
    std::fs::remove_dir_all(folder.path().join("data/state")).unwrap();
    let server = Server::start(folder.path()).await;
    assert_eq!(answers(&server.client().await).await, expected, "state derived anew from the archive");
    server.kill();

    // The machine is gone, with what was not archived: whoever sends everything again has all of it, once.
    let other = another(&s3, 0.02);
    drop(folder);
    let server = Server::start(other.path()).await;
    let client = server.client().await;
    assert!(consumed(&client).await > 2_000);
    assert!(dead_letters(&client).await.is_subset(&letters));
    push(&client, &batches).await;
    assert_eq!(answers(&client).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_goes_away_and_comes_back() {
    let s3 = S3::start();
    let folder = another(&s3, 0.0);
    let all = batches(160);
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    push(&client, &all[..60]).await;
    settled(folder.path()).await;
    let before = s3.objects().below(&s3.url("log")).unwrap().len();
    s3.shut(true);
    push(&client, &all[60..120]).await;
    assert!(raw(folder.path()).len() > 3, "segments wait");
    // What needs a file of the archive says which one it is; everything else is served, also by a server that starts now.
    let now = v1::GetRequest {
        service: "all".into(),
        keys: [("key".to_string(), tidemill_client::texts(&["k1".to_string()]))].into(),
        ..v1::GetRequest::default()
    };
    let live = client.get(now.clone()).await.unwrap().columns;
    let letters = client.dead_letters(v1::DeadLettersRequest { source: "s".into(), ..Default::default() });
    let said = letters.await.unwrap_err().to_string();
    assert!(said.contains("E1040") && said.contains("s3://lake/log/") && said.contains(".parquet"), "{said}");
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    assert_eq!(client.get(now).await.unwrap().columns.len(), live.len());
    push(&client, &all[120..130]).await;
    let waiting = raw(folder.path()).len();
    assert!(waiting > 3, "segments wait on: {waiting}");
    let said = Server::try_start(another(&s3, 0.0).path()).await.err().expect("nobody knows whether there is a log");
    assert!(said.contains("E1040") && said.contains("s3://lake/log"), "{said}");
    s3.shut(false);
    // The next segment that is closed wakes the sealer.
    push(&client, &all[130..]).await;
    settled(folder.path()).await;
    assert!(s3.objects().below(&s3.url("log")).unwrap().len() > before);
    let (expected, letters) = plain(&all).await;
    assert_eq!((answers(&client).await, dead_letters(&client).await), (expected, letters));
    server.kill();
    restored(&s3, &all).await;
    strangers(&s3, folder.path()).await;
}

/// Another machine has exactly what was archived, and goes on from there.
async fn restored(s3: &S3, all: &[(i64, i64)]) {
    let other = another(s3, 0.0);
    let server = Server::start(other.path()).await;
    let client = server.client().await;
    let count = consumed(&client).await;
    let mut sum = 0;
    let whole = all.iter().take_while(|(_, rows)| {
        sum += *rows as u64;
        sum <= count
    });
    let whole = whole.count();
    assert!(whole > 120 && all[..whole].iter().map(|(_, rows)| *rows as u64).sum::<u64>() == count, "{whole} {count}");
    let (expected, letters) = plain(&all[..whole]).await;
    assert_eq!((answers(&client).await, dead_letters(&client).await), (expected, letters));
    push(&client, &all[whole..]).await;
    let (expected, letters) = plain(all).await;
    assert_eq!((answers(&client).await, dead_letters(&client).await), (expected, letters));
    // It writes to the archive, too.
    push(&client, &all[..60]).await;
    settled(other.path()).await;
    assert_eq!(server.terminate(), Some(0));
    damage_is_named(s3, other.path()).await;
}

/// Damage in the archive is named, whatever it is.
async fn damage_is_named(s3: &S3, folder: &Path) {
    let store = s3.objects();
    let files = store.below(&s3.url("log/events/s")).unwrap();
    let url = files[files.len() / 2].url.clone();
    let whole = store.read(&url, u64::MAX).unwrap().unwrap().0;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (damage, what) in [(Some(flipped), "checksum"), (Some(whole[1..].to_vec()), "bytes"), (None, "missing")] {
        match damage {
            Some(bytes) => drop(store.write(bytes, &url, &Expected::Anything).unwrap()),
            None => store.remove(&url).unwrap(),
        }
        let _ = std::fs::remove_dir_all(folder.join("data/state"));
        let _ = std::fs::remove_dir_all(folder.join("data/log/events"));
        let said = Server::try_start(folder).await.err().expect("damage is noticed");
        assert!(said.contains("E1020") && said.contains(&url.to_string()) && said.contains(what), "{said}");
    }
    store.write(whole, &url, &Expected::Anything).unwrap();
    drop(Server::start(folder).await);
}

/// The machine that was thought lost comes back, and a log of its own cannot share the archive.
async fn strangers(s3: &S3, lost: &Path) {
    let own = another(s3, 0.0);
    std::fs::remove_file(own.path().join("tidemill.toml")).unwrap();
    let server = Server::start(own.path()).await;
    push(&server.client().await, &batches(3)).await;
    assert_eq!(server.terminate(), Some(0));
    s3.configure(own.path(), &settings(0.0));
    for folder in [lost, own.path()] {
        let said = Server::try_start(folder).await.err().expect("two logs cannot share an archive");
        assert!(said.contains("E1041") && said.contains("s3://lake/log"), "{said}");
    }
}
