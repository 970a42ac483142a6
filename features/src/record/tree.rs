//! Changing a record's nodes: inserting rows, letting old ones go.
//!
//! Every function returns the node that the resulting SET of rows has, whatever the way there: too many rows split, few
//! enough collapse into a leaf, a ladder of one branch becomes that branch.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::{
    Branch, Node, NodeId, Nodes, Tile, add_rows, cells_of, merged_leaf, new_cells, put_ladder, put_leaf,
};
use super::row::{Row, sort_rows};
use crate::aggregates::Cell;
use crate::codec::Damaged;
use crate::plan::Plan;

/// The chunks of a record while it changes: what was stored, and what becomes of it.
pub struct Chunks<'s> {
    stored: &'s dyn Nodes,
    /// new bytes of a chunk; None: it is gone
    pub changed: HashMap<NodeId, Option<Arc<[u8]>>>,
}

impl<'s> Chunks<'s> {
    /// Nothing changed yet.
    pub fn new(stored: &'s dyn Nodes) -> Self {
        Chunks { stored, changed: HashMap::new() }
    }

    fn get(&self, id: NodeId) -> Result<Arc<[u8]>, Damaged> {
        let node = match self.changed.get(&id) {
            Some(changed) => changed.clone().ok_or(Damaged)?,
            None => self.stored.get(id).ok_or(Damaged)?,
        };
        Node::parse_chunk(&node, id)?;
        Ok(node)
    }

    /// Looks for several before any of them is read, so that whoever fetches what is missing hears of all of them at once.
    fn look_for(&self, ids: impl Iterator<Item = NodeId>) -> Result<(), Damaged> {
        let mut whole = Ok(());
        for id in ids.filter(|id| !self.changed.contains_key(id)) {
            whole = self.stored.get(id).map(drop).ok_or(Damaged).and(whole);
        }
        whole
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        self.changed.insert(id, None);
    }

    pub(super) fn put(&mut self, id: NodeId, node: Vec<u8>) {
        self.changed.insert(id, Some(node.into()));
    }

    fn take(&mut self, id: NodeId) -> Result<Arc<[u8]>, Damaged> {
        let node = self.get(id)?;
        self.changed.insert(id, None);
        Ok(node)
    }
}

/// The node of a set of sorted rows.
pub fn build(plan: &Plan, rows: &[Row<'_>], chunks: &mut Chunks<'_>) -> Result<Vec<u8>, Damaged> {
    let mut out = Vec::new();
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        put_leaf(rows, &mut out);
        return Ok(out);
    };
    if rows.len() <= plan.leaf_max || first.time == last.time {
        put_leaf(rows, &mut out);
        return Ok(out);
    }
    let level = NodeId::splitting_level(first.time, last.time);
    let mut branches = Vec::new();
    for part in rows.chunk_by(|a, b| NodeId::of(a.time, level) == NodeId::of(b.time, level)) {
        let id = NodeId::of(part[0].time, level);
        let node = build(plan, part, chunks)?;
        chunks.put(id, node);
        branches.push(Branch { id, count: part.len() as u64, tile: Tile::Cells(cells_of(plan, part)?) });
    }
    put_ladder(level, &branches, &mut out);
    Ok(out)
}

/// The node of the rows of `node` and sorted new ones together.
pub fn insert(plan: &Plan, node: &[u8], new: &[Row<'_>], chunks: &mut Chunks<'_>) -> Result<Vec<u8>, Damaged> {
    let (Some(first), Some(last)) = (new.first(), new.last()) else { return Ok(node.to_vec()) };
    match Node::parse(node)? {
        Node::Leaf { count, bytes } => {
            if count + new.len() <= plan.leaf_max
                && let Some(leaf) = merged_leaf(plan, count, bytes, new)?
            {
                return Ok(leaf);
            }
            let mut rows = Node::split(plan, count, bytes)?;
            rows.extend(new.iter().cloned());
            sort_rows(plan, &mut rows)?;
            build(plan, &rows, chunks)
        }
        Node::Ladder { level, branches } => {
            let any = branches.first().ok_or(Damaged)?.id;
            // The coarsest level at which a new row parts from the rows here.
            let apart = [first.time, last.time]
                .map(|time| if time == any.start() { 0 } else { NodeId::splitting_level(time, any.start()) });
            let needed = apart[0].max(apart[1]);
            if needed <= level {
                return distribute(plan, level, branches, new, chunks);
            }
            let id = NodeId::of(any.start(), needed);
            let (count, cells) = total(plan, &branches)?;
            chunks.put(id, node.to_vec());
            let whole = Branch { id, count, tile: Tile::Cells(cells) };
            distribute(plan, needed, vec![whole], new, chunks)
        }
    }
}

fn distribute(
    plan: &Plan,
    level: u8,
    mut branches: Vec<Branch<'_>>,
    new: &[Row<'_>],
    chunks: &mut Chunks<'_>,
) -> Result<Vec<u8>, Damaged> {
    let parts = || new.chunk_by(|a, b| NodeId::of(a.time, level) == NodeId::of(b.time, level));
    let is_there = |id: &NodeId| branches.binary_search_by_key(id, |branch| branch.id).is_ok();
    chunks.look_for(parts().map(|part| NodeId::of(part[0].time, level)).filter(is_there))?;
    for part in parts() {
        let id = NodeId::of(part[0].time, level);
        match branches.binary_search_by_key(&id, |branch| branch.id) {
            Ok(at) => {
                let stored = chunks.get(id)?;
                let node = insert(plan, &stored, part, chunks)?;
                chunks.put(id, node);
                let branch = &mut branches[at];
                branch.count += part.len() as u64;
                // Rows in the middle of a run of events do not add to what is known of the run: it is summed up anew.
                let cells = if plan.needs_neighbours() {
                    summary(plan, &chunks.get(id)?)?.1.cells(plan)?
                } else {
                    let mut cells = branch.tile.cells(plan)?;
                    add_rows(plan, &mut cells, part)?;
                    cells
                };
                branch.tile = Tile::Cells(cells);
            }
            Err(at) => {
                let node = build(plan, part, chunks)?;
                chunks.put(id, node);
                let tile = Tile::Cells(cells_of(plan, part)?);
                branches.insert(at, Branch { id, count: part.len() as u64, tile });
            }
        }
    }
    let mut out = Vec::new();
    put_ladder(level, &branches, &mut out);
    Ok(out)
}

fn total(plan: &Plan, branches: &[Branch<'_>]) -> Result<(u64, Vec<Cell>), Damaged> {
    let mut cells = new_cells(plan);
    for branch in branches {
        for (sum, cell) in cells.iter_mut().zip(branch.tile.cells(plan)?) {
            sum.merge(&cell);
        }
    }
    Ok((branches.iter().map(|b| b.count).sum(), cells))
}

/// What left a node: tiles and rows, for the base of the record.
#[derive(Default)]
pub struct Expired {
    /// cells of whole spans
    pub tiles: Vec<Vec<Cell>>,
    /// bodies of rows with their times, sorted
    pub rows: Vec<(i64, Vec<u8>)>,
}

/// The node of the rows at or after `floor`; the others go to `expired`.
pub fn expire(
    plan: &Plan,
    node: &[u8],
    floor: i64,
    chunks: &mut Chunks<'_>,
    expired: &mut Expired,
) -> Result<Vec<u8>, Damaged> {
    match Node::parse(node)? {
        Node::Leaf { count, bytes } => {
            let rows = Node::split(plan, count, bytes)?;
            let kept = rows.partition_point(|row| row.time < floor);
            keep_for_base(plan, &rows[..kept], expired)?;
            let mut out = Vec::new();
            put_leaf(&rows[kept..], &mut out);
            Ok(out)
        }
        Node::Ladder { level, branches } => {
            let mut kept = Vec::with_capacity(branches.len());
            for mut branch in branches {
                if branch.id.last() < floor {
                    drop_branch(plan, &branch, chunks, expired)?;
                } else if branch.id.start() >= floor {
                    kept.push(branch);
                } else {
                    let stored = chunks.get(branch.id)?;
                    let node = expire(plan, &stored, floor, chunks, expired)?;
                    (branch.count, branch.tile) = summary(plan, &node)?;
                    chunks.put(branch.id, node);
                    if branch.count > 0 {
                        kept.push(branch);
                    } else {
                        chunks.take(branch.id)?;
                    }
                }
            }
            settle(plan, level, kept, chunks)
        }
    }
}

/// The count and tile of a node.
fn summary(plan: &Plan, node: &[u8]) -> Result<(u64, Tile<'static>), Damaged> {
    match Node::parse(node)? {
        Node::Leaf { count, bytes } => {
            let rows = Node::split(plan, count, bytes)?;
            Ok((count as u64, Tile::Cells(cells_of(plan, &rows)?)))
        }
        Node::Ladder { branches, .. } => {
            let (count, cells) = total(plan, &branches)?;
            Ok((count, Tile::Cells(cells)))
        }
    }
}

/// A ladder that lost rows, in the form that its rows have now.
fn settle(plan: &Plan, level: u8, branches: Vec<Branch<'_>>, chunks: &mut Chunks<'_>) -> Result<Vec<u8>, Damaged> {
    let count: u64 = branches.iter().map(|b| b.count).sum();
    if count > plan.leaf_max as u64 && branches.len() == 1 {
        return Ok(chunks.take(branches[0].id)?.to_vec());
    }
    let mut out = Vec::new();
    if count > plan.leaf_max as u64 {
        put_ladder(level, &branches, &mut out);
        return Ok(out);
    }
    let mut rows = Vec::new();
    for branch in &branches {
        collect(plan, branch.id, chunks, &mut rows)?;
    }
    let rows: Vec<Row<'_>> = rows.iter().map(|(time, body)| Row { time: *time, body }).collect();
    put_leaf(&rows, &mut out);
    Ok(out)
}

/// Takes all rows of a chunk and of those below it out of the store.
fn collect(plan: &Plan, id: NodeId, chunks: &mut Chunks<'_>, out: &mut Vec<(i64, Vec<u8>)>) -> Result<(), Damaged> {
    let node = chunks.take(id)?;
    match Node::parse(&node)? {
        Node::Leaf { count, bytes } => {
            let rows = Node::split(plan, count, bytes)?;
            out.extend(rows.into_iter().map(|row| (row.time, row.body.to_vec())));
        }
        Node::Ladder { branches, .. } => {
            for branch in branches {
                collect(plan, branch.id, chunks, out)?;
            }
        }
    }
    Ok(())
}

fn drop_branch(
    plan: &Plan,
    branch: &Branch<'_>,
    chunks: &mut Chunks<'_>,
    expired: &mut Expired,
) -> Result<(), Damaged> {
    let mut rows = Vec::new();
    collect(plan, branch.id, chunks, &mut rows)?;
    if !plan.last_n.is_empty() {
        expired.rows.extend(rows);
    }
    if !plan.lifetime_cells.is_empty() {
        expired.tiles.push(branch.tile.cells(plan)?);
    }
    Ok(())
}

fn keep_for_base(plan: &Plan, rows: &[Row<'_>], expired: &mut Expired) -> Result<(), Damaged> {
    if !plan.last_n.is_empty() {
        expired.rows.extend(rows.iter().map(|row| (row.time, row.body.to_vec())));
    }
    if !plan.lifetime_cells.is_empty() && !rows.is_empty() {
        expired.tiles.push(cells_of(plan, rows)?);
    }
    Ok(())
}
