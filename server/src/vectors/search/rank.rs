//! From rows that were found by their codes to scored ones: what cannot be among the best any more is not looked at.
//!
//! A vector costs a line of memory for each few components, or a read of a file, and most of the candidates that a walk gives
//! are there only because codes blur the order. How much they blur it is known of each row.

use std::collections::BinaryHeap;

use super::{Asked, Candidate};
use crate::failure::Failure;
use crate::vectors::codes::CodedQuery;
use crate::vectors::metric::Metric;
use crate::vectors::pool::{distance, ordered};
use crate::vectors::segment::{Body, Segment};

/// Of rows in the order of their distance by codes those that may be among the best, scored.
pub fn best<'a>(
    asked: &Asked<'a>,
    (segment, body): (&'a Segment, &Body),
    query: &CodedQuery,
    near: impl Iterator<Item = (f32, u32)>,
) -> Result<Vec<Candidate<'a>>, Failure> {
    let (metric, k) = (asked.view.metric, asked.query.k);
    let scale = body.codes.scale();
    let mut found = Vec::new();
    let mut least = BinaryHeap::new();
    let mut buffer = Vec::new();
    for (by_code, row) in near {
        if least.len() >= k
            && let Some(last) = least.peek()
            && by_code - body.codes.margin(metric, query, row, by_code, segment.greatest_norm()) > distance(*last)
        {
            continue;
        }
        let candidate = asked.scored(segment, row, &mut buffer)?;
        let exact = match metric {
            Metric::L2 => candidate.score * candidate.score,
            Metric::Cosine | Metric::Dot => -candidate.score,
        };
        least.push(ordered(exact * scale * scale));
        if least.len() > k {
            least.pop();
        }
        found.push(candidate);
    }
    Ok(found)
}
