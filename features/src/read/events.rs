//! The events that a read looks at, and how a window is folded out of them.

use std::cell::{Cell as Slot, OnceCell};

use super::{ReadError, Timeline};
use crate::aggregates::Cell;
use crate::codec::Damaged;
use crate::plan::{Plan, Range};
use crate::record::{Branch, Node, Nodes, Rows};

/// Rows, or spans with tiles whose rows are fetched only where an edge cuts them.
pub struct EventSet<'a> {
    shape: Shape<'a>,
    merged: Slot<u64>,
}

enum Shape<'a> {
    Rows(Rows<'a>),
    Spans {
        spans: Vec<Span<'a>>,
        nodes: &'a dyn Nodes,
    },
    /// what was visible at a time
    Timeline {
        timeline: &'a Timeline<'a>,
        until: i64,
    },
}

struct Span<'a> {
    branch: Branch<'a>,
    cells: OnceCell<Vec<Cell>>,
    below: OnceCell<Box<EventSet<'a>>>,
}

impl<'a> EventSet<'a> {
    /// The events of a record's node.
    pub fn of_record(plan: &Plan, node: &'a [u8], nodes: &'a dyn Nodes) -> Result<Self, Damaged> {
        let shape = match Node::parse(node)? {
            Node::Leaf { count, bytes } => Shape::Rows(Node::rows(plan, count, bytes)?),
            Node::Ladder { branches, .. } => {
                Shape::Spans { spans: branches.into_iter().map(Span::new).collect(), nodes }
            }
        };
        Ok(EventSet { shape, merged: Slot::new(0) })
    }

    /// Rows in their order.
    pub fn of_rows(rows: Rows<'a>) -> Self {
        EventSet { shape: Shape::Rows(rows), merged: Slot::new(0) }
    }

    /// The events of a timeline that were visible at `until`.
    pub fn of_timeline(timeline: &'a Timeline<'a>, until: i64) -> Self {
        EventSet { shape: Shape::Timeline { timeline, until }, merged: Slot::new(0) }
    }

    /// How many tiles were merged instead of looking at their events.
    pub fn merged_tiles(&self) -> u64 {
        let below = match &self.shape {
            Shape::Rows(_) | Shape::Timeline { .. } => 0,
            Shape::Spans { spans, .. } => spans.iter().filter_map(|s| s.below.get()).map(|b| b.merged_tiles()).sum(),
        };
        self.merged.get() + below
    }

    /// Folds the events of a range into a cell that is not joined: from tiles where whole spans lie in the range.
    pub fn fold(&self, plan: &Plan, range: Range, cell_index: usize, cell: &mut Cell) -> Result<(), Damaged> {
        let from = range.from.unwrap_or(i64::MIN);
        match &self.shape {
            Shape::Timeline { timeline, until } => timeline.fold(range, *until, cell_index, cell),
            Shape::Rows(rows) => {
                let first = rows.times.partition_point(|t| *t < from);
                let end = rows.times.partition_point(|t| *t < range.to);
                for row in first..end {
                    rows.update(plan, row, &plan.cells[cell_index], cell);
                }
            }
            Shape::Spans { spans, nodes } => {
                // A chunk that is not here does not end it: whoever fetches what is missing shall hear of all of it at once.
                let mut whole = Ok(());
                for span in spans {
                    let id = span.branch.id;
                    if id.last() < from || id.start() >= range.to {
                        continue;
                    }
                    if from <= id.start() && id.last() < range.to {
                        cell.merge(&span.cells(plan)?[cell_index]);
                        self.merged.set(self.merged.get() + 1);
                    } else {
                        let below = span.below(plan, *nodes);
                        whole = whole.and(below.and_then(|below| below.fold(plan, range, cell_index, cell)));
                    }
                }
                return whole;
            }
        }
        Ok(())
    }

    /// The time of the first event at or after `from`; None: there is none. Of a span that begins behind `from` the start is said,
    /// which may be earlier, and nothing is fetched for it.
    pub fn next_from(&self, plan: &Plan, from: i64) -> Result<Option<i64>, Damaged> {
        match &self.shape {
            Shape::Timeline { timeline, until } => Ok(timeline.next_from(from, *until)),
            Shape::Rows(rows) => Ok(rows.times.get(rows.times.partition_point(|t| *t < from)).copied()),
            Shape::Spans { spans, nodes } => {
                for span in spans.iter().filter(|span| span.branch.id.last() >= from) {
                    if span.branch.id.start() >= from {
                        return Ok(Some(span.branch.id.start()));
                    }
                    if let Some(time) = span.below(plan, *nodes)?.next_from(plan, from)? {
                        return Ok(Some(time));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Visits the events of a range, oldest first.
    pub fn ascend(&self, plan: &Plan, range: Range, visit: &mut Visit<'_, ()>) -> Result<(), ReadError> {
        let from = range.from.unwrap_or(i64::MIN);
        match &self.shape {
            Shape::Timeline { timeline, until } => timeline.ascend(range, *until, visit),
            Shape::Rows(rows) => {
                let first = rows.times.partition_point(|t| *t < from);
                let end = rows.times.partition_point(|t| *t < range.to);
                (first..end).try_for_each(|row| visit(rows, row))
            }
            Shape::Spans { spans, nodes } => {
                let touched = |span: &&Span<'_>| span.branch.id.last() >= from && span.branch.id.start() < range.to;
                let mut whole = Ok(());
                for span in spans.iter().filter(touched) {
                    let below = span.below(plan, *nodes).map_err(ReadError::from);
                    whole = whole.and(below.and_then(|below| below.ascend(plan, range, visit)));
                    // As in `fold`, but what the visitor says ends it.
                    if matches!(whole, Err(ReadError::BeyondRecord)) {
                        break;
                    }
                }
                whole
            }
        }
    }

    /// Visits the events before `to`, newest first, for as long as `visit` says true. False: it said no.
    pub fn descend(&self, plan: &Plan, to: i64, visit: &mut Visit<'_, bool>) -> Result<bool, ReadError> {
        match &self.shape {
            Shape::Timeline { timeline, until } => return timeline.descend(to, *until, visit),
            Shape::Rows(rows) => {
                let end = rows.times.partition_point(|t| *t < to);
                for row in (0..end).rev() {
                    if !visit(rows, row)? {
                        return Ok(false);
                    }
                }
            }
            Shape::Spans { spans, nodes } => {
                for span in spans.iter().rev().filter(|span| span.branch.id.start() < to) {
                    if !span.below(plan, *nodes)?.descend(plan, to, visit)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Looks at a row.
pub type Visit<'v, T> = dyn FnMut(&Rows<'_>, usize) -> Result<T, ReadError> + 'v;

impl<'a> Span<'a> {
    fn new(branch: Branch<'a>) -> Self {
        Span { branch, cells: OnceCell::new(), below: OnceCell::new() }
    }

    fn cells(&self, plan: &Plan) -> Result<&[Cell], Damaged> {
        if self.cells.get().is_none() {
            let _ = self.cells.set(self.branch.tile.cells(plan)?);
        }
        Ok(self.cells.get().ok_or(Damaged)?)
    }

    fn below(&self, plan: &Plan, nodes: &'a dyn Nodes) -> Result<&EventSet<'a>, Damaged> {
        if self.below.get().is_none() {
            let chunk = nodes.get(self.branch.id).ok_or(Damaged)?;
            let shape = match Node::parse_chunk(&chunk, self.branch.id)? {
                Node::Leaf { count, bytes } => Shape::Rows(Node::rows(plan, count, bytes)?.into_owned()),
                Node::Ladder { branches, .. } => {
                    let mut spans = Vec::with_capacity(branches.len());
                    for branch in branches {
                        let tile = crate::record::Tile::Cells(branch.tile.cells(plan)?);
                        spans.push(Span::new(Branch { id: branch.id, count: branch.count, tile }));
                    }
                    Shape::Spans { spans, nodes }
                }
            };
            let _ = self.below.set(Box::new(EventSet { shape, merged: Slot::new(0) }));
        }
        Ok(self.below.get().ok_or(Damaged)?)
    }
}
