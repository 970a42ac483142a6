//! What an owner remembers of the records of a shard: their bytes and the commits that wrote them. It may be out of date, which
//! the next commit finds out, and it may be forgotten.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use tidemill_features::record::{NodeId, Nodes};

use crate::limits::{SHARDS, SHARED_CACHE_BYTES, SHARED_CACHE_OVERHEAD};
use crate::online::{SharedRecord, Token};

/// A record as it was when it was read or written last.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// None: there is none
    pub record: Option<SharedRecord>,
    /// those that were asked for; None: not there
    pub chunks: HashMap<NodeId, Option<Arc<[u8]>>>,
}

/// A view, by its place in the registry, and the encoded entity key.
pub(super) type CacheKey = (u32, Box<[u8]>);

/// The same, borrowed.
#[derive(Hash)]
pub(super) struct KeyRef<'k>(pub u32, pub &'k [u8]);

impl Equivalent<CacheKey> for KeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

/// Two halves: when the younger one is full, the older one is forgotten. What is used moves into the younger one.
#[derive(Default)]
pub(super) struct Cache {
    young: HashMap<CacheKey, Known>,
    old: HashMap<CacheKey, Known>,
    young_bytes: usize,
}

const HALF: usize = SHARED_CACHE_BYTES / SHARDS / 2;

impl Known {
    /// What is known of a record that was read.
    pub(super) fn of(record: Option<SharedRecord>) -> Known {
        Known { record, chunks: HashMap::new() }
    }

    /// Which version it is.
    pub(super) fn stamp(&self) -> Option<Token> {
        self.record.as_ref().map(|record| record.stamp)
    }

    /// Takes in what a commit wrote. Of a record that is too large for the cache those chunks stay that were just written: the
    /// next events most likely go there, too.
    pub(super) fn wrote(&mut self, written: Vec<(NodeId, Option<Arc<[u8]>>)>) {
        if self.bytes() > HALF {
            self.chunks.clear();
        }
        self.chunks.extend(written);
    }

    fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.values().flatten().map(|chunk| chunk.len() + SHARED_CACHE_OVERHEAD).sum();
        self.record.as_ref().map_or(0, |record| record.body.len()) + chunks + SHARED_CACHE_OVERHEAD
    }
}

impl Cache {
    /// Takes a record out, to be put back when it has been worked on.
    pub(super) fn take(&mut self, key: &CacheKey) -> Option<Known> {
        if let Some(known) = self.young.remove(key) {
            self.young_bytes = self.young_bytes.saturating_sub(known.bytes() + key.1.len());
            return Some(known);
        }
        self.old.remove(key)
    }

    /// Whether something is known of a record.
    pub(super) fn knows(&self, key: KeyRef<'_>) -> bool {
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    /// Remembers a record, unless there is too much of it: then what is read again with it goes. That a chunk is not there is
    /// worth nothing once the record has been worked on.
    pub(super) fn put(&mut self, key: CacheKey, mut known: Known) {
        known.chunks.retain(|_, chunk| chunk.is_some());
        if known.bytes() > HALF {
            known.chunks = HashMap::new();
        }
        self.old.remove(&key);
        self.young_bytes += known.bytes() + key.1.len();
        if let Some(before) = self.young.insert(key, known) {
            self.young_bytes = self.young_bytes.saturating_sub(before.bytes());
        }
        if self.young_bytes > HALF {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

/// The chunks that are known, and which of those that were asked for are not.
pub(super) struct KnownChunks<'k> {
    pub known: &'k Known,
    pub missing: std::cell::RefCell<Vec<NodeId>>,
}

impl Nodes for KnownChunks<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        match self.known.chunks.get(&id) {
            Some(chunk) => chunk.clone(),
            None => {
                self.missing.borrow_mut().push(id);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_key_does_not_grow_without_end() {
        let (mut cache, key): (Cache, CacheKey) = (Cache::default(), (0, [1][..].into()));
        let record = SharedRecord { stamp: [1; 16], body: [2][..].into() };
        cache.put(key.clone(), Known::of(Some(record)));
        let id = |slot: u64| NodeId { level: 1, slot };
        let mut most = 0;
        for slot in 0..1_000 {
            let mut known = cache.take(&key).expect("it was put back");
            known.chunks.insert(id(slot + 1), None);
            known.wrote(vec![(id(slot), Some(vec![0; HALF / 20].into()))]);
            assert!(known.chunks.contains_key(&id(slot)));
            cache.put(key.clone(), known);
            let known = cache.take(&key).expect("it was put back");
            assert!(known.chunks.values().all(Option::is_some));
            most = most.max(known.bytes());
            cache.put(key.clone(), known);
        }
        assert!((HALF / 2..=HALF).contains(&most), "{most}");
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = Cache::default();
        let key = |n: usize| (0, n.to_le_bytes()[..].into());
        let body = vec![7; HALF / 10].into_boxed_slice();
        let known = || Known::of(Some(SharedRecord { stamp: [1; 16], body: body.clone() }));
        cache.put(key(0), known());
        for n in 1..100 {
            cache.put(key(n), known());
            let used = cache.take(&key(0)).expect("it was used a moment ago");
            cache.put(key(0), used);
        }
        let knows = |n: usize| cache.knows(KeyRef(0, &n.to_le_bytes()));
        assert!(knows(99) && !knows(1));
        assert!(cache.young.len() + cache.old.len() < 25, "{}", cache.young.len() + cache.old.len());
    }
}
