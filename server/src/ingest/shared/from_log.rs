//! The one process that owns everything: its event log feeds a shared store.
//!
//! The log has every event before the store has it, so whatever a store forgets is read from there again. What was committed
//! is published to readers of this process as positions and ledgers; the records stay in the store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tidemill_features::definitions::Registry;

use super::owner::Disturbance;
use super::round::{Arrived, Done};
use super::{Engine, PartitionId};
use crate::clock::Clock;
use crate::collections::SharedFeed;
use crate::failure::{Failure, Remedy};
use crate::ingest::applier::{ToApply, note};
use crate::ingest::apply::fitted;
use crate::ingest::changes::Changes;
use crate::ingest::flusher::{Applied, ToKeep};
use crate::ingest::sequencer::Durable;
use crate::ingest::{Begun, Pending};
use crate::limits::{SHARED_BARRIER, SHARED_ROUND_EVENTS, SHARED_SWEEP};
use crate::log::{CommitLog, LogPlace, LogReader};
use crate::online::{Memory, Progress, RecordKey, Updates};

/// What the log and this process give.
pub(in crate::ingest) struct LogParts {
    pub registry: Arc<Registry>,
    pub memory: Arc<Memory>,
    pub clock: Arc<Clock>,
    pub pending: Arc<Vec<Pending>>,
    /// when events became readable
    pub commits: CommitLog,
    pub folder: PathBuf,
    /// what views never saw
    pub begun: Arc<Begun>,
    /// whether views are filled from a log that no longer has what their live values need
    pub force: bool,
    /// where positions in the log are kept
    pub to_keep: SyncSender<ToKeep>,
    /// whether the flusher has nothing to do
    pub idle: Arc<AtomicBool>,
    /// indexes of vectors, which follow the store
    pub neighbours: Option<Arc<SharedFeed>>,
    /// set when the store has what the log had at the start
    pub ready: Arc<AtomicBool>,
    /// told which entities have changed
    pub changes: Arc<Changes>,
}

/// Feeds a shared store from the log.
pub(in crate::ingest) struct FromLog {
    engine: Engine,
    pub(super) parts: LogParts,
    /// the store has everything before this place
    applied_to: LogPlace,
    /// why nothing more is applied
    halted: Option<Failure>,
    barrier_due: bool,
    /// records that have changed since it was told
    changed: Vec<RecordKey>,
}

/// Partitions that the store does not remember as it should, and what it says.
type Disturbed = BTreeMap<PartitionId, Option<Progress>>;

/// Pause of the driver where nothing comes.
const IDLE: Duration = Duration::from_millis(200);

impl FromLog {
    pub(in crate::ingest) fn new(engine: Engine, parts: LogParts, applied_to: LogPlace) -> FromLog {
        engine.trouble().feeds(true);
        FromLog { engine, parts, applied_to, halted: None, barrier_due: true, changed: Vec::new() }
    }

    /// Runs until the sequencer is gone.
    #[allow(clippy::disallowed_methods)]
    pub(in crate::ingest) fn run(mut self, to_apply: &Receiver<ToApply>) {
        let begun = self.begin();
        self.halt_on(begun);
        let (mut swept, mut barred) = (Instant::now(), Instant::now());
        loop {
            let (jobs, is_open) = collect(to_apply);
            if !jobs.is_empty() {
                self.apply(jobs);
            }
            if !is_open {
                break;
            }
            if self.halted.is_none() && swept.elapsed() >= SHARED_SWEEP {
                let swept_all = self.sweep();
                self.halt_on(swept_all);
                swept = Instant::now();
            }
            if self.halted.is_none() && self.barrier_due && barred.elapsed() >= SHARED_BARRIER {
                let told = self.barrier();
                self.halt_on(told);
                barred = Instant::now();
            }
        }
        if self.halted.is_none()
            && let Err(failure) = self.barrier()
        {
            tracing::warn!(%failure, "the next start reads a little more of the event log");
        }
    }

    /// Claims every partition, and feeds what the store lacks.
    fn begin(&mut self) -> Result<(), Failure> {
        self.engine.remember_owners(&self.parts.folder.with_file_name("owners"))?;
        self.engine.prepare()?;
        let known: Vec<PartitionId> = {
            let state = self.parts.memory.read();
            state.positions.keys().map(|(source, partition)| (*source as usize, *partition)).collect()
        };
        for id in known {
            self.engine.claim(id)?;
        }
        self.heal_from_log()?;
        self.changed.clear();
        self.publish_all();
        self.parts.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Feeds what shards lack of owned partitions, until the store keeps it.
    fn heal_from_log(&mut self) -> Result<(), Failure> {
        loop {
            let disturbed = self.replay()?;
            if disturbed.is_empty() {
                return Ok(());
            }
            self.reclaim(&disturbed)?;
        }
    }

    /// Claims partitions again of which the store has forgotten something. Err: they are somebody else's now.
    ///
    /// What is found at one partition has come to others, too. All of it is fed again together, in the order of the log: which
    /// events are late depends on it.
    fn reclaim(&mut self, found: &Disturbed) -> Result<(), Failure> {
        let mut disturbed = self.engine.look_at_all()?;
        for (id, stored) in found {
            disturbed.entry(*id).or_insert_with(|| stored.clone());
        }
        for (id, stored) in &disturbed {
            let name = &self.parts.registry.sources[id.0].name;
            if self.engine.judge(*id, stored.as_ref()) == Disturbance::Fenced {
                return Err(taken_over(&self.parts.registry, *id));
            }
            let next = stored.as_ref().map_or(0, |stored| stored.next);
            tracing::warn!(
                source = name,
                partition = id.1,
                next,
                "the shared store has gone back in time; feeding what it lacks from the event log"
            );
        }
        // In this order: who sees the loss sees that the store is being fed.
        self.engine.trouble().feeds(true);
        self.parts.changes.lose();
        self.engine.prepare()?;
        for id in disturbed.keys() {
            // What the store said may be older than whoever came since.
            self.engine.claim_again(*id)?.ok_or_else(|| taken_over(&self.parts.registry, *id))?;
        }
        Ok(())
    }

    /// Reads the log from where some shard lacks something up to where it was applied.
    fn replay(&mut self) -> Result<Disturbed, Failure> {
        let broken = |e: crate::log::LogError| e.failure("E1018");
        let mut next: BTreeMap<PartitionId, u64> = self.engine.starts();
        let applied = self.applied_positions();
        let lacking: Vec<PartitionId> = next
            .iter()
            .filter(|(id, start)| applied.get(*id).is_some_and(|end| *start < end))
            .map(|(id, _)| *id)
            .collect();
        if lacking.is_empty() {
            return Ok(Disturbed::new());
        }
        let places = lacking.iter().map(|id| self.engine.safe_place(*id).unwrap_or_default());
        let from = places.min().unwrap_or_default();
        let mut reader = LogReader::open(&self.parts.folder, from).map_err(broken)?;
        let (mut arrived, mut events) = (Vec::new(), 0);
        while reader.place() < self.applied_to {
            let Some(read) = reader.next_frame().map_err(broken)? else { break };
            let mut frame = read.frame;
            let Some(source) = self.parts.registry.source(&frame.source) else { continue };
            let id = (source, frame.partition);
            let Some(expected) = next.get_mut(&id).filter(|next| **next < frame.first_offset + frame.consumed) else {
                continue;
            };
            if frame.first_offset > *expected {
                arrived.push(self.without(id, (*expected, frame.first_offset))?);
            }
            *expected = frame.first_offset + frame.consumed;
            fitted(&mut frame, &self.parts.registry.sources[source]);
            events += frame.batches.iter().map(|batch| batch.len()).sum::<usize>();
            arrived.push(Arrived { source, frame, print: None });
            if events >= SHARED_ROUND_EVENTS {
                let done = self.engine.round(&std::mem::take(&mut arrived))?;
                events = 0;
                self.changed.extend(done.changed);
                if !done.disturbed.is_empty() {
                    return Ok(done.disturbed);
                }
            }
        }
        // A partition of which the log has nothing left does not show by a gap before a frame.
        for id in lacking {
            let (from, to) = (next[&id], applied[&id]);
            if from < to {
                arrived.push(self.without(id, (from, to))?);
            }
        }
        let done = self.engine.round(&arrived)?;
        self.changed.extend(done.changed);
        Ok(done.disturbed)
    }

    /// Next offsets up to which the log was read, by partition.
    fn applied_positions(&self) -> BTreeMap<PartitionId, u64> {
        let state = self.parts.memory.read();
        state.positions.iter().map(|((source, partition), next)| ((*source as usize, *partition), *next)).collect()
    }

    /// Commits events that have come through the log, and tells those who wait for them.
    fn apply(&mut self, jobs: Vec<Durable>) {
        let (mut arrived, mut replies, mut end) = (Vec::with_capacity(jobs.len()), Vec::new(), self.applied_to);
        for Durable { source, frame, end: behind, reply } in jobs {
            end = behind;
            replies.extend(reply);
            arrived.push(Arrived { source, frame, print: None });
        }
        if self.halted.is_none() {
            let committed = self.commit(&arrived, end);
            self.halt_on(committed);
        }
        for (reply, receipt) in replies {
            let _ = reply.send(match &self.halted {
                None => Ok(receipt),
                Some(failure) => Err(failure.clone()),
            });
        }
    }

    fn commit(&mut self, arrived: &[Arrived], end: LogPlace) -> Result<(), Failure> {
        for of in arrived {
            let id = of.partition();
            if !self.engine.owns(id) {
                let start = self.engine.claim_again(id)?.ok_or_else(|| taken_over(&self.parts.registry, id))?;
                if of.frame.first_offset > start {
                    return Err(lost(&self.parts.registry, id, start, of.frame.first_offset));
                }
            }
        }
        let mut done = self.engine.round(arrived)?;
        self.changed.append(&mut done.changed);
        self.applied_to = end;
        self.barrier_due = true;
        let is_whole = done.disturbed.is_empty();
        let mut followed = done.followed.clone();
        let disturbed = self.publish(arrived, done);
        if !is_whole {
            self.reclaim(&disturbed)?;
            self.heal_from_log()?;
            self.publish_all();
            // All that was fed again is read by the next pass, not here.
            self.parts.neighbours.iter().for_each(|neighbours| neighbours.doubt());
            followed.clear();
        }
        // Who is told that events are readable finds their vectors, too.
        self.parts.neighbours.iter().for_each(|neighbours| neighbours.follow(&followed));
        for of in arrived {
            self.parts.pending[of.source].applied(of.frame.events(), of.frame.accepted_at);
        }
        let ends: Vec<_> = arrived.iter().map(|of| ((of.source as u32, of.frame.partition), of.end())).collect();
        self.parts.changes.tell(end, &ends, std::mem::take(&mut self.changed));
        Ok(())
    }

    /// Publishes what a round did. What is disturbed is published with the rest: it is fed again before anybody is told.
    fn publish(&mut self, arrived: &[Arrived], done: Done) -> Disturbed {
        let mut ends: BTreeMap<PartitionId, u64> = BTreeMap::new();
        ends.extend(arrived.iter().map(|of| (of.partition(), of.end())));
        let updates = Updates {
            positions: ends.iter().map(|(id, end)| ((id.0 as u32, id.1), *end)).collect(),
            sources: done.sources.iter().map(|(source, ledger)| (*source as u32, *ledger)).collect(),
            views: done.views.iter().map(|(view, totals)| (*view as u32, totals.ledger)).collect(),
            elsewhere: done
                .views
                .iter()
                .map(|(view, totals)| (*view as u32, (totals.entities, totals.bytes)))
                .collect(),
            row_errors: done.row_errors,
            ..Updates::default()
        };
        let LogParts { memory, clock, commits, registry, .. } = &mut self.parts;
        memory.publish_noted(updates, || {
            for ((source, partition), end) in &ends {
                let of = &registry.sources[*source];
                if of.is_live(*partition) {
                    note(commits, clock, &of.name, *partition, *end);
                }
            }
        });
        done.disturbed
    }

    /// Publishes what became of all events, as the store says it.
    fn publish_all(&mut self) {
        let (sources, views) = self.engine.totals();
        self.parts.memory.restate(&sources, &views);
        self.engine.trouble().feeds(false);
        self.barrier_due = true;
    }

    fn sweep(&mut self) -> Result<(), Failure> {
        let (disturbed, were_all) = self.engine.sweep()?;
        if disturbed.is_empty() {
            if were_all {
                self.parts.changes.look_is_good();
            }
            return Ok(());
        }
        self.reclaim(&disturbed)?;
        self.heal_from_log()?;
        // Followers go back to before the loss, and find these keys there.
        self.changed.clear();
        self.publish_all();
        Ok(())
    }

    /// Tells the store and this machine's disk how far everything is.
    fn barrier(&mut self) -> Result<(), Failure> {
        let disturbed = self.engine.barrier(Some(self.applied_to))?;
        if !disturbed.is_empty() {
            self.reclaim(&disturbed)?;
            self.heal_from_log()?;
            self.publish_all();
            return Ok(());
        }
        if !self.parts.idle.swap(false, Ordering::Acquire) {
            return Ok(());
        }
        self.barrier_due = false;
        let LogParts { registry, memory, clock, .. } = &self.parts;
        let state = memory.read();
        let named = |((source, partition), next): (&(u32, u32), &u64)| {
            ((registry.sources[*source as usize].name.clone(), *partition), *next)
        };
        let sources =
            registry.sources.iter().zip(&state.sources).map(|(source, ledger)| (source.name.clone(), *ledger));
        let applied = Applied {
            clock: clock.now(),
            applied_to: self.applied_to,
            positions: state.positions.iter().map(named).collect(),
            sources: sources.collect(),
            views: Vec::new(),
            changes: Default::default(),
            switched: Vec::new(),
            told: Vec::new(),
        };
        drop(state);
        let _ = self.parts.to_keep.send(ToKeep::Applied(Box::new(applied)));
        Ok(())
    }

    fn halt_on(&mut self, result: Result<(), Failure>) {
        let Err(failure) = result else { return };
        tracing::error!(%failure, "nothing more is applied to the shared store");
        for pending in self.parts.pending.iter() {
            *pending.halted.lock() = Some(failure.to_string());
        }
        self.halted = Some(failure);
    }
}

/// Somebody else feeds the store now.
fn taken_over(registry: &Registry, (source, partition): PartitionId) -> Failure {
    let name = &registry.sources[source].name;
    let message = format!(
        "another process has taken over {name}:{partition}; this one takes nothing more in. Stop one of the two"
    );
    Failure::new(Remedy::Unavailable, "E1063", message)
}

/// Events that nobody can feed any more.
pub(super) fn lost(registry: &Registry, (source, partition): PartitionId, from: u64, to: u64) -> Failure {
    let name = &registry.sources[source].name;
    let message = format!(
        "the shared store lacks events {from} to {} of {name}:{partition}, and the event log does not have them any more",
        to - 1
    );
    Failure::internal("E1064", message)
}

/// What has come, as much of it as goes into one round. False: nothing will come any more.
fn collect(to_apply: &Receiver<ToApply>) -> (Vec<Durable>, bool) {
    let (mut jobs, mut events) = (Vec::new(), 0);
    let mut next = match to_apply.recv_timeout(IDLE) {
        Ok(first) => first,
        Err(RecvTimeoutError::Timeout) => return (jobs, true),
        Err(RecvTimeoutError::Disconnected) => return (jobs, false),
    };
    loop {
        // Nothing is built where the records are shared.
        if let ToApply::Durable(job) = next {
            events += job.frame.consumed as usize;
            jobs.push(job);
        }
        if events >= SHARED_ROUND_EVENTS {
            return (jobs, true);
        }
        match to_apply.try_recv() {
            Ok(more) => next = more,
            Err(_) => return (jobs, true),
        }
    }
}

/// Where events do not come through the log, but bad ones are kept there: they need nothing more.
pub(in crate::ingest) fn take_letters(letters: &Receiver<ToApply>, pending: &[Pending]) {
    while let Ok(job) = letters.recv() {
        let ToApply::Durable(Durable { source, frame, reply, .. }) = job else { continue };
        pending[source].applied(frame.events(), frame.accepted_at);
        if let Some((reply, receipt)) = reply {
            let _ = reply.send(Ok(receipt));
        }
    }
}
