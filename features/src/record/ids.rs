//! Event ids that a record remembers, to drop duplicates: per (partition, id) the arrival of the latest event that counted.

use crate::codec::{Cursor, Damaged, put_delta, put_value, put_varint};
use crate::plan::Dedup;
use crate::value::Value;

struct Seen<'a> {
    partition: u32,
    id: Value<'a>,
    arrival: i64,
}

/// Known ids, sorted.
#[derive(Default)]
pub struct Ids<'a> {
    seen: Vec<Seen<'a>>,
}

impl<'a> Ids<'a> {
    pub(super) fn decode(dedup: &Dedup, cursor: &mut Cursor<'a>) -> Result<Self, Damaged> {
        let count = cursor.length()?;
        let mut seen = Vec::with_capacity(count + 1);
        let mut arrival = 0i64;
        for _ in 0..count {
            let partition = u32::try_from(cursor.varint()?).map_err(|_| Damaged)?;
            let id = cursor.value(&dedup.id_type)?;
            arrival = arrival.checked_add(cursor.delta()?).ok_or(Damaged)?;
            seen.push(Seen { partition, id, arrival });
        }
        Ok(Ids { seen })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.seen.len() as u64);
        let mut previous = 0;
        for seen in &self.seen {
            put_varint(out, u64::from(seen.partition));
            put_value(out, &seen.id);
            put_delta(out, seen.arrival - previous);
            previous = seen.arrival;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn find(&self, partition: u32, id: &Value<'_>) -> Result<usize, usize> {
        self.seen.binary_search_by(|seen| seen.partition.cmp(&partition).then_with(|| seen.id.order(id)))
    }

    /// Whether an event repeats one that counted: it arrived no later than the horizon after it, or before it.
    pub(super) fn is_duplicate(&self, dedup: &Dedup, partition: u32, id: &Value<'_>, arrival: i64) -> bool {
        let found = self.find(partition, id).ok();
        found.is_some_and(|at| arrival.saturating_sub(self.seen[at].arrival) <= dedup.horizon)
    }

    /// Remembers an event that counted.
    pub(super) fn remember(&mut self, partition: u32, id: &Value<'a>, arrival: i64) {
        match self.find(partition, id) {
            Ok(at) => self.seen[at].arrival = self.seen[at].arrival.max(arrival),
            Err(at) => self.seen.insert(at, Seen { partition, id: id.clone(), arrival }),
        }
    }

    /// Forgets what no coming event can repeat. Only where arrival times ascend within a partition: elsewhere an event that
    /// arrived earlier may still come.
    pub(super) fn forget(&mut self, dedup: &Dedup) {
        if !dedup.arrivals_ascend {
            return;
        }
        let mut kept = Vec::with_capacity(self.seen.len());
        for of_partition in std::mem::take(&mut self.seen).into_iter().fold(Vec::<Vec<Seen<'a>>>::new(), by_partition) {
            let newest = of_partition.iter().map(|seen| seen.arrival).max().unwrap_or(i64::MIN);
            kept.extend(of_partition.into_iter().filter(|s| newest.saturating_sub(s.arrival) <= dedup.horizon));
        }
        self.seen = kept;
    }
}

fn by_partition<'a>(mut groups: Vec<Vec<Seen<'a>>>, seen: Seen<'a>) -> Vec<Vec<Seen<'a>>> {
    match groups.last_mut().filter(|group| group[0].partition == seen.partition) {
        Some(group) => group.push(seen),
        None => groups.push(vec![seen]),
    }
    groups
}
