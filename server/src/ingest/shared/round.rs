//! One round: events of some partitions, spread over the shards of their entities, and committed there. When all shards have
//! them, the homes of the partitions say so.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use tidemill_features::record::Fate;
use tidemill_features::stream::{EventBatch, Prepared};

use super::cache::{CacheKey, KeyRef, Known};
use super::shard::{Advance, Advanced};
use super::{Engine, PartitionId};
use crate::failure::Failure;
use crate::limits::{SHARDS, SHARED_COMMITS_IN_FLIGHT};
use crate::log::Frame;
use crate::online::{Print, Progress, RecordKey, SourceLedger, Totals, ViewTotals};
use crate::place::shard_of;

/// Events of one partition, in its order: what a frame of the log holds, or what came from Kafka.
pub(crate) struct Arrived {
    /// place of the source in the registry
    pub source: usize,
    /// the events
    pub frame: Frame,
    /// how the last record looks, where they come from a topic
    pub print: Option<Print>,
}

impl Arrived {
    /// Whose they are.
    pub(crate) fn partition(&self) -> PartitionId {
        (self.source, self.frame.partition)
    }

    /// The offset behind them.
    pub(crate) fn end(&self) -> u64 {
        self.frame.first_offset + self.frame.consumed
    }
}

/// What a round did.
#[derive(Default)]
pub(crate) struct Done {
    /// what to add, by view
    pub views: BTreeMap<usize, ViewTotals>,
    /// what to add, by source
    pub sources: BTreeMap<usize, SourceLedger>,
    /// expressions that could not be computed
    pub row_errors: u64,
    /// records that have changed, where anybody wants to know
    pub changed: Vec<RecordKey>,
    /// partitions of which the store did not say what it should have said, and what it said
    pub disturbed: BTreeMap<PartitionId, Option<Progress>>,
    /// shards in which records have changed that are followed
    pub followed: Vec<usize>,
}

/// A batch as its views see it.
pub(super) struct PreparedBatch<'r> {
    pub id: PartitionId,
    pub batch: &'r EventBatch,
    pub views: Vec<(usize, Prepared<'r>)>,
}

/// An event on its way into one record: batch, row, and which of the batch's views.
pub(super) type Entry = (u32, u32, u32);

impl Engine {
    /// Applies events of owned partitions, each of which goes on where it was left or before.
    pub(crate) fn round(&mut self, arrived: &[Arrived]) -> Result<Done, Failure> {
        let registry = self.parts.registry.clone();
        let mut batches = Vec::new();
        let mut ends: BTreeMap<PartitionId, u64> = BTreeMap::new();
        for arrived in arrived {
            let id = arrived.partition();
            let views = self.views_of_source.get(&arrived.source).map_or(&[][..], Vec::as_slice);
            for batch in &arrived.frame.batches {
                let prepare = |view: &usize| {
                    let definition = &registry.views[*view];
                    let stream = definition.stream.as_ref()?;
                    Some((*view, Prepared::new(definition, stream, &registry.sources[id.0], batch)))
                };
                batches.push(PreparedBatch { id, batch, views: views.iter().filter_map(prepare).collect() });
            }
            ends.insert(id, arrived.end());
        }
        let mut done = Done::default();
        let mut home_totals = self.count_at_homes(arrived, &batches);
        let entries = self.spread(&batches);
        let parts = self.parts.clone();
        parts.runtime.clone().block_on(async {
            self.load(&batches, &entries).await?;
            let busy = self.shards.iter_mut().enumerate().zip(&entries).filter(|(_, entries)| !entries.is_empty());
            let advances = busy.map(|((shard, state), entries)| {
                let advance = Advance { parts: &parts, shard, batches: &batches, ends: &ends };
                async move { advance.run(state, entries).await.map(|advanced| (shard, advanced)) }
            });
            let mut advances = futures::stream::iter(advances).buffer_unordered(SHARED_COMMITS_IN_FLIGHT);
            while let Some(advanced) = advances.next().await {
                let (shard, Advanced { views, changed, disturbed, changes_followed }) = advanced?;
                done.changed.extend(changed);
                done.followed.extend(changes_followed.then_some(shard));
                views.into_iter().for_each(|(view, totals)| add(done.views.entry(view).or_default(), &totals));
                done.disturbed.extend(disturbed);
            }
            Ok::<(), Failure>(())
        })?;
        let whole: BTreeSet<PartitionId> =
            ends.keys().filter(|id| !done.disturbed.contains_key(*id)).copied().collect();
        for id in &whole {
            self.shards.iter_mut().for_each(|shard| shard.advance(*id, ends[id]));
        }
        home_totals.retain(|id, _| whole.contains(id));
        self.commit_homes(home_totals, &ends, &mut done)?;
        for id in whole.iter().filter(|id| !done.disturbed.contains_key(*id)) {
            // Nothing before this is missing any more: the log may lose it.
            self.homes.get_mut(id).into_iter().for_each(|home| home.start = home.start.max(ends[id]));
        }
        Ok(done)
    }

    /// What of the events is counted at the homes: all of them by source, and those without a key by view.
    fn count_at_homes(&self, arrived: &[Arrived], batches: &[PreparedBatch<'_>]) -> BTreeMap<PartitionId, Totals> {
        let mut counted: BTreeMap<PartitionId, Totals> = BTreeMap::new();
        for arrived in arrived {
            let id = arrived.partition();
            let next = self.homes.get(&id).map_or(0, |home| home.stored.next);
            let dead = arrived.frame.dead.iter().filter(|dead| dead.offset >= next).count() as u64;
            let totals = counted.entry(id).or_default();
            totals.print = arrived.print.or(totals.print);
            totals.source.add(&SourceLedger { consumed: dead, dead_lettered: dead, ..SourceLedger::default() });
        }
        for of in batches {
            let next = self.homes.get(&of.id).map_or(0, |home| home.stored.next);
            let totals = counted.entry(of.id).or_default();
            let new = of.batch.offsets.partition_point(|offset| *offset < next);
            let times = &of.batch.times[new..];
            let accepted = times.len() as u64;
            let newest_event = times.iter().copied().max();
            totals.source.add(&SourceLedger { consumed: accepted, accepted, dead_lettered: 0, newest_event });
            for (view, prepared) in &of.views {
                let hash = self.parts.registry.views[*view].plan.hash;
                for row in (new..of.batch.len()).filter(|row| prepared.key(*row).is_none()) {
                    totals.views.entry(hash).or_default().ledger.count(Fate::Keyless, of.batch.times[row]);
                }
                if new < of.batch.len() {
                    totals.row_errors += prepared.row_errors;
                }
            }
        }
        counted
    }

    /// By shard: what its records have not seen yet, in the order of the batches.
    fn spread(&self, batches: &[PreparedBatch<'_>]) -> Vec<Vec<Entry>> {
        let mut entries: Vec<Vec<Entry>> = vec![Vec::new(); SHARDS];
        for (at, of) in batches.iter().enumerate() {
            for row in 0..of.batch.len() {
                let offset = of.batch.offsets[row];
                for (nth, (_, prepared)) in of.views.iter().enumerate() {
                    let Some(key) = prepared.key(row) else { continue };
                    let shard = shard_of(key);
                    if self.shards[shard].through(of.id) <= offset {
                        entries[shard].push((at as u32, row as u32, nth as u32));
                    }
                }
            }
        }
        entries
    }

    /// Reads the records that are not known, all at once.
    async fn load(&mut self, batches: &[PreparedBatch<'_>], entries: &[Vec<Entry>]) -> Result<(), Failure> {
        let mut wanted: Vec<(usize, CacheKey)> = Vec::new();
        for (shard, entries) in entries.iter().enumerate() {
            let first = wanted.len();
            for (at, row, nth) in entries {
                let (view, prepared) = &batches[*at as usize].views[*nth as usize];
                let (view, key) = (*view as u32, prepared.key(*row as usize).unwrap_or_default());
                if !self.shards[shard].cache.knows(KeyRef(view, key)) {
                    wanted.push((shard, (view, key.into())));
                }
            }
            wanted[first..].sort_unstable();
        }
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(());
        }
        let hash = |view: u32| self.parts.registry.views[view as usize].plan.hash;
        let keys: Vec<_> = wanted.iter().map(|(_, (view, key))| (hash(*view), key.clone())).collect();
        let records = self.parts.persist(|| self.parts.store.records(&keys)).await?;
        for ((shard, key), record) in wanted.into_iter().zip(records) {
            self.shards[shard].cache.put(key, Known::of(record));
        }
        Ok(())
    }
}

/// Adds what else became of a view's events.
pub(super) fn add(to: &mut ViewTotals, more: &ViewTotals) {
    to.ledger.add(&more.ledger);
    to.entities += more.entities;
    to.bytes += more.bytes;
}
