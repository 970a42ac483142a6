//! Reads from the log: the whole past of one entity in one view, for moments that its record no longer holds, and to explain.

use super::fold::Known;
use super::joins::TableRows;
use super::missing::{Judged, Missing};
use super::{Answer, Context, EventSet, ReadError, read_rows};
use crate::codec::Damaged;
use crate::plan::Plan;
use crate::record::{Fate, Incoming, Judge, Row, Rows, sort_numbered, sort_rows};
use crate::value::Value;

/// The events of one key, judged in log order.
pub struct History<'a> {
    plan: &'a Plan,
    judge: Judge<'a>,
    kept: Vec<Row<'a>>,
    judged: Judged,
    /// smallest time of an event that surely counts
    oldest: Option<i64>,
}

impl<'a> History<'a> {
    /// No events yet.
    pub fn new(plan: &'a Plan) -> Self {
        History::without(plan, None)
    }

    /// No events yet, of an entity of which some are missing.
    pub fn without(plan: &'a Plan, missing: Option<Missing>) -> Self {
        History { plan, judge: Judge::new(plan), kept: Vec::new(), judged: Judged::new(plan, missing), oldest: None }
    }

    /// Takes in the next event of the key. Late events count here: the log has them, and a past read sees them.
    pub fn push(&mut self, event: &Incoming<'a>) -> Result<Fate, Damaged> {
        let is_sure = self.judged.is_sure(self.plan, event);
        let fate = self.judge.judge(event)?;
        if is_sure && matches!(fate, Fate::Applied | Fate::Late) {
            self.oldest = Some(self.oldest.map_or(event.order.time, |oldest| oldest.min(event.order.time)));
        }
        if self.keeps(fate) {
            self.kept.push(Row { time: event.order.time, body: event.body });
        }
        Ok(fate)
    }

    /// Whether an event of this fate is among those that reads look at.
    pub fn keeps(&self, fate: Fate) -> bool {
        matches!(fate, Fate::Applied | Fate::Late) || (fate == Fate::Filtered && self.plan.table.is_some())
    }

    /// The features (by index) at T.
    pub fn read(&self, context: &Context<'_>, features: &[usize], time: i64) -> Result<Vec<Answer>, ReadError> {
        read_rows(self.plan, (&self.events()?, self.judged.missing.as_ref()), self.oldest, context, features, time)
    }

    /// All rows of a table.
    pub fn table_rows(&self) -> Result<TableRows, ReadError> {
        TableRows::of(self.plan, &self.events()?, self.judged.missing.clone())
    }

    /// All events that count, in their order.
    pub fn events(&self) -> Result<EventSet<'a>, Damaged> {
        let mut kept = self.kept.clone();
        sort_rows(self.plan, &mut kept)?;
        let mut rows = Rows::default();
        for row in &kept {
            rows.push(self.plan, row)?;
        }
        Ok(EventSet::of_rows(rows))
    }

    /// Which of the events that count go into a feature at T: their numbers, in the order in which they were pushed.
    pub fn counted(&self, context: &Context<'_>, feature: usize, time: i64) -> Result<Vec<usize>, ReadError> {
        let mut kept: Vec<(usize, Row<'a>)> = self.kept.iter().cloned().enumerate().collect();
        sort_numbered(self.plan, &mut kept)?;
        let mut rows = Rows::default();
        for (_, row) in &kept {
            rows.push(self.plan, row)?;
        }
        let events = EventSet::of_rows(rows);
        let missing = self.judged.missing.as_ref();
        let known = Known { plan: self.plan, events: &events, base: None, complete_from: i64::MIN, missing, context };
        let (_, counted) = known.trace(&self.plan.features[feature], time)?;
        Ok(counted.into_iter().map(|row| kept[row].0).collect())
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
