//! One moment of reading: T, the log prefix that the answer sees, and everything that is computed from the two.
//!
//! First the records of all views and entities, then what they no longer hold from the log, then derived features in order of
//! dependence, then, for those that look up other entities, the same again for the keys that came out.

use std::cell::Cell;

use tidemill_features::definitions::OutputId;
use tidemill_features::expression::{Column, Frame};
use tidemill_features::read::{Answer, Context, ReadError, Status, Stored, read_view};
use tidemill_features::stream::{EventBatch, KEY_BYTES_MAX, Prepared};
use tidemill_features::value::Value;

use super::get::{EncodedKeys, Keys, Positions, Reader, encode_keys, pick};
use super::plan::{DerivedRead, InputSlot, LookupRead, Origin, ReadPlan, ViewRead};
use super::tables::StoredTables;
use crate::failure::Failure;
use crate::online::State;

/// What one request is answered by.
pub(super) struct Moment<'r> {
    reader: &'r Reader,
    time: i64,
    positions: &'r Positions,
    errors: Cell<u64>,
}

/// Which view of the plan and which row the records could not answer.
pub(super) type Beyond = Vec<(usize, usize)>;

impl<'r> Moment<'r> {
    pub(super) fn new(reader: &'r Reader, time: i64, positions: &'r Positions) -> Self {
        Moment { reader, time, positions, errors: Cell::new(0) }
    }

    /// Expressions that could not be computed so far.
    pub(super) fn row_errors(&self) -> u64 {
        self.errors.get()
    }

    /// Reads all records of a plan into its slots; the result is what they no longer hold.
    pub(super) fn read_records(
        &self,
        state: &State,
        plan: &ReadPlan,
        keys: &Keys,
        encoded: &EncodedKeys,
        slots: &mut [Vec<Answer>],
    ) -> Result<Beyond, Failure> {
        let mut beyond = Vec::new();
        let mut answers = Vec::new();
        for (at, view) in plan.views.iter().enumerate() {
            let plan = &self.reader.registry.views[view.view].plan;
            let tables = StoredTables { state, registry: &self.reader.registry, places: &self.reader.tables };
            let request = self.request_rows(view, keys);
            let prepared = request.as_ref().and_then(|batch| self.prepare(view, batch));
            for (row, key) in encoded[at].iter().enumerate() {
                answers.clear();
                let body = prepared.as_ref().and_then(|prepared| request_body(prepared, row));
                let context = Context { tables: &tables, request: body.map(|body| (self.time, body)) };
                let nodes = state.chunks(view.view, key);
                let stored = Stored { record: state.record(view.view, key), nodes: &nodes };
                match read_view(plan, stored, &context, &view.features, self.time, &mut answers) {
                    Ok(()) => {}
                    Err(ReadError::BeyondRecord) => {
                        beyond.push((at, row));
                        answers.clear();
                        answers.resize(view.features.len(), unanswered());
                    }
                    Err(ReadError::Damaged(_)) => {
                        return Err(Failure::internal(
                            "E2020",
                            "a record is damaged; the next start derives it from the log",
                        ));
                    }
                }
                for (slot, answer) in view.slots.iter().zip(answers.drain(..)) {
                    slots[*slot].push(answer);
                }
            }
        }
        Ok(beyond)
    }

    /// Answers from the log what the records could not.
    pub(super) fn read_log(
        &self,
        plan: &ReadPlan,
        keys: &Keys,
        encoded: &EncodedKeys,
        beyond: Beyond,
        slots: &mut [Vec<Answer>],
    ) -> Result<(), Failure> {
        for (at, row) in beyond {
            let view = &plan.views[at];
            let body = self.request_body(view, keys, row);
            let request = body.as_deref().map(|body| (self.time, body));
            let past = &self.reader.past;
            let answers =
                past.read(view.view, &encoded[at][row], &view.features, self.time, request, self.positions)?;
            for (slot, answer) in view.slots.iter().zip(answers) {
                slots[*slot][row] = answer;
            }
        }
        Ok(())
    }

    /// The request's rows as events of a view's source, where some feature counts them.
    fn request_rows(&self, view: &ViewRead, keys: &Keys) -> Option<EventBatch> {
        let origins = view.request.as_ref()?;
        let stream = self.reader.registry.views[view.view].stream.as_ref()?;
        let source = &self.reader.registry.sources[stream.source];
        let mut columns: Vec<Column> = source.fields.iter().map(|_| Column::Values(Vec::new())).collect();
        for (at, origin) in origins {
            columns[*at] = match origin {
                Origin::Key(at) => keys.columns[*at].clone(),
                Origin::Request(at) => keys.request[*at].clone(),
            };
        }
        columns[source.event_time] = Column::Values(vec![Value::Timestamp(self.time); keys.rows]);
        let times = vec![self.time; keys.rows];
        // The newest of all in the total order.
        let offsets = vec![u64::MAX; keys.rows];
        Some(EventBatch { columns, arrivals: times.clone(), times, partition: u32::MAX, offsets })
    }

    /// The request's row of a view as an event's body, where some feature counts it and it passes the view's `where`.
    pub(super) fn request_body(&self, view: &ViewRead, keys: &Keys, row: usize) -> Option<Vec<u8>> {
        let batch = self.request_rows(view, keys)?;
        let prepared = self.prepare(view, &batch)?;
        request_body(&prepared, row).map(<[u8]>::to_vec)
    }

    fn prepare<'b>(&self, view: &ViewRead, batch: &'b EventBatch) -> Option<Prepared<'b>> {
        let definition = &self.reader.registry.views[view.view];
        let stream = definition.stream.as_ref()?;
        let prepared = Prepared::new(definition, stream, &self.reader.registry.sources[stream.source], batch);
        self.errors.set(self.errors.get() + prepared.row_errors);
        Some(prepared)
    }

    /// Computes the derived features of a plan, in order of dependence.
    pub(super) fn derive_all(
        &self,
        state: Option<&State>,
        plan: &ReadPlan,
        keys: &Keys,
        slots: &mut [Vec<Answer>],
    ) -> Result<(), Failure> {
        for derived in &plan.derived {
            slots[derived.slot] = self.derive(state, plan, derived, slots, keys)?;
        }
        Ok(())
    }

    fn derive(
        &self,
        state: Option<&State>,
        plan: &ReadPlan,
        derived: &DerivedRead,
        slots: &[Vec<Answer>],
        keys: &Keys,
    ) -> Result<Vec<Answer>, Failure> {
        let OutputId { view, output } = derived.id;
        let Some(definition) = self.reader.registry.views[view].derived(output) else { return Ok(Vec::new()) };
        let mut columns: Vec<Column> = Vec::with_capacity(derived.inputs.len());
        let mut looked_up: Vec<Vec<Answer>> = Vec::new();
        let values = |answers: &[Answer]| Column::Values(answers.iter().map(|answer| answer.value.clone()).collect());
        for input in &derived.inputs {
            columns.push(match input {
                InputSlot::Slot(slot) => values(&slots[*slot]),
                InputSlot::Request(at) => keys.request[*at].clone(),
                InputSlot::Lookup(at) => {
                    let found = self.look_up(state, &plan.lookups[*at], &columns, keys.rows)?;
                    let column = values(&found);
                    looked_up.push(found);
                    column
                }
            });
        }
        let read = derived.inputs.iter().filter_map(|input| match input {
            InputSlot::Slot(slot) => Some(&slots[*slot]),
            InputSlot::Request(_) | InputSlot::Lookup(_) => None,
        });
        let inputs: Vec<&Vec<Answer>> = read.chain(&looked_up).collect();
        let answer = |row: usize| {
            let frame = Frame { columns: &columns, row, now: self.time, errors: &self.errors };
            let value = definition.expression.evaluate(&frame).into_owned();
            let worst = inputs.iter().fold(Status::Present, |worst, input| worst.worse(input[row].status));
            let status = if value.is_null() { worst } else { Status::Present };
            let newest = inputs.iter().filter_map(|input| input[row].newest).max();
            Answer { value, status, newest, capped: inputs.iter().any(|input| input[row].capped) }
        };
        Ok((0..keys.rows).map(answer).collect())
    }

    /// A feature of other entities, by computed keys. A null key gives null, and so does one that no entity can have.
    fn look_up(
        &self,
        state: Option<&State>,
        lookup: &LookupRead,
        columns: &[Column],
        rows: usize,
    ) -> Result<Vec<Answer>, Failure> {
        let key = |row: usize| {
            let frame = Frame { columns, row, now: self.time, errors: &self.errors };
            let key = lookup.key.evaluate(&frame).into_owned();
            let too_long = matches!(&key, Value::Text(text) if text.len() > KEY_BYTES_MAX);
            (!key.is_null() && !too_long).then_some(key)
        };
        let keyed: Vec<(usize, Value<'static>)> = (0..rows).filter_map(|row| Some((row, key(row)?))).collect();
        let nothing = Answer { value: Value::Null, status: Status::Present, newest: None, capped: false };
        let mut answers = vec![nothing; rows];
        let Some(state) = state.filter(|_| !keyed.is_empty()) else { return Ok(answers) };
        let wanted: Vec<Value<'static>> = keyed.iter().map(|(_, key)| key.clone()).collect();
        let keys = Keys { rows: keyed.len(), columns: vec![Column::Values(wanted)], request: Vec::new() };
        let plan = &lookup.plan;
        let encoded = encode_keys(plan, &keys)?;
        let mut slots: Vec<Vec<Answer>> = (0..plan.slots).map(|_| Vec::with_capacity(keys.rows)).collect();
        let beyond = self.read_records(state, plan, &keys, &encoded, &mut slots)?;
        self.read_log(plan, &keys, &encoded, beyond, &mut slots)?;
        self.derive_all(Some(state), plan, &keys, &mut slots)?;
        let found = pick(&plan.outputs, slots).into_iter().flatten();
        for ((row, _), answer) in keyed.into_iter().zip(found) {
            answers[row] = answer;
        }
        Ok(answers)
    }
}

/// The request's row of a key, if it passes the view's `where`.
fn request_body<'p>(prepared: &'p Prepared<'_>, row: usize) -> Option<&'p [u8]> {
    let incoming = prepared.incoming(row);
    incoming.passes.then_some(incoming.body)
}

fn unanswered() -> Answer {
    Answer { value: Value::Null, status: Status::Error, newest: None, capped: false }
}
