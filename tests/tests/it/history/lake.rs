//! Two sources whose events lie in files and come through a stream: what stands in the files, and the definitions of both, once
//! for the server and once in the oracle's words.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use tidemill::columnar::ParquetWriter;
use tidemill_tests::oracle::expression::Expr;
use tidemill_tests::oracle::model::{Aggregate, Datum, Feature, Source, Type, View, Window};

pub const DEFINITIONS: &str = r#"
[source.named]
connector = "push"
event_time = "at"
event_id = "id"
dedup_horizon = "36500d"
assumed_delay = "2s"
history = "lake/**/*.*"
fields = { id = "int64", key = "string", x = "float64", at = "timestamp[us]" }

[source.fenced]
connector = "push"
event_time = "at"
history = "past/*"
history_until = "2023-11-16T15:53:20Z"
fields = { id = "int64", key = "string", x = "float64", at = "timestamp[us]" }

[entity.e]
key = "key"

[view.v]
entity = "e"
source = "named"
[view.v.features]
n = { agg = "count()", window = "lifetime" }
total = { agg = "sum(x)", window = "lifetime" }
month = { agg = "count()", window = "30d" }
three = { agg = "last_k(x, 3)", window = "lifetime" }

[view.f]
entity = "e"
source = "fenced"
[view.f.features]
n = { agg = "count()", window = "lifetime" }
day = { agg = "sum(x)", window = "1d" }

[service.all]
features = ["v:*", "f:*"]
"#;

pub const SECOND: i64 = 1_000_000;
pub const DAY: i64 = 86_400 * SECOND;
pub const START: i64 = 1_700_000_000 * SECOND;
pub const KEYS: i64 = 23;
/// Of `fenced`: the first id that the files leave to the stream.
pub const FENCE: i64 = 15_000;
const UNTIL: i64 = START + FENCE * 10 * SECOND;
/// Of `named`: the first id of the stream. The files go on beyond it.
pub const OVERLAP: i64 = 90_000;

/// An event; None for the time of a bad one.
pub struct Fields {
    pub id: i64,
    pub x: f64,
    pub at: Option<i64>,
}

impl Fields {
    pub fn key(&self) -> String {
        format!("k{}", (self.id * 31) % KEYS)
    }

    /// By the fields of the sources.
    pub fn columns(&self) -> Vec<Datum> {
        let at = self.at.map_or(Datum::Null, Datum::Time);
        vec![Datum::Int(self.id), Datum::Text(self.key()), Datum::Float(self.x), at]
    }

    pub fn json(&self) -> String {
        let at = self.at.map_or("null".to_string(), |at| at.to_string());
        format!("{{\"id\":{},\"key\":\"{}\",\"x\":{:?},\"at\":{at}}}\n", self.id, self.key(), self.x)
    }
}

/// How an event of the stream differs from the same one in a file: the answers tell which of the two counted.
const FROM_STREAM: f64 = 0.5;

pub fn streamed(source: &str, id: i64) -> Fields {
    let mut fields = event(source, id);
    fields.x += FROM_STREAM;
    fields
}

fn event(source: &str, id: i64) -> Fields {
    let at = match source {
        "named" => START + (id * 7_919_000_003) % (40 * DAY),
        _ => START + id * 10 * SECOND,
    };
    Fields { id, x: (id % 1000) as f64 + 0.1, at: Some(at) }
}

/// A file of a history: its name, the number of its first row in the whole history, and how many rows it has.
pub type LakeFile = (&'static str, i64, i64);

/// In the order of their names, which is that of their partitions.
pub fn files(source: &str) -> &'static [LakeFile] {
    match source {
        "named" => &[
            ("lake/0.parquet", 0, 30_000),
            ("lake/1.csv", 30_000, 15_000),
            ("lake/2.ndjson", 45_000, 15_000),
            ("lake/3.parquet", 60_000, 20_000),
            ("lake/deep/er/5.ndjson", 80_000, 10_000),
            ("lake/deep/er/6.csv", 90_000, 10_000),
        ],
        _ => &[("past/a.csv", 0, 8_000), ("past/b.ndjson", 8_000, 5_000), ("past/c.parquet", 13_000, 7_000)],
    }
}

/// A row of a history: some are bad, some repeat the id of one before.
pub fn row(source: &str, number: i64) -> Fields {
    if source == "fenced" {
        // In no order of time, so that the fence leaves out rows here and there.
        return event(source, (number * 7919) % 20_000);
    }
    let repeats = number % 997 == 996;
    let mut fields = event(source, if repeats { number - 900 } else { number });
    fields.x += f64::from(u8::from(repeats)) * 0.25;
    fields.at = fields.at.filter(|_| number % 1009 != 7);
    fields
}

/// Writes all files of both sources.
pub fn write(project: &Path) {
    for source in ["named", "fenced"] {
        for (name, first, count) in files(source) {
            let path = project.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let rows: Vec<Fields> = (*first..first + count).map(|number| row(source, number)).collect();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("parquet") => write_parquet(&path, &rows),
                Some("csv") => {
                    let mut text = String::from("at,extra,key,id,x\n");
                    for row in &rows {
                        let at = row.at.map(|at| at.to_string()).unwrap_or_default();
                        writeln!(text, "{at},,{},{},{:?}", row.key(), row.id, row.x).unwrap();
                    }
                    std::fs::write(&path, text).unwrap();
                }
                _ => std::fs::write(&path, rows.iter().map(Fields::json).collect::<String>()).unwrap(),
            }
        }
    }
}

pub fn write_parquet(path: &Path, rows: &[Fields]) {
    let batch = |rows: &[Fields]| {
        let columns: [(&str, ArrayRef); 4] = [
            ("x", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.x)))),
            ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id)))),
            ("at", Arc::new(rows.iter().map(|row| row.at).collect::<Int64Array>())),
            ("key", Arc::new(StringArray::from_iter_values(rows.iter().map(Fields::key)))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    };
    let mut writer = ParquetWriter::create(path, batch(&rows[..0]).schema(), &[]).unwrap();
    for rows in rows.chunks(7_000) {
        writer.write_row_group(&[batch(rows)]).unwrap();
    }
    writer.finish().unwrap();
}

/// The sources once more, in the oracle's words.
pub fn source(name: &str) -> Source {
    let is_named = name == "named";
    Source {
        name: name.to_string(),
        fields: [("id", Type::Int64), ("key", Type::Text), ("x", Type::Float64), ("at", Type::Time)]
            .map(|(name, of)| (name.to_string(), of))
            .to_vec(),
        event_time: "at".into(),
        event_id: is_named.then(|| "id".into()),
        arrival_time: None,
        dedup_horizon: 36_500 * DAY,
        max_future_skew: 300 * SECOND,
        assumed_delay: if is_named { 2 * SECOND } else { 0 },
        history: true,
        history_until: (!is_named).then_some(UNTIL),
        table: false,
        delete_when: None,
    }
}

/// The views too.
pub fn views() -> Vec<View> {
    let feature = |name: &str, aggregate: Aggregate, window: Window| Feature {
        name: name.to_string(),
        aggregate,
        filter: None,
        window,
        offset: 0,
        default: None,
        include_request: false,
    };
    let view = |name: &str, source: &str, features: Vec<Feature>| View {
        name: name.to_string(),
        entity_keys: vec!["key".to_string()],
        source: source.to_string(),
        filter: None,
        select: Vec::new(),
        joins: Vec::new(),
        features,
        derived: Vec::new(),
    };
    let x = || Expr::column("x");
    let sliding = |width: i64| Window::Sliding { width, hop: None };
    let of_named = vec![
        feature("n", Aggregate::Count, Window::Lifetime),
        feature("total", Aggregate::Sum(x()), Window::Lifetime),
        feature("month", Aggregate::Count, sliding(30 * DAY)),
        feature("three", Aggregate::LastK { x: x(), k: 3, distinct: false }, Window::Lifetime),
    ];
    let of_fenced =
        vec![feature("n", Aggregate::Count, Window::Lifetime), feature("day", Aggregate::Sum(x()), sliding(DAY))];
    vec![view("v", "named", of_named), view("f", "fenced", of_fenced)]
}
