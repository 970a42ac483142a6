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
use crate::value::Value;

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
    let mut ids = match (&plan.dedup, &outline) {
        (Some(dedup), Some(Outline { ids: Some(stored), .. })) => Ids::decode(dedup, &mut Cursor::new(stored))?,
        _ => Ids::default(),
    };
    let (mut newest, mut oldest) = outline.as_ref().map_or((i64::MIN, i64::MAX), |o| (o.newest, o.oldest));
    let before = newest;
    let mut fates = Vec::with_capacity(events.len());
    let mut rows = Vec::new();
    let mut seen_late = false;
    for event in events {
        let fate = fate(plan, &ids, newest, event);
        fates.push(fate);
        if !matches!(fate, Fate::Applied | Fate::Late) {
            continue;
        }
        seen_late |= fate == Fate::Late;
        oldest = oldest.min(event.order.time);
        if plan.dedup.is_some() && !event.order.id.is_null() {
            ids.remember(event.order.partition, &event.order.id, event.arrival);
        }
        if fate == Fate::Applied {
            newest = newest.max(event.order.time);
            rows.push(Row { time: event.order.time, body: event.body });
        }
    }
    if rows.is_empty() && !seen_late {
        return Ok(Applied { fates, record: None, chunks: Vec::new() });
    }
    if let Some(dedup) = &plan.dedup {
        ids.forget(dedup);
    }
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
    let encoded_ids = (!ids.is_empty()).then(|| {
        let mut encoded = Vec::new();
        ids.encode(&mut encoded);
        encoded
    });
    put_outline(&Outline { newest, oldest, ids: encoded_ids.as_deref(), base: base.as_deref(), node: &node }, &mut out);
    Ok(Applied { fates, record: Some(out), chunks: chunks.changed.into_iter().collect() })
}

fn fate(plan: &Plan, ids: &Ids<'_>, newest: i64, event: &Incoming<'_>) -> Fate {
    let id: &Value<'_> = &event.order.id;
    if let Some(dedup) = &plan.dedup {
        if !id.is_null() && ids.is_duplicate(dedup, event.order.partition, id, event.arrival) {
            return Fate::Duplicate;
        }
    }
    if !event.passes {
        return Fate::Filtered;
    }
    if !plan.never_late && newest != i64::MIN && event.order.time < plan.floor(newest) {
        return Fate::Late;
    }
    Fate::Applied
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
            if count > 0 && count + rows.len() <= super::LEAF_MAX && rows.first().is_some_and(newer) =>
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
