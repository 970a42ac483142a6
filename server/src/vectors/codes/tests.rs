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

/// Vectors that codes are bad at: one component is so great that the others are less than a step.
fn spiked(dims: usize, count: usize) -> Rows<f32> {
    let mut random = StdRng::seed_from_u64(5);
    let mut rows = Rows::zeros(dims, count);
    for number in 0..count {
        let row = rows.row_mut(number);
        // Their mean is zero, so that no component is the same in all.
        row.iter_mut().for_each(|x| *x = if number % 3 == 0 { 1.0 } else { random.random_range(-0.6..-0.4) });
        if number % 3 == 0 {
            row[0] = [300.0, -300.0, 1e-3][number % 9 / 3];
        }
    }
    rows
}

/// Those of the set; flat ones, ones with a spike, and the mean.
fn asked(vectors: &Rows<f32>) -> Vec<Vec<f32>> {
    let dims = vectors.cells().stride;
    let most = vectors.all().iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let flat = |first: f32| (0..dims).map(|at| if at == 0 { first } else { most * 0.01 }).collect::<Vec<f32>>();
    let mut asked: Vec<Vec<f32>> = (0..20).map(|row| vectors.row(row).to_vec()).collect();
    asked.extend([flat(0.0), flat(most), flat(1e4 * most)]);
    let mean = |at: usize| (0..vectors.count()).map(|row| vectors.row(row)[at] / vectors.count() as f32).sum();
    asked.push((0..dims).map(mean).collect());
    asked
}

/// No vector is nearer than its code says, less the margin.
#[test]
fn margins_hold() {
    for (dims, metric) in [1, 2, 7, 100, 384].into_iter().flat_map(|dims| [Metric::Dot, Metric::L2].map(|m| (dims, m)))
    {
        let widths = [(0.0, 1.0), (5.0, 1.0), (1e6, 1e5), (0.0, 1e-6), (0.0, 1e-20), (0.0, 1e-44), (1e9, 1.0)];
        let sets = widths.map(|(middle, width)| rows(dims, 400, middle, width)).into_iter().chain([spiked(dims, 400)]);
        for (set, vectors) in sets.enumerate() {
            let longest = (0..400).map(|row| margin::length(vectors.row(row).iter().copied())).fold(0.0, f32::max);
            for kind in [CodeKind::Int8, CodeKind::F16, CodeKind::F32] {
                let codes = Codes::new(kind, metric, &vectors, RowsIn::Memory);
                for asked in asked(&vectors) {
                    holds(
                        (&codes, metric),
                        &vectors,
                        &asked,
                        longest,
                        &format!("{kind:?} {metric:?} {dims} set {set}"),
                    );
                }
            }
        }
    }
}

fn holds((codes, metric): (&Codes, Metric), vectors: &Rows<f32>, asked: &[f32], longest: f32, of: &str) {
    let scale = f64::from(codes.scale() * codes.scale());
    let ids: Vec<u32> = (0..vectors.count() as u32).collect();
    let (mut query, mut out) = (CodedQuery::default(), Vec::new());
    codes.query(asked, &mut query);
    codes.distances(metric, vectors.cells(), &query, &ids, &mut out);
    for (row, by_code) in ids.iter().zip(&out) {
        let pairs = asked.iter().zip(vectors.row(*row as usize)).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let exact = pairs.map(|(a, b)| if metric == Metric::L2 { (a - b) * (a - b) } else { -a * b }).sum::<f64>();
        let margin = codes.margin(metric, &query, *row, *by_code, longest);
        let least = f64::from(*by_code - margin);
        assert!(scale * exact >= least || least.is_nan(), "{of}: {} {by_code} {margin}", scale * exact);
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
            let longest = (0..200).map(|row| margin::length(vectors.row(row).iter().copied())).fold(0.0, f32::max);
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
