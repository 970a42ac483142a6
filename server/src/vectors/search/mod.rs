//! A search: what is asked, what is answered, and the way from one to the other.
//!
//! Candidates come from a walk over the graph or from a scan, as `plan` says; each is then scored by its vector. So scores are
//! right however a candidate was found, and the same on every machine.

mod found;
mod plan;
mod scan;

use std::collections::HashSet;

use serde::Serialize;

use super::filter::Filter;
use super::segment::Segment;
use super::view::View;
use crate::failure::Failure;
use crate::limits::{SEARCH_EF_MAX, SEARCH_EXCLUDED_MAX, SEARCH_K_MAX};
pub use plan::{Explained, Plan};

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// the vector
    pub vector: &'a [f32],
    /// how many neighbours
    pub k: usize,
    /// candidates that a walk keeps; more find more
    pub ef: Option<usize>,
    /// which vectors may be found
    pub filter: Option<Filter<'a>>,
    /// keys that may not be found
    pub exclude: &'a [&'a [u8]],
    /// least score of a neighbour
    pub min_score: Option<f32>,
    /// which way
    pub way: Way,
}

/// How to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// whichever is faster
    #[default]
    Planned,
    /// all vectors are compared: the answer is exact
    Exact,
    /// over the graph, also where a scan would be faster
    Graph,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// its key
    pub key: Vec<u8>,
    /// see `Metric`
    pub score: f32,
    /// its slot
    pub slot: u32,
}

/// Neighbours, best first, equal scores by key; and how they were found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `k` of them, unless fewer match
    pub hits: Vec<Hit>,
    /// how
    pub explained: Explained,
}

impl<'a> Query<'a> {
    /// The `k` vectors nearest to this one.
    pub fn new(vector: &'a [f32], k: usize) -> Self {
        Query { vector, k, ef: None, filter: None, exclude: &[], min_score: None, way: Way::Planned }
    }

    fn check(&self, view: &View) -> Result<(), Failure> {
        view.metric.check(view.dims, self.vector)?;
        within("k", self.k, SEARCH_K_MAX)?;
        within("ef", self.ef.unwrap_or(1), SEARCH_EF_MAX)?;
        // Whoever asks for neighbours of a key has that one left out besides.
        if self.exclude.len() > SEARCH_EXCLUDED_MAX + 1 {
            let message = format!("{} keys are excluded; at most {SEARCH_EXCLUDED_MAX}", self.exclude.len());
            return Err(Failure::field("E4008", "exclude", message));
        }
        match self.min_score.is_some_and(f32::is_nan) {
            true => Err(Failure::field("E4009", "min_score", "`min_score` is not a number")),
            false => Ok(()),
        }
    }
}

fn within(name: &str, value: usize, most: usize) -> Result<(), Failure> {
    match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(Failure::field("E4007", name, format!("`{name}` is {value}; it is at least 1, at most {most}"))),
    }
}

/// A query in the midst of being answered.
struct Asked<'a> {
    view: &'a View,
    query: Query<'a>,
    vector: Vec<f32>,
    excluded: HashSet<&'a [u8]>,
    /// marks of the filter, where it has marks
    marked: usize,
}

/// A vector and its score.
struct Candidate<'a> {
    segment: &'a Segment,
    row: u32,
    score: f32,
}

impl<'a> Asked<'a> {
    /// Whether a row may be found.
    #[inline]
    fn passes(&self, segment: &Segment, row: u32) -> bool {
        if !segment.lives(row, self.view.seen) {
            return false;
        }
        let passes = match self.query.filter {
            None => true,
            Some(Filter::Slots(bitmap)) => bitmap.get(segment.slots[row as usize]),
            Some(Filter::Keys(test)) => test(segment.slots[row as usize], segment.keys.get(row as usize)),
        };
        passes && (self.excluded.is_empty() || !self.excluded.contains(segment.keys.get(row as usize)))
    }

    /// The row with its score; it is in the buffer for that, where it is not in memory.
    fn scored(&self, segment: &'a Segment, row: u32, buffer: &mut Vec<f32>) -> Result<Candidate<'a>, Failure> {
        let score = self.view.metric.score(&self.vector, segment.vectors.row(row as usize, buffer)?);
        // There is one zero.
        Ok(Candidate { segment, row, score: score + 0.0 })
    }
}

impl Candidate<'_> {
    fn key(&self) -> &[u8] {
        self.segment.keys.get(self.row as usize)
    }
}

/// The best `k`, best first, equal scores by key. Where all scores are the same there are as many candidates as vectors.
fn best(candidates: &mut Vec<Candidate>, k: usize) {
    let order = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score).then_with(|| a.key().cmp(b.key()));
    if candidates.len() > k {
        candidates.select_nth_unstable_by(k, order);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(order);
}

/// Answers a query.
pub fn answer(view: &View, query: Query) -> Result<Answer, Failure> {
    query.check(view)?;
    let vector = view.metric.kept(query.vector);
    let marked = match query.filter {
        Some(Filter::Slots(bitmap)) => bitmap.count(),
        Some(Filter::Keys(_)) | None => 0,
    };
    let asked = Asked { view, query, vector, excluded: query.exclude.iter().copied().collect(), marked };
    let mut explained = Explained::default();
    let mut candidates = plan::candidates(&asked, &mut explained)?;
    if let Some(least) = query.min_score {
        candidates.retain(|candidate| candidate.score >= least);
    }
    best(&mut candidates, query.k);
    let hit = |candidate: &Candidate| Hit {
        key: candidate.key().to_vec(),
        score: candidate.score,
        slot: candidate.segment.slots[candidate.row as usize],
    };
    Ok(Answer { hits: candidates.iter().map(hit).collect(), explained })
}

impl Serialize for Plan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
