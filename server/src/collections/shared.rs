//! Collections beside a shared store: they follow the records that lie there, whichever process writes them.
//!
//! The store says of each shard which vectors have changed since a commit, and whether that commit is still part of its past
//! (`online/redis/changes.rs`). If it is not (a failover, an older copy, FLUSHALL), the shard is read anew, and what it no longer
//! has leaves the index. One pass over all shards comes after the other; the process that commits everything itself also follows
//! each of its commits before it tells anybody of it.
//!
//! An index is searched only while it is known to have everything that all shards had at its positions. While it is filled, and
//! while the store is away, searches read the records themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tidemill_features::definitions::Registry;
use tokio::runtime::Handle;

use super::Collections;
use super::collection::{Collection, Opened, keys_of};
use super::entry::{Entries, Entry, damaged};
use super::ordered::encoded;
use crate::clock::Clock;
use crate::failure::{Failure, Remedy};
use crate::limits::{
    COLLECTION_WRITE_ROWS, FOLLOW_EVERY, FOLLOW_LATE, FOLLOW_PATIENCE, FOLLOW_SHARDS_AT_ONCE, SETTLE_ROUNDS, SHARDS,
    SHARED_FETCHES,
};
use crate::online::{Change, Changes, Fetched, Memory, Records, RedisStore, SharedKey, StoreError};
use crate::place::shard_of;

/// See above.
pub struct SharedFeed {
    collections: Arc<Collections>,
    memory: Arc<Memory>,
    clock: Arc<Clock>,
    store: RedisStore,
    runtime: Handle,
    /// by shard: the last commit whose changes are in. Whoever changes indexes holds it
    seen: Mutex<Vec<Option<Change>>>,
    /// next offsets by source and partition: everything before is in
    positions: Mutex<BTreeMap<(u32, u32), u64>>,
    /// whether a commit has to be followed at once: it may come too late for the pass over all shards that is under way
    hears: AtomicBool,
    /// whether the indexes have everything before the positions
    is_whole: AtomicBool,
    /// whether commits were not followed, because a pass was under way for long: it may have come too early to their shards
    has_missed: AtomicBool,
    /// when the last pass ended, microseconds
    passed_at: AtomicI64,
}

/// Pause between two looks at whether the process stops.
const GLANCE: Duration = Duration::from_millis(50);

fn away(error: StoreError) -> Failure {
    Failure::new(Remedy::Unavailable, "E2060", format!("the shared store cannot be read: {error}"))
}

impl SharedFeed {
    /// Nothing is followed yet; None where there is nothing to follow.
    pub fn new(
        collections: Arc<Collections>,
        (memory, clock): (Arc<Memory>, Arc<Clock>),
        (store, runtime): (RedisStore, Handle),
    ) -> Option<Self> {
        let seen = Mutex::new(vec![None; SHARDS]);
        let (positions, hears, is_whole, has_missed, passed_at) = Default::default();
        let feed = SharedFeed {
            collections,
            memory,
            clock,
            store,
            runtime,
            seen,
            positions,
            hears,
            is_whole,
            has_missed,
            passed_at,
        };
        let is_needed = feed.collections.indexed().next().is_some();
        is_needed.then_some(feed)
    }

    /// One pass after the other, until the process stops.
    pub fn run(&self, stopping: &AtomicBool) {
        while !stopping.load(Ordering::Relaxed) {
            let was_whole = self.is_whole();
            let settled = |()| (0..self.collections.list.len()).try_for_each(|at| self.settle(at).map(drop));
            match self.pass(stopping).and_then(settled) {
                Ok(()) if !was_whole && self.is_whole() => tracing::info!("vectors of the shared store are searched"),
                Ok(()) => {}
                Err(failure) => tracing::debug!(%failure, "vectors were not followed"),
            }
            let mut left = if self.is_whole() { FOLLOW_EVERY } else { GLANCE };
            while !left.is_zero() && !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(left.min(GLANCE));
                left = left.saturating_sub(GLANCE);
            }
        }
    }

    /// Looks at all shards. Stops in the midst of it when the process does.
    fn pass(&self, stopping: &AtomicBool) -> Result<(), Failure> {
        let mut seen = self.seen.lock();
        // What is published as committed was committed before.
        let positions = self.memory.read().positions.clone();
        let heard = self.hears.load(Ordering::Acquire);
        self.has_missed.store(false, Ordering::SeqCst);
        let shards: Vec<usize> = (0..SHARDS).collect();
        if !self.runtime.block_on(self.take_changes(&mut seen, &shards, stopping))? {
            return Ok(());
        }
        *self.positions.lock() = positions;
        self.passed_at.store(self.clock.now(), Ordering::Release);
        self.hears.store(true, Ordering::Release);
        // What was committed during the first pass, and not followed at once, is in after the second one only.
        self.is_whole.store(heard, Ordering::SeqCst);
        if self.has_missed.load(Ordering::SeqCst) {
            self.is_whole.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// The indexes may lack something: until a pass has looked at all shards, searches read the records.
    pub fn doubt(&self) {
        self.has_missed.store(true, Ordering::SeqCst);
        self.is_whole.store(false, Ordering::SeqCst);
    }

    /// Follows commits in some shards, which have been published. Whoever commits does not wait for a long pass.
    pub fn follow(&self, shards: &[usize]) {
        if shards.is_empty() || !self.hears.load(Ordering::Acquire) {
            return;
        }
        let seen = if self.is_whole() { self.seen.try_lock_for(FOLLOW_PATIENCE) } else { None };
        let Some(mut seen) = seen else { return self.doubt() };
        let positions = self.memory.read().positions.clone();
        match self.runtime.block_on(self.take_changes(&mut seen, shards, &AtomicBool::new(false))) {
            Ok(_) => *self.positions.lock() = positions,
            Err(failure) => {
                self.doubt();
                tracing::debug!(%failure, "vectors were not followed");
            }
        }
    }

    /// Whether the indexes are searched, and not the records.
    pub fn is_whole(&self) -> bool {
        let since = self.clock.now().saturating_sub(self.passed_at.load(Ordering::Acquire));
        self.is_whole.load(Ordering::Acquire) && since <= FOLLOW_LATE
    }

    /// A collection as it is now, and positions of which it has everything; None: read the records.
    #[allow(clippy::type_complexity)]
    pub fn open(&self, at: usize) -> Result<Option<(Opened, BTreeMap<(u32, u32), u64>)>, Failure> {
        if !self.collections.list[at].is_indexed() || !self.is_whole() {
            return Ok(None);
        }
        let positions = self.positions.lock().clone();
        Ok(self.settle(at)?.map(|opened| (opened, positions)))
    }

    /// Takes in what has come to stand, some at a time, and gives the collection as it is then. None: the records have to be read.
    fn settle(&self, at: usize) -> Result<Option<Opened>, Failure> {
        let collection = &self.collections.list[at];
        {
            let (contents, time) = (collection.read(), self.clock.now());
            if !contents.is_due(time) {
                return Ok(contents.opened(time));
            }
        }
        for _ in 0..SETTLE_ROUNDS {
            let _seen = self.seen.lock();
            let time = self.clock.now();
            let due = collection.read().due(time);
            let entries = self.runtime.block_on(self.entries(collection, &keys_of(&due), time))?;
            let mut contents = collection.write();
            contents.take(collection.key_columns(), entries)?;
            contents.forget(&due);
            if !contents.is_due(time) {
                return Ok(contents.opened(time));
            }
        }
        Ok(None)
    }

    fn registry(&self) -> Result<&Registry, Failure> {
        self.collections.registry.as_deref().ok_or_else(damaged)
    }

    /// Takes in what has changed in some shards. False: the process stops.
    async fn take_changes(
        &self,
        seen: &mut [Option<Change>],
        shards: &[usize],
        stopping: &AtomicBool,
    ) -> Result<bool, Failure> {
        let is_first = !self.hears.load(Ordering::Acquire);
        let was_filled =
            is_first && self.collections.list.iter().any(|collection| collection.index().view().live() > 0);
        let asked: Vec<(usize, Option<Change>)> = shards.iter().map(|shard| (*shard, seen[*shard])).collect();
        let asks = asked
            .into_iter()
            .map(|(shard, since)| async move { (shard, since, self.store.changes(shard, since).await) });
        let mut found = futures::stream::iter(asks).buffered(FOLLOW_SHARDS_AT_ONCE);
        let mut doubtful: HashMap<usize, (Option<Change>, HashSet<SharedKey>)> = HashMap::new();
        while let Some((shard, since, changes)) = found.next().await {
            if stopping.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let Changes { are_all, newest, keys } = changes.map_err(away)?;
            // Indexes out of files may have what is no longer there, too.
            if are_all && (since.is_some() || was_filled) {
                self.is_whole.store(false, Ordering::Release);
                if since.is_some() {
                    tracing::warn!(shard, "the shared store has gone back in time; its vectors are read anew");
                }
                doubtful.insert(shard, (newest, keys.iter().cloned().collect()));
            }
            for collection in self.collections.indexed() {
                let hash = collection.definition();
                let own: Vec<Box<[u8]>> =
                    keys.iter().filter(|(view, _)| *view == hash).map(|(_, key)| key.clone()).collect();
                for keys in own.chunks(COLLECTION_WRITE_ROWS) {
                    collection.take(self.entries(collection, keys, self.clock.now()).await?)?;
                }
            }
            // What a shard in doubt no longer has is found below; until then it stays in doubt.
            if !doubtful.contains_key(&shard) {
                seen[shard] = newest;
            }
        }
        if !doubtful.is_empty() {
            self.drop_others(&doubtful)?;
            doubtful.into_iter().for_each(|(shard, (newest, _))| seen[shard] = newest);
        }
        Ok(true)
    }

    /// Drops what shards no longer have.
    fn drop_others(&self, listed: &HashMap<usize, (Option<Change>, HashSet<SharedKey>)>) -> Result<(), Failure> {
        for collection in self.collections.indexed() {
            let mut gone: Entries = Vec::new();
            let view = collection.index().view();
            let known = view.keys().map(|(_, key)| encoded(collection.key_columns(), key).map(Box::from));
            let beyond: Vec<Box<[u8]>> = collection.read().beyond.iter().cloned().collect();
            for key in known.chain(beyond.into_iter().map(Ok)) {
                let key: Box<[u8]> = key.map_err(|_| damaged())?;
                let listed = listed.get(&shard_of(&key)).map(|(_, keys)| keys);
                if listed.is_some_and(|keys| !keys.contains(&(collection.definition(), key.clone()))) {
                    gone.push((key, Entry::default()));
                }
            }
            collection.take(gone)?;
        }
        Ok(())
    }

    /// What stands for some keys: together, or a half after the other where their records are more than fits memory.
    async fn entries(&self, collection: &Collection, keys: &[Box<[u8]>], time: i64) -> Result<Entries, Failure> {
        let (mut all, mut parts) = (Vec::with_capacity(keys.len()), vec![keys]);
        while let Some(part) = parts.pop() {
            match self.entries_at_once(collection, part, time).await? {
                Some(entries) => all.extend(entries),
                None => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(all)
    }

    /// None: too much for memory, and there are several keys.
    async fn entries_at_once(
        &self,
        collection: &Collection,
        keys: &[Box<[u8]>],
        time: i64,
    ) -> Result<Option<Entries>, Failure> {
        let mut fetched = Fetched::new(self.registry()?);
        keys.iter().for_each(|key| fetched.want(collection.view(), key));
        for _ in 0..SHARED_FETCHES {
            match fetched.fetch(&self.store).await {
                Err(StoreError::TooMuch) if keys.len() > 1 => return Ok(None),
                fetched => fetched.map_err(away)?,
            }
            // Each is tried, also behind one of which something is missing: all that is missing is fetched together.
            let read = keys.iter().map(|key| collection.reading().of_key(&fetched, key, time));
            let read: Vec<Result<Entry, Failure>> = read.collect();
            if !fetched.is_lacking() {
                let entries = keys.iter().zip(read).map(|(key, entry)| Ok((key.clone(), entry?)));
                return entries.collect::<Result<_, Failure>>().map(Some);
            }
        }
        let message = "the records of vectors change faster than they can be read; they are read again";
        Err(Failure::new(Remedy::Unavailable, "E2061", message))
    }
}
