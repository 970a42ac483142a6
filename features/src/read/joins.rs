//! Joins: what an event sees of table rows, looked up at read as of the event's own time.

use std::cell::Cell as Slot;

use super::{EventSet, Missing, ReadError, Stored};
use crate::codec::Damaged;
use crate::expression::{Column, Frame};
use crate::plan::{JoinPlan, JoinedTable, Plan, Range};
use crate::record::{Base, Outline, Rows};
use crate::value::Value;

/// Where table rows come from: the online state, or the log for reads of the past.
pub trait Tables {
    /// The columns of the newest row of `key` before `time`; None where there is none or it is a delete.
    fn row(&self, table: &JoinedTable, key: &Value<'_>, time: i64) -> Result<Option<Vec<Value<'static>>>, ReadError>;
}

/// No tables: for views without joins.
pub struct NoTables;

impl Tables for NoTables {
    fn row(&self, _: &JoinedTable, _: &Value<'_>, _: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
        Ok(None)
    }
}

/// What the expressions of joined cells see of one event.
pub(super) struct Joined {
    columns: Vec<Column>,
    errors: Slot<u64>,
}

impl Joined {
    pub(super) fn of(
        plan: &Plan,
        joins: &JoinPlan,
        rows: &Rows<'_>,
        row: usize,
        tables: &dyn Tables,
    ) -> Result<Self, ReadError> {
        let nothing = || Column::Values(Vec::new());
        let mut seen = Joined { columns: (0..joins.width).map(|_| nothing()).collect(), errors: Slot::new(0) };
        for (column, input) in &joins.raw {
            seen.columns[*column] = one(rows.value(plan, row, *input).clone().into_owned());
        }
        for table in &joins.tables {
            let key = rows.value(plan, row, table.key);
            if key.is_null() {
                continue;
            }
            let values = tables.row(table, key, rows.times[row])?.unwrap_or_default();
            for (column, value) in seen.columns[table.first_column..].iter_mut().zip(values) {
                *column = one(value);
            }
        }
        for (column, expression) in &joins.select {
            let value = expression.evaluate(&seen.frame()).into_owned();
            seen.columns[*column] = one(value);
        }
        Ok(seen)
    }

    /// The one row of these columns.
    pub(super) fn frame(&self) -> Frame<'_> {
        Frame { columns: &self.columns, row: 0, now: 0, errors: &self.errors }
    }
}

fn one(value: Value<'static>) -> Column {
    Column::Values(vec![value])
}

/// The columns of a table's newest row before `time`, out of the record of its key; None: no row, or a delete.
pub fn table_row(plan: &Plan, stored: Stored<'_>, time: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
    let Some(record) = stored.record else { return Ok(None) };
    let outline = Outline::parse(record)?;
    let mut found = None;
    newest(plan, &EventSet::of_record(plan, outline.node, stored.nodes)?, None, time, &mut |rows, row| {
        found = columns(plan, rows, row);
        Ok(false)
    })?;
    Ok(found)
}

/// All rows of one key of a table, oldest first: event time and columns, None for a delete.
pub struct TableRows {
    rows: Vec<(i64, Option<Vec<Value<'static>>>)>,
    missing: Option<Missing>,
}

impl TableRows {
    pub(super) fn of(plan: &Plan, events: &EventSet<'_>, missing: Option<Missing>) -> Result<Self, ReadError> {
        let mut all = Vec::new();
        events.ascend(plan, Range { from: None, to: i64::MAX }, &mut |rows, row| {
            all.push((rows.times[row], columns(plan, rows, row)));
            Ok(())
        })?;
        Ok(TableRows { rows: all, missing })
    }

    /// The newest row before `time`; an error where a newer one may be missing.
    pub fn before(&self, time: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
        let end = self.rows.partition_point(|(t, _)| *t < time);
        let found = self.rows[..end].last();
        match &self.missing {
            Some(missing) if missing.is_in(found.map(|(t, _)| *t), time) => Err(ReadError::BeyondRecord),
            _ => Ok(found.and_then(|(_, columns)| columns.clone())),
        }
    }
}

pub(super) fn columns(plan: &Plan, rows: &Rows<'_>, row: usize) -> Option<Vec<Value<'static>>> {
    let column = |i: usize| rows.value(plan, row, i).clone().into_owned();
    rows.passes(plan, row, plan.table).then(|| (0..plan.inputs.len()).map(column).collect())
}

/// Visits the newest row before `time`, in the record or among what has left it.
pub(super) fn newest(
    plan: &Plan,
    events: &EventSet<'_>,
    base: Option<&Base<'_>>,
    time: i64,
    visit: &mut super::events::Visit<'_, bool>,
) -> Result<(), ReadError> {
    if events.descend(plan, time, visit)?
        && let Some(base) = base
    {
        let left: Result<Rows<'_>, Damaged> = base.rows(plan);
        EventSet::of_rows(left?).descend(plan, time, visit)?;
    }
    Ok(())
}
