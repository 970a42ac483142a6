//! The events of one bucket on their way into a file: by entity key, event time, then as they stand in the log.
//!
//! Events are sorted by the hashes of their keys first, which are numbers beside one another; only then are keys compared, each
//! with those of the same hash and once with the others.

use std::cmp::Ordering;
use std::ops::Range;

use tidemill_features::codec::Damaged;

use crate::place::{shard_of, shard_of_hash};

/// The bucket of an encoded entity key; that of events without one is 0.
pub(in crate::log) fn bucket_of(key: &[u8]) -> u8 {
    if key.is_empty() { 0 } else { shard_of(key) as u8 }
}

/// The same, by the hash of the key too.
pub(super) fn bucket_of_hash(key: &[u8], hash: u64) -> u8 {
    if key.is_empty() { 0 } else { shard_of_hash(hash) as u8 }
}

/// Bytes, or rows, that a bucket has room for at first.
const ROOM_LEAST: usize = 64;

/// Events of one bucket.
#[derive(Default)]
pub(super) struct Bucket {
    /// of each event its key, then its columns as the log has them
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

/// What an event has besides its columns; first what it is sorted by, where keys have different hashes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// of its key
    pub hash: u64,
    pub time: i64,
    /// where its bytes begin, which is also the order of the log; this and their lengths are the bucket's to say
    pub at: u32,
    pub key_length: u32,
    pub columns_length: u32,
    pub frame: u32,
    pub offset: u64,
    pub arrival: i64,
}

impl Bucket {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes in the next event of the log.
    pub(super) fn push(&mut self, row: Row, key: &[u8], columns: &[u8]) -> Result<(), Damaged> {
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| Damaged);
        let at = length(self.bytes.len())?;
        let (key_length, columns_length) = (length(key.len())?, length(columns.len())?);
        make_room(&mut self.bytes, key.len() + columns.len());
        make_room(&mut self.rows, 1);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(columns);
        self.rows.push(Row { at, key_length, columns_length, ..row });
        Ok(())
    }

    /// An event and its columns.
    pub(super) fn row(&self, at: usize) -> (&Row, &[u8]) {
        let row = &self.rows[at];
        let start = row.at as usize + row.key_length as usize;
        (row, &self.bytes[start..start + row.columns_length as usize])
    }

    fn key(&self, row: &Row) -> &[u8] {
        &self.bytes[row.at as usize..][..row.key_length as usize]
    }

    /// Brings the events into the order of the file.
    pub(super) fn sort(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable();
        let mut keys = self.one_by_one(&mut rows);
        keys.sort_unstable_by(|a, b| self.key(&rows[a.start]).cmp(self.key(&rows[b.start])));
        self.rows.reserve_exact(rows.len());
        for own in keys {
            self.rows.extend_from_slice(&rows[own]);
        }
    }

    /// Where the events of each key are, in no order of the keys; events are sorted by hash.
    fn one_by_one(&self, rows: &mut [Row]) -> Vec<Range<usize>> {
        let mut keys = Vec::new();
        let mut start = 0;
        while let Some(first) = rows.get(start).copied() {
            let same = rows[start..].iter().take_while(|row| row.hash == first.hash).count();
            let of_hash = &mut rows[start..start + same];
            let compare = |a: &Row, b: &Row| self.key(a).cmp(self.key(b));
            if of_hash.iter().any(|row| compare(row, &first) != Ordering::Equal) {
                of_hash.sort_unstable_by(|a, b| compare(a, b).then(a.cmp(b)));
            }
            for own in of_hash.chunk_by(|a, b| compare(a, b) == Ordering::Equal) {
                keys.push(start..start + own.len());
                start += own.len();
            }
        }
        keys
    }
}

/// Room for more: four times as much as there is, where twice as much would move each byte once more until a bucket is full. What is
/// never written to takes no memory.
fn make_room<T>(items: &mut Vec<T>, more: usize) {
    if items.capacity() - items.len() < more {
        items.reserve_exact(more.max(3 * items.len()).max(ROOM_LEAST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes, keys and times of events; gives their numbers in the order of the file.
    fn sorted(events: &[(u64, &str, i64)]) -> Vec<u64> {
        let mut bucket = Bucket::default();
        for (number, (hash, key, time)) in events.iter().enumerate() {
            let row = Row { hash: *hash, time: *time, offset: number as u64, ..Row::default() };
            bucket.push(row, key.as_bytes(), format!("columns of {number}").as_bytes()).unwrap();
        }
        bucket.sort();
        let offset = |at: usize| {
            let (row, columns) = bucket.row(at);
            assert_eq!(columns, format!("columns of {}", row.offset).as_bytes());
            row.offset
        };
        (0..bucket.len()).map(offset).collect()
    }

    #[test]
    fn events_are_sorted_by_key_time_and_place() {
        let events = [(9, "b", 7), (3, "c", 7), (9, "b", 7), (5, "", 7), (9, "b", -5), (1, "d", 7), (5, "", 6)];
        assert_eq!(sorted(&events), [6, 3, 4, 0, 2, 1, 5]);
        assert!(sorted(&[]).is_empty());
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let events = [(1, "b", 2), (1, "c", 2), (1, "c", 1), (1, "a", 9), (1, "b", 1), (0, "d", 0), (2, "", 0)];
        assert_eq!(sorted(&events), [6, 3, 4, 0, 2, 1, 5]);
    }

    #[test]
    fn buckets_are_those_of_the_keys() {
        let hash = tidemill_features::hash::hash_bytes;
        let keys = (0..300).map(|number| format!("key-{number}")).chain([String::new()]);
        assert!(keys.map(String::into_bytes).all(|key| bucket_of(&key) == bucket_of_hash(&key, hash(&key))));
    }
}
