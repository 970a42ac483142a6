//! Distances by codes against those of the vectors themselves.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn rows(dims: usize, count: usize, middle: f32, width: f32) -> Rows<f32> {
    let mut random = StdRng::seed_from_u64(3);
    let mut rows = Rows::zeros(dims, count);
    for number in 0..count {
        rows.row_mut(number).iter_mut().for_each(|x| *x = middle + width * random.random_range(-1.0..1.0f32));
    }
    rows
}

/// The greatest error of a distance, as a share of the distances' spread.
fn error(kind: CodeKind, metric: Metric, vectors: &Rows<f32>, by_row: bool) -> f64 {
    let codes = Codes::new(kind, metric, vectors, RowsIn::Disk);
    let (mut query, mut out) = (CodedQuery::default(), Vec::new());
    match by_row {
        true => codes.row_query(vectors.cells(), 0, &mut query),
        false => codes.query(vectors.row(0), &mut query),
    }
    let ids: Vec<u32> = (0..vectors.count() as u32).collect();
    codes.distances(metric, vectors.cells(), &query, &ids, &mut out);
    let scale = match &codes {
        Codes::F16(_, scale) => f64::from(*scale) * f64::from(*scale),
        _ => 1.0,
    };
    let truth: Vec<f64> = (0..vectors.count())
        .map(|number| {
            let pairs = || vectors.row(0).iter().zip(vectors.row(number)).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            match metric {
                Metric::L2 => pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>(),
                _ => -pairs().map(|(a, b)| a * b).sum::<f64>(),
            }
        })
        .collect();
    let spread = truth.iter().fold(f64::MIN, |m, x| m.max(*x)) - truth.iter().fold(f64::MAX, |m, x| m.min(*x));
    truth.iter().zip(&out).map(|(t, x)| (t - f64::from(*x) / scale).abs() / spread).fold(0.0, f64::max)
}

/// No vector is nearer than its code says, less the margin.
#[test]
fn margins_hold() {
    for (dims, metric) in [1, 2, 7, 100, 384].into_iter().flat_map(|dims| [Metric::Dot, Metric::L2].map(|m| (dims, m)))
    {
        for (middle, width) in [(0.0, 1.0), (5.0, 1.0), (1e6, 1e5), (0.0, 1e-6)] {
            let vectors = rows(dims, 400, middle, width);
            let longest = (0..400).map(|row| margin::length(vectors.row(row))).fold(0.0, f32::max);
            for kind in [CodeKind::Int8, CodeKind::F16, CodeKind::F32] {
                let codes = Codes::new(kind, metric, &vectors, RowsIn::Memory);
                let scale = f64::from(codes.scale() * codes.scale());
                let ids: Vec<u32> = (0..400).collect();
                for asked in 0..20 {
                    let (mut query, mut out) = (CodedQuery::default(), Vec::new());
                    codes.query(vectors.row(asked), &mut query);
                    codes.distances(metric, vectors.cells(), &query, &ids, &mut out);
                    for (row, by_code) in ids.iter().zip(&out) {
                        let pairs = vectors.row(asked).iter().zip(vectors.row(*row as usize));
                        let pairs = pairs.map(|(a, b)| (f64::from(*a), f64::from(*b)));
                        let exact = scale
                            * pairs
                                .map(|(a, b)| match metric {
                                    Metric::L2 => (a - b) * (a - b),
                                    _ => -a * b,
                                })
                                .sum::<f64>();
                        let margin = codes.margin(metric, &query, *row, *by_code, longest);
                        let least = f64::from(*by_code - margin);
                        assert!(exact >= least, "{kind:?} {metric:?} {dims} {middle}: {exact} {by_code} {margin}");
                    }
                }
            }
        }
    }
}

#[test]
fn codes_keep_distances_within_their_steps() {
    for metric in [Metric::Dot, Metric::L2] {
        for (middle, width) in [(0.0, 1.0), (5.0, 1.0), (0.0, 1e-6), (1e6, 1e5)] {
            let vectors = rows(100, 50, middle, width);
            for by_row in [false, true] {
                let int8 = error(CodeKind::Int8, metric, &vectors, by_row);
                assert!(int8 < 0.03, "int8 {metric:?} {middle} {width}: {int8}");
                let half = error(CodeKind::F16, metric, &vectors, by_row);
                assert!(half < 0.03, "f16 {metric:?} {middle} {width}: {half}");
                let whole = error(CodeKind::F32, metric, &vectors, by_row);
                assert!(whole < 1e-4, "f32 {metric:?} {middle} {width}: {whole}");
            }
        }
    }
}

/// Whatever is within a limit after all is within reach by its code.
#[test]
fn what_may_be_near_is_within_reach() {
    for (dims, metric) in [1, 7, 100].into_iter().flat_map(|dims| [Metric::Dot, Metric::L2].map(|m| (dims, m))) {
        for (middle, width) in [(0.0, 1.0), (5.0, 1.0), (1e6, 1e5), (0.0, 1e-6), (0.0, 0.0)] {
            let vectors = rows(dims, 200, middle, width);
            let longest = (0..200).map(|row| margin::length(vectors.row(row))).fold(0.0, f32::max);
            for kind in [CodeKind::Int8, CodeKind::F16, CodeKind::F32] {
                let codes = Codes::new(kind, metric, &vectors, RowsIn::Memory);
                let ids: Vec<u32> = (0..200).collect();
                let (mut query, mut out) = (CodedQuery::default(), Vec::new());
                codes.query(vectors.row(17), &mut query);
                codes.distances(metric, vectors.cells(), &query, &ids, &mut out);
                let least = |row: usize| out[row] - codes.margin(metric, &query, row as u32, out[row], longest);
                for limit in out.iter().copied().chain((0..200).map(least)) {
                    let limit = if metric == Metric::L2 { limit.max(0.0) } else { limit };
                    let reach = codes.reach(metric, &query, limit, longest);
                    let near = (0..200).filter(|row| least(*row) <= limit);
                    near.for_each(|row| assert!(out[row] <= reach, "{kind:?} {metric:?} {limit} {reach} {}", out[row]));
                }
            }
        }
    }
}
