//! top_k, bottom_k, mode and entropy: how often each value was seen.

use super::capped::Capped;
use super::distinct::DISTINCT_MAX;
use super::exact::Exact;
use crate::codec::{Cursor, Damaged, put_varint};
use crate::value::{DataType, Value};

/// Counts by value.
#[derive(Clone, Debug)]
pub struct Frequencies {
    counts: Capped<u64>,
}

impl Frequencies {
    pub(super) fn new() -> Self {
        Frequencies { counts: Capped::new(DISTINCT_MAX) }
    }

    pub(super) fn update(&mut self, value: &Value<'_>) {
        self.counts.update(value, || 0, |count| *count += 1);
    }

    pub(super) fn merge(&mut self, other: &Frequencies) {
        self.counts.merge(&other.counts, || 0, |own, other| *own += other);
    }

    pub(super) fn is_capped(&self) -> bool {
        self.counts.full
    }

    /// The k most (or least) frequent values; of equally frequent ones the smaller first.
    pub(super) fn ranked(&self, k: usize, most: bool) -> Value<'static> {
        let mut entries = self.counts.ascending();
        // A stable sort keeps equally frequent values ascending.
        entries.sort_by(|(_, a), (_, b)| if most { b.cmp(a) } else { a.cmp(b) });
        Value::List(entries.into_iter().take(k).map(|(value, _)| value.clone()).collect())
    }

    pub(super) fn mode(&self) -> Value<'static> {
        match self.ranked(1, true) {
            Value::List(values) => values.into_iter().next().unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// The sum of p ln(1/p), in nats. Every term is positive and as exact as a float can be, log1p where p is near 1; an exact
    /// sum rounds once.
    pub(super) fn entropy(&self) -> Value<'static> {
        let entries = self.counts.ascending();
        let total: u64 = entries.iter().map(|(_, count)| **count).sum();
        let mut sum = Exact::default();
        for (_, count) in entries {
            let others = (total - count) as f64;
            sum.add_float(*count as f64 * libm::log1p(others / *count as f64));
        }
        sum.divided(total.max(1)).map_or(Value::Null, Value::Float64)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.counts.encode(out, |count, out| put_varint(out, *count));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, of: &DataType) -> Result<Frequencies, Damaged> {
        Ok(Frequencies { counts: Capped::decode(cursor, DISTINCT_MAX, of, Cursor::count)? })
    }
}
