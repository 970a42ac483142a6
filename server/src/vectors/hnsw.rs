//! Graphs built by the crate `hnsw_rs`, laid out flat. No other file names it.
//!
//! It panics on negative and NaN distances, takes wrong dimensions and equal ids without a word, and can end the process when it
//! reads files. So it gets rows that were checked, numbers of rows as ids, distances that cannot be negative, and no file.

use hnsw_rs::prelude::{Distance, Hnsw};

use super::graph::{Graph, Shape};
use super::lanes;
use super::metric::Metric;
use super::options::IndexOptions;
use super::rows::Rows;

/// Most neighbours that it can be asked for: it counts them in a byte.
const M_MAX: usize = 127;
const LEVELS: usize = 16;

struct Between {
    metric: Metric,
    /// the square of the longest vector: no dot product is greater
    most: f64,
}

impl Distance<f32> for Between {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        let arch = lanes::widest();
        match self.metric {
            Metric::L2 => lanes::squared_distance(arch, a, b) as f32,
            Metric::Cosine | Metric::Dot => (self.most - lanes::dot(arch, a, b)).max(0.0) as f32,
        }
    }
}

/// A graph of all rows.
pub fn build(metric: Metric, vectors: &Rows<f32>, options: &IndexOptions, threads: usize) -> Graph {
    let count = vectors.count();
    if count == 0 {
        return Graph::new(Shape::new(options.m, []), |_, _, _| {});
    }
    let length = |row: &[f32]| lanes::dot(lanes::widest(), row, row);
    let most = (0..count).map(|row| length(vectors.row(row))).fold(0.0, f64::max);
    let m = options.m.min(M_MAX);
    let hnsw = Hnsw::<f32, Between>::new(m, count, LEVELS, options.ef_construction, Between { metric, most });
    match threads {
        0 | 1 => (0..count).for_each(|row| hnsw.insert_slice((vectors.row(row), row))),
        _ => hnsw.parallel_insert_slice(&(0..count).map(|row| (vectors.row(row), row)).collect()),
    }
    exported(&hnsw, count, options.m)
}

/// The lists of its points. Lists of a level that a point is not on are strays, and so are neighbours that are not on it.
fn exported(hnsw: &Hnsw<f32, Between>, count: usize, m: usize) -> Graph {
    let points = hnsw.get_point_indexation();
    let mut levels = vec![0usize; count];
    let mut lists: Vec<Vec<Vec<u32>>> = vec![Vec::new(); count];
    for layer in 0..=usize::from(points.get_max_level_observed()) {
        for point in points.get_layer_iterator(layer) {
            let row = point.get_origin_id();
            levels[row] = usize::from(point.get_point_id().0);
            let neighbours = point.get_neighborhood_id();
            lists[row] = neighbours.iter().map(|list| list.iter().map(|other| other.d_id as u32).collect()).collect();
        }
    }
    Graph::new(Shape::new(m, levels), |level, row, list| {
        list.extend(lists[row as usize].get(level).into_iter().flatten());
    })
}
