//! One moment of reading: T, the log prefix that the answer sees, and everything that is computed from the two.
//!
//! First the records of all views and entities, then what they no longer hold from the log, then derived features in order of
//! dependence, then, for those that look up other entities, the same again for the keys that came out.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;

use tidemill_features::definitions::View;
use tidemill_features::expression::Column;
use tidemill_features::read::{Answer, Context, ReadError, Stored, read_view};
use tidemill_features::service::{Derivation, EncodedKeys, Keys, ReadPlan, RequestRows, ViewRead, encode_keys};
use tidemill_features::stream::Prepared;

use super::get::{Positions, Reader, pick};
use super::tables::StoredTables;
use crate::failure::Failure;
use crate::ingest::may_miss;
use crate::limits::LOG_READS_APART;
use crate::online::Records;

/// What one request is answered by.
pub(super) struct Moment<'r> {
    reader: &'r Reader,
    times: Times<'r>,
    positions: &'r Positions,
    /// set when nobody waits for the answer any more
    stop: &'r AtomicBool,
    errors: Cell<u64>,
}

/// T: one for all rows, or one a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times<'t> {
    One(i64),
    Rows(&'t [i64]),
}

impl Times<'_> {
    fn at(self, row: usize) -> i64 {
        match self {
            Times::One(time) => time,
            Times::Rows(times) => times[row],
        }
    }

    fn of(self, rows: impl Iterator<Item = usize>) -> Vec<i64> {
        rows.map(|row| self.at(row)).collect()
    }
}

/// Which view of the plan and which row the records could not answer.
pub(super) type Beyond = Vec<(usize, usize)>;

impl<'r> Moment<'r> {
    pub(super) fn new(reader: &'r Reader, times: Times<'r>, positions: &'r Positions, stop: &'r AtomicBool) -> Self {
        Moment { reader, times, positions, stop, errors: Cell::new(0) }
    }

    /// Expressions that could not be computed so far.
    pub(super) fn row_errors(&self) -> u64 {
        self.errors.get()
    }

    /// Reads all records of a plan into its slots; the result is what they no longer hold.
    pub(super) fn read_records<R: Records>(
        &self,
        state: &R,
        plan: &ReadPlan,
        keys: &Keys,
        encoded: &EncodedKeys,
        slots: &mut [Vec<Answer>],
    ) -> Result<Beyond, Failure> {
        let mut beyond = Vec::new();
        let mut answers = Vec::new();
        for (at, view) in plan.views.iter().enumerate() {
            let definition = &self.reader.registry.views[view.view];
            let (registry, begun) = (&self.reader.registry, &*self.reader.past.begun);
            let tables = StoredTables { state, registry, begun, places: &self.reader.tables };
            let request = self.request_rows(view, keys);
            let prepared = request.as_ref().and_then(|rows| self.prepare(rows));
            // Of a view that is being built there is no record yet.
            let is_complete = self.reader.is_complete(state, view.view);
            for (row, key) in encoded[at].iter().enumerate() {
                answers.clear();
                let body = prepared.as_ref().and_then(|prepared| RequestRows::body(prepared, row));
                let time = self.times.at(row);
                let context = Context { tables: &tables, request: body.map(|body| (time, body)) };
                let nodes = state.chunks(view.view, key);
                let stored = Stored { record: state.record(view.view, key), nodes: &nodes };
                let damaged =
                    |_| Failure::internal("E2020", "a record is damaged; the next start derives it from the log");
                let is_whole = match is_complete {
                    true => self.read_record(definition, stored, &context, (&view.features, time), &mut answers),
                    false => Ok(false),
                };
                // The other rows are read all the same: what they lack is fetched together with this.
                let is_whole = if is_whole.is_err() && state.is_lacking() { Ok(false) } else { is_whole };
                if !is_whole.map_err(damaged)? {
                    answers.resize(view.features.len(), Answer::unanswered());
                    beyond.push((at, row));
                }
                for (slot, answer) in view.slots.iter().zip(answers.drain(..)) {
                    slots[*slot].push(answer);
                }
            }
        }
        Ok(beyond)
    }

    /// Reads what a record answers. False: not all of it.
    fn read_record(
        &self,
        view: &View,
        stored: Stored<'_>,
        context: &Context<'_>,
        (features, time): (&[usize], i64),
        answers: &mut Vec<Answer>,
    ) -> Result<bool, ReadError> {
        // What a view never saw, because the log had been cut before it was built, its records do not know.
        let missing = self.reader.past.begun.of(view);
        let misses = |feature: &usize| {
            let feature = &view.plan.features[*feature];
            missing.as_ref().is_some_and(|missing| may_miss(view, feature, time, missing))
        };
        if !features.iter().any(misses) {
            match read_view(&view.plan, stored, context, features, time, answers) {
                Ok(()) => return Ok(true),
                Err(_) => answers.clear(),
            }
        }
        // One by one: what the record still answers must not depend on a log that may have been cut, and what a feature lacks of
        // a record that is fetched, the others do not tell.
        let mut whole = Ok(false);
        for feature in features {
            let read = match misses(feature) {
                true => Err(ReadError::BeyondRecord),
                false => read_view(&view.plan, stored, context, &[*feature], time, answers),
            };
            match read {
                Ok(()) => {}
                Err(error) => {
                    answers.push(Answer::unanswered());
                    whole = if error == ReadError::BeyondRecord { whole } else { Err(error) };
                }
            }
        }
        whole
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
        if beyond.len() > LOG_READS_APART {
            return self.read_log_together(plan, keys, &beyond, slots);
        }
        for (at, row) in beyond {
            let view = &plan.views[at];
            let time = self.times.at(row);
            let body = self.request_body(view, keys, row);
            let request = body.as_deref().map(|body| (time, body));
            let past = &self.reader.past;
            let answers = past.read(view.view, &encoded[at][row], &view.features, time, request, self.positions)?;
            for (slot, answer) in view.slots.iter().zip(answers) {
                if slots[*slot][row].is_unanswered() {
                    slots[*slot][row] = answer;
                }
            }
        }
        Ok(())
    }

    /// The same for many: one walk over the log gathers the events of all of them.
    fn read_log_together(
        &self,
        plan: &ReadPlan,
        keys: &Keys,
        beyond: &Beyond,
        slots: &mut [Vec<Answer>],
    ) -> Result<(), Failure> {
        let views: BTreeSet<usize> = beyond.iter().map(|(at, _)| *at).collect();
        let rows: BTreeSet<usize> = beyond.iter().map(|(_, row)| *row).collect();
        let numbers: HashMap<usize, usize> = rows.iter().enumerate().map(|(number, row)| (*row, number)).collect();
        let picked = |column: &Column| Column::Values(rows.iter().map(|row| column.value(*row).into_owned()).collect());
        let some = Keys {
            columns: keys.columns.iter().map(picked).collect(),
            request: keys.request.iter().map(picked).collect(),
            rows: rows.len(),
        };
        let times = self.times.of(rows.iter().copied());
        let (part, first_slots) = part_of(plan, &views);
        let mut found = self.reader.past.replay(&part, (&some, &times), self.positions, self.stop)?;
        for (at, row) in beyond {
            let number = numbers[row];
            for (nth, slot) in plan.views[*at].slots.iter().enumerate() {
                if slots[*slot][*row].is_unanswered() {
                    slots[*slot][*row] =
                        std::mem::replace(&mut found[first_slots[at] + nth][number], Answer::unanswered());
                }
            }
        }
        Ok(())
    }

    fn request_rows(&self, view: &ViewRead, keys: &Keys) -> Option<RequestRows> {
        view.request.as_ref()?;
        RequestRows::of(&self.reader.registry, view, keys, &self.times.of(0..keys.rows))
    }

    fn prepare<'b>(&self, rows: &'b RequestRows) -> Option<Prepared<'b>> {
        let prepared = rows.prepare(&self.reader.registry)?;
        self.errors.set(self.errors.get() + prepared.row_errors);
        Some(prepared)
    }

    /// The request's row of a view as an event's body, where some feature counts it and it passes the view's `where`.
    pub(super) fn request_body(&self, view: &ViewRead, keys: &Keys, row: usize) -> Option<Vec<u8>> {
        let rows = self.request_rows(view, keys)?;
        let prepared = self.prepare(&rows)?;
        RequestRows::body(&prepared, row).map(<[u8]>::to_vec)
    }

    /// Computes the derived features of a plan. Lookups read the state, which stays the same as long as it is held.
    pub(super) fn derive_all<R: Records>(
        &self,
        state: Option<&R>,
        plan: &ReadPlan,
        keys: &Keys,
        slots: &mut [Vec<Answer>],
    ) -> Result<(), Failure> {
        if plan.derived.is_empty() {
            return Ok(());
        }
        let times = self.times.of(0..keys.rows);
        let derivation =
            Derivation { registry: &self.reader.registry, plan, keys, times: &times, errors: &self.errors };
        derivation.compute(slots, &mut |plan, keys, rows| match state {
            Some(state) => {
                let times: Vec<i64> = rows.iter().map(|row| times[*row]).collect();
                let moment = Moment { times: Times::Rows(&times), errors: Cell::new(0), ..*self };
                let found = moment.look_up(state, plan, keys);
                self.errors.set(self.errors.get() + moment.row_errors());
                found
            }
            None => Err(Failure::internal("E2025", "a lookup needs the state")),
        })
    }

    fn look_up<R: Records>(&self, state: &R, plan: &ReadPlan, keys: &Keys) -> Result<Vec<Answer>, Failure> {
        Ok(self.columns(state, plan, keys)?.into_iter().flatten().collect())
    }

    /// The columns of a plan, from the state and, where it does not reach, from the log.
    pub(super) fn columns<R: Records>(
        &self,
        state: &R,
        plan: &ReadPlan,
        keys: &Keys,
    ) -> Result<Vec<Vec<Answer>>, Failure> {
        let encoded = encode_keys(plan, keys)?;
        let mut slots: Vec<Vec<Answer>> = (0..plan.slots).map(|_| Vec::with_capacity(keys.rows)).collect();
        let beyond = self.read_records(state, plan, keys, &encoded, &mut slots)?;
        // What is not here yet is not looked for in the log.
        if !state.is_lacking() {
            self.read_log(plan, keys, &encoded, beyond, &mut slots)?;
        }
        self.derive_all(Some(state), plan, keys, &mut slots)?;
        Ok(pick(&plan.outputs, slots))
    }
}

/// The plan of some of a plan's views, and the first slot of each of them.
fn part_of(plan: &ReadPlan, views: &BTreeSet<usize>) -> (ReadPlan, HashMap<usize, usize>) {
    let (mut reads, mut first_slots, mut slots) = (Vec::new(), HashMap::new(), 0);
    for at in views {
        let view = &plan.views[*at];
        first_slots.insert(*at, slots);
        let own: Vec<usize> = (slots..slots + view.slots.len()).collect();
        slots += own.len();
        reads.push(ViewRead {
            view: view.view,
            keys: view.keys.clone(),
            features: view.features.clone(),
            slots: own,
            request: view.request.clone(),
        });
    }
    let part = ReadPlan {
        views: reads,
        derived: Vec::new(),
        outputs: (0..slots).collect(),
        ids: Vec::new(),
        columns: Vec::new(),
        keys: plan.keys.clone(),
        request: plan.request.clone(),
        slots,
        lookups: Vec::new(),
        width: slots,
        sources: plan.sources.clone(),
    };
    (part, first_slots)
}
