//! Apply: folds events into a record. The heart: pure, and a function of the set of events.
//!
//! What becomes of each event is decided in log order by the rules of the contract: duplicate, filtered, late, applied. Then
//! the applied ones enter the record together, and what no window can need leaves it.

use super::base::Base;
use super::ids::Ids;
use super::node::{Node, Nodes, put_leaf, put_longer_leaf};
use super::row::{Row, sort_rows};
use super::tree::{Chunks, Expired, expire, insert};
use super::{Outline, put_outline};
use crate::aggregates::EventOrder;
use crate::codec::{Cursor, Damaged};
use crate::plan::Plan;

/// An event on its way into a record.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    /// event time and place
    pub order: EventOrder<'a>,
    /// when it became known, microseconds
    pub arrival: i64,
    /// whether the view's `where` is true
    pub passes: bool,
    /// see `encode_body`
    pub body: &'a [u8],
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// in the record
    Applied,
    /// the view's `where` is not true
    Filtered,
    /// older than any window can need
    Late,
    /// an event with its id counted before
    Duplicate,
    /// a key column is null; no record sees it
    Keyless,
}

/// A record after some events.
pub struct Applied {
    /// one for each event, in order
    pub fates: Vec<Fate>,
    /// the new record; None where nothing changed
    pub record: Option<Vec<u8>>,
    /// chunks that changed
    pub chunks: Vec<(super::NodeId, Option<std::sync::Arc<[u8]>>)>,
}

/// Folds events, in log order, into the record of their key.
pub fn apply(
    plan: &Plan,
    record: Option<&[u8]>,
    events: &[Incoming<'_>],
    stored: &dyn Nodes,
) -> Result<Applied, Damaged> {
    let outline = record.map(Outline::parse).transpose()?;
    let mut judge = Judge::of_record(plan, outline.as_ref(), stored)?;
    judge.ids.look_for(events)?;
    let before = judge.newest;
    let mut fates = Vec::with_capacity(events.len());
    let mut rows = Vec::new();
    for event in events {
        let fate = judge.judge(event)?;
        fates.push(fate);
        if fate == Fate::Applied || (fate == Fate::Filtered && judge.supersedes(event.order.time)) {
            rows.push(Row { time: event.order.time, body: event.body });
        }
    }
    if rows.is_empty() && !fates.contains(&Fate::Late) {
        return Ok(Applied { fates, record: None, chunks: Vec::new() });
    }
    let Judge { ids, newest, oldest, .. } = judge;
    sort_rows(plan, &mut rows)?;
    let mut chunks = Chunks::new(stored);
    let node = outline.as_ref().map_or(EMPTY_LEAF, |o| o.node);
    let (node, expired) = changed_node(plan, node, (before, newest), &rows, &mut chunks)?;
    let mut out = Vec::with_capacity(node.len() + 32);
    let mut base = None;
    if plan.has_base() {
        let mut kept = match outline.as_ref().and_then(|o| o.base) {
            Some(stored) => Base::decode(plan, &mut Cursor::new(stored))?,
            None => Base::empty(plan),
        };
        let mut encoded = Vec::new();
        kept.encode_with(plan, &expired, &mut encoded)?;
        base = Some(encoded);
    }
    let encoded_ids = ids.finish(&mut chunks)?;
    put_outline(&Outline { newest, oldest, ids: encoded_ids.as_deref(), base: base.as_deref(), node: &node }, &mut out);
    Ok(Applied { fates, record: Some(out), chunks: chunks.changed.into_iter().collect() })
}

/// Decides what becomes of events, one after the other, in log order.
pub struct Judge<'a> {
    plan: &'a Plan,
    ids: Ids<'a>,
    newest: i64,
    /// smallest event time applied or late
    pub oldest: i64,
}

impl<'a> Judge<'a> {
    /// Starts from nothing.
    pub fn new(plan: &'a Plan) -> Self {
        Judge { plan, ids: Ids::none(plan.dedup.as_ref()), newest: i64::MIN, oldest: i64::MAX }
    }

    /// Starts from a record, or from nothing.
    fn of_record(plan: &'a Plan, record: Option<&Outline<'a>>, nodes: &'a dyn Nodes) -> Result<Self, Damaged> {
        let Some(record) = record else { return Ok(Judge::new(plan)) };
        let dedup = plan.dedup.as_ref();
        let ids = match record.ids {
            Some(stored) => Ids::of_record(dedup, stored, nodes)?,
            None => Ids::none(dedup),
        };
        Ok(Judge { plan, ids, newest: record.newest, oldest: record.oldest })
    }

    /// The fate of the next event.
    pub fn judge(&mut self, event: &Incoming<'_>) -> Result<Fate, Damaged> {
        let EventOrder { time, id, partition, .. } = &event.order;
        if self.ids.is_duplicate(*partition, id, event.arrival)? {
            return Ok(Fate::Duplicate);
        }
        if !event.passes {
            return Ok(Fate::Filtered);
        }
        self.oldest = self.oldest.min(*time);
        self.ids.remember(*partition, id, event.arrival)?;
        if !self.plan.never_late && self.newest != i64::MIN && *time < self.plan.floor(self.newest) {
            return Ok(Fate::Late);
        }
        self.newest = self.newest.max(*time);
        Ok(Fate::Applied)
    }
}

impl Judge<'_> {
    /// Whether a row that the view's `where` leaves out is kept all the same: in a view of a table it takes the place of the
    /// row before it.
    pub fn supersedes(&self, time: i64) -> bool {
        self.plan.table.is_some() && (self.plan.never_late || time >= self.plan.floor(self.newest))
    }
}

const EMPTY_LEAF: &[u8] = &[0, 0, 0, 0, 0];

/// The record's node with new rows and without those that no window can need any more.
fn changed_node(
    plan: &Plan,
    node: &[u8],
    (before, newest): (i64, i64),
    rows: &[Row<'_>],
    chunks: &mut Chunks<'_>,
) -> Result<(Vec<u8>, Expired), Damaged> {
    let floor = plan.expiry(newest);
    let mut expired = Expired::default();
    let gone = rows.partition_point(|row| row.time < floor);
    let (old, rows) = rows.split_at(gone);
    if !old.is_empty() {
        let mut leaf = Vec::new();
        put_leaf(old, &mut leaf);
        expire(plan, &leaf, i64::MAX, chunks, &mut expired)?;
    }
    let newer = |first: &Row<'_>| first.time > before;
    let node = match Node::parse(node)? {
        // The common case, an event newer than all before it: its bytes go behind theirs.
        Node::Leaf { count, bytes }
            if plan.table.is_none()
                && count > 0
                && before != i64::MIN
                && count + rows.len() <= plan.leaf_max
                && rows.first().is_some_and(newer) =>
        {
            let mut out = Vec::with_capacity(node.len() + rows.iter().map(|r| r.body.len() + 9).sum::<usize>());
            put_longer_leaf(count, bytes.rest(), before, rows, &mut out);
            out
        }
        _ => insert(plan, node, rows, chunks)?,
    };
    let grid_moved = before == i64::MIN || plan.expiry(before) != floor;
    let node = if grid_moved { expire(plan, &node, floor, chunks, &mut expired)? } else { node };
    Ok((node, expired))
}
