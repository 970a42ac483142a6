//! Events in one shard: applied to its records in segments that fit a commit, and committed one segment after the other.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use tidemill_features::record::{Applied, Fate, NodeId, apply};

use super::cache::{Cache, CacheKey, Known, KnownChunks};
use super::round::{Entry, PreparedBatch, add};
use super::{PartitionId, Parts};
use crate::failure::Failure;
use crate::limits::SHARED_COMMIT_RECORDS;
use crate::online::{
    Outcome, PartitionStep, Progress, ReadChunks, RecordStep, ShardCommit, SharedKey, SharedRecord, Totals, ViewTotals,
};

/// What an owner holds of a shard.
#[derive(Default)]
pub(crate) struct ShardState {
    pub(super) cache: Cache,
    progress: HashMap<PartitionId, ShardProgress>,
    /// of which partition this process has written something last, and whether that was its home
    last_word: Option<(PartitionId, bool)>,
}

/// How far an owned partition is in a shard.
struct ShardProgress {
    /// what the store says
    stored: Progress,
    /// events before this have been looked at: between what is stored and this, there are none for this shard
    through: u64,
}

/// Brings one shard forward.
pub(super) struct Advance<'r> {
    pub parts: &'r Parts,
    pub shard: usize,
    pub batches: &'r [PreparedBatch<'r>],
    /// next offsets behind the round
    pub ends: &'r BTreeMap<PartitionId, u64>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Advanced {
    pub views: BTreeMap<usize, ViewTotals>,
    /// records, where anybody wants to know
    pub changed: Vec<CacheKey>,
    pub disturbed: BTreeMap<PartitionId, Option<Progress>>,
    /// whether records have changed that are followed
    pub changes_followed: bool,
}

/// A record that is worked on.
struct Work {
    key: CacheKey,
    known: Known,
    entries: Vec<Entry>,
    body: Option<Box<[u8]>>,
    chunks: Vec<(NodeId, Option<std::sync::Arc<[u8]>>)>,
}

/// What became of a segment's events, by partition.
type Deltas = BTreeMap<PartitionId, Totals>;

impl ShardState {
    /// Events of a partition before this have been looked at; nothing of a partition that is not owned is to be looked at.
    pub(super) fn through(&self, id: PartitionId) -> u64 {
        self.progress.get(&id).map_or(u64::MAX, |progress| progress.through)
    }

    /// Tells that there is no event of a partition before an offset which this shard has not seen.
    pub(super) fn advance(&mut self, id: PartitionId, to: u64) {
        if let Some(progress) = self.progress.get_mut(&id) {
            progress.through = progress.through.max(to);
        }
    }

    /// What the store says of an owned partition.
    pub(super) fn stored(&self, id: PartitionId) -> Option<&Progress> {
        self.progress.get(&id).map(|progress| &progress.stored)
    }

    /// Takes in what the store says; what is known of events beyond is forgotten.
    pub(super) fn own(&mut self, id: PartitionId, stored: Progress) {
        let through = stored.next;
        self.progress.insert(id, ShardProgress { stored, through });
    }

    /// Takes in what was committed.
    pub(super) fn committed(&mut self, id: PartitionId, stored: Progress) {
        self.own(id, stored);
        self.last_word = Some((id, false));
    }

    /// Remembers that a home which lies here was written.
    pub(super) fn wrote_home(&mut self, id: PartitionId) {
        self.last_word = Some((id, true));
    }

    /// Of which partition something was written last, and whether that was its home; None: nobody knows any more.
    pub(super) fn last_word(&self) -> Option<(PartitionId, bool)> {
        self.last_word
    }

    /// Gives a partition up.
    pub(super) fn disown(&mut self, id: PartitionId) {
        self.progress.remove(&id);
        self.last_word = self.last_word.filter(|(of, _)| *of != id);
    }

    /// A step that tells the store how far a partition is; None: it knows.
    pub(super) fn barrier(&self, id: PartitionId) -> Option<([u8; 16], Progress)> {
        let ShardProgress { stored, through } = self.progress.get(&id)?;
        let to = Progress { next: *through, sequence: stored.sequence + 1, ..stored.clone() };
        (stored.next < *through).then(|| (stored.state(), to))
    }
}

impl Advance<'_> {
    /// Applies and commits entries of this shard; stops with what belongs to a partition that is disturbed.
    pub(super) async fn run(self, state: &mut ShardState, entries: &[Entry]) -> Result<Advanced, Failure> {
        let mut left = entries.to_vec();
        let mut advanced = Advanced::default();
        while !left.is_empty() {
            let end = self.segment_end(&left);
            match self.segment(state, &left[..end], &left[end..], &mut advanced).await? {
                None => drop(left.drain(..end)),
                Some((id, stored)) => {
                    advanced.disturbed.insert(id, stored);
                    left.retain(|entry| self.batches[entry.0 as usize].id != id);
                }
            }
        }
        Ok(advanced)
    }

    fn key(&self, (at, row, nth): &Entry) -> (u32, &[u8]) {
        let (view, prepared) = &self.batches[*at as usize].views[*nth as usize];
        (*view as u32, prepared.key(*row as usize).unwrap_or_default())
    }

    /// How many entries fit a commit. Those of one event stay together, since they have one offset.
    fn segment_end(&self, entries: &[Entry]) -> usize {
        let mut keys = hashbrown::HashSet::new();
        let mut at = 0;
        for event in entries.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            keys.extend(event.iter().map(|entry| self.key(entry)));
            if at > 0 && keys.len() > SHARED_COMMIT_RECORDS {
                return at;
            }
            at += event.len();
        }
        at
    }

    /// One commit. Gives the partition that is disturbed, if one is.
    async fn segment(
        &self,
        state: &mut ShardState,
        entries: &[Entry],
        later: &[Entry],
        advanced: &mut Advanced,
    ) -> Result<Option<(PartitionId, Option<Progress>)>, Failure> {
        let mut works = self.works(state, entries).await?;
        loop {
            let mut deltas = Deltas::new();
            for work in &mut works {
                self.apply(work, &mut deltas).await?;
            }
            let (commit, ids) = self.commit(state, &works, &deltas, (entries, later));
            match self.parts.persist(|| self.parts.store.commit(&commit)).await? {
                Outcome::Done => {
                    advanced.changes_followed |= commit.changes_followed();
                    for (id, step) in ids.iter().zip(commit.partitions) {
                        state.committed(*id, step.to);
                    }
                    if !self.parts.registry.sinks.is_empty() {
                        let changed = works.iter().filter(|work| work.body.is_some());
                        advanced.changed.extend(changed.map(|work| work.key.clone()));
                    }
                    self.remember(state, works, commit.batch);
                    self.count(&deltas, &mut advanced.views);
                    return Ok(None);
                }
                Outcome::Moved { step, stored } => {
                    works.into_iter().for_each(|work| state.cache.put(work.key, work.known));
                    return Ok(Some((ids[step], stored)));
                }
                Outcome::Conflict(changed) => {
                    for (place, record) in changed {
                        if let Some(work) = works.get_mut(place) {
                            work.known = Known::of(record);
                        }
                    }
                }
            }
        }
    }

    /// The records of a segment, each with its entries in order.
    async fn works(&self, state: &mut ShardState, entries: &[Entry]) -> Result<Vec<Work>, Failure> {
        let mut works: Vec<Work> = Vec::new();
        let mut places: HashMap<(u32, &[u8]), usize> = HashMap::new();
        for entry in entries {
            let (view, key) = self.key(entry);
            let place = *places.entry((view, key)).or_insert_with(|| {
                let key: CacheKey = (view, key.into());
                works.push(Work { known: Known::default(), key, entries: Vec::new(), body: None, chunks: Vec::new() });
                works.len() - 1
            });
            works[place].entries.push(*entry);
        }
        // All of them were read at the beginning of the round; a cache that is full may have forgotten some since.
        let mut forgotten = Vec::new();
        for (place, work) in works.iter_mut().enumerate() {
            match state.cache.take(&work.key) {
                Some(known) => work.known = known,
                None => forgotten.push(place),
            }
        }
        if !forgotten.is_empty() {
            let keys: Vec<SharedKey> = forgotten.iter().map(|place| self.shared_key(&works[*place].key)).collect();
            let records = self.parts.persist(|| self.parts.store.records(&keys)).await?;
            for (place, record) in forgotten.into_iter().zip(records) {
                works[place].known = Known::of(record);
            }
        }
        Ok(works)
    }

    fn shared_key(&self, (view, key): &CacheKey) -> SharedKey {
        (self.parts.registry.views[*view as usize].plan.hash, key.clone())
    }

    /// Applies a record's events to what is known of it; chunks that are needed are read.
    async fn apply(&self, work: &mut Work, deltas: &mut Deltas) -> Result<(), Failure> {
        let view = &self.parts.registry.views[work.key.0 as usize];
        loop {
            let prepared = |entry: &Entry| &self.batches[entry.0 as usize].views[entry.2 as usize].1;
            let events: Vec<_> = work.entries.iter().map(|entry| prepared(entry).incoming(entry.1 as usize)).collect();
            let chunks = KnownChunks { known: &work.known, missing: Default::default() };
            let record = work.known.record.as_ref().map(|record| &*record.body);
            let applied = apply(&view.plan, record, &events, &chunks);
            let missing = chunks.missing.into_inner();
            let Some(stamp) = work.known.stamp().filter(|_| !missing.is_empty()) else {
                let applied = applied.map_err(|e| {
                    Failure::internal("E1016", format!("a record of view `{}` cannot be read: {e}", view.name))
                })?;
                self.take(work, applied, deltas);
                return Ok(());
            };
            let key = self.shared_key(&work.key);
            match self.parts.persist(|| self.parts.store.chunks(&key, stamp, &missing, 0)).await? {
                ReadChunks::Same { found, .. } => work.known.chunks.extend(found),
                ReadChunks::Changed(record) => work.known = Known::of(record),
            }
        }
    }

    fn take(&self, work: &mut Work, applied: Applied, deltas: &mut Deltas) {
        let view = &self.parts.registry.views[work.key.0 as usize];
        for (fate, entry) in applied.fates.iter().zip(&work.entries) {
            let of = &self.batches[entry.0 as usize];
            let totals = deltas.entry(of.id).or_default().views.entry(view.plan.hash).or_default();
            totals.ledger.count(*fate, of.batch.times[entry.1 as usize]);
            debug_assert_ne!(*fate, Fate::Keyless);
        }
        let old = work.known.record.as_ref().map(|record| &record.body);
        // A chunk changes only together with its record, whose stamp then guards both.
        work.body = match applied.record {
            Some(record) => Some(record.into_boxed_slice()),
            None if applied.chunks.is_empty() => None,
            None => old.cloned(),
        };
        work.chunks = applied.chunks;
        let (Some(body), Some(first)) = (&work.body, work.entries.first()) else { return };
        let length = |chunk: &Option<std::sync::Arc<[u8]>>| chunk.as_ref().map_or(0, |chunk| chunk.len() as i64);
        let before = |id: &NodeId| work.known.chunks.get(id).map_or(0, length);
        let of_chunks: i64 = work.chunks.iter().map(|(id, chunk)| length(chunk) - before(id)).sum();
        let of_record = body.len() as i64 - old.map_or(-(work.key.1.len() as i64), |old| old.len() as i64);
        let id = self.batches[first.0 as usize].id;
        let totals = deltas.entry(id).or_default().views.entry(view.plan.hash).or_default();
        totals.entities += u64::from(old.is_none());
        totals.bytes += of_record + of_chunks;
    }

    /// The commit of a segment, and the partitions of its steps.
    fn commit(
        &self,
        state: &ShardState,
        works: &[Work],
        deltas: &Deltas,
        (entries, later): (&[Entry], &[Entry]),
    ) -> (ShardCommit, Vec<PartitionId>) {
        let batch = rand::random();
        let of = |entry: &Entry| &self.batches[entry.0 as usize];
        let mut ids: Vec<PartitionId> = entries.iter().map(|entry| of(entry).id).collect();
        ids.sort_unstable();
        ids.dedup();
        let step = |id: &PartitionId| {
            // Whatever comes later begins at its offset; everything before that is in.
            let first_later = later.iter().find(|entry| of(entry).id == *id);
            let next = first_later.map(|entry| of(entry).batch.offsets[entry.1 as usize]);
            let next = next.unwrap_or_else(|| self.ends.get(id).copied().unwrap_or_default());
            let stored = state.stored(*id).cloned().unwrap_or_default();
            let from = stored.state();
            let mut to = Progress { batch, next, sequence: stored.sequence + 1, ..stored };
            deltas.get(id).into_iter().for_each(|delta| to.totals.add(delta));
            PartitionStep { partition: self.parts.named(*id), from, to }
        };
        let record = |work: &Work| RecordStep {
            key: self.shared_key(&work.key),
            from: work.known.stamp(),
            body: work.body.clone(),
            chunks: work.chunks.clone(),
            is_followed: self.parts.registry.is_followed(work.key.0 as usize),
        };
        let partitions = ids.iter().map(step).collect();
        let records = works.iter().map(record).collect();
        (ShardCommit { shard: self.shard, batch, partitions, records, at_home: false }, ids)
    }

    fn remember(&self, state: &mut ShardState, works: Vec<Work>, stamp: [u8; 16]) {
        for Work { key, mut known, body, chunks, .. } in works {
            if let Some(body) = body {
                known.record = Some(SharedRecord { stamp, body });
                known.wrote(chunks);
            }
            state.cache.put(key, known);
        }
    }

    fn count(&self, deltas: &Deltas, views: &mut BTreeMap<usize, ViewTotals>) {
        for (hash, totals) in deltas.values().flat_map(|delta| &delta.views) {
            let view = self.parts.registry.views.iter().position(|view| view.plan.hash == *hash);
            if let Some(view) = view {
                add(views.entry(view).or_default(), totals);
            }
        }
    }
}
