//! The look at whether the store still says what it said.
//!
//! Each partition has its progress in each shard, and each file is a partition: there may be millions. So a sweep looks at all
//! progress of some partitions, and the next one at that of the next; between them it looks at what this process wrote last in each
//! shard, because a shard that goes back in time loses that first. (Not always: something else may have been written there since.)
//! Where anything is wrong, everything is looked at, so that all of it is fed again together.

use std::collections::BTreeMap;

use super::owner::Disturbance;
use super::{Engine, PartitionId};
use crate::failure::Failure;
use crate::limits::SWEEP_PARTITIONS;
use crate::online::{Progress, ProgressOf, SourcePartition};

/// Partitions of which the store does not say what it should, and what it says.
type Disturbed = BTreeMap<PartitionId, Option<Progress>>;

impl Engine {
    /// Looks whether the store says of owned partitions what it should. Gives those of which it does not, and what it says; and
    /// whether all have been looked at by now, one sweep after the other.
    pub(crate) fn sweep(&mut self) -> Result<(Disturbed, bool), Failure> {
        let parts = self.parts.clone();
        parts.runtime.block_on(parts.agree())?;
        let all = self.owned();
        let (some, were_all) = self.next_to_sweep(&all);
        let disturbed = self.look_at(&some)?;
        if some.len() == all.len() || (disturbed.is_empty() && self.last_words_stand()?) {
            return Ok((disturbed, were_all));
        }
        Ok((self.look_at_all()?, true))
    }

    /// The same of all owned partitions.
    pub(super) fn look_at_all(&self) -> Result<Disturbed, Failure> {
        self.look_at(&self.owned())
    }

    /// The partitions whose turn it is, and whether the last one is among them.
    fn next_to_sweep(&mut self, all: &[PartitionId]) -> (Vec<PartitionId>, bool) {
        if all.len() <= SWEEP_PARTITIONS {
            return (all.to_vec(), true);
        }
        let first = all.partition_point(|id| Some(*id) <= self.swept_to);
        let some: Vec<PartitionId> = all.iter().cycle().skip(first).take(SWEEP_PARTITIONS).copied().collect();
        self.swept_to = some.last().copied();
        (some, first + SWEEP_PARTITIONS >= all.len())
    }

    /// Whether the store has in each shard what this process wrote there last.
    fn last_words_stand(&self) -> Result<bool, Failure> {
        let (mut asked, mut known) = (Vec::new(), Vec::new());
        for (shard, state) in self.shards.iter().enumerate() {
            let Some((id, at_home)) = state.last_word() else { continue };
            let said = if at_home { self.homes.get(&id).map(|home| &home.stored) } else { state.stored(id) };
            let Some(said) = said else { continue };
            asked.push(ProgressOf { shard, partition: self.parts.named(id), at_home });
            known.push(said);
        }
        let parts = &self.parts;
        let found = parts.runtime.block_on(parts.persist(|| parts.store.look_at(&asked)))?;
        Ok(found.iter().zip(known).all(|(stored, known)| is_same(stored.as_ref(), known)))
    }

    fn look_at(&self, ids: &[PartitionId]) -> Result<Disturbed, Failure> {
        let parts = &self.parts;
        let names: Vec<SourcePartition> = ids.iter().map(|id| parts.named(*id)).collect();
        let found = parts.runtime.block_on(parts.persist(|| parts.store.look(&names)))?;
        let mut disturbed = BTreeMap::new();
        for (id, claimed) in ids.iter().zip(found) {
            let home = self.homes.get(id).map(|home| (claimed.home.as_ref(), &home.stored));
            let shards = claimed.shards.iter().map(Option::as_ref).zip(&self.shards);
            let shards = shards.filter_map(|(stored, shard)| Some((stored, shard.stored(*id)?)));
            let mut wrong = home.into_iter().chain(shards).filter(|(stored, known)| !is_same(*stored, known));
            if let Some((first, _)) = wrong.next() {
                // One that somebody else owns says more than one that is merely older.
                let others = wrong.map(|(stored, _)| stored);
                let fenced = std::iter::once(first).chain(others).find(|s| self.judge(*id, *s) == Disturbance::Fenced);
                disturbed.insert(*id, fenced.unwrap_or(first).cloned());
            }
        }
        Ok(disturbed)
    }
}

fn is_same(stored: Option<&Progress>, known: &Progress) -> bool {
    stored.is_some_and(|stored| (stored.token, stored.state()) == (known.token, known.state()))
}
