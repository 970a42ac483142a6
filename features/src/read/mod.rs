//! Read: from a record and T to values. Pure, and the same for serving, training and explaining.
//!
//! `EventSet` is what a read looks at: the nodes of a record, or rows gathered from the log for a past that the record no
//! longer holds. `read_view` computes the features of one view of one entity.

mod events;
mod history;

use std::sync::Arc;

pub use self::events::EventSet;
pub use self::history::History;

use crate::aggregates::{Cell, NoValue};
use crate::codec::{Cursor, Damaged};
use crate::plan::{FeaturePlan, Plan, Range, Window};
use crate::record::{Base, Nodes, Outline};
use crate::value::Value;

/// What an answer says of a value; the worst one counts where several apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// a value, or events that have none (the variance of one)
    Present = 0,
    /// no event contributed
    Empty = 2,
    /// no event contributed, and the feature declares a default
    Defaulted = 1,
    /// the entity had no event before T
    NotFound = 3,
    /// an overflow, an undefined result, or a past that nothing can answer
    Error = 4,
}

impl Status {
    /// Rank by badness: ERROR, NOT_FOUND, DEFAULTED, EMPTY, PRESENT.
    pub fn severity(self) -> u8 {
        match self {
            Status::Present => 0,
            Status::Empty => 1,
            Status::Defaulted => 2,
            Status::NotFound => 3,
            Status::Error => 4,
        }
    }

    /// The worse of two.
    pub fn worse(self, other: Status) -> Status {
        if other.severity() > self.severity() { other } else { self }
    }

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Status::Present => "PRESENT",
            Status::Defaulted => "DEFAULTED",
            Status::Empty => "EMPTY",
            Status::NotFound => "NOT_FOUND",
            Status::Error => "ERROR",
        }
    }
}

/// One value with what is known of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// null where there is none
    pub value: Value<'static>,
    /// how to take it
    pub status: Status,
    /// event time of the newest contributing event
    pub newest: Option<i64>,
}

/// The answer cannot come from the record: its past is gone from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// the event log has to answer
    #[error("the record does not reach back that far")]
    BeyondRecord,
    /// the record's bytes are broken
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// Reads features (by index into `plan.features`) of one entity at T. `record` is None where the entity is unknown.
pub fn read_view(
    plan: &Plan,
    record: Option<&[u8]>,
    nodes: &dyn Nodes,
    features: &[usize],
    time: i64,
    out: &mut Vec<Answer>,
) -> Result<(), ReadError> {
    let Some(record) = record else {
        out.extend(features.iter().map(|f| nothing(plan, &plan.features[*f], Status::NotFound)));
        return Ok(());
    };
    let outline = Outline::parse(record)?;
    let known = if outline.oldest < time { Status::Present } else { Status::NotFound };
    // Where even the oldest event is above the floor, nothing was late and nothing has left.
    let floor = plan.floor(outline.newest);
    let whole = outline.oldest >= floor;
    if !whole {
        let reachable = |f: &usize| reachable(&plan.features[*f], time, floor);
        if !features.iter().all(reachable) {
            return Err(ReadError::BeyondRecord);
        }
    }
    let base = match outline.base {
        Some(stored) => Some(Base::decode(plan, &mut Cursor::new(stored))?),
        None => None,
    };
    let events = EventSet::of_record(plan, outline.node, nodes)?;
    for feature in features {
        let feature = &plan.features[*feature];
        let cell = fold(plan, feature, &events, base.as_ref(), time)?;
        out.push(answer(plan, feature, cell, known));
    }
    Ok(())
}

/// Reads features from rows of the log: all applied and late events of the entity, in order.
pub fn read_rows(
    plan: &Plan,
    rows: &EventSet<'_>,
    oldest: Option<i64>,
    features: &[usize],
    time: i64,
) -> Result<Vec<Answer>, Damaged> {
    let known = if oldest.is_some_and(|oldest| oldest < time) { Status::Present } else { Status::NotFound };
    let mut out = Vec::with_capacity(features.len());
    for feature in features {
        let feature = &plan.features[*feature];
        let cell = fold(plan, feature, rows, None, time)?;
        out.push(answer(plan, feature, cell, known));
    }
    Ok(out)
}

/// Whether a record that has let go of events below `floor` answers a feature at `time`.
fn reachable(feature: &FeaturePlan, time: i64, floor: i64) -> bool {
    let range = feature.window.range(time.saturating_sub(feature.offset));
    range.from.unwrap_or(range.to) >= floor
}

fn fold(
    plan: &Plan,
    feature: &FeaturePlan,
    events: &EventSet<'_>,
    base: Option<&Base<'_>>,
    time: i64,
) -> Result<Cell, Damaged> {
    let range = feature.window.range(time.saturating_sub(feature.offset));
    let cell_plan = &plan.cells[feature.cell];
    let mut cell = Cell::new(&cell_plan.aggregate);
    match feature.window {
        Window::LastN(n) => {
            let mut left = n;
            events.newest_before(plan, range.to, cell_plan, &mut left, &mut cell)?;
            if let (Some(base), true) = (base, left > 0) {
                EventSet::of_rows(base.rows(plan)?).newest_before(plan, range.to, cell_plan, &mut left, &mut cell)?;
            }
        }
        Window::Lifetime => {
            events.fold(plan, Range { from: None, to: range.to }, feature.cell, &mut cell)?;
            let at = plan.lifetime_cells.iter().position(|at| *at == feature.cell);
            if let Some((base, at)) = base.zip(at) {
                cell.merge(&base.cells[at]);
            }
        }
        _ => events.fold(plan, range, feature.cell, &mut cell)?,
    }
    Ok(cell)
}

fn fold_rows(plan: &Plan, feature: &FeaturePlan, events: &EventSet<'_>, time: i64) -> Result<Cell, Damaged> {
    fold(plan, feature, events, None, time)
}

fn nothing(plan: &Plan, feature: &FeaturePlan, status: Status) -> Answer {
    let value = match &feature.default {
        Some(default) => default.clone(),
        None => plan.cells[feature.cell].aggregate.value_of_nothing(),
    };
    let defaulted = if feature.default.is_some() { Status::Defaulted } else { Status::Empty };
    Answer { value, status: status.worse(defaulted), newest: None }
}

fn answer(plan: &Plan, feature: &FeaturePlan, cell: Cell, known: Status) -> Answer {
    if cell.newest.is_none() {
        return nothing(plan, feature, known);
    }
    let finished: Result<Value<'static>, NoValue> = cell.finish(&plan.cells[feature.cell].aggregate);
    match finished {
        Ok(value) => Answer { value, status: known, newest: cell.newest },
        Err(_) => Answer { value: Value::Null, status: Status::Error, newest: cell.newest },
    }
}

/// No chunks: for records that are a leaf, and for tests.
pub struct NoNodes;

impl Nodes for NoNodes {
    fn get(&self, _: crate::record::NodeId) -> Option<Arc<[u8]>> {
        None
    }
}
