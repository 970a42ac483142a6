//! Events by their keys: sorted by the hashes of these, which takes less than a table of them.

use tidemill_features::codec::Damaged;

/// An event: hash of its key, batch, row. In this order events of one key are together, in the order of the log.
pub(super) type Entry = (u64, u32, u32);

/// Calls back with the events of one key after the other; they are sorted.
pub(super) fn each_key<'k>(
    entries: &[Entry],
    key: impl Fn(&Entry) -> &'k [u8],
    visit: &mut dyn FnMut(&[Entry]) -> Result<(), Damaged>,
) -> Result<(), Damaged> {
    for of_hash in entries.chunk_by(|a, b| a.0 == b.0) {
        let first = key(&of_hash[0]);
        if of_hash.iter().all(|entry| key(entry) == first) {
            visit(of_hash)?;
            continue;
        }
        // Two keys of one hash: each by itself.
        let mut others = of_hash.to_vec();
        while let Some(first) = others.first().map(&key) {
            let (own, rest): (Vec<Entry>, Vec<Entry>) = others.iter().partition(|entry| key(entry) == first);
            visit(&own)?;
            others = rest;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_hash_are_told_apart_and_stay_in_order() {
        let keys = ["a", "b", "a", "c", "b", "d"];
        let entries: Vec<Entry> = vec![(1, 0, 0), (1, 0, 1), (1, 0, 2), (2, 0, 3), (2, 1, 3), (3, 1, 5)];
        let mut seen = Vec::new();
        let key = |entry: &Entry| keys[entry.2 as usize].as_bytes();
        each_key(&entries, key, &mut |own| {
            seen.push(own.iter().map(|entry| (keys[entry.2 as usize], entry.1, entry.2)).collect::<Vec<_>>());
            Ok(())
        })
        .unwrap();
        let wanted =
            vec![vec![("a", 0, 0), ("a", 0, 2)], vec![("b", 0, 1)], vec![("c", 0, 3), ("c", 1, 3)], vec![("d", 1, 5)]];
        assert_eq!(seen, wanted);
    }
}
