//! Scans: every vector that passes is compared, by its code where it has one.
//!
//! A code says how far its vector is, and how much nearer it may be at most: what is farther than the last of the best `k` even
//! then is left out, everything else is scored. Rows come in pieces. Of the first one those that are nearest by their codes are
//! scored, which tells how far one has to look; then one comparison for each row tells whether it needs a look. Where codes
//! cannot tell many rows from one another, these are compared by their vectors in f32 in the same manner, whose margin is that of
//! rounding. So a scan is exact: by vectors it is the answer of exact arithmetic, ties included, by codes it is that within
//! the margin of `codes/margin.rs`.

use super::found::Search;
use crate::failure::Failure;
use crate::vectors::codes::{CodedQuery, Codes};
use crate::vectors::filter::Filter;
use crate::vectors::lanes;
use crate::vectors::metric::Metric;
use crate::vectors::pool::{Nearest, distance, entry, ordered};
use crate::vectors::segment::Segment;

/// Rows of a piece: their numbers and distances stay in the nearest cache.
const PIECE: usize = 4_096;
/// Rows that are scored besides the neighbours that are asked for, before it is known how far one has to look.
const SPARE: usize = 8;
/// Rows that are scored at once where codes cannot tell them apart. Of more, most are left out by f32, four rows at a time.
const UNCLEAR: usize = 32;

/// The codes of vectors that are compared themselves.
pub static WHOLE: Codes = Codes::F32;

impl<'a> Search<'_, 'a> {
    /// Finds the nearest of a segment, by these codes.
    pub fn scan(&mut self, segment: &'a Segment, codes: &'a Codes) -> Result<(), Failure> {
        if !matches!(codes, Codes::F32) {
            self.prepare(codes);
        }
        let asked = self.asked;
        let mut rows = std::mem::take(&mut self.scratch.rows);
        rows.clear();
        let mut gather = |row: u32| -> Result<(), Failure> {
            if asked.passes(segment, row) {
                rows.push(row);
                if rows.len() == PIECE {
                    self.piece(segment, codes, &rows)?;
                    rows.clear();
                }
            }
            Ok(())
        };
        match asked.query.filter {
            // Of few marks each is looked up; else all rows are asked for theirs.
            Some(Filter::Slots(bitmap)) if segment.finds_slots() && asked.marked < segment.count() / 4 => {
                bitmap.slots().filter_map(|slot| segment.row_of(slot)).try_for_each(gather)?;
            }
            _ => (0..segment.count() as u32).try_for_each(&mut gather)?,
        }
        if !rows.is_empty() {
            self.piece(segment, codes, &rows)?;
        }
        self.scratch.rows = rows;
        Ok(())
    }

    fn piece(&mut self, segment: &'a Segment, codes: &Codes, rows: &[u32]) -> Result<(), Failure> {
        self.explained.distances += rows.len();
        let mut distances = std::mem::take(&mut self.scratch.distances);
        self.compare(segment, codes, rows, &mut distances)?;
        let entries = || rows.iter().zip(&distances).map(|(row, distance)| entry(ordered(*distance), *row));
        let mut scored = 0;
        if self.limit().is_none() {
            let mut nearest = Nearest::new(self.asked.query.k + SPARE);
            entries().for_each(|entry| nearest.push(entry));
            let (near, last) = nearest.finish();
            self.offer(segment, codes, near.into_iter().map(parts))?;
            scored = last.unwrap_or(u64::MAX);
        }
        if let Some(limit) = self.limit().filter(|_| scored != u64::MAX) {
            let area = codes.scale() * codes.scale();
            let metric = self.asked.view.metric;
            let reach = codes.reach(metric, self.query(codes), limit * area, segment.greatest_norm());
            let mut near = std::mem::take(&mut self.scratch.near);
            near.clear();
            let within = rows.iter().zip(&distances).filter(|(_, distance)| **distance <= reach);
            near.extend(within.map(|(row, distance)| entry(ordered(*distance), *row)).filter(|entry| *entry > scored));
            self.near(segment, codes, &mut near)?;
            self.scratch.near = near;
        }
        self.scratch.distances = distances;
        Ok(())
    }

    /// Rows that need a look: few are scored, many are compared by their vectors first.
    fn near(&mut self, segment: &'a Segment, codes: &Codes, near: &mut [u64]) -> Result<(), Failure> {
        if near.len() > UNCLEAR && !matches!(codes, Codes::F32) {
            let mut rows: Vec<u32> = near.iter().map(|entry| *entry as u32).collect();
            // In their order in a file.
            rows.sort_unstable();
            return self.piece(segment, &WHOLE, &rows);
        }
        near.sort_unstable();
        self.offer(segment, codes, near.iter().copied().map(parts))
    }

    /// The query in the form of these codes.
    pub(super) fn query(&self, codes: &Codes) -> &CodedQuery {
        match codes {
            Codes::F32 => &self.scratch.whole,
            Codes::Int8(_) | Codes::F16(..) => &self.scratch.query,
        }
    }

    fn compare(&mut self, segment: &Segment, codes: &Codes, rows: &[u32], out: &mut Vec<f32>) -> Result<(), Failure> {
        let metric = self.asked.view.metric;
        if !matches!(codes, Codes::F32) {
            codes.distances(metric, segment.vectors.cells(), self.query(codes), rows, out);
            return Ok(());
        }
        out.clear();
        out.resize(rows.len(), 0.0);
        let (arch, mut done) = (lanes::widest(), 0);
        segment.vectors.visit(rows, &mut self.scratch.floats, |cells, rows| {
            let out = &mut out[done..][..rows.len()];
            done += rows.len();
            match metric {
                Metric::L2 => lanes::squared_distances(arch, &self.asked.vector, cells, rows, out),
                Metric::Cosine | Metric::Dot => {
                    lanes::dots(arch, &self.asked.vector, cells, rows, out);
                    out.iter_mut().for_each(|x| *x = -*x);
                }
            }
        })
    }
}

fn parts(entry: u64) -> (f32, u32) {
    (distance((entry >> 32) as u32), entry as u32)
}
