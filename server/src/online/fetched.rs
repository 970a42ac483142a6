//! What one request has fetched of a shared store.
//!
//! A read does not know beforehand all that it needs: an edge of a window may cut a chunk, a joined row or a looked-up entity
//! has a key that only another record tells. So it is computed with what is there; what was asked for and is not there is
//! noted, fetched all at once, and the read is computed again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use tidemill_features::definitions::Registry;
use tidemill_features::record::{NodeId, Nodes};

use super::StoreError;
use super::records::Records;
use super::redis::{AllChunks, ReadChunks, RedisStore};
use super::shared::{SharedKey, SharedRecord};
use crate::limits::CHUNKS_APART;

/// Records and chunks that are here, and what is missing.
pub struct Fetched<'r> {
    registry: &'r Registry,
    /// by view
    views: Vec<HashMap<Box<[u8]>, Entity>>,
    missing: RefCell<BTreeSet<Missing>>,
}

/// Something that was asked for: view, key, and the chunk if it is one.
type Missing = (usize, Box<[u8]>, Option<(u8, u64)>);

#[derive(Default)]
struct Entity {
    record: Option<SharedRecord>,
    chunks: HashMap<NodeId, Option<Arc<[u8]>>>,
    /// how often chunks were asked for. A read that walks over a ladder asks for one after the other
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

/// What came of asking for chunks.
enum Read {
    Some(ReadChunks),
    All(AllChunks),
}

impl<'r> Fetched<'r> {
    /// Nothing yet.
    pub fn new(registry: &'r Registry) -> Self {
        Fetched {
            registry,
            views: registry.views.iter().map(|_| HashMap::new()).collect(),
            missing: RefCell::default(),
        }
    }

    /// Notes that a record is wanted.
    pub fn want(&self, view: usize, key: &[u8]) {
        if !self.views[view].contains_key(key) {
            self.missing.borrow_mut().insert((view, key.into(), None));
        }
    }

    /// Whether something was asked for that is not here.
    pub fn is_lacking(&self) -> bool {
        !self.missing.borrow().is_empty()
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
        let records = store.records(&names);
        let reads = chunks.iter().map(|((view, key), ids)| {
            let entity = self.views[*view].get(key);
            let stamp = entity.and_then(|entity| entity.record.as_ref()).map_or([0; 16], |record| record.stamp);
            let wants_all = entity.is_some_and(|entity| entity.asked >= CHUNKS_APART);
            let name = (hash(*view), key.clone());
            async move {
                let read = match wants_all {
                    true => Read::All(store.all_chunks(&name, stamp).await?),
                    false => Read::Some(store.chunks(&name, stamp, ids).await?),
                };
                Ok::<_, StoreError>((*view, key.clone(), ids, read))
            }
        });
        let (records, reads) = futures::future::join(records, futures::future::join_all(reads)).await;
        for ((view, key), record) in keys.into_iter().zip(records?) {
            self.views[view].insert(key, Entity { record, ..Entity::default() });
        }
        for read in reads {
            let (view, key, ids, read) = read?;
            let entity = self.views[view].entry(key).or_default();
            entity.asked += 1;
            match read {
                Read::Some(ReadChunks::Same(found)) => entity.chunks.extend(ids.iter().copied().zip(found)),
                Read::All(AllChunks::Same(found)) => {
                    entity.chunks.extend(found.into_iter().map(|(id, chunk)| (id, Some(chunk))));
                    entity.is_whole = true;
                }
                // Written meanwhile: this is the record to read, and its own chunks.
                Read::Some(ReadChunks::Changed(record)) | Read::All(AllChunks::Changed(record)) => {
                    *entity = Entity { record, asked: entity.asked, ..Entity::default() };
                }
            }
        }
        Ok(())
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
