//! Scans: every vector that passes is compared.
//!
//! The exact one compares by f32 first, keeps some more than it needs, and scores those. Then it asks whether a vector that was
//! left out could have a score as good as the last one's, given how far sums of f32 may be off: equal vectors do, and near ones
//! may. If so it looks a second time, at everything within that error. So the answer is that of exact arithmetic, ties included.

use super::plan::Explained;
use super::{Asked, Candidate, rank};
use crate::failure::Failure;
use crate::vectors::filter::Filter;
use crate::vectors::lanes;
use crate::vectors::metric::Metric;
use crate::vectors::pool::{Nearest, distance, ordered};
use crate::vectors::segment::{Body, Segment};

/// Rows that are gathered before their distances are computed at once.
const BLOCK: usize = 256;
/// Candidates of the exact scan beyond the neighbours that are asked for.
const SPARE: usize = 16;

/// Rows among which are the nearest of these segments, exactly.
pub fn exact<'a>(
    asked: &Asked<'a>,
    segments: &[&'a Segment],
    explained: &mut Explained,
) -> Result<Vec<Candidate<'a>>, Failure> {
    let k = asked.query.k;
    let mut nearest = Nearest::new(k + SPARE);
    let mut buffer = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let distances = |ids: &[u32], out: &mut Vec<f32>| by_vectors(asked, segment, ids, &mut buffer, out);
        let visit = |ordered: u32, row: u32| nearest.push(ordered, number as u32, row);
        blocks(asked, segment, explained, distances, visit)?;
    }
    let (rows, left_out) = nearest.finish();
    let scored = |rows: &[(u32, u32, u32)], buffer: &mut Vec<f32>| -> Result<Vec<Candidate<'a>>, Failure> {
        rows.iter().map(|(_, number, row)| asked.scored(segments[*number as usize], *row, buffer)).collect()
    };
    let mut found = scored(&rows, &mut buffer)?;
    super::sort(&mut found);
    let Some(last) = found.get(k - 1).filter(|_| left_out != u32::MAX) else { return Ok(found) };
    let within = reach(asked, segments, last.score);
    if distance(left_out) > within {
        return Ok(found);
    }
    let mut near = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let distances = |ids: &[u32], out: &mut Vec<f32>| by_vectors(asked, segment, ids, &mut buffer, out);
        let visit = |distance: u32, row: u32| {
            if distance <= ordered(within) {
                near.push((distance, number as u32, row));
            }
        };
        blocks(asked, segment, explained, distances, visit)?;
    }
    scored(&near, &mut buffer)
}

/// Rows of a segment among which are the nearest, as far as codes tell.
pub fn by_codes<'a>(
    asked: &Asked<'a>,
    segment: &'a Segment,
    body: &Body,
    explained: &mut Explained,
) -> Result<Vec<Candidate<'a>>, Failure> {
    let k = asked.query.k;
    let mut nearest = Nearest::new((4 * k).max(k + 32));
    let mut scratch = asked.view.scratch.take();
    body.codes.query(&asked.vector, &mut scratch.query);
    let cells = segment.vectors.cells();
    let distances = |ids: &[u32], out: &mut Vec<f32>| {
        body.codes.distances(asked.view.metric, cells, &scratch.query, ids, out);
        Ok(())
    };
    blocks(asked, segment, explained, distances, |ordered, row| nearest.push(ordered, 0, row))?;
    let (mut near, _) = nearest.finish();
    near.sort_unstable();
    let near = near.into_iter().map(|(ordered, _, row)| (distance(ordered), row));
    let found = rank::best(asked, (segment, body), &scratch.query, near);
    asked.view.scratch.put(scratch);
    found
}

/// Gathers rows that pass, computes their distances, and hands both over.
fn blocks(
    asked: &Asked,
    segment: &Segment,
    explained: &mut Explained,
    mut distances: impl FnMut(&[u32], &mut Vec<f32>) -> Result<(), Failure>,
    mut visit: impl FnMut(u32, u32),
) -> Result<(), Failure> {
    let mut ids = Vec::with_capacity(BLOCK);
    let mut out = Vec::with_capacity(BLOCK);
    let mut compare = |ids: &mut Vec<u32>| -> Result<(), Failure> {
        explained.distances += ids.len();
        distances(ids, &mut out)?;
        ids.iter().zip(&out).for_each(|(id, distance)| visit(ordered(*distance), *id));
        ids.clear();
        Ok(())
    };
    let mut gather = |row: u32| {
        if asked.passes(segment, row) {
            ids.push(row);
            if ids.len() == BLOCK {
                return compare(&mut ids);
            }
        }
        Ok(())
    };
    match asked.query.filter {
        // Of few marks each is looked up; else all rows are asked for theirs.
        Some(Filter::Slots(bitmap)) if segment.finds_slots() && bitmap.count() < segment.count() / 4 => {
            bitmap.slots().filter_map(|slot| segment.row_of(slot)).try_for_each(gather)?;
        }
        _ => (0..segment.count() as u32).try_for_each(&mut gather)?,
    }
    compare(&mut ids)
}

fn by_vectors(
    asked: &Asked,
    segment: &Segment,
    ids: &[u32],
    buffer: &mut Vec<f32>,
    out: &mut Vec<f32>,
) -> Result<(), Failure> {
    let arch = lanes::widest();
    out.clear();
    out.resize(ids.len(), 0.0);
    let mut done = 0;
    segment.vectors.visit(ids, buffer, |cells, ids| {
        let out = &mut out[done..][..ids.len()];
        done += ids.len();
        match asked.view.metric {
            Metric::L2 => lanes::squared_distances(arch, &asked.vector, cells, ids, out),
            Metric::Cosine | Metric::Dot => {
                lanes::dots(arch, &asked.vector, cells, ids, out);
                out.iter_mut().for_each(|x| *x = -*x);
            }
        }
    })
}

/// How far, as f32 computes it, a vector with that score may seem at most.
fn reach(asked: &Asked, segments: &[&Segment], score: f32) -> f32 {
    // Four lanes at the least, each a sum of rounded products.
    let unit = f64::from(f32::EPSILON) / 2.0;
    let error = (asked.vector.len() as f64 / 4.0 + 32.0) * unit * 1.01;
    let score = f64::from(score);
    let rounded = score.abs() * 2.0 * unit;
    let far = match asked.view.metric {
        Metric::L2 => (score.abs() + rounded) * (score.abs() + rounded) * (1.0 + 2.0 * error),
        Metric::Cosine | Metric::Dot => {
            let longest = segments.iter().map(|segment| segment.greatest_norm()).fold(0.0, f32::max);
            let length = lanes::dot(lanes::widest(), &asked.vector, &asked.vector).sqrt();
            rounded - score + error * length * f64::from(longest)
        }
    };
    // Products of tiny numbers are rounded to zero.
    (far + 1e-37) as f32 * (1.0 + if far > 0.0 { f32::EPSILON } else { -f32::EPSILON })
}
