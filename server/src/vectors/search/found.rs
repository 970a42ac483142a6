//! What a search has found so far: candidates with their scores, and how far away the last of the best `k` is.
//!
//! A vector costs a line of memory for each few components, or a read of a file, and most rows that are near by their codes are
//! so only because codes blur the order. How much they blur it is known of each row (`codes/margin.rs`), so those are not looked
//! at that cannot be among the best any more.

use std::collections::BinaryHeap;

use super::plan::Explained;
use super::{Asked, Candidate};
use crate::failure::Failure;
use crate::vectors::codes::Codes;
use crate::vectors::graph::Scratch;
use crate::vectors::metric::Metric;
use crate::vectors::pool::{distance, ordered};
use crate::vectors::segment::Segment;

/// A search under way: rows of one segment after the other come in, the best are kept.
pub struct Search<'b, 'a> {
    /// what is looked for
    pub asked: &'b Asked<'a>,
    /// how
    pub explained: &'b mut Explained,
    /// memory to work in; its queries are those of `asked`
    pub scratch: Scratch,
    prepared: Option<&'a Codes>,
    found: Vec<Candidate<'a>>,
    least: BinaryHeap<u32>,
    buffer: Vec<f32>,
}

impl<'b, 'a> Search<'b, 'a> {
    /// Nothing is found yet.
    pub fn new(asked: &'b Asked<'a>, explained: &'b mut Explained) -> Self {
        let mut scratch = asked.view.scratch.take();
        Codes::F32.query(&asked.vector, &mut scratch.whole);
        Search {
            asked,
            explained,
            scratch,
            prepared: None,
            found: Vec::new(),
            least: BinaryHeap::new(),
            buffer: Vec::new(),
        }
    }

    /// Everything that was scored and may be among the best.
    pub fn finish(self) -> Vec<Candidate<'a>> {
        self.asked.view.scratch.put(self.scratch);
        self.explained.candidates = self.found.len();
        self.found
    }

    /// Makes the scratch's query one of these codes, if it is not.
    pub fn prepare(&mut self, codes: &'a Codes) {
        if !self.prepared.is_some_and(|prepared| prepared.is_like(codes)) {
            codes.query(&self.asked.vector, &mut self.scratch.query);
            self.prepared = Some(codes);
        }
    }

    /// How far the last of the best `k` is, of those that were scored so far; None if they are fewer.
    pub fn limit(&self) -> Option<f32> {
        (self.least.len() >= self.asked.query.k)
            .then(|| self.least.peek().map_or(f32::INFINITY, |last| distance(*last)))
    }

    /// Scores those of these rows that may be among the best; they come in the order of their distances by code.
    pub fn offer(
        &mut self,
        segment: &'a Segment,
        codes: &Codes,
        near: impl Iterator<Item = (f32, u32)>,
    ) -> Result<(), Failure> {
        let (metric, longest) = (self.asked.view.metric, segment.greatest_norm());
        let area = codes.scale() * codes.scale();
        for (by_code, row) in near {
            if let Some(limit) = self.limit() {
                let query = self.query(codes);
                if by_code > codes.reach(metric, query, limit * area, longest) {
                    return Ok(());
                }
                if by_code - codes.margin(metric, query, row, by_code, longest) > limit * area {
                    continue;
                }
            }
            self.score(segment, row)?;
        }
        Ok(())
    }

    fn score(&mut self, segment: &'a Segment, row: u32) -> Result<(), Failure> {
        let candidate = self.asked.scored(segment, row, &mut self.buffer)?;
        let exact = match self.asked.view.metric {
            Metric::L2 => candidate.score * candidate.score,
            Metric::Cosine | Metric::Dot => -candidate.score,
        };
        self.least.push(ordered(exact));
        if self.least.len() > self.asked.query.k {
            self.least.pop();
        }
        self.found.push(candidate);
        Ok(())
    }
}
