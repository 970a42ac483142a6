//! The index against brute force.

mod aim;
mod bad;
mod beside;
mod certain;
mod damage;
mod disk;
mod operations;
mod quality;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// The seed of a random test: printed, and taken from the environment to run it again.
fn seed(of: u64) -> StdRng {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(of);
    eprintln!("TIDEMILL_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How often, by the environment; less where nobody asks.
fn times(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Vectors around so many centres, as real ones are.
struct Cloud {
    centres: Vec<Vec<f32>>,
}

impl Cloud {
    fn new(random: &mut StdRng, dims: usize, centres: usize) -> Self {
        let mut centre = || (0..dims).map(|_| random.random_range(-1.0..1.0f32)).collect();
        Cloud { centres: (0..centres).map(|_| centre()).collect() }
    }

    fn vector(&self, random: &mut StdRng) -> Vec<f32> {
        let centre = &self.centres[random.random_range(0..self.centres.len())];
        centre.iter().map(|x| x + 0.4 * random.random_range(-1.0..1.0f32)).collect()
    }
}

/// The score by its definition, in f64.
fn score(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum = |terms: &mut dyn Iterator<Item = f64>| terms.sum::<f64>();
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = sum(&mut pairs().map(|(a, b)| a * b));
    let length = |x: &[f32]| x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    match metric {
        Metric::Dot => dot,
        Metric::Cosine => dot / length(a) / length(b),
        Metric::L2 => -sum(&mut pairs().map(|(a, b)| (a - b) * (a - b))).sqrt(),
    }
}

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

/// Where vectors lie.
const HOMES: [RowsIn; 2] = [RowsIn::Memory, RowsIn::Disk];

/// Options with which small collections have a graph that is walked.
fn small() -> IndexOptions {
    IndexOptions { m: 8, ef_construction: 64, ef_search: Some(16), exact_below: 0, rows: RowsIn::Memory }
}

/// The same with vectors in one of the homes.
fn small_in(rows: RowsIn) -> IndexOptions {
    IndexOptions { rows, ..small() }
}
