//! Training sets of the flights: what `export` writes is what the oracle says, for both kinds of visibility, and what a read
//! as of each row's time answers.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tidemill::columnar::columns;
use tidemill_client::v1;
use tidemill_features::expression::Column;
use tidemill_features::time::rfc3339;
use tidemill_features::value::Value;
use tidemill_tests::bridge::value;
use tidemill_tests::oracle::accept::{Event, total_order};
use tidemill_tests::oracle::model::{Datum, Row, Source, View, Window};
use tidemill_tests::oracle::read::{answer, events_of};
use tidemill_tests::server::{Server, binary};

use crate::flights::{loaded, sources, views};
use crate::histories::{history, rows_of, stream};

const ROWS: usize = 100_000;
const HOUR: i64 = 3_600_000_000;

/// A row of the spine.
struct Wanted {
    keys: HashMap<&'static str, String>,
    at: i64,
    /// whether the flight came late
    label: i64,
}

/// Rows at random flights, a third of them of aircraft that nobody knows, some before the first flight, some twice.
fn spine(random: &mut rand::rngs::StdRng, flights: &[Row]) -> Vec<Wanted> {
    let text = |datum: &Datum| if let Datum::Text(text) = datum { Some(text.clone()) } else { None };
    let mut rows: Vec<Wanted> = Vec::with_capacity(ROWS);
    while rows.len() < ROWS {
        let columns = &flights[random.random_range(0..flights.len())].columns;
        let (Some(carrier), Some(tailnum), Some(origin), Some(dest)) =
            (text(&columns[1]), text(&columns[2]), text(&columns[3]), text(&columns[4]))
        else {
            continue;
        };
        let Datum::Time(departed) = columns[5] else { continue };
        let tailnum = if random.random_range(0..10) < 3 { format!("X{}", rows.len()) } else { tailnum };
        let near = [0, 1, HOUR, -400 * 24 * HOUR, random.random_range(-24 * HOUR..240 * HOUR)];
        let at = departed + near[random.random_range(0..50).min(4)];
        let label = i64::from(matches!(columns[7], Datum::Int(delay) if delay > 15));
        let keys = HashMap::from([("carrier", carrier), ("tailnum", tailnum), ("origin", origin), ("dest", dest)]);
        if rows.len() % 1000 == 7 {
            let again = rows.last().map(|row| Wanted { keys: row.keys.clone(), ..*row });
            rows.extend(again);
        }
        rows.push(Wanted { keys, at, label });
    }
    rows
}

fn write_csv(path: &Path, rows: &[Wanted]) {
    let mut text = String::from("row,tailnum,at,origin,dest,label,carrier,dep_delay\n");
    for (number, Wanted { keys, at, label }) in rows.iter().enumerate() {
        let (origin, dest, tailnum, carrier) = (&keys["origin"], &keys["dest"], &keys["tailnum"], &keys["carrier"]);
        text += &format!("{number},{tailnum},{},{origin},{dest},{label},{carrier},7\n", rfc3339(*at));
    }
    std::fs::write(path, text).unwrap();
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", &server.address).output().unwrap()
}

/// What an export wrote: its columns by name, and the same as one batch.
struct Exported {
    columns: HashMap<String, Vec<Value<'static>>>,
    batch: RecordBatch,
}

fn export(server: &Server, folder: &Path, name: &str, more: &[&str]) -> Exported {
    let (spine, out) = (folder.join("spine.csv"), folder.join(name));
    let fixed = ["export", "late_arrival_v1", "--spine", spine.to_str().unwrap(), "--time", "at", "--json", "--out"];
    let output = run(server, &[&fixed[..], &[out.to_str().unwrap()], more].concat());
    let result: Json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(result["rows"], ROWS);
    let batch = rows_of(result["files"].as_array().unwrap());
    let (named, rows) = columns(&batch);
    let values = |column: Column| (0..rows).map(|row| column.value(row).into_owned()).collect();
    Exported { columns: named.into_iter().map(|(name, column)| (name, values(column))).collect(), batch }
}

/// How many of the rows are compared with the oracle and with reads: TIDEMILL_ROWS, or a tenth.
fn rows_checked() -> usize {
    let wanted = std::env::var("TIDEMILL_ROWS").ok().and_then(|rows| rows.parse().ok());
    wanted.unwrap_or(ROWS / 10).clamp(1, ROWS)
}

/// One key of one view: its events in the total order, and the rows that ask for it.
#[derive(Default)]
struct Asked {
    log: Vec<Row>,
    rows: Vec<usize>,
}

/// The keys of a view that some rows ask for.
fn asked(
    view: &View,
    (source, log): &(Source, Vec<Row>),
    rows: &[Wanted],
    checked: &[usize],
) -> Vec<(Vec<Datum>, Asked)> {
    let mut keys: HashMap<Vec<&str>, Asked> = HashMap::new();
    for at in checked {
        let key = view.entity_keys.iter().map(|name| rows[*at].keys[name.as_str()].as_str()).collect();
        keys.entry(key).or_default().rows.push(*at);
    }
    let places: Vec<usize> = view.entity_keys.iter().map(|name| source.field_index(name).unwrap()).collect();
    for row in log {
        let text = |place: &usize| if let Datum::Text(text) = &row.columns[*place] { text } else { "" };
        if let Some(asked) = keys.get_mut(&places.iter().map(text).collect::<Vec<_>>()) {
            asked.log.push(row.clone());
        }
    }
    let datums = |key: Vec<&str>| key.into_iter().map(|text| Datum::Text(text.to_string())).collect();
    keys.into_iter().map(|(key, asked)| (datums(key), asked)).collect()
}

/// The values of one feature at T: over all events of a key, and over those that were known. What lies outside of the window
/// is not looked at.
fn values(view: &View, source: &Source, events: &mut [Event], t: i64) -> [Value<'static>; 2] {
    let over = |events: &[Event]| value(&answer(view, source, events, t, None)[0].1.value);
    let before = events.partition_point(|event| event.event_time < t);
    let first = match &view.features[0].window {
        Window::Sliding { width, .. } | Window::Ttl(width) => {
            events.partition_point(|event| event.event_time < t - width)
        }
        _ => 0,
    };
    let all = over(&events[first..before]);
    let Some(hidden) = events[first..before].iter().position(|event| event.arrival > t) else {
        return [all.clone(), all];
    };
    // Unknown events move behind the known ones, and back: copies of long histories would take most of the time.
    let end = &mut events[first + hidden..before];
    end.sort_by_key(|event| event.arrival > t);
    let known = end.partition_point(|event| event.arrival <= t);
    let visible = over(&events[first..first + hidden + known]);
    events[first + hidden..before].sort_by(total_order);
    [all, visible]
}

/// Every feature of some rows, under both kinds of visibility, on all cores. The result is how many values differ between them.
fn compare_with_oracle(served: &Exported, known: &Exported, rows: &[Wanted], checked: &[usize]) -> usize {
    let sources = sources();
    let views = views();
    let mut work: Vec<(&View, Vec<Datum>, Asked)> = Vec::new();
    for view in &views {
        let of_view = asked(view, &sources[view.source.as_str()], rows, checked);
        work.extend(of_view.into_iter().map(|(key, asked)| (view, key, asked)));
    }
    // The long ones first, so that no core is left alone with one.
    work.sort_by_key(|(.., asked)| std::cmp::Reverse(asked.log.len() * asked.rows.len()));
    let next = AtomicUsize::new(0);
    let compare = || {
        let mut differing = 0;
        while let Some((view, key, asked)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let source = &sources[view.source.as_str()].0;
            let mut events = events_of(view, source, &asked.log, key);
            for feature in &view.features {
                let alone = View { features: vec![feature.clone()], ..(*view).clone() };
                let name = format!("{}__{}", view.name, feature.name);
                for at in &asked.rows {
                    let t = rows[*at].at;
                    let expected = values(&alone, source, &mut events, t);
                    for (set, expected) in [known, served].into_iter().zip(&expected) {
                        let found = &set.columns[&name][*at];
                        assert!(found.same(expected), "{name} of {key:?} at {t}: {found:?}, not {expected:?}");
                    }
                    differing += usize::from(!expected[0].same(&expected[1]));
                    if at % 997 == 0 {
                        // The oracle itself, without the short cuts.
                        let whole = |events: &[Event]| value(&answer(&alone, source, events, t, None)[0].1.value);
                        let visible: Vec<Event> = events.iter().filter(|event| event.arrival <= t).cloned().collect();
                        assert!(whole(&events).same(&expected[0]) && whole(&visible).same(&expected[1]), "{name}");
                    }
                }
            }
        }
        differing
    };
    std::thread::scope(|scope| {
        let beside = scope.spawn(compare);
        compare() + beside.join().unwrap()
    })
}

/// The same rows as a caller sends them.
fn arrow_spine(rows: &[Wanted]) -> Vec<u8> {
    let texts =
        |name: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.keys[name]))) };
    let at = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.at)).with_timezone("UTC");
    let batch = RecordBatch::try_from_iter([
        ("tailnum", texts("tailnum")),
        ("at", Arc::new(at)),
        ("origin", texts("origin")),
        ("dest", texts("dest")),
        ("carrier", texts("carrier")),
        ("dep_delay", Arc::new(Int64Array::from(vec![7; rows.len()]))),
    ])
    .unwrap();
    stream(&[batch])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_of_the_flights_are_what_the_oracle_says() {
    let (folder, server) = loaded().await;
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("exports: TIDEMILL_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let rows = spine(&mut random, &sources()["arrivals"].1);
    write_csv(&folder.path().join("spine.csv"), &rows);
    let clock = tidemill::clock::Clock::default();
    let began = clock.now();
    let took = |what: &str| println!("{what}: {:.1} s after the begin", (clock.now() - began) as f64 / 1e6);
    let served = export(&server, folder.path(), "served", &[]);
    let known = export(&server, folder.path(), "event_time", &["--visibility", "event_time"]);
    took("two exports");
    for set in [&served, &known] {
        for (at, row) in rows.iter().enumerate() {
            let same = |name: &str, expected: &Value<'_>| set.columns[name][at].same(expected);
            assert!(same("row", &Value::Int64(at as i64)) && same("at", &Value::Timestamp(row.at)), "row {at}");
            assert!(same("tailnum", &Value::text(&row.keys["tailnum"])) && same("label", &Value::Int64(row.label)));
        }
    }
    let count = rows_checked();
    // Rows that lie in all parts of the spine.
    let step = ROWS / count;
    let checked: Vec<usize> = (0..count).map(|i| i * step + random.random_range(0..step)).collect();
    assert!(compare_with_oracle(&served, &known, &rows, &checked) > 0, "late arrivals are in the flights");
    took(&format!("{count} rows compared with the oracle"));
    let client = server.client().await;
    for (set, visibility) in [(&served, v1::Visibility::Served), (&known, v1::Visibility::EventTime)] {
        let (service, time_column) = ("late_arrival_v1".into(), "at".into());
        let start = v1::HistoryStart { service, time_column, visibility: visibility as i32, ..Default::default() };
        let (batch, _) = history(&client, start, arrow_spine(&rows)).await.unwrap();
        for (at, field) in batch.schema().fields().iter().enumerate() {
            assert_eq!(set.batch.column_by_name(field.name()), Some(batch.column(at)), "{}", field.name());
        }
        if count < ROWS {
            break;
        }
    }
    took("histories");
    let checked: Vec<usize> = (0..count).map(|i| i * step).collect();
    compare_with_reads(&server, folder.path(), &rows, &checked, &known.columns);
    took(&format!("{count} rows compared with reads"));
}

/// The rows again, as reads of the past; a model that is trained on the export gives them the same scores.
fn compare_with_reads(
    server: &Server,
    folder: &Path,
    rows: &[Wanted],
    some: &[usize],
    known: &HashMap<String, Vec<Value<'static>>>,
) {
    let mut keys = String::from("tailnum,at,origin,dest,carrier,dep_delay\n");
    for at in some {
        let Wanted { keys: of, at, .. } = &rows[*at];
        keys += &format!("{},{},{},{},{},7\n", of["tailnum"], rfc3339(*at), of["origin"], of["dest"], of["carrier"]);
    }
    let path = folder.join("some.csv");
    std::fs::write(&path, keys).unwrap();
    let output = run(server, &["get", "late_arrival_v1", "--keys", path.to_str().unwrap(), "--time", "at", "--json"]);
    let answers = folder.join("answers.ndjson");
    std::fs::write(&answers, &output.stdout).unwrap();
    let lines: Vec<Json> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), some.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for (line, at) in lines.iter().zip(some) {
        assert_eq!(line["as_of"], rfc3339(rows[*at].at));
        for (name, read) in line["values"].as_object().unwrap() {
            let exported = &known[&name.replace(':', "__")][*at];
            assert_eq!(*read, tidemill::json::value(exported, None), "{name} of row {at}");
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/train_model.py");
    let step = (rows.len() / some.len()).to_string();
    let trained = Command::new(crate::sql::duckdb::python())
        .arg(script)
        .args([folder.join("event_time"), answers])
        .arg(step)
        .output()
        .unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
}

/// What cannot be exported is said before anything is written, and nothing half-written stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_exports_get_clear_errors() {
    let folder = tidemill_tests::server::project(
        "[source.s]\nconnector = 'push'\nevent_time = 'at'\nfields = { k = 'string', x = 'float64', at = 'timestamp' }\n\
         [entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\nn = { agg = 'count()', windows = ['1h'] }\n\
         last = { agg = 'last(x)', default = 1.5 }\n[service.all]\nfeatures = ['v:*']\n",
    );
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let rows = "{\"k\":\"a\",\"x\":2,\"at\":\"2026-01-01T00:00:00Z\"}\n{\"k\":\"b\",\"x\":3,\"at\":\"2026-01-01T00:10:00Z\"}\n";
    client.push(tidemill_tests::server::ndjson("s", rows.into(), tidemill_client::v1::Wait::Readable)).await.unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let spine = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        path(name)
    };
    let good = spine("good.csv", "k,at\na,2026-01-01T00:30:00Z\nz,2026-01-01T00:30:00Z\n");
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full/x"), "x").unwrap();
    let cases = [
        ("alll", good.clone(), "at", "new", "all"),
        ("all", path("none.csv"), "at", "new", "none.csv"),
        ("all", good.clone(), "when", "new", "when"),
        ("all", spine("nokey.csv", "kk,at\na,2026-01-01T00:30:00Z\n"), "at", "new", "kk"),
        ("all", spine("null.csv", "k,at\n,2026-01-01T00:30:00Z\n"), "at", "new", "row 1"),
        ("all", spine("naive.csv", "k,at\na,2026-01-01T00:30:00\n"), "at", "new", "offset"),
        ("all", good.clone(), "at", "full", "full"),
        ("all", folder.path().display().to_string(), "at", "new", "ndjson, csv, parquet"),
    ];
    for (service, spine, time, out, expected) in cases {
        let output =
            run(&server, &["export", service, "--spine", &spine, "--time", time, "--out", &path(out), "--json"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(expected), "{expected}: {error}");
        assert!(!Path::new(&path("new")).exists());
    }
    let split =
        run(&server, &["export", "all", "--spine", &good, "--time", "at", "--out", &path("new"), "--split", "a=2"]);
    assert_eq!(split.status.code(), Some(2), "{}", String::from_utf8_lossy(&split.stderr));

    // And what can be: a spine of two rows, one of events, a snapshot, and the same snapshot again.
    let out = run(
        &server,
        &[
            "export",
            "all",
            "--spine",
            &good,
            "--time",
            "at",
            "--out",
            &path("one"),
            "--json",
            "--visibility",
            "event_time",
        ],
    );
    assert_eq!(
        serde_json::from_slice::<Json>(&out.stdout).unwrap()["rows"],
        2,
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let manifest: Json = serde_json::from_slice(&std::fs::read(path("one/_manifest.json")).unwrap()).unwrap();
    assert_eq!(
        (&manifest["positions"]["s"]["0"], &manifest["visibility"]),
        (&2.into(), &"event_time".into()),
        "{manifest}"
    );
    let events = ["export", "all", "--spine-from", "s", "--where", "x > 2", "--out", &path("two"), "--json"];
    let out = run(&server, &events);
    assert_eq!(
        serde_json::from_slice::<Json>(&out.stdout).unwrap()["rows"],
        1,
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let snapshot = |out: &str| {
        let out = run(&server, &["snapshot", "--at", "2026-01-01T00:05:00Z", "--out", out, "--json"]);
        serde_json::from_slice::<Json>(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)))
    };
    let first = snapshot(&path("snapshot"));
    assert_eq!((&first["rows"], &first["files"]), (&1.into(), &snapshot(&path("snapshot"))["files"]));
}
