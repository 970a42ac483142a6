//! Reads from the log: the whole past of one entity in one view, for moments that its record no longer holds, and to explain.

use super::{Answer, EventSet, fold_rows, read_rows};
use crate::codec::Damaged;
use crate::plan::Plan;
use crate::record::{Fate, Incoming, Judge, Row, Rows, sort_rows};
use crate::value::Value;

/// The events of one key, judged in log order.
pub struct History<'a> {
    plan: &'a Plan,
    judge: Judge<'a>,
    kept: Vec<Row<'a>>,
}

impl<'a> History<'a> {
    /// No events yet.
    pub fn new(plan: &'a Plan) -> Self {
        History { plan, judge: Judge::new(plan), kept: Vec::new() }
    }

    /// Takes in the next event of the key. Late events count here: the log has them, and a past read sees them.
    pub fn push(&mut self, event: &Incoming<'a>) -> Result<Fate, Damaged> {
        let fate = self.judge.judge(event)?;
        if matches!(fate, Fate::Applied | Fate::Late) {
            self.kept.push(Row { time: event.order.time, body: event.body });
        }
        Ok(fate)
    }

    /// The features (by index) at T.
    pub fn read(&self, features: &[usize], time: i64) -> Result<Vec<Answer>, Damaged> {
        let oldest = Some(self.judge.oldest).filter(|oldest| *oldest != i64::MAX);
        read_rows(self.plan, &self.events()?, oldest, features, time)
    }

    /// All events that count, in their order.
    pub fn events(&self) -> Result<EventSet<'a>, Damaged> {
        Ok(EventSet::of_rows(self.rows()?))
    }

    /// The same, as rows.
    pub fn rows(&self) -> Result<Rows<'a>, Damaged> {
        let mut rows = self.kept.clone();
        sort_rows(self.plan, &mut rows)?;
        let mut decoded = Rows::default();
        for row in &rows {
            decoded.push(self.plan, row)?;
        }
        Ok(decoded)
    }

    /// Whether one event alone would count in a feature at T: past its filter, its nulls and its window's edges.
    pub fn contributes(&self, event: &Incoming<'a>, feature: usize, time: i64) -> Result<bool, Damaged> {
        let rows = self.one(event)?;
        Ok(fold_rows(self.plan, &self.plan.features[feature], &EventSet::of_rows(rows), time)?.newest.is_some())
    }

    /// A column of one event.
    pub fn value(&self, event: &Incoming<'a>, input: usize) -> Result<Value<'static>, Damaged> {
        Ok(self.one(event)?.value(self.plan, 0, input).clone().into_owned())
    }

    /// Whether one event passes a feature's filter.
    pub fn passes(&self, event: &Incoming<'a>, filter: Option<usize>) -> Result<bool, Damaged> {
        Ok(self.one(event)?.passes(self.plan, 0, filter))
    }

    fn one(&self, event: &Incoming<'a>) -> Result<Rows<'a>, Damaged> {
        let mut rows = Rows::default();
        rows.push(self.plan, &Row { time: event.order.time, body: event.body })?;
        Ok(rows)
    }
}
