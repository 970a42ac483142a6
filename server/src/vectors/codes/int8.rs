//! The int8 form: codes of vectors around their mean, and two numbers beside each row.
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

/// Rows of int8, each with its scale and its bias.
#[derive(Debug)]
pub struct Int8 {
    rows: Rows<i8>,
    /// the same one in all rows that one query is compared with
    mean: Arc<[f32]>,
    /// the greatest step of a row, and the greatest size of a bias
    greatest: (f32, f32),
    /// what the product of two rows is multiplied by: -1, or -2 for distances
    factor: f32,
    /// what is the same for all pairs
    constant: f32,
    squared: bool,
    /// the greatest number of a query: as many steps as a sum over all components leaves room for
    steps: f32,
}

impl Int8 {
    /// Codes of all rows, around their mean.
    pub fn new(metric: Metric, vectors: &Rows<f32>, rows: RowsIn) -> Self {
        let squared = metric == Metric::L2;
        let mean: Arc<[f32]> = mean(vectors).into();
        let constant = if squared { 0.0 } else { dot(&mean, &mean) as f32 };
        // Rows that begin at every 32nd byte lie in fewer lines of the cache, some 8 % of a walk at 100 components. Who keeps
        // vectors on the disk has asked for memory first.
        let stride = (mean.len() + TRAILER).next_multiple_of(if rows == RowsIn::Disk { 16 } else { 32 });
        let steps = (f64::from(i32::MAX) / 127.0 / stride as f64).min(16_383.0).floor() as f32;
        let factor = if squared { -2.0 } else { -1.0 };
        let none = Int8 { rows: Rows::zeros(stride, 0), mean, greatest: (0.0, 0.0), factor, constant, squared, steps };
        none.extended(vectors)
    }

    /// Codes of other vectors, which the same query is compared with.
    pub fn like(&self, vectors: &Rows<f32>) -> Self {
        let rows = Rows::zeros(self.rows.cells().stride, 0);
        Int8 { rows, mean: self.mean.clone(), greatest: (0.0, 0.0), ..*self }.extended(vectors)
    }

    /// Whether a query of these is one of those.
    pub fn is_like(&self, other: &Int8) -> bool {
        Arc::ptr_eq(&self.mean, &other.mean)
    }

    /// The greatest step of a row, and the greatest size of a bias.
    pub fn greatest(&self) -> (f32, f32) {
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
            greatest = (greatest.0.max(scale), greatest.1.max(bias.abs()));
            let trailer: [[u8; 4]; 2] = [scale.to_le_bytes(), bias.to_le_bytes()];
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
    fn centre(&self, vector: &[f32], centred: &mut [f32], steps: f32) -> (f32, f32) {
        let mut greatest = 0.0f32;
        for ((c, x), mean) in centred.iter_mut().zip(vector).zip(self.mean.iter()) {
            *c = x - mean;
            greatest = greatest.max(c.abs());
        }
        let bias = match self.squared {
            true => dot(centred, centred),
            false => -dot(&self.mean, vector),
        };
        (if greatest > 0.0 { greatest / steps } else { 1.0 }, bias as f32)
    }

    pub fn query(&self, vector: &[f32], query: &mut CodedQuery) {
        query.floats.clear();
        query.floats.resize(vector.len(), 0.0);
        let (scale, bias) = self.centre(vector, &mut query.floats, self.steps);
        query.int8.clear();
        query.int8.extend(query.floats.iter().map(|x| (x / scale).round_ties_even() as i16));
        query.int8.resize(self.rows.cells().stride, 0);
        (query.factor, query.offset) = (self.factor * scale, bias + self.constant);
        query.slack = self.factor.abs() * margin::of_steps(&query.floats);
    }

    /// The size of one step of a row, and its bias.
    pub fn trailer(&self, row: u32) -> (f32, f32) {
        let row = self.rows.row(row as usize);
        let trailer: &[u8] = bytemuck::cast_slice(&row[row.len() - TRAILER..]);
        let number = |at: usize| f32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
        (number(0), number(4))
    }

    pub fn row_query(&self, row: u32, query: &mut CodedQuery) {
        let (scale, bias) = self.trailer(row);
        let row = self.rows.row(row as usize);
        query.int8.clear();
        query.int8.extend(row[..row.len() - TRAILER].iter().map(|x| i16::from(*x)));
        query.int8.resize(row.len(), 0);
        (query.factor, query.offset) = (self.factor * scale, bias + self.constant);
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
