//! How much a graph finds of what it should, by its own vectors: whether codes suffice for it, and how many candidates a search
//! keeps that does not say how many.
//!
//! Some vectors are looked for as if they were not there: a vector that can be walked through lies beside its neighbours, and they
//! would all be found. Nothing leads through it then, so real searches find a little more.

use super::codes::Codes;
use super::graph::{Graph, Scratch, Space};
use super::home::Vectors;
use super::lanes;
use super::metric::Metric;
use super::pool::{Nearest, entry, ordered};
use crate::failure::Failure;
use crate::limits::{EF_UNSAID_MAX, EF_UNSAID_MIN};

/// Vectors that are looked for, evenly spread over the segment.
const SAMPLES: usize = 200;
/// Neighbours of each.
const K: usize = 10;
/// Share of neighbours that codes may miss, of those that the vectors find.
const LOSS: f64 = 0.01;
/// Share of neighbours that a search finds which does not say how many candidates it keeps; so many samples tell it to some 0.003.
const AIM: f64 = 0.99;
/// Candidates with which graphs are compared.
pub const EF_USUAL: usize = 64;
/// Rows whose distances to all samples are computed while they are in the caches.
const BLOCK: usize = 512;

/// Vectors of a segment and their nearest neighbours there.
pub struct Samples {
    metric: Metric,
    rows: Vec<u32>,
    vectors: Vec<Vec<f32>>,
    truth: Vec<Vec<u32>>,
}

impl Samples {
    /// Compares some vectors with all.
    pub fn of(metric: Metric, vectors: &Vectors) -> Result<Self, Failure> {
        let (count, mut buffer) = (vectors.count() as u32, Vec::new());
        // A step that is odd, so that what comes in pairs or tens is not met at the same place each time.
        let step = (count as usize / SAMPLES).max(1) | 1;
        let rows: Vec<u32> = (0..count).step_by(step).collect();
        let read = |row: &u32| Ok(vectors.row(*row as usize, &mut buffer)?.to_vec());
        let sampled: Vec<Vec<f32>> = rows.iter().map(read).collect::<Result<_, Failure>>()?;
        let mut nearest: Vec<Nearest> = rows.iter().map(|_| Nearest::new(K)).collect();
        let (mut buffer, mut distances) = (Vec::new(), Vec::new());
        let all: Vec<u32> = (0..count).collect();
        for ids in all.chunks(BLOCK) {
            let mut first = ids[0];
            vectors.visit(ids, &mut buffer, |cells, places| {
                for ((row, vector), nearest) in rows.iter().zip(&sampled).zip(&mut nearest) {
                    distances.clear();
                    distances.resize(places.len(), 0.0);
                    compare(metric, vector, cells, places, &mut distances);
                    let others = (first..).zip(&distances).filter(|(id, _)| id != row);
                    others.for_each(|(id, distance)| nearest.push(entry(ordered(*distance), id)));
                }
                first += places.len() as u32;
            })?;
        }
        let truth = |nearest: Nearest| nearest.finish().0.into_iter().map(|entry| entry as u32).collect();
        Ok(Samples { metric, rows, vectors: sampled, truth: nearest.into_iter().map(truth).collect() })
    }

    /// Share of the neighbours that a graph finds on these codes.
    pub fn share(&self, vectors: &Vectors, codes: &Codes, graph: &Graph, ef: usize) -> Result<f64, Failure> {
        let space = Space { metric: self.metric, codes, vectors: vectors.cells(), count: vectors.count(), tails: &[] };
        let (mut scratch, mut buffer) = (Scratch::default(), Vec::new());
        let (mut found, mut wanted) = (0, 0);
        for ((row, vector), truth) in self.rows.iter().zip(&self.vectors).zip(&self.truth) {
            // A row above the bottom may be the only way in.
            if graph.shape().level(*row) > 0 || graph.entry().is_some_and(|(entry, _)| entry == *row) {
                continue;
            }
            codes.query(vector, &mut scratch.query);
            scratch.hidden = Some(*row);
            graph.search(space, &mut scratch, ef, usize::MAX, |_| true);
            let mut scored = Vec::new();
            for (_, id) in scratch.pool.found().take(3 * K) {
                scored.push((self.metric.score(vector, vectors.row(id as usize, &mut buffer)?), id));
            }
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            found += scored.iter().take(K).filter(|(_, id)| truth.contains(id)).count();
            wanted += truth.len();
        }
        Ok(if wanted == 0 { 1.0 } else { found as f64 / wanted as f64 })
    }

    /// Codes are good enough if a search on them finds nearly all that a search on the vectors finds in the same graph.
    pub fn suffice(&self, vectors: &Vectors, codes: &Codes, graph: &Graph, ef: usize) -> Result<bool, Failure> {
        let coded = self.share(vectors, codes, graph, ef)?;
        Ok(coded >= self.share(vectors, &Codes::F32, graph, ef)? - LOSS)
    }

    /// How many candidates find what a search is to find, if no more are needed than it may keep unasked.
    pub fn candidates(&self, vectors: &Vectors, codes: &Codes, graph: &Graph) -> Result<usize, Failure> {
        let mut ef = EF_UNSAID_MIN;
        while ef < EF_UNSAID_MAX && self.share(vectors, codes, graph, ef)? < AIM {
            ef = (ef + ef / 4).min(EF_UNSAID_MAX);
        }
        Ok(ef)
    }
}

fn compare(metric: Metric, vector: &[f32], cells: lanes::Cells<f32>, ids: &[u32], out: &mut [f32]) {
    let arch = lanes::widest();
    match metric {
        Metric::L2 => lanes::squared_distances(arch, vector, cells, ids, out),
        Metric::Cosine | Metric::Dot => {
            lanes::dots(arch, vector, cells, ids, out);
            out.iter_mut().for_each(|x| *x = -*x);
        }
    }
}
