//! The keys that a replay is asked for, numbered so that those of one bucket stand together, and the rows that ask for each.

use std::ops::{Range, RangeInclusive};

use hashbrown::HashMap;

use crate::limits::SHARDS;
use crate::place::shard_of;

/// Keys of one view.
pub(super) struct AskedKeys<'k> {
    numbers: HashMap<&'k [u8], u32>,
    /// by number
    keys: Vec<&'k [u8]>,
    /// by bucket: its first number; then the number of keys
    bucket_starts: Vec<u32>,
    /// by number: where its rows start; then how many rows there are
    row_starts: Vec<u32>,
    rows: Vec<u32>,
}

impl<'k> AskedKeys<'k> {
    /// Of the encoded key of each row.
    pub(super) fn of(keys: &'k [Vec<u8>]) -> Self {
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let mut buckets: Vec<u8> = Vec::new();
        let mut of_rows = Vec::with_capacity(keys.len());
        for key in keys {
            let number = *numbers.entry(key).or_insert_with(|| {
                buckets.push(shard_of(key) as u8);
                buckets.len() as u32 - 1
            });
            of_rows.push(number);
        }
        let (bucket_starts, places) = grouped(buckets.iter().map(|bucket| u32::from(*bucket)), SHARDS);
        let mut renumbered = vec![0; places.len()];
        places.iter().enumerate().for_each(|(number, first)| renumbered[*first as usize] = number as u32);
        let mut by_number = vec![&[][..]; places.len()];
        for (key, number) in &mut numbers {
            *number = renumbered[*number as usize];
            by_number[*number as usize] = key;
        }
        let of_rows = of_rows.into_iter().map(|number| renumbered[number as usize]);
        let (row_starts, rows) = grouped(of_rows, buckets.len());
        AskedKeys { numbers, keys: by_number, bucket_starts, row_starts, rows }
    }

    /// The number of a key; None: nobody asks for it.
    pub(super) fn number(&self, key: &[u8]) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// A key by its number.
    pub(super) fn key(&self, number: u32) -> &'k [u8] {
        self.keys[number as usize]
    }

    /// The numbers of the keys in some buckets.
    pub(super) fn of_buckets(&self, buckets: &RangeInclusive<u8>) -> Range<u32> {
        self.bucket_starts[usize::from(*buckets.start())]..self.bucket_starts[usize::from(*buckets.end()) + 1]
    }

    /// The rows that ask for a key.
    pub(super) fn rows(&self, number: u32) -> &[u32] {
        let at = number as usize;
        &self.rows[self.row_starts[at] as usize..self.row_starts[at + 1] as usize]
    }
}

/// Sorts the places of some items by their groups, in one pass over the counts: where each group starts, and the places.
pub(super) fn grouped(groups: impl ExactSizeIterator<Item = u32> + Clone, count: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0; count + 1];
    groups.clone().for_each(|group| starts[group as usize + 1] += 1);
    for group in 0..count {
        starts[group + 1] += starts[group];
    }
    let mut next = starts.clone();
    let mut places = vec![0; groups.len()];
    for (place, group) in groups.enumerate() {
        places[next[group as usize] as usize] = place as u32;
        next[group as usize] += 1;
    }
    (starts, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_bucket_stand_together() {
        let keys: Vec<Vec<u8>> = (0..5000u32).map(|row| (row % 1700).to_le_bytes().to_vec()).collect();
        let asked = AskedKeys::of(&keys);
        let mut seen = 0;
        for bucket in 0..=u8::MAX {
            for number in asked.of_buckets(&(bucket..=bucket)) {
                for row in asked.rows(number) {
                    let key = &keys[*row as usize];
                    assert_eq!((shard_of(key), asked.number(key)), (usize::from(bucket), Some(number)));
                    seen += 1;
                }
            }
        }
        assert_eq!((seen, asked.of_buckets(&(0..=255))), (5000, 0..1700));
        assert_eq!(asked.number(b"unknown"), None);
    }
}
