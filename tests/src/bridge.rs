//! From the oracle's words to the engine's: definitions as files, rows as batches, answers side by side.

use tidemill_features::definitions::{DefinitionFile, Registry, check};
use tidemill_features::expression::Column;
use tidemill_features::read::{Answer, Status};
use tidemill_features::stream::EventBatch;
use tidemill_features::value::Value;

use crate::oracle::model::{self, Datum, Row, Source};
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
        // adapted at merge
        Datum::Map(_) | Datum::Vector(_) => Value::Null,
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

/// Whether both say the same, to the bit.
pub fn same(engine: &Answer, oracle: &model::Answer) -> bool {
    let status = match oracle.status {
        model::Status::Present => Status::Present,
        model::Status::Defaulted => Status::Defaulted,
        model::Status::Empty => Status::Empty,
        model::Status::NotFound => Status::NotFound,
        model::Status::Error => Status::Error,
    };
    engine.status == status && engine.newest == oracle.newest && engine.value.same(&value(&oracle.value))
}
