//! What a user can hand to `export` that cannot be exported, and what can go wrong while it runs: clear errors, nothing
//! half-written, and a server that goes on.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::Value as Json;
use tidemill::columnar::ParquetWriter;
use tidemill_client::v1;
use tidemill_features::time::rfc3339;
use tidemill_tests::server::{Server, binary, ndjson, project};

use crate::histories::rows_of;

const DEFINITIONS: &str = r#"
[source.clicks]
connector = "push"
event_time = "at"
fields = { user = "string", seconds = "float64", at = "timestamp" }
[source.orders]
connector = "push"
event_time = "at"
fields = { shop = "int64", total = "float64", at = "timestamp" }
[entity.user]
key = "user"
[entity.shop]
key = "shop"
[view.users]
entity = "user"
source = "clicks"
[view.users.features]
n = { agg = "count()", windows = ["1h"] }
last = { agg = "last(seconds)", default = 1.5 }
[view.shops]
entity = "shop"
source = "orders"
[view.shops.features]
sum = { agg = "sum(total)" }
[view.asked]
entity = "user"
request = { amount = "float64" }
[view.asked.derived]
more = "request.amount > users.n_1h"
[service.users]
features = ["users:*"]
[service.shops]
features = ["shops:*"]
[service.asked]
features = ["asked:more"]
"#;

const START: i64 = 1_767_225_600_000_000;
const MINUTE: i64 = 60_000_000;

fn run(server: &Server, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", &server.address).output().unwrap()
}

fn export(server: &Server, service: &str, spine: &Path, out: &Path) -> Output {
    let (spine, out) = (spine.to_str().unwrap(), out.to_str().unwrap());
    let fixed = ["--time", "at", "--visibility", "event_time", "--json"];
    run(server, &[&["export", service, "--spine", spine, "--out", out][..], &fixed].concat())
}

/// The rows of an export that has to work.
fn exported(server: &Server, service: &str, spine: &Path, out: &Path) -> RecordBatch {
    let output = export(server, service, spine, out);
    let made: Json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    rows_of(made["files"].as_array().unwrap())
}

/// The error of one that must not: its code and message.
fn refused(output: &Output) -> (Option<i32>, String, String) {
    let json: Json = serde_json::from_slice(&output.stderr)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let text = |name: &str| json["error"][name].as_str().unwrap_or_default().to_string();
    (output.status.code(), text("code"), text("message"))
}

/// A server with a click a minute of two users, and an order a minute of two shops.
async fn started(settings: &str, minutes: i64) -> (tempfile::TempDir, Server) {
    let folder = project(DEFINITIONS);
    std::fs::write(folder.path().join("tidemill.toml"), settings).unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let minutes: Vec<i64> = (0..minutes).collect();
    for some in minutes.chunks(200) {
        let click = |i: &i64| {
            format!("{{\"user\":\"u{}\",\"seconds\":{i}.5,\"at\":\"{}\"}}\n", i % 2, rfc3339(START + i * MINUTE))
        };
        let order =
            |i: &i64| format!("{{\"shop\":{},\"total\":{i},\"at\":\"{}\"}}\n", i % 2, rfc3339(START + i * MINUTE));
        let push = |source, rows| client.push(ndjson(source, rows, v1::Wait::Readable));
        push("clicks", some.iter().map(click).collect()).await.unwrap();
        push("orders", some.iter().map(order).collect()).await.unwrap();
    }
    (folder, server)
}

fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let mut writer = ParquetWriter::create(path, batch.schema(), &[]).unwrap();
    writer.write_row_group(&[batch]).unwrap();
    writer.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_spines_get_clear_errors() {
    let (folder, server) = started("", 3).await;
    let at = |name: &str| folder.path().join(name);
    let text = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![START]).with_timezone("UTC"));
    let user: ArrayRef = Arc::new(StringArray::from(vec!["u1"]));
    let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![START]));
    parquet(&at("naive.parquet"), vec![("user", user.clone()), ("at", naive)]);
    parquet(&at("number.parquet"), vec![("user", Arc::new(Int64Array::from(vec![1]))), ("at", time.clone())]);
    parquet(&at("bool.parquet"), vec![("user", user.clone()), ("at", Arc::new(BooleanArray::from(vec![true])))]);
    parquet(&at("null.parquet"), vec![("user", Arc::new(StringArray::from(vec![None::<&str>]))), ("at", time.clone())]);
    parquet(&at("clash.parquet"), vec![("user", user), ("at", time.clone()), ("users__n_1h", time)]);
    let row = "u1,2026-01-01T00:30:00Z\n";
    text("nokey.csv", "usr,at\nu1,2026-01-01T00:30:00Z\n");
    text("notime.csv", "user,t\nu1,2026-01-01T00:30:00Z\n");
    text("norequest.csv", &format!("user,at\n{row}"));
    text("twice.csv", "user,at,at\nu1,2026-01-01T00:30:00Z,2026-01-01T00:30:00Z\n");
    text("nullkey.csv", &format!("user,at\n{row},2026-01-01T00:30:00Z\n"));
    text("nulltime.ndjson", "{\"user\":\"u1\",\"at\":null}\n");
    text("naive.csv", "user,at\nu1,2026-01-01T00:30:00\n");
    text("number.ndjson", "{\"user\":\"u1\",\"at\":1767225600}\n");
    text("shop.csv", &format!("shop,at\n1,2026-01-01T00:30:00Z\nu{row}"));
    text("ragged.csv", "user,at\nu1\n");
    text("broken.ndjson", "{\"user\":\"u1\",\n");
    text("latin.csv", "user,at\n");
    std::fs::write(at("latin.csv"), b"user,at\n\xfc1,2026-01-01T00:30:00Z\n").unwrap();
    text("empty.csv", "");
    text("far.csv", "user,at\nu1,10000-01-01T00:00:00Z\n");
    text("no.parquet", "PAR1 or not");
    text("no.arrows", "no stream");
    text("x.xlsx", "x");
    std::fs::create_dir(at("folder.csv")).unwrap();
    let cases = [
        ("users", "nokey.csv", "E3002", &["the key `user`", "`usr`"][..]),
        ("users", "notime.csv", "E3002", &["the time `at`"]),
        ("asked", "norequest.csv", "E3002", &["the request value `amount`"]),
        ("users", "twice.csv", "E3006", &["two columns named `at`"]),
        ("users", "number.parquet", "E3003", &["the key `user` is Int64", "string"]),
        ("users", "bool.parquet", "E3003", &["the time `at` is Boolean"]),
        ("shops", "shop.csv", "E3007", &["row 2", "`shop`", "'uu1' is not an int64"]),
        ("users", "nullkey.csv", "E3004", &["row 2", "the key is null"]),
        ("users", "null.parquet", "E3004", &["row 1", "the key is null"]),
        ("users", "nulltime.ndjson", "E3004", &["row 1", "the time is null"]),
        ("users", "naive.csv", "E3005", &["row 1", "no offset from UTC"]),
        ("users", "naive.parquet", "E3005", &["without a zone", "tz_localize"]),
        ("users", "number.ndjson", "E3005", &["row 1", "a number without a unit"]),
        ("users", "far.csv", "E3005", &["row 1", "10000-01-01"]),
        ("users", "clash.parquet", "E3006", &["`users__n_1h`", "rename it"]),
        ("users", "ragged.csv", "E3001", &["row 1", "1 cells under 2"]),
        ("users", "broken.ndjson", "E3001", &["row 1", "not a JSON object"]),
        ("users", "latin.csv", "E3001", &["row 1", "not UTF-8"]),
        ("users", "empty.csv", "E3001", &["is empty"]),
        ("users", "no.parquet", "E3001", &["no.parquet"]),
        ("users", "no.arrows", "E3001", &["no.arrows", "damaged"]),
        ("users", "x.xlsx", "E3001", &["none of ndjson, csv, parquet"]),
        ("users", "folder.csv", "E3001", &["is a folder"]),
        ("users", "none.csv", "E3001", &["no such file"]),
        ("usrs", "norequest.csv", "E2001", &["unknown feature service `usrs`"]),
    ];
    for (service, spine, code, parts) in cases {
        let (exit, found, message) = refused(&export(&server, service, &at(spine), &at("new")));
        assert!(exit == Some(2) && found == code, "{spine}: {exit:?} {found}: {message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{spine}: {part} in {message}"));
        // What has nothing to do with the file's own content does not name it.
        assert!(matches!(spine, "clash.parquet") || code == "E2001" || message.contains(spine), "{message}");
        assert!(!at("new").exists() && hidden(folder.path()) == 0, "{spine} leaves nothing");
    }
}

/// Folders of sets that are not whole.
fn hidden(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".partial")).count()
}

/// Rows in no order, twice, none at all, long before and long after every event: all of them come back, in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_spines_are_exported_whole() {
    let (folder, server) = started("", 60).await;
    let minutes = [59, 3, 3, -1, 60 * 24 * 365 * 100, 3, 0, 1, -60 * 24 * 365 * 1900, 30];
    let user = |row: usize| if row % 4 == 3 { "nobody" } else { "u1" };
    let rows = minutes
        .iter()
        .enumerate()
        .map(|(row, minute)| format!("{},{},{row}\n", user(row), rfc3339(START + minute * MINUTE)));
    let spine = folder.path().join("odd.csv");
    std::fs::write(&spine, format!("user,at,label\n{}", rows.collect::<String>())).unwrap();
    let batch = exported(&server, "users", &spine, &folder.path().join("odd"));
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    let labels: ArrayRef = Arc::new(Int64Array::from_iter_values(0..minutes.len() as i64));
    assert_eq!(&column("label"), &labels);
    let count = |(row, minute): (usize, &i64)| {
        let seen = (0..60).filter(|i| i % 2 == 1 && i < minute && *i >= minute - 60).count() as i64;
        if user(row) == "u1" { seen } else { 0 }
    };
    let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(minutes.iter().enumerate().map(count)));
    assert_eq!(&column("users__n_1h"), &counts);
    std::fs::write(&spine, "user,at,label\n").unwrap();
    let none = exported(&server, "users", &spine, &folder.path().join("none"));
    assert_eq!((none.num_rows(), none.num_columns()), (0, 5));
}

/// A small file system of its own, gone when dropped.
pub struct Mounted<'m>(&'m Path);

impl Mounted<'_> {
    pub fn new<'m>(path: &'m Path, options: &str) -> Mounted<'m> {
        std::fs::create_dir(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output().unwrap();
        let error = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(mounted.status.success(), "this test mounts a small file system, for which it has to be root: {error}");
        Mounted(path)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_takes_no_files_is_said() {
    let (folder, server) = started("", 60).await;
    let at = |name: &str| folder.path().join(name);
    // Numbers that no encoding makes small.
    let rows = (0..20_000u64).map(|row| {
        let label = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
        format!("u{},{},{label}\n", row % 3, rfc3339(START + (row as i64 % 3600) * 1_000_000))
    });
    std::fs::write(at("spine.csv"), format!("user,at,label\n{}", rows.collect::<String>())).unwrap();
    std::fs::write(at("file"), "x").unwrap();
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/x"), "x").unwrap();
    let (small, fixed) = (at("small"), at("fixed"));
    let _small = Mounted::new(&small, "size=64k");
    let _fixed = Mounted::new(&fixed, "ro");
    for (out, exit, code, part) in [
        (at("full"), 2, "E3010", "is not empty"),
        (at("file"), 2, "E3010", "is a file"),
        (at("file/below"), 2, "E3011", "cannot be written"),
        (fixed.join("set"), 2, "E3011", "Read-only file system"),
        (small.join("set"), 1, "E3011", "No space left on device"),
    ] {
        let (found, error, message) = refused(&export(&server, "users", &at("spine.csv"), &out));
        assert!(found == Some(exit) && error == code, "{}: {found:?} {error}: {message}", out.display());
        assert!(message.contains(part) && message.contains(out.to_str().unwrap()), "{part} in {message}");
        assert!(hidden(folder.path()) == 0 && !out.join("_manifest.json").exists());
    }
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 0, "nothing half-written stays on the full disk");
    let snapshot = run(&server, &["snapshot", "users", "--out", fixed.join("all").to_str().unwrap(), "--json"]);
    assert!(refused(&snapshot).2.contains("Read-only file system"), "{}", String::from_utf8_lossy(&snapshot.stderr));
    // The server goes on: it reads, and exports where there is room.
    let read = run(&server, &["get", "users", "user=u1", "--as-of", &rfc3339(START + 60 * MINUTE), "--json"]);
    assert_eq!(serde_json::from_slice::<Json>(&read.stdout).unwrap()["values"]["users:n_1h"], 30);
    assert_eq!(exported(&server, "users", &at("spine.csv"), &at("set")).num_rows(), 20_000);
}

/// Damage of the log is named; what does not need the damaged file goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_one_source_leaves_the_others() {
    let (folder, server) = started("[log]\nsegment_mb = 0.01\n", 3_000).await;
    let events = |source: &str| folder.path().join("data/log/events").join(source);
    let sealed = |source: &str| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(events(source)).map(|all| all.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
    };
    for _ in 0..300 {
        if !sealed("clicks").is_empty() && !sealed("orders").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The files of one moment: smaller ones may be put together.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(folder.path()).await;
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("users.csv"), format!("user,at\nu1,{}\n", rfc3339(START + 60 * MINUTE))).unwrap();
    std::fs::write(at("shops.csv"), format!("shop,at\n1,{}\n", rfc3339(START + 60 * MINUTE))).unwrap();
    let file = sealed("clicks").remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (exit, code, message) = refused(&export(&server, "users", &at("users.csv"), &at("users")));
    assert!(exit == Some(1) && message.contains("damaged"), "{exit:?} {code}: {message}");
    assert!(message.contains(file.to_str().unwrap()), "{message} names {}", file.display());
    assert!(!at("users").exists() && hidden(folder.path()) == 0);
    let shops = exported(&server, "shops", &at("shops.csv"), &at("shops"));
    let sum: ArrayRef =
        Arc::new(arrow_array::Float64Array::from(vec![(0..60).filter(|i| i % 2 == 1).sum::<i64>() as f64]));
    assert_eq!(shops.column_by_name("shops__sum").unwrap(), &sum);
    bytes[half] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(exported(&server, "users", &at("users.csv"), &at("users")).num_rows(), 1);
}

/// Ctrl-C on the command line ends the job in the server, and nothing of it stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_export_leaves_nothing() {
    let (folder, server) = started("", 600).await;
    let at = |name: &str| folder.path().join(name);
    let row = |row: i64| format!("u{},{}\n", row % 5, rfc3339(START + row % 36_000 * 1_000_000));
    std::fs::write(at("spine.csv"), format!("user,at\n{}", (0..600_000).map(row).collect::<String>())).unwrap();
    let mut interrupted = 0;
    for _ in 0..30 {
        // Whoever starts the tests in the background of a script has them ignore Ctrl-C.
        let mut child = Command::new("env")
            .arg("--default-signal=INT")
            .arg(binary())
            .args(["export", "users", "--time", "at", "--quiet", "--spine"])
            .arg(at("spine.csv"))
            .arg("--out")
            .arg(at("set"))
            .env("TIDEMILL_SERVER", &server.address)
            .spawn()
            .unwrap();
        while hidden(folder.path()) == 0 && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
        child.wait().unwrap();
        for _ in 0..600 {
            if hidden(folder.path()) == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(hidden(folder.path()), 0);
        if at("set").exists() {
            // It was faster than we were, and is whole.
            assert!(at("set/_manifest.json").exists());
            std::fs::remove_dir_all(at("set")).unwrap();
            continue;
        }
        interrupted += 1;
        if interrupted == 3 {
            break;
        }
    }
    assert_eq!(interrupted, 3);
    // All places are free again.
    std::fs::write(at("one.csv"), format!("user,at\n{}", row(1))).unwrap();
    for out in ["one", "two", "three"] {
        let mut output = export(&server, "users", &at("one.csv"), &at(out));
        for _ in 0..200 {
            if output.status.success() || refused(&output).1 != "E3025" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            output = export(&server, "users", &at("one.csv"), &at(out));
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let left = std::fs::read_dir(at("data/tmp")).map(|all| all.count()).unwrap_or(0);
    assert_eq!(left, 0, "temporary files");
}
