//! A graph of neighbours laid out flat, and the walk over it.
//!
//! Each row has a list of neighbours of fixed length at the bottom, one after the other in memory; few rows have lists on higher
//! levels, which lead quickly to the right region. A walk marks what it saw by a stamp in an array that is never cleared, gathers
//! the new neighbours of a row, and computes all their distances at once.

mod build;
mod links;
pub mod visited;

use super::codes::{CodedQuery, Codes};
use super::lanes::Cells;
use super::metric::Metric;
use super::pool::{Pool, ordered};
use crate::limits::GRAPH_M_MAX;
pub use build::{build, extend};
pub use links::{EMPTY, Graph, Shape};
use visited::Visited;

/// What distances are computed from.
#[derive(Clone, Copy)]
pub struct Space<'a> {
    /// the metric
    pub metric: Metric,
    /// the rows as they are walked on
    pub codes: &'a Codes,
    /// the vectors, where they are in memory: nothing else is walked on them
    pub vectors: Cells<'a, f32>,
    /// how many rows there are
    pub count: usize,
    /// one more component of each row, where a graph is built for dot products (see `tails`); empty: none
    pub tails: &'a [f32],
}

impl Space<'_> {
    pub(super) fn distances(&self, query: &CodedQuery, ids: &[u32], out: &mut Vec<f32>) {
        self.codes.distances(self.metric, self.vectors, query, ids, out);
        if query.tail != 0.0 {
            out.iter_mut().zip(ids).for_each(|(distance, id)| *distance -= query.tail * self.tails[*id as usize]);
        }
    }

    /// Prepares a row that its neighbours are looked for.
    fn row_query(&self, row: u32, query: &mut CodedQuery) {
        self.codes.row_query(self.vectors, row, query);
        query.tail = self.tails.get(row as usize).copied().unwrap_or(0.0);
    }
}

/// By dot products a long vector is near to everything and a short one not even to itself, and a graph of such neighbours may have
/// dead ends. With one more component, which makes all rows equally long, the rows that are nearest by dot product are those at the
/// smallest angle (Bachrach and others, RecSys 2014); a query has nothing there, so its order of the rows stays what it was. Only
/// building knows of it. Where vectors have many components, or lengths that say nothing about their directions, a graph without
/// it finds far more: so both are tried (`segment.rs`).
pub fn tails(codes: &Codes, squares: Option<Vec<f64>>) -> Vec<f32> {
    let squares = squares.unwrap_or_default();
    let greatest = squares.iter().copied().fold(0.0, f64::max);
    squares.iter().map(|square| (greatest - square).max(0.0).sqrt() as f32 * codes.scale()).collect()
}

/// The square of a vector's length.
pub fn square(vector: &[f32]) -> f64 {
    vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

/// Memory that walks use again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// rows that this walk saw
    pub visited: Visited,
    /// candidates
    pub pool: Pool,
    /// the query
    pub query: CodedQuery,
    /// the query in f32, where vectors themselves are compared
    pub whole: CodedQuery,
    /// rows of a scan
    pub rows: Vec<u32>,
    /// distances of a scan or a walk
    pub distances: Vec<f32>,
    /// rows of a scan that need a look
    pub near: Vec<u64>,
    /// vectors that were read from a file
    pub floats: Vec<f32>,
    /// a row that a walk does as if it were not there
    pub hidden: Option<u32>,
    ids: Vec<u32>,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// distances that it computed
    pub distances: usize,
    /// it gave up: the budget of distances was used up
    pub abandoned: bool,
}

/// Lists of neighbours, finished or in the making.
pub trait Links {
    /// The neighbours of a node on a level.
    fn each(&self, level: usize, node: u32, visit: impl FnMut(u32));
}

/// Where a walk at the bottom begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    node: u32,
    distances: usize,
}

impl Graph {
    /// Fills the scratch's pool with up to `ef` rows that pass, near the scratch's query.
    pub fn search(
        &self,
        space: Space,
        scratch: &mut Scratch,
        ef: usize,
        budget: usize,
        passes: impl Fn(u32) -> bool,
    ) -> Walked {
        match self.start(space, scratch) {
            Some(start) => self.search_from(start, space, scratch, (ef, budget), passes),
            None => {
                scratch.pool.reset(ef);
                Walked { distances: 0, abandoned: false }
            }
        }
    }

    /// Goes down the levels above the bottom to the node there that is nearest to the scratch's query.
    pub fn start(&self, space: Space, scratch: &mut Scratch) -> Option<Start> {
        let (entry, top) = self.entry()?;
        let mut distances = 0;
        let levels = (1..=top).rev();
        let node = levels.fold(entry, |from, level| descend(self, space, scratch, level, from, &mut distances));
        Some(Start { node, distances })
    }

    /// The same as `search` from there on.
    pub fn search_from(
        &self,
        start: Start,
        space: Space,
        scratch: &mut Scratch,
        (ef, budget): (usize, usize),
        passes: impl Fn(u32) -> bool,
    ) -> Walked {
        scratch.pool.reset(ef);
        let budget = budget.saturating_sub(start.distances);
        let mut walked = walk(self, space, scratch, 0, &[start.node], budget, passes);
        walked.distances += start.distances;
        walked
    }

    /// Of the node where a walk begins and its neighbours: how many pass, and how many they are.
    pub fn passing_around(&self, start: Start, passes: impl Fn(u32) -> bool) -> (usize, usize) {
        let (mut passing, mut all) = (usize::from(passes(start.node)), 1);
        self.each(0, start.node, |id| {
            passing += usize::from(passes(id));
            all += 1;
        });
        (passing, all)
    }
}

/// Goes from node to node to the nearest one of a level.
fn descend(
    links: &impl Links,
    space: Space,
    scratch: &mut Scratch,
    level: usize,
    from: u32,
    computed: &mut usize,
) -> u32 {
    let Scratch { query, ids, distances, .. } = scratch;
    space.distances(query, &[from], distances);
    let (mut nearest, mut least) = (from, distances[0]);
    loop {
        ids.clear();
        links.each(level, nearest, |id| ids.push(id));
        if ids.is_empty() {
            return nearest;
        }
        space.distances(query, ids, distances);
        *computed += ids.len();
        let before = nearest;
        for (id, distance) in ids.iter().zip(distances.iter()) {
            if *distance < least {
                (nearest, least) = (*id, *distance);
            }
        }
        if nearest == before {
            return nearest;
        }
    }
}

/// Looks around the nearest candidate until all of them have been looked around, or the budget is used up.
fn walk(
    links: &impl Links,
    space: Space,
    scratch: &mut Scratch,
    level: usize,
    starts: &[u32],
    budget: usize,
    passes: impl Fn(u32) -> bool,
) -> Walked {
    let Scratch { visited, pool, query, ids, distances, hidden, .. } = scratch;
    visited.begin(space.count);
    if let Some(row) = *hidden {
        visited.first(row);
    }
    // Room for a whole list: a neighbour is written down in any case, and the next one takes its place if it was seen before. A
    // branch would be guessed wrong nearly half of the time.
    ids.resize(starts.len().max(2 * GRAPH_M_MAX) + 1, 0);
    let mut count = 0;
    let mut note = |ids: &mut [u32], count: &mut usize, id: u32| {
        ids[*count] = id;
        *count += usize::from(visited.first(id));
    };
    starts.iter().for_each(|start| note(ids, &mut count, *start));
    let mut computed = 0;
    loop {
        space.distances(query, &ids[..count], distances);
        computed += count;
        let mut bound = pool.bound();
        for (id, distance) in ids[..count].iter().zip(distances.iter()) {
            let distance = ordered(*distance);
            if distance < bound {
                pool.insert(distance, *id, passes(*id));
                bound = pool.bound();
            }
        }
        if computed > budget {
            return Walked { distances: computed, abandoned: true };
        }
        count = 0;
        while count == 0 {
            let Some(node) = pool.next() else { return Walked { distances: computed, abandoned: false } };
            links.each(level, node, |id| note(ids, &mut count, id));
        }
    }
}
