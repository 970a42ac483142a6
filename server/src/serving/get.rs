//! Get: all values of a request, read at one T from one state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use tidemill_features::definitions::Registry;
use tidemill_features::read::Answer;
use tidemill_features::service::{EncodedKeys, Keys, ReadPlan, encode_keys};

use super::moment::{Moment, Times};
use super::past::Past;
use super::sample::Sampler;
use super::shared::SharedReads;
use super::tables::{TablePlaces, table_places};
use crate::clock::Clock;
use crate::failure::{Failure, Remedy};
use crate::ingest::{BuildList, Ingest, Pending, Trouble, Unfinished, parts_of};
use crate::limits::{GET_CELLS_MAX, GET_FEATURES_MAX, GET_KEYS_MAX};
use crate::online::{Memory, Records, State};

/// Positions by source (its place in the registry) and partition.
pub type Positions = BTreeMap<(u32, u32), u64>;

/// What reads need.
pub struct Reader {
    /// the definitions
    pub registry: Arc<Registry>,
    /// the state
    pub memory: Arc<Memory>,
    /// the clock
    pub clock: Arc<Clock>,
    /// the event log
    pub past: Past,
    /// by source: what is durable but not applied
    pub pending: Arc<Vec<Pending>>,
    pub(super) tables: TablePlaces,
    /// views that are being built
    pub builds: Arc<BuildList>,
    /// by view: those whose records its values come from
    parts: Vec<Vec<usize>>,
    pub(super) sampler: Sampler,
    plans: RwLock<HashMap<String, Arc<ReadPlan>>>,
    /// where records are, if not in memory
    pub shared: Option<SharedReads>,
    /// what is wrong there, while it is
    trouble: Arc<Trouble>,
}

/// An answer: a column of answers for each feature.
pub struct Answers {
    /// what was asked
    pub plan: Arc<ReadPlan>,
    /// by output, then row
    pub columns: Vec<Vec<Answer>>,
    /// T; where each row has its own, the latest of them
    pub read_time: i64,
    /// T of each row, where it has its own
    pub times: Option<Vec<i64>>,
    /// the log prefix that the answer saw
    pub positions: Positions,
    /// sources (names) that are behind
    pub stale: Vec<String>,
    /// expressions that could not be computed
    pub row_errors: u64,
    /// whether every row saw exactly the log prefix that the positions name; in a shared store some may have seen more
    pub is_one_prefix: bool,
}

/// The moment of a read.
#[derive(Clone, Copy, Debug)]
pub enum At<'t> {
    /// now
    Now,
    /// one T for all rows
    Time(i64),
    /// a T for each row
    Times(&'t [i64]),
}

impl Answers {
    /// T of a row.
    pub fn time_of(&self, row: usize) -> i64 {
        self.times.as_ref().and_then(|times| times.get(row)).copied().unwrap_or(self.read_time)
    }
}

impl Reader {
    /// A reader of this state and log.
    pub fn new(
        (registry, memory): (Arc<Registry>, Arc<Memory>),
        clock: Arc<Clock>,
        past: Past,
        ingest: &Ingest,
        sampler: Sampler,
    ) -> Self {
        let pending = ingest.pending.clone();
        let builds = ingest.builds.list.clone();
        let tables = table_places(&registry);
        let parts = (0..registry.views.len()).map(|view| parts_of(&registry, view)).collect();
        let (plans, trouble) = (RwLock::new(HashMap::new()), ingest.trouble.clone());
        Reader { registry, memory, clock, past, pending, tables, builds, parts, sampler, plans, shared: None, trouble }
    }

    /// Whether the state holds all that a view's values come from.
    pub(super) fn is_complete<R: Records>(&self, state: &R, view: usize) -> bool {
        self.parts[view].iter().all(|part| state.is_complete(*part))
    }

    /// Refuses what needs the records of a view that is still being built.
    pub(super) fn check_complete(&self, state: &State, plan: &ReadPlan) -> Result<(), Failure> {
        let missing = plan.views.iter().map(|read| read.view).find(|view| !self.is_complete(state, *view));
        match missing {
            Some(view) => Err(self.unfinished(state, view)),
            None => plan.lookups.iter().try_for_each(|lookup| self.check_complete(state, &lookup.plan)),
        }
    }

    /// Why a view cannot be read now.
    pub(super) fn unfinished(&self, state: &State, view: usize) -> Failure {
        let name = &self.registry.views[view].name;
        let known = self.builds.unfinished(&self.registry, state, view);
        let message = match known {
            Some(Unfinished { failed: Some(failed), .. }) => {
                format!(
                    "view `{name}` could not be built from the event log ({failed}); mend that and start the server again"
                )
            }
            Some(Unfinished { built, .. }) => format!(
                "view `{name}` is being built from the event log, {:.0} % are done; try again later, or read it as of a time, which comes from the log",
                (built * 100.0).floor()
            ),
            None => format!("view `{name}` is being built from the event log; try again later"),
        };
        Failure::new(Remedy::Unavailable, "E2042", message)
    }

    /// The plan of a service or of a list of references; services are planned once.
    pub fn plan(&self, service: &str, references: &[String]) -> Result<Arc<ReadPlan>, Failure> {
        if service.is_empty() && references.is_empty() {
            return Err(Failure::field(
                "E2004",
                "service",
                "name a feature service, or list features such as view:feature",
            ));
        }
        if !service.is_empty() && !references.is_empty() {
            return Err(Failure::field("E2004", "features", "give either a service or a list of features"));
        }
        if service.is_empty() {
            if references.len() > GET_FEATURES_MAX {
                let message = format!("{} features are more than {GET_FEATURES_MAX}", references.len());
                return Err(Failure::field("E2010", "features", message));
            }
            return Ok(Arc::new(ReadPlan::of_references(&self.registry, references)?));
        }
        if let Some(plan) = self.plans.read().get(service) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(ReadPlan::of_service(&self.registry, service)?);
        // Only names that exist get here, so the map is as bounded as the registry.
        self.plans.write().insert(service.to_string(), plan.clone());
        Ok(plan)
    }

    /// Reads a plan for keys at T; now, where T is not given. A read of now is refused while a view is being built.
    pub fn get(&self, plan: Arc<ReadPlan>, keys: &Keys, as_of: Option<i64>) -> Result<Answers, Failure> {
        self.read(plan, keys, as_of.map_or(At::Now, At::Time), as_of.is_some(), &AtomicBool::new(false))
    }

    /// Reads a plan for keys. What the state does not hold yet comes `from_log`, if that may take its time. Once `stop` is set
    /// nobody waits any more: what takes long is not finished.
    pub fn read(
        &self,
        plan: Arc<ReadPlan>,
        keys: &Keys,
        at: At<'_>,
        from_log: bool,
        stop: &AtomicBool,
    ) -> Result<Answers, Failure> {
        if let Some(shared) = &self.shared {
            return shared.runtime.block_on(self.read_shared(shared, plan, keys, at, stop));
        }
        let encoded = encoded_keys(&plan, keys)?;
        // T is taken with the gate open, so that no event published before this read is dated behind it by accident.
        let state = self.memory.read();
        if !from_log {
            self.check_complete(&state, &plan)?;
        }
        let (read_time, times) = self.times(at, keys)?;
        let positions = state.positions.clone();
        let stale = if matches!(at, At::Now) { self.stale(&plan, read_time) } else { Vec::new() };
        let moment = Moment::new(self, times.map_or(Times::One(read_time), Times::Rows), &positions, stop);
        let mut slots: Vec<Vec<Answer>> = (0..plan.slots).map(|_| Vec::with_capacity(keys.rows)).collect();
        let beyond = moment.read_records(&*state, &plan, keys, &encoded, &mut slots)?;
        // Lookups read the same state once the keys are known; other answers do not make the writer wait.
        let state = (!plan.lookups.is_empty()).then_some(state);
        moment.read_log(&plan, keys, &encoded, beyond, &mut slots)?;
        moment.derive_all(state.as_deref(), &plan, keys, &mut slots)?;
        let columns = pick(&plan.outputs, slots);
        let row_errors = moment.row_errors();
        let times = times.map(<[i64]>::to_vec);
        let answers = Answers { plan, columns, read_time, times, positions, stale, row_errors, is_one_prefix: true };
        self.sampler.keep(&self.registry, &answers, keys, &encoded);
        Ok(answers)
    }

    /// T, and that of each row where rows have their own.
    pub(super) fn times<'t>(&self, at: At<'t>, keys: &Keys) -> Result<(i64, Option<&'t [i64]>), Failure> {
        match at {
            At::Now => Ok((self.clock.now(), None)),
            At::Time(time) => Ok((time, None)),
            At::Times(times) if times.len() != keys.rows => {
                let message = format!("{} times for {} keys", times.len(), keys.rows);
                Err(Failure::field("E2007", "times", message))
            }
            At::Times(times) => Ok((times.iter().max().copied().unwrap_or_else(|| self.clock.now()), Some(times))),
        }
    }

    /// Names of the plan's sources that are behind by more than their `max_lag`, or whose history is not there yet, or that have
    /// stopped, or of which a shared store lacks something.
    pub(super) fn stale(&self, plan: &ReadPlan, now: i64) -> Vec<String> {
        let mut stale = Vec::new();
        for at in &plan.sources {
            let source = &self.registry.sources[*at];
            let pending = &self.pending[*at];
            let behind = || pending.behind(now).max(pending.kafka.behind(now));
            let is_late = source.max_lag.is_some_and(|max_lag| behind() > max_lag);
            let lacks = pending.history.is_incomplete() || pending.kafka.is_incomplete() || self.trouble.is_feeding();
            if is_late || lacks || pending.halted.lock().is_some() {
                stale.push(source.name.clone());
            }
        }
        stale
    }
}

/// The keys of a request, if it is not too large.
pub(super) fn encoded_keys(plan: &ReadPlan, keys: &Keys) -> Result<EncodedKeys, Failure> {
    check_size(plan, keys)?;
    encode_keys(plan, keys).map_err(|refused| Failure { field: Some("keys".into()), ..refused.into() })
}

fn check_size(plan: &ReadPlan, keys: &Keys) -> Result<(), Failure> {
    if keys.rows > GET_KEYS_MAX {
        return Err(Failure::field("E2011", "keys", format!("{} keys are more than {GET_KEYS_MAX}", keys.rows)));
    }
    let cells = keys.rows * plan.width;
    if cells > GET_CELLS_MAX {
        return Err(Failure::field("E2011", "keys", format!("{cells} values are more than {GET_CELLS_MAX}")));
    }
    Ok(())
}

pub(super) fn pick(outputs: &[usize], mut slots: Vec<Vec<Answer>>) -> Vec<Vec<Answer>> {
    outputs.iter().map(|slot| std::mem::take(&mut slots[*slot])).collect()
}
