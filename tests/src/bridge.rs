//! From the oracle's words to the engine's: definitions as files, rows as batches, answers side by side.

use tidemill_features::definitions::{DefinitionFile, Registry, check};
use tidemill_features::expression::Column;
use tidemill_features::read::{Answer, Status};
use tidemill_features::stream::EventBatch;
use tidemill_features::value::Value;

use crate::oracle::model::{self, Accuracy, Datum, Row, Source};
use crate::oracle::read::{Request, request_row};
use crate::oracle::{accept, toml};

/// A datum as the engine's value.
pub fn value(datum: &Datum) -> Value<'static> {
    match datum {
        Datum::Null => Value::Null,
        Datum::Bool(v) => Value::Bool(*v),
        Datum::Int(v) => Value::Int64(*v),
        Datum::Float(v) => Value::Float64(*v),
        Datum::Text(v) => Value::Text(v.clone().into()),
        Datum::Bytes(v) => Value::Bytes(v.clone().into()),
        Datum::Time(v) => Value::Timestamp(*v),
        Datum::Decimal(v, _) => Value::Decimal(*v),
        Datum::List(items) => Value::List(items.iter().map(value).collect()),
        Datum::Map(entries) => Value::Map(entries.iter().map(|(k, v)| (value(k), value(v))).collect()),
        Datum::Vector(items) => Value::List(items.iter().map(|item| Value::Float64(f64::from(*item))).collect()),
    }
}

/// The registry of a case's definitions, by way of their TOML.
pub fn registry(sources: &[model::Source], views: &[model::View]) -> Registry {
    let text = toml::project(sources, views);
    let files = [DefinitionFile { path: "case.toml".into(), text: text.clone() }];
    check(&files).unwrap_or_else(|problems| panic!("{}\n{text}", problems[0]))
}

/// The accepted ones among rows of one partition, as the engine's decode would hand them on.
pub fn batch(source: &Source, rows: &[&Row]) -> EventBatch {
    let mut batch = EventBatch { partition: rows.first().map_or(0, |r| r.partition), ..EventBatch::default() };
    let mut columns: Vec<Vec<Value<'static>>> = vec![Vec::new(); source.fields.len()];
    for row in rows {
        assert_eq!(row.partition, batch.partition, "a batch is of one partition");
        let Some(event) = accept::accept(source, row) else { continue };
        batch.times.push(event.event_time);
        batch.arrivals.push(event.arrival);
        batch.offsets.push(event.offset);
        for (column, datum) in columns.iter_mut().zip(&event.columns) {
            column.push(value(datum));
        }
    }
    batch.columns = columns.into_iter().map(Column::Values).collect();
    batch
}

/// Whether both say the same: to the bit, or within the stated bound of sketches and transcendental functions.
pub fn same(engine: &Answer, oracle: &model::Answer) -> bool {
    let status = match oracle.status {
        model::Status::Present => Status::Present,
        model::Status::Defaulted => Status::Defaulted,
        model::Status::Empty => Status::Empty,
        model::Status::NotFound => Status::NotFound,
        model::Status::Error => Status::Error,
    };
    let fits = match (&oracle.accuracy, &engine.value) {
        (Accuracy::Exact, engine) => engine.same(&value(&oracle.value)),
        (_, Value::Null) => oracle.accepts(&Datum::Null),
        (_, Value::Float64(v)) => oracle.accepts(&Datum::Float(*v)),
        (_, Value::Int64(v)) => oracle.accepts(&Datum::Int(*v)),
        // Computed from something that is only right within a bound.
        _ => matches!(oracle.accuracy, Accuracy::Unknown),
    };
    let unknown = matches!(oracle.accuracy, Accuracy::Unknown);
    (engine.status == status || unknown) && engine.newest == oracle.newest && fits
}

/// The request's row of a read as the engine's server would hand it on: one event at T, newest of all.
pub fn request_batch(view: &model::View, source: &Source, key: &[Datum], request: &Request, t: i64) -> EventBatch {
    let row = request_row(view, source, key, request, t);
    let columns = row.columns.iter().map(|datum| Column::Values(vec![value(datum)])).collect();
    EventBatch { columns, times: vec![t], arrivals: vec![t], partition: u32::MAX, offsets: vec![u64::MAX] }
}
