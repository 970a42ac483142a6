//! The order of events in a sealed file: by bucket, entity key, event time, then as they stand in the log.
//!
//! Events are sorted by the hashes of their keys first, which are numbers beside one another; only then are keys compared, each
//! with those of the same hash and once with the others.

use std::cmp::Ordering;
use std::ops::Range;

use tidemill_features::hash::hash_bytes;

use crate::place::{shard_of, shard_of_hash};

/// The bucket of an encoded entity key; that of events without one is 0.
pub(in crate::log) fn bucket_of(key: &[u8]) -> u8 {
    if key.is_empty() { 0 } else { shard_of(key) as u8 }
}

/// Keys of events, in the order of the log.
#[derive(Default)]
pub(super) struct Keys {
    /// one behind the other
    bytes: Vec<u8>,
    events: Vec<Keyed>,
}

/// An event: first what it is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Keyed {
    hash: u64,
    /// place in the order of the log
    frame: u32,
    row: u32,
    /// where its key begins and how long it is
    key: (usize, u32),
}

/// An event at its place in the file.
pub(super) struct Placed {
    pub bucket: u8,
    pub frame: u32,
    pub row: u32,
}

/// All events of a key.
struct OneKey {
    bucket: u8,
    key: (usize, u32),
    events: Range<usize>,
}

impl Keys {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes in the next event of the log, whose key is appended by `put`; one without a key appends nothing.
    pub(super) fn push(&mut self, (frame, row): (u32, u32), put: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        put(&mut self.bytes);
        let key = &self.bytes[start..];
        self.events.push(Keyed { hash: hash_bytes(key), frame, row, key: (start, key.len() as u32) });
    }

    fn key(&self, (start, length): (usize, u32)) -> &[u8] {
        &self.bytes[start..start + length as usize]
    }

    /// All events in the order of the file.
    pub(super) fn sorted(mut self, time: impl Fn(&Placed) -> i64) -> Vec<Placed> {
        let mut events = std::mem::take(&mut self.events);
        events.sort_unstable();
        let mut keys = self.one_by_one(&mut events);
        keys.sort_unstable_by(|a, b| a.bucket.cmp(&b.bucket).then_with(|| self.key(a.key).cmp(self.key(b.key))));
        let mut sorted = Vec::with_capacity(events.len());
        let mut of_key: Vec<(i64, Placed)> = Vec::new();
        for OneKey { bucket, events: own, .. } in keys {
            let placed = |event: &Keyed| Placed { bucket, frame: event.frame, row: event.row };
            of_key.extend(events[own].iter().map(placed).map(|at| (time(&at), at)));
            of_key.sort_unstable_by_key(|(time, at)| (*time, at.frame, at.row));
            sorted.extend(of_key.drain(..).map(|(_, at)| at));
        }
        sorted
    }

    /// Keys with their events, which are sorted by hash.
    fn one_by_one(&self, events: &mut [Keyed]) -> Vec<OneKey> {
        let mut keys = Vec::new();
        let mut start = 0;
        while let Some(first) = events.get(start) {
            let same = events[start..].iter().take_while(|event| event.hash == first.hash).count();
            let of_hash = &mut events[start..start + same];
            let compare = |a: &Keyed, b: &Keyed| self.key(a.key).cmp(self.key(b.key));
            let first = of_hash[0];
            if of_hash.iter().any(|event| compare(event, &first) != Ordering::Equal) {
                of_hash.sort_unstable_by(|a, b| compare(a, b).then(a.cmp(b)));
            }
            for own in of_hash.chunk_by(|a, b| compare(a, b) == Ordering::Equal) {
                let bucket = if own[0].key.1 == 0 { 0 } else { shard_of_hash(own[0].hash) as u8 };
                keys.push(OneKey { bucket, key: own[0].key, events: start..start + own.len() });
                start += own.len();
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hash, number and key, as they come; all of one time but for the third.
    fn sorted(events: &[(u64, &str)]) -> Vec<(u8, u32)> {
        let mut keys = Keys::default();
        for (row, (hash, key)) in events.iter().enumerate() {
            keys.push((7, row as u32), |bytes| bytes.extend_from_slice(key.as_bytes()));
            keys.events[row].hash = *hash;
        }
        let time = |at: &Placed| if at.row == 2 { -5 } else { 100 };
        keys.sorted(time).into_iter().map(|at| (at.bucket, at.row)).collect()
    }

    #[test]
    fn events_are_sorted_by_bucket_key_time_and_place() {
        let events = [(0x101, "b"), (0x2ff, "a"), (0x101, "b"), (0x5, ""), (0x101, "b"), (0x901, "a"), (0x5, "")];
        assert_eq!(sorted(&events), [(0, 3), (0, 6), (1, 5), (1, 2), (1, 0), (1, 4), (255, 1)]);
        assert_eq!(sorted(&[]), []);
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let events = [(0x101, "b"), (0x101, "c"), (0x101, "c"), (0x101, "a"), (0x101, "b")];
        assert_eq!(sorted(&events), [(1, 3), (1, 0), (1, 4), (1, 2), (1, 1)]);
    }

    #[test]
    fn buckets_are_those_of_the_keys() {
        let mut keys = Keys::default();
        let names: Vec<String> = (0..1_000).map(|n| format!("key-{}", n % 300)).collect();
        for (row, name) in names.iter().enumerate() {
            keys.push((0, row as u32), |bytes| bytes.extend_from_slice(name.as_bytes()));
        }
        let of = |at: &Placed| names[at.row as usize].as_bytes();
        let sorted = keys.sorted(|_| 0);
        assert!(sorted.iter().all(|at| at.bucket == bucket_of(of(at))));
        assert!(sorted.is_sorted_by_key(|at| (at.bucket, of(at), at.row)) && sorted.len() == names.len());
    }
}
