//! Owning partitions: claims, and what tells shards without events how far their partitions are.

use std::collections::BTreeMap;

use futures::StreamExt;

use super::owners::Owners;
use super::round::Done;
use super::{Engine, PartitionId, Parts};
use crate::failure::{Failure, Remedy};
use crate::limits::{OLDER_TOKENS, SHARED_COMMITS_IN_FLIGHT};
use crate::online::{
    Claimed, Outcome, PartitionStep, Print, Progress, ShardCommit, SourceLedger, SourcePartition, Token, Totals,
    ViewTotals, home_of,
};
use crate::place::LogPlace;

/// An owned partition.
pub(crate) struct Home {
    /// what its home says
    pub(super) stored: Progress,
    /// tokens that may still stand in a store which has gone back in time
    older: Vec<Token>,
    /// the least offset that some shard waits for; what is fed begins there
    pub(super) start: u64,
}

/// What it means that the store says something else than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// the store has gone back in time, or lost everything
    WentBack,
    /// somebody else owns the partition now
    Fenced,
}

impl Parts {
    /// The name of a partition.
    pub(super) fn named(&self, (source, partition): PartitionId) -> SourcePartition {
        SourcePartition { source: self.registry.sources[source].name.clone(), partition }
    }
}

impl Engine {
    /// Claims a partition, whoever owns it. Gives the offset from which its events are to be fed.
    pub(crate) fn claim(&mut self, id: PartitionId) -> Result<u64, Failure> {
        self.claim_from(id, None).map(Option::unwrap_or_default)
    }

    /// Claims a partition anew, unless somebody else owns it by now (None): what the store said a moment ago may be what it said
    /// before the other one came.
    pub(crate) fn claim_again(&mut self, id: PartitionId) -> Result<Option<u64>, Failure> {
        let mut replaced = self.owners.starts();
        if let Some(home) = self.homes.get(&id) {
            replaced.extend(home.older.iter().chain([&home.stored.token]).map(|token| token.to_vec()));
        }
        self.claim_from(id, Some(&replaced))
    }

    fn claim_from(&mut self, id: PartitionId, replaced: Option<&[Vec<u8>]>) -> Result<Option<u64>, Failure> {
        let (token, name, parts) = (self.owners.token(), self.parts.named(id), self.parts.clone());
        let claim = parts.persist(|| parts.store.claim(&name, token, replaced));
        let Some(Claimed { shards, home }) = parts.runtime.block_on(claim)? else { return Ok(None) };
        let mut older = self.homes.remove(&id).map_or_else(Vec::new, |home| {
            let mut older = home.older;
            older.push(home.stored.token);
            older
        });
        for stored in shards.iter().chain([&home]).flatten() {
            if !older.contains(&stored.token) {
                older.push(stored.token);
            }
        }
        older.drain(..older.len().saturating_sub(OLDER_TOKENS));
        let owned = |stored: Option<Progress>| Progress { token, ..stored.unwrap_or_default() };
        let home = owned(home);
        let mut start = home.next;
        for (state, stored) in self.shards.iter_mut().zip(shards) {
            let stored = owned(stored);
            start = start.min(stored.next);
            state.own(id, stored);
        }
        self.homes.insert(id, Home { stored: home, older, start });
        Ok(Some(start))
    }

    /// Gives a partition up. What is stored stays.
    pub(crate) fn release(&mut self, id: PartitionId) {
        self.homes.remove(&id);
        self.shards.iter_mut().for_each(|shard| shard.disown(id));
    }

    /// Whether a partition is owned.
    pub(crate) fn owns(&self, id: PartitionId) -> bool {
        self.homes.contains_key(&id)
    }

    /// Owned partitions.
    pub(crate) fn owned(&self) -> Vec<PartitionId> {
        self.homes.keys().copied().collect()
    }

    /// By owned partition: the offset from which it was to be fed when it was claimed.
    pub(crate) fn starts(&self) -> BTreeMap<PartitionId, u64> {
        self.homes.iter().map(|(id, home)| (*id, home.start)).collect()
    }

    /// Next offsets of owned partitions: everything before is in, in every shard.
    pub(crate) fn positions(&self) -> BTreeMap<PartitionId, u64> {
        self.homes.iter().map(|(id, home)| (*id, home.start.min(home.stored.next))).collect()
    }

    /// Up to which offset the store has had an owned partition, as its home remembers it.
    pub(crate) fn had(&self, id: PartitionId) -> u64 {
        self.homes.get(&id).map_or(0, |home| home.stored.next)
    }

    /// How the last record of an owned partition looked, and whether any of its events was ever taken in.
    pub(crate) fn last_print(&self, id: PartitionId) -> (Option<Print>, bool) {
        let home = self.homes.get(&id).map(|home| &home.stored);
        (home.and_then(|stored| stored.totals.print), home.is_some_and(|stored| stored.sequence > 0))
    }

    /// Where a walk over the log finds everything that a shard may lack of a partition, if that is known.
    pub(crate) fn safe_place(&self, id: PartitionId) -> Option<LogPlace> {
        let home = self.homes.get(&id)?;
        home.stored.totals.safe.filter(|(_, offset)| home.start >= *offset).map(|(place, _)| place)
    }

    /// What became of the events of all owned partitions: by source, and by view.
    pub(crate) fn totals(&self) -> (BTreeMap<usize, SourceLedger>, BTreeMap<usize, ViewTotals>) {
        let (mut sources, mut all): (BTreeMap<usize, SourceLedger>, Totals) = Default::default();
        for (id, home) in &self.homes {
            sources.entry(id.0).or_default().add(&home.stored.totals.source);
            all.add(&home.stored.totals);
            self.shards.iter().filter_map(|shard| shard.stored(*id)).for_each(|stored| all.add(&stored.totals));
        }
        let at = |hash: u64| self.parts.registry.views.iter().position(|view| view.plan.hash == hash);
        let views = all.views.iter().filter_map(|(hash, totals)| Some((at(*hash)?, *totals))).collect();
        (sources, views)
    }

    /// What it means that the store says this of an owned partition.
    pub(crate) fn judge(&self, id: PartitionId, stored: Option<&Progress>) -> Disturbance {
        let Some(home) = self.homes.get(&id) else { return Disturbance::Fenced };
        match stored {
            Some(stored) if !home.older.contains(&stored.token) && !self.owners.knows(&stored.token) => {
                Disturbance::Fenced
            }
            _ => Disturbance::WentBack,
        }
    }

    /// Remembers in a file which tokens are those of this data directory.
    pub(crate) fn remember_owners(&mut self, file: &std::path::Path) -> Result<(), Failure> {
        let unwritable =
            |e: std::io::Error| Failure::new(Remedy::Unavailable, "E1067", format!("{}: {e}", file.display()));
        self.owners = Owners::at(file).map_err(unwritable)?;
        Ok(())
    }

    /// Makes sure, before partitions are claimed, that nothing lies in the store that would be counted twice.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let parts = &self.parts;
        parts.runtime.block_on(parts.agree())?;
        let gone = parts.runtime.block_on(parts.persist(|| parts.store.forget_leftovers()))?;
        if gone > 0 {
            tracing::warn!(
                keys = gone,
                "the shared store had records of shards that have no positions; they are computed again"
            );
        }
        Ok(())
    }

    /// Tells shards that had no events how far their partitions are, and homes where a walk over the log may begin.
    pub(crate) fn barrier(
        &mut self,
        place: Option<LogPlace>,
    ) -> Result<BTreeMap<PartitionId, Option<Progress>>, Failure> {
        let parts = self.parts.clone();
        let mut commits = Vec::new();
        for (shard, state) in self.shards.iter().enumerate() {
            let batch = rand::random();
            let steps = self.homes.keys().filter_map(|id| {
                let (from, mut to) = state.barrier(*id)?;
                to.batch = batch;
                Some((*id, PartitionStep { partition: parts.named(*id), from, to }))
            });
            let (ids, partitions): (Vec<PartitionId>, Vec<_>) = steps.unzip();
            if !ids.is_empty() {
                commits.push((ids, ShardCommit { shard, batch, partitions, records: Vec::new(), at_home: false }));
            }
        }
        let mut disturbed = self.commit_steps(commits)?;
        let is_new = |home: &Home| place.is_some() && home.stored.totals.safe != place.map(|at| (at, home.stored.next));
        let moved: Vec<PartitionId> = self.homes.iter().filter(|(_, home)| is_new(home)).map(|(id, _)| *id).collect();
        let mut commits = Vec::new();
        for id in moved.into_iter().filter(|id| !disturbed.contains_key(id)) {
            if let Some(home) = self.homes.get(&id) {
                let safe = place.map(|place| (place, home.stored.next));
                let totals = Totals { safe, ..home.stored.totals.clone() };
                commits.push(self.home_step(id, Progress { totals, ..home.stored.clone() }));
            }
        }
        disturbed.extend(self.commit_steps(commits)?);
        Ok(disturbed)
    }

    /// Tells homes what a round did.
    pub(super) fn commit_homes(
        &mut self,
        counted: BTreeMap<PartitionId, Totals>,
        ends: &BTreeMap<PartitionId, u64>,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let mut commits = Vec::new();
        for (id, counted) in &counted {
            let Some(home) = self.homes.get(id) else { continue };
            let mut to = home.stored.clone();
            to.next = to.next.max(ends[id]);
            to.totals.add(counted);
            if to.next > home.stored.next {
                commits.push(self.home_step(*id, to));
            }
        }
        let disturbed = self.commit_steps(commits)?;
        for (id, counted) in counted.into_iter().filter(|(id, _)| !disturbed.contains_key(id)) {
            done.sources.entry(id.0).or_default().add(&counted.source);
            done.row_errors += counted.row_errors;
            for (hash, totals) in &counted.views {
                let view = self.parts.registry.views.iter().position(|view| view.plan.hash == *hash);
                view.into_iter().for_each(|view| super::round::add(done.views.entry(view).or_default(), totals));
            }
        }
        done.disturbed.extend(disturbed);
        Ok(())
    }

    fn home_step(&self, id: PartitionId, to: Progress) -> (Vec<PartitionId>, ShardCommit) {
        let (partition, batch) = (self.parts.named(id), rand::random());
        let from = self.homes.get(&id).map_or([0; 16], |home| home.stored.state());
        let shard = home_of(&partition);
        let to = Progress { batch, sequence: to.sequence + 1, ..to };
        let partitions = vec![PartitionStep { partition, from, to }];
        (vec![id], ShardCommit { shard, batch, partitions, records: Vec::new(), at_home: true })
    }

    /// Does commits without records, side by side, and remembers what they did.
    fn commit_steps(
        &mut self,
        commits: Vec<(Vec<PartitionId>, ShardCommit)>,
    ) -> Result<BTreeMap<PartitionId, Option<Progress>>, Failure> {
        let parts = self.parts.clone();
        let mut disturbed = BTreeMap::new();
        parts.runtime.block_on(async {
            let commit = |(ids, commit): (Vec<PartitionId>, ShardCommit)| {
                let parts = &parts;
                async move {
                    let outcome = parts.persist(|| parts.store.commit(&commit)).await?;
                    Ok::<_, Failure>((ids, commit, outcome))
                }
            };
            let mut commits =
                futures::stream::iter(commits.into_iter().map(commit)).buffer_unordered(SHARED_COMMITS_IN_FLIGHT);
            while let Some(done) = commits.next().await {
                let (ids, commit, outcome) = done?;
                match outcome {
                    Outcome::Moved { step, stored } => drop(disturbed.insert(ids[step], stored)),
                    _ => {
                        let shard = &mut self.shards[commit.shard];
                        for (id, step) in ids.into_iter().zip(commit.partitions) {
                            match commit.at_home {
                                true => {
                                    self.homes.get_mut(&id).into_iter().for_each(|home| home.stored = step.to.clone());
                                    shard.wrote_home(id);
                                }
                                false => shard.committed(id, step.to),
                            }
                        }
                    }
                }
            }
            Ok::<(), Failure>(())
        })?;
        Ok(disturbed)
    }
}
