//! Timeline: all events of one key in a view, to be read at many moments: training is this.
//!
//! Each event became visible at some time, which need not follow the order of event times; a read sees what was visible
//! until a given time. What became of an event (late, duplicate) is decided once, in log order, and depends on neither.
//! Timelines that are read often fold through tiles, as records do; a tile counts where all its events are visible.

use std::cell::OnceCell;

use super::events::Visit;
use super::fold::Known;
use super::joins::{columns, newest};
use super::missing::{Judged, Missing};
use super::{Answer, Context, EventSet, ReadError, known_status};
use crate::aggregates::Cell;
use crate::codec::Damaged;
use crate::plan::{Plan, Range};
use crate::record::{Fate, Incoming, Judge, Row, Rows, sort_numbered};
use crate::value::Value;

/// Events below a tile of the lowest level, and tiles below one of the next.
const FANOUT: usize = 32;
/// Tiles pay from this many moments on: making them costs as much as folding everything once or twice.
const MOMENTS_FOR_TILES: usize = 8;

/// The events of one key, in their order.
pub struct Timeline<'a> {
    plan: &'a Plan,
    rows: Rows<'a>,
    /// by row: the first time at which a read may see it
    visible_from: Vec<i64>,
    /// by row: whether it makes the key known
    makes_known: Vec<bool>,
    /// by cell of the plan; None where tiles do not pay
    tiles: Option<Vec<OnceCell<Tiles>>>,
    /// by level, then tile: when all of its events are visible
    tiles_visible_from: Vec<Vec<i64>>,
    missing: Option<Missing>,
}

/// Partial aggregates of one cell, by level.
struct Tiles {
    levels: Vec<Vec<Cell>>,
}

/// Judges events in log order and puts them into a timeline.
pub struct TimelineBuilder<'a> {
    plan: &'a Plan,
    judge: Judge<'a>,
    kept: Vec<(usize, Row<'a>)>,
    visible_from: Vec<i64>,
    makes_known: Vec<bool>,
    judged: Judged,
}

impl<'a> TimelineBuilder<'a> {
    /// No events yet.
    pub fn new(plan: &'a Plan) -> Self {
        TimelineBuilder::without(plan, None)
    }

    /// No events yet, of a key of which some are missing.
    pub fn without(plan: &'a Plan, missing: Option<Missing>) -> Self {
        let (kept, visible_from, makes_known) = (Vec::new(), Vec::new(), Vec::new());
        let judged = Judged::new(plan, missing);
        TimelineBuilder { plan, judge: Judge::new(plan), kept, visible_from, makes_known, judged }
    }

    /// The next event of the key in log order, and the first time at which a read may see it.
    pub fn push(&mut self, event: &Incoming<'a>, visible_from: i64) -> Result<Fate, Damaged> {
        let is_sure = self.judged.is_sure(self.plan, event);
        let fate = self.judge.judge(event)?;
        let counts = matches!(fate, Fate::Applied | Fate::Late);
        if counts || (fate == Fate::Filtered && self.plan.table.is_some()) {
            self.kept.push((self.kept.len(), Row { time: event.order.time, body: event.body }));
            self.visible_from.push(visible_from);
            self.makes_known.push(counts && is_sure);
        }
        Ok(fate)
    }

    /// The timeline, to be read at about so many moments.
    pub fn finish(mut self, moments: usize) -> Result<Timeline<'a>, Damaged> {
        sort_numbered(self.plan, &mut self.kept)?;
        let mut rows = Rows::default();
        for (_, row) in &self.kept {
            rows.push(self.plan, row)?;
        }
        let visible_from: Vec<i64> = self.kept.iter().map(|(number, _)| self.visible_from[*number]).collect();
        let makes_known = self.kept.iter().map(|(number, _)| self.makes_known[*number]).collect();
        let tiled = moments >= MOMENTS_FOR_TILES && rows.len() >= 2 * FANOUT;
        let tiles = tiled.then(|| self.plan.cells.iter().map(|_| OnceCell::new()).collect());
        let tiles_visible_from = if tiled { latest_by_level(&visible_from) } else { Vec::new() };
        let missing = self.judged.missing;
        Ok(Timeline { plan: self.plan, rows, visible_from, makes_known, tiles, tiles_visible_from, missing })
    }
}

fn latest_by_level(visible_from: &[i64]) -> Vec<Vec<i64>> {
    let latest = |below: &[i64]| -> Vec<i64> {
        below.chunks_exact(FANOUT).map(|tile| tile.iter().copied().max().unwrap_or(i64::MIN)).collect()
    };
    let mut levels = vec![latest(visible_from)];
    while levels[levels.len() - 1].len() >= FANOUT {
        levels.push(latest(&levels[levels.len() - 1]));
    }
    levels
}

impl Timeline<'_> {
    /// Reads features (by index into `plan.features`) at T, of the events that were visible at `until`.
    pub fn read(
        &self,
        context: &Context<'_>,
        features: &[usize],
        time: i64,
        until: i64,
        out: &mut Vec<Answer>,
    ) -> Result<(), ReadError> {
        let missing = self.missing.as_ref();
        let least = (0..self.rows.len()).find(|row| self.makes_known[*row]).map(|row| self.rows.times[row]);
        let status = known_status(self.is_known(time, until), missing, least, time);
        let events = EventSet::of_timeline(self, until);
        let known = Known { plan: self.plan, events: &events, base: None, complete_from: i64::MIN, missing, context };
        known.read(features, time, status, out)
    }

    /// Of a table: the columns of the newest row before `time` among those visible at `until`; None: no row, or a delete. An error where
    /// a newer one may be missing.
    pub fn row_before(&self, time: i64, until: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
        let (mut found, mut of) = (None, None);
        newest(self.plan, &EventSet::of_timeline(self, until), None, time, &mut |rows, row| {
            (found, of) = (columns(self.plan, rows, row), Some(rows.times[row]));
            Ok(false)
        })?;
        let is_missing = self.missing.as_ref().is_some_and(|missing| missing.is_in(of, time));
        if is_missing { Err(ReadError::BeyondRecord) } else { Ok(found) }
    }

    fn is_known(&self, time: i64, until: i64) -> bool {
        let before = self.rows.times.partition_point(|t| *t < time);
        (0..before).any(|row| self.makes_known[row] && self.visible_from[row] <= until)
    }

    pub(super) fn fold(&self, range: Range, until: i64, cell_index: usize, cell: &mut Cell) {
        let (mut row, end) = self.rows_in(range);
        let tiles = self.tiles_of(cell_index, end - row);
        while row < end {
            let level = tiles.and_then(|_| self.highest_tile(row, end, until));
            match (tiles, level) {
                (Some(tiles), Some((level, size))) => {
                    cell.merge(&tiles.levels[level][row / size]);
                    row += size;
                }
                _ => {
                    if self.visible_from[row] <= until {
                        self.rows.update(self.plan, row, &self.plan.cells[cell_index], cell);
                    }
                    row += 1;
                }
            }
        }
    }

    /// The largest tile that begins at a row, ends before `end` and is all visible: its level and how many rows it has.
    fn highest_tile(&self, row: usize, end: usize, until: i64) -> Option<(usize, usize)> {
        let (mut found, mut size) = (None, FANOUT);
        for (level, visible_from) in self.tiles_visible_from.iter().enumerate() {
            if !row.is_multiple_of(size) || row + size > end || visible_from[row / size] > until {
                break;
            }
            found = Some((level, size));
            size *= FANOUT;
        }
        found
    }

    fn tiles_of(&self, cell_index: usize, rows: usize) -> Option<&Tiles> {
        let tiles = self.tiles.as_ref().filter(|_| rows >= FANOUT)?;
        Some(tiles[cell_index].get_or_init(|| self.make_tiles(cell_index)))
    }

    fn make_tiles(&self, cell_index: usize) -> Tiles {
        let wanted = &self.plan.cells[cell_index];
        let lowest = (0..self.rows.len() / FANOUT).map(|tile| {
            let mut cell = Cell::new(&wanted.aggregate);
            for row in tile * FANOUT..(tile + 1) * FANOUT {
                self.rows.update(self.plan, row, wanted, &mut cell);
            }
            cell
        });
        let mut levels: Vec<Vec<Cell>> = vec![lowest.collect()];
        while levels.len() < self.tiles_visible_from.len() {
            let merged = levels[levels.len() - 1].chunks_exact(FANOUT).map(|below| {
                let mut cell = Cell::new(&wanted.aggregate);
                below.iter().for_each(|part| cell.merge(part));
                cell
            });
            levels.push(merged.collect());
        }
        Tiles { levels }
    }

    pub(super) fn ascend(&self, range: Range, until: i64, visit: &mut Visit<'_, ()>) -> Result<(), ReadError> {
        let (first, end) = self.rows_in(range);
        (first..end).filter(|row| self.visible_from[*row] <= until).try_for_each(|row| visit(&self.rows, row))
    }

    pub(super) fn descend(&self, to: i64, until: i64, visit: &mut Visit<'_, bool>) -> Result<bool, ReadError> {
        let end = self.rows.times.partition_point(|t| *t < to);
        for row in (0..end).rev().filter(|row| self.visible_from[*row] <= until) {
            if !visit(&self.rows, row)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn next_from(&self, from: i64, until: i64) -> Option<i64> {
        let (first, end) = self.rows_in(Range { from: Some(from), to: i64::MAX });
        (first..end).find(|row| self.visible_from[*row] <= until).map(|row| self.rows.times[row])
    }

    fn rows_in(&self, range: Range) -> (usize, usize) {
        let first = range.from.map_or(0, |from| self.rows.times.partition_point(|t| *t < from));
        (first, self.rows.times.partition_point(|t| *t < range.to).max(first))
    }
}

#[cfg(test)]
mod tests;
