//! Scans: every vector that passes is compared.
//!
//! The exact one compares by f32 first, keeps some more than it needs, and scores those. Then it asks whether a vector that was
//! left out could have a score as good as the last one's, given how far sums of f32 may be off: equal vectors do, and near ones
//! may. If so it looks a second time, at everything within that error. So the answer is that of exact arithmetic, ties included.

use super::plan::Explained;
use super::{Asked, Candidate};
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
pub fn exact<'a>(asked: &Asked<'a>, segments: &[&'a Segment], explained: &mut Explained) -> Vec<Candidate<'a>> {
    let k = asked.query.k;
    let mut nearest = Nearest::new(k + SPARE);
    for (number, segment) in segments.iter().enumerate() {
        blocks(
            asked,
            segment,
            explained,
            |ids, out| by_vectors(asked, segment, ids, out),
            |ordered, row| {
                nearest.push(ordered, number as u32, row);
            },
        );
    }
    let (rows, left_out) = nearest.finish();
    let scored = |rows: &[(u32, u32, u32)]| -> Vec<Candidate<'a>> {
        rows.iter().map(|(_, number, row)| asked.scored(segments[*number as usize], *row)).collect()
    };
    let mut found = scored(&rows);
    super::sort(&mut found);
    let Some(last) = found.get(k - 1).filter(|_| left_out != u32::MAX) else { return found };
    let within = reach(asked, segments, last.score);
    if distance(left_out) > within {
        return found;
    }
    let mut near = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        blocks(
            asked,
            segment,
            explained,
            |ids, out| by_vectors(asked, segment, ids, out),
            |distance, row| {
                if distance <= ordered(within) {
                    near.push((distance, number as u32, row));
                }
            },
        );
    }
    scored(&near)
}

/// Rows of a segment among which are the nearest, as far as codes tell.
pub fn by_codes<'a>(
    asked: &Asked<'a>,
    segment: &'a Segment,
    body: &Body,
    explained: &mut Explained,
) -> Vec<Candidate<'a>> {
    let k = asked.query.k;
    let mut nearest = Nearest::new((4 * k).max(k + 32));
    let mut scratch = asked.view.scratch.take();
    body.codes.query(&asked.vector, &mut scratch.query);
    let cells = segment.vectors.cells();
    blocks(
        asked,
        segment,
        explained,
        |ids, out| body.codes.distances(asked.view.metric, cells, &scratch.query, ids, out),
        |ordered, row| nearest.push(ordered, 0, row),
    );
    asked.view.scratch.put(scratch);
    nearest.finish().0.into_iter().map(|(_, _, row)| asked.scored(segment, row)).collect()
}

/// Gathers rows that pass, computes their distances, and hands both over.
fn blocks(
    asked: &Asked,
    segment: &Segment,
    explained: &mut Explained,
    distances: impl Fn(&[u32], &mut Vec<f32>),
    mut visit: impl FnMut(u32, u32),
) {
    let mut ids = Vec::with_capacity(BLOCK);
    let mut out = Vec::with_capacity(BLOCK);
    let mut compare = |ids: &mut Vec<u32>| {
        explained.distances += ids.len();
        distances(ids, &mut out);
        ids.iter().zip(&out).for_each(|(id, distance)| visit(ordered(*distance), *id));
        ids.clear();
    };
    let mut gather = |row: u32| {
        if asked.passes(segment, row) {
            ids.push(row);
            if ids.len() == BLOCK {
                compare(&mut ids);
            }
        }
    };
    match asked.query.filter {
        // Of few marks each is looked up; else all rows are asked for theirs.
        Some(Filter::Slots(bitmap)) if segment.finds_slots() && bitmap.count() < segment.count() / 4 => {
            bitmap.slots().filter_map(|slot| segment.row_of(slot)).for_each(gather);
        }
        _ => (0..segment.count() as u32).for_each(&mut gather),
    }
    compare(&mut ids);
}

fn by_vectors(asked: &Asked, segment: &Segment, ids: &[u32], out: &mut Vec<f32>) {
    let arch = lanes::widest();
    out.clear();
    out.resize(ids.len(), 0.0);
    match asked.view.metric {
        Metric::L2 => lanes::squared_distances(arch, &asked.vector, segment.vectors.cells(), ids, out),
        Metric::Cosine | Metric::Dot => {
            lanes::dots(arch, &asked.vector, segment.vectors.cells(), ids, out);
            out.iter_mut().for_each(|x| *x = -*x);
        }
    }
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
