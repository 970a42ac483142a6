//! Nodes: how a record's events are laid out.
//!
//! Up to `LEAF_MAX` events are a leaf: raw rows. More become a ladder: the time axis is cut into 16 equal spans at the
//! coarsest power of 16 microseconds that tells the events apart; each span keeps its tile (one cell an aggregate) here and
//! its own node, leaf or ladder, as a chunk beside the record. A window reads whole spans from tiles and fetches only the
//! chunks that its edges cut. The layout is a function of the SET of events, so equal sets have equal bytes; keys with few
//! events never grow a ladder, and a burst of any density gets as many levels as it needs.

use std::sync::Arc;

use crate::aggregates::Cell;
use crate::codec::{Cursor, Damaged, put_bytes, put_varint};
use crate::plan::Plan;
use crate::record::row::{Row, Rows, append_rows, merge_rows, read_rows, split_rows};

/// Events of a leaf. Measured on a prototype: raw rows are smaller than tiles, and as fast to read, up to about this many.
pub const LEAF_MAX: usize = 256;

/// Names a chunk of a record: the span `slot * 16^level ..` of (order-preserving) unsigned time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// spans are 16^level microseconds
    pub level: u8,
    /// which span
    pub slot: u64,
}

/// Where chunks come from.
pub trait Nodes {
    /// The bytes of a chunk; None if it is not there, which means damage.
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>>;
}

/// Time as an unsigned number in the same order.
fn unsigned(time: i64) -> u64 {
    time as u64 ^ (1 << 63)
}

fn signed(unsigned: u64) -> i64 {
    (unsigned ^ (1 << 63)) as i64
}

impl NodeId {
    /// The span that holds a time.
    pub fn of(time: i64, level: u8) -> Self {
        NodeId { level, slot: unsigned(time).checked_shr(4 * u32::from(level)).unwrap_or(0) }
    }

    /// First microsecond of the span.
    pub fn start(self) -> i64 {
        signed(self.slot.checked_shl(4 * u32::from(self.level)).unwrap_or(0))
    }

    /// Last microsecond of the span.
    pub fn last(self) -> i64 {
        let span = 1u64.checked_shl(4 * u32::from(self.level)).map_or(u64::MAX, |span| span - 1);
        signed(unsigned(self.start()) | span)
    }

    /// The level at which two times fall into different spans; they differ.
    pub fn splitting_level(a: i64, b: i64) -> u8 {
        ((63 - (unsigned(a) ^ unsigned(b)).leading_zeros()) / 4) as u8
    }
}

/// A node, parsed as far as its outline.
#[derive(Debug)]
pub enum Node<'a> {
    /// raw rows
    Leaf {
        /// number of rows
        count: usize,
        /// the rows
        bytes: Cursor<'a>,
    },
    /// tiles
    Ladder {
        /// of its branches
        level: u8,
        /// by time
        branches: Vec<Branch<'a>>,
    },
}

/// A span of a ladder.
#[derive(Clone, Debug)]
pub struct Branch<'a> {
    /// the span, and the chunk that holds its node
    pub id: NodeId,
    /// events in it
    pub count: u64,
    /// one cell an aggregate of the plan
    pub tile: Tile<'a>,
}

/// The cells of a span, decoded when needed.
#[derive(Clone, Debug)]
pub enum Tile<'a> {
    /// as stored
    Stored(&'a [u8]),
    /// one an aggregate
    Cells(Vec<Cell>),
}

const LEAF: u8 = 0;
const LADDER: u8 = 1;

impl<'a> Node<'a> {
    /// Parses the outline.
    pub fn parse(bytes: &'a [u8]) -> Result<Node<'a>, Damaged> {
        let mut cursor = Cursor::new(bytes);
        match cursor.byte()? {
            LEAF => {
                let count: [u8; 4] = cursor.take(4)?.try_into().map_err(|_| Damaged)?;
                Ok(Node::Leaf { count: u32::from_le_bytes(count) as usize, bytes: cursor })
            }
            LADDER => {
                let level = cursor.byte()?;
                let count = cursor.length()?;
                if level > 15 || count > 16 {
                    return Err(Damaged);
                }
                let mut branches = Vec::with_capacity(count);
                for _ in 0..count {
                    let id = NodeId { level, slot: cursor.varint()? };
                    let count = cursor.count()?;
                    branches.push(Branch { id, count, tile: Tile::Stored(cursor.bytes()?) });
                }
                Ok(Node::Ladder { level, branches })
            }
            _ => Err(Damaged),
        }
    }

    /// Parses the chunk of a span. A ladder in it has finer spans: damaged bytes must not lead around in a circle.
    pub fn parse_chunk(bytes: &'a [u8], id: NodeId) -> Result<Node<'a>, Damaged> {
        match Node::parse(bytes)? {
            Node::Ladder { level, .. } if level >= id.level => Err(Damaged),
            node => Ok(node),
        }
    }

    /// Decodes the rows of a leaf.
    pub fn rows(plan: &Plan, count: usize, bytes: Cursor<'a>) -> Result<Rows<'a>, Damaged> {
        read_rows(plan, count, bytes)
    }

    /// The rows of a leaf, their columns still bytes.
    pub fn split(plan: &Plan, count: usize, bytes: Cursor<'a>) -> Result<Vec<Row<'a>>, Damaged> {
        split_rows(plan, count, bytes)
    }
}

impl Tile<'_> {
    /// The cells; the same number as the plan's.
    pub fn cells(&self, plan: &Plan) -> Result<Vec<Cell>, Damaged> {
        match self {
            Tile::Cells(cells) => Ok(cells.clone()),
            Tile::Stored(bytes) => {
                let mut cursor = Cursor::new(bytes);
                plan.cells.iter().map(|cell| Cell::decode(&mut cursor, &cell.aggregate)).collect()
            }
        }
    }
}

/// Appends a leaf.
pub fn put_leaf(rows: &[Row<'_>], out: &mut Vec<u8>) {
    out.push(LEAF);
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    append_rows(rows, 0, out);
}

/// Appends a leaf that continues one: its rows as they are, then newer ones.
pub fn put_longer_leaf(count: usize, stored: &[u8], newest: i64, rows: &[Row<'_>], out: &mut Vec<u8>) {
    out.push(LEAF);
    out.extend_from_slice(&((count + rows.len()) as u32).to_le_bytes());
    out.extend_from_slice(stored);
    append_rows(rows, newest, out);
}

/// A leaf with sorted new rows among its own. None: see `merge_rows`.
pub fn merged_leaf(plan: &Plan, count: usize, stored: Cursor<'_>, new: &[Row<'_>]) -> Result<Option<Vec<u8>>, Damaged> {
    let longer = new.iter().map(|row| row.body.len() + 18).sum::<usize>();
    let mut out = Vec::with_capacity(5 + stored.rest().len() + longer);
    out.push(LEAF);
    out.extend_from_slice(&((count + new.len()) as u32).to_le_bytes());
    Ok(merge_rows(plan, count, stored, new, &mut out)?.then_some(out))
}

/// Appends a ladder.
pub fn put_ladder(level: u8, branches: &[Branch<'_>], out: &mut Vec<u8>) {
    out.push(LADDER);
    out.push(level);
    put_varint(out, branches.len() as u64);
    let mut tile = Vec::new();
    for branch in branches {
        put_varint(out, branch.id.slot);
        put_varint(out, branch.count);
        match &branch.tile {
            Tile::Stored(bytes) => put_bytes(out, bytes),
            Tile::Cells(cells) => {
                tile.clear();
                cells.iter().for_each(|cell| cell.encode(&mut tile));
                put_bytes(out, &tile);
            }
        }
    }
}

/// Fresh cells, one an aggregate.
pub fn new_cells(plan: &Plan) -> Vec<Cell> {
    plan.cells.iter().map(|cell| Cell::new(&cell.aggregate)).collect()
}

/// Folds one row into the cells of its span.
pub fn update_cells(plan: &Plan, cells: &mut [Cell], rows: &Rows<'_>, row: usize) {
    for (plan_cell, cell) in plan.cells.iter().zip(cells) {
        if plan_cell.joined.is_none() {
            rows.update(plan, row, plan_cell, cell);
        }
    }
}

/// The cells of some rows.
pub fn cells_of(plan: &Plan, rows: &[Row<'_>]) -> Result<Vec<Cell>, Damaged> {
    let mut cells = new_cells(plan);
    add_rows(plan, &mut cells, rows)?;
    Ok(cells)
}

/// Folds more rows into cells.
pub fn add_rows(plan: &Plan, cells: &mut [Cell], rows: &[Row<'_>]) -> Result<(), Damaged> {
    let mut decoded = Rows::default();
    for row in rows {
        decoded.push(plan, row)?;
    }
    (0..decoded.len()).for_each(|row| update_cells(plan, cells, &decoded, row));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ladders_lead_down() {
        let mut ladder = Vec::new();
        put_ladder(3, &[], &mut ladder);
        assert!(Node::parse_chunk(&ladder, NodeId { level: 4, slot: 0 }).is_ok());
        assert!(Node::parse_chunk(&ladder, NodeId { level: 3, slot: 0 }).is_err());
    }

    #[test]
    fn spans_hold_their_times() {
        for time in [i64::MIN, -1, 0, 1, 1 << 40, i64::MAX] {
            for level in 0..16 {
                let id = NodeId::of(time, level);
                assert!(id.start() <= time && time <= id.last(), "{time} {level}");
            }
        }
        assert_eq!(NodeId::splitting_level(0, 1), 0);
        assert_eq!(NodeId::splitting_level(0, 16), 1);
        assert_eq!(NodeId::splitting_level(-1, 0), 15);
    }
}
