//! What one request has fetched of a shared store.
//!
//! A read does not know beforehand all that it needs: an edge of a window may cut a chunk, a joined row or a looked-up entity
//! has a key that only another record tells. So it is computed with what is there; what was asked for and is not there is
//! noted, fetched all at once, and the read is computed again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use hashbrown::HashMap;
use tidemill_features::definitions::Registry;
use tidemill_features::record::{NodeId, Nodes};

use super::StoreError;
use super::records::Records;
use super::redis::{Positions, ReadChunks, RedisStore};
use super::shared::{SharedKey, SharedRecord};
use crate::limits::{CHUNKS_APART, CHUNKS_AT_ONCE, LONG_CHUNKS_APART, SHARED_COMMITS_IN_FLIGHT, SHARED_FETCH_BYTES};

/// Records and chunks that are here, and what is missing.
pub struct Fetched<'r> {
    registry: &'r Registry,
    /// by view
    views: Vec<HashMap<Box<[u8]>, Entity>>,
    missing: RefCell<BTreeSet<Missing>>,
    /// of records and chunks that were fetched
    bytes: u64,
}

/// Something that was asked for: view, key, and the chunk if it is one.
type Missing = (usize, Box<[u8]>, Option<(u8, u64)>);

#[derive(Default)]
struct Entity {
    record: Option<SharedRecord>,
    chunks: HashMap<NodeId, Option<Arc<[u8]>>>,
    /// how often chunks were asked for. A read that walks down from the newest event asks for one after the other
    asked: usize,
    /// whether all chunks that there are are here
    is_whole: bool,
}

/// The chunks of a fetched record.
pub struct FetchedChunks<'f> {
    view: usize,
    key: &'f [u8],
    entity: Option<&'f Entity>,
    missing: &'f RefCell<BTreeSet<Missing>>,
}

impl Entity {
    /// Up to how many chunks the next fetch takes all of them, and not only those that were asked for.
    fn all_up_to(&self) -> usize {
        match self.asked {
            ..CHUNKS_APART => 0,
            CHUNKS_APART..LONG_CHUNKS_APART => CHUNKS_AT_ONCE,
            _ => usize::MAX,
        }
    }
}

impl<'r> Fetched<'r> {
    /// Nothing yet.
    pub fn new(registry: &'r Registry) -> Self {
        Fetched {
            registry,
            views: registry.views.iter().map(|_| HashMap::new()).collect(),
            missing: RefCell::default(),
            bytes: 0,
        }
    }

    /// Notes that a record is wanted.
    pub fn want(&self, view: usize, key: &[u8]) {
        if !self.views[view].contains_key(key) {
            self.missing.borrow_mut().insert((view, key.into(), None));
        }
    }

    /// Fetches records that were asked for, all of one shard and nothing else yet, with the shard's positions. Tells whether these
    /// are exactly those of the records.
    pub async fn fetch_at(&mut self, store: &RedisStore, shard: usize) -> Result<(Positions, bool), StoreError> {
        let keys: Vec<(usize, Box<[u8]>)> = self.missing.take().into_iter().map(|(view, key, _)| (view, key)).collect();
        let name = |(view, key): &(usize, Box<[u8]>)| (self.registry.views[*view].plan.hash, key.clone());
        let names: Vec<SharedKey> = keys.iter().map(name).collect();
        let (records, positions, is_exact) = store.records_at(shard, &names, SHARED_FETCH_BYTES).await?;
        self.take_records(keys, records);
        Ok((positions, is_exact))
    }

    fn take_records(&mut self, keys: Vec<(usize, Box<[u8]>)>, records: Vec<Option<SharedRecord>>) {
        for ((view, key), record) in keys.into_iter().zip(records) {
            self.bytes += record.as_ref().map_or(0, |record| record.body.len() as u64);
            self.views[view].insert(key, Entity { record, ..Entity::default() });
        }
    }

    /// Fetches what was asked for.
    pub async fn fetch(&mut self, store: &RedisStore) -> Result<(), StoreError> {
        let missing = self.missing.take();
        let hash = |view: usize| self.registry.views[view].plan.hash;
        let mut keys: Vec<(usize, Box<[u8]>)> = Vec::new();
        let mut chunks: HashMap<(usize, Box<[u8]>), Vec<NodeId>> = HashMap::new();
        for (view, key, chunk) in missing {
            match chunk {
                None => keys.push((view, key)),
                Some((level, slot)) => chunks.entry((view, key)).or_default().push(NodeId { level, slot }),
            }
        }
        let names: Vec<SharedKey> = keys.iter().map(|(view, key)| (hash(*view), key.clone())).collect();
        let records = store.records_up_to(&names, SHARED_FETCH_BYTES.saturating_sub(self.bytes));
        let reads = chunks.iter().map(|((view, key), ids)| {
            let entity = self.views[*view].get(key);
            let stamp = entity.and_then(|entity| entity.record.as_ref()).map_or([0; 16], |record| record.stamp);
            let all_up_to = entity.map_or(0, Entity::all_up_to);
            let name = (hash(*view), key.clone());
            async move { Ok::<_, StoreError>((*view, key.clone(), store.chunks(&name, stamp, ids, all_up_to).await?)) }
        });
        let reads = futures::stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(SHARED_COMMITS_IN_FLIGHT)
            .try_collect::<Vec<_>>();
        let (records, reads) = futures::future::try_join(records, reads).await?;
        self.take_records(keys, records);
        for read in reads {
            let (view, key, read) = read;
            let entity = self.views[view].entry(key).or_default();
            entity.asked += 1;
            match read {
                ReadChunks::Same { found, are_all } => {
                    let lengths = found.iter().map(|(_, chunk)| chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
                    self.bytes += lengths.sum::<u64>();
                    entity.chunks.extend(found);
                    entity.is_whole |= are_all;
                }
                // Written meanwhile: this is the record to read, and its own chunks.
                ReadChunks::Changed(record) => {
                    *entity = Entity { record, asked: entity.asked, ..Entity::default() };
                }
            }
        }
        if self.bytes > SHARED_FETCH_BYTES { Err(StoreError::TooMuch) } else { Ok(()) }
    }
}

impl Records for Fetched<'_> {
    type Chunks<'c>
        = FetchedChunks<'c>
    where
        Self: 'c;

    fn record(&self, view: usize, key: &[u8]) -> Option<&[u8]> {
        match self.views[view].get(key) {
            Some(entity) => entity.record.as_ref().map(|record| &*record.body),
            None => {
                self.want(view, key);
                None
            }
        }
    }

    fn chunks<'c>(&'c self, view: usize, key: &'c [u8]) -> FetchedChunks<'c> {
        FetchedChunks { view, key, entity: self.views[view].get(key), missing: &self.missing }
    }

    fn is_complete(&self, _: usize) -> bool {
        true
    }

    fn is_lacking(&self) -> bool {
        !self.missing.borrow().is_empty()
    }
}

impl Nodes for FetchedChunks<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        match self.entity.and_then(|entity| entity.chunks.get(&id)) {
            Some(chunk) => chunk.clone(),
            None if self.entity.is_some_and(|entity| entity.is_whole) => None,
            None => {
                self.missing.borrow_mut().insert((self.view, self.key.into(), Some((id.level, id.slot))));
                None
            }
        }
    }
}
