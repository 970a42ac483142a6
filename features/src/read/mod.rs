//! Read: from a record and T to values. Pure, and the same for serving, training and explaining.
//!
//! `EventSet` is what a read looks at: the nodes of a record, or rows gathered from the log for a past that the record no
//! longer holds. `read_view` computes the features of one view of one entity. In reading order: `events` (what there is),
//! `fold` (what of it a window holds), `joins` (what an event sees of tables), `history` (one read from the log), `timeline`
//! (many reads from the log, each of what was visible then), `missing` (what a log that was cut no longer has), `standing` (the
//! newest row of a table's key), `passing` (how long a value stays what it is).

mod events;
mod fold;
mod history;
mod joins;
mod missing;
mod passing;
mod standing;
mod timeline;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::events::EventSet;
pub use self::history::History;
pub use self::joins::{NoTables, TableRows, Tables, table_row};
pub use self::missing::{Doubts, Missing};
pub use self::passing::stands_until;
pub use self::standing::{Standing, standing};
pub use self::timeline::{Timeline, TimelineBuilder};

use self::fold::Known;
use crate::aggregates::{Cell, NoValue};
use crate::codec::{Cursor, Damaged};
use crate::plan::{FeaturePlan, Plan};
use crate::record::{Base, Nodes, Outline, Rows};
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
    /// whether a cap left values or categories out
    pub capped: bool,
}

impl Answer {
    /// What nobody can answer: the events that it may depend on are gone.
    pub fn unanswered() -> Self {
        Answer { value: Value::Null, status: Status::Error, newest: None, capped: false }
    }

    /// Whether it is that. Other errors have an event that contributed.
    pub fn is_unanswered(&self) -> bool {
        self.status == Status::Error && self.newest.is_none()
    }
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

/// What a read may need besides the entity's own events.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    /// rows of joined tables
    pub tables: &'c dyn Tables,
    /// T and the body of the request's row, if it passes the view's `where`; for features that include it
    pub request: Option<(i64, &'c [u8])>,
}

impl Default for Context<'_> {
    fn default() -> Self {
        Context { tables: &NoTables, request: None }
    }
}

/// A record with its chunks.
#[derive(Clone, Copy)]
pub struct Stored<'s> {
    /// None where the entity is unknown
    pub record: Option<&'s [u8]>,
    /// larger records have some
    pub nodes: &'s dyn Nodes,
}

/// Reads features (by index into `plan.features`) of one entity at T.
pub fn read_view(
    plan: &Plan,
    stored: Stored<'_>,
    context: &Context<'_>,
    features: &[usize],
    time: i64,
    out: &mut Vec<Answer>,
) -> Result<(), ReadError> {
    let Some(record) = stored.record else {
        let rows = EventSet::of_rows(Rows::default());
        out.extend(read_rows(plan, (&rows, None), None, context, features, time)?);
        return Ok(());
    };
    let outline = Outline::parse(record)?;
    let known_status = if outline.oldest < time { Status::Present } else { Status::NotFound };
    // Where even the oldest event is above the floor, nothing was late and nothing has left.
    let floor = plan.floor(outline.newest);
    let whole = outline.oldest >= floor;
    if !whole && !features.iter().all(|f| reachable(plan, &plan.features[*f], time, floor)) {
        return Err(ReadError::BeyondRecord);
    }
    let base = match outline.base {
        Some(stored) => Some(Base::decode(plan, &mut Cursor::new(stored))?),
        None => None,
    };
    let events = EventSet::of_record(plan, outline.node, stored.nodes)?;
    let complete_from = if whole { i64::MIN } else { floor };
    let known = Known { plan, events: &events, base: base.as_ref(), complete_from, missing: None, context };
    for feature in features {
        let feature = &plan.features[*feature];
        out.push(answer(plan, feature, known.fold(feature, time)?, time, known_status));
    }
    Ok(())
}

/// Reads features from rows of the log: all applied and late events of the entity, in order. `oldest` is the smallest event
/// time among those of which it is sure that they counted.
fn read_rows(
    plan: &Plan,
    (rows, missing): (&EventSet<'_>, Option<&Missing>),
    oldest: Option<i64>,
    context: &Context<'_>,
    features: &[usize],
    time: i64,
) -> Result<Vec<Answer>, ReadError> {
    let is_known = oldest.is_some_and(|oldest| oldest < time);
    let known = Known { plan, events: rows, base: None, complete_from: i64::MIN, missing, context };
    let mut out = Vec::with_capacity(features.len());
    known.read(features, time, known_status(is_known, missing, oldest, time), &mut out)?;
    Ok(out)
}

/// The status of a key in the log at `time`; None: what is missing may have made it known.
fn known_status(is_known: bool, missing: Option<&Missing>, oldest: Option<i64>, time: i64) -> Option<Status> {
    let is_known = match missing {
        Some(missing) if !is_known => missing.knows(time, oldest)?,
        _ => is_known,
    };
    Some(if is_known { Status::Present } else { Status::NotFound })
}

/// Whether a record that has let go of events below `floor` answers a feature at `time`.
fn reachable(plan: &Plan, feature: &FeaturePlan, time: i64, floor: i64) -> bool {
    let seen_at = time.saturating_sub(feature.offset);
    let range = feature.window.range(seen_at);
    // Where no row is ever late, a table's newest row is never gone, so only the moment itself must be above the floor.
    let keeps_newest = plan.table.is_some() && plan.never_late;
    let lowest = if keeps_newest { seen_at } else { range.from.unwrap_or(range.to) };
    lowest >= floor
}

fn nothing(plan: &Plan, feature: &FeaturePlan, status: Status) -> Answer {
    let value = match &feature.default {
        Some(default) => default.clone(),
        None => plan.cells[feature.cell].aggregate.value_of_nothing(),
    };
    let defaulted = if feature.default.is_some() { Status::Defaulted } else { Status::Empty };
    Answer { value, status: status.worse(defaulted), newest: None, capped: false }
}

fn answer(plan: &Plan, feature: &FeaturePlan, cell: Cell, time: i64, known: Status) -> Answer {
    if cell.newest.is_none() {
        return nothing(plan, feature, known);
    }
    let seen_at = time.saturating_sub(feature.offset);
    let finished: Result<Value<'static>, NoValue> = cell.finish(&plan.cells[feature.cell].aggregate, seen_at);
    let (newest, capped) = (cell.newest, cell.is_capped());
    match finished {
        Ok(value) => Answer { value, status: known, newest, capped },
        Err(_) => Answer { value: Value::Null, status: Status::Error, newest, capped },
    }
}

/// No chunks: for records that are a leaf, and for tests.
pub struct NoNodes;

impl Nodes for NoNodes {
    fn get(&self, _: crate::record::NodeId) -> Option<Arc<[u8]>> {
        None
    }
}
