//! Whether a graph finds, on its codes, what it would find on the vectors themselves.

use super::codes::Codes;
use super::graph::{Scratch, Space};
use super::lanes;
use super::metric::Metric;
use super::pool::{Nearest, entry, ordered};
use super::rows::Rows;
use super::segment::{Body, Recipe};

/// Vectors that are looked for, evenly spread over the segment.
const SAMPLES: usize = 100;
/// Neighbours of each.
const K: usize = 10;
/// Share of neighbours that codes may miss, of those that the vectors find.
const LOSS: f64 = 0.01;

/// Codes are good enough if a search on them finds nearly all that a search on the vectors finds in the same graph.
pub fn suffices(recipe: Recipe, vectors: &Rows<f32>, body: &Body) -> bool {
    let step = (vectors.count() / SAMPLES).max(1);
    let samples: Vec<u32> = (0..vectors.count() as u32).step_by(step).take(SAMPLES).collect();
    let truth: Vec<Vec<u32>> = samples.iter().map(|row| nearest(recipe.metric, vectors, *row)).collect();
    let ef = recipe.options.ef_search.max(K + K / 4);
    let found = |codes: &Codes| -> usize {
        let space =
            Space { metric: recipe.metric, codes, vectors: vectors.cells(), count: vectors.count(), tails: &[] };
        let mut scratch = Scratch::default();
        let rows = samples.iter().zip(&truth);
        rows.map(|(row, truth)| {
            let found = search((space, vectors), body, *row, ef, &mut scratch);
            truth.iter().filter(|row| found.contains(row)).count()
        })
        .sum()
    };
    let all: usize = truth.iter().map(Vec::len).sum();
    let (coded, whole) = (found(&body.codes), found(&Codes::F32));
    coded as f64 >= whole as f64 - LOSS * all as f64
}

fn nearest(metric: Metric, vectors: &Rows<f32>, row: u32) -> Vec<u32> {
    let mut nearest = Nearest::new(K);
    let ids: Vec<u32> = (0..vectors.count() as u32).filter(|id| *id != row).collect();
    let mut distances = vec![0.0; ids.len()];
    match metric {
        Metric::L2 => {
            lanes::squared_distances(lanes::widest(), vectors.row(row as usize), vectors.cells(), &ids, &mut distances);
        }
        Metric::Cosine | Metric::Dot => {
            lanes::dots(lanes::widest(), vectors.row(row as usize), vectors.cells(), &ids, &mut distances);
            distances.iter_mut().for_each(|x| *x = -*x);
        }
    }
    ids.iter().zip(&distances).for_each(|(id, distance)| nearest.push(entry(ordered(*distance), *id)));
    nearest.finish().0.into_iter().map(|entry| entry as u32).collect()
}

fn search((space, vectors): (Space, &Rows<f32>), body: &Body, row: u32, ef: usize, scratch: &mut Scratch) -> Vec<u32> {
    let vector = vectors.row(row as usize);
    space.codes.query(vector, &mut scratch.query);
    body.graph.search(space, scratch, ef, usize::MAX, |id| id != row);
    let again =
        scratch.pool.found().take(2 * K).map(|(_, id)| (space.metric.score(vector, vectors.row(id as usize)), id));
    let mut scored: Vec<(f32, u32)> = again.collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(K).map(|(_, id)| id).collect()
}
