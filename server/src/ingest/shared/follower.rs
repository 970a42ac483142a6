//! Follows a shared store: positions, ledgers and how far reading is behind, as all processes together have them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Parts;
use super::members::{Member, MemberSource};
use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::limits::{FOLLOW_ALL_EVERY, FOLLOW_EVERY, FOLLOW_PARTITIONS, MEMBER_FORGOTTEN, MEMBER_SILENT};
use crate::online::{
    Claimed, Memory, ProgressOf, SourceLedger, SourcePartition, StoreError, Totals, ViewTotals, home_of,
};

/// Takes in what all processes have done.
pub struct Follower {
    /// the store
    pub parts: Parts,
    /// where it is put for reads and `status`
    pub memory: Arc<Memory>,
    /// where the state of sources is put
    pub ingest: Ingest,
    /// the clock
    pub clock: Arc<Clock>,
    /// what this process says of itself, if nothing else says it
    pub own: Option<(String, Member)>,
}

/// What was found by the last looks.
#[derive(Default)]
struct Seen {
    /// when everything was looked at
    all_at: Option<Instant>,
    positions: BTreeMap<(u32, u32), u64>,
    row_errors: u64,
}

/// Pause between two looks at whether the process stops.
const GLANCE: Duration = Duration::from_millis(50);

impl Follower {
    /// Follows until the process stops.
    pub fn run(self) {
        let mut seen = Seen::default();
        for pending in self.ingest.pending.iter() {
            pending.kafka.begin();
        }
        while !self.parts.stopping.load(Ordering::Relaxed) {
            match self.parts.runtime.clone().block_on(self.follow(&mut seen)) {
                Ok(()) => self.ingest.ready.store(true, Ordering::Release),
                Err(error) => tracing::debug!(%error, "the shared store was not followed"),
            }
            let mut left = FOLLOW_EVERY;
            while !left.is_zero() && !self.parts.stopping.load(Ordering::Relaxed) {
                std::thread::sleep(left.min(GLANCE));
                left = left.saturating_sub(GLANCE);
            }
        }
        if let Some((name, _)) = &self.own {
            let _ = self.parts.runtime.block_on(self.parts.store.forget(std::slice::from_ref(name)));
        }
    }

    async fn follow(&self, seen: &mut Seen) -> Result<(), StoreError> {
        let store = &self.parts.store;
        if let Some((name, own)) = &self.own {
            let own = Member { at: self.clock.now(), ..own.clone() };
            // Others can do without; reads cannot do without what comes next.
            if let Err(error) = store.say(name, &serde_json::to_string(&own).unwrap_or_default()).await {
                tracing::debug!(%error, "others were not told");
            }
        }
        let members = store.members().await?;
        let now = self.clock.now();
        let known = members.iter().filter_map(|(name, said)| Some((name.clone(), serde_json::from_str(said).ok()?)));
        let (alive, gone): (BTreeMap<String, Member>, BTreeMap<String, Member>) =
            known.partition(|(_, member): &(String, Member)| member.is_alive(now));
        self.take_positions(&alive, seen).await?;
        self.take_progress(&alive, &gone);
        self.take_given_up().await?;
        let counts = |name: &str| {
            self.parts
                .registry
                .sources
                .iter()
                .any(|of| orphaned(&of.name, &alive, &gone).iter().any(|(orphan, _)| *orphan == name))
        };
        let is_over =
            |name: &str, silent: i64| silent > MEMBER_FORGOTTEN || (silent > 60 * MEMBER_SILENT && !counts(name));
        let long_gone = gone.iter().filter(|(name, member)| is_over(name, now.saturating_sub(member.at)));
        let long_gone: Vec<String> = long_gone.map(|(name, _)| name.clone()).collect();
        if let Err(error) = store.forget(&long_gone).await {
            tracing::debug!(%error, "processes that are gone are still listed");
        }
        self.memory.set_members(alive.into_iter().map(|(name, member)| (name, member.shown())).collect());
        Ok(())
    }

    /// How far all partitions are, by their homes; everything else, which lies in all shards, now and then.
    #[allow(clippy::disallowed_methods)]
    async fn take_positions(&self, alive: &BTreeMap<String, Member>, seen: &mut Seen) -> Result<(), StoreError> {
        let pace = seen.positions.len().div_ceil(FOLLOW_PARTITIONS) as u32;
        let every = FOLLOW_EVERY.saturating_mul(pace).min(FOLLOW_ALL_EVERY);
        if pace <= 1 || seen.all_at.is_none_or(|at| at.elapsed() >= every) {
            let all = self.parts.store.look_at_all().await?;
            self.restate(&all, seen);
            seen.all_at = Some(Instant::now());
            return Ok(());
        }
        let said = alive.values().flat_map(|member| &member.partitions);
        let named = said.filter_map(|(source, of)| Some((self.parts.registry.source(source)? as u32, of)));
        let named = named.flat_map(|(source, of)| of.iter().map(move |partition| (source, *partition)));
        let wanted: BTreeSet<(u32, u32)> = seen.positions.keys().copied().chain(named).collect();
        let home = |(source, partition): &(u32, u32)| {
            let partition = self.parts.named((*source as usize, *partition));
            ProgressOf { shard: home_of(&partition), partition, at_home: true }
        };
        let homes = self.parts.store.look_at(&wanted.iter().map(home).collect::<Vec<_>>()).await?;
        let positions = wanted.into_iter().zip(homes).filter_map(|(of, home)| Some((of, home?.next)));
        seen.positions = positions.collect();
        self.memory.reposition(seen.positions.clone(), seen.row_errors);
        Ok(())
    }

    /// Positions and ledgers, summed up over all partitions.
    fn restate(&self, all: &BTreeMap<SourcePartition, Claimed>, seen: &mut Seen) {
        let registry = &self.parts.registry;
        let mut sources: BTreeMap<usize, SourceLedger> =
            (0..registry.sources.len()).map(|at| (at, SourceLedger::default())).collect();
        let (mut totals, mut positions) = (Totals::default(), BTreeMap::new());
        for (partition, claimed) in all {
            let Some(source) = registry.source(&partition.source) else { continue };
            if let Some(home) = &claimed.home {
                sources.entry(source).or_default().add(&home.totals.source);
                positions.insert((source as u32, partition.partition), home.next);
                totals.add(&home.totals);
            }
            claimed.shards.iter().flatten().for_each(|stored| totals.add(&stored.totals));
        }
        let of_view = |(at, view): (usize, &Arc<tidemill_features::definitions::View>)| {
            (at, totals.views.get(&view.plan.hash).copied().unwrap_or_default())
        };
        let views: BTreeMap<usize, ViewTotals> = registry.views.iter().enumerate().map(of_view).collect();
        self.memory.restate(&sources, &views);
        (seen.positions, seen.row_errors) = (positions.clone(), totals.row_errors);
        self.memory.reposition(positions, totals.row_errors);
    }

    /// What was gone on without.
    async fn take_given_up(&self) -> Result<(), StoreError> {
        for (source, pending) in self.parts.registry.sources.iter().zip(self.ingest.pending.iter()) {
            let said = self.parts.store.given_up(&source.name).await?;
            let given_up = said.iter().filter_map(|said| serde_json::from_str(said).ok()).collect();
            pending.kafka.set(|state| state.given_up = given_up);
        }
        Ok(())
    }

    /// How far the readers of each source are behind: the one that is behind most counts.
    fn take_progress(&self, alive: &BTreeMap<String, Member>, gone: &BTreeMap<String, Member>) {
        for (at, source) in self.parts.registry.sources.iter().enumerate() {
            let pending = &self.ingest.pending[at];
            let silent = orphaned(&source.name, alive, gone);
            let of_source = alive.values().filter_map(|member| member.sources.get(&source.name));
            let is_read = of_source.clone().next().is_some();
            let of_source: Vec<&MemberSource> = of_source.chain(silent.iter().map(|(_, member)| *member)).collect();
            let complete_to = of_source.iter().map(|member| member.complete_to).min().unwrap_or(i64::MIN);
            let lag = of_source.iter().map(|member| member.lag).sum();
            pending.kafka.set_complete(complete_to, lag);
            pending.kafka.set_halted_elsewhere(of_source.iter().any(|member| member.is_halted || member.is_lacking));
            let trouble = of_source.iter().find_map(|member| member.trouble.clone());
            let silent = silent.iter().map(|(name, _)| (*name).to_string()).collect::<Vec<_>>().join(", ");
            let unread = match (is_read, silent.is_empty()) {
                (false, _) => Some("no process reads it".to_string()),
                (true, false) => {
                    Some(format!("nobody has taken over yet what {silent} reads, which says nothing any more"))
                }
                (true, true) => None,
            };
            let trouble = trouble.or(unread);
            match trouble {
                Some(why) => pending.kafka.wait(&source.name, &why),
                None => pending.kafka.go_on(&source.name),
            }
        }
    }
}

/// Who says nothing any more and had partitions of a source that no living process names: these stand where they were then. One
/// that cannot reach the store keeps its partitions as long as the group hears of it.
fn orphaned<'m>(
    source: &str,
    alive: &BTreeMap<String, Member>,
    gone: &'m BTreeMap<String, Member>,
) -> Vec<(&'m str, &'m MemberSource)> {
    let partitions = |member: &'m Member| member.partitions.get(source).map_or(&[][..], Vec::as_slice);
    let read: BTreeSet<u32> =
        alive.values().filter_map(|member| member.partitions.get(source)).flatten().copied().collect();
    let is_orphaned = |member: &'m Member| partitions(member).iter().any(|partition| !read.contains(partition));
    gone.iter()
        .filter(|(_, member)| is_orphaned(member))
        .filter_map(|(name, member)| Some((name.as_str(), member.sources.get(source)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_member_counts_until_others_have_its_partitions() {
        let member = |partitions: &[u32]| Member {
            address: "there".into(),
            partitions: [("s".to_string(), partitions.to_vec())].into(),
            sources: [("s".to_string(), MemberSource { complete_to: 7, ..MemberSource::default() })].into(),
            ..Member::default()
        };
        let all =
            |members: &[Member]| members.iter().enumerate().map(|(at, of)| (at.to_string(), of.clone())).collect();
        let count = |alive: &[Member], gone: &[Member]| orphaned("s", &all(alive), &all(gone)).len();
        assert_eq!(count(&[], &[member(&[0])]), 1);
        assert_eq!(count(&[member(&[1])], &[member(&[0, 1])]), 1);
        assert_eq!(count(&[member(&[1]), member(&[0])], &[member(&[0, 1]), member(&[])]), 0);
        assert!(orphaned("other", &all(&[]), &all(&[member(&[0])])).is_empty());
    }
}
