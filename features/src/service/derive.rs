//! Derived features: over finished values, in order of dependence, some of them of other entities.

use std::cell::Cell;

use super::{DerivedRead, InputSlot, Keys, LookupRead, ReadPlan};
use crate::definitions::{OutputId, Registry};
use crate::expression::{Column, Frame};
use crate::read::{Answer, Status};
use crate::stream::KEY_BYTES_MAX;
use crate::value::Value;

/// Reads a plan of one feature for other keys; the numbers are those of the rows that they are looked up for.
pub type LookUp<'l, E> = dyn FnMut(&ReadPlan, &Keys, &[usize]) -> Result<Vec<Answer>, E> + 'l;

/// What derived features are computed from besides finished values.
pub struct Derivation<'d> {
    /// the definitions
    pub registry: &'d Registry,
    /// what is read
    pub plan: &'d ReadPlan,
    /// for whom
    pub keys: &'d Keys,
    /// T by row
    pub times: &'d [i64],
    /// counts expressions that could not be computed
    pub errors: &'d Cell<u64>,
}

impl Derivation<'_> {
    /// Fills the slots of all derived features.
    pub fn compute<E>(&self, slots: &mut [Vec<Answer>], look_up: &mut LookUp<'_, E>) -> Result<(), E> {
        for derived in &self.plan.derived {
            slots[derived.slot] = self.derive(derived, slots, look_up)?;
        }
        Ok(())
    }

    fn derive<E>(
        &self,
        derived: &DerivedRead,
        slots: &[Vec<Answer>],
        look_up: &mut LookUp<'_, E>,
    ) -> Result<Vec<Answer>, E> {
        let OutputId { view, output } = derived.id;
        let Some(definition) = self.registry.views[view].derived(output) else { return Ok(Vec::new()) };
        let mut columns: Vec<Column> = Vec::with_capacity(derived.inputs.len());
        let mut looked_up: Vec<Vec<Answer>> = Vec::new();
        let values = |answers: &[Answer]| Column::Values(answers.iter().map(|answer| answer.value.clone()).collect());
        for input in &derived.inputs {
            columns.push(match input {
                InputSlot::Slot(slot) => values(&slots[*slot]),
                InputSlot::Request(at) => self.keys.request[*at].clone(),
                InputSlot::Lookup(at) => {
                    let found = self.looked_up(&self.plan.lookups[*at], &columns, look_up)?;
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
            // Whatever it is computed from: what is missing might make another value of it.
            if inputs.iter().any(|input| input[row].is_unanswered()) {
                return Answer::unanswered();
            }
            let value = definition.expression.evaluate(&self.frame(&columns, row)).into_owned();
            let worst = inputs.iter().fold(Status::Present, |worst, input| worst.worse(input[row].status));
            let status = if value.is_null() { worst } else { Status::Present };
            let newest = inputs.iter().filter_map(|input| input[row].newest).max();
            Answer { value, status, newest, capped: inputs.iter().any(|input| input[row].capped) }
        };
        Ok((0..self.keys.rows).map(answer).collect())
    }

    fn frame<'f>(&'f self, columns: &'f [Column], row: usize) -> Frame<'f> {
        Frame { columns, row, now: self.times[row], errors: self.errors }
    }

    /// A feature of other entities, by computed keys. A null key gives null, and so does one that no entity can have.
    fn looked_up<E>(
        &self,
        lookup: &LookupRead,
        columns: &[Column],
        look_up: &mut LookUp<'_, E>,
    ) -> Result<Vec<Answer>, E> {
        let key = |row: usize| {
            let key = lookup.key.evaluate(&self.frame(columns, row)).into_owned();
            let too_long = matches!(&key, Value::Text(text) if text.len() > KEY_BYTES_MAX);
            (!key.is_null() && !too_long).then_some(key)
        };
        let (mut rows, mut wanted) = (Vec::new(), Vec::new());
        for (row, key) in (0..self.keys.rows).filter_map(|row| Some((row, key(row)?))) {
            rows.push(row);
            wanted.push(key);
        }
        let nothing = Answer { value: Value::Null, status: Status::Present, newest: None, capped: false };
        let mut answers = vec![nothing; self.keys.rows];
        if rows.is_empty() {
            return Ok(answers);
        }
        let keys = Keys { rows: rows.len(), columns: vec![Column::Values(wanted)], request: Vec::new() };
        let found = look_up(&lookup.plan, &keys, &rows)?;
        for (row, answer) in rows.into_iter().zip(found) {
            answers[row] = answer;
        }
        Ok(answers)
    }
}
