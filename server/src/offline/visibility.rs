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

/// Says of each event from when on it is seen, and of each row until when it sees: both are times or, for prefixes, counts of
/// events in the order of the log.
pub(super) struct Sight<'v> {
    visibility: &'v Visibility,
    /// events of the log so far
    count: i64,
    prefixes: Vec<Prefix>,
    /// how many of the prefixes, shortest first, have ended
    ended: usize,
}

/// A log prefix that some rows see.
struct Prefix {
    positions: Positions,
    rows: Vec<usize>,
    /// events of the log that are in it
    events: i64,
}

impl<'v> Sight<'v> {
    pub(super) fn new(visibility: &'v Visibility) -> Self {
        let mut rows_of: BTreeMap<&Positions, Vec<usize>> = BTreeMap::new();
        if let Visibility::Prefixes(prefixes) = visibility {
            prefixes.iter().enumerate().for_each(|(row, positions)| rows_of.entry(positions).or_default().push(row));
        }
        let prefix = |(positions, rows): (&Positions, Vec<usize>)| Prefix {
            positions: positions.clone(),
            rows,
            events: i64::MAX,
        };
        let mut prefixes: Vec<Prefix> = rows_of.into_iter().map(prefix).collect();
        // Prefixes of one log contain one another, so the sum of their offsets orders them.
        prefixes.sort_by_key(|prefix| prefix.positions.values().map(|next| u128::from(*next)).sum::<u128>());
        Sight { visibility, count: 0, prefixes, ended: 0 }
    }

    /// From when on each event of the next batch is seen.
    pub(super) fn of_batch(&mut self, at: usize, source: &Source, batch: &EventBatch) -> Vec<i64> {
        if !matches!(self.visibility, Visibility::Prefixes(_)) {
            return (0..batch.len()).map(|row| self.time_of(at, source, batch, row)).collect();
        }
        let partition = (at as u32, batch.partition);
        while let Some(prefix) = self.prefixes.get_mut(self.ended) {
            let next = prefix.positions.get(&partition).copied().unwrap_or(0);
            let inside = batch.offsets.partition_point(|offset| *offset < next);
            if inside == batch.len() {
                break;
            }
            prefix.events = self.count + inside as i64;
            self.ended += 1;
        }
        let first = self.count;
        self.count += batch.len() as i64;
        (first..self.count).collect()
    }

    fn time_of(&self, at: usize, source: &Source, batch: &EventBatch, row: usize) -> i64 {
        match self.visibility {
            Visibility::EventTime | Visibility::Prefixes(_) => i64::MIN,
            Visibility::AssumedDelay(delay) => batch.times[row].saturating_add(*delay),
            Visibility::Served(commits) if source.is_clocked(batch.partition) => {
                let of_partition = commits.get(&(at as u32, batch.partition));
                let found = of_partition
                    .and_then(|commits| commits.get(commits.partition_point(|(next, _)| *next <= batch.offsets[row])));
                // Events of a time when commits were not noted yet were readable soon after they had come.
                found.map_or(batch.arrivals[row], |(_, time)| batch.arrivals[row].max(*time))
            }
            Visibility::Served(_) => batch.arrivals[row],
        }
    }

    /// Until when each row sees, once all batches were looked at.
    pub(super) fn until(&self, times: &[i64]) -> Vec<i64> {
        let mut until = times.to_vec();
        for prefix in &self.prefixes {
            // The event with number n is seen from n on: a prefix of n events ends at n - 1.
            let last = if prefix.events == i64::MAX { i64::MAX } else { prefix.events - 1 };
            prefix.rows.iter().for_each(|row| until[*row] = last);
        }
        until
    }
}
