//! What stands for a key of a table at a moment, and when that will change: for whoever keeps the newest rows of all keys.

use super::joins::newest;
use super::{EventSet, ReadError, Stored};
use crate::codec::Cursor;
use crate::plan::Plan;
use crate::record::{Base, Outline};
use crate::value::Value;

/// The newest row of a key before a moment, and the times of those that are ahead of it.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// its columns; None: no row, or one that says "nothing here"
    pub row: Option<Vec<Value<'static>>>,
    /// event times at or after the moment: behind each of them another row stands
    pub ahead: Vec<i64>,
}

/// Reads it off the record of a table's key.
pub fn standing(plan: &Plan, stored: Stored<'_>, time: i64) -> Result<Standing, ReadError> {
    let mut found = Standing::default();
    let Some(record) = stored.record else { return Ok(found) };
    let outline = Outline::parse(record)?;
    let base = match outline.base {
        Some(stored) => Some(Base::decode(plan, &mut Cursor::new(stored))?),
        None => None,
    };
    let events = EventSet::of_record(plan, outline.node, stored.nodes)?;
    newest(plan, &events, base.as_ref(), i64::MAX, &mut |rows, row| {
        if rows.times[row] >= time {
            found.ahead.push(rows.times[row]);
            return Ok(true);
        }
        found.row = super::joins::columns(plan, rows, row);
        Ok(false)
    })?;
    Ok(found)
}
