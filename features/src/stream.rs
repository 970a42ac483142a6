//! From decoded events to what records take in: keys, filters and columns of each view, evaluated once per event.

use std::cell::Cell;

use crate::aggregates::EventOrder;
use crate::codec::put_value;
use crate::definitions::{Source, Stream, View};
use crate::expression::{Column, Expression, Frame};
use crate::record::{Incoming, encode_body};
use crate::value::Value;

/// Longest entity key, encoded. A key is kept with each record and travels with each answer.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// Accepted events of one partition of one source, in log order.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// the source's fields, in order
    pub columns: Vec<Column>,
    /// event times, microseconds
    pub times: Vec<i64>,
    /// arrival times, microseconds
    pub arrivals: Vec<i64>,
    /// of the source
    pub partition: u32,
    /// in the partition, ascending
    pub offsets: Vec<u64>,
}

impl EventBatch {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}

/// A batch as one view sees it.
pub struct Prepared<'b> {
    batch: &'b EventBatch,
    id_column: Option<&'b Column>,
    keys: Bytes,
    bodies: Bytes,
    passes: Vec<bool>,
    /// expressions that could not be computed for some event
    pub row_errors: u64,
}

/// Byte strings in one buffer.
#[derive(Default)]
struct Bytes {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Bytes {
    fn end(&mut self) {
        self.ends.push(self.data.len());
    }

    /// Makes the last one empty.
    fn forget_last(&mut self) {
        if self.ends.pop().is_some() {
            let start = self.ends.last().copied().unwrap_or(0);
            self.data.truncate(start);
            self.end();
        }
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.data[start..self.ends[index]]
    }
}

impl<'b> Prepared<'b> {
    /// Evaluates the view's expressions for every event of a batch.
    pub fn new(view: &View, stream: &Stream, source: &Source, batch: &'b EventBatch) -> Self {
        Prepared::of_keys(view, stream, source, batch, &|_| true)
    }

    /// The same for events of some keys only; the others have neither key nor body.
    pub fn of_keys(
        view: &View,
        stream: &Stream,
        source: &Source,
        batch: &'b EventBatch,
        is_wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Self {
        let errors = Cell::new(0);
        let columns = with_selected(stream, batch, &errors);
        let id_column = source.event_id.map(|at| &batch.columns[at]);
        let count = batch.len();
        let mut prepared = Prepared {
            batch,
            id_column,
            keys: Bytes::default(),
            bodies: Bytes::default(),
            passes: Vec::with_capacity(count),
            row_errors: 0,
        };
        let mut inputs: Vec<Value<'_>> = Vec::with_capacity(stream.inputs.len());
        // Events that come sorted by their keys are asked about once for each key.
        let (mut last_key, mut wanted) = (Vec::new(), true);
        for row in 0..count {
            let frame = Frame { columns: &columns, row, now: 0, errors: &errors };
            prepared.push_key(stream, row);
            if prepared.keys.get(row) != last_key.as_slice() {
                last_key.clear();
                last_key.extend_from_slice(prepared.keys.get(row));
                wanted = prepared.key(row).is_none_or(is_wanted);
            }
            if !wanted {
                prepared.forget_key();
                continue;
            }
            let matches = stream.filter.as_ref().is_none_or(|filter| filter.is_true(&frame));
            let deletes = source.delete_when.as_ref().is_some_and(|delete_when| delete_when.is_true(&frame));
            // A delete counts whatever `where` says: it may have nothing but its key.
            let passes = matches || deletes;
            prepared.passes.push(passes);
            if passes || view.plan.table.is_some() {
                inputs.clear();
                inputs.extend(stream.inputs.iter().map(|input| input.evaluate(&frame).settled()));
                let order = prepared.order(row);
                let filter = |i: usize| match stream.filters.get(i) {
                    Some(filter) => filter.is_true(&frame),
                    None => matches && !deletes,
                };
                encode_body(&view.plan, &order, filter, &inputs, &mut prepared.bodies.data);
            }
            prepared.bodies.end();
        }
        prepared.row_errors = errors.get();
        prepared
    }

    fn push_key(&mut self, stream: &Stream, row: usize) {
        let start = self.keys.data.len();
        for column in &stream.key_columns {
            let value = self.batch.columns[*column].value(row);
            if value.is_null() {
                self.keys.data.truncate(start);
                break;
            }
            put_value(&mut self.keys.data, &value);
        }
        self.keys.end();
    }

    /// The last event is of no interest.
    fn forget_key(&mut self) {
        self.keys.forget_last();
        self.passes.push(false);
        self.bodies.end();
    }

    fn order(&self, row: usize) -> EventOrder<'b> {
        EventOrder {
            time: self.batch.times[row],
            id: self.id_column.map_or(Value::Null, |column| column.value(row)),
            partition: self.batch.partition,
            offset: self.batch.offsets[row],
        }
    }

    /// The encoded entity key of an event; None where a key column is null. (No encoded key is empty.)
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        Some(self.keys.get(row)).filter(|key| !key.is_empty())
    }

    /// The event as its record takes it in.
    pub fn incoming(&self, row: usize) -> Incoming<'_> {
        Incoming {
            order: self.order(row),
            arrival: self.batch.arrivals[row],
            passes: self.passes[row],
            body: self.bodies.get(row),
        }
    }
}

fn with_selected(stream: &Stream, batch: &EventBatch, errors: &Cell<u64>) -> Vec<Column> {
    let mut columns = batch.columns.clone();
    // What needs a table row has its place here too, but no values.
    columns.resize_with(columns.len() + stream.joined_columns, || Column::Values(Vec::new()));
    for (_, expression) in &stream.select {
        let selected = expression.as_ref().map(|e| evaluate_all(e, &columns, batch.len(), errors));
        columns.push(Column::Values(selected.unwrap_or_default()));
    }
    columns
}

fn evaluate_all(expression: &Expression, columns: &[Column], rows: usize, errors: &Cell<u64>) -> Vec<Value<'static>> {
    let frame = |row| Frame { columns, row, now: 0, errors };
    (0..rows).map(|row| expression.evaluate(&frame(row)).into_owned()).collect()
}

/// The bytes of an entity key: its columns one after the other, each ending by itself, so that no two keys share bytes.
/// None where a column is null.
pub fn encode_key<'v>(values: impl IntoIterator<Item = Value<'v>>) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(24);
    for value in values {
        if value.is_null() {
            return None;
        }
        put_value(&mut key, &value);
    }
    Some(key)
}
