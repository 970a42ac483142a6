//! A partition that is read: where it goes on, what of it is being decoded, and up to which time it is applied.

use std::collections::VecDeque;

use crate::source::Decoder;
use crate::source::kafka::{Fingerprint, PartitionPulse, TopicPartition};

/// Of so many pulses since something was begun again, the last one is surely of the time afterwards.
const PULSES_UNTIL_FRESH: u32 = 3;

/// A partition that is read.
pub(in crate::ingest) struct Reading {
    pub of: TopicPartition,
    /// number of the topic in the notes
    pub topic: usize,
    /// by which the log knows it
    pub number: u32,
    /// where the log ends, once everything that was sent there is kept
    pub begins: u64,
    /// records before this are skipped: they were taken before, or were given up
    pub from: u64,
    /// where the topic ends
    pub end: u64,
    pub chunk: Option<Chunk>,
    /// everything that was in the partition by then is applied
    complete_to: i64,
    /// a shared store had everything before this offset and has lost some of it, which is read again
    lacks_until: u64,
    /// pulses since it was begun again
    pulses: u32,
    is_at_end: bool,
    /// of chunks that are not applied: offset behind them, time of their last record
    marks: VecDeque<(u64, i64)>,
    /// how the newest record that was sent looks, until it is noted
    pub print: Option<Fingerprint>,
    /// the partition's end when it was at its end last
    ended: Option<u64>,
    /// when its broker was there last
    heard: Option<i64>,
    /// no record that is not applied comes before this offset: markers of transactions, or what compaction has left
    pub nothing_before: Option<u64>,
}

/// Records of a partition that go into the log together.
pub(in crate::ingest) struct Chunk {
    pub decoder: Decoder,
    /// how its first record looks
    pub print: Fingerprint,
    /// time of the last record
    pub newest: i64,
}

impl Reading {
    pub(in crate::ingest) fn new(
        of: TopicPartition,
        (topic, number): (usize, u32),
        (begins, from, end): (u64, u64, u64),
    ) -> Self {
        Reading {
            of,
            topic,
            number,
            begins,
            from,
            end,
            chunk: None,
            complete_to: i64::MIN,
            is_at_end: false,
            marks: VecDeque::new(),
            print: None,
            ended: None,
            heard: None,
            lacks_until: 0,
            pulses: 0,
            nothing_before: None,
        }
    }

    /// From where brokers are to send: a topic that was cut is read on from its end.
    pub(in crate::ingest) fn fetched_from(&self) -> u64 {
        self.from.min(self.end)
    }

    /// A shared store lacks some of what it had before `until`.
    pub(in crate::ingest) fn lack(&mut self, until: u64) {
        self.lacks_until = self.lacks_until.max(until);
    }

    /// Begins again from an offset before, because a shared store has gone back in time. What was complete is so no longer.
    pub(in crate::ingest) fn begin_again(&mut self, start: u64) {
        self.lack(self.begins);
        (self.begins, self.from, self.chunk) = (start, start, None);
        (self.complete_to, self.is_at_end, self.pulses) = (i64::MIN, false, 0);
        (self.ended, self.nothing_before) = (None, None);
        self.marks.clear();
    }

    /// Whether a shared store lacks events that it had, now that it has them up to an offset.
    pub(in crate::ingest) fn is_lacking(&self, applied: u64) -> bool {
        applied < self.lacks_until
    }

    /// A chunk is on its way.
    pub(in crate::ingest) fn sent(&mut self, next: u64, newest: i64) {
        self.begins = next;
        self.end = self.end.max(next);
        self.is_at_end = false;
        self.marks.push_back((next, newest));
    }

    /// What brokers and reader know of each other at `now`. `applied` is the offset up to which reads see it.
    pub(in crate::ingest) fn hear(&mut self, pulse: &PartitionPulse, applied: u64, now: i64) {
        if let Some(end) = pulse.end {
            self.end = end;
        }
        if pulse.silent.is_some() || self.heard.is_none() {
            self.heard = Some(now);
        }
        self.pulses = self.pulses.saturating_add(1);
        let has_all = pulse.is_at_end && self.chunk.is_none() && applied >= self.begins;
        // A pulse may be of the time before the reader went back, and so may the next one, which that is on its way with. What
        // is at its end afterwards has nothing in between: it was compacted.
        if has_all && self.pulses >= PULSES_UNTIL_FRESH {
            self.lacks_until = 0;
        }
        self.is_at_end = has_all && applied >= self.lacks_until;
        if let (true, Some(silent)) = (self.is_at_end, pulse.silent) {
            self.complete_to = self.complete_to.max(now - silent);
        }
        // Twice, because the library may know of records for a moment before it hands them over.
        let ended = pulse.end.filter(|_| self.is_at_end);
        self.nothing_before = ended.filter(|end| self.ended == Some(*end) && *end > self.begins);
        self.ended = ended;
    }

    /// For how long nobody has heard of its broker, in microseconds.
    pub(in crate::ingest) fn unheard(&self, now: i64) -> i64 {
        self.heard.map_or(0, |heard| now.saturating_sub(heard))
    }

    /// Up to which time it is applied, now that reads see it up to an offset.
    pub(in crate::ingest) fn complete_to(&mut self, applied: u64, now: i64) -> i64 {
        while self.marks.front().is_some_and(|(next, _)| *next <= applied) {
            let newest = self.marks.pop_front().map_or(i64::MIN, |(_, newest)| newest);
            // A producer's clock may be wrong.
            self.complete_to = self.complete_to.max(newest.min(now));
        }
        self.complete_to
    }

    /// Offsets that are in the topic and not applied.
    pub(in crate::ingest) fn lag(&self, applied: u64) -> u64 {
        if self.is_at_end { 0 } else { self.end.saturating_sub(applied.max(self.from.min(self.begins))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(end: u64, is_at_end: bool, silent: Option<i64>) -> PartitionPulse {
        let of = TopicPartition { topic: "t".into(), partition: 0 };
        PartitionPulse { of, end: Some(end), is_at_end, silent }
    }

    #[test]
    fn what_is_read_again_is_not_complete_before_it_has_been() {
        let of = TopicPartition { topic: "t".into(), partition: 0 };
        let mut reading = Reading::new(of, (0, 0), (0, 0, 100));
        reading.sent(100, 50);
        reading.hear(&pulse(100, true, Some(0)), 100, 60);
        assert_eq!((reading.complete_to(100, 60), reading.is_lacking(100)), (60, false));
        reading.begin_again(0);
        // The last word of the brokers was before that.
        reading.hear(&pulse(100, true, Some(0)), 0, 70);
        assert_eq!((reading.complete_to(0, 70), reading.is_lacking(0), reading.lag(0)), (i64::MIN, true, 100));
        reading.sent(40, 20);
        reading.hear(&pulse(100, true, Some(0)), 40, 80);
        assert_eq!((reading.complete_to(40, 80), reading.is_lacking(40)), (20, true));
        // It goes back once more before it has read everything.
        reading.begin_again(10);
        reading.sent(90, 45);
        assert_eq!((reading.complete_to(90, 85), reading.is_lacking(90)), (45, true));
        reading.sent(100, 50);
        reading.hear(&pulse(100, true, Some(0)), 100, 90);
        assert_eq!((reading.complete_to(100, 90), reading.is_lacking(100)), (90, false));
        // The last records of what is lacking have been compacted away meanwhile.
        reading.begin_again(0);
        reading.sent(95, 45);
        reading.hear(&pulse(100, true, Some(0)), 95, 91);
        reading.hear(&pulse(100, true, Some(0)), 95, 92);
        assert!(reading.is_lacking(95));
        reading.hear(&pulse(100, true, Some(0)), 95, 93);
        assert_eq!((reading.complete_to(95, 93), reading.is_lacking(95)), (93, false));
    }

    #[test]
    fn complete_means_applied_and_heard_of() {
        let of = TopicPartition { topic: "t".into(), partition: 0 };
        let mut reading = Reading::new(of, (0, 0), (5, 5, 9));
        assert_eq!((reading.complete_to(5, 100), reading.lag(5)), (i64::MIN, 4));
        reading.sent(7, 40);
        reading.sent(9, 50);
        assert_eq!((reading.complete_to(7, 100), reading.lag(7)), (40, 2));
        // A commit marker stands at offset 9: nothing will ever be read there.
        reading.hear(&pulse(10, true, Some(30)), 7, 100);
        assert_eq!((reading.complete_to(7, 100), reading.lag(7)), (40, 3), "not all is applied");
        reading.hear(&pulse(10, true, Some(30)), 9, 110);
        assert_eq!((reading.complete_to(9, 110), reading.lag(9)), (80, 0));
        assert_eq!(reading.nothing_before, None, "it may be on its way");
        reading.hear(&pulse(10, true, Some(30)), 9, 110);
        assert_eq!(reading.nothing_before, Some(10));
        reading.hear(&pulse(10, true, None), 9, 500);
        assert_eq!(reading.complete_to(9, 500), 80, "the broker is away: nobody knows what it has");
    }
}
