//! The flusher: the one thread that writes the state store once a server runs, and the one owner of what the store says of
//! itself. Changes come from the applier and from builds; each of their commits is atomic.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use crate::limits::SHARDS;
use crate::log::LogPlace;
use crate::online::{Embedded, Flush, Meta, SourceLedger, StoreError, ViewLedger, ViewMeta};

use super::fold::Changes;
use super::retention::Kept;

/// What is to be kept.
pub(super) enum ToKeep {
    /// from the applier
    Applied(Box<Applied>),
    /// from a build under way
    Derived(Derived),
    /// a back-fill begins: these definitions, with the names of their views, get a second version each; the answer has its ids
    Begin(Vec<(u64, String)>, Sender<Vec<u32>>),
}

/// What the applier has done since it was asked before.
pub(super) struct Applied {
    pub changes: Changes,
    pub clock: i64,
    pub applied_to: LogPlace,
    pub positions: Vec<((String, u32), u64)>,
    pub sources: Vec<(String, SourceLedger)>,
    /// by definition hash, those that the applier feeds
    pub views: Vec<(u64, ViewLedger)>,
    /// definitions whose new version serves from now on
    pub switched: Vec<u64>,
    /// told when all of this is kept
    pub told: Vec<Sender<()>>,
}

/// How far some views are.
pub(super) struct Derived {
    pub changes: Changes,
    pub views: Vec<DerivedView>,
    /// told how long it took
    pub told: Sender<Duration>,
}

/// How far a view is.
pub(super) struct DerivedView {
    pub hash: u64,
    pub is_rebuild: bool,
    pub ledger: ViewLedger,
    pub applied_to: LogPlace,
}

/// Writes changes to the state store, on a thread of its own.
pub(super) struct Flusher {
    pub store: Embedded,
    pub meta: Meta,
    /// set when the applier's last changes are kept
    pub idle: Arc<AtomicBool>,
    pub rebuild_mark: PathBuf,
    /// definitions of the views that events come in for
    pub fed: HashSet<u64>,
    /// for retention: how far the state is safe
    pub kept: Arc<Kept>,
}

/// Pause before a flush is tried again that found no room.
const RETRY: Duration = Duration::from_secs(1);

impl Flusher {
    pub(super) fn run(mut self, to_keep: &Receiver<ToKeep>) {
        if !self.meta.dropped.is_empty() {
            // Nothing may be missing from a version that the last commit still names.
            self.commit(Changes::default());
        }
        // The version that is being removed, and its next shard; None: nothing more is removed until the next start.
        let mut purging = Some((0, 0));
        loop {
            let dropped = purging.and_then(|(id, shard)| {
                let first = *self.meta.dropped.first()?;
                // A version that comes first by now is begun anew; to remove twice does no harm.
                Some(if first == id { (id, shard) } else { (first, 0) })
            });
            let next = match dropped {
                None => to_keep.recv_timeout(RETRY).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                }),
                Some(_) => to_keep.try_recv(),
            };
            match (next, dropped) {
                (Ok(next), _) => self.keep(next),
                (Err(TryRecvError::Empty), Some((id, shard))) => purging = self.purge(id, shard),
                (Err(TryRecvError::Empty), None) => {}
                (Err(TryRecvError::Disconnected), _) => break,
            }
            // Only where retention wants to cut: elsewhere the log makes up for what the disk has lost.
            if self.kept.is_wanted() {
                match self.store.sync() {
                    Ok(()) => self.kept.set(self.safe_to()),
                    Err(error) => tracing::warn!(%error, "the state store was not synced; retention waits"),
                }
            }
        }
        if let Err(error) = self.store.sync() {
            tracing::warn!(%error, "the state store was not synced; the next start replays more of the log");
        }
    }

    /// Up to where no view that is served or built needs the log any more.
    fn safe_to(&self) -> LogPlace {
        let fed = self.meta.views.iter().filter(|(hash, _)| self.fed.contains(hash)).map(|(_, version)| version);
        let places = fed.chain(self.meta.rebuilds.values()).map(|version| version.applied_to);
        places.fold(self.meta.applied_to, LogPlace::min)
    }

    fn keep(&mut self, next: ToKeep) {
        match next {
            ToKeep::Applied(applied) => {
                self.keep_applied(*applied);
                self.idle.store(true, Ordering::Release);
            }
            ToKeep::Derived(derived) => self.keep_derived(derived),
            ToKeep::Begin(views, told) => {
                let ids = views.into_iter().map(|(hash, name)| self.begin(hash, name)).collect();
                self.commit(Changes::default());
                let _ = told.send(ids);
            }
        }
    }

    fn keep_applied(&mut self, applied: Applied) {
        for hash in applied.switched {
            if let Some(rebuilt) = self.meta.rebuilds.remove(&hash)
                && let Some(old) = self.meta.views.insert(hash, rebuilt)
            {
                self.meta.dropped.insert(old.id);
            }
        }
        (self.meta.clock, self.meta.applied_to) = (applied.clock, applied.applied_to);
        self.meta.positions.extend(applied.positions);
        self.meta.sources.extend(applied.sources);
        for (hash, ledger) in applied.views {
            if let Some(view) = self.meta.views.get_mut(&hash) {
                (view.ledger, view.applied_to) = (ledger, applied.applied_to);
            }
        }
        self.commit(applied.changes);
        for told in applied.told {
            let _ = told.send(());
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn keep_derived(&mut self, derived: Derived) {
        let started = Instant::now();
        for DerivedView { hash, is_rebuild, ledger, applied_to } in derived.views {
            let versions = if is_rebuild { &mut self.meta.rebuilds } else { &mut self.meta.views };
            if let Some(view) = versions.get_mut(&hash) {
                (view.ledger, view.applied_to) = (ledger, applied_to);
            }
        }
        self.commit(derived.changes);
        let _ = derived.told.send(started.elapsed());
    }

    /// A second version of a definition, without any event yet.
    fn begin(&mut self, hash: u64, name: String) -> u32 {
        let id = self.meta.take_id();
        let version = ViewMeta { id, name, ..ViewMeta::default() };
        if let Some(unfinished) = self.meta.rebuilds.insert(hash, version) {
            self.meta.dropped.insert(unfinished.id);
        }
        id
    }

    fn commit(&mut self, (records, chunks): Changes) {
        self.meta.sequence += 1;
        let flush = Flush { records, chunks, meta: self.meta.clone() };
        loop {
            match self.store.commit(&flush) {
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

    /// Removes one shard of a version that is dropped, and tells which is the next.
    fn purge(&mut self, id: u32, shard: usize) -> Option<(u32, usize)> {
        if let Err(error) = self.store.purge(id, shard as u8) {
            tracing::warn!(%error, "records of a dropped version of a view stay where they are until the next start");
            return None;
        }
        if shard + 1 == SHARDS {
            self.meta.dropped.remove(&id);
            self.commit(Changes::default());
        }
        Some((id, shard + 1))
    }
}

/// Ends the process; the next start derives the state from the log.
pub(super) fn stop_to_rebuild(mark: &Path, code: &str, what: &str) -> ! {
    tracing::error!(what, "{code}: the state cannot be kept; stopping, the next start derives it from the event log");
    if let Err(error) = std::fs::write(mark, what) {
        tracing::error!(%error, "and {} cannot be written: remove the folder state/ by hand", mark.display());
    }
    std::process::exit(1);
}
