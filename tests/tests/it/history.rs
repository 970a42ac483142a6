//! Events at rest and in a stream: files in three formats are loaded while the same events are pushed, under kills. In the end
//! every value, the ledger, the positions, training sets and kept answers are what the oracle says.

mod lake;
mod stops;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tidemill::columnar::ParquetFile;
use tidemill::log::{Frame, LogPlace, LogReader, Notes, read_commits};
use tidemill_client::{Client, texts, v1};
use tidemill_features::expression::Column;
use tidemill_features::time::{parse_rfc3339, rfc3339};
use tidemill_features::value::Value;
use tidemill_tests::bridge::value;
use tidemill_tests::oracle::accept::{self, Event, Fate};
use tidemill_tests::oracle::model::{Datum, HISTORY, Row};
use tidemill_tests::oracle::read::{answer, events_of};
use tidemill_tests::server::{Server, binary, ndjson, project};

use self::lake::{DAY, DEFINITIONS, FENCE, KEYS, OVERLAP, SECOND, START, files, source, streamed, views};

const SOURCES: [&str; 2] = ["named", "fenced"];
const KILLS: usize = 20;

pub fn run(server: &Server, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", &server.address).output().unwrap()
}

fn keys() -> Vec<String> {
    (0..KEYS).map(|key| format!("k{key}")).collect()
}

/// What the client knows of each source: the next id that it sends, and those that were acknowledged.
struct Sent {
    next: BTreeMap<&'static str, i64>,
    acknowledged: BTreeMap<&'static str, BTreeSet<i64>>,
}

/// Pushes and reads until the server is gone.
async fn load(address: &str, sent: &mut Sent, random: &mut rand::rngs::StdRng) {
    let Ok(client) = Client::connect(address).await else { return };
    loop {
        for name in SOURCES {
            let first = sent.next[name];
            let ids = first..first + random.random_range(1..200);
            let lines: String = ids.clone().map(|id| streamed(name, id).json()).collect();
            let wait = if random.random_range(0..2) == 0 { v1::Wait::Durable } else { v1::Wait::Readable };
            if client.push(ndjson(name, lines, wait)).await.is_err() {
                // Those with ids are sent again, since they may not have been kept; the others never, since they may.
                if name == "fenced" {
                    sent.next.insert(name, ids.end);
                }
                return;
            }
            sent.acknowledged.entry(name).or_default().extend(ids.clone());
            sent.next.insert(name, ids.end);
        }
        let keys = [("key".to_string(), texts(keys()))].into();
        let Ok(read) = client.get(v1::GetRequest { service: "all".into(), keys, ..Default::default() }).await else {
            return;
        };
        let Ok(status) = client.status().await else { return };
        for name in SOURCES {
            let history = status.sources[name].history.as_ref().unwrap();
            let loading = history.state == "loading";
            assert!(loading || history.state == "loaded", "{}", history.state);
            assert!(!loading || read.stale.iter().any(|stale| stale == name), "{name} is not said to be stale");
        }
    }
}

/// Whether a history is loaded, by what is kept of it.
fn is_loaded(folder: &Path, name: &str) -> bool {
    let list = std::fs::read(folder.join(format!("data/files/{name}.history.json"))).unwrap_or_default();
    let list: Json = serde_json::from_slice(&list).unwrap_or_default();
    list["files"].as_array().is_some_and(|files| files.iter().all(|file| file["rows"].is_u64()))
}

async fn loaded(client: &Client) -> v1::StatusResponse {
    for _ in 0..6000 {
        let status = client.status().await.unwrap();
        let state = |name: &str| status.sources[name].history.as_ref().unwrap().state.clone();
        if SOURCES.iter().all(|name| state(name) == "loaded") {
            return status;
        }
        assert!(SOURCES.iter().all(|name| !state(name).starts_with("stopped")), "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the history is not loaded within a minute");
}

/// The rows of a source in the order of the log. Those at rest are what the files have, each once and in order.
fn logged(folder: &Path, name: &str) -> Vec<Row> {
    let mut reader = LogReader::open(&folder.join("data/log"), LogPlace::default()).unwrap();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let mut rows = Vec::new();
    while let Some(read) = reader.next_frame().unwrap() {
        let frame = read.frame;
        if frame.source != name {
            continue;
        }
        let next = next.entry(frame.partition).or_default();
        assert_eq!(frame.first_offset, *next, "{name}/{}", frame.partition);
        *next += frame.consumed;
        let of_frame = if frame.partition >= HISTORY { at_rest(name, &frame) } else { of_stream(name, &frame) };
        let accepted: Vec<u64> =
            of_frame.iter().filter(|row| accept::accept(&source(name), row).is_some()).map(|row| row.offset).collect();
        let found: Vec<u64> = frame.batches.iter().flat_map(|batch| batch.offsets.clone()).collect();
        assert_eq!(found, accepted, "good events of {name}/{} from {}", frame.partition, frame.first_offset);
        rows.extend(of_frame);
    }
    for (at, (file, _, count)) in files(name).iter().enumerate() {
        assert_eq!(next[&(HISTORY + at as u32)], *count as u64, "{file}");
    }
    rows
}

fn at_rest(name: &str, frame: &Frame) -> Vec<Row> {
    let (_, first, _) = files(name)[(frame.partition - HISTORY) as usize];
    let row = |offset: u64| Row {
        partition: frame.partition,
        offset,
        arrival: frame.accepted_at,
        columns: lake::row(name, first + offset as i64).columns(),
    };
    (frame.first_offset..frame.first_offset + frame.consumed).map(row).collect()
}

fn of_stream(name: &str, frame: &Frame) -> Vec<Row> {
    let row = |offset: u64, arrival: i64, id: i64| Row {
        partition: frame.partition,
        offset,
        arrival,
        columns: streamed(name, id).columns(),
    };
    let mut rows = Vec::new();
    for batch in &frame.batches {
        for (at, offset) in batch.offsets.iter().enumerate() {
            let Value::Int64(id) = batch.columns[0].value(at) else { panic!("an id is null") };
            rows.push(row(*offset, batch.arrivals[at], id));
        }
    }
    for dead in &frame.dead {
        assert!(dead.code == "E1004" && dead.reason.contains("history_until"), "{}", dead.reason);
        let event: Json = serde_json::from_slice(&dead.payload).unwrap();
        rows.push(row(dead.offset, frame.accepted_at, event["id"].as_i64().unwrap()));
    }
    rows.sort_by_key(|row| row.offset);
    rows
}

/// Everything that the oracle knows in the end.
struct Truth {
    rows: BTreeMap<&'static str, Vec<Row>>,
    /// by view and key, in the total order
    events: HashMap<(String, String), Vec<Event>>,
    notes: BTreeMap<&'static str, Notes>,
}

impl Truth {
    fn of(folder: &Path) -> Truth {
        let rows: BTreeMap<&'static str, Vec<Row>> = SOURCES.map(|name| (name, logged(folder, name))).into();
        let mut events = HashMap::new();
        for view in views() {
            let mut by_key: BTreeMap<String, Vec<Row>> = BTreeMap::new();
            for row in &rows[view.source.as_str()] {
                let Datum::Text(key) = &row.columns[1] else { panic!("a key is null") };
                by_key.entry(key.clone()).or_default().push(row.clone());
            }
            for (key, rows) in by_key {
                let found = events_of(&view, &source(&view.source), &rows, &[Datum::Text(key.clone())]);
                events.insert((view.name.clone(), key), found);
            }
        }
        let notes = SOURCES.map(|name| (name, read_commits(&folder.join("data/log"), name).unwrap())).into();
        Truth { rows, events, notes }
    }

    /// When an event could first be read.
    fn visible_from(&self, name: &str, event: &Event) -> i64 {
        if event.partition >= HISTORY {
            return event.arrival;
        }
        let noted = self.notes[name][&event.partition].iter().find(|(next, _)| event.offset < *next);
        event.arrival.max(noted.expect("every event has a note").1)
    }

    /// All features at T, by `view:feature`; with `served` only of what could be read then.
    fn values(&self, key: &str, t: i64, served: bool) -> Vec<(String, Value<'static>)> {
        let mut values = Vec::new();
        for view in views() {
            let mut events = self.events.get(&(view.name.clone(), key.to_string())).cloned().unwrap_or_default();
            events.retain(|event| !served || self.visible_from(&view.source, event) <= t);
            let answers = answer(&view, &source(&view.source), &events, t, None);
            values.extend(answers.into_iter().map(|(name, a)| (format!("{}:{name}", view.name), value(&a.value))));
        }
        values
    }
}

fn check_status(status: &v1::StatusResponse, truth: &Truth) {
    for name in SOURCES {
        let (found, rows) = (&status.sources[name], &truth.rows[name]);
        let expected = accept::source_ledger(&source(name), rows);
        assert_eq!(
            (found.consumed, found.accepted, found.dead_lettered),
            (expected.consumed, expected.accepted, expected.dead_lettered),
            "ledger of {name}"
        );
        let mut positions: HashMap<u32, u64> = HashMap::new();
        rows.iter().for_each(|row| *positions.entry(row.partition).or_default() += 1);
        assert_eq!(found.positions, positions, "positions of {name}");
        let history = found.history.as_ref().unwrap();
        let (all, rows) = (files(name).len() as u32, files(name).iter().map(|(_, _, rows)| *rows as u64).sum());
        assert_eq!((history.files_done, history.files, history.rows), (all, all, rows), "history of {name}");
    }
    for view in views() {
        let found = &status.views[&view.name];
        let expected = accept::ledger(&view, &source(&view.source), &truth.rows[view.source.as_str()]);
        assert_eq!(
            (found.applied, found.filtered, found.keyless, found.late, found.duplicate),
            (expected.applied, expected.filtered, expected.keyless, expected.late, expected.duplicate),
            "ledger of {}",
            view.name
        );
    }
}

/// Live reads, or reads as of a past moment, of every key: one line for each.
fn read(server: &Server, folder: &Path, as_of: Option<&str>) -> Vec<Json> {
    let path = folder.join("keys.csv");
    std::fs::write(&path, format!("key\n{}\n", keys().join("\n"))).unwrap();
    let arguments = ["get", "all", "--keys", path.to_str().unwrap(), "--json"];
    let output = run(server, &[&arguments[..], &as_of.map_or(vec![], |t| vec!["--as-of", t])].concat());
    let lines: Vec<Json> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), KEYS as usize, "{}", String::from_utf8_lossy(&output.stderr));
    lines
}

fn check_reads(lines: &[Json], truth: &Truth) {
    for line in lines {
        let key = line["keys"]["key"].as_str().unwrap();
        let t = parse_rfc3339(line["as_of"].as_str().unwrap()).unwrap();
        for (name, expected) in truth.values(key, t, false) {
            assert_eq!(line["values"][&name], tidemill::json::value(&expected, None), "{name} of {key} at {t}");
        }
        assert_eq!(line["stale"], Json::Array(Vec::new()));
    }
}

/// A training set's columns by name.
fn export(server: &Server, folder: &Path, visibility: &str) -> HashMap<String, Vec<Value<'static>>> {
    let (spine, out) = (folder.join("spine.csv"), folder.join(visibility));
    let (spine, out) = (spine.to_str().unwrap(), out.to_str().unwrap());
    let arguments =
        ["export", "all", "--spine", spine, "--time", "t", "--visibility", visibility, "--out", out, "--json"];
    let output = run(server, &arguments);
    let result: Json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let mut columns: HashMap<String, Vec<Value<'static>>> = HashMap::new();
    for file in result["files"].as_array().unwrap() {
        let mut file = ParquetFile::open(Path::new(file.as_str().unwrap()), 0).unwrap();
        while let Some(next) = file.next_columns() {
            let (batch, rows) = next.unwrap();
            for (name, column) in &batch {
                let values = columns.entry(name.clone()).or_default();
                values.extend((0..rows).map(|row| Column::value(column, row).into_owned()));
            }
        }
    }
    columns
}

/// Around events of the past, and around moments at which events of the stream became readable.
fn check_training_sets(server: &Server, folder: &Path, truth: &Truth, random: &mut rand::rngs::StdRng) {
    let noted: Vec<i64> = truth.notes["named"].values().flatten().map(|(_, time)| *time).collect();
    let mut spine: Vec<(String, i64)> = Vec::new();
    for number in 0..300 {
        let near = [0, 1, -1, 2 * SECOND, 2 * SECOND + 1, DAY][random.random_range(0..6)];
        let t = match number % 2 {
            0 => lake::row("named", random.random_range(0..100_000)).at.unwrap_or(START) + near,
            _ => noted[random.random_range(0..noted.len())] + near.signum(),
        };
        spine.push((format!("k{}", random.random_range(0..KEYS + 1)), t));
    }
    let text: String = spine.iter().map(|(key, t)| format!("{key},{}\n", rfc3339(*t))).collect();
    std::fs::write(folder.join("spine.csv"), format!("key,t\n{text}")).unwrap();
    let mut differing = 0;
    let (known, seen) = (export(server, folder, "event_time"), export(server, folder, "served"));
    for (at, (key, t)) in spine.iter().enumerate() {
        for (columns, served) in [(&known, false), (&seen, true)] {
            for (name, expected) in truth.values(key, *t, served) {
                let found = &columns[&name.replace(':', "__")][at];
                assert!(found.same(&expected), "{name} of {key} at {t}, served {served}: {found:?}, not {expected:?}");
            }
        }
        differing += usize::from(!known["v__n"][at].same(&seen["v__n"][at]));
    }
    assert!(differing > 0, "what the stream brought was not known when it happened");
}

/// What the storm must have held, or it has shown nothing.
fn check_storm(truth: &Truth, sent: &Sent) {
    for name in SOURCES {
        let of_stream = truth.rows[name].iter().filter(|row| row.partition < HISTORY);
        let kept: BTreeSet<i64> =
            of_stream.map(|row| if let Datum::Int(id) = row.columns[0] { id } else { panic!() }).collect();
        assert!(sent.acknowledged[name].is_subset(&kept), "acknowledged events of {name} are lost");
    }
    let view = &views()[0];
    let rows = &truth.rows["named"];
    let fates = accept::fates(view, &source("named"), rows);
    for at_rest in [true, false] {
        let duplicates = rows.iter().zip(&fates).filter(|(r, f)| r.is_at_rest() == at_rest && **f == Fate::Duplicate);
        println!("duplicates at rest {at_rest}: {}", duplicates.count());
    }
    let left_out = truth.rows["fenced"].iter().filter(|row| accept::is_beyond_fence(&source("fenced"), row)).count();
    assert_eq!(left_out, 5_000, "rows beyond the fence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_and_stream_under_twenty_kills_are_what_the_oracle_says() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("history under kills: TIDEMILL_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let folder = project(DEFINITIONS);
    let path = folder.path();
    std::fs::write(path.join("tidemill.toml"), "verify_share = 1.0\n[log]\nsegment_mb = 0.5\n").unwrap();
    lake::write(path);
    let mut sent = Sent { next: [("named", OVERLAP), ("fenced", FENCE - 500)].into(), acknowledged: BTreeMap::new() };
    let mut while_loading = 0;
    for _ in 0..KILLS {
        let server = Server::start(path).await;
        let address = server.address.clone();
        let wait = Duration::from_micros(500 + random.random_range(0..80_000));
        let killer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            server.kill();
        });
        load(&address, &mut sent, &mut random).await;
        killer.await.unwrap();
        while_loading += usize::from(!is_loaded(path, "named"));
    }
    println!("{while_loading} of {KILLS} kills came while the history was loaded");
    assert!(while_loading > 0);
    let server = Server::start(path).await;
    let client = server.client().await;
    let more: String = (sent.next["named"]..sent.next["named"] + 500).map(|id| streamed("named", id).json()).collect();
    client.push(ndjson("named", more, v1::Wait::Readable)).await.unwrap();
    let status = loaded(&client).await;
    let truth = Truth::of(path);
    check_storm(&truth, &sent);
    check_status(&status, &truth);
    check_reads(&read(&server, path, None), &truth);
    let past = rfc3339(START + 20 * DAY + 1);
    let as_of = read(&server, path, Some(&past));
    check_reads(&as_of, &truth);
    check_training_sets(&server, path, &truth, &mut random);
    let verified = run(&server, &["verify", "--json"]);
    let verified: Json = serde_json::from_slice(&verified.stdout).unwrap();
    assert!(verified["differences"] == 0 && verified["sampled"].as_u64().unwrap() > 0, "{verified}");
    assert_eq!(server.terminate(), Some(0));

    // What is loaded is in the log: neither the files nor the state are needed any more.
    std::fs::remove_dir_all(path.join("lake")).unwrap();
    std::fs::remove_dir_all(path.join("data/state")).unwrap();
    let server = Server::start(path).await;
    check_status(&server.client().await.status().await.unwrap(), &truth);
    let positions = |lines: &[Json]| lines.iter().map(|line| line["values"].clone()).collect::<Vec<_>>();
    assert_eq!(positions(&read(&server, path, Some(&past))), positions(&as_of));
}
