//! The state in memory: sharded maps behind one gate.
//!
//! A read holds the gate for the microseconds in which it computes its values, and the writer for those in which it swaps in
//! the new bytes of at most `BATCH_ROWS` events. So every answer sees one prefix of each partition, over all views and
//! entities of the request, and can name it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard};
use tidemill_features::record::{NodeId, Nodes};

use super::ledger::{SourceLedger, ViewLedger};
use super::shard_of;
use crate::limits::SHARDS;

/// Names a record: the view (its place in the registry) and the encoded entity key.
pub type RecordKey = (u32, Box<[u8]>);
/// Names a chunk of a record.
pub type ChunkKey = (u32, Box<[u8]>, NodeId);

type Shard = HashMap<Box<[u8]>, Box<[u8]>>;

/// What reads see.
pub struct State {
    /// by view, then shard
    records: Vec<Vec<Shard>>,
    chunks: HashMap<ChunkKey, Arc<[u8]>>,
    /// next offsets by source (its place in the registry) and partition
    pub positions: BTreeMap<(u32, u32), u64>,
    /// by source
    pub sources: Vec<SourceLedger>,
    /// by view
    pub views: Vec<ViewLedger>,
    /// bytes of keys, records and chunks, by view
    pub bytes: Vec<u64>,
    /// expressions that could not be computed for some event
    pub row_errors: u64,
}

/// A change of the state, published in one step.
#[derive(Default)]
pub struct Updates {
    /// new records
    pub records: Vec<(RecordKey, Box<[u8]>)>,
    /// new chunks; None: gone
    pub chunks: Vec<(ChunkKey, Option<Arc<[u8]>>)>,
    /// (source, partition) and next offset
    pub positions: Vec<((u32, u32), u64)>,
    /// what to add, by source
    pub sources: Vec<(u32, SourceLedger)>,
    /// what to add, by view
    pub views: Vec<(u32, ViewLedger)>,
    /// row errors to add
    pub row_errors: u64,
}

/// The state and its gate.
pub struct Memory {
    state: RwLock<State>,
}

impl Memory {
    /// No events yet.
    pub fn new(sources: usize, views: usize) -> Self {
        let shards = || (0..SHARDS).map(|_| HashMap::new()).collect();
        Memory {
            state: RwLock::new(State {
                records: (0..views).map(|_| shards()).collect(),
                chunks: HashMap::new(),
                positions: BTreeMap::new(),
                sources: vec![SourceLedger::default(); sources],
                views: vec![ViewLedger::default(); views],
                bytes: vec![0; views],
                row_errors: 0,
            }),
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut state = self.state.write();
        let empty = Memory::new(state.sources.len(), state.views.len());
        *state = empty.state.into_inner();
    }

    /// Opens the gate for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// The same where the caller may have it open already; it does not wait for a writer that waits.
    pub fn read_again(&self) -> RwLockReadGuard<'_, State> {
        self.state.read_recursive()
    }

    /// Publishes a change.
    pub fn publish(&self, updates: Updates) {
        self.publish_noted(updates, || {});
    }

    /// Publishes a change; `note` is called with the gate closed, when no read sees the change yet and every later one will.
    pub fn publish_noted(&self, updates: Updates, note: impl FnOnce()) {
        let mut state = self.state.write();
        note();
        for ((view, key), record) in updates.records {
            state.put_record(view, key, record);
        }
        for (key, chunk) in updates.chunks {
            state.put_chunk(key, chunk);
        }
        state.positions.extend(updates.positions);
        updates.sources.iter().for_each(|(source, ledger)| state.sources[*source as usize].add(ledger));
        updates.views.iter().for_each(|(view, ledger)| state.views[*view as usize].add(ledger));
        state.row_errors += updates.row_errors;
    }

    /// Takes in what a store has kept.
    pub fn restore(&self, positions: BTreeMap<(u32, u32), u64>, sources: Vec<SourceLedger>, views: Vec<ViewLedger>) {
        let mut state = self.state.write();
        (state.positions, state.sources, state.views) = (positions, sources, views);
    }
}

impl State {
    /// The record of an entity.
    pub fn record(&self, view: usize, key: &[u8]) -> Option<&[u8]> {
        self.records[view][shard_of(key)].get(key).map(|record| &**record)
    }

    /// The chunks of an entity's record.
    pub fn chunks<'s>(&'s self, view: usize, key: &'s [u8]) -> RecordChunks<'s> {
        RecordChunks { state: self, view: view as u32, key }
    }

    /// A chunk.
    pub fn chunk(&self, key: &ChunkKey) -> Option<&Arc<[u8]>> {
        self.chunks.get(key)
    }

    /// Encoded keys of all entities of a view, in no order.
    pub fn keys(&self, view: usize) -> impl Iterator<Item = &[u8]> {
        self.records[view].iter().flat_map(HashMap::keys).map(|key| &**key)
    }

    /// Number of entities of a view.
    pub fn entities(&self, view: usize) -> usize {
        self.records[view].iter().map(HashMap::len).sum()
    }

    fn put_record(&mut self, view: u32, key: Box<[u8]>, record: Box<[u8]>) {
        let added = (key.len() + record.len()) as u64;
        let shard = &mut self.records[view as usize][shard_of(&key)];
        let length = key.len();
        let replaced = shard.insert(key, record).map_or(0, |old| (length + old.len()) as u64);
        let bytes = &mut self.bytes[view as usize];
        *bytes = (*bytes + added).saturating_sub(replaced);
    }

    fn put_chunk(&mut self, key: ChunkKey, chunk: Option<Arc<[u8]>>) {
        let view = key.0 as usize;
        let added = chunk.as_ref().map_or(0, |c| c.len() as u64);
        let replaced = match chunk {
            Some(chunk) => self.chunks.insert(key, chunk),
            None => self.chunks.remove(&key),
        };
        let replaced = replaced.map_or(0, |old| old.len() as u64);
        self.bytes[view] = (self.bytes[view] + added).saturating_sub(replaced);
    }
}

/// The chunks of one record.
pub struct RecordChunks<'s> {
    state: &'s State,
    view: u32,
    key: &'s [u8],
}

impl Nodes for RecordChunks<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        self.state.chunks.get(&(self.view, self.key.into(), id)).cloned()
    }
}
