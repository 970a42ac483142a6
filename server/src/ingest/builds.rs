//! Builds that are under way or have failed: who asks for them, and what others see of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use parking_lot::Mutex;
use tidemill_features::definitions::Registry;

use super::build::Job;
use super::fold::Growing;
use crate::failure::{Failure, Remedy};
use crate::online::State;

/// Some views that are built together and switched in together.
pub struct Build {
    /// places in the registry
    pub views: Vec<usize>,
    /// whether an older state serves meanwhile
    pub is_rebuild: bool,
    /// by view: events that it has seen
    seen: Vec<AtomicU64>,
    /// by view: entities that it has
    entities: Vec<AtomicU64>,
    outcome: Mutex<Option<Result<(), Failure>>>,
}

impl Build {
    /// Nothing is done yet.
    pub(super) fn new(views: Vec<usize>, is_rebuild: bool) -> Self {
        let zeros = || views.iter().map(|_| AtomicU64::new(0)).collect();
        Build { is_rebuild, seen: zeros(), entities: zeros(), outcome: Mutex::default(), views }
    }

    /// Takes over how far the views are.
    pub(super) fn tell(&self, growing: &[Growing]) {
        for view in growing {
            if let Some(at) = self.views.iter().position(|own| *own == view.view) {
                self.seen[at].store(view.state.ledger.seen(), Ordering::Relaxed);
                self.entities[at].store(view.state.entities() as u64, Ordering::Relaxed);
            }
        }
    }

    /// Events that a view has seen, and entities that it has.
    pub fn reached(&self, view: usize) -> (u64, u64) {
        let at = self.views.iter().position(|own| *own == view);
        let number = |list: &[AtomicU64]| at.map_or(0, |at| list[at].load(Ordering::Relaxed));
        (number(&self.seen), number(&self.entities))
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Result<(), Failure>> {
        self.outcome.lock().clone()
    }

    /// For people.
    pub(super) fn names(&self, registry: &Registry) -> String {
        let declared = self.views.iter().map(|at| &registry.views[*at]).filter(|view| view.is_declared());
        declared.map(|view| view.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Builds that are under way, wait or have failed.
#[derive(Default)]
pub struct BuildList {
    builds: Mutex<Vec<Arc<Build>>>,
    stopping: AtomicBool,
}

/// What is known of a view that is not as it should be.
pub struct Unfinished {
    /// whether an older state serves meanwhile
    pub is_rebuild: bool,
    /// share of the events that are in it, 0 to 1
    pub built: f64,
    /// why it goes on no more
    pub failed: Option<Failure>,
}

impl BuildList {
    /// The build that a view is part of.
    fn of(&self, view: usize) -> Option<Arc<Build>> {
        self.builds.lock().iter().find(|build| build.views.contains(&view)).cloned()
    }

    /// What is known of a view, or of the tables that it joins; None: it is whole, and nobody builds it.
    pub fn unfinished(&self, registry: &Registry, state: &State, view: usize) -> Option<Unfinished> {
        let parts = parts_of(registry, view);
        let builds: Vec<(usize, Arc<Build>)> = parts.iter().filter_map(|at| Some((*at, self.of(*at)?))).collect();
        let incomplete = parts.iter().any(|at| !state.complete[*at]);
        // A back-fill of another view may build a table that this one joins: that is no matter of this view.
        let own = builds.iter().any(|(at, _)| *at == view) || incomplete;
        if !own || (builds.is_empty() && !incomplete) {
            return None;
        }
        let (mut seen, mut all) = (0, 0);
        for (at, build) in &builds {
            let source = registry.views[*at].stream.as_ref().map(|stream| stream.source);
            let accepted = source.map_or(0, |source| state.sources[source].accepted);
            all += accepted;
            seen += build.reached(*at).0.min(accepted);
        }
        let failed = builds.iter().find_map(|(_, build)| build.outcome()?.err());
        let built = if all == 0 { 0.0 } else { seen as f64 / all as f64 };
        Some(Unfinished { is_rebuild: !incomplete, built, failed })
    }

    pub(super) fn add(&self, build: Arc<Build>) {
        self.builds.lock().push(build);
    }

    /// A build has ended; where it failed it stays, so that people see why.
    pub(super) fn finish(&self, build: &Arc<Build>, outcome: Result<(), Failure>) {
        let mut builds = self.builds.lock();
        if outcome.is_ok() {
            builds.retain(|other| !Arc::ptr_eq(other, build));
        }
        *build.outcome.lock() = Some(outcome);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Builds end at their next round; what they have is kept, and they go on at the next start.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Where back-fills are asked for. When it is gone, the builder ends.
pub struct Builds {
    /// what others see
    pub list: Arc<BuildList>,
    pub(super) jobs: SyncSender<Job>,
}

impl Builds {
    /// Has the state of a view derived anew; gives the build that does so, which may be under way already. It goes on when
    /// the caller has gone.
    pub fn rebuild(&self, registry: &Registry, view: usize) -> Result<Arc<Build>, Failure> {
        let mut builds = self.list.builds.lock();
        if let Some(known) = builds.iter().find(|build| build.views.contains(&view)) {
            match known.outcome() {
                // A first build that has failed left nothing to serve; only a new start can take it up.
                Some(Err(failure)) if !known.is_rebuild => return Err(failure),
                Some(_) => {}
                None => return Ok(known.clone()),
            }
        }
        let build = Arc::new(Build::new(parts_of(registry, view), true));
        let full = |_: TrySendError<Job>| {
            let message = "as many back-fills wait as this server takes; try again later";
            Failure::new(Remedy::Exhausted, "E3061", message)
        };
        self.jobs.try_send(Job { build: build.clone(), growing: Vec::new() }).map_err(full)?;
        // The new attempt takes the place of one that has failed.
        builds.retain(|other| !(other.is_rebuild && other.outcome().is_some() && other.views.contains(&view)));
        builds.push(build.clone());
        Ok(build)
    }
}

impl Drop for Builds {
    fn drop(&mut self) {
        self.list.stop();
    }
}

/// The views whose records a view's values come from: its own, and those that keep the rows of the tables that it joins.
pub fn parts_of(registry: &Registry, view: usize) -> Vec<usize> {
    let definition = &registry.views[view];
    let tables = definition.plan.joins.iter().flat_map(|joins| &joins.tables);
    let mut parts: Vec<usize> = definition.stream.iter().map(|_| view).collect();
    for table in tables.filter_map(|table| registry.view(&table.view)) {
        if !parts.contains(&table) {
            parts.push(table);
        }
    }
    parts
}
