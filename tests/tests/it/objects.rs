//! Training sets and snapshots in an object store: the same files as in a folder, whole or not at all, and errors that say what
//! is wrong and no secret.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;
use tidemill::objects::{Expected, ObjectError, ObjectUrl, Objects};
use tidemill_client::v1;
use tidemill_tests::s3::{BUCKET, KEY_ID, S3, SECRET};
use tidemill_tests::server::{Server, binary, ndjson, project};

use crate::sealing::{DEFINITIONS, START, lines};

/// Runs a verb against a server.
fn run(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--json").env("TIDEMILL_SERVER", &server.address).output().unwrap()
}

fn done(server: &Server, arguments: &[&str]) -> Json {
    let output = run(server, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {said}"))
}

fn refused(server: &Server, arguments: &[&str], expected: &[&str]) {
    let output = run(server, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} is refused");
    assert!(expected.iter().all(|part| said.contains(part)), "{expected:?}: {said}");
    assert!(!said.contains(SECRET) && !said.contains(KEY_ID), "{said}");
}

/// Bytes of everything below a prefix or folder, by name.
fn all(objects: &Objects, root: &ObjectUrl) -> BTreeMap<String, Vec<u8>> {
    let bytes = |url: &ObjectUrl| objects.read(url, u64::MAX).unwrap().unwrap().0;
    let found = objects.below(root).unwrap();
    found.iter().map(|object| (root.name_below(&object.url).unwrap().to_string(), bytes(&object.url))).collect()
}

/// Files that are the same, and manifests that say the same but for where the spine is.
fn same_set(here: &BTreeMap<String, Vec<u8>>, there: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
    for (name, bytes) in here {
        if name.ends_with(".parquet") {
            assert!(bytes == &there[name], "{name} has the same bytes");
        } else {
            let manifest = |bytes: &[u8]| {
                let mut manifest: Json = serde_json::from_slice(bytes).unwrap();
                manifest["spine"] = Json::Null;
                manifest
            };
            assert_eq!(manifest(bytes), manifest(&there[name]), "{name}");
        }
    }
}

/// What jobs leave in the data directory.
fn left_over(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join("data/tmp"));
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

async fn started(s3: &S3) -> (tempfile::TempDir, Server) {
    let folder = project(DEFINITIONS);
    s3.configure(folder.path(), "");
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    for batch in 0..20 {
        client.push(ndjson("s", lines(batch * 100, 100), v1::Wait::Readable)).await.unwrap();
    }
    (folder, server)
}

fn spine(folder: &Path) -> std::path::PathBuf {
    let row = |n: i64| {
        let at = tidemill_features::time::rfc3339(START + n * 5_000_000);
        format!("k{},{at},{n}\n", n * 7 % 25)
    };
    let path = folder.join("labels.csv");
    std::fs::write(&path, "key,at,label\n".to_string() + &(0..500).map(row).collect::<String>()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn training_sets_and_snapshots_are_the_same_in_an_object_store() {
    let s3 = S3::start();
    let (folder, server) = started(&s3).await;
    let (store, spine) = (s3.objects(), spine(folder.path()));
    let spine_url = s3.url("labels/2026/labels.csv");
    store.put(&spine, &spine_url).unwrap();
    let here = |name: &str| ObjectUrl::Local(folder.path().join(name));
    let (spine, spine_url) = (spine.display().to_string(), spine_url.to_string());
    let export = |spine: &str, out: &ObjectUrl| {
        let out = out.to_string();
        let fixed = ["export", "all", "--time", "at", "--visibility", "event_time", "--split", "train=0.5,test=0.5"];
        done(&server, &[&fixed[..], &["--hive", "date", "--spine", spine, "--out", &out]].concat())
    };
    let local = export(&spine, &here("set"));
    let there = export(&spine_url, &s3.url("sets/one"));
    assert_eq!(
        (&there["rows"], there["manifest"].as_str()),
        (&local["rows"], Some("s3://lake/sets/one/_manifest.json"))
    );
    same_set(&all(&store, &here("set")), &all(&store, &s3.url("sets/one")));
    for file in there["files"].as_array().unwrap() {
        assert!(store.head(&ObjectUrl::parse(file.as_str().unwrap()).unwrap()).unwrap().is_some(), "{file}");
    }
    let events = ["export", "all", "--spine-from", "s", "--out", "s3://lake/sets/events", "--visibility", "event_time"];
    assert!(done(&server, &events)["rows"].as_u64().unwrap() > 1900);
    // The URL of a file of this machine, too.
    let file = done(
        &server,
        &[
            "export",
            "all",
            "--spine",
            &format!("file://{spine}"),
            "--time",
            "at",
            "--out",
            &format!("file://{}", here("url")),
        ],
    );
    assert_eq!(file["rows"], 500);

    let at = tidemill_features::time::rfc3339(START + 1_500_000_000);
    let snapshot = |out: &ObjectUrl| done(&server, &["snapshot", "--at", &at, "--out", &out.to_string()]);
    let (local, there) = (snapshot(&here("snapshot")), snapshot(&s3.url("snapshot")));
    assert_eq!(local["rows"], there["rows"]);
    same_set(&all(&store, &here("snapshot")), &all(&store, &s3.url("snapshot")));
    assert_eq!(snapshot(&s3.url("snapshot"))["files"], there["files"], "nothing has changed");
    // Two more, after more events each: the folders of the last two stay.
    for batch in 20..22 {
        let pushed = ndjson("s", lines(batch * 100, 100), v1::Wait::Readable);
        server.client().await.push(pushed).await.unwrap();
        snapshot(&here("snapshot"));
        snapshot(&s3.url("snapshot"));
        same_set(&all(&store, &here("snapshot")), &all(&store, &s3.url("snapshot")));
    }
    let folders: std::collections::BTreeSet<String> =
        all(&store, &s3.url("snapshot/v")).keys().map(|name| name.split('/').next().unwrap().to_string()).collect();
    assert_eq!(folders.len(), 2, "{folders:?}");
    assert_eq!(left_over(folder.path()), Vec::<std::path::PathBuf>::new());
    errors_are_clear(&s3, &server, folder.path(), &spine);
}

fn errors_are_clear(s3: &S3, server: &Server, folder: &Path, spine: &str) {
    let store = s3.objects();
    let export = |spine: &str, out: &str, expected: &[&str]| {
        refused(server, &["export", "all", "--spine", spine, "--time", "at", "--out", out], expected);
    };
    export(spine, "s3://lake/sets/one", &["E3010", "s3://lake/sets/one is not empty", "sets/one/"]);
    export(spine, "s3://pond/new", &["there is no bucket `pond`", "s3://pond/new"]);
    export(spine, "gs://lake/new", &["E3042", "`gs://` is not known", "s3://BUCKET/KEY"]);
    export(spine, "s3://lake//new", &["E3042", "no empty part"]);
    export("s3://lake/none.csv", "s3://lake/new", &["E3052", "s3://lake/none.csv", "no such object"]);
    export("s3://lake/labels", "s3://lake/new", &["no such object"]);
    store.write(b"key,at\nk1,yesterday\n".to_vec(), &s3.url("bad.csv"), &Expected::Anything).unwrap();
    export("s3://lake/bad.csv", "s3://lake/new", &["s3://lake/bad.csv", "row 1"]);
    store.write(b"key,at\n".to_vec(), &s3.url("odd.xlsx"), &Expected::Anything).unwrap();
    export("s3://lake/odd.xlsx", "s3://lake/new", &["s3://lake/odd.xlsx", "ndjson, csv, parquet"]);
    refused(server, &["snapshot", "--out", "s3://lake/labels"], &["E3048", "holds `2026`"]);
    refused(server, &["snapshot", "--out", "s3://pond/x"], &["there is no bucket `pond`"]);
    // What a job that was stopped has left is nothing, and says so.
    store.write(Vec::new(), &s3.url("half/part-00000.parquet"), &Expected::Anything).unwrap();
    export(spine, "s3://lake/half", &["E3010", "half/part-00000.parquet"]);
    s3.shut(true);
    export(spine, "s3://lake/new", &["E3053", "s3://lake/new cannot be listed", "retries"]);
    s3.shut(false);
    assert_eq!(store.any_below(&s3.url("new")).unwrap(), None, "nothing was written");
    assert_eq!(left_over(folder), Vec::<std::path::PathBuf>::new());
}

/// More objects than one page of a list has, an object of several parts, conditions, and globs.
#[test]
fn lists_have_all_pages_and_long_objects_all_parts() {
    let s3 = S3::start();
    let store = s3.objects();
    let count = 1_010;
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (store, s3) = (&store, &s3);
            scope.spawn(move || {
                for n in (worker..count).step_by(4) {
                    let url = s3.url(&format!("many/day={:02}/{n:05}.csv", n % 31));
                    store.write(vec![b'x'; n % 3], &url, &Expected::Anything).unwrap();
                }
            });
        }
    });
    store.write(Vec::new(), &s3.url("many2/x.csv"), &Expected::Anything).unwrap();
    let found = store.below(&s3.url("many")).unwrap();
    assert_eq!((found.len(), found.iter().map(|object| object.bytes).sum::<u64>()), (count, (count - 1) as u64));
    assert!(found.is_sorted_by_key(|object| object.url.clone()));
    assert_eq!(store.matching("s3://lake/many/**/*.csv").unwrap(), found);
    assert_eq!(store.matching("s3://lake/many/*.csv").unwrap(), []);
    assert_eq!(store.matching("s3://lake/many/day=07/00007.*").unwrap().len(), 1);
    assert_eq!(store.matching("s3://lake/m*/x.csv").unwrap().len(), 1);
    assert!(store.any_below(&s3.url("man")).unwrap().is_none());

    let folder = tempfile::tempdir().unwrap();
    let (file, copy) = (folder.path().join("file"), folder.path().join("copy"));
    let bytes: Vec<u8> = (0..40u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    let (long, empty) = (s3.url("long"), s3.url("empty"));
    store.put(&file, &long).unwrap();
    assert_eq!(store.fetch(&long, &copy, u64::MAX).unwrap(), bytes.len() as u64);
    assert!(std::fs::read(&copy).unwrap() == bytes, "what was put comes back");
    assert!(matches!(store.fetch(&long, &copy, 100), Err(ObjectError::TooLarge { .. })));
    std::fs::write(&file, b"").unwrap();
    store.put(&file, &empty).unwrap();
    assert_eq!(store.fetch(&empty, &copy, 0).unwrap(), 0);

    let written = |expected: &Expected| store.write(b"one".to_vec(), &s3.url("one"), expected);
    let first = written(&Expected::Nothing).unwrap().unwrap();
    assert!(matches!(written(&Expected::Nothing), Err(ObjectError::Taken { .. })));
    store.write(b"two".to_vec(), &s3.url("one"), &Expected::Marked(first.clone())).unwrap();
    assert!(matches!(written(&Expected::Marked(first)), Err(ObjectError::Taken { .. })));
    store.remove(&long).unwrap();
    store.remove(&long).unwrap();
    assert_eq!(store.head(&long).unwrap(), None);
}

/// A store that does not know who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_said_without_them() {
    let s3 = S3::start_strict();
    let folder = project(DEFINITIONS);
    s3.configure(folder.path(), "");
    let server = Server::start(folder.path()).await;
    let spine = spine(folder.path()).display().to_string();
    let export = ["export", "all", "--spine", &spine, "--time", "at", "--out", "s3://lake/new"];
    refused(&server, &export, &["s3://lake/new cannot be listed", "403", "[s3] in tidemill.toml"]);
    refused(
        &server,
        &["export", "all", "--spine", "s3://lake/x.csv", "--time", "at", "--out", "s3://lake/new"],
        &["s3://lake/x.csv cannot be read", "403"],
    );
    drop(server);
    // An archive that refuses is no empty one.
    s3.configure(folder.path(), "[log]\narchive = \"s3://lake/log\"");
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    let said = Server::try_start(folder.path()).await.err().expect("it does not start");
    assert!(said.contains("E1040") && said.contains(&format!("s3://{BUCKET}/log")) && said.contains("403"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

/// A history in an object store, under kills, beside a stream that repeats some of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_in_an_object_store_is_loaded_once() {
    const FILES: i64 = 4;
    const ROWS: i64 = 2_000;
    let s3 = S3::start();
    let store = s3.objects();
    let row = |n: i64| format!("{{\"id\":{n},\"key\":\"k{}\",\"at\":{}}}\n", n % 10, START + n * 1_000_000);
    for file in 0..FILES {
        let lines: String = (file * ROWS..(file + 1) * ROWS).map(row).collect();
        let url = s3.url(&format!("past/2026-{file:02}/events.ndjson"));
        store.write(lines.into_bytes(), &url, &Expected::Anything).unwrap();
    }
    let definitions = "[source.s]\nconnector = 'push'\nevent_time = 'at'\nevent_id = 'id'\ndedup_horizon = '36500d'\nhistory = 's3://lake/past/**/*.ndjson'\nfields = { id = 'int64', key = 'string', at = 'timestamp[us]' }\n[entity.e]\nkey = 'key'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\nn = { agg = 'count()' }\n";
    let folder = project(definitions);
    s3.configure(folder.path(), "");
    let last = FILES * ROWS;
    for round in 0..4 {
        let server = Server::start(folder.path()).await;
        let lines: String = (last - 50..last + 50 * (round + 1)).map(row).collect();
        server.client().await.push(ndjson("s", lines, v1::Wait::Durable)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(60 * round as u64)).await;
        server.kill();
    }
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    for _ in 0..600 {
        let status = client.status().await.unwrap();
        let history = status.sources["s"].history.clone().unwrap();
        assert!(!history.state.starts_with("stopped"), "{}", history.state);
        if history.state == "loaded" && status.sources["s"].lag == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for key in 0..10 {
        let output = Command::new(binary())
            .args(["explain", "v:n", &format!("key=k{key}"), "--json"])
            .env("TIDEMILL_SERVER", &server.address)
            .output()
            .unwrap();
        let found: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["value"], (last + 200) / 10, "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(left_over(folder.path()), Vec::<std::path::PathBuf>::new());
}
