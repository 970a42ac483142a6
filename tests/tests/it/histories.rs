//! Histories give what exports write, and a read of many moments what reads of one give; what is wrong with what a caller
//! sends is said, and a caller who goes away leaves nothing behind.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch, TimestampMicrosecondArray,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tidemill::columnar::ParquetFile;
use tidemill_client::{Client, ClientError, v1};
use tidemill_features::time::rfc3339;
use tidemill_tests::server::{Server, project};
use tokio_stream::StreamExt;

use crate::verify::{DEFINITIONS, data, live, run};

/// Batches as the bytes of an Arrow IPC stream.
pub fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// Sends a spine in pieces and gives what comes back, as one batch.
pub async fn history(
    client: &Client,
    start: v1::HistoryStart,
    spine: Vec<u8>,
) -> Result<(RecordBatch, v1::HistoryResult), ClientError> {
    use v1::history_response::Part;
    let pieces: Vec<Vec<u8>> = spine.chunks(300_001).map(<[u8]>::to_vec).collect();
    let mut answer = client.history(start, tokio_stream::iter(pieces)).await?;
    let (mut bytes, mut result) = (Vec::new(), None);
    while let Some(message) = answer.next().await {
        match message?.part {
            Some(Part::Arrow(piece)) => {
                assert!(result.is_none() && (1..=1 << 20).contains(&piece.len()));
                bytes.extend_from_slice(&piece);
            }
            Some(Part::Result(last)) => result = Some(last),
            None => panic!("an empty message"),
        }
    }
    let reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    Ok((arrow_select::concat::concat_batches(&schema, &batches).unwrap(), result.unwrap()))
}

/// The rows of Parquet files, as one batch.
pub fn rows_of(files: &[Json]) -> RecordBatch {
    let (mut batches, mut schema) = (Vec::new(), None);
    for file in files {
        let mut file = ParquetFile::open(Path::new(file.as_str().unwrap()), 0).unwrap();
        schema = Some(file.schema());
        while let Some(batch) = file.next_batch() {
            batches.push(batch.unwrap());
        }
    }
    arrow_select::concat::concat_batches(&schema.unwrap(), &batches).unwrap()
}

struct Row {
    card: String,
    at: i64,
    amount: Option<f64>,
}

fn rows(random: &mut rand::rngs::StdRng, now: i64) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..600 {
        let card = format!("c{}", random.random_range(0..6));
        let amount = random.random_bool(0.8).then(|| f64::from(random.random_range(0..90)) / 8.0);
        let at = now + random.random_range(-9_000_000_000..1_000_000);
        rows.push(Row { card, at, amount });
        if random.random_bool(0.05) {
            let Row { card, at, amount } = &rows[random.random_range(0..rows.len())];
            rows.push(Row { card: card.clone(), at: *at, amount: *amount });
        }
    }
    rows
}

/// Two batches whose dictionaries differ, with a label that is a list.
fn batches(rows: &[Row]) -> Vec<RecordBatch> {
    let batch = |(first, rows): (usize, &[Row])| {
        let cards: DictionaryArray<Int8Type> = rows.iter().map(|row| row.card.as_str()).collect();
        let at = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.at)).with_timezone("UTC");
        let labels = (0..rows.len()).map(|row| (row % 7 > 0).then(|| vec![Some((first + row) as i64), None]));
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("label", Arc::new(ListArray::from_iter_primitive::<arrow_array::types::Int64Type, _, _>(labels)), true),
            ("card", Arc::new(cards), true),
            ("amount", Arc::new(rows.iter().map(|row| row.amount).collect::<Float64Array>()), true),
            ("at", Arc::new(at), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let half = rows.len() / 3;
    [(0, &rows[..half]), (half, &rows[half..])].into_iter().map(batch).collect()
}

fn start(service: &str) -> v1::HistoryStart {
    v1::HistoryStart { service: service.into(), time_column: "at".into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_what_exports_write() {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    live(&server).await;
    let client = server.client().await;
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("histories: TIDEMILL_SEED={seed}");
    let rows = rows(&mut rand::rngs::StdRng::seed_from_u64(seed), tidemill::clock::Clock::default().now());
    let lines = rows.iter().map(|Row { card, at, amount }| {
        let amount = amount.map_or("null".to_string(), |amount| amount.to_string());
        format!("{{\"card\":\"{card}\",\"amount\":{amount},\"at\":\"{}\"}}\n", rfc3339(*at))
    });
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("spine.ndjson"), lines.collect::<String>()).unwrap();
    std::fs::write(path("spine.arrows"), stream(&batches(&rows))).unwrap();
    let mut differing = 0;
    for (name, visibility, delay) in [
        ("served", v1::Visibility::Served, None),
        ("event_time", v1::Visibility::EventTime, None),
        ("late", v1::Visibility::Served, Some(60_000_000)),
    ] {
        let start = v1::HistoryStart { visibility: visibility as i32, assumed_delay: delay, ..start("all") };
        let (batch, result) = history(&client, start, stream(&batches(&rows))).await.unwrap();
        assert_eq!((batch.num_rows(), result.rows), (rows.len(), rows.len() as u64));
        let manifest: Json = serde_json::from_str(&result.manifest).unwrap();
        assert_eq!((&manifest["rows"], &manifest["service"]), (&result.rows.into(), &"all".into()), "{manifest}");
        let mut exported = Vec::new();
        for spine in ["spine.ndjson", "spine.arrows"] {
            let out = path(&format!("{name}_{spine}"));
            let visible = visibility.as_str_name().to_lowercase();
            let mut arguments =
                vec!["export", "all", "--time", "at", "--json", "--out", &out, "--visibility", &visible];
            let spine = path(spine);
            arguments.extend(["--spine", &spine]);
            arguments.extend(delay.is_some().then_some(["--assumed-delay", "1m"]).into_iter().flatten());
            let output = run(&server, &arguments);
            let made: Json = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
            exported.push(rows_of(made["files"].as_array().unwrap()));
        }
        let features: Vec<String> =
            batch.schema().fields().iter().map(|f| f.name().clone()).filter(|name| name.contains("__")).collect();
        assert_eq!(features.len(), 8, "{features:?}");
        for name in features.iter().map(String::as_str).chain(["amount", "at", "label"]) {
            for set in &exported {
                if let Some(column) = set.column_by_name(name) {
                    assert_eq!(column, batch.column_by_name(name).unwrap(), "{name}");
                }
            }
        }
        assert!(exported[1].column_by_name("label").is_some());
        let sent = arrow_select::concat::concat_batches(&batches(&rows)[0].schema(), &batches(&rows)).unwrap();
        for name in ["label", "card", "amount", "at"] {
            assert_eq!(batch.column_by_name(name), sent.column_by_name(name), "{name} passes through");
        }
        differing += usize::from(exported[0].column_by_name("cards__spent_1h") != Some(&known(&exported[0])));
    }
    assert!(differing > 0, "a history without values shows nothing");
}

/// What a column without any value would be.
fn known(batch: &RecordBatch) -> ArrayRef {
    Arc::new(Float64Array::new_null(batch.num_rows()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_many_moments_are_reads_of_each() {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    live(&server).await;
    let client = server.client().await;
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("moments: TIDEMILL_SEED={seed}");
    let rows = rows(&mut rand::rngs::StdRng::seed_from_u64(seed), tidemill::clock::Clock::default().now());
    let rows = &rows[..120];
    let get = |rows: &[Row]| v1::GetRequest {
        service: "all".into(),
        keys: [("card".to_string(), tidemill_client::texts(rows.iter().map(|row| &row.card)))].into(),
        request: [("amount".to_string(), tidemill_client::doubles(rows.iter().map(|row| row.amount.unwrap_or(1.5))))]
            .into(),
        value_times: true,
        ..Default::default()
    };
    let times: Vec<i64> = rows.iter().map(|row| row.at).collect();
    let together = client.get(v1::GetRequest { times: times.clone(), ..get(rows) }).await.unwrap();
    assert_eq!(Some(&together.read_time), times.iter().max());
    let shown = |columns: &[v1::Column], row: usize| {
        let of = |column: &v1::Column| {
            let cells = tidemill::serving::wire::from_wire(&column.name, column).unwrap();
            let status = column.statuses.get(row).copied().unwrap_or(0);
            format!("{} {:?} {status} {:?}", column.name, cells.value(row), column.newest.get(row))
        };
        columns.iter().map(of).collect::<Vec<_>>()
    };
    for (number, row) in rows.iter().enumerate() {
        let one = client.get(v1::GetRequest { as_of: Some(row.at), ..get(std::slice::from_ref(row)) }).await.unwrap();
        assert_eq!(shown(&one.columns, 0), shown(&together.columns, number), "{} at {}", row.card, row.at);
    }
    // Many keys at one past moment, too.
    let as_of = rows[0].at;
    let at_once = client.get(v1::GetRequest { as_of: Some(as_of), ..get(rows) }).await.unwrap();
    for (number, row) in rows.iter().enumerate().take(40) {
        let one = client.get(v1::GetRequest { as_of: Some(as_of), ..get(std::slice::from_ref(row)) }).await.unwrap();
        assert_eq!(shown(&one.columns, 0), shown(&at_once.columns, number), "{} at {as_of}", row.card);
    }
    for (wrong, code) in [
        (v1::GetRequest { times: vec![0], ..get(rows) }, "E2007"),
        (v1::GetRequest { times: vec![i64::MAX; rows.len()], ..get(rows) }, "E2015"),
        (v1::GetRequest { times, as_of: Some(0), ..get(rows) }, "E2015"),
    ] {
        assert_eq!(client.get(wrong).await.unwrap_err().code, code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_spines_are_refused_and_callers_may_go_away() {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    live(&server).await;
    let client = server.client().await;
    let some = batches(&[("c1", 0), ("c2", 1)].map(|(card, at)| Row { card: card.into(), at, amount: None }));
    let good = stream(&some);
    let without = |name: &str| {
        let batch = &some[1];
        let kept: Vec<usize> = (0..4).filter(|at| batch.schema().field(*at).name() != name).collect();
        stream(&[batch.project(&kept).unwrap()])
    };
    let clash = RecordBatch::try_from_iter([
        ("card", some[1].column(1).clone()),
        ("amount", some[1].column(2).clone()),
        ("at", some[1].column(3).clone()),
        ("cards__spent_1h", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
    ])
    .unwrap();
    let no_time = v1::HistoryStart { time_column: String::new(), ..start("all") };
    let delayed = v1::HistoryStart { visibility: 1, assumed_delay: Some(1), ..start("all") };
    for (start, bytes, code, message) in [
        (start("al"), good.clone(), "E2001", "unknown feature service"),
        (no_time, good.clone(), "E3040", "the time of each row"),
        (delayed, good.clone(), "E3041", "assumed delay"),
        (start("all"), without("card"), "E3002", "the spine has no column for the key `card`"),
        (start("all"), without("amount"), "E3002", "the request value `amount`"),
        (start("all"), b"not arrow at all".to_vec(), "E3001", "the spine: the stream is damaged"),
        (start("all"), good[..good.len() / 2].to_vec(), "E3001", "cut"),
        (start("all"), good[..good.len() - 8].to_vec(), "E3001", "no end mark"),
        (start("all"), Vec::new(), "E3001", "cut"),
        (start("all"), stream(&[clash]), "E3006", "cards__spent_1h"),
    ] {
        let error = history(&client, start, bytes).await.unwrap_err();
        assert!(error.code == code && error.message.contains(message), "{code} {message}: {error:?}");
    }
    // Zero rows are fine.
    let none = stream(&[some[1].slice(0, 0)]);
    assert_eq!(history(&client, start("all"), none).await.unwrap().0.num_rows(), 0);
    // Callers who go away, before and after the last row, give their places back.
    for step in 0..6 {
        let pieces = tokio_stream::iter([good[..good.len() / 2].to_vec()]);
        let slow = pieces.chain(tokio_stream::pending().map(|(): ()| Vec::new()));
        let answer = client.history(start("all"), slow).await;
        if step % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        drop(answer);
    }
    let mut again = history(&client, start("all"), good.clone()).await;
    for _ in 0..200 {
        match &again {
            Err(error) if error.code == "E3025" => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => break,
        }
        again = history(&client, start("all"), good.clone()).await;
    }
    assert_eq!(again.unwrap().0.num_rows(), 2);
    let left: Vec<_> = std::fs::read_dir(data(folder.path()).join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
