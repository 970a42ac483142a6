//! The applier: folds durable events into records, publishes them, hands changes to the state store now and then.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Instant;

use hashbrown::HashMap;
use tidemill_features::definitions::Registry;

use super::Pending;
use super::apply::apply_batch;
use super::build::{Frontier, Handover};
use super::changes::Changes;
use super::flusher::{Applied, ToKeep, stop_to_rebuild};
use super::fold::{Growing, fold};
use super::sequencer::Durable;
use super::walk::Walk;
use crate::clock::Clock;
use crate::collections::Collections;
use crate::failure::Failure;
use crate::limits::FLUSH_EVERY;
use crate::log::{CommitLog, LogPlace};
use crate::online::{ChunkKey, Memory, RecordKey, Shard, SourceLedger, Updates};

pub(super) struct Applier {
    parts: Parts,
    /// those that are fed here: the others are still being built
    views_of_source: std::collections::HashMap<usize, Vec<usize>>,
    to_keep: SyncSender<ToKeep>,
    /// records that have changed since the last flush; what they are then goes into the next one
    changed_records: Vec<RecordKey>,
    /// whether some of them may be there twice
    are_repeated: bool,
    changed_chunks: HashMap<ChunkKey, Option<Arc<[u8]>>>,
    /// number of the next flush
    flush: u32,
    applied_to: LogPlace,
    unflushed: bool,
    /// definitions whose new version serves since the last flush
    switched: Vec<u64>,
    /// told with the next flush
    told: Vec<Sender<()>>,
}

/// What comes to the applier.
pub(super) enum ToApply {
    /// events, in the order of the log
    Durable(Durable),
    /// views that have been built
    Handover(Handover),
}

/// What the applier works on.
pub(super) struct Parts {
    pub registry: Arc<Registry>,
    pub memory: Arc<Memory>,
    /// indexes of vectors, which follow the records
    pub collections: Arc<Collections>,
    pub clock: Arc<Clock>,
    pub pending: Arc<Vec<Pending>>,
    /// when events became readable
    pub commits: CommitLog,
    /// whether the flusher has nothing to do
    pub idle: Arc<AtomicBool>,
    /// a file whose presence makes the next start derive the state anew
    pub rebuild_mark: PathBuf,
    /// by place in the registry: id of the version that serves
    pub view_ids: Vec<u32>,
    /// folder of the log
    pub log_folder: PathBuf,
    /// where builders look
    pub frontier: Arc<Frontier>,
    /// told which entities have changed
    pub changes: Arc<Changes>,
}

/// Notes that events can be read from now on. Where the disk refuses, the next note covers them, with a later time.
pub(super) fn note(commits: &mut CommitLog, clock: &Clock, source: &str, partition: u32, next: u64) {
    if commits.notes(source)
        && let Err(error) = commits.note(source, partition, next, clock.tick())
    {
        tracing::warn!(%error, "the time of a commit was not noted; training sees its events a little later");
    }
}

impl Applier {
    pub(super) fn new(parts: Parts, applied_to: LogPlace, to_keep: SyncSender<ToKeep>) -> Self {
        let mut views_of_source = parts.registry.views_of_source();
        let state = parts.memory.read();
        views_of_source.values_mut().for_each(|views| views.retain(|view| state.complete[*view]));
        drop(state);
        Applier {
            views_of_source,
            applied_to,
            parts,
            to_keep,
            changed_records: Vec::new(),
            are_repeated: false,
            changed_chunks: HashMap::new(),
            flush: 1,
            unflushed: true,
            switched: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Runs until the sequencer and the builder are gone, then flushes what is left.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn run(mut self, to_apply: &Receiver<ToApply>) {
        let mut flushed = Instant::now();
        loop {
            match to_apply.recv_timeout(FLUSH_EVERY) {
                Ok(ToApply::Durable(job)) => self.apply(job),
                Ok(ToApply::Handover(handover)) => self.take_over(handover),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let is_due = flushed.elapsed() >= FLUSH_EVERY || !self.told.is_empty();
            if self.unflushed && is_due && self.flush() {
                flushed = Instant::now();
            }
        }
        let applied = self.next_flush();
        let _ = self.to_keep.send(ToKeep::Applied(Box::new(applied)));
    }

    /// Takes over views that have been built: folds in what is missing up to here, and switches them in, in one step between
    /// two events.
    fn take_over(&mut self, handover: Handover) {
        let Handover { mut growing, row_errors, taken, kept } = handover;
        let caught_up = self.catch_up(&mut growing);
        let replaced = caught_up.map(|more| {
            self.told.push(kept);
            self.switch(growing, row_errors + more)
        });
        let _ = taken.send(replaced);
    }

    /// Gives the number of expressions that could not be computed.
    fn catch_up(&self, growing: &mut [Growing]) -> Result<u64, Failure> {
        let Parts { registry, log_folder, .. } = &self.parts;
        let from = growing.iter().map(|view| view.applied_to).min().unwrap_or(self.applied_to);
        let sources = growing.iter().filter_map(|view| registry.views[view.view].stream.as_ref());
        let sources = sources.map(|stream| stream.source).collect();
        let walk = Walk { folder: log_folder, registry, sources: &sources, from, until: Some(self.applied_to) };
        let mut row_errors = 0;
        walk.each_round(&mut |round| {
            row_errors += fold(registry, growing, &round, 1)
                .map_err(|e| Failure::internal("E1016", format!("a record cannot be read: {e}")))?;
            Ok(())
        })?;
        Ok(row_errors)
    }

    fn switch(&mut self, growing: Vec<Growing>, row_errors: u64) -> Vec<Vec<Shard>> {
        let (mut whole, mut rebuilt) = (Vec::with_capacity(growing.len()), Vec::new());
        for mut view in growing {
            let old = std::mem::replace(&mut self.parts.view_ids[view.view], view.id);
            if view.is_rebuild {
                // The version that has served until now is dropped with the next commit.
                self.changed_records.retain(|(at, _)| *at as usize != view.view);
                self.changed_chunks.retain(|(id, _, _), _| *id != old);
                self.switched.push(view.hash);
                rebuilt.push(view.view);
            }
            let (records, chunks) = view.take_changes();
            self.changed_records.extend(records.into_iter().map(|((_, key), _)| (view.view as u32, key)));
            self.are_repeated = true;
            self.changed_chunks.extend(chunks);
            if let Some(stream) = &self.parts.registry.views[view.view].stream {
                let fed = self.views_of_source.entry(stream.source).or_default();
                if !fed.contains(&view.view) {
                    fed.push(view.view);
                    fed.sort_unstable();
                }
            }
            whole.push((view.view, view.state));
        }
        self.unflushed = true;
        self.parts.memory.publish(Updates { row_errors, ..Updates::default() });
        let Parts { memory, collections, clock, rebuild_mark, .. } = &self.parts;
        let replaced = match collections.refill(&whole, clock.now()) {
            Ok(refill) => memory.replace_noted(whole, || refill.take()),
            Err(failure) => stop_to_rebuild(rebuild_mark, "E1016", &failure.to_string()),
        };
        rebuilt.into_iter().for_each(|view| self.parts.changes.rebuild(view));
        replaced
    }

    fn apply(&mut self, job: Durable) {
        let Durable { source, frame, end, reply } = job;
        let views = self.views_of_source.get(&source).cloned().unwrap_or_default();
        let partition = (source as u32, frame.partition);
        let mut position = frame.first_offset;
        let last = frame.first_offset + frame.consumed;
        let count = frame.batches.len().max(1);
        let mut changed: Vec<RecordKey> = Vec::new();
        for i in 0..count {
            let mut updates = match frame.batches.get(i) {
                Some(batch) => match apply_batch(&self.parts.registry, &self.parts.memory, source, &views, batch) {
                    Ok(updates) => updates,
                    Err(error) => stop_to_rebuild(&self.parts.rebuild_mark, "E1016", &error.to_string()),
                },
                None => Updates::default(),
            };
            let accepted = frame.batches.get(i).map_or(0, |batch| batch.len() as u64);
            let newest_event = frame.batches.get(i).and_then(|batch| batch.times.iter().copied().max());
            let through =
                if i + 1 == count { last } else { frame.batches[i].offsets.last().map_or(position, |o| o + 1) };
            // Rows beyond a history's time fence have an offset, but are no events; nor is what a topic has compacted away.
            let dead_before = |offset: u64| frame.dead.partition_point(|dead| dead.offset < offset);
            let dead_lettered = (dead_before(through) - dead_before(position)) as u64;
            position = through;
            let consumed = accepted + dead_lettered;
            updates.sources.push((source as u32, SourceLedger { consumed, accepted, dead_lettered, newest_event }));
            updates.positions.push((partition, through));
            updates.flush = self.flush;
            self.remember_chunks(&updates);
            if self.parts.changes.is_followed() {
                changed.extend(updates.records.iter().map(|(key, _)| key.clone()));
                changed.extend(updates.chunks.iter().map(|((view, key, _), _)| (*view, key.clone())));
            }
            let Parts { memory, clock, commits, registry, collections, rebuild_mark, .. } = &mut self.parts;
            let of = &registry.sources[source];
            let feed = match collections.feed(&updates, memory, clock.now()) {
                Ok(feed) => feed,
                Err(failure) => stop_to_rebuild(rebuild_mark, "E1016", &failure.to_string()),
            };
            let newly_changed = memory.publish_noted(updates, || {
                if let Err(failure) = feed.take() {
                    tracing::error!(%failure, "vectors were not taken into their index; the next start builds it anew");
                }
                if of.is_live(partition.1) {
                    note(commits, clock, &of.name, partition.1, through);
                }
            });
            self.changed_records.extend(newly_changed);
        }
        self.applied_to = end;
        self.unflushed = true;
        self.parts.frontier.advance(end, frame.events());
        self.parts.changes.tell(end, &[(partition, last)], changed);
        self.parts.pending[source].applied(frame.events(), frame.accepted_at);
        if let Some((reply, receipt)) = reply {
            let _ = reply.send(Ok(receipt));
        }
    }

    /// Keeps changed chunks for the next flush.
    fn remember_chunks(&mut self, updates: &Updates) {
        for ((view, key, id), chunk) in &updates.chunks {
            self.changed_chunks.insert((self.parts.view_ids[*view as usize], key.clone(), *id), chunk.clone());
        }
    }

    /// Hands changes over. False: the last flush is still being written.
    fn flush(&mut self) -> bool {
        if !self.parts.idle.swap(false, Ordering::Acquire) {
            return false;
        }
        self.unflushed = false;
        let applied = self.next_flush();
        self.to_keep.send(ToKeep::Applied(Box::new(applied))).is_ok()
    }

    fn next_flush(&mut self) -> Applied {
        let Parts { registry, memory, clock, view_ids, .. } = &self.parts;
        let state = memory.read();
        let positions = state.positions.iter().map(|((source, partition), next)| {
            let name = registry.sources[*source as usize].name.clone();
            ((name, *partition), *next)
        });
        let sources =
            registry.sources.iter().zip(&state.sources).map(|(source, ledger)| (source.name.clone(), *ledger));
        let fed = self.views_of_source.values().flatten();
        self.flush = self.flush.wrapping_add(1).max(1);
        if std::mem::take(&mut self.are_repeated) {
            self.changed_records.sort_unstable();
            self.changed_records.dedup();
        }
        let as_it_is = |(view, key): RecordKey| {
            let record = state.record(view as usize, &key)?.into();
            Some(((view_ids[view as usize], key), record))
        };
        let records = std::mem::take(&mut self.changed_records).into_iter().filter_map(as_it_is).collect();
        Applied {
            clock: clock.now(),
            applied_to: self.applied_to,
            positions: positions.collect(),
            sources: sources.collect(),
            views: fed.map(|at| (registry.views[*at].plan.hash, state.views[*at])).collect(),
            changes: (records, self.changed_chunks.drain().collect()),
            switched: std::mem::take(&mut self.switched),
            told: std::mem::take(&mut self.told),
        }
    }
}
