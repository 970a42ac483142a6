//! The event log as Parquet, from outside: a server with tiny segments under load and kills answers as one whose log is never
//! sealed, also when its pieces have become larger ones, and other tools read the files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill::log::{DeadEvent, Frame, LogPlace, LogWriter, Sealer, SourceSchema};
use tidemill_client::{Client, texts, v1};
use tidemill_features::definitions::parse_type;
use tidemill_features::expression::Column;
use tidemill_features::stream::EventBatch;
use tidemill_features::value::Value;
use tidemill_tests::server::{Server, ndjson, project};

use crate::sql::python;

pub(crate) const DEFINITIONS: &str = r#"
[source.s]
connector = "push"
event_time = "at"
event_id = "id"
fields = { id = "int64", key = "string", x = "float64", tags = "list<string>", at = "timestamp[us]" }

[entity.e]
key = "key"

[view.v]
entity = "e"
source = "s"
[view.v.features]
n = { agg = "count()", window = "lifetime" }
total = { agg = "sum(x)", window = "lifetime" }
latest = { agg = "last(tags)", window = "lifetime" }
hour = { agg = "avg(x)", windows = ["1h"] }
three = { agg = "last_k(x, 3)", window = "lifetime" }

[service.all]
features = ["v:*"]
"#;

pub(crate) const START: i64 = 1_700_000_000_000_000;
pub(crate) const KEYS: usize = 23;

/// A batch of events; one of them has no time.
pub(crate) fn lines(first: i64, count: i64) -> String {
    let line = |id: i64| {
        let at = if id % 97 == 5 { "null".to_string() } else { (START + (id * 7919) % 3_000_000_000).to_string() };
        let key = (id * 31) % KEYS as i64;
        format!(
            "{{\"id\":{id},\"key\":\"k{key}\",\"x\":{}.5,\"tags\":[\"t{}\",null],\"at\":{at}}}\n",
            id % 1000,
            id % 7
        )
    };
    (first..first + count).map(line).collect()
}

/// Values of all keys now and at several times of the past, which records no longer hold.
pub(crate) async fn answers(client: &Client) -> Vec<Vec<v1::Column>> {
    let keys: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    let mut answers = Vec::new();
    for after in [3_600_000_000i64, 100_000_000, 1_500_000_000, 2_999_000_000] {
        let request = v1::GetRequest {
            service: "all".into(),
            keys: [("key".to_string(), texts(&keys))].into(),
            as_of: Some(START + after),
            ..v1::GetRequest::default()
        };
        answers.push(client.get(request).await.unwrap().columns);
    }
    answers
}

pub(crate) async fn dead_letters(client: &Client) -> BTreeSet<String> {
    let request = v1::DeadLettersRequest { source: "s".into(), limit: 1000, ..v1::DeadLettersRequest::default() };
    let letters = client.dead_letters(request).await.unwrap().letters;
    letters.iter().map(|letter| format!("{} {} {:?}", letter.code, letter.reason, letter.payload)).collect()
}

fn sealed_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("data/log/events/s"));
    let mut files: Vec<PathBuf> =
        entries.map(|all| all.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    files.sort();
    files
}

/// Whether a file belongs to a piece that was made of several: its name says where the piece begins and ends.
fn is_compacted(path: &Path) -> bool {
    path.file_stem().is_some_and(|name| name.to_string_lossy().split('-').count() == 5)
}

/// Training sets of all keys under both visibilities: the bytes of their files.
fn exports(server: &Server, folder: &Path) -> Vec<Vec<u8>> {
    let now = tidemill::clock::Clock::default().now();
    let spine = folder.join("spine.ndjson");
    // Under `served` only what came before a row's time counts: the last time is one that is still to come.
    let times = [START + 100_000_000, START + 1_500_000_000, now / 86_400_000_000 * 86_400_000_000 + 864_000_000_000];
    let row = |key: usize, at: &i64| {
        let at = tidemill_features::time::rfc3339(*at);
        format!("{{\"key\":\"k{key}\",\"at\":\"{at}\"}}\n")
    };
    let rows = (0..KEYS).flat_map(|key| times.iter().map(move |at| row(key, at)));
    std::fs::write(&spine, rows.collect::<String>()).unwrap();
    let mut all = Vec::new();
    for visibility in ["event_time", "served"] {
        let out = folder.join(format!("set_{visibility}"));
        let _ = std::fs::remove_dir_all(&out);
        let fixed = ["export", "all", "--spine", spine.to_str().unwrap(), "--time", "at", "--json"];
        let output = Command::new(tidemill_tests::server::binary())
            .args(fixed)
            .args(["--visibility", visibility, "--out", out.to_str().unwrap()])
            .env("TIDEMILL_SERVER", &server.address)
            .output()
            .unwrap();
        let result: Json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(result["rows"], KEYS * times.len());
        let files = result["files"].as_array().unwrap().iter();
        all.extend(files.map(|file| std::fs::read(file.as_str().unwrap()).unwrap()));
    }
    all
}

/// Pushes all batches; kills the server again and again, and sends what was not acknowledged once more.
pub(crate) async fn load_with_kills(folder: &Path, batches: &[(i64, i64)], seed: u64) {
    let mut at = 0;
    let mut random = seed;
    let mut kills = 0;
    while at < batches.len() {
        let server = Server::start(folder).await;
        let client = server.client().await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_millis(1 + (random >> 33) % 60);
        let killer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            server.kill();
        });
        while let Some((first, count)) = batches.get(at) {
            if client.push(ndjson("s", lines(*first, *count), v1::Wait::Durable)).await.is_err() {
                break;
            }
            at += 1;
        }
        killer.await.unwrap();
        kills += 1;
    }
    println!("{kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_sealed_under_kills_answers_as_one_that_is_not() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("sealing under kills: TIDEMILL_SEED={seed}");
    let (sealed, plain) = (project(DEFINITIONS), project(DEFINITIONS));
    std::fs::write(sealed.path().join("tidemill.toml"), "[log]\nsegment_mb = 0.01\n").unwrap();
    let batches: Vec<(i64, i64)> = (0..400).map(|batch| (batch * 40, 1 + (batch * 13) % 40)).collect();
    load_with_kills(sealed.path(), &batches, seed).await;
    let server = Server::start(plain.path()).await;
    let client = server.client().await;
    for (first, count) in &batches {
        client.push(ndjson("s", lines(*first, *count), v1::Wait::Readable)).await.unwrap();
    }
    let (expected, letters) = (answers(&client).await, dead_letters(&client).await);
    let trained = exports(&server, plain.path());
    assert!(letters.len() > 10 && sealed_files(plain.path()).is_empty());
    let server = Server::start(sealed.path()).await;
    let client = server.client().await;
    // Read while pieces are sealed and made one.
    for _ in 0..500 {
        if sealed_files(sealed.path()).iter().any(|path| is_compacted(path)) {
            break;
        }
        assert_eq!(answers(&client).await, expected, "while it is sealed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let files = sealed_files(sealed.path()).len();
    assert!(sealed_files(sealed.path()).iter().any(|path| is_compacted(path)), "{files} files, none of several pieces");
    assert_eq!(answers(&client).await, expected, "{files} sealed files");
    assert_eq!(dead_letters(&client).await, letters);
    assert_eq!(exports(&server, sealed.path()), trained, "training sets out of {files} files");
    assert_eq!(server.terminate(), Some(0), "SIGTERM ends a server that seals in order");
    std::fs::remove_dir_all(sealed.path().join("data/state")).unwrap();
    let server = Server::start(sealed.path()).await;
    assert_eq!(answers(&server.client().await).await, expected, "state derived anew from the sealed log");
    assert_eq!(server.terminate(), Some(0));
    damage_is_named(sealed.path()).await;
}

/// State that has to be derived anew from a damaged file is not: the server says which one.
async fn damage_is_named(folder: &Path) {
    std::fs::remove_dir_all(folder.join("data/state")).unwrap();
    let file = sealed_files(folder)[0].clone();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = Server::try_start(folder).await.err().expect("a flipped bit is noticed");
    assert!(said.contains("E1018") && said.contains(file.file_name().unwrap().to_str().unwrap()), "{said}");
}

/// Payments of every type, in frames of 50, each with one bad event.
fn payments(frames: u64) -> Vec<Frame> {
    let types = [
        ("user", "string"),
        ("amount", "float64"),
        ("price", "decimal(9,2)"),
        ("tags", "list<string>"),
        ("place", "vector<2>"),
        ("raw", "bytes"),
        ("good", "bool"),
        ("at", "timestamp"),
    ];
    let field = |(name, data_type): &(&str, &str)| (name.to_string(), parse_type(data_type).unwrap());
    let schema = SourceSchema { fields: types.iter().map(field).collect(), event_time: 7 };
    let frame = |number: u64| {
        let offsets: Vec<u64> = (number * 50..number * 50 + 49).collect();
        let columns =
            (0..types.len()).map(|column| Column::Values(offsets.iter().map(|id| cell(column, *id)).collect()));
        let batch = EventBatch {
            columns: columns.collect(),
            times: offsets.iter().map(|id| START + *id as i64).collect(),
            arrivals: vec![START + 7; offsets.len()],
            partition: 0,
            offsets,
        };
        let dead = DeadEvent {
            offset: number * 50 + 49,
            code: "E1002".to_string(),
            reason: "no time".to_string(),
            payload: format!("{{\"n\":{number}}}").into_bytes(),
        };
        Frame {
            source: "payments".to_string(),
            partition: 0,
            first_offset: number * 50,
            consumed: 50,
            accepted_at: START + 7,
            schema: schema.clone(),
            batches: vec![batch],
            dead: vec![dead],
        }
    };
    (0..frames).map(frame).collect()
}

fn cell(column: usize, id: u64) -> Value<'static> {
    match column {
        0 => Value::Text(format!("u{}", id * 7919 % 100).into()),
        1 => Value::Float64(id as f64 / 4.0),
        2 => Value::Decimal(i128::from(id)),
        3 => Value::List(vec![Value::text("a"); (id % 3) as usize]),
        4 => Value::List(vec![Value::Float64(0.5), Value::Float64(1.5)]),
        5 => Value::Bytes(vec![id as u8, 255].into()),
        6 => Value::Bool(id.is_multiple_of(2)),
        _ => Value::Timestamp(START + id as i64),
    }
}

#[test]
fn four_engines_read_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), LogPlace::default()).unwrap();
    writer.set_segment_bytes(1);
    for frames in payments(60).chunks(10) {
        for frame in frames {
            writer.add(frame);
        }
        writer.write().unwrap();
        writer.sync().unwrap();
        writer.rotate().unwrap();
    }
    let keys = [("payments".to_string(), vec!["user".to_string()])].into();
    let mut sealer = Sealer::new(folder.path().to_path_buf(), keys);
    while sealer.seal_next(&mut || true).unwrap().is_some() {}
    assert_eq!(sealer.compact_next(&mut || true).unwrap(), Some(6), "one piece of all that is sealed");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/sealed_log.py");
    let output = Command::new(python()).arg(script).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n(pip install -r tests/python/requirements.txt, see scripts/test)");
    let ids: Vec<u64> = (0..3000).filter(|id| id % 50 != 49).collect();
    let cents: u64 = ids.iter().sum();
    let expected = json!({
        "count": ids.len(),
        "total": ids.iter().map(|id| *id as f64 / 4.0).sum::<f64>(),
        "users": ids.iter().map(|id| id * 7919 % 100).collect::<std::collections::BTreeSet<_>>().len(),
        "first": "2023-11-14T22:13:20+00:00",
        "last": "2023-11-14T22:13:20.002998+00:00",
        "price": format!("{}.{:02}", cents / 100, cents % 100),
        "tags": ids.iter().map(|id| id % 3).sum::<u64>(),
        "vector": ids.len() as f64 * 2.0,
        "arrivals": START + 7,
        "offsets": ids.iter().map(|id| [0, *id]).collect::<Vec<_>>(),
        "frames": 60,
        "consumed": 3000,
        "dead": (0..60).map(|n| json!([n * 50 + 49, "E1002", "no time", format!("{{\"n\":{n}}}")])).collect::<Vec<_>>(),
    });
    let lines: Vec<Json> =
        output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    assert_eq!(lines.len(), 4, "one line for each tool");
    for (line, tool) in lines.iter().zip(["duckdb", "pyarrow", "polars", "pandas"]) {
        assert!(line[tool].is_string(), "{line}");
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&line["read"][name], value, "{name} by {tool}");
        }
    }
}
