//! How a sink is doing: for `status` and for metrics.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tidemill_features::definitions::Registry;

use crate::limits::SHARDS;
use crate::online::State;

/// How a sink is doing.
#[derive(Debug, Default)]
pub struct SinkProgress(Mutex<SinkState>);

/// What there is to show.
#[derive(Clone, Debug, Default)]
pub struct SinkState {
    /// whether it runs in this process
    pub runs: bool,
    /// shards whose entities have been sent, of all; None: it only sends what changes
    pub filled: Option<usize>,
    /// why nothing is sent just now
    pub waiting: Option<String>,
    /// the last thing that went wrong
    pub last_error: Option<String>,
    /// what may surprise readers of the topic
    pub warning: Option<String>,
    /// next offsets of the events whose entities have been sent, by source and partition
    pub positions: BTreeMap<(u32, u32), u64>,
    /// messages that brokers have, since the start
    pub messages: u64,
    /// those of them that delete a key
    pub tombstones: u64,
    /// when the last one was acknowledged, microseconds
    pub sent_at: Option<i64>,
    /// failures since the start
    pub errors: u64,
}

impl SinkProgress {
    /// What there is to show.
    pub fn state(&self) -> SinkState {
        self.0.lock().clone()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut SinkState)) {
        change(&mut self.0.lock());
    }

    /// Says why nothing is sent, once for each reason.
    pub(super) fn wait(&self, sink: &str, why: &str) {
        let mut state = self.0.lock();
        if state.waiting.as_deref() != Some(why) {
            tracing::warn!(sink, "the sink waits, everything else goes on: {why}");
            state.errors += 1;
            state.last_error = Some(why.to_string());
            state.waiting = Some(why.to_string());
        }
    }

    /// Messages are sent, or could be.
    pub(super) fn go_on(&self, sink: &str) {
        if self.0.lock().waiting.take().is_some() {
            tracing::info!(sink, "the sink goes on");
        }
    }
}

impl SinkState {
    /// Events that can be read and whose entities have not been sent, about: gaps of topics count.
    pub fn lag(&self, registry: &Registry, at: usize, state: &State) -> u64 {
        let streams = registry.sinks[at].views.iter().filter_map(|view| registry.views[*view].stream.as_ref());
        let sources: Vec<u32> = streams.map(|stream| stream.source as u32).collect();
        let of_sink = state.positions.iter().filter(|((source, _), _)| sources.contains(source));
        of_sink.map(|(of, next)| next.saturating_sub(self.positions.get(of).copied().unwrap_or(0))).sum()
    }

    /// In words.
    pub fn shown(&self) -> String {
        match (&self.waiting, self.filled, self.runs) {
            (_, _, false) => "not run by this process".to_string(),
            (Some(why), ..) => format!("waiting: {why}"),
            (None, Some(filled), _) => format!("sending every entity, {} %", filled * 100 / SHARDS),
            (None, None, _) => "running".to_string(),
        }
    }
}
