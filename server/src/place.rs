//! Places: where an event stands in the log, and which bucket its entity belongs to. The log, the stores and training speak of
//! both.

use tidemill_features::hash::hash_bytes;

use crate::limits::SHARDS;

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPlace {
    /// number of the segment
    pub segment: u64,
    /// byte in it
    pub offset: u64,
}

/// The shard of an encoded entity key; it is also the bucket by which sealed files are sorted.
pub fn shard_of(key: &[u8]) -> usize {
    shard_of_hash(hash_bytes(key))
}

/// The same, by the hash of the key.
pub fn shard_of_hash(hash: u64) -> usize {
    (hash % SHARDS as u64) as usize
}
