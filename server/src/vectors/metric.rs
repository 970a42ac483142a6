//! The three metrics, the one score of each, and which vectors they take.

use serde::{Deserialize, Serialize};

use super::lanes;
use crate::failure::Failure;
use crate::limits::{VECTOR_COMPONENT_MAX, VECTOR_DIMS_MAX};

/// How near two vectors are. A greater score is nearer, for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// the cosine of the angle, from -1 to 1; vectors of length zero have none
    Cosine,
    /// the dot product
    Dot,
    /// the Euclidean distance; its score is the distance with a minus sign, so 0 is equal
    L2,
}

impl Metric {
    /// Refuses what has no score: another dimension, what is not finite, length zero under cosine.
    pub fn check(self, dims: usize, vector: &[f32]) -> Result<(), Failure> {
        if vector.len() != dims {
            let message = format!("the vector has {} components, and the collection takes {dims}", vector.len());
            return Err(Failure::field("E4001", "vector", message));
        }
        if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
            let message = format!("component {at} of the vector is {}; components are finite numbers", vector[at]);
            return Err(Failure::field("E4002", "vector", message));
        }
        if let Some(at) = vector.iter().position(|x| x.abs() > VECTOR_COMPONENT_MAX) {
            let message = format!("component {at} of the vector is {}; at most {VECTOR_COMPONENT_MAX:e}", vector[at]);
            return Err(Failure::field("E4003", "vector", message));
        }
        if self == Metric::Cosine && vector.iter().all(|x| *x == 0.0) {
            let message = "the vector has length zero, so there is no angle to it; use `dot` or `l2`, or leave it out";
            return Err(Failure::field("E4004", "vector", message));
        }
        Ok(())
    }

    /// Refuses a dimension that no collection may have.
    pub fn check_dims(dims: usize) -> Result<(), Failure> {
        match (1..=VECTOR_DIMS_MAX).contains(&dims) {
            true => Ok(()),
            false => {
                let message = format!("a collection has vectors of 1 to {VECTOR_DIMS_MAX} components, not {dims}");
                Err(Failure::field("E4005", "dims", message))
            }
        }
    }

    /// The form in which a checked vector is kept: under cosine its length is one, so a cosine is a dot product.
    pub fn kept(self, vector: &[f32]) -> Vec<f32> {
        match self {
            Metric::Cosine => {
                // Scaled first, so that neither tiny nor huge vectors lose their direction to rounding.
                let greatest = vector.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let scaled: Vec<f64> = vector.iter().map(|x| f64::from(*x) / f64::from(greatest)).collect();
                let length = scaled.iter().map(|x| x * x).sum::<f64>().sqrt();
                scaled.iter().map(|x| (x / length) as f32 + 0.0).collect()
            }
            Metric::Dot | Metric::L2 => vector.iter().map(|x| x + 0.0).collect(),
        }
    }

    /// The score of two kept vectors, rounded once: the same on every machine.
    pub fn score(self, a: &[f32], b: &[f32]) -> f32 {
        let arch = lanes::widest();
        match self {
            Metric::Cosine => lanes::dot(arch, a, b).clamp(-1.0, 1.0) as f32,
            Metric::Dot => lanes::dot(arch, a, b) as f32,
            Metric::L2 => (-lanes::squared_distance(arch, a, b).sqrt()) as f32,
        }
    }

    /// The number that stands for it in files; it never changes.
    pub fn number(self) -> u8 {
        match self {
            Metric::Cosine => 1,
            Metric::Dot => 2,
            Metric::L2 => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(metric: Metric, vector: &[f32], code: &str, part: &str) {
        let failure = metric.check(3, vector).unwrap_err();
        assert_eq!(failure.code, code);
        assert!(failure.message.contains(part), "{}", failure.message);
    }

    #[test]
    fn what_has_no_score_is_refused() {
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            refused(metric, &[1.0, 2.0], "E4001", "has 2 components, and the collection takes 3");
            refused(metric, &[], "E4001", "has 0 components");
            refused(metric, &[1.0, f32::NAN, 2.0], "E4002", "component 1 of the vector is NaN");
            refused(metric, &[1.0, 2.0, f32::NEG_INFINITY], "E4002", "component 2 of the vector is -inf");
            refused(metric, &[1e16, 2.0, 1.0], "E4003", "component 0");
            metric.check(3, &[1e-45, 0.0, 0.0]).unwrap();
        }
        refused(Metric::Cosine, &[0.0, -0.0, 0.0], "E4004", "length zero");
        Metric::Dot.check(3, &[0.0; 3]).unwrap();
        Metric::check_dims(0).unwrap_err();
        assert!(Metric::check_dims(1_000_000).unwrap_err().message.contains("not 1000000"));
        Metric::check_dims(8_192).unwrap();
    }

    #[test]
    fn each_metric_has_its_score() {
        let score = |metric: Metric, a: &[f32], b: &[f32]| metric.score(&metric.kept(a), &metric.kept(b));
        assert_eq!(score(Metric::Cosine, &[3.0, 4.0], &[30.0, 40.0]), 1.0);
        assert_eq!(score(Metric::Cosine, &[1.0, 0.0], &[0.0, 5.0]), 0.0);
        assert_eq!(score(Metric::Cosine, &[1e-45, 0.0], &[-1e15, 0.0]), -1.0);
        assert_eq!(score(Metric::Dot, &[1.0, 2.0], &[3.0, 4.0]), 11.0);
        assert_eq!(score(Metric::L2, &[1.0, 2.0], &[4.0, 6.0]), -5.0);
    }
}
