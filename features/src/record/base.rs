//! The base of a record: what lifetime and last_n features still need of events that have left.
//!
//! Lifetime features need one cell each. A last_n feature needs its newest n events of all that left, since newer ones may not
//! be enough. Both are functions of the set of events that left.

use super::node::{Node, put_leaf};
use super::row::{Row, Rows, sort_rows};
use super::tree::Expired;
use crate::aggregates::Cell;
use crate::codec::{Cursor, Damaged, put_bytes};
use crate::plan::Plan;

/// Cells of lifetime features and rows of last_n features.
pub struct Base<'a> {
    /// one for each of `plan.lifetime_cells`
    pub cells: Vec<Cell>,
    /// a leaf
    rows: &'a [u8],
}

impl<'a> Base<'a> {
    pub(super) fn empty(plan: &Plan) -> Self {
        let cells = plan.lifetime_cells.iter().map(|at| Cell::new(&plan.cells[*at].aggregate)).collect();
        Base { cells, rows: &[] }
    }

    /// Parses a stored base.
    pub fn decode(plan: &Plan, cursor: &mut Cursor<'a>) -> Result<Self, Damaged> {
        let mut cells = Vec::with_capacity(plan.lifetime_cells.len());
        for at in &plan.lifetime_cells {
            cells.push(Cell::decode(cursor, &plan.cells[*at].aggregate)?);
        }
        Ok(Base { cells, rows: cursor.bytes()? })
    }

    /// The rows that last_n features may need.
    pub fn rows(&self, plan: &Plan) -> Result<Rows<'a>, Damaged> {
        match self.leaf()? {
            Some((count, bytes)) => Node::rows(plan, count, bytes),
            None => Ok(Rows::default()),
        }
    }

    fn leaf(&self) -> Result<Option<(usize, Cursor<'a>)>, Damaged> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        match Node::parse(self.rows)? {
            Node::Leaf { count, bytes } => Ok(Some((count, bytes))),
            Node::Ladder { .. } => Err(Damaged),
        }
    }

    /// Appends the base with what has left since.
    pub(super) fn encode_with(&mut self, plan: &Plan, expired: &Expired, out: &mut Vec<u8>) -> Result<(), Damaged> {
        for tile in &expired.tiles {
            for (cell, at) in self.cells.iter_mut().zip(&plan.lifetime_cells) {
                cell.merge(&tile[*at]);
            }
        }
        self.cells.iter().for_each(|cell| cell.encode(out));
        let mut rows = match self.leaf()? {
            Some((count, bytes)) => Node::split(plan, count, bytes)?,
            None => Vec::new(),
        };
        rows.extend(expired.rows.iter().map(|(time, body)| Row { time: *time, body }));
        sort_rows(plan, &mut rows)?;
        let kept = needed(plan, &rows)?;
        let mut leaf = Vec::new();
        put_leaf(&kept, &mut leaf);
        put_bytes(out, if kept.is_empty() { &[] } else { &leaf });
        Ok(())
    }
}

/// Of sorted rows, those among the newest n of some filter.
fn needed<'r>(plan: &Plan, rows: &[Row<'r>]) -> Result<Vec<Row<'r>>, Damaged> {
    let mut decoded = Rows::default();
    for row in rows {
        decoded.push(plan, row)?;
    }
    let mut left: Vec<usize> = plan.last_n.iter().map(|(_, n)| *n).collect();
    let mut kept = Vec::new();
    for (i, row) in rows.iter().enumerate().rev() {
        let mut wanted = false;
        for ((filter, _), left) in plan.last_n.iter().zip(&mut left) {
            if *left > 0 && decoded.passes(plan, i, *filter) {
                *left -= 1;
                wanted = true;
            }
        }
        if wanted {
            kept.push(row.clone());
        }
    }
    kept.reverse();
    Ok(kept)
}
