//! The replay at start: everything that the log has beyond the store, folded into the views that are to serve at once. What it
//! has is committed as it goes, so that a start that was interrupted is taken up again.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use tidemill_features::definitions::Registry;

use super::begun::Begun;
use super::build::is_due;
use super::fold::{Growing, fold};
use super::threads;
use super::walk::{Round, Walk};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::log::LogPlace;
use crate::online::{Embedded, Flush, Meta, Sources, ViewState};

/// What is replayed from, and into what.
pub(super) struct Replay<'r> {
    pub folder: &'r Path,
    pub registry: &'r Registry,
    pub clock: &'r Clock,
    pub store: &'r Embedded,
}

/// State at the end of the log.
pub(super) struct Replayed {
    pub end: LogPlace,
    pub sources: Sources,
    /// by place in the registry
    pub whole: Vec<(usize, ViewState)>,
}

impl Replay<'_> {
    /// Applies what the log has beyond the store.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn run(
        &self,
        meta: &mut Meta,
        mut sources: Sources,
        mut growing: Vec<Growing>,
        begun: &mut Begun,
    ) -> Result<Replayed, Failure> {
        let fed = growing.iter().filter_map(|view| self.registry.views[view.view].stream.as_ref());
        let wanted: HashSet<usize> = fed.map(|stream| stream.source).collect();
        let from = growing.iter().map(|view| view.applied_to).min().unwrap_or(meta.applied_to);
        let from = from.min(meta.applied_to);
        let walk = Walk { folder: self.folder, registry: self.registry, sources: &wanted, from, until: None };
        let counted_to = meta.applied_to;
        let mut doubtful = begun.doubts(self.registry);
        let (mut last, mut took) = (Instant::now(), Duration::ZERO);
        let end = walk.each_round(&mut |round| {
            self.take_sources(&round, counted_to, meta, &mut sources);
            round.batches.iter().for_each(|batch| doubtful.take(batch.source, &batch.batch));
            let errors = fold(self.registry, &mut growing, &round, threads());
            sources.row_errors +=
                errors.map_err(|e| Failure::internal("E1016", format!("a record cannot be read: {e}")))?;
            if is_due(last.elapsed(), took, &growing) {
                let started = Instant::now();
                begun.add(&doubtful)?;
                self.commit(meta, &sources, &mut growing, meta.applied_to.max(round.end))?;
                (last, took) = (Instant::now(), started.elapsed());
            }
            Ok(())
        })?;
        if end < counted_to {
            let message = format!(
                "the event log in {} ends before events that the state has: a segment is missing or cut; restore it from a copy",
                self.folder.display()
            );
            return Err(Failure::internal("E1021", message));
        }
        begun.add(&doubtful)?;
        let changed = growing.iter().any(|view| view.changed_bytes > 0);
        if changed || meta.applied_to != end || meta.sequence == 0 {
            growing.iter_mut().for_each(|view| view.applied_to = end);
            self.commit(meta, &sources, &mut growing, end)?;
        }
        let whole = growing.into_iter().map(|view| (view.view, view.state)).collect();
        Ok(Replayed { end, sources, whole })
    }

    /// Counts what sources brought behind a place.
    fn take_sources(&self, round: &Round, behind: LogPlace, meta: &mut Meta, sources: &mut Sources) {
        for frame in &round.frames {
            self.clock.advance(frame.accepted_at);
            if frame.place < behind {
                continue;
            }
            match self.registry.source(&frame.source) {
                Some(source) => {
                    sources.positions.insert((source as u32, frame.partition), frame.next_offset);
                    sources.ledgers[source].add(&frame.ledger);
                }
                // Not declared now, but it may be again: its offsets must not be given out twice.
                None => {
                    meta.sources.entry(frame.source.clone()).or_default().add(&frame.ledger);
                    meta.positions.insert((frame.source.clone(), frame.partition), frame.next_offset);
                }
            }
        }
    }

    /// Writes what has changed, with the place up to which the sources are counted.
    fn commit(
        &self,
        meta: &mut Meta,
        sources: &Sources,
        growing: &mut [Growing],
        applied_to: LogPlace,
    ) -> Result<(), Failure> {
        meta.sequence += 1;
        meta.applied_to = applied_to;
        for ((source, partition), next) in &sources.positions {
            meta.positions.insert((self.registry.sources[*source as usize].name.clone(), *partition), *next);
        }
        for (source, ledger) in self.registry.sources.iter().zip(&sources.ledgers) {
            meta.sources.insert(source.name.clone(), *ledger);
        }
        let (mut records, mut chunks) = (Vec::new(), Vec::new());
        for view in growing {
            let changes = view.take_changes();
            records.extend(changes.0);
            chunks.extend(changes.1);
            if let Some(version) = meta.views.get_mut(&view.hash) {
                (version.ledger, version.applied_to) = (view.state.ledger, view.applied_to);
            }
        }
        let flush = Flush { records, chunks, meta: meta.clone() };
        self.store.commit(&flush).map_err(|e| Failure::internal("E1015", e.to_string()))
    }
}
