//! Training sets as another engine reads them: DuckDB sees the spine's columns and every type of feature, with the same values.

use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};
use tidemill::offline::spine::{Spine, Wanted};
use tidemill::offline::training_set::{FeatureColumn, HiveKey, Layout, Split, TrainingSet, Written};
use tidemill_features::read::{Answer, Status};
use tidemill_features::value::{DataType, Value};

use crate::sql::duckdb::python;

/// A type, and its values for three rows.
fn features() -> Vec<(DataType, [Value<'static>; 3])> {
    let text = |text: &'static str| Value::text(text);
    let list = |items: Vec<Value<'static>>| Value::List(items);
    let floats = |items: [f64; 2]| list(items.map(Value::Float64).to_vec());
    let of = |items: DataType| DataType::List(Box::new(items));
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    let nine = 99_999_999_999_999_999_999_999_999_999_999_999_999;
    vec![
        (DataType::Int64, [Value::Int64(i64::MIN), Value::Null, Value::Int64(i64::MAX)]),
        (DataType::Float64, [Value::Float64(0.1), Value::Float64(f64::NEG_INFINITY), Value::Null]),
        (DataType::Bool, [Value::Bool(true), Value::Bool(false), Value::Null]),
        (DataType::Text, [text("é\u{0}\"🙂"), text(""), Value::Null]),
        (DataType::Bytes, [Value::Bytes(vec![0, 255].into()), Value::Bytes(vec![].into()), Value::Null]),
        (DataType::Timestamp, [Value::Timestamp(-1), Value::Timestamp(1_380_603_600_000_001), Value::Null]),
        (decimal(12, 2), [Value::Decimal(-5), Value::Decimal(1250), Value::Null]),
        (decimal(38, 0), [Value::Decimal(nine), Value::Decimal(-nine), Value::Null]),
        (of(DataType::Text), [list(vec![text("a"), Value::Null]), list(vec![]), Value::Null]),
        (of(decimal(38, 3)), [list(vec![Value::Decimal(1)]), list(vec![]), Value::Null]),
        (of(DataType::Timestamp), [list(vec![Value::Timestamp(0)]), list(vec![]), Value::Null]),
        (DataType::Vector(2), [floats([0.5, -1.0]), Value::Null, floats([0.25, 3.0])]),
        (
            DataType::Map(Box::new(DataType::Text), Box::new(DataType::Float64)),
            [
                Value::Map(vec![(text("a"), Value::Float64(1.5)), (text("b"), Value::Null)]),
                Value::Null,
                Value::Map(vec![]),
            ],
        ),
    ]
}

fn name(at: usize) -> String {
    format!("view__f{at}")
}

/// Three rows with their features, out of a CSV spine.
fn write(folder: &Path, layout: Layout) -> Written {
    let spine = folder.join("spine.csv");
    let rows = "at,k,zip,label\n2013-10-01T05:00:00Z,7,01234,true\n2013-09-30T23:59:59.5-00:30,-7,5,\n2013-09-30T05:00:00Z,7,,false\n";
    std::fs::write(&spine, rows).unwrap();
    let wanted = Wanted { time: "at".into(), keys: vec![("k".into(), DataType::Int64)], request: Vec::new() };
    let mut spine = Spine::open(&spine, &wanted).unwrap();
    let features = features();
    let types: Vec<_> = features.iter().enumerate().map(|(at, (of, _))| (name(at), of.clone())).collect();
    let mut set = TrainingSet::create(&folder.join("set"), spine.schema(), &types, layout).unwrap();
    while let Some(rows) = spine.next_rows(2).unwrap() {
        let range = rows.first as usize..rows.first as usize + rows.times.len();
        let answer = |value: &Value<'static>| Answer {
            value: value.clone(),
            status: Status::Present,
            newest: None,
            capped: false,
        };
        let answers: Vec<Vec<Answer>> =
            features.iter().map(|(_, values)| values[range.clone()].iter().map(answer).collect()).collect();
        let columns = types.iter().zip(&answers);
        let columns =
            columns.map(|((name, data_type), answers)| FeatureColumn { name: name.clone(), data_type, answers });
        set.write(&rows, &columns.collect::<Vec<_>>()).unwrap();
    }
    set.finish(Default::default()).unwrap()
}

/// The rows that DuckDB finds.
fn read(files: &Path) -> Vec<Json> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_rows.py");
    let output = Command::new(python()).arg(script).arg(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A row as it should be read.
fn expected(row: usize) -> Json {
    let spine = [
        json!({ "at": "2013-10-01T05:00:00.000000Z", "k": 7, "zip": "01234", "label": true }),
        json!({ "at": "2013-10-01T00:29:59.500000Z", "k": -7, "zip": "5", "label": null }),
        json!({ "at": "2013-09-30T05:00:00.000000Z", "k": 7, "zip": null, "label": false }),
    ];
    let mut all = spine[row].clone();
    for (at, (of, values)) in features().iter().enumerate() {
        all[name(at)] = tidemill::json::value(&values[row], Some(of));
    }
    all
}

#[test]
fn another_engine_reads_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(folder.path(), Layout::default());
    assert_eq!(written.rows, 3);
    assert_eq!(read(&folder.path().join("set/*.parquet")), [expected(0), expected(1), expected(2)]);
}

#[test]
fn folders_become_columns() {
    let folder = tempfile::tempdir().unwrap();
    let split = Some(Split::parse("train=2013-10-01T01:00:00Z,test").unwrap());
    let hive = HiveKey::parse_list("service,date").unwrap();
    write(folder.path(), Layout { service: "fraud".into(), split, hive, ..Layout::default() });
    let row = |at: usize, date: &str| {
        let mut row = expected(at);
        (row["service"], row["date"]) = (json!("fraud"), json!(date));
        row
    };
    let train = read(&folder.path().join("set/train/**/*.parquet"));
    assert_eq!(train, [row(2, "2013-09-30"), row(1, "2013-10-01")]);
    assert_eq!(read(&folder.path().join("set/test/**/*.parquet")), [row(0, "2013-10-01")]);
}
