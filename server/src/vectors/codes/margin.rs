//! How far a distance by codes may be from that of the vectors themselves.
//!
//! A component of an int8 row is off by half a step at most. So a product with a query is off by half of the sum of the query's
//! components, if all of them are off to the same side: that is a proof. But mostly they are off to either side, and six times what
//! is usual then (a step by the square root of 12, times the query's length) is the lesser bound beyond some twelve components.
//! It does not hold of components that are less than half a step, which one much greater than the others makes of many: they are
//! lost as they are, and a query that is near has them too. So what is lost is added, by its length. What the query loses itself is
//! known. The error of f16 and of sums of f32 is bounded in any case.

use super::int8::Trailer;
use super::{CodedQuery, Codes};
use crate::vectors::metric::Metric;

/// Products of tiny numbers are rounded to zero.
const ROUNDED_AWAY: f32 = 1e-37;
/// Share of each part of an int8 distance that is lost to rounding.
const ROUNDED: f32 = 2e-6;
/// Half a step, and six usual errors of one, and a little for the arithmetic here.
const HALF: f64 = 0.500_1;
const SIX: f32 = 1.733;

/// What errors of a row are multiplied by.
#[derive(Debug, Default)]
pub struct Slack {
    /// a step, if all components are off to one side
    sum: f32,
    /// a step, whatever else holds: the query has steps too
    own: f32,
    /// the length of the query
    pub length: f32,
}

impl Slack {
    /// Of a query, less the mean, whose own codes are off by so much in all.
    pub fn of(query: &[f32], own: f64, factor: f32) -> Self {
        let sum: f64 = query.iter().map(|x| f64::from(x.abs())).sum();
        let length = factor * length(query.iter().copied());
        Slack { sum: factor * (HALF * sum) as f32, own: factor * (127.0 * own) as f32 * 1.000_1, length }
    }

    /// How far off the distance of a row may be.
    fn of_row(&self, row: Trailer) -> f32 {
        (row.step * self.sum).min((SIX * row.step + row.lost) * self.length) + row.step * self.own
    }
}

/// The length of a vector.
pub fn length(vector: impl Iterator<Item = f32>) -> f32 {
    vector.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

impl Codes {
    /// How much nearer than its code says a row may be; `longest` is the length of the longest vector.
    pub fn margin(&self, metric: Metric, query: &CodedQuery, row: u32, distance: f32, longest: f32) -> f32 {
        if let Codes::Int8(int8) = self {
            let row = int8.trailer(row);
            let parts = distance.abs() + row.bias.abs() + query.offset.abs();
            return query.slack.of_row(row) + ROUNDED * parts + ROUNDED_AWAY;
        }
        let (half, sums, longest) = self.errors(query, longest);
        match metric {
            Metric::L2 => {
                let off = half * longest;
                2.0 * off * distance.max(0.0).sqrt() + 2.0 * off * off + sums * distance.abs() + ROUNDED_AWAY
            }
            Metric::Cosine | Metric::Dot => (half + sums) * query.slack.length * longest + ROUNDED_AWAY,
        }
    }

    /// How far by its code a row may be at most, if less the margin it is no farther than `limit`. It is the same for all rows, so
    /// one comparison for each tells which of them need another look.
    pub fn reach(&self, metric: Metric, query: &CodedQuery, limit: f32, longest: f32) -> f32 {
        let (limit, tiny) = (f64::from(limit), 2.0 * f64::from(ROUNDED_AWAY));
        let far = if let Codes::Int8(int8) = self {
            let greatest = int8.greatest();
            let parts = greatest.bias + query.offset.abs();
            let off = f64::from(query.slack.of_row(greatest)) + f64::from(ROUNDED) * f64::from(parts);
            limit + off
        } else {
            let (half, sums, longest) = self.errors(query, longest);
            match metric {
                // The greater solution of `distance - margin = limit`.
                Metric::L2 => {
                    let (off, left) = (f64::from(half * longest), 1.0 - f64::from(sums));
                    let root = (off + (off * off + left * (2.0 * off * off + limit + tiny)).sqrt()) / left;
                    root * root
                }
                Metric::Cosine | Metric::Dot => limit + f64::from((half + sums) * query.slack.length * longest),
            }
        };
        (far + 2.0 * f64::from(ROUNDED) * far.abs() + tiny) as f32
    }

    /// Of f16 and f32: what a component and a sum are off by, as shares, and the greatest length of a row as it is coded.
    fn errors(&self, query: &CodedQuery, longest: f32) -> (f32, f32, f32) {
        let half = if matches!(self, Codes::F16(..)) { 1.02 / 2048.0 } else { 0.0 };
        // Four lanes at the least, each a sum of rounded products.
        (half, (query.floats.len() as f32 / 4.0 + 32.0) * f32::EPSILON, longest * self.scale())
    }
}
