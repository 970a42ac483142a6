//! What a sink has sent and may have to send once more: entities with events that are dated ahead, whose time has to come, and
//! everything that was read from a shared store since it was last seen to have all.
//!
//! The mark that is kept on the disk stays before the oldest of them, so a crash forgets none.

use std::collections::{BTreeMap, HashMap};

use super::mark::Mark;
use crate::ingest::ChangedKey;
use crate::limits::{SINK_KEY_OVERHEAD, SINK_KEYS_BYTES};

/// Rounds that have been sent and are not settled.
#[derive(Default)]
pub(super) struct Unsettled {
    rounds: BTreeMap<u64, Round>,
    next_round: u64,
    /// when to send an entity again, and the round that found it
    ahead: BTreeMap<(i64, ChangedKey), u64>,
    bytes: usize,
}

struct Round {
    /// what had been sent before it
    before: Mark,
    /// entities that wait for their time
    ahead: usize,
    /// settled once the store was looked at so often
    looks: u64,
}

impl Unsettled {
    /// A round was sent. `ahead` are entities with the times at which they change by themselves.
    pub(super) fn add(&mut self, before: Mark, ahead: Vec<(i64, ChangedKey)>, looks: u64) {
        let number = self.next_round;
        self.next_round += 1;
        let mut count = 0;
        for (time, key) in ahead {
            let bytes = key.len() + SINK_KEY_OVERHEAD;
            // An older round that waits for the same keeps an older mark.
            if let std::collections::btree_map::Entry::Vacant(free) = self.ahead.entry((time, key)) {
                free.insert(number);
                count += 1;
                self.bytes += bytes;
            }
        }
        self.rounds.insert(number, Round { before, ahead: count, looks });
    }

    /// Entities whose time has come, with the rounds that have found them.
    pub(super) fn take_due(&mut self, now: i64) -> (Vec<ChangedKey>, HashMap<u64, usize>) {
        let (mut keys, mut rounds) = (Vec::new(), HashMap::new());
        while let Some(first) = self.ahead.first_entry().filter(|first| first.key().0 < now) {
            let ((_, key), round) = first.remove_entry();
            self.bytes = self.bytes.saturating_sub(key.len() + SINK_KEY_OVERHEAD);
            *rounds.entry(round).or_default() += 1;
            keys.push(key);
        }
        (keys, rounds)
    }

    /// Entities of some rounds were sent again.
    pub(super) fn sent(&mut self, rounds: &HashMap<u64, usize>) {
        for (number, count) in rounds {
            if let Some(round) = self.rounds.get_mut(number) {
                round.ahead = round.ahead.saturating_sub(*count);
            }
        }
    }

    /// Forgets what is settled, with a store that was looked at so often.
    pub(super) fn settle(&mut self, looks: u64) {
        self.rounds.retain(|_, round| round.ahead > 0 || round.looks > looks);
    }

    /// What is surely sent and right; None: everything is.
    pub(super) fn before(&self) -> Option<&Mark> {
        self.rounds.first_key_value().map(|(_, round)| &round.before)
    }

    /// Whether as many entities wait for their time as there is room for.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > SINK_KEYS_BYTES
    }

    /// Everything after `before` is sent once more.
    pub(super) fn forget(&mut self) {
        *self = Unsettled { next_round: self.next_round, ..Unsettled::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogPlace;

    fn mark(segment: u64) -> Mark {
        Mark { place: LogPlace { segment, offset: 0 }, ..Mark::default() }
    }

    fn key(of: &[u8]) -> ChangedKey {
        of.into()
    }

    #[test]
    fn the_mark_waits_for_what_is_dated_ahead() {
        let mut unsettled = Unsettled::default();
        unsettled.add(mark(1), Vec::new(), 0);
        unsettled.add(mark(2), vec![(50, key(b"a")), (70, key(b"b"))], 0);
        unsettled.add(mark(3), vec![(50, key(b"a"))], 0);
        unsettled.settle(0);
        assert_eq!(unsettled.before(), Some(&mark(2)));
        let (keys, rounds) = unsettled.take_due(50);
        assert!(keys.is_empty() && rounds.is_empty(), "an event at T does not count yet");
        let (keys, rounds) = unsettled.take_due(51);
        assert_eq!(keys, [key(b"a")]);
        unsettled.sent(&rounds);
        unsettled.settle(0);
        assert_eq!(unsettled.before(), Some(&mark(2)), "the other one waits");
        let (_, rounds) = unsettled.take_due(100);
        unsettled.sent(&rounds);
        unsettled.settle(0);
        assert_eq!((unsettled.before(), unsettled.bytes), (None, 0));
    }

    #[test]
    fn the_mark_waits_for_the_store_to_be_looked_at() {
        let mut unsettled = Unsettled::default();
        unsettled.add(mark(1), Vec::new(), 5);
        unsettled.add(mark(2), Vec::new(), 6);
        unsettled.settle(4);
        assert_eq!(unsettled.before(), Some(&mark(1)));
        unsettled.settle(5);
        assert_eq!(unsettled.before(), Some(&mark(2)));
        unsettled.forget();
        assert_eq!(unsettled.before(), None);
    }
}
