//! The sequencer: gives events their offsets, appends them to the log, acknowledges what is durable.
//!
//! Group commit: whatever has queued up while the last fsync ran goes into the next one together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use tidemill_features::definitions::{Registry, Source};
use tokio::sync::{mpsc, oneshot};

use super::applier::ToApply;
use super::{Begins, Pending, Receipt, Submission, Wait};
use crate::failure::{Failure, Remedy};
use crate::limits::PUSH_QUEUE;
use crate::log::{AppendError, DeadEvent, Frame, LogPlace, LogWriter, SourceSchema};
use crate::source::{BadEvent, Decoded};

/// Durable events on their way to the applier.
pub(super) struct Durable {
    pub source: usize,
    pub frame: Frame,
    /// where the log ends behind them
    pub end: LogPlace,
    pub reply: Option<(oneshot::Sender<Result<Receipt, Failure>>, Receipt)>,
}

pub(super) struct Sequencer {
    pub registry: Arc<Registry>,
    pub log: LogWriter,
    pub next_offsets: HashMap<(usize, u32), u64>,
    pub durable: SyncSender<ToApply>,
    pub pending: Arc<Vec<Pending>>,
    pub disk_full: Arc<AtomicBool>,
    /// told when a segment of the log is closed
    pub closed: SyncSender<()>,
    /// the latest arrival that a source without a declared one was given
    pub latest_arrival: i64,
}

/// A submission that has its place.
struct Placed {
    submission: Submission,
    frame: Frame,
    end: LogPlace,
    receipt: Receipt,
}

impl Sequencer {
    /// Runs until every `Ingest` is gone.
    pub(super) fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        while let Some(first) = submissions.blocking_recv() {
            let mut group = vec![first];
            while group.len() < PUSH_QUEUE {
                match submissions.try_recv() {
                    Ok(next) => group.push(next),
                    Err(_) => break,
                }
            }
            if !self.append(group) {
                return;
            }
        }
    }

    /// Appends a group. False: the applier is gone.
    fn append(&mut self, group: Vec<Submission>) -> bool {
        let before = self.next_offsets.clone();
        let placed: Vec<Placed> = group.into_iter().filter_map(|submission| self.place(submission)).collect();
        if placed.is_empty() {
            return true;
        }
        if let Err(error) = self.log.write() {
            self.next_offsets = before;
            let error = stop_unless_full(error);
            self.disk_full.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the event log cannot grow: pushes are refused until there is room");
            let message = format!("the event log cannot grow ({error}); nothing of this push was kept");
            for placed in placed {
                let failure = Failure::new(Remedy::Exhausted, "E1011", message.clone());
                let _ = placed.submission.reply.send(Err(failure));
            }
            return true;
        }
        self.disk_full.store(false, Ordering::Relaxed);
        let mut waiting = Vec::with_capacity(placed.len());
        for placed in placed {
            let Placed { submission, frame, end, receipt } = placed;
            if submission.wait == Wait::None {
                let _ = submission.reply.send(Ok(receipt));
                waiting.push((submission.source, frame, end, None));
            } else {
                waiting.push((submission.source, frame, end, Some((submission.wait, submission.reply, receipt))));
            }
        }
        match self.log.sync().and_then(|()| self.log.rotate()) {
            Ok(false) => {}
            // Where a message is waiting already, it stands for this segment, too.
            Ok(true) => drop(self.closed.try_send(())),
            // A full disk refuses a new segment only: this one goes on, and the next group tries again.
            Err(error) => {
                let error = stop_unless_full(error);
                tracing::warn!(%error, "no room for a new segment of the event log");
            }
        }
        // They are on the disk, whatever keeps the applier busy: whoever waits for that alone is told before anybody waits for it.
        let told = waiting.into_iter().map(|(source, frame, end, reply)| {
            let reply = match reply {
                Some((Wait::Durable, reply, receipt)) => {
                    let _ = reply.send(Ok(receipt));
                    None
                }
                Some((_, reply, receipt)) => Some((reply, receipt)),
                None => None,
            };
            self.pending[source].add(frame.events(), frame.accepted_at);
            Durable { source, frame, end, reply }
        });
        let told: Vec<Durable> = told.collect();
        told.into_iter().all(|durable| self.durable.send(ToApply::Durable(durable)).is_ok())
    }

    /// Gives a submission its place. None: it has none, and was told so.
    fn place(&mut self, mut submission: Submission) -> Option<Placed> {
        let source = self.registry.sources[submission.source].clone();
        let next = self.next_offsets.entry((submission.source, submission.partition)).or_insert(0);
        match submission.begins {
            None => {}
            // What came before it was refused (a full disk): to take it would leave a hole.
            Some(Begins::At(begins)) if begins != *next => {
                let message = format!("events from offset {begins} on, but the event log goes on at {next}");
                let _ = submission.reply.send(Err(Failure::new(Remedy::Exhausted, "E1051", message)));
                return None;
            }
            Some(Begins::At(_)) => {}
            Some(Begins::Beyond(begins)) => *next = begins.max(*next),
        }
        let first_offset = *next;
        let mut decoded = std::mem::take(&mut submission.decoded);
        if let Some(Begins::Beyond(begins)) = submission.begins {
            decoded.leave_out(first_offset.saturating_sub(begins));
        }
        *next += decoded.consumed;
        // Pushes are decoded side by side and may queue in another order than their clocks; deduplication relies on arrivals
        // that ascend with the offsets.
        if source.is_clocked(submission.partition) {
            self.latest_arrival = self.latest_arrival.max(submission.accepted_at);
            submission.accepted_at = self.latest_arrival;
            decoded.batches.iter_mut().for_each(|batch| batch.arrivals.fill(self.latest_arrival));
        }
        let frame = framed(&source, (submission.partition, first_offset), submission.accepted_at, decoded);
        let receipt = Receipt {
            accepted: frame.batches.iter().map(|batch| batch.len() as u64).sum(),
            dead: frame.dead.clone(),
            partition: submission.partition,
            next_offset: first_offset + frame.consumed,
        };
        let end = self.log.add(&frame);
        Some(Placed { submission, frame, end, receipt })
    }
}

/// Decoded events as a frame, at their place in a partition.
pub(super) fn framed(
    source: &Source,
    (partition, first_offset): (u32, u64),
    accepted_at: i64,
    mut decoded: Decoded,
) -> Frame {
    for batch in &mut decoded.batches {
        batch.partition = partition;
        batch.offsets.iter_mut().for_each(|offset| *offset += first_offset);
    }
    let dead = |bad: BadEvent| DeadEvent {
        offset: first_offset + bad.index,
        code: bad.code,
        reason: bad.reason,
        payload: bad.payload,
    };
    Frame {
        source: source.name.clone(),
        partition,
        first_offset,
        consumed: decoded.consumed,
        accepted_at,
        schema: SourceSchema::of(source),
        batches: decoded.batches,
        dead: decoded.bad.into_iter().map(dead).collect(),
    }
}

/// Ends the process where it is unknown what is on the disk: only a new start can find out.
fn stop_unless_full(error: AppendError) -> std::io::Error {
    match error {
        AppendError::Full(error) => error,
        AppendError::Unknown(error) => {
            tracing::error!(%error, "E1014: the event log could not be made durable; stopping, so that nothing unsure is served");
            std::process::exit(1);
        }
    }
}
