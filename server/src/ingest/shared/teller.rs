//! What the one process that owns everything says of itself: for processes that only read from its store, how old reads are and
//! whether something is missing. A group says the same of each member (`says`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Parts;
use super::members::{Member, MemberSource};
use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::limits::SHARED_SWEEP;
use crate::online::Memory;

/// Tells others how this process is.
pub struct Teller {
    /// the store
    pub parts: Parts,
    /// what has been applied
    pub memory: Arc<Memory>,
    /// how sources are
    pub ingest: Ingest,
    /// the clock
    pub clock: Arc<Clock>,
    /// its name among the members
    pub name: String,
    /// where it listens
    pub address: String,
}

/// Pause between two looks at whether the process stops.
const GLANCE: Duration = Duration::from_millis(50);

impl Teller {
    /// Tells until the process stops.
    pub fn run(self) {
        while !self.parts.stopping.load(Ordering::Relaxed) {
            let said = serde_json::to_string(&self.member()).unwrap_or_default();
            if let Err(error) = self.parts.runtime.block_on(self.parts.store.say(&self.name, &said)) {
                tracing::debug!(%error, "others were not told");
            }
            let mut left = SHARED_SWEEP;
            while !left.is_zero() && !self.parts.stopping.load(Ordering::Relaxed) {
                std::thread::sleep(left.min(GLANCE));
                left = left.saturating_sub(GLANCE);
            }
        }
        let _ = self.parts.runtime.block_on(self.parts.store.forget(std::slice::from_ref(&self.name)));
    }

    fn member(&self) -> Member {
        let now = self.clock.now();
        let mut partitions: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let names = |at: u32| self.parts.registry.sources[at as usize].name.clone();
        let known: Vec<(u32, u32)> = self.memory.read().positions.keys().copied().collect();
        known.into_iter().for_each(|(source, partition)| partitions.entry(names(source)).or_default().push(partition));
        let sources = self.parts.registry.sources.iter().enumerate();
        let sources = sources.map(|(at, source)| (source.name.clone(), self.source(at, now))).collect();
        Member { role: "all".into(), address: self.address.clone(), at: now, partitions, sources }
    }

    fn source(&self, at: usize, now: i64) -> MemberSource {
        let pending = &self.ingest.pending[at];
        let behind = pending.behind(now).max(pending.kafka.behind(now));
        // Until everything is there that the log has, nobody knows how old reads are.
        let is_ready = self.ingest.ready.load(Ordering::Acquire);
        let halted = pending.halted.lock().clone();
        let state = pending.kafka.state();
        MemberSource {
            complete_to: if is_ready { now.saturating_sub(behind) } else { i64::MIN },
            lag: pending.events() + pending.kafka.lag(),
            is_halted: halted.is_some() || pending.kafka.is_incomplete(),
            is_lacking: self.parts.trouble.is_feeding() || pending.history.is_incomplete(),
            trouble: halted.or(state.halted).or_else(|| self.parts.trouble.why()).or(state.waiting),
        }
    }
}
