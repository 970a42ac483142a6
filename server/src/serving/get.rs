//! Get: all values of a request, read at one T from one state.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use tidemill_features::definitions::{OutputId, Registry};
use tidemill_features::expression::{Column, Frame};
use tidemill_features::read::{Answer, ReadError, Status, read_view};
use tidemill_features::stream::{KEY_BYTES_MAX, encode_key};
use tidemill_features::value::Value;

use super::past::Past;
use super::plan::{DerivedRead, InputSlot, ReadPlan, ViewRead};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::ingest::{Ingest, Pending};
use crate::limits::{GET_CELLS_MAX, GET_KEYS_MAX};
use crate::online::{Memory, State};

/// Positions by source (its place in the registry) and partition.
pub type Positions = BTreeMap<(u32, u32), u64>;

/// What reads need.
pub struct Reader {
    /// the definitions
    pub registry: Arc<Registry>,
    /// the state
    pub memory: Arc<Memory>,
    /// the clock
    pub clock: Arc<Clock>,
    /// the event log
    pub past: Past,
    /// by source: what is durable but not applied
    pub pending: Arc<Vec<Pending>>,
    plans: RwLock<HashMap<String, Arc<ReadPlan>>>,
}

/// An answer: a column of answers for each feature.
pub struct Answers {
    /// what was asked
    pub plan: Arc<ReadPlan>,
    /// by output, then row
    pub columns: Vec<Vec<Answer>>,
    /// T
    pub read_time: i64,
    /// the log prefix that the answer saw
    pub positions: Positions,
    /// sources (names) that are behind
    pub stale: Vec<String>,
    /// expressions that could not be computed
    pub row_errors: u64,
}

/// The columns of a request.
pub struct Keys {
    /// by the plan's keys
    pub columns: Vec<Column>,
    /// by the plan's request values
    pub request: Vec<Column>,
    /// rows
    pub rows: usize,
}

impl Reader {
    /// A reader of this state and log.
    pub fn new(registry: Arc<Registry>, memory: Arc<Memory>, clock: Arc<Clock>, past: Past, ingest: &Ingest) -> Self {
        let pending = ingest.pending.clone();
        Reader { registry, memory, clock, past, pending, plans: RwLock::new(HashMap::new()) }
    }

    /// The plan of a service or of a list of references; services are planned once.
    pub fn plan(&self, service: &str, references: &[String]) -> Result<Arc<ReadPlan>, Failure> {
        if service.is_empty() && references.is_empty() {
            return Err(Failure::field(
                "E2004",
                "service",
                "name a feature service, or list features such as view:feature",
            ));
        }
        if !service.is_empty() && !references.is_empty() {
            return Err(Failure::field("E2004", "features", "give either a service or a list of features"));
        }
        if service.is_empty() {
            return ReadPlan::of_references(&self.registry, references).map(Arc::new);
        }
        if let Some(plan) = self.plans.read().get(service) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(ReadPlan::of_service(&self.registry, service)?);
        // Only names that exist get here, so the map is as bounded as the registry.
        self.plans.write().insert(service.to_string(), plan.clone());
        Ok(plan)
    }

    /// Reads a plan for keys at T; now, where T is not given.
    pub fn get(&self, plan: Arc<ReadPlan>, keys: &Keys, as_of: Option<i64>) -> Result<Answers, Failure> {
        check_size(&plan, keys)?;
        let encoded = encode_keys(&plan, keys)?;
        let mut slots: Vec<Vec<Answer>> = (0..plan.slots).map(|_| Vec::with_capacity(keys.rows)).collect();
        let mut beyond: Vec<(usize, usize)> = Vec::new();
        // T is taken with the gate open, so that no event published before this read is dated behind it by accident.
        let state = self.memory.read();
        let read_time = as_of.unwrap_or_else(|| self.clock.now());
        let positions = state.positions.clone();
        let stale = if as_of.is_none() { self.stale(&plan, read_time) } else { Vec::new() };
        let mut answers = Vec::new();
        for (at, view) in plan.views.iter().enumerate() {
            for (row, key) in encoded[at].iter().enumerate() {
                answers.clear();
                match self.read_one(&state, view, key.as_deref(), read_time, &mut answers) {
                    Ok(()) => {}
                    Err(ReadError::BeyondRecord) => {
                        beyond.push((at, row));
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
        drop(state);
        for (at, row) in beyond {
            let view = &plan.views[at];
            let Some(key) = &encoded[at][row] else { continue };
            let answers = self.past.read(view.view, key, &view.features, read_time, &positions)?;
            for (slot, answer) in view.slots.iter().zip(answers) {
                slots[*slot][row] = answer;
            }
        }
        let errors = Cell::new(0);
        for derived in &plan.derived {
            let column = self.derive(derived, &slots, keys, read_time, &errors);
            slots[derived.slot] = column;
        }
        let columns = pick(&plan.outputs, slots);
        Ok(Answers { plan, columns, read_time, positions, stale, row_errors: errors.get() })
    }

    fn read_one(
        &self,
        state: &State,
        view: &ViewRead,
        key: Option<&[u8]>,
        time: i64,
        answers: &mut Vec<Answer>,
    ) -> Result<(), ReadError> {
        let key = key.unwrap_or(&[]);
        let plan = &self.registry.views[view.view].plan;
        read_view(plan, state.record(view.view, key), &state.chunks(view.view, key), &view.features, time, answers)
    }

    fn derive(
        &self,
        derived: &DerivedRead,
        slots: &[Vec<Answer>],
        keys: &Keys,
        time: i64,
        errors: &Cell<u64>,
    ) -> Vec<Answer> {
        let OutputId { view, output } = derived.id;
        let Some(definition) = self.registry.views[view].derived(output) else { return Vec::new() };
        let column = |input: &InputSlot| match input {
            InputSlot::Slot(slot) => Column::Values(slots[*slot].iter().map(|answer| answer.value.clone()).collect()),
            InputSlot::Request(at) => keys.request[*at].clone(),
        };
        let columns: Vec<Column> = derived.inputs.iter().map(column).collect();
        let inputs = |row: usize| {
            derived.inputs.iter().filter_map(move |input| match input {
                InputSlot::Slot(slot) => Some(&slots[*slot][row]),
                InputSlot::Request(_) => None,
            })
        };
        let answer = |row: usize| {
            let frame = Frame { columns: &columns, row, now: time, errors };
            let value = definition.expression.evaluate(&frame).into_owned();
            let worst = inputs(row).fold(Status::Present, |worst, input| worst.worse(input.status));
            let status = if value.is_null() { worst } else { Status::Present };
            Answer { value, status, newest: inputs(row).filter_map(|input| input.newest).max() }
        };
        (0..keys.rows).map(answer).collect()
    }

    /// Names of the plan's sources that are behind by more than their `max_lag`.
    fn stale(&self, plan: &ReadPlan, now: i64) -> Vec<String> {
        let mut stale = Vec::new();
        for view in &plan.views {
            let Some(stream) = &self.registry.views[view.view].stream else { continue };
            let source = &self.registry.sources[stream.source];
            let behind = self.pending[stream.source].behind(now);
            if source.max_lag.is_some_and(|max_lag| behind > max_lag) && !stale.contains(&source.name) {
                stale.push(source.name.clone());
            }
        }
        stale
    }
}

/// Bytes that the encoding adds to a key: a length for each of at most 16 columns.
const KEY_FRAMING: usize = 64;

fn unanswered() -> Answer {
    Answer { value: Value::Null, status: Status::Error, newest: None }
}

fn check_size(plan: &ReadPlan, keys: &Keys) -> Result<(), Failure> {
    if keys.rows > GET_KEYS_MAX {
        return Err(Failure::field("E2011", "keys", format!("{} keys are more than {GET_KEYS_MAX}", keys.rows)));
    }
    let cells = keys.rows * plan.slots;
    if cells > GET_CELLS_MAX {
        return Err(Failure::field("E2011", "keys", format!("{cells} values are more than {GET_CELLS_MAX}")));
    }
    Ok(())
}

/// Encoded keys by the plan's views, then row; None where a key column is null.
fn encode_keys(plan: &ReadPlan, keys: &Keys) -> Result<Vec<Vec<Option<Vec<u8>>>>, Failure> {
    let mut encoded = Vec::with_capacity(plan.views.len());
    for view in &plan.views {
        let mut rows = Vec::with_capacity(keys.rows);
        for row in 0..keys.rows {
            let key = encode_key(view.keys.iter().map(|at| keys.columns[*at].value(row)));
            if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX + KEY_FRAMING) {
                let message = format!("the key of row {} is longer than {KEY_BYTES_MAX} bytes", row + 1);
                return Err(Failure::field("E2012", "keys", message));
            }
            if key.is_none() {
                return Err(Failure::field("E2013", "keys", format!("the key of row {} is null", row + 1)));
            }
            rows.push(key);
        }
        encoded.push(rows);
    }
    Ok(encoded)
}

fn pick(outputs: &[usize], mut slots: Vec<Vec<Answer>>) -> Vec<Vec<Answer>> {
    outputs.iter().map(|slot| std::mem::take(&mut slots[*slot])).collect()
}
