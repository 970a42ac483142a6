//! The records of one view, by shard. They are held by whoever derives them, or by the state that reads see.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use tidemill_features::hash::hash_bytes;
use tidemill_features::record::{NodeId, Nodes};

use super::ledger::ViewLedger;
use crate::limits::SHARDS;

/// Everything that is kept for one view.
pub struct ViewState {
    /// by number
    pub shards: Vec<Shard>,
    /// what became of the events
    pub ledger: ViewLedger,
}

type Chunks = HashMap<NodeId, Arc<[u8]>>;

/// The records of one shard.
#[derive(Default)]
pub struct Shard {
    records: HashTable<Kept>,
    /// by key: beside the record
    chunks: HashMap<Box<[u8]>, Chunks>,
    bytes: u64,
}

/// A record behind its key: whoever has found the key has the record, too, and both take one piece of memory.
struct Kept {
    bytes: Box<[u8]>,
    key_length: u32,
    /// number of the flush that it has changed for last
    flush: u32,
}

impl Kept {
    fn new(key: &[u8], record: &[u8], flush: u32) -> Self {
        // Keys are at most 64 KiB long.
        Kept { bytes: [key, record].concat().into_boxed_slice(), key_length: key.len() as u32, flush }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_length as usize]
    }

    fn record(&self) -> &[u8] {
        &self.bytes[self.key_length as usize..]
    }
}

/// The hash by which a table finds a key, from that of the key: all keys of a shard have the same low bits, and a table looks at
/// the low and at the high ones.
fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

/// The chunks of one record.
#[derive(Clone, Copy)]
pub struct RecordChunks<'s> {
    chunks: Option<&'s Chunks>,
}

impl Default for ViewState {
    fn default() -> Self {
        ViewState { shards: (0..SHARDS).map(|_| Shard::default()).collect(), ledger: ViewLedger::default() }
    }
}

impl ViewState {
    /// Number of records.
    pub fn entities(&self) -> usize {
        self.shards.iter().map(Shard::entities).sum()
    }
}

impl Shard {
    /// The record of a key.
    pub fn record(&self, key: &[u8]) -> Option<&[u8]> {
        self.record_of(hash_bytes(key), key)
    }

    /// The same, by the hash of the key too.
    pub fn record_of(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        self.records.find(spread(hash), |kept| kept.key() == key).map(Kept::record)
    }

    /// The chunks of a key's record.
    pub fn chunks(&self, key: &[u8]) -> RecordChunks<'_> {
        RecordChunks { chunks: self.chunks.get(key) }
    }

    /// A chunk.
    pub fn chunk(&self, key: &[u8], id: NodeId) -> Option<&Arc<[u8]>> {
        self.chunks.get(key)?.get(&id)
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.records.iter().map(Kept::key)
    }

    /// Number of records.
    pub fn entities(&self) -> usize {
        self.records.len()
    }

    /// Bytes of keys, records and chunks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a record in its place, for a flush of this number (0: none). Tells whether it has not changed for that one before.
    pub fn put_record(&mut self, hash: u64, key: &[u8], record: &[u8], flush: u32) -> bool {
        let kept = Kept::new(key, record, flush);
        self.bytes += kept.bytes.len() as u64;
        match self.records.find_mut(spread(hash), |kept| kept.key() == key) {
            Some(known) => {
                let old = std::mem::replace(known, kept);
                self.bytes = self.bytes.saturating_sub(old.bytes.len() as u64);
                old.flush != flush
            }
            None => {
                self.records.insert_unique(spread(hash), kept, |kept| spread(hash_bytes(kept.key())));
                true
            }
        }
    }

    /// Puts a chunk in its place; None: it goes.
    pub fn put_chunk(&mut self, key: &[u8], id: NodeId, chunk: Option<Arc<[u8]>>) {
        let added = chunk.as_ref().map_or(0, |c| c.len() as u64);
        let replaced = match (chunk, self.chunks.get_mut(key)) {
            (Some(chunk), Some(of_key)) => of_key.insert(id, chunk),
            (Some(chunk), None) => self.chunks.entry(key.into()).or_default().insert(id, chunk),
            (None, Some(of_key)) => of_key.remove(&id),
            (None, None) => None,
        };
        if self.chunks.get(key).is_some_and(HashMap::is_empty) {
            self.chunks.remove(key);
        }
        self.bytes = (self.bytes + added).saturating_sub(replaced.map_or(0, |old| old.len() as u64));
    }
}

impl Nodes for RecordChunks<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        self.chunks?.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_what_is_there() {
        let mut shard = Shard::default();
        let id = NodeId { level: 3, slot: 9 };
        let mut put = |record: &[u8], flush| shard.put_record(hash_bytes(b"key"), b"key", record, flush);
        assert_eq!(
            [put(b"record", 0), put(b"r", 1), put(b"re", 1), put(b"longer record", 2)],
            [true, true, false, true]
        );
        assert_eq!(shard.record(b"key"), Some(&b"longer record"[..]));
        shard.put_chunk(b"key", id, Some(b"chunk"[..].into()));
        assert_eq!(shard.bytes(), 3 + 13 + 5);
        assert_eq!(shard.chunks(b"key").get(id).as_deref(), Some(&b"chunk"[..]));
        shard.put_chunk(b"key", id, None);
        shard.put_chunk(b"other", id, None);
        assert_eq!((shard.bytes(), shard.entities()), (16, 1));
        assert_eq!(shard.keys().collect::<Vec<_>>(), [b"key"]);
        assert!(shard.chunks(b"key").get(id).is_none());
    }
}
