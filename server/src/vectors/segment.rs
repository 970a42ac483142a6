//! Vectors that lie together: a chunk of fresh ones, or a sealed segment with codes and a graph.
//!
//! Nothing in a segment changes but the marks of the dead. A mark is the number of the write that deleted or replaced the
//! vector, so whoever reads as of an earlier write still sees it.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::codes::{CodeKind, Codes};
use super::graph::{self, Graph, Space};
use super::hnsw;
use super::home::{FileRows, Vectors};
use super::keys::Keys;
use super::marks::Marks;
use super::metric::Metric;
use super::options::{Builder, IndexOptions};
use super::packed::PackedRows;
use super::recall::{self, Samples};
use super::rows::Rows;
use crate::failure::Failure;
use crate::limits::EF_UNSAID_MAX;

/// Share of neighbours that a graph without dead ends finds with many candidates.
const DEAD_ENDS_BELOW: f64 = 0.95;
/// A slot that no row has.
const NO_ROW: u32 = u32::MAX;

/// Rows of vectors with their keys.
#[derive(Debug)]
pub struct Segment {
    /// its number in the index; a chunk that grows keeps it
    pub id: u32,
    /// vectors in their kept form
    pub vectors: Vectors,
    /// a key for each row
    pub keys: Keys,
    /// the slot of each row's key
    pub slots: Vec<u32>,
    /// codes and graph, of a sealed segment that is large enough
    pub body: Option<Body>,
    /// short forms of the vectors of a chunk, like those of the sealed segment at the time
    pub short: Option<Codes>,
    died: Marks,
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
    /// whether it was built with one more component (see `graph::tails`)
    pub has_tails: bool,
    /// candidates of a search that does not say how many
    pub ef: usize,
    /// how many rows there were when that was found out
    pub ef_rows: usize,
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
    /// Rows without a graph, in memory.
    pub fn plain(id: u32, rows: Rows<f32>, keys: Keys, slots: Vec<u32>) -> Self {
        let greatest_norm = greatest_norm(&rows);
        Segment::new(id, (Vectors::Memory(rows), greatest_norm), keys, slots)
    }

    fn new(id: u32, (vectors, greatest_norm): (Vectors, f32), mut keys: Keys, slots: Vec<u32>) -> Self {
        keys.shrink();
        let died = Marks::new(slots.len());
        Segment { id, died, greatest_norm, row_of: Vec::new(), vectors, keys, slots, body: None, short: None }
    }

    /// Notes the row of each slot, of rows that live: so the writer finds them, and a filter that few pass is looked up, where
    /// else every row is asked.
    pub fn note_slots(&mut self, lives: impl Fn(usize) -> bool) {
        let rows = || (0..self.slots.len()).filter(|row| lives(*row));
        let slots = rows().map(|row| self.slots[row] as usize + 1).max().unwrap_or(0);
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
        self.count() - self.died.ended().min(self.count())
    }

    /// Whether the row is there as of that write.
    #[inline(always)]
    pub fn lives(&self, row: u32, seen: u64) -> bool {
        self.died.lives(row as usize, seen)
    }

    /// The write that ended the row.
    pub fn death(&self, row: usize) -> Option<u64> {
        self.died.end(row)
    }

    /// Marks a row as deleted or replaced by that write.
    pub fn bury(&self, row: usize, write: u64) {
        self.died.set(row, write);
    }

    /// Length of the longest vector, or a little more.
    pub fn greatest_norm(&self) -> f32 {
        self.greatest_norm
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.codes.bytes() + body.graph.bytes());
        let slots = (self.slots.capacity() + self.row_of.capacity()) * size_of::<u32>();
        let short = self.short.as_ref().map_or(0, Codes::own_bytes);
        self.vectors.bytes() + self.keys.bytes() + self.died.bytes() + slots + body + short
    }

    /// Gives a chunk codes like these.
    pub fn with_short(mut self, codes: &Codes) -> Self {
        if let Vectors::Memory(rows) = &self.vectors {
            self.short = codes.like(rows);
        }
        self
    }

    /// Gives the segment a graph. Its rows are in memory as long as it is built.
    pub fn with_graph(mut self, recipe: Recipe) -> Result<Self, Failure> {
        self.body = match &self.vectors {
            Vectors::Memory(rows) => Some(Body::new(rows, &self.vectors, recipe)?),
            Vectors::Packed(_) | Vectors::Disk(_) => None,
        };
        Ok(self)
    }

    /// Rows of this graph and fresh ones behind them, with the keys and slots of all: the graph is extended, not built anew. None
    /// where the codes of before do not fit the fresh rows.
    pub fn extended(
        &self,
        id: u32,
        fresh: &Rows<f32>,
        (keys, slots): (Keys, Vec<u32>),
        recipe: Recipe,
    ) -> Result<Option<Self>, Failure> {
        let Some(old) = &self.body else { return Ok(None) };
        let Some(codes) = old.codes.extended(fresh) else { return Ok(None) };
        let vectors = self.vectors.with(fresh)?;
        let (cells, count) = (vectors.cells(), vectors.count());
        let mut buffer = Vec::new();
        let square = |row: usize| vectors.row(row, &mut buffer).map(graph::square);
        let squares = old.has_tails.then(|| (0..count).map(square).collect::<Result<_, Failure>>());
        let tails = graph::tails(&codes, squares.transpose()?);
        let space = Space { metric: recipe.metric, codes: &codes, vectors: cells, count, tails: &tails };
        let graph = graph::extend(space, &old.graph, recipe.options, recipe.threads, recipe.done);
        let greatest_norm = self.greatest_norm.max(greatest_norm(fresh));
        let mut segment = Segment::new(id, (vectors, greatest_norm), keys, slots);
        let Body { has_tails, ef, ef_rows, .. } = *old;
        let mut body = Body { codes, graph, has_tails, ef, ef_rows };
        // A larger graph needs more candidates, but not many more.
        if count > ef_rows + ef_rows / 2 {
            body.measure(&Samples::of(recipe.metric, &segment.vectors)?, &segment.vectors, recipe)?;
        }
        segment.body = Some(body);
        Ok(Some(segment))
    }

    /// Whether a search does without most of the rows: it walks on their codes. What is scanned, or walked on the vectors
    /// themselves, stays as it is.
    pub fn may_move(&self) -> bool {
        let has_codes = self.body.as_ref().is_some_and(|body| body.codes.kind() != CodeKind::F32);
        has_codes && matches!(self.vectors, Vectors::Memory(_))
    }

    /// Moves the rows into a file. If that fails, they stay.
    pub fn spill(&mut self, folder: &Path) -> io::Result<()> {
        if let Vectors::Memory(rows) = &self.vectors {
            self.vectors = Vectors::Disk(FileRows::create(folder, rows)?);
        }
        Ok(())
    }

    /// Keeps the rows in fewer bytes of memory, where they take fewer.
    pub fn pack(&mut self) {
        if let Vectors::Memory(rows) = &self.vectors
            && let Some(packed) = PackedRows::new(rows)
        {
            self.vectors = Vectors::Packed(packed);
        }
    }
}

fn greatest_norm(rows: &Rows<f32>) -> f32 {
    let squares = (0..rows.count()).map(|row| graph::square(rows.row(row)));
    squares.fold(0.0, f64::max).sqrt() as f32 * 1.000_001
}

impl Body {
    /// A graph on the shortest codes that find as much as the vectors themselves.
    fn new(rows: &Rows<f32>, vectors: &Vectors, recipe: Recipe) -> Result<Self, Failure> {
        let samples = Samples::of(recipe.metric, vectors)?;
        let mut body = Body::fitting(rows, (vectors, &samples), recipe, false)?;
        if recipe.metric == Metric::Dot && recipe.builder == Builder::Flat {
            let share = |body: &Body| samples.share(vectors, &body.codes, &body.graph, EF_UNSAID_MAX);
            // Which of two graphs is the better one depends on the vectors. Most of them need only the first.
            let found = share(&body)?;
            if found < DEAD_ENDS_BELOW {
                let other = Body::fitting(rows, (vectors, &samples), recipe, true)?;
                body = if share(&other)? > found { other } else { body };
            }
        }
        body.measure(&samples, vectors, recipe)?;
        Ok(body)
    }

    fn fitting(
        rows: &Rows<f32>,
        (vectors, samples): (&Vectors, &Samples),
        recipe: Recipe,
        has_tails: bool,
    ) -> Result<Self, Failure> {
        for kind in [CodeKind::Int8, CodeKind::F16] {
            let body = Body::on(kind, rows, recipe, has_tails);
            let ef = recipe.options.ef_search.unwrap_or(recall::EF_USUAL).max(12);
            if samples.suffice(vectors, &body.codes, &body.graph, ef)? {
                return Ok(body);
            }
        }
        Ok(Body::on(CodeKind::F32, rows, recipe, has_tails))
    }

    /// Finds out how many candidates a search needs, unless the definition says it.
    fn measure(&mut self, samples: &Samples, vectors: &Vectors, recipe: Recipe) -> Result<(), Failure> {
        self.ef_rows = vectors.count();
        self.ef = match recipe.options.ef_search {
            Some(ef) => ef,
            None => samples.candidates(vectors, &self.codes, &self.graph)?,
        };
        Ok(())
    }

    fn on(kind: CodeKind, rows: &Rows<f32>, recipe: Recipe, has_tails: bool) -> Self {
        let codes = Codes::new(kind, recipe.metric, rows, recipe.options.rows);
        let (vectors, count) = (rows.cells(), rows.count());
        let squares = || (0..count).map(|row| graph::square(rows.row(row))).collect();
        let tails = graph::tails(&codes, has_tails.then(squares));
        let space = Space { metric: recipe.metric, codes: &codes, vectors, count, tails: &tails };
        recipe.done.store(0, Ordering::Relaxed);
        let graph = match recipe.builder {
            Builder::Flat => graph::build(space, recipe.options, recipe.threads, recipe.done),
            Builder::HnswRs => hnsw::build(recipe.metric, rows, recipe.options, recipe.threads),
        };
        Body { codes, graph, has_tails, ef: recall::EF_USUAL, ef_rows: count }
    }
}
