//! Which events a row of a replay sees: by the time at which they could be read, or by the log prefix that an answer named.

use std::collections::BTreeMap;

use tidemill_features::definitions::Source;
use tidemill_features::stream::EventBatch;

/// By source (its place in the registry) and partition: next offsets, ascending, and when the events before them could be
/// read.
pub type CommitTimes = BTreeMap<(u32, u32), Vec<(u64, i64)>>;

/// Next offsets by source (its place in the registry) and partition.
pub type Positions = BTreeMap<(u32, u32), u64>;

/// Which events a row sees.
#[derive(Clone, Debug)]
pub enum Visibility {
    /// every event before the row's time, however late it came
    EventTime,
    /// only events that a read at the row's time could have seen
    Served(CommitTimes),
    /// the same, as if each event had come so many microseconds after it happened
    AssumedDelay(i64),
    /// by row: the events before these positions, whatever the time
    Prefixes(Vec<Positions>),
}

impl Visibility {
    /// What some of the rows see.
    pub(super) fn of_rows(&self, rows: &[usize]) -> Visibility {
        match self {
            Visibility::Prefixes(all) => Visibility::Prefixes(rows.iter().map(|row| all[*row].clone()).collect()),
            other => other.clone(),
        }
    }
}

/// Says of each event from when on it is seen, and of each row until when it sees: both are times or, for prefixes, numbers of
/// prefixes.
pub(super) struct Sight<'v> {
    visibility: &'v Visibility,
    /// log prefixes, each within the next, and the rows that see them
    prefixes: Vec<(&'v Positions, Vec<usize>)>,
    /// by source and partition: where each prefix ends
    ends: BTreeMap<(u32, u32), Vec<u64>>,
}

impl<'v> Sight<'v> {
    pub(super) fn new(visibility: &'v Visibility) -> Self {
        let mut rows_of: BTreeMap<&Positions, Vec<usize>> = BTreeMap::new();
        if let Visibility::Prefixes(prefixes) = visibility {
            prefixes.iter().enumerate().for_each(|(row, positions)| rows_of.entry(positions).or_default().push(row));
        }
        let mut prefixes: Vec<(&Positions, Vec<usize>)> = rows_of.into_iter().collect();
        // Prefixes of one log contain one another, so the sum of their offsets orders them.
        prefixes.sort_by_key(|(positions, _)| positions.values().map(|next| u128::from(*next)).sum::<u128>());
        let mut ends = BTreeMap::new();
        for partition in prefixes.iter().flat_map(|(positions, _)| positions.keys()) {
            let end = |positions: &Positions| positions.get(partition).copied().unwrap_or(0);
            ends.entry(*partition).or_insert_with(|| prefixes.iter().map(|(positions, _)| end(positions)).collect());
        }
        Sight { visibility, prefixes, ends }
    }

    /// From when on each event of a batch is seen.
    pub(super) fn of_batch(&self, at: usize, source: &Source, batch: &EventBatch) -> Vec<i64> {
        let partition = (at as u32, batch.partition);
        match self.visibility {
            Visibility::EventTime => vec![i64::MIN; batch.len()],
            Visibility::AssumedDelay(delay) => batch.times.iter().map(|time| time.saturating_add(*delay)).collect(),
            Visibility::Prefixes(_) => {
                let ends = self.ends.get(&partition).map_or(&[][..], Vec::as_slice);
                let first_prefix = |offset: &u64| ends.partition_point(|end| end <= offset);
                // A partition that no prefix knows is in none of them.
                let seen = |offset| if ends.is_empty() { i64::MAX } else { first_prefix(offset) as i64 };
                batch.offsets.iter().map(seen).collect()
            }
            Visibility::Served(commits) if source.is_live(batch.partition) => {
                let commits = commits.get(&partition).map_or(&[][..], Vec::as_slice);
                let seen = |(arrival, offset): (&i64, &u64)| {
                    let commit = commits.get(commits.partition_point(|(next, _)| next <= offset));
                    // Events of a time when commits were not noted yet were readable soon after they had come.
                    commit.map_or(*arrival, |(_, time)| *arrival.max(time))
                };
                batch.arrivals.iter().zip(&batch.offsets).map(seen).collect()
            }
            Visibility::Served(_) => batch.arrivals.clone(),
        }
    }

    /// Until when each row sees.
    pub(super) fn until(&self, times: &[i64]) -> Vec<i64> {
        let mut until = times.to_vec();
        for (number, (_, rows)) in self.prefixes.iter().enumerate() {
            rows.iter().for_each(|row| until[*row] = number as i64);
        }
        until
    }
}
