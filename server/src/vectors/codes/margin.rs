//! How far a distance by codes may be from that of the vectors themselves.
//!
//! A component of an int8 row is off by half a step at most. So a product with a query is off by half of the sum of the query's
//! components, if all of them are off to the same side; but they are off to either side, and six times what is usual then (a step
//! by the square root of 12, times the query's length) is never seen. The lesser of both is taken: up to some twelve components it
//! is a proof. The error of f16 and of sums of f32 is bounded in any case.

use super::{CodedQuery, Codes};
use crate::vectors::metric::Metric;

/// What the step of a row is multiplied by. A little more than said above: the query has steps too, which are far smaller.
pub fn of_steps(query: &[f32]) -> f32 {
    let sum: f64 = query.iter().map(|x| f64::from(x.abs())).sum();
    (0.55 * sum).min(1.8 * f64::from(length(query))) as f32
}

/// The length of a vector.
pub fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt() as f32
}

impl Codes {
    /// How much nearer than its code says a row may be; `longest` is the length of the longest vector.
    pub fn margin(&self, metric: Metric, query: &CodedQuery, row: u32, distance: f32, longest: f32) -> f32 {
        let half = match self {
            Codes::Int8(int8) => {
                let (step, bias) = int8.trailer(row);
                return step * query.slack + 2e-6 * (distance.abs() + bias.abs() + query.offset.abs());
            }
            Codes::F16(..) => 1.02 / 2048.0,
            Codes::F32 => 0.0,
        };
        // Four lanes at the least, each a sum of rounded products.
        let sums = (query.floats.len() as f32 / 4.0 + 32.0) * f32::EPSILON;
        let longest = longest * self.scale();
        match metric {
            Metric::L2 => {
                let off = half * longest;
                2.0 * off * distance.max(0.0).sqrt() + 2.0 * off * off + sums * distance.abs()
            }
            Metric::Cosine | Metric::Dot => (half + sums) * query.slack * longest,
        }
    }
}
