//! The short forms of vectors that a graph is walked on; what is found is scored by the vectors themselves.
//!
//! int8: each vector less the mean of all, in 255 steps of its own greatest component. From the dot product of two such rows and
//! two numbers beside each row follow both the dot product and the distance of the vectors. The query is not cut to 8 bits.
//! f16: everything scaled by one power of two, so that the greatest component fits. f32: the vectors themselves.

mod int8;
mod margin;

use half::f16;

use super::lanes::{self, Cells};
use super::metric::Metric;
use super::options::RowsIn;
use super::rows::Rows;
use int8::Int8;

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeKind {
    /// a byte a component
    Int8,
    /// two
    F16,
    /// four, which are there anyway
    F32,
}

/// The rows in that form.
#[derive(Debug)]
pub enum Codes {
    /// see `Int8`
    Int8(Int8),
    /// rows, and what they were multiplied by
    F16(Rows<u16>, f32),
    /// the vectors themselves
    F32,
}

/// A query in the form that the rows are compared with.
#[derive(Debug, Default)]
pub struct CodedQuery {
    int8: Vec<i16>,
    factor: f32,
    offset: f32,
    floats: Vec<f32>,
    /// what errors of a row are multiplied by at most (see `margin`)
    slack: margin::Slack,
    /// one more component, of rows while a graph is built
    pub(super) tail: f32,
}

impl Codes {
    /// Codes of all rows, which are to lie in that home.
    pub fn new(kind: CodeKind, metric: Metric, vectors: &Rows<f32>, rows: RowsIn) -> Self {
        match kind {
            CodeKind::Int8 => Codes::Int8(Int8::new(metric, vectors, rows)),
            CodeKind::F16 => {
                let scale = half_scale(greatest(vectors));
                Codes::F16(halves(&Rows::zeros(vectors.cells().stride, 0), vectors, scale), scale)
            }
            CodeKind::F32 => Codes::F32,
        }
    }

    /// These codes and those of fresh rows behind them, by the mean and the scale of before; None where the fresh rows do not fit.
    pub fn extended(&self, fresh: &Rows<f32>) -> Option<Self> {
        match self {
            Codes::Int8(int8) => Some(Codes::Int8(int8.extended(fresh))),
            Codes::F16(rows, scale) => {
                let most = greatest(fresh);
                let fits = most == 0.0 || half_scale(most) >= *scale;
                fits.then(|| Codes::F16(halves(rows, fresh, *scale), *scale))
            }
            Codes::F32 => Some(Codes::F32),
        }
    }

    /// Codes of a few fresh vectors, by the mean of these: the same query is compared with them. Only int8 is worth it.
    pub fn like(&self, fresh: &Rows<f32>) -> Option<Self> {
        match self {
            Codes::Int8(int8) => Some(Codes::Int8(int8.like(fresh))),
            Codes::F16(..) | Codes::F32 => None,
        }
    }

    /// Whether a query that is prepared for these is prepared for the others.
    pub fn is_like(&self, other: &Codes) -> bool {
        match (self, other) {
            (Codes::Int8(a), Codes::Int8(b)) => a.is_like(b),
            (Codes::F16(_, a), Codes::F16(_, b)) => a == b,
            (Codes::F32, Codes::F32) => true,
            _ => false,
        }
    }

    /// Which form they have.
    pub fn kind(&self) -> CodeKind {
        match self {
            Codes::Int8(_) => CodeKind::Int8,
            Codes::F16(..) => CodeKind::F16,
            Codes::F32 => CodeKind::F32,
        }
    }

    /// Bytes of memory, besides the vectors.
    pub fn bytes(&self) -> usize {
        match self {
            Codes::Int8(int8) => int8.bytes(),
            Codes::F16(rows, _) => rows.bytes(),
            Codes::F32 => 0,
        }
    }

    /// The same without what other codes share with them.
    pub fn own_bytes(&self) -> usize {
        match self {
            Codes::Int8(int8) => int8.own_bytes(),
            Codes::F16(..) | Codes::F32 => self.bytes(),
        }
    }

    /// What components are multiplied by before distances are computed.
    pub fn scale(&self) -> f32 {
        match self {
            Codes::F16(_, scale) => *scale,
            Codes::Int8(_) | Codes::F32 => 1.0,
        }
    }

    /// Prepares a kept vector that is looked for.
    pub fn query(&self, vector: &[f32], query: &mut CodedQuery) {
        query.tail = 0.0;
        match self {
            Codes::Int8(int8) => int8.query(vector, query),
            Codes::F16(..) | Codes::F32 => {
                query.floats.clear();
                query.floats.extend(vector.iter().map(|x| x * self.scale()));
                query.slack.length = margin::length(query.floats.iter().copied());
            }
        }
    }

    /// Prepares a row that its neighbours are looked for.
    pub fn row_query(&self, vectors: Cells<f32>, row: u32, query: &mut CodedQuery) {
        match self {
            Codes::Int8(int8) => int8.row_query(row, query),
            Codes::F16(rows, _) => {
                query.floats.clear();
                query.floats.extend(rows.row(row as usize).iter().map(|bits| f16::from_bits(*bits).to_f32()));
            }
            Codes::F32 => self.query(&vectors.cells[row as usize * vectors.stride..][..vectors.stride], query),
        }
    }

    /// How far the rows are from the query: less is nearer, equal rows are equally far. Not a score.
    pub fn distances(&self, metric: Metric, vectors: Cells<f32>, query: &CodedQuery, ids: &[u32], out: &mut Vec<f32>) {
        let arch = lanes::widest();
        out.clear();
        out.resize(ids.len(), 0.0);
        match (self, metric) {
            (Codes::Int8(int8), _) => {
                lanes::int8_distances(arch, &query.int8, (query.factor, query.offset), int8.cells(), ids, out);
                return;
            }
            (Codes::F16(rows, _), Metric::L2) => {
                return lanes::half_squared_distances(arch, &query.floats, rows.cells(), ids, out);
            }
            (Codes::F32, Metric::L2) => return lanes::squared_distances(arch, &query.floats, vectors, ids, out),
            (Codes::F16(rows, _), _) => lanes::half_dots(arch, &query.floats, rows.cells(), ids, out),
            (Codes::F32, _) => lanes::dots(arch, &query.floats, vectors, ids, out),
        }
        out.iter_mut().for_each(|x| *x = -*x);
    }
}

fn greatest(vectors: &Rows<f32>) -> f32 {
    vectors.all().iter().fold(0.0f32, |most, x| most.max(x.abs()))
}

/// Rows of halves, and those of fresh vectors behind them.
fn halves(old: &Rows<u16>, fresh: &Rows<f32>, scale: f32) -> Rows<u16> {
    let mut rows = Rows::zeros(fresh.cells().stride, old.count() + fresh.count());
    for number in 0..old.count() {
        rows.row_mut(number).copy_from_slice(old.row(number));
    }
    for number in 0..fresh.count() {
        for (code, x) in rows.row_mut(old.count() + number).iter_mut().zip(fresh.row(number)) {
            *code = f16::from_f32(x * scale).to_bits();
        }
    }
    rows
}

/// The power of two that brings the greatest component below 2^15, the last power within f16.
fn half_scale(greatest: f32) -> f32 {
    let exponent = |x: f32| i32::from((x.to_bits() >> 23) as u8) - 127;
    match greatest == 0.0 {
        true => 1.0,
        // The exponent of a scale is kept where squares of scaled rows stay within f32 as well.
        false => f32::from_bits(((14 - exponent(greatest)).clamp(-60, 60) + 127) as u32 * (1 << 23)),
    }
}

#[cfg(test)]
mod tests;
