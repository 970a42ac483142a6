//! What is gone of an entity's events because the log was cut: the times that they had, and which of the events that are left
//! can no longer be judged. A read that could depend on any of it has no value.

use std::collections::HashMap;

use crate::aggregates::EventOrder;
use crate::codec::{put_value, put_varint};
use crate::plan::Plan;

/// Times of single events that are kept one by one; more become one range, which only makes a read more careful.
const SINGLE_MAX: usize = 64;

/// Where events of one entity may be missing.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// closed ranges of event times
    ranges: Vec<(i64, i64)>,
    /// times of events that may be duplicates of missing ones
    doubtful: Vec<i64>,
    /// greatest arrival of a missing event
    arrival: i64,
    /// smallest event time that the entity ever had, applied or late, missing ones too
    oldest: Option<i64>,
}

impl Missing {
    /// Events with times in closed ranges, none of which arrived after `arrival`. `oldest` is the smallest event time that the
    /// entity ever had, where that is known.
    pub fn new(ranges: Vec<(i64, i64)>, arrival: i64, oldest: Option<i64>) -> Self {
        Missing { ranges, doubtful: Vec::new(), arrival, oldest }
    }

    /// The same without what lies before the entity's first event. None: then nothing of it is missing.
    pub fn of_entity(mut self) -> Option<Self> {
        let oldest = self.oldest.unwrap_or(i64::MIN);
        self.ranges.retain(|(_, to)| *to >= oldest);
        self.ranges.iter_mut().for_each(|(from, _)| *from = (*from).max(oldest));
        (!self.ranges.is_empty()).then_some(self)
    }

    /// The greatest time before `to` at which an event may be missing.
    pub fn newest_before(&self, to: i64) -> Option<i64> {
        let ranges = self.ranges.iter().filter(|(from, _)| *from < to).map(|(_, end)| (*end).min(to.saturating_sub(1)));
        let doubtful = self.doubtful.iter().copied().filter(|time| *time < to);
        ranges.chain(doubtful).max()
    }

    /// Whether an event may be missing in `[from, to)`; no `from`: anywhere before `to`.
    pub fn is_in(&self, from: Option<i64>, to: i64) -> bool {
        self.newest_before(to).is_some_and(|newest| from.is_none_or(|from| newest >= from))
    }

    /// Whether the entity had an event before `time`, where `least` is the smallest time among the events that are left. None:
    /// nobody can tell.
    pub(super) fn knows(&self, time: i64, least: Option<i64>) -> Option<bool> {
        match self.oldest {
            Some(oldest) if oldest >= time => Some(false),
            // The oldest one is not among those that are left, so it is missing: and was there.
            Some(oldest) if least.is_none_or(|least| least > oldest) => Some(true),
            Some(_) => None,
            None => Some(false),
        }
    }

    fn doubt(&mut self, time: i64) {
        self.doubtful.push(time);
        if self.doubtful.len() > SINGLE_MAX {
            let least = self.doubtful.iter().copied().min().unwrap_or(time);
            let most = self.doubtful.iter().copied().max().unwrap_or(time);
            self.doubtful.clear();
            self.ranges.push((least, most));
        }
    }
}

/// Finds the events that may be duplicates of missing ones: they came within the horizon, or repeat one that did.
#[derive(Debug)]
pub struct Doubts {
    horizon: i64,
    /// whether one id stands for one event in all partitions
    with_history: bool,
    /// no event that arrived later can repeat a missing one
    until: i64,
    /// by encoded partition and id, or id alone: the latest arrival of an event in doubt
    ids: HashMap<Vec<u8>, i64>,
}

impl Doubts {
    /// Where events that arrived up to `arrival` are missing. None: the view drops no duplicates.
    pub fn new(plan: &Plan, arrival: i64) -> Option<Self> {
        let dedup = plan.dedup.as_ref()?;
        let (horizon, with_history) = (dedup.horizon, dedup.with_history);
        Some(Doubts { horizon, with_history, until: arrival.saturating_add(horizon), ids: HashMap::new() })
    }

    /// Whether the next event, in the order of the log, is in doubt.
    pub fn take(&mut self, order: &EventOrder<'_>, arrival: i64) -> bool {
        let mut id = Vec::with_capacity(16);
        if !self.with_history {
            put_varint(&mut id, u64::from(order.partition));
        }
        put_value(&mut id, &order.id);
        let known = self.ids.get(&id).copied();
        let repeats = known.is_some_and(|known| arrival.saturating_sub(known) <= self.horizon);
        if arrival > self.until && !repeats {
            return false;
        }
        self.ids.insert(id, known.map_or(arrival, |known| known.max(arrival)));
        true
    }
}

/// What is missing of an entity while its events are judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) missing: Option<Missing>,
    doubts: Option<Doubts>,
}

impl Judged {
    pub(super) fn new(plan: &Plan, missing: Option<Missing>) -> Self {
        let doubts = missing.as_ref().and_then(|missing| Doubts::new(plan, missing.arrival));
        Judged { missing, doubts }
    }

    /// Looks at the next event. True: what is known of it is sure.
    pub(super) fn is_sure(&mut self, plan: &Plan, event: &crate::record::Incoming<'_>) -> bool {
        let in_doubt = self.doubts.as_mut().is_some_and(|doubts| doubts.take(&event.order, event.arrival));
        // An event that `where` leaves out counts nowhere, whether it is a duplicate or not; of a table it does.
        if in_doubt
            && (event.passes || plan.table.is_some())
            && let Some(missing) = &mut self.missing
        {
            missing.doubt(event.order.time);
        }
        !in_doubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_events_may_be_missing() {
        let missing = Missing::new(vec![(10, 20), (90, 95)], 0, Some(15)).of_entity().unwrap();
        for (to, expected) in
            [(15, None), (16, Some(15)), (20, Some(19)), (21, Some(20)), (91, Some(90)), (99, Some(95))]
        {
            assert_eq!(missing.newest_before(to), expected, "before {to}");
        }
        assert!(missing.is_in(Some(20), 30) && !missing.is_in(Some(21), 90) && missing.is_in(None, 90));
        assert!(Missing::new(vec![(10, 20)], 0, Some(21)).of_entity().is_none());
        assert_eq!(missing.knows(15, None), Some(false));
        assert_eq!(missing.knows(16, Some(16)), Some(true));
        assert_eq!(missing.knows(16, Some(15)), None);
    }

    #[test]
    fn many_doubts_become_a_range() {
        let mut missing = Missing::new(vec![(0, 0)], 0, None);
        (100..300).step_by(2).for_each(|time| missing.doubt(time));
        assert!(missing.is_in(Some(298), 299) && missing.is_in(Some(100), 101) && !missing.is_in(Some(1), 100));
    }
}
