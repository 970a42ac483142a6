//! distinct and count_distinct: the set of values seen.

use std::collections::BTreeSet;

use super::order::Sorted;
use crate::codec::{Cursor, Damaged, put_value, put_varint};
use crate::hash::hash_value;
use crate::value::{DataType, Value};

/// Values that a `distinct` list shows at most; of more, those with the smallest hash64 stay, whatever their order.
pub const DISTINCT_MAX: usize = 10_000;

/// A set of values, capped or not.
#[derive(Clone, Debug)]
pub struct Distinct {
    values: BTreeSet<Sorted>,
    cap: usize,
}

impl Distinct {
    pub(super) fn new(cap: usize) -> Self {
        Distinct { values: BTreeSet::new(), cap }
    }

    pub(super) fn update(&mut self, value: &Value<'_>) {
        let value = Sorted(value.clone().into_owned());
        if self.values.insert(value) && self.values.len() > self.cap {
            self.shed();
        }
    }

    /// Drops the value with the greatest hash; ties cannot matter, since equal hashes of different values order by value.
    fn shed(&mut self) {
        let greatest = self.values.iter().max_by_key(|v| (hash_value(&v.0), *v)).cloned();
        if let Some(greatest) = greatest {
            self.values.remove(&greatest);
        }
    }

    pub(super) fn merge(&mut self, other: &Distinct) {
        other.values.iter().for_each(|v| self.update(&v.0));
    }

    pub(super) fn finish_list(&self) -> Value<'static> {
        Value::List(self.values.iter().map(|v| v.0.clone()).collect())
    }

    pub(super) fn finish_count(&self) -> Value<'static> {
        Value::Int64(self.values.len() as i64)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.values.len() as u64);
        self.values.iter().for_each(|v| put_value(out, &v.0));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, cap: usize, input: &DataType) -> Result<Distinct, Damaged> {
        let count = cursor.length()?;
        let mut values = BTreeSet::new();
        for _ in 0..count {
            values.insert(Sorted(cursor.value(input)?.into_owned()));
        }
        Ok(Distinct { values, cap })
    }
}
