//! The records of one view, by shard. They are held by whoever derives them, or by the state that reads see.

use std::sync::Arc;

use hashbrown::HashMap;
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
    records: HashMap<Box<[u8]>, Box<[u8]>>,
    /// by key: beside the record
    chunks: HashMap<Box<[u8]>, Chunks>,
    bytes: u64,
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
        self.records.get(key).map(|record| &**record)
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
        self.records.keys().map(|key| &**key)
    }

    /// Number of records.
    pub fn entities(&self) -> usize {
        self.records.len()
    }

    /// Bytes of keys, records and chunks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a record in its place.
    pub fn put_record(&mut self, key: Box<[u8]>, record: Box<[u8]>) {
        let (length, added) = (key.len(), (key.len() + record.len()) as u64);
        let replaced = self.records.insert(key, record).map_or(0, |old| (length + old.len()) as u64);
        self.bytes = (self.bytes + added).saturating_sub(replaced);
    }

    /// Puts the record of a key in its place; the key is copied only where it is new.
    pub fn put_record_of(&mut self, key: &[u8], record: Box<[u8]>) {
        match self.records.get_mut(key) {
            Some(old) => {
                self.bytes = (self.bytes + record.len() as u64).saturating_sub(old.len() as u64);
                *old = record;
            }
            None => self.put_record(key.into(), record),
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
        shard.put_record(b"key"[..].into(), b"record"[..].into());
        shard.put_record_of(b"key", b"longer record"[..].into());
        shard.put_chunk(b"key", id, Some(b"chunk"[..].into()));
        assert_eq!(shard.bytes(), 3 + 13 + 5);
        assert_eq!(shard.chunks(b"key").get(id).as_deref(), Some(&b"chunk"[..]));
        shard.put_chunk(b"key", id, None);
        shard.put_chunk(b"other", id, None);
        assert_eq!((shard.bytes(), shard.entities()), (16, 1));
        assert!(shard.chunks(b"key").get(id).is_none());
    }
}
