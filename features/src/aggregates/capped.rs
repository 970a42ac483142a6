//! Something for each of many values, with a cap that does not depend on the order of events.
//!
//! Beyond the cap the values with the smallest hash64 stay. A value that is dropped has at least `cap` values below it, and no
//! further event can change that; so whatever stays in the end was never dropped on the way, and what is kept for it is exact
//! (a bottom-k sample: Cohen and Kaplan, "Summarizing data using bottom-k sketches", 2007).

use std::collections::BTreeMap;

use super::order::Sorted;
use crate::codec::{Cursor, Damaged, put_value, put_varint};
use crate::hash::hash_value;
use crate::value::{DataType, Value};

/// Values with what is kept for each, by hash64 and then by value.
#[derive(Clone, Debug)]
pub(super) struct Capped<T> {
    by_hash: BTreeMap<(u64, Sorted), T>,
    cap: usize,
    /// whether any value was dropped
    pub full: bool,
}

impl<T> Capped<T> {
    pub(super) fn new(cap: usize) -> Self {
        Capped { by_hash: BTreeMap::new(), cap, full: false }
    }

    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Adds to what is kept for a value, unless the cap leaves the value out.
    pub(super) fn update(&mut self, value: &Value<'_>, new: impl FnOnce() -> T, add: impl FnOnce(&mut T)) {
        let key = (hash_value(value), Sorted(value.clone().into_owned()));
        if self.by_hash.len() >= self.cap && self.by_hash.last_key_value().is_some_and(|(greatest, _)| key > *greatest)
        {
            self.full = true;
            return;
        }
        add(self.by_hash.entry(key).or_insert_with(new));
        if self.by_hash.len() > self.cap {
            self.by_hash.pop_last();
            self.full = true;
        }
    }

    pub(super) fn merge(&mut self, other: &Capped<T>, new: impl Fn() -> T, add: impl Fn(&mut T, &T)) {
        self.full |= other.full;
        for ((_, value), kept) in &other.by_hash {
            self.update(&value.0, &new, |own| add(own, kept));
        }
    }

    /// Values in the order of their hashes.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value<'static>> {
        self.by_hash.keys().map(|(_, value)| &value.0)
    }

    /// Values ascending, with what is kept for each.
    pub(super) fn ascending(&self) -> Vec<(&Value<'static>, &T)> {
        let mut entries: Vec<_> = self.by_hash.iter().map(|((_, value), kept)| (&value.0, kept)).collect();
        entries.sort_by(|(a, _), (b, _)| a.order(b));
        entries
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
        out.push(u8::from(self.full));
        put_varint(out, self.by_hash.len() as u64);
        for ((_, value), kept) in &self.by_hash {
            put_value(out, &value.0);
            put(kept, out);
        }
    }

    pub(super) fn decode<'c>(
        cursor: &mut Cursor<'c>,
        cap: usize,
        of: &DataType,
        take: impl Fn(&mut Cursor<'c>) -> Result<T, Damaged>,
    ) -> Result<Self, Damaged> {
        let full = cursor.byte()? != 0;
        let count = cursor.length()?;
        let mut by_hash = BTreeMap::new();
        for _ in 0..count {
            let value = cursor.value(of)?.into_owned();
            by_hash.insert((hash_value(&value), Sorted(value)), take(cursor)?);
        }
        Ok(Capped { by_hash, cap, full })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often each value was seen, those with the smallest hashes only, and whether there were others.
    fn counted(values: &[i64], cap: usize) -> (Vec<(i64, u64)>, bool) {
        let mut counts: BTreeMap<(u64, i64), u64> = BTreeMap::new();
        values.iter().for_each(|v| *counts.entry((hash_value(&Value::Int64(*v)), *v)).or_insert(0) += 1);
        let kept = counts.iter().take(cap).map(|((_, value), count)| (*value, *count));
        let mut kept: Vec<(i64, u64)> = kept.collect();
        kept.sort();
        (kept, counts.len() > cap)
    }

    fn shown(capped: &Capped<u64>) -> (Vec<(i64, u64)>, bool) {
        let whole = |value: &Value<'_>| if let Value::Int64(v) = value { *v } else { panic!("{value:?}") };
        let entries: Vec<(i64, u64)> = capped.ascending().into_iter().map(|(v, n)| (whole(v), *n)).collect();
        assert_eq!((entries.len(), capped.values().count()), (capped.len(), capped.len()));
        (entries, capped.full)
    }

    fn capped(values: &[i64], cap: usize) -> Capped<u64> {
        let mut capped = Capped::new(cap);
        values.iter().for_each(|v| capped.update(&Value::Int64(*v), || 0, |n| *n += 1));
        capped
    }

    proptest! {
        #[test]
        fn those_with_the_smallest_hashes_stay(values in prop::collection::vec(0i64..9, 0..30), cap in 1usize..10, at in 0usize..30) {
            let expected = counted(&values, cap);
            prop_assert_eq!(&shown(&capped(&values, cap)), &expected);
            let (left, right) = values.split_at(at.min(values.len()));
            let mut merged = capped(left, cap);
            merged.merge(&capped(right, cap), || 0, |own, other| *own += other);
            prop_assert_eq!(&shown(&merged), &expected);
            let mut out = Vec::new();
            merged.encode(&mut out, |count, out| put_varint(out, *count));
            let back = Capped::decode(&mut Cursor::new(&out), cap, &DataType::Int64, Cursor::count).unwrap();
            prop_assert_eq!(&shown(&back), &expected);
        }
    }
}
