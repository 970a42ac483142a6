//! Follows a shared store: positions, ledgers and how far reading is behind, as all processes together have them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Parts;
use super::members::{Member, MemberSource};
use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::limits::FOLLOW_EVERY;
use crate::online::{Claimed, Memory, SourceLedger, SourcePartition, StoreError, Totals, ViewTotals};

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

/// Pause between two looks at whether the process stops.
const GLANCE: Duration = Duration::from_millis(50);

impl Follower {
    /// Follows until the process stops.
    pub fn run(self) {
        for pending in self.ingest.pending.iter() {
            pending.kafka.begin();
        }
        while !self.parts.stopping.load(Ordering::Relaxed) {
            match self.parts.runtime.clone().block_on(self.follow()) {
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

    async fn follow(&self) -> Result<(), StoreError> {
        let store = &self.parts.store;
        if let Some((name, own)) = &self.own {
            let own = Member { at: self.clock.now(), ..own.clone() };
            store.say(name, &serde_json::to_string(&own).unwrap_or_default()).await?;
        }
        let all = store.look_at_all().await?;
        self.restate(&all);
        let members = store.members().await?;
        let now = self.clock.now();
        let known = members.iter().filter_map(|(name, said)| Some((name.clone(), serde_json::from_str(said).ok()?)));
        let (alive, gone): (BTreeMap<String, Member>, BTreeMap<String, Member>) =
            known.partition(|(_, member): &(String, Member)| member.is_alive(now));
        self.take_progress(&alive);
        self.take_given_up().await?;
        let long_gone = gone.into_iter().filter(|(_, member)| now - member.at > 60 * crate::limits::MEMBER_SILENT);
        store.forget(&long_gone.map(|(name, _)| name).collect::<Vec<_>>()).await?;
        self.memory.set_members(alive.into_iter().map(|(name, member)| (name, member.shown())).collect());
        Ok(())
    }

    /// Positions and ledgers, summed up over all partitions.
    fn restate(&self, all: &BTreeMap<SourcePartition, Claimed>) {
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
    fn take_progress(&self, alive: &BTreeMap<String, Member>) {
        for (at, source) in self.parts.registry.sources.iter().enumerate() {
            let pending = &self.ingest.pending[at];
            let of_source: Vec<&MemberSource> =
                alive.values().filter_map(|member| member.sources.get(&source.name)).collect();
            let complete_to = of_source.iter().map(|member| member.complete_to).min().unwrap_or(i64::MIN);
            let lag = of_source.iter().map(|member| member.lag).sum();
            pending.kafka.set_complete(complete_to, lag);
            pending.kafka.set_halted_elsewhere(of_source.iter().any(|member| member.is_halted));
            let trouble = of_source.iter().find_map(|member| member.trouble.clone());
            let trouble = trouble.or_else(|| of_source.is_empty().then(|| "no process reads it".to_string()));
            match trouble {
                Some(why) => pending.kafka.wait(&source.name, &why),
                None => pending.kafka.go_on(&source.name),
            }
        }
    }
}
