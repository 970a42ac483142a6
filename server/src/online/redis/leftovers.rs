//! What is done before a process begins with a store: whether it may write is tried, and records are forgotten of which nobody
//! can say what is in them.
//!
//! A shard without any progress is fed from the first event on. Records that lie there all the same (somebody has deleted the
//! progress, or Redis has, to make room) would count those events twice; so they go first. They go in scripts that look for
//! progress once more, since another process may have begun with the shard meanwhile. Progress may go at any time, also between
//! this and a claim: a claim sees that by the positions, which every shard with records has, and has the shard emptied first.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::Script;

use super::{RedisStore, scripts};
use crate::limits::{REDIS_FORGET_KEYS, SHARDS};
use crate::online::StoreError;

impl RedisStore {
    /// Whether this user may do what commits need. It is better to know that at the start than at the first commit.
    pub async fn try_writes(&self) -> Result<(), StoreError> {
        let keys = [self.names.probe()];
        let left: i64 = self.connection.run(&Script::new(scripts::PROBE), scripts::PROBE, &keys, &[]).await?;
        debug_assert_eq!(left, 0, "a hash without fields is no key");
        Ok(())
    }

    /// Forgets everything in shards that have no progress of any partition. Gives how many keys that were.
    pub async fn forget_leftovers(&self) -> Result<u64, StoreError> {
        let bare = self.bare_shards().await?;
        self.forget_leftovers_in(&bare).await
    }

    /// The same in some shards.
    pub(super) async fn forget_leftovers_in(&self, bare: &[usize]) -> Result<u64, StoreError> {
        if bare.is_empty() {
            return Ok(0);
        }
        let in_bare = |name: Vec<u8>| {
            let shard = self.names.shard_of_name(&name)?;
            bare.contains(&shard).then_some((shard, name))
        };
        let mut by_shard: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for (shard, name) in self.connection.scan(&self.names.in_shards(), in_bare).await? {
            by_shard.entry(shard).or_default().push(name);
        }
        let (script, mut gone) = (Script::new(scripts::FORGET), 0);
        for (shard, mut names) in by_shard {
            // Positions say that there may be records: they go last, or what a crash leaves would be taken for nothing.
            let positions = self.names.positions(shard);
            names.sort_by_key(|name| *name == positions);
            for names in names.chunks(REDIS_FORGET_KEYS) {
                let keys = [&[self.names.progress(shard)], names].concat();
                gone += self.connection.run::<u64>(&script, scripts::FORGET, &keys, &[]).await?;
            }
        }
        Ok(gone)
    }

    async fn bare_shards(&self) -> Result<Vec<usize>, StoreError> {
        let mut looks = FuturesUnordered::new();
        for shard in 0..SHARDS {
            looks.push(async move {
                let mut command = redis::cmd("HLEN");
                command.arg(self.names.progress(shard));
                Ok::<_, StoreError>((shard, self.connection.query::<u64>(&command).await?))
            });
        }
        let mut bare = Vec::new();
        while let Some(done) = looks.next().await {
            let (shard, partitions) = done?;
            bare.extend((partitions == 0).then_some(shard));
        }
        Ok(bare)
    }
}
