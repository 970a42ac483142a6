//! Building views while everything else serves: a view that is new, or one that is derived anew (`tidemill backfill`).
//!
//! The builder walks over the log on threads of its own and is the only one that writes the states it builds. What it has is
//! committed as it goes, so that a kill costs little. It follows the applier until it has nearly caught up, and hands over: the
//! applier folds in the last stretch and from then on feeds these views as it feeds the others. So each event counts once.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidemill_features::definitions::Registry;

use super::applier::ToApply;
use super::builds::{Build, BuildList};
use super::flusher::{Derived, DerivedView, ToKeep};
use super::fold::{Growing, fold};
use super::walk::Walk;
use crate::failure::{Failure, Remedy};
use crate::limits::{BUILD_COMMIT_BYTES, BUILD_COMMIT_EVERY, BUILD_COMMIT_REST, BUILD_PASSES_MAX, HANDOVER_EVENTS};
use crate::log::LogPlace;
use crate::online::{Shard, ViewState};

/// Up to where the applier is, for builders that follow it: everything before is durable.
pub(super) struct Frontier {
    reached: Mutex<(LogPlace, u64)>,
}

impl Frontier {
    pub(super) fn new(place: LogPlace) -> Self {
        Frontier { reached: Mutex::new((place, 0)) }
    }

    /// So many events more are applied.
    pub(super) fn advance(&self, place: LogPlace, events: u64) {
        let mut reached = self.reached.lock();
        *reached = (place, reached.1 + events);
    }

    /// The place, and how many events have been applied since the start.
    fn reached(&self) -> (LogPlace, u64) {
        *self.reached.lock()
    }
}

/// Nearly whole views on their way to the applier.
pub(super) struct Handover {
    pub growing: Vec<Growing>,
    /// expressions that could not be computed on the way
    pub row_errors: u64,
    /// told what they replace, so that it is dropped by whoever has time
    pub taken: Sender<Result<Vec<Vec<Shard>>, Failure>>,
    /// told when they are in the store
    pub kept: Sender<()>,
}

/// What is to be built.
pub(super) struct Job {
    pub build: Arc<Build>,
    /// what there is of the views already; none: a back-fill begins
    pub growing: Vec<Growing>,
}

pub(super) struct Builder {
    pub registry: Arc<Registry>,
    pub folder: PathBuf,
    pub frontier: Arc<Frontier>,
    pub list: Arc<BuildList>,
    pub to_keep: SyncSender<ToKeep>,
    pub to_apply: SyncSender<ToApply>,
    /// that fold; another one reads
    pub threads: usize,
}

impl Builder {
    /// Runs until nobody can ask for a build any more.
    pub(super) fn run(self, jobs: &Receiver<Job>) {
        while let Ok(Job { build, growing }) = jobs.recv() {
            let built = std::panic::catch_unwind(AssertUnwindSafe(|| self.build(&build, growing)));
            let done = built
                .unwrap_or_else(|_| Err(Failure::internal("E1031", "the build panicked: this is a bug of Tidemill")));
            let names = build.names(&self.registry);
            match &done {
                Ok(()) => tracing::info!(views = names, "built from the event log, and serving"),
                Err(failure) if self.list.is_stopping() => {
                    tracing::info!(%failure, views = names, "the build goes on at the next start")
                }
                Err(failure) => tracing::error!(%failure, views = names, "E1030: a build has failed"),
            }
            self.list.finish(&build, done);
        }
    }

    fn build(&self, build: &Build, growing: Vec<Growing>) -> Result<(), Failure> {
        let (names, is_begun) = (build.names(&self.registry), !growing.is_empty());
        let what = if is_begun { "a build goes on" } else { "a build begins" };
        tracing::info!(views = names, "{what}");
        let mut growing = if is_begun { growing } else { self.begin(build)? };
        build.tell(&growing);
        let mut keeper = Keeper::new(self.to_keep.clone());
        let mut row_errors = 0;
        for pass in 1.. {
            let (until, before) = self.frontier.reached();
            row_errors += self.pass(build, &mut growing, until, &mut keeper)?;
            let behind = self.frontier.reached().1 - before;
            // Where events come in faster than they are built, the applier waits for the rest at last.
            if behind <= HANDOVER_EVENTS || pass >= BUILD_PASSES_MAX {
                break;
            }
        }
        keeper.wait()?;
        let (taken, replaced) = channel();
        let (kept, told) = channel();
        let handover = Handover { growing, row_errors, taken, kept };
        self.to_apply.send(ToApply::Handover(handover)).map_err(|_| stopping())?;
        drop(replaced.recv().map_err(|_| stopping())??);
        told.recv().map_err(|_| stopping())
    }

    /// The mark of a back-fill is durable before its first event is folded.
    fn begin(&self, build: &Build) -> Result<Vec<Growing>, Failure> {
        let (told, ids) = channel();
        let of_view = |at: &usize| (self.registry.views[*at].plan.hash, self.registry.views[*at].name.clone());
        let views: Vec<(u64, String)> = build.views.iter().map(of_view).collect();
        self.to_keep.send(ToKeep::Begin(views, told)).map_err(|_| stopping())?;
        let ids = ids.recv().map_err(|_| stopping())?;
        let new = |(at, id): (&usize, u32)| {
            let hash = self.registry.views[*at].plan.hash;
            let state = ViewState::default();
            Growing::new(*at, hash, id, LogPlace::default(), state).anew()
        };
        Ok(build.views.iter().zip(ids).map(new).collect())
    }

    /// Folds everything before a place. Gives the number of expressions that could not be computed.
    fn pass(
        &self,
        build: &Build,
        growing: &mut [Growing],
        until: LogPlace,
        keeper: &mut Keeper,
    ) -> Result<u64, Failure> {
        let from = growing.iter().map(|view| view.applied_to).min().unwrap_or(until);
        let fed = growing.iter().filter_map(|view| self.registry.views[view.view].stream.as_ref());
        let sources: HashSet<usize> = fed.map(|stream| stream.source).collect();
        let walk = Walk { folder: &self.folder, registry: &self.registry, sources: &sources, from, until: Some(until) };
        let mut row_errors = 0;
        walk.each_round(&mut |round| {
            let folded = fold(&self.registry, growing, &round, self.threads);
            row_errors += folded.map_err(|e| Failure::internal("E1016", format!("a record cannot be read: {e}")))?;
            build.tell(growing);
            let stop = self.list.is_stopping();
            if stop || keeper.is_due(growing) {
                keeper.keep(growing)?;
            }
            if stop {
                keeper.wait()?;
                return Err(stopping());
            }
            Ok(())
        })?;
        Ok(row_errors)
    }
}

fn stopping() -> Failure {
    Failure::new(Remedy::Unavailable, "E1013", "the server is stopping")
}

/// Commits of a build: often enough that a kill costs little, seldom enough that they cost little.
struct Keeper {
    to_keep: SyncSender<ToKeep>,
    last: Instant,
    /// how long the last commit took
    took: Duration,
    /// a commit under way
    under_way: Option<Receiver<Duration>>,
}

#[allow(clippy::disallowed_methods)]
impl Keeper {
    fn new(to_keep: SyncSender<ToKeep>) -> Self {
        Keeper { to_keep, last: Instant::now(), took: Duration::ZERO, under_way: None }
    }

    fn is_due(&self, growing: &[Growing]) -> bool {
        is_due(self.last.elapsed(), self.took, growing)
    }

    /// Hands over what has changed; waits for the commit before.
    fn keep(&mut self, growing: &mut [Growing]) -> Result<(), Failure> {
        self.wait()?;
        let (told, under_way) = channel();
        self.to_keep.send(ToKeep::Derived(derived(growing, told))).map_err(|_| stopping())?;
        (self.last, self.under_way) = (Instant::now(), Some(under_way));
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Failure> {
        if let Some(under_way) = self.under_way.take() {
            self.took = under_way.recv().map_err(|_| stopping())?;
        }
        Ok(())
    }
}

/// Whether what has changed had better be committed.
pub(super) fn is_due(since: Duration, took: Duration, growing: &[Growing]) -> bool {
    let bytes: u64 = growing.iter().map(|view| view.changed_bytes).sum();
    bytes >= BUILD_COMMIT_BYTES || since >= BUILD_COMMIT_EVERY.max(took * BUILD_COMMIT_REST)
}

fn derived(growing: &mut [Growing], told: Sender<Duration>) -> Derived {
    let (mut records, mut chunks) = (Vec::new(), Vec::new());
    let mut views = Vec::with_capacity(growing.len());
    for view in growing {
        let (more_records, more_chunks) = view.take_changes();
        records.extend(more_records);
        chunks.extend(more_chunks);
        let Growing { hash, is_rebuild, applied_to, .. } = *view;
        views.push(DerivedView { hash, is_rebuild, ledger: view.state.ledger, applied_to });
    }
    Derived { changes: (records, chunks), views, told }
}
