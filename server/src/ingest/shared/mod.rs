//! Ingest into a shared store: events of owned partitions become commits in shards.
//!
//! A partition of a source has one owner, whose token stands in every shard. Partitions of several owners meet in the records of
//! an entity; a commit names the version that it was computed from, so whoever comes second reads again and applies again.
//! Records are functions of the set of their events, so it does not matter who that is.
//!
//! `round` takes events of some partitions and spreads them over shards; `shard` applies them there, segment after segment;
//! `owner` claims partitions, `sweep` looks whether the store still says what it said.
//! `owners` knows the tokens that are this data directory's own, `trouble` says what does not go on.
//!
//! `from_log` drives all of it from the event log of a process that owns everything (`removed` is what that log has lost); `group` from topics, of which each process
//! of a consumer group owns some partitions (`held`); `hands` is how they come and go, `says` what a member tells. `members` is
//! what processes say of themselves (`teller` for one that owns everything), and `follower` takes in what all of them have done.

mod cache;
mod follower;
mod from_log;
mod group;
mod hands;
mod held;
mod members;
mod owner;
mod owners;
mod removed;
mod round;
mod says;
mod shard;
mod sweep;
mod teller;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidemill_features::definitions::Registry;
use tokio::runtime::Handle;

pub use self::follower::Follower;
pub(super) use self::from_log::{FromLog, LogParts, take_letters};
pub use self::group::{Group, GroupSource};
pub use self::members::Member;
use self::owner::Home;
use self::owners::Owners;
use self::shard::ShardState;
pub use self::teller::Teller;
pub use self::trouble::Trouble;
use crate::collections::SharedFeed;
use crate::failure::{Failure, Remedy};
use crate::limits::SHARDS;
use crate::online::{RedisStore, StoreError, pause};

/// A partition, by the place of its source in the registry.
pub(crate) type PartitionId = (usize, u32);

/// What turns events into commits.
pub(crate) struct Engine {
    parts: Parts,
    shards: Vec<ShardState>,
    homes: BTreeMap<PartitionId, Home>,
    /// the last partition that was looked at, where there are too many for one sweep
    swept_to: Option<PartitionId>,
    owners: Owners,
    /// by source: the views that it feeds
    views_of_source: HashMap<usize, Vec<usize>>,
}

/// What a shared store is worked on with.
#[derive(Clone)]
pub struct Parts {
    /// the definitions
    pub registry: Arc<Registry>,
    /// the store
    pub store: RedisStore,
    /// on which its connections run
    pub runtime: Handle,
    /// set when the process stops: nobody waits for a store that is away
    pub stopping: Arc<AtomicBool>,
    /// of its keys
    pub prefix: String,
    /// what is said in the store about the definitions of its views
    pub definitions: String,
    /// what is wrong with the store, while it is
    pub trouble: Arc<Trouble>,
    /// indexes of vectors, which follow the store
    pub neighbours: Option<Arc<SharedFeed>>,
}

impl Engine {
    /// Owns nothing yet.
    pub(crate) fn new(parts: Parts) -> Engine {
        let views_of_source = parts.registry.views_of_source();
        let shards = (0..SHARDS).map(|_| ShardState::default()).collect();
        Engine { parts, shards, homes: BTreeMap::new(), swept_to: None, owners: Owners::default(), views_of_source }
    }

    /// What is wrong with the store, while it is.
    pub(crate) fn trouble(&self) -> &Trouble {
        &self.parts.trouble
    }
}

impl Parts {
    /// Makes sure that the store still holds the views of these definitions: one that was emptied is told again.
    pub(super) async fn agree(&self) -> Result<(), Failure> {
        let agreed = self.persist(|| self.store.agree(&self.definitions)).await?;
        if agreed == self.definitions {
            return Ok(());
        }
        let message = "the shared store was emptied, and a process with other definitions has begun to fill it; nothing of this one goes in";
        Err(Failure::new(Remedy::Unavailable, "E1065", message))
    }
}

/// How often it is said that the store is away.
const SAYS_EVERY: Duration = Duration::from_secs(5);

impl Parts {
    /// Asks the store until it answers. Err: it never will, or the process stops.
    #[allow(clippy::disallowed_methods)]
    pub(super) async fn persist<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let (mut tries, mut said, mut waits) = (0, None::<Instant>, self.trouble.no_wait());
        loop {
            let error = match ask().await {
                Ok(answer) => {
                    if said.is_some() {
                        tracing::info!("the shared store takes commits again");
                    }
                    return Ok(answer);
                }
                Err(error @ (StoreError::Damaged(_) | StoreError::InUse(_))) => {
                    return Err(Failure::internal("E1060", error.to_string()));
                }
                Err(error) => error,
            };
            if self.stopping.load(Ordering::Relaxed) {
                return Err(Failure::new(Remedy::Unavailable, "E1013", "the server is stopping"));
            }
            if said.is_none_or(|said| said.elapsed() > SAYS_EVERY) {
                waits.says(format!("E1061: the shared store does not take what it is given: {error}"));
                tracing::error!(%error, tries, "E1061: the shared store does not take what it is given; trying again");
                said = Some(Instant::now());
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
    }
}
