//! The state in memory: sharded maps behind one gate.
//!
//! A read holds the gate for the microseconds in which it computes its values, and the writer for those in which it swaps in
//! the new bytes of at most `BATCH_ROWS` events. So every answer sees one prefix of each partition, over all views and
//! entities of the request, and can name it. A view that is being built is not here: its records come in one step, when they
//! are whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use tidemill_features::hash::hash_bytes;
use tidemill_features::record::NodeId;

use super::ledger::{SourceLedger, ViewLedger};
use super::shards::{RecordChunks, Shard, ViewState};
use super::shared::ViewTotals;
use crate::place::{shard_of, shard_of_hash};

/// Names a record: the view (its place in the registry, or its id in the store) and the encoded entity key.
pub type RecordKey = (u32, Box<[u8]>);
/// Names a chunk of a record.
pub type ChunkKey = (u32, Box<[u8]>, NodeId);

/// What reads see.
pub struct State {
    /// by view, then shard
    shards: Vec<Vec<Shard>>,
    /// next offsets by source (its place in the registry) and partition
    pub positions: BTreeMap<(u32, u32), u64>,
    /// by source
    pub sources: Vec<SourceLedger>,
    /// by view
    pub views: Vec<ViewLedger>,
    /// by view: whether its records hold every event before the positions
    pub complete: Vec<bool>,
    /// expressions that could not be computed for some event
    pub row_errors: u64,
    /// by view: entities and bytes of records that lie in a shared store
    elsewhere: Vec<(u64, i64)>,
    /// processes that share the store, by name: role, address, and their partitions by source
    pub members: BTreeMap<String, MemberShown>,
}

/// What `status` shows of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberShown {
    /// what it does
    pub role: String,
    /// where it listens
    pub address: String,
    /// partitions that it owns, by source
    pub partitions: BTreeMap<String, Vec<u32>>,
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
    /// entities and bytes to add of records in a shared store, by view
    pub elsewhere: Vec<(u32, (u64, i64))>,
    /// number of the flush that records are for
    pub flush: u32,
}

/// What recovery found of the sources.
#[derive(Default)]
pub struct Sources {
    /// next offsets by source (its place in the registry) and partition
    pub positions: BTreeMap<(u32, u32), u64>,
    /// by source
    pub ledgers: Vec<SourceLedger>,
    /// expressions that could not be computed for some event
    pub row_errors: u64,
}

/// The state and its gate.
pub struct Memory {
    state: RwLock<State>,
}

impl Memory {
    /// No events yet, and no view complete.
    pub fn new(sources: usize, views: usize) -> Self {
        Memory {
            state: RwLock::new(State {
                shards: (0..views).map(|_| ViewState::default().shards).collect(),
                positions: BTreeMap::new(),
                sources: vec![SourceLedger::default(); sources],
                views: vec![ViewLedger::default(); views],
                complete: vec![false; views],
                row_errors: 0,
                elsewhere: vec![(0, 0); views],
                members: BTreeMap::new(),
            }),
        }
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

    /// Publishes a change; `note` is called with the gate closed, when no read sees the change yet and every later one will. Gives
    /// the records that have not changed for this flush before.
    pub fn publish_noted(&self, updates: Updates, note: impl FnOnce()) -> Vec<RecordKey> {
        let mut state = self.state.write();
        note();
        let mut changed = Vec::new();
        for ((view, key), record) in updates.records {
            let hash = hash_bytes(&key);
            if state.shards[view as usize][shard_of_hash(hash)].put_record(hash, &key, &record, updates.flush) {
                changed.push((view, key));
            }
        }
        for ((view, key, id), chunk) in updates.chunks {
            state.shards[view as usize][shard_of(&key)].put_chunk(&key, id, chunk);
        }
        state.positions.extend(updates.positions);
        updates.sources.iter().for_each(|(source, ledger)| state.sources[*source as usize].add(ledger));
        updates.views.iter().for_each(|(view, ledger)| state.views[*view as usize].add(ledger));
        state.row_errors += updates.row_errors;
        for (view, (entities, bytes)) in updates.elsewhere {
            let known = &mut state.elsewhere[view as usize];
            *known = (known.0 + entities, known.1 + bytes);
        }
        changed
    }

    /// Takes in how far all partitions are in a shared store.
    pub fn reposition(&self, positions: BTreeMap<(u32, u32), u64>, row_errors: u64) {
        let mut state = self.state.write();
        (state.positions, state.row_errors) = (positions, row_errors);
    }

    /// Takes in which processes share the store.
    pub fn set_members(&self, members: BTreeMap<String, MemberShown>) {
        self.state.write().members = members;
    }

    /// Takes in what a shared store says of everything, by source and by view.
    pub fn restate(&self, sources: &BTreeMap<usize, SourceLedger>, views: &BTreeMap<usize, ViewTotals>) {
        let mut state = self.state.write();
        sources.iter().for_each(|(source, ledger)| state.sources[*source] = *ledger);
        for (view, totals) in views {
            state.views[*view] = totals.ledger;
            state.elsewhere[*view] = (totals.entities, totals.bytes);
        }
    }

    /// Takes in what recovery has found of the sources.
    pub fn restore(&self, sources: Sources) {
        let mut state = self.state.write();
        (state.positions, state.sources) = (sources.positions, sources.ledgers);
        state.row_errors += sources.row_errors;
    }

    /// Puts whole views in, in one step: they hold every event before the positions. Gives back what they replace, so that it is
    /// dropped with the gate open.
    pub fn replace(&self, views: Vec<(usize, ViewState)>) -> Vec<Vec<Shard>> {
        self.replace_noted(views, || {})
    }

    /// The same; `note` is called with the gate closed.
    pub fn replace_noted(&self, views: Vec<(usize, ViewState)>, note: impl FnOnce()) -> Vec<Vec<Shard>> {
        let mut state = self.state.write();
        note();
        let mut replaced = Vec::with_capacity(views.len());
        for (view, mut whole) in views {
            std::mem::swap(&mut state.shards[view], &mut whole.shards);
            state.views[view] = whole.ledger;
            state.complete[view] = true;
            replaced.push(whole.shards);
        }
        replaced
    }
}

impl State {
    /// The record of an entity.
    pub fn record(&self, view: usize, key: &[u8]) -> Option<&[u8]> {
        self.record_of(view, hash_bytes(key), key)
    }

    /// The same, by the hash of the key too.
    pub fn record_of(&self, view: usize, hash: u64, key: &[u8]) -> Option<&[u8]> {
        self.shards[view][shard_of_hash(hash)].record_of(hash, key)
    }

    /// The chunks of an entity's record.
    pub fn chunks(&self, view: usize, key: &[u8]) -> RecordChunks<'_> {
        self.shards[view][shard_of(key)].chunks(key)
    }

    /// Encoded keys of all entities of a view, in no order.
    pub fn keys(&self, view: usize) -> impl Iterator<Item = &[u8]> {
        self.shards[view].iter().flat_map(Shard::keys)
    }

    /// The same of one shard.
    pub fn keys_of_shard(&self, view: usize, shard: usize) -> impl Iterator<Item = &[u8]> {
        self.shards[view][shard].keys()
    }

    /// Number of entities of a view.
    pub fn entities(&self, view: usize) -> usize {
        self.shards[view].iter().map(Shard::entities).sum::<usize>() + self.elsewhere[view].0 as usize
    }

    /// Bytes of keys, records and chunks of a view.
    pub fn bytes(&self, view: usize) -> u64 {
        self.shards[view].iter().map(Shard::bytes).sum::<u64>() + self.elsewhere[view].1.max(0) as u64
    }
}
