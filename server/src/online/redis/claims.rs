//! Who owns partitions, and what shards say of them.
//!
//! Progress is asked for in pieces: each file is a partition, and one answer with all of them would take longer than an answer may.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::{RedisStore, home_of, not_understood, number, of_key, parse_name, progress, scripts};
use crate::limits::{REDIS_FIELDS, REDIS_LOOKS, REDIS_LOOKS_AT_ALL, SHARDS};
use crate::online::StoreError;
use crate::online::shared::{Progress, SourcePartition, Token};

/// What came of a claim in one shard.
enum ClaimedShard {
    /// what was stored
    Done(Vec<Option<Progress>>),
    /// the owner may not be replaced
    Fenced,
    /// there are records, and nothing says what is in them
    Leftover,
}

/// What was stored of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// by shard
    pub shards: Vec<Option<Progress>>,
    /// at its home
    pub home: Option<Progress>,
}

impl Claimed {
    fn nothing() -> Claimed {
        Claimed { shards: vec![None; SHARDS], home: None }
    }
}

/// Names a piece of progress.
#[derive(Clone, Debug)]
pub struct ProgressOf {
    /// where it lies
    pub shard: usize,
    /// of which partition
    pub partition: SourcePartition,
    /// whether it is that of its home
    pub at_home: bool,
}

impl RedisStore {
    /// Makes a token the owner of partitions in one shard, at their homes there or for their progress.
    async fn claim_in(
        &self,
        shard: usize,
        partitions: &[(SourcePartition, bool)],
        (token, replaced): (Token, Option<&[Vec<u8>]>),
    ) -> Result<ClaimedShard, StoreError> {
        let nothing = Progress { token, ..Progress::default() }.encode();
        let count = replaced.map_or_else(Vec::new, |replaced| number(replaced.len()));
        let mut arguments = vec![token.to_vec(), nothing, count];
        arguments.extend(replaced.unwrap_or_default().iter().cloned());
        arguments.extend(partitions.iter().map(|(partition, at_home)| field(partition, *at_home)));
        let keys = [self.names.progress(shard), self.names.positions(shard)];
        let answer: Vec<Bytes> = self.connection.run(&self.claim, scripts::CLAIM, &keys, &arguments).await?;
        let (head, stored) = answer.split_first().ok_or_else(not_understood)?;
        Ok(match &head[..] {
            b"done" => {
                let stored = stored.iter().map(|stored| progress(stored)).collect::<Result<Vec<_>, _>>();
                ClaimedShard::Done(stored.map_err(|error| of_key(error, &keys[0]))?)
            }
            b"leftover" => ClaimedShard::Leftover,
            _ => ClaimedShard::Fenced,
        })
    }

    /// Makes a token the owner of a partition, in all shards and at its home. What comes back was stored before: by shard, and
    /// at the home. With `replaced`, only owners whose tokens begin with one of these are replaced; None: somebody else owns it.
    /// Shards whose records nobody can account for are emptied first.
    pub async fn claim(
        &self,
        partition: &SourcePartition,
        token: Token,
        replaced: Option<&[Vec<u8>]>,
    ) -> Result<Option<Claimed>, StoreError> {
        let mut claimed = Claimed { shards: vec![None; SHARDS], home: None };
        let (mut unclaimed, mut is_fenced): (Vec<usize>, bool) = ((0..SHARDS).collect(), false);
        while !unclaimed.is_empty() {
            let mut claims = FuturesUnordered::new();
            for shard in unclaimed.drain(..) {
                let mut fields = vec![(partition.clone(), false)];
                if shard == home_of(partition) {
                    fields.push((partition.clone(), true));
                }
                claims.push(async move {
                    let stored = self.claim_in(shard, &fields, (token, replaced)).await?;
                    Ok::<_, StoreError>((shard, stored))
                });
            }
            while let Some(done) = claims.next().await {
                let (shard, stored) = done?;
                match stored {
                    ClaimedShard::Fenced => is_fenced = true,
                    ClaimedShard::Leftover => unclaimed.push(shard),
                    ClaimedShard::Done(mut stored) => {
                        if stored.len() > 1 {
                            claimed.home = stored.pop().flatten();
                        }
                        claimed.shards[shard] = stored.pop().flatten();
                    }
                }
            }
            if is_fenced {
                return Ok(None);
            }
            drop(claims);
            if !unclaimed.is_empty() {
                let gone = self.forget_leftovers_in(&unclaimed).await?;
                tracing::warn!(keys = gone, "shards had records and no progress; they are computed again");
            }
        }
        Ok(Some(claimed))
    }

    /// What is stored of some partitions: in each shard, and at their homes.
    pub async fn look(&self, partitions: &[SourcePartition]) -> Result<Vec<Claimed>, StoreError> {
        let mut found: Vec<Claimed> = partitions.iter().map(|_| Claimed::nothing()).collect();
        // Both fields of each partition are asked for in one command.
        let some = |shard: usize| partitions.chunks(REDIS_FIELDS / 2).map(move |some| (shard, some));
        let looks = (0..SHARDS).flat_map(some).enumerate().map(|(nth, (shard, some))| {
            let both = |partition: &SourcePartition| [field(partition, false), field(partition, true)];
            let fields: Vec<Vec<u8>> = some.iter().flat_map(both).collect();
            async move { Ok::<_, StoreError>((nth, shard, self.fields(shard, &fields).await?)) }
        });
        let commands = partitions.len().div_ceil(REDIS_FIELDS / 2);
        let mut looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(REDIS_LOOKS);
        while let Some(done) = looks.next().await {
            let (nth, shard, stored) = done?;
            let first = nth % commands * (REDIS_FIELDS / 2);
            for (of, pair) in found[first..].iter_mut().zip(stored.chunks(2)) {
                of.shards[shard] = pair[0].clone();
                of.home = pair[1].clone().or(of.home.take());
            }
        }
        Ok(found)
    }

    /// What is stored at some places, in their order.
    pub async fn look_at(&self, places: &[ProgressOf]) -> Result<Vec<Option<Progress>>, StoreError> {
        let mut by_shard: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        places.iter().enumerate().for_each(|(at, place)| by_shard.entry(place.shard).or_default().push(at));
        let some = |(shard, at): (usize, Vec<usize>)| {
            at.chunks(REDIS_FIELDS).map(|some| (shard, some.to_vec())).collect::<Vec<_>>()
        };
        let looks = by_shard.into_iter().flat_map(some).map(|(shard, at)| {
            let fields: Vec<Vec<u8>> = at.iter().map(|at| field(&places[*at].partition, places[*at].at_home)).collect();
            async move { Ok::<_, StoreError>((self.fields(shard, &fields).await?, at)) }
        });
        let mut looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(REDIS_LOOKS);
        let mut found = vec![None; places.len()];
        while let Some(done) = looks.next().await {
            let (stored, at) = done?;
            stored.into_iter().zip(at).for_each(|(stored, at)| found[at] = stored);
        }
        Ok(found)
    }

    /// What some fields of a shard's progress say.
    async fn fields(&self, shard: usize, fields: &[Vec<u8>]) -> Result<Vec<Option<Progress>>, StoreError> {
        let name = self.names.progress(shard);
        let stored: Vec<Option<Bytes>> = self.connection.query(redis::cmd("HMGET").arg(&name).arg(fields)).await?;
        let decoded = |stored: &Option<Bytes>| stored.as_deref().map_or(Ok(None), progress);
        let decoded: Result<Vec<_>, StoreError> = stored.iter().map(decoded).collect();
        decoded.map_err(|error| of_key(error, &name))
    }

    /// Everything that is stored of all partitions, by partition.
    pub async fn look_at_all(&self) -> Result<BTreeMap<SourcePartition, Claimed>, StoreError> {
        let looks = (0..SHARDS).map(|shard| async move {
            let name = self.names.progress(shard);
            let stored: Vec<(Bytes, Bytes)> = self.connection.query(redis::cmd("HGETALL").arg(&name)).await?;
            Ok::<_, StoreError>((shard, name, stored))
        });
        let mut looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(REDIS_LOOKS_AT_ALL);
        let mut found: BTreeMap<SourcePartition, Claimed> = BTreeMap::new();
        while let Some(done) = looks.next().await {
            let (shard, name, stored) = done?;
            for (field, stored) in stored {
                let Some((partition, at_home)) = parse_field(&field) else { continue };
                let of = found.entry(partition).or_insert_with(Claimed::nothing);
                let stored = progress(&stored).map_err(|error| of_key(error, &name))?;
                match at_home {
                    true => of.home = stored,
                    false => of.shards[shard] = stored,
                }
            }
        }
        Ok(found)
    }

    /// By partition: the furthest that any shard is.
    pub async fn furthest(&self) -> Result<BTreeMap<SourcePartition, u64>, StoreError> {
        let looks = (0..SHARDS).map(|shard| self.positions(shard));
        let mut looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(REDIS_LOOKS_AT_ALL);
        let mut found: BTreeMap<SourcePartition, u64> = BTreeMap::new();
        while let Some(done) = looks.next().await {
            for (partition, next) in done? {
                let known = found.entry(partition).or_default();
                *known = next.max(*known);
            }
        }
        Ok(found)
    }
}

pub(super) fn field(partition: &SourcePartition, at_home: bool) -> Vec<u8> {
    format!("{}:{partition}", if at_home { 'h' } else { 'p' }).into_bytes()
}

fn parse_field(field: &[u8]) -> Option<(SourcePartition, bool)> {
    let (kind, name) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((parse_name(name)?, kind == "h"))
}
