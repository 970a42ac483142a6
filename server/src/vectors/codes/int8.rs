//! The int8 form: codes of vectors around their mean, and three numbers beside each row.
//!
//! With `a = mean + c`, the dot product is `c·d + mean·a + mean·b - mean·mean` and the squared distance `|c|² + |d|² - 2 c·d`: a
//! bias for each row, one constant for all, and a factor times the product of the codes. The mean takes away what all vectors
//! have in common, which would use up most of the 255 steps. The greatest component sets the steps; cutting it off at a quantile
//! was tried, and graphs built on such codes find less.

use std::sync::Arc;

use super::{CodedQuery, margin};
use crate::vectors::lanes::{Cells, TRAILER};
use crate::vectors::metric::Metric;
use crate::vectors::options::RowsIn;
use crate::vectors::rows::Rows;

/// What lies behind the codes of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trailer {
    /// the length of what is lost altogether: of components whose code is 0
    pub lost: f32,
    /// the size of one step
    pub step: f32,
    /// see above
    pub bias: f32,
}

/// Rows of int8, each with what its components lose, its scale and its bias.
#[derive(Debug)]
pub struct Int8 {
    rows: Rows<i8>,
    /// the same one in all rows that one query is compared with
    mean: Arc<[f32]>,
    /// the greatest of each
    greatest: Trailer,
    /// what the product of two rows is multiplied by: -1, or -2 for distances
    factor: f32,
    /// what is the same for all pairs
    constant: f64,
    squared: bool,
    /// the greatest number of a query: as many steps as a sum over all components leaves room for
    steps: f32,
}

impl Int8 {
    /// Codes of all rows, around their mean.
    pub fn new(metric: Metric, vectors: &Rows<f32>, rows: RowsIn) -> Self {
        let squared = metric == Metric::L2;
        let mean: Arc<[f32]> = mean(vectors).into();
        let constant = if squared { 0.0 } else { dot(&mean, &mean) };
        // Rows that begin at every 32nd byte lie in fewer lines of the cache, some 8 % of a walk at 100 components. Who keeps
        // vectors on the disk has asked for memory first.
        let stride = (mean.len() + TRAILER).next_multiple_of(if rows == RowsIn::Disk { 16 } else { 32 });
        let steps = (f64::from(i32::MAX) / 127.0 / stride as f64).min(16_383.0).floor() as f32;
        let factor = if squared { -2.0 } else { -1.0 };
        let (rows, greatest) = (Rows::zeros(stride, 0), Trailer::default());
        Int8 { rows, mean, greatest, factor, constant, squared, steps }.extended(vectors)
    }

    /// Codes of other vectors, which the same query is compared with.
    pub fn like(&self, vectors: &Rows<f32>) -> Self {
        let rows = Rows::zeros(self.rows.cells().stride, 0);
        Int8 { rows, mean: self.mean.clone(), greatest: Trailer::default(), ..*self }.extended(vectors)
    }

    /// Whether a query of these is one of those.
    pub fn is_like(&self, other: &Int8) -> bool {
        Arc::ptr_eq(&self.mean, &other.mean)
    }

    /// The greatest numbers of a row, biases by their size.
    pub fn greatest(&self) -> Trailer {
        self.greatest
    }

    /// The rows that there are, and codes of fresh vectors behind them.
    pub fn extended(&self, fresh: &Rows<f32>) -> Self {
        let (stride, begun) = (self.rows.cells().stride, self.rows.count());
        let mut rows = Rows::zeros(stride, begun + fresh.count());
        (0..begun).for_each(|number| rows.row_mut(number).copy_from_slice(self.rows.row(number)));
        let mut centred = vec![0.0; self.mean.len()];
        let mut greatest = self.greatest;
        for number in 0..fresh.count() {
            let row: &mut [i8] = rows.row_mut(begun + number);
            let (scale, bias) = self.centre(fresh.row(number), &mut centred, 127.0);
            for (code, x) in row.iter_mut().zip(&centred) {
                *code = (x / scale).round_ties_even() as i8;
            }
            let lost = centred.iter().zip(&*row).filter(|(_, code)| **code == 0).map(|(x, _)| *x);
            let own = Trailer { lost: margin::length(lost), step: scale, bias: bias as f32 };
            greatest.lost = greatest.lost.max(own.lost);
            greatest.step = greatest.step.max(own.step);
            greatest.bias = greatest.bias.max(own.bias.abs());
            let trailer: [[u8; 4]; 3] = [own.lost, own.step, own.bias].map(f32::to_le_bytes);
            row[stride - TRAILER..].copy_from_slice(bytemuck::cast_slice(trailer.as_flattened()));
        }
        Int8 { rows, mean: self.mean.clone(), greatest, ..*self }
    }

    pub fn bytes(&self) -> usize {
        self.own_bytes() + self.mean.len() * size_of::<f32>()
    }

    pub fn own_bytes(&self) -> usize {
        self.rows.bytes()
    }

    pub fn cells(&self) -> Cells<'_, i8> {
        self.rows.cells()
    }

    /// The vector less the mean; the size of one step, and the bias.
    fn centre(&self, vector: &[f32], centred: &mut [f32], steps: f32) -> (f32, f64) {
        let mut greatest = 0.0f32;
        for ((c, x), mean) in centred.iter_mut().zip(vector).zip(self.mean.iter()) {
            *c = x - mean;
            greatest = greatest.max(c.abs());
        }
        let bias = match self.squared {
            true => dot(centred, centred),
            false => -dot(&self.mean, vector),
        };
        // Steps below the least normal number would be rounded themselves.
        (if greatest > 0.0 { (greatest / steps).max(f32::MIN_POSITIVE) } else { 1.0 }, bias)
    }

    pub fn query(&self, vector: &[f32], query: &mut CodedQuery) {
        query.floats.clear();
        query.floats.resize(vector.len(), 0.0);
        let (scale, bias) = self.centre(vector, &mut query.floats, self.steps);
        query.int8.clear();
        query.int8.extend(query.floats.iter().map(|x| (x / scale).round_ties_even() as i16));
        let rounded = query.floats.iter().zip(&query.int8);
        let own: f64 = rounded.map(|(x, code)| f64::from((x - f32::from(*code) * scale).abs())).sum();
        query.int8.resize(self.rows.cells().stride, 0);
        (query.factor, query.offset) = (self.factor * scale, (bias + self.constant) as f32);
        query.slack = margin::Slack::of(&query.floats, own, self.factor.abs());
    }

    /// The numbers of a row.
    pub fn trailer(&self, row: u32) -> Trailer {
        let row = self.rows.row(row as usize);
        let trailer: &[u8] = bytemuck::cast_slice(&row[row.len() - TRAILER..]);
        let number = |at: usize| f32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
        Trailer { lost: number(0), step: number(4), bias: number(8) }
    }

    pub fn row_query(&self, row: u32, query: &mut CodedQuery) {
        let Trailer { step, bias, .. } = self.trailer(row);
        let row = self.rows.row(row as usize);
        query.int8.clear();
        query.int8.extend(row[..row.len() - TRAILER].iter().map(|x| i16::from(*x)));
        query.int8.resize(row.len(), 0);
        (query.factor, query.offset) = (self.factor * step, (f64::from(bias) + self.constant) as f32);
    }
}

fn mean(vectors: &Rows<f32>) -> Vec<f32> {
    let mut sums = vec![0.0f64; vectors.cells().stride];
    for number in 0..vectors.count() {
        sums.iter_mut().zip(vectors.row(number)).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sums.iter().map(|sum| (sum / vectors.count().max(1) as f64) as f32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
