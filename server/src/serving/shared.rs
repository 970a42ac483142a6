//! Reads from a shared store: what a request needs is fetched, then computed by the same code as everywhere.
//!
//! Shards are not one snapshot: each row sees what its own shard has, which is a prefix of each partition. An answer of one
//! shard names it exactly; one of many shards names what all of them have at least.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidemill_features::read::Answer;
use tidemill_features::service::{EncodedKeys, Keys, ReadPlan, ViewRead};
use tokio::runtime::Handle;

use super::get::{Answers, At, Positions, Reader, encoded_keys, pick};
use super::moment::{Moment, Times};
use crate::collections::SharedFeed;
use crate::failure::{Failure, Remedy};
use crate::limits::{SHARED_EXACT_TRIES, SHARED_FETCH_BYTES, SHARED_FETCHES};
use crate::online::{Fetched, Records, RedisStore, SourcePartition, StoreError};
use crate::place::shard_of;

/// Where reads of a shared store go.
#[derive(Clone)]
pub struct SharedReads {
    /// the store
    pub store: RedisStore,
    /// on which its connections run
    pub runtime: Handle,
    /// indexes of the vectors that lie there
    pub neighbours: Option<Arc<SharedFeed>>,
}

/// Next offsets by partition.
type Placed = BTreeMap<SourcePartition, u64>;

/// Nobody answers.
fn away(error: StoreError) -> Failure {
    if matches!(error, StoreError::TooMuch) {
        let message = format!(
            "the records of these entities are more than {} MB, which is too much for one request; ask for fewer keys at once",
            SHARED_FETCH_BYTES >> 20
        );
        return Failure::field("E2062", "keys", message);
    }
    Failure::new(Remedy::Unavailable, "E2060", format!("the shared store cannot be read: {error}"))
}

impl Reader {
    /// Reads a plan for keys.
    pub async fn read_shared(
        &self,
        shared: &SharedReads,
        plan: Arc<ReadPlan>,
        keys: &Keys,
        at: At<'_>,
        stop: &AtomicBool,
    ) -> Result<Answers, Failure> {
        let encoded = encoded_keys(&plan, keys)?;
        let (read_time, times) = self.times(at, keys)?;
        let stale = if matches!(at, At::Now) { self.stale(&plan, read_time) } else { Vec::new() };
        let alone = self.alone(&plan, &encoded);
        // Of one shard the prefix can be told exactly, unless it is written meanwhile: then everything is read once more.
        let mut tries = if alone.is_some() { SHARED_EXACT_TRIES } else { 1 };
        loop {
            let mut fetched = Fetched::new(&self.registry);
            for (view, keys) in plan.views.iter().zip(encoded.iter()) {
                keys.iter().filter(|key| !key.is_empty()).for_each(|key| fetched.want(view.view, key));
            }
            let (mut is_one_prefix, positions) = self.fetch_first(shared, alone, &mut fetched).await?;
            tries -= 1;
            if !is_one_prefix && tries > 0 {
                continue;
            }
            let positions = self.placed(positions);
            let mut computed = None;
            for _ in 0..SHARED_FETCHES {
                let times = times.map_or(Times::One(read_time), Times::Rows);
                let found = self.compute(&fetched, (&plan, keys, &encoded), times, &positions, stop);
                if !fetched.is_lacking() {
                    computed = Some(found?);
                    break;
                }
                fetched.fetch(&shared.store).await.map_err(away)?;
                if let Some(shard) = alone.filter(|_| is_one_prefix) {
                    let now = shared.store.positions(shard).await.map_err(away)?;
                    is_one_prefix = self.placed(Some(now)) == positions;
                }
            }
            if !is_one_prefix && tries > 0 {
                continue;
            }
            let Some((columns, row_errors)) = computed else {
                let message = "the records of these entities change faster than they can be read; try again";
                return Err(Failure::new(Remedy::Unavailable, "E2061", message));
            };
            let times = times.map(<[i64]>::to_vec);
            let answers = Answers { plan, columns, read_time, times, positions, stale, row_errors, is_one_prefix };
            if is_one_prefix {
                self.sampler.keep(&self.registry, &answers, keys, &encoded);
            }
            return Ok(answers);
        }
    }

    /// The one shard from which everything comes that a read needs, if there is one.
    fn alone(&self, plan: &ReadPlan, encoded: &EncodedKeys) -> Option<usize> {
        let joins = |read: &ViewRead| self.registry.views[read.view].plan.joins.is_some();
        if !plan.lookups.is_empty() || plan.views.iter().any(joins) {
            return None;
        }
        let mut shards = encoded.iter().flatten().filter(|key| !key.is_empty()).map(|key| shard_of(key));
        let first = shards.next()?;
        shards.all(|shard| shard == first).then_some(first)
    }

    /// Fetches what a read is known to need, in one round trip, and tells whether the positions name exactly what was fetched.
    async fn fetch_first(
        &self,
        SharedReads { store, .. }: &SharedReads,
        alone: Option<usize>,
        fetched: &mut Fetched<'_>,
    ) -> Result<(bool, Option<Placed>), Failure> {
        let Some(shard) = alone else {
            fetched.fetch(store).await.map_err(away)?;
            return Ok((false, None));
        };
        let (positions, is_exact) = fetched.fetch_at(store, shard).await.map_err(away)?;
        Ok((is_exact, Some(positions)))
    }

    /// Encoded keys of all entities of a view in a shared store; None: records are in memory.
    pub(super) fn keys_of(&self, view: usize) -> Result<Option<Vec<Box<[u8]>>>, Failure> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let keys = shared.store.keys_of(self.registry.views[view].plan.hash);
        shared.runtime.block_on(keys).map(Some).map_err(away)
    }

    /// Looks at a record of a shared store, whatever of it the look turns out to need; None: records are in memory.
    pub(super) fn fetched<T>(
        &self,
        view: usize,
        key: &[u8],
        look: impl Fn(&Fetched<'_>) -> T,
    ) -> Option<Result<T, Failure>> {
        let shared = self.shared.as_ref()?;
        let mut fetched = Fetched::new(&self.registry);
        fetched.want(view, key);
        for _ in 0..SHARED_FETCHES {
            if let Err(error) = shared.runtime.block_on(fetched.fetch(&shared.store)) {
                return Some(Err(away(error)));
            }
            let found = look(&fetched);
            if !fetched.is_lacking() {
                return Some(Ok(found));
            }
        }
        Some(Err(Failure::new(
            Remedy::Unavailable,
            "E2061",
            "the record changes faster than it can be read; try again",
        )))
    }

    /// Computes an answer from what is there.
    fn compute(
        &self,
        fetched: &Fetched<'_>,
        (plan, keys, encoded): (&ReadPlan, &Keys, &EncodedKeys),
        times: Times<'_>,
        positions: &Positions,
        stop: &AtomicBool,
    ) -> Result<(Vec<Vec<Answer>>, u64), Failure> {
        let moment = Moment::new(self, times, positions, stop);
        let mut slots: Vec<Vec<Answer>> = (0..plan.slots).map(|_| Vec::with_capacity(keys.rows)).collect();
        let beyond = moment.read_records(fetched, plan, keys, encoded, &mut slots)?;
        if fetched.is_lacking() {
            return Ok((Vec::new(), 0));
        }
        moment.read_log(plan, keys, encoded, beyond, &mut slots)?;
        moment.derive_all(Some(fetched), plan, keys, &mut slots)?;
        Ok((pick(&plan.outputs, slots), moment.row_errors()))
    }

    /// Positions by the places of sources in the registry; None: those that all shards have at least.
    fn placed(&self, positions: Option<Placed>) -> Positions {
        let Some(positions) = positions else { return self.memory.read().positions.clone() };
        let place = |name: &str| self.registry.source(name).map(|at| at as u32);
        positions.iter().filter_map(|(of, next)| Some(((place(&of.source)?, of.partition), *next))).collect()
    }
}
