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
