//! Walking over the log for whoever derives state from it: one thread reads and decodes, the caller works on what it has read.
//!
//! Events come in rounds, far more at once than a push has: the more events of a key are folded into its record together, the
//! less each of them costs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use tidemill_features::definitions::Registry;
use tidemill_features::expression::Column;
use tidemill_features::stream::EventBatch;

use super::apply::fitted;
use crate::failure::Failure;
use crate::limits::{ROUND_BYTES, ROUND_EVENTS};
use crate::log::{LogError, LogPlace, LogReader, ReadFrame};
use crate::online::SourceLedger;

/// What is walked over.
pub(super) struct Walk<'w> {
    pub folder: &'w Path,
    pub registry: &'w Registry,
    /// places of the sources whose events are asked for
    pub sources: &'w HashSet<usize>,
    pub from: LogPlace,
    /// the walk ends there, and nothing behind is even looked at: it may not be durable. None: at the end of the log
    pub until: Option<LogPlace>,
}

/// Adjacent frames of the log.
#[derive(Default)]
pub(super) struct Round {
    /// events that were asked for, in the order of the log
    pub batches: Vec<RoundBatch>,
    /// what all frames said of themselves
    pub frames: Vec<SeenFrame>,
    /// where the next round begins
    pub end: LogPlace,
    events: usize,
    bytes: usize,
}

/// Some events of a frame.
pub(super) struct RoundBatch {
    /// place in the registry
    pub source: usize,
    /// where the frame begins
    pub place: LogPlace,
    pub batch: EventBatch,
}

/// A frame without its events.
pub(super) struct SeenFrame {
    pub place: LogPlace,
    /// its name, for it may not be declared now
    pub source: String,
    pub partition: u32,
    /// the offset behind the last of its events
    pub next_offset: u64,
    pub accepted_at: i64,
    pub ledger: SourceLedger,
}

/// A damaged log, for whoever walks over it.
pub(super) fn broken(error: LogError) -> Failure {
    Failure::internal("E1018", error.to_string())
}

impl Walk<'_> {
    /// Calls back with round after round, until `visit` fails. Gives the place where the walk ended.
    pub(super) fn each_round(&self, visit: &mut dyn FnMut(Round) -> Result<(), Failure>) -> Result<LogPlace, Failure> {
        // One round is worked on, one waits, one is being read.
        let (read, rounds) = sync_channel(1);
        std::thread::scope(move |scope| {
            let reader = scope.spawn(move || self.read(&read));
            while let Ok(round) = rounds.recv() {
                visit(round)?;
            }
            drop(rounds);
            let end = reader.join().map_err(|_| Failure::internal("E1018", "reading the event log panicked"))?;
            end.map_err(broken)
        })
    }

    /// Reads until the end, or until nobody wants more.
    fn read(&self, rounds: &SyncSender<Round>) -> Result<LogPlace, LogError> {
        let mut reader = LogReader::open(self.folder, self.from)?;
        let mut round = Round { end: reader.place(), ..Round::default() };
        while self.until.is_none_or(|until| reader.place() < until) {
            let Some(read) = reader.next_frame()? else { break };
            round.take(read, self.registry, self.sources);
            if round.events >= ROUND_EVENTS || round.bytes >= ROUND_BYTES {
                let end = round.end;
                if rounds.send(std::mem::take(&mut round)).is_err() {
                    return Ok(end);
                }
                round.end = end;
            }
        }
        if !round.frames.is_empty() {
            let _ = rounds.send(round);
        }
        Ok(reader.place())
    }
}

impl Round {
    fn take(&mut self, read: ReadFrame, registry: &Registry, sources: &HashSet<usize>) {
        let ReadFrame { place, end, mut frame } = read;
        self.end = end;
        let accepted: u64 = frame.batches.iter().map(|batch| batch.len() as u64).sum();
        // Rows beyond a history's time fence have an offset, but are no events: what is counted is what stands in the frame.
        let dead_lettered = frame.dead.len() as u64;
        let newest_event = frame.batches.iter().flat_map(|batch| batch.times.iter().copied()).max();
        let wanted = registry.source(&frame.source).filter(|source| sources.contains(source));
        if let Some(source) = wanted {
            fitted(&mut frame, &registry.sources[source]);
            for batch in frame.batches {
                self.events += batch.len();
                self.bytes += batch.columns.iter().map(Column::bytes).sum::<usize>();
                self.batches.push(RoundBatch { source, place, batch });
            }
        }
        // Frames without events are kept as well: there must not be too many of them, either.
        self.bytes += size_of::<SeenFrame>() + frame.source.len();
        self.frames.push(SeenFrame {
            place,
            source: frame.source,
            partition: frame.partition,
            next_offset: frame.first_offset + frame.consumed,
            accepted_at: frame.accepted_at,
            ledger: SourceLedger { consumed: accepted + dead_lettered, accepted, dead_lettered, newest_event },
        });
    }
}
