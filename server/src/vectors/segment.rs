//! Vectors that lie together: a chunk of fresh ones, or a sealed segment with codes and a graph.
//!
//! Nothing in a segment changes but the marks of the dead. A mark is the number of the write that deleted or replaced the
//! vector, so whoever reads as of an earlier write still sees it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::codes::{CodeKind, Codes};
use super::graph::{self, Graph, Space};
use super::hnsw;
use super::metric::Metric;
use super::options::{Builder, IndexOptions};
use super::recall;
use super::rows::{Keys, Rows};

const ALIVE: u64 = u64::MAX;
/// A slot that no row has.
const NO_ROW: u32 = u32::MAX;

/// Rows of vectors with their keys.
#[derive(Debug)]
pub struct Segment {
    /// its number in the index; a chunk that grows keeps it
    pub id: u32,
    /// vectors in their kept form
    pub vectors: Rows<f32>,
    /// a key for each row
    pub keys: Keys,
    /// the slot of each row's key
    pub slots: Vec<u32>,
    /// codes and graph, of a sealed segment that is large enough
    pub body: Option<Body>,
    died: Vec<AtomicU64>,
    dead: AtomicUsize,
    greatest_norm: f32,
    row_of: Vec<u32>,
}

/// What a search walks on.
#[derive(Debug)]
pub struct Body {
    /// short forms of the vectors
    pub codes: Codes,
    /// neighbours
    pub graph: Graph,
}

/// How a segment is built.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// the metric
    pub metric: Metric,
    /// the options
    pub options: &'a IndexOptions,
    /// what builds the graph
    pub builder: Builder,
    /// on how many threads
    pub threads: usize,
    /// counts rows whose neighbours are found
    pub done: &'a AtomicUsize,
}

impl Segment {
    /// Rows without a graph.
    pub fn plain(id: u32, vectors: Rows<f32>, mut keys: Keys, slots: Vec<u32>) -> Self {
        let norm = |row: &[f32]| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        let greatest = (0..vectors.count()).map(|row| norm(vectors.row(row))).fold(0.0, f64::max);
        keys.shrink();
        Segment {
            id,
            died: slots.iter().map(|_| AtomicU64::new(ALIVE)).collect(),
            dead: AtomicUsize::new(0),
            greatest_norm: greatest as f32 * 1.000_001,
            row_of: Vec::new(),
            vectors,
            keys,
            slots,
            body: None,
        }
    }

    /// Notes the row of each slot, of rows that live: a filter that few pass is then looked up, where else every row is asked.
    pub fn note_slots(&mut self, lives: impl Fn(usize) -> bool) {
        let rows = || (0..self.slots.len()).filter(|row| lives(*row));
        let slots = rows().map(|row| self.slots[row] as usize + 1).max().unwrap_or(0);
        // An index that shrank has slots far beyond its rows; then this would cost more than it is worth.
        if slots > 4 * self.count() + 1024 {
            return;
        }
        let mut row_of = vec![NO_ROW; slots];
        rows().for_each(|row| row_of[self.slots[row] as usize] = row as u32);
        self.row_of = row_of;
    }

    /// Whether the rows of slots were noted.
    pub fn finds_slots(&self) -> bool {
        !self.row_of.is_empty()
    }

    /// The row of a slot.
    pub fn row_of(&self, slot: u32) -> Option<u32> {
        self.row_of.get(slot as usize).copied().filter(|row| *row != NO_ROW)
    }

    /// Rows.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Rows that are neither deleted nor replaced, about: writes go on.
    pub fn live(&self) -> usize {
        self.count() - self.dead.load(Ordering::Relaxed).min(self.count())
    }

    /// Whether the row is there as of that write.
    #[inline(always)]
    pub fn lives(&self, row: u32, seen: u64) -> bool {
        self.died[row as usize].load(Ordering::Relaxed) > seen
    }

    /// The write that ended the row.
    pub fn death(&self, row: usize) -> Option<u64> {
        Some(self.died[row].load(Ordering::Relaxed)).filter(|died| *died != ALIVE)
    }

    /// Marks a row as deleted or replaced by that write.
    pub fn bury(&self, row: usize, write: u64) {
        if self.died[row].swap(write, Ordering::Relaxed) == ALIVE {
            self.dead.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Length of the longest vector, or a little more.
    pub fn greatest_norm(&self) -> f32 {
        self.greatest_norm
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.codes.bytes() + body.graph.bytes());
        let marks = self.died.capacity() * size_of::<AtomicU64>()
            + (self.slots.capacity() + self.row_of.capacity()) * size_of::<u32>();
        self.vectors.bytes() + self.keys.bytes() + marks + body
    }

    /// Gives the segment a graph on the shortest codes that find as much as the vectors themselves.
    pub fn with_graph(mut self, recipe: Recipe) -> Self {
        for kind in [CodeKind::Int8, CodeKind::F16, CodeKind::F32] {
            let codes = Codes::new(kind, recipe.metric, &self.vectors);
            let tails = graph::tails(recipe.metric, &codes, &self.vectors);
            let space = Space { metric: recipe.metric, codes: &codes, vectors: &self.vectors, tails: &tails };
            recipe.done.store(0, Ordering::Relaxed);
            let graph = match recipe.builder {
                Builder::Flat => graph::build(space, recipe.options, recipe.threads, recipe.done),
                Builder::HnswRs => hnsw::build(recipe.metric, &self.vectors, recipe.options, recipe.threads),
            };
            let body = Body { codes, graph };
            let enough = kind == CodeKind::F32 || recall::suffices(recipe, &self.vectors, &body);
            if enough {
                self.body = Some(body);
                break;
            }
        }
        self
    }

    /// Rows of this graph and more rows behind them: the graph is extended, not built anew. None where the codes of before do
    /// not fit the new rows.
    pub fn extended(&self, plain: &mut Segment, recipe: Recipe) -> Option<()> {
        let old = self.body.as_ref()?;
        let codes = old.codes.extended(recipe.metric, &plain.vectors)?;
        let tails = graph::tails(recipe.metric, &codes, &plain.vectors);
        let space = Space { metric: recipe.metric, codes: &codes, vectors: &plain.vectors, tails: &tails };
        let graph = graph::extend(space, &old.graph, recipe.options, recipe.threads, recipe.done);
        plain.body = Some(Body { codes, graph });
        Some(())
    }
}
