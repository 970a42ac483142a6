//! From when on a read may see an event: what training knows of the past.

use std::collections::BTreeMap;

use tidemill_features::definitions::Source;
use tidemill_features::stream::EventBatch;

/// By source (its place in the registry) and partition: next offsets, ascending, and when the events before them could be
/// read.
pub type CommitTimes = BTreeMap<(u32, u32), Vec<(u64, i64)>>;

/// Which events a training row sees.
#[derive(Clone, Debug)]
pub enum Visibility {
    /// every event before the row's time, however late it came
    EventTime,
    /// only events that a read at the row's time could have seen
    Served(CommitTimes),
    /// the same, as if each event had come so many microseconds after it happened
    AssumedDelay(i64),
}

impl Visibility {
    /// The first time at which a read may see an event of a batch.
    pub(super) fn visible_from(&self, at: usize, source: &Source, batch: &EventBatch, row: usize) -> i64 {
        match self {
            Visibility::EventTime => i64::MIN,
            Visibility::AssumedDelay(delay) => batch.times[row].saturating_add(*delay),
            Visibility::Served(commits) if source.is_clocked() => {
                let of_partition = commits.get(&(at as u32, batch.partition));
                let found = of_partition
                    .and_then(|commits| commits.get(commits.partition_point(|(next, _)| *next <= batch.offsets[row])));
                // Events of a time when commits were not noted yet were readable soon after they had come.
                found.map_or(batch.arrivals[row], |(_, time)| batch.arrivals[row].max(*time))
            }
            Visibility::Served(_) => batch.arrivals[row],
        }
    }
}
