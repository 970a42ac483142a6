//! count_by, sum_by and avg_by: an aggregate for each category, as a map.

use super::capped::Capped;
use super::cell::{Finished, NoValue};
use super::sum::Sum;
use crate::codec::{Cursor, Damaged, put_varint};
use crate::value::{DataType, Value};

/// Categories of one map; of more, those with the smallest hash64 stay.
pub const CATEGORIES_MAX: usize = 1_000;

/// Counts by category.
#[derive(Clone, Debug)]
pub struct CountBy {
    counts: Capped<u64>,
}

impl CountBy {
    pub(super) fn new() -> Self {
        CountBy { counts: Capped::new(CATEGORIES_MAX) }
    }

    pub(super) fn update(&mut self, category: &Value<'_>) {
        self.counts.update(category, || 0, |count| *count += 1);
    }

    pub(super) fn merge(&mut self, other: &CountBy) {
        self.counts.merge(&other.counts, || 0, |own, other| *own += other);
    }

    pub(super) fn is_capped(&self) -> bool {
        self.counts.full
    }

    pub(super) fn finish(&self) -> Value<'static> {
        let count = |(category, count): (&Value<'static>, &u64)| {
            (category.clone(), Value::Int64(i64::try_from(*count).unwrap_or(i64::MAX)))
        };
        Value::Map(self.counts.ascending().into_iter().map(count).collect())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.counts.encode(out, |count, out| put_varint(out, *count));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, of: &DataType) -> Result<CountBy, Damaged> {
        Ok(CountBy { counts: Capped::decode(cursor, CATEGORIES_MAX, of, Cursor::count)? })
    }
}

/// Sums by category.
#[derive(Clone, Debug)]
pub struct SumBy {
    sums: Capped<Sum>,
}

impl SumBy {
    pub(super) fn new() -> Self {
        SumBy { sums: Capped::new(CATEGORIES_MAX) }
    }

    pub(super) fn update(&mut self, value: &Value<'_>, category: &Value<'_>) {
        self.sums.update(category, Sum::default, |sum| sum.update(value));
    }

    pub(super) fn merge(&mut self, other: &SumBy) {
        self.sums.merge(&other.sums, Sum::default, Sum::merge);
    }

    pub(super) fn is_capped(&self) -> bool {
        self.sums.full
    }

    /// A category without a value leaves the whole map without one: an answer is never partly right.
    pub(super) fn finish(&self, input: &DataType, mean: bool) -> Finished {
        let mut entries = Vec::with_capacity(self.sums.len());
        for (category, sum) in self.sums.ascending() {
            let value: Result<Value<'static>, NoValue> = if mean { sum.mean(input) } else { sum.total(input) };
            entries.push((category.clone(), value?));
        }
        Ok(Value::Map(entries))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.sums.encode(out, Sum::encode);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, category: &DataType) -> Result<SumBy, Damaged> {
        Ok(SumBy { sums: Capped::decode(cursor, CATEGORIES_MAX, category, Sum::decode)? })
    }
}
