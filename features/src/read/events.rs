//! The events that a read looks at, and how a window is folded out of them.

use std::cell::{Cell as Slot, OnceCell};

use crate::aggregates::Cell;
use crate::codec::Damaged;
use crate::plan::{CellPlan, Plan, Range};
use crate::record::{Branch, Node, Nodes, Rows};
use crate::value::Value;

/// Rows, or spans with tiles whose rows are fetched only where an edge cuts them.
pub struct EventSet<'a> {
    shape: Shape<'a>,
    merged: Slot<u64>,
}

enum Shape<'a> {
    Rows(Rows<'a>),
    Spans { spans: Vec<Span<'a>>, nodes: &'a dyn Nodes },
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

    /// How many tiles were merged instead of looking at their events.
    pub fn merged_tiles(&self) -> u64 {
        let below = match &self.shape {
            Shape::Rows(_) => 0,
            Shape::Spans { spans, .. } => spans.iter().filter_map(|s| s.below.get()).map(|b| b.merged_tiles()).sum(),
        };
        self.merged.get() + below
    }

    /// Folds the events of a range into a cell.
    pub fn fold(&self, plan: &Plan, range: Range, cell_index: usize, cell: &mut Cell) -> Result<(), Damaged> {
        let from = range.from.unwrap_or(i64::MIN);
        match &self.shape {
            Shape::Rows(rows) => {
                let first = rows.times.partition_point(|t| *t < from);
                let end = rows.times.partition_point(|t| *t < range.to);
                for row in first..end {
                    update(plan, &plan.cells[cell_index], rows, row, cell);
                }
            }
            Shape::Spans { spans, nodes } => {
                for span in spans {
                    let id = span.branch.id;
                    if id.last() < from || id.start() >= range.to {
                        continue;
                    }
                    if from <= id.start() && id.last() < range.to {
                        cell.merge(&span.cells(plan)?[cell_index]);
                        self.merged.set(self.merged.get() + 1);
                    } else {
                        span.below(plan, *nodes)?.fold(plan, range, cell_index, cell)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Folds the newest events before `to` that pass the cell's filter, `left` of them.
    pub fn newest_before(
        &self,
        plan: &Plan,
        to: i64,
        wanted: &CellPlan,
        left: &mut usize,
        cell: &mut Cell,
    ) -> Result<(), Damaged> {
        match &self.shape {
            Shape::Rows(rows) => {
                let end = rows.times.partition_point(|t| *t < to);
                for row in (0..end).rev() {
                    if *left == 0 {
                        break;
                    }
                    if rows.passes(plan, row, wanted.filter) {
                        *left -= 1;
                        update(plan, wanted, rows, row, cell);
                    }
                }
            }
            Shape::Spans { spans, nodes } => {
                for span in spans.iter().rev().filter(|span| span.branch.id.start() < to) {
                    if *left == 0 {
                        break;
                    }
                    span.below(plan, *nodes)?.newest_before(plan, to, wanted, left, cell)?;
                }
            }
        }
        Ok(())
    }
}

#[inline]
fn update(plan: &Plan, wanted: &CellPlan, rows: &Rows<'_>, row: usize, cell: &mut Cell) {
    if !rows.passes(plan, row, wanted.filter) {
        return;
    }
    match wanted.input {
        None => cell.update(rows.times[row], || rows.order(row), &Value::Null),
        Some(input) => {
            let value = rows.value(plan, row, input);
            if !value.is_null() {
                cell.update(rows.times[row], || rows.order(row), value);
            }
        }
    }
}

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
            let shape = match Node::parse(&chunk)? {
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
