//! The applier: folds durable events into records, publishes them, hands changes to the state store now and then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tidemill_features::definitions::Registry;

use super::Pending;
use super::apply::apply_batch;
use super::retention::Kept;
use super::sequencer::Durable;
use crate::clock::Clock;
use crate::limits::FLUSH_EVERY;
use crate::log::{CommitLog, LogPlace};
use crate::online::{ChunkKey, Embedded, Flush, Memory, Meta, RecordKey, SourceLedger, StoreError, Updates};

pub(super) struct Applier {
    parts: Parts,
    views_of_source: std::collections::HashMap<usize, Vec<usize>>,
    /// meta ids by place in the registry
    view_ids: Vec<u32>,
    flushes: SyncSender<Flush>,
    changed_records: HashMap<RecordKey, Box<[u8]>>,
    changed_chunks: HashMap<ChunkKey, Option<Arc<[u8]>>>,
    applied_to: LogPlace,
    unflushed: bool,
}

/// What the applier works on.
pub(super) struct Parts {
    pub registry: Arc<Registry>,
    pub memory: Arc<Memory>,
    pub clock: Arc<Clock>,
    pub meta: Meta,
    pub pending: Arc<Vec<Pending>>,
    /// when events became readable
    pub commits: CommitLog,
    /// whether the flusher has nothing to do
    pub idle: Arc<AtomicBool>,
    /// a file whose presence makes the next start derive the state anew
    pub rebuild_mark: PathBuf,
}

/// Writes changes to the state store, on a thread of its own.
pub(super) struct Flusher {
    pub store: Embedded,
    pub idle: Arc<AtomicBool>,
    pub rebuild_mark: PathBuf,
    /// for retention: how far the state is safe
    pub kept: Arc<Kept>,
}

/// Pause before a flush is tried again that found no room.
const RETRY: Duration = Duration::from_secs(1);

impl Flusher {
    pub(super) fn run(self, flushes: &Receiver<Flush>) {
        let mut committed = LogPlace::default();
        loop {
            match flushes.recv_timeout(RETRY) {
                Ok(flush) => {
                    self.commit(&flush);
                    committed = flush.meta.applied_to;
                    self.idle.store(true, Ordering::Release);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Only where retention wants to cut: elsewhere the log makes up for what the disk has lost.
            if self.kept.is_wanted() {
                match self.store.sync() {
                    Ok(()) => self.kept.set(committed),
                    Err(error) => tracing::warn!(%error, "the state store was not synced; retention waits"),
                }
            }
        }
        if let Err(error) = self.store.sync() {
            tracing::warn!(%error, "the state store was not synced; the next start replays more of the log");
        }
    }

    fn commit(&self, flush: &Flush) {
        let definitions: BTreeMap<u32, u64> = flush.meta.views.iter().map(|(hash, view)| (view.id, *hash)).collect();
        loop {
            match self.store.commit(flush, &definitions) {
                Ok(()) => return,
                // The log has everything, and reads go on from memory: wait for room.
                Err(StoreError::Full(what)) => {
                    tracing::error!(what, "E1015: the state store has no room; trying again");
                    std::thread::sleep(RETRY);
                }
                Err(error) => stop_to_rebuild(&self.rebuild_mark, "E1015", &error.to_string()),
            }
        }
    }
}

/// Ends the process; the next start derives the state from the log.
fn stop_to_rebuild(mark: &Path, code: &str, what: &str) -> ! {
    tracing::error!(what, "{code}: the state cannot be kept; stopping, the next start derives it from the event log");
    if let Err(error) = std::fs::write(mark, what) {
        tracing::error!(%error, "and {} cannot be written: remove the folder state/ by hand", mark.display());
    }
    std::process::exit(1);
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
    pub(super) fn new(parts: Parts, flushes: SyncSender<Flush>) -> Self {
        let id = |hash: &u64| parts.meta.views.get(hash).map_or(0, |view| view.id);
        Applier {
            views_of_source: parts.registry.views_of_source(),
            view_ids: parts.registry.views.iter().map(|view| id(&view.plan.hash)).collect(),
            applied_to: parts.meta.applied_to,
            parts,
            flushes,
            changed_records: HashMap::new(),
            changed_chunks: HashMap::new(),
            unflushed: true,
        }
    }

    /// Runs until the sequencer is gone, then flushes what is left.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn run(mut self, durable: &Receiver<Durable>) {
        let mut flushed = Instant::now();
        loop {
            match durable.recv_timeout(FLUSH_EVERY) {
                Ok(job) => self.apply(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unflushed && flushed.elapsed() >= FLUSH_EVERY && self.flush() {
                flushed = Instant::now();
            }
        }
        let flush = self.next_flush();
        let _ = self.flushes.send(flush);
    }

    fn apply(&mut self, job: Durable) {
        let Durable { source, frame, end, reply } = job;
        let views = self.views_of_source.get(&source).cloned().unwrap_or_default();
        let partition = (source as u32, frame.partition);
        let mut position = frame.first_offset;
        let last = frame.first_offset + frame.consumed;
        let count = frame.batches.len().max(1);
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
            let consumed = through - position;
            position = through;
            updates.sources.push((
                source as u32,
                SourceLedger { consumed, accepted, dead_lettered: consumed - accepted, newest_event },
            ));
            updates.positions.push((partition, through));
            self.remember(&updates);
            let Parts { memory, clock, commits, registry, .. } = &mut self.parts;
            let name = &registry.sources[source].name;
            memory.publish_noted(updates, || note(commits, clock, name, partition.1, through));
        }
        self.applied_to = end;
        self.unflushed = true;
        self.parts.pending[source].applied(frame.consumed, frame.accepted_at);
        if let Some((reply, receipt)) = reply {
            let _ = reply.send(Ok(receipt));
        }
    }

    /// Keeps changed bytes for the next flush.
    fn remember(&mut self, updates: &Updates) {
        for ((view, key), record) in &updates.records {
            self.changed_records.insert((self.view_ids[*view as usize], key.clone()), record.clone());
        }
        for ((view, key, id), chunk) in &updates.chunks {
            self.changed_chunks.insert((self.view_ids[*view as usize], key.clone(), *id), chunk.clone());
        }
    }

    /// Hands changes over. False: the last flush is still being written.
    fn flush(&mut self) -> bool {
        if !self.parts.idle.swap(false, Ordering::Acquire) {
            return false;
        }
        self.unflushed = false;
        let flush = self.next_flush();
        self.flushes.send(flush).is_ok()
    }

    fn next_flush(&mut self) -> Flush {
        let Parts { registry, memory, clock, meta, .. } = &mut self.parts;
        let state = memory.read();
        meta.sequence += 1;
        meta.clock = clock.now();
        meta.applied_to = self.applied_to;
        for ((source, partition), next) in &state.positions {
            let name = registry.sources[*source as usize].name.clone();
            meta.positions.insert((name, *partition), *next);
        }
        for (source, ledger) in registry.sources.iter().zip(&state.sources) {
            meta.sources.insert(source.name.clone(), *ledger);
        }
        for (view, ledger) in registry.views.iter().zip(&state.views) {
            if let Some(kept) = meta.views.get_mut(&view.plan.hash) {
                (kept.ledger, kept.applied_to) = (*ledger, self.applied_to);
            }
        }
        Flush {
            records: self.changed_records.drain().collect(),
            chunks: self.changed_chunks.drain().collect(),
            meta: meta.clone(),
        }
    }
}
