//! The applier: folds durable events into records, publishes them, hands changes to the state store now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Instant;

use hashbrown::HashMap;
use tidemill_features::definitions::Registry;

use super::apply::apply_batch;
use super::sequencer::Durable;
use crate::clock::Clock;
use crate::limits::FLUSH_EVERY;
use crate::log::LogPlace;
use crate::online::{ChunkKey, Embedded, Flush, Memory, Meta, RecordKey, SourceLedger, Updates};

pub(super) struct Applier {
    registry: Arc<Registry>,
    memory: Arc<Memory>,
    clock: Arc<Clock>,
    views_of_source: std::collections::HashMap<usize, Vec<usize>>,
    /// meta ids by place in the registry
    view_ids: Vec<u32>,
    meta: Meta,
    flushes: SyncSender<Flush>,
    pending: Arc<Vec<AtomicU64>>,
    changed_records: HashMap<RecordKey, Box<[u8]>>,
    changed_chunks: HashMap<ChunkKey, Option<Arc<[u8]>>>,
    applied_to: LogPlace,
    unflushed: bool,
}

/// Writes changes to the state store, on a thread of its own.
pub(super) struct Flusher {
    pub store: Embedded,
}

impl Flusher {
    pub(super) fn run(self, flushes: &Receiver<Flush>) {
        while let Ok(flush) = flushes.recv() {
            let definitions: BTreeMap<u32, u64> =
                flush.meta.views.iter().map(|(hash, view)| (view.id, *hash)).collect();
            if let Err(error) = self.store.commit(&flush, &definitions) {
                // The log has everything: a new start derives the state from it.
                tracing::error!(%error, "E1015: the state store cannot be written; stopping");
                std::process::exit(1);
            }
        }
        if let Err(error) = self.store.sync() {
            tracing::warn!(%error, "the state store was not synced; the next start replays more of the log");
        }
    }
}

impl Applier {
    pub(super) fn new(
        registry: Arc<Registry>,
        memory: Arc<Memory>,
        clock: Arc<Clock>,
        meta: Meta,
        flushes: SyncSender<Flush>,
        pending: Arc<Vec<AtomicU64>>,
    ) -> Self {
        let view_ids = registry.views.iter().map(|view| meta.views.get(&view.plan.hash).map_or(0, |v| v.id)).collect();
        Applier {
            views_of_source: registry.views_of_source(),
            view_ids,
            applied_to: meta.applied_to,
            registry,
            memory,
            clock,
            meta,
            flushes,
            pending,
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
                Some(batch) => match apply_batch(&self.registry, &self.memory, source, &views, batch) {
                    Ok(updates) => updates,
                    Err(error) => {
                        tracing::error!(%error, "E1016: a record is damaged; stopping, the next start derives it from the log");
                        std::process::exit(1);
                    }
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
            self.memory.publish(updates);
        }
        self.applied_to = end;
        self.unflushed = true;
        self.pending[source].fetch_sub(frame.consumed, Ordering::Relaxed);
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
        let flush = self.next_flush();
        match self.flushes.try_send(flush) {
            Ok(()) => {
                self.unflushed = false;
                true
            }
            Err(TrySendError::Full(flush) | TrySendError::Disconnected(flush)) => {
                self.changed_records.extend(flush.records);
                self.changed_chunks.extend(flush.chunks);
                self.meta.sequence -= 1;
                false
            }
        }
    }

    fn next_flush(&mut self) -> Flush {
        let state = self.memory.read();
        self.meta.sequence += 1;
        self.meta.clock = self.clock.now();
        self.meta.applied_to = self.applied_to;
        for ((source, partition), next) in &state.positions {
            let name = self.registry.sources[*source as usize].name.clone();
            self.meta.positions.insert((name, *partition), *next);
        }
        for (source, ledger) in self.registry.sources.iter().zip(&state.sources) {
            self.meta.sources.insert(source.name.clone(), *ledger);
        }
        for (view, ledger) in self.registry.views.iter().zip(&state.views) {
            if let Some(meta) = self.meta.views.get_mut(&view.plan.hash) {
                (meta.ledger, meta.applied_to) = (*ledger, self.applied_to);
            }
        }
        Flush {
            records: self.changed_records.drain().collect(),
            chunks: self.changed_chunks.drain().collect(),
            meta: self.meta.clone(),
        }
    }
}
