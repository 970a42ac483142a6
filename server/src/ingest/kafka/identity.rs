//! Before anything is read: are the topics still what was read before, and do they still have what comes next?
//!
//! What a broker says of a topic (its id, first and last offsets, the records at some offsets) is compared with what is known of
//! it. A difference is a loss, and a loss is never skipped: the source halts with the range until somebody gives it up.

use std::collections::{BTreeMap, HashMap};

use super::notes::Notes;
use super::progress::GivenUp;
use super::reading::Reading;
use crate::settings::KafkaSettings;
use crate::source::kafka::{Consumer, Fingerprint, TopicPartition, Trouble, probe};

/// What is asked, and of whom.
pub(super) struct Look<'l> {
    pub source: &'l str,
    pub consumer: &'l Consumer,
    pub settings: &'l KafkaSettings,
    pub topics: &'l [String],
    pub notes: &'l mut Notes,
    /// where the log ends, by number of the partition
    pub next_offset: &'l dyn Fn(u32) -> u64,
    /// the clock
    pub now: i64,
}

/// What came out.
pub(super) struct Found {
    pub readings: Vec<Reading>,
    /// topics that do not exist
    pub missing: Vec<String>,
}

/// Why there is nothing to read.
pub(super) enum Stop {
    /// try again later
    Retry(String),
    /// somebody has to decide
    Halt(String),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Stop::Retry(trouble.to_string())
    }
}

/// A partition as the broker has it now.
struct Seen {
    of: TopicPartition,
    topic: usize,
    number: u32,
    low: u64,
    high: u64,
}

/// What is wrong with a partition or its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Loss {
    /// retention has removed what comes next
    Removed { from: u64, to: u64 },
    /// the same topic, but its end is gone
    Cut { from: u64, to: u64 },
    /// another topic of the same name
    Another { position: u64 },
}

impl Look<'_> {
    /// Looks. With `accept` losses are given up, durably; they come back.
    pub(super) fn run(&mut self, accept: bool) -> Result<(Found, Vec<GivenUp>), Stop> {
        let mut given_up = self.check_cluster(accept)?;
        let partitions = self.consumer.partitions(self.topics)?;
        self.consumer.serve();
        let ids = self.consumer.topic_ids();
        let missing = partitions.iter().filter(|(_, count)| count.is_none()).map(|(topic, _)| topic.clone()).collect();
        let mut seen = Vec::new();
        for (topic, count) in partitions {
            seen.extend(self.see(&topic, count.unwrap_or(0))?);
        }
        let losses = self.losses(&seen, &ids)?;
        if !losses.is_empty() && !accept {
            let all: Vec<String> = losses.iter().map(|(at, loss)| loss.said(&seen[*at].of)).collect();
            return Err(Stop::Halt(all.join("; ")));
        }
        for (at, loss) in &losses {
            given_up.push(self.give_up(&seen[*at], loss));
        }
        if !losses.is_empty() {
            // What is given up may give topics other numbers, so they are looked at once more.
            self.keep()?;
            let (found, more) = self.run(false)?;
            given_up.extend(more);
            return Ok((found, given_up));
        }
        for seen in &seen {
            if let Some(id) = ids.get(&seen.of.topic) {
                self.notes.set_topic_id(seen.topic, id);
            }
        }
        let readings = seen.into_iter().map(|seen| self.reading(seen)).collect();
        self.keep()?;
        Ok((Found { readings, missing }, given_up))
    }

    fn keep(&mut self) -> Result<(), Stop> {
        self.notes.keep().map_err(|e| Stop::Retry(format!("what is known of the topics cannot be kept: {e}")))
    }

    fn check_cluster(&mut self, accept: bool) -> Result<Vec<GivenUp>, Stop> {
        let Some(cluster) = self.consumer.cluster().filter(|cluster| !cluster.is_empty()) else {
            self.consumer.serve();
            let said = self.consumer.said().map(|said| format!(" ({said})")).unwrap_or_default();
            return Err(Stop::Retry(format!("no broker answers at {}{said}", self.consumer.brokers())));
        };
        if let Some(known) = self.notes.cluster.as_ref().filter(|known| **known != cluster)
            && !accept
        {
            let brokers = self.consumer.brokers();
            return Err(Stop::Halt(format!(
                "E1054: {brokers} is the cluster {cluster}, but events were read from {known}: set kafka.brokers to that one"
            )));
        }
        self.notes.set_cluster(&cluster);
        Ok(Vec::new())
    }

    /// The partitions of a topic as they are now.
    fn see(&mut self, topic: &str, count: i32) -> Result<Vec<Seen>, Stop> {
        let mut seen = Vec::new();
        for partition in 0..count {
            let at = self.notes.number_of(topic);
            let number = Notes::partition_number(at, partition).map_err(|why| Stop::Halt(format!("E1057: {why}")))?;
            let of = TopicPartition { topic: topic.to_string(), partition };
            let (low, high) = self.consumer.watermarks(&of)?;
            let is_new = self.notes.partition(at, partition).is_none();
            if is_new {
                self.begin((at, number), &of, low);
            }
            seen.push(Seen { of, topic: at, number, low, high });
        }
        Ok(seen)
    }

    /// A partition that was never seen is read from its beginning; what was gone before is told.
    fn begin(&mut self, (topic, number): (usize, u32), of: &TopicPartition, low: u64) {
        let position = (self.next_offset)(number);
        let notes = self.notes.partition_mut(topic, of.partition);
        if position > 0 {
            // Its notes are lost, but the log knows it.
            notes.begun = position;
            return;
        }
        notes.begun = low;
        if low > 0 {
            let reason = "gone before the source began".to_string();
            let (topic, partition) = (of.topic.clone(), of.partition);
            tracing::info!(source = self.source, topic, partition, "offsets 0 to {} are {reason}", low - 1);
            self.notes.give_up(GivenUp { topic, partition, from: 0, to: Some(low), reason, time: self.now });
        }
    }

    fn position(&self, seen: &Seen) -> u64 {
        let begun = self.notes.partition(seen.topic, seen.of.partition).map_or(0, |notes| notes.begun);
        (self.next_offset)(seen.number).max(begun)
    }

    /// What is lost, by place in `seen`.
    fn losses(&self, seen: &[Seen], ids: &BTreeMap<String, String>) -> Result<Vec<(usize, Loss)>, Stop> {
        let recognised = self.recognise(seen)?;
        let mut losses = Vec::new();
        let mut others: Vec<usize> = Vec::new();
        for (at, partition) in seen.iter().enumerate() {
            let passed = self.notes.partition(partition.topic, partition.of.partition).map_or(0, |notes| notes.passed);
            let position = self.position(partition);
            if let Some(loss) = judge((partition.low, partition.high), position, passed, recognised[at]) {
                if matches!(loss, Loss::Another { .. }) {
                    others.push(partition.topic);
                }
                losses.push((at, loss));
            }
        }
        let is_another = |seen: &&Seen| {
            let known = self.notes.topics[seen.topic].id.as_ref();
            known.zip(ids.get(&seen.of.topic)).is_some_and(|(known, id)| known != id)
        };
        others.extend(seen.iter().filter(is_another).map(|seen| seen.topic));
        // A topic never loses a partition.
        others.extend(seen.iter().map(|seen| seen.topic).filter(|topic| {
            let count = seen.iter().filter(|seen| seen.topic == *topic).count() as i32;
            self.notes.topics[*topic].partitions.keys().any(|known| *known >= count)
        }));
        // Where one partition is another's, all of its topic are.
        losses.retain(|(at, _)| !others.contains(&seen[*at].topic));
        for (at, partition) in seen.iter().enumerate().filter(|(_, seen)| others.contains(&seen.topic)) {
            losses.push((at, Loss::Another { position: self.position(partition) }));
        }
        losses.sort_by_key(|(at, _)| *at);
        Ok(losses)
    }

    /// Whether each partition has a record that is known: Some(true) and Some(false) where one is there to compare.
    fn recognise(&self, seen: &[Seen]) -> Result<Vec<Option<bool>>, Stop> {
        let mut recognised = vec![None; seen.len()];
        let prints = |partition: &Seen| -> Vec<&Fingerprint> {
            let notes = self.notes.partition(partition.topic, partition.of.partition);
            let prints = notes.map_or(&[][..], |notes| &notes.fingerprints);
            prints.iter().rev().filter(|print| (partition.low..partition.high).contains(&print.offset)).collect()
        };
        let candidates: Vec<Vec<&Fingerprint>> = seen.iter().map(prints).collect();
        // The newest first; where compaction has removed it, an older one.
        for round in 0..candidates.iter().map(Vec::len).max().unwrap_or(0) {
            let open = |at: &usize| recognised[*at].is_none() && round < candidates[*at].len();
            let asked: Vec<usize> = (0..seen.len()).filter(open).collect();
            let wanted: Vec<(TopicPartition, u64)> =
                asked.iter().map(|at| (seen[*at].of.clone(), candidates[*at][round].offset)).collect();
            let found: HashMap<_, _> = probe(self.settings, &wanted)?;
            for at in asked {
                let there = found.get(&seen[at].of).and_then(Option::as_ref);
                recognised[at] = there.map(|there| there == candidates[at][round]);
            }
        }
        Ok(recognised)
    }

    /// Goes on without what is lost.
    fn give_up(&mut self, seen: &Seen, loss: &Loss) -> GivenUp {
        let partition = seen.of.partition;
        let (from, to, reason) = match loss {
            Loss::Removed { from, to } => {
                self.notes.partition_mut(seen.topic, partition).begun = *to;
                (*from, Some(*to), "removed by retention before it was read")
            }
            Loss::Cut { from, to } => {
                let notes = self.notes.partition_mut(seen.topic, partition);
                notes.passed = *to;
                notes.fingerprints.retain(|print| print.offset < *from);
                (*from, Some(*to), "the topic was cut; what comes in these places is not read")
            }
            Loss::Another { position } => {
                self.notes.retire(seen.topic);
                (*position, None, "the topic was made anew; the new one is read from its beginning")
            }
        };
        let lost =
            GivenUp { topic: seen.of.topic.clone(), partition, from, to, reason: reason.to_string(), time: self.now };
        tracing::warn!(source = self.source, ?lost, "the source goes on without what it has lost");
        self.notes.give_up(lost.clone());
        lost
    }

    fn reading(&self, seen: Seen) -> Reading {
        let from = self.position(&seen);
        let begins = (self.next_offset)(seen.number);
        Reading::new(seen.of, (seen.topic, seen.number), (begins, from, seen.high))
    }
}

/// What is wrong with a partition that has these offsets, is to be read on at `position`, and whose known records are
/// `recognised` (None: there is none to compare).
pub(in crate::ingest) fn judge(
    (low, high): (u64, u64),
    position: u64,
    passed: u64,
    recognised: Option<bool>,
) -> Option<Loss> {
    match recognised {
        Some(false) => Some(Loss::Another { position }),
        _ if position < low => Some(Loss::Removed { from: position, to: low }),
        Some(true) if position > high && position > passed => Some(Loss::Cut { from: high, to: position }),
        None if position > high && position > passed => Some(Loss::Another { position }),
        _ => None,
    }
}

impl Loss {
    pub(in crate::ingest) fn said(&self, TopicPartition { topic, partition }: &TopicPartition) -> String {
        match self {
            Loss::Removed { from, to } => format!(
                "E1052: offsets {from} to {} of topic `{topic}`, partition {partition}, were removed before they were read",
                to - 1
            ),
            Loss::Cut { from, to } => format!(
                "E1053: topic `{topic}`, partition {partition}, ends at {from} but was read up to {to}: its end was cut off"
            ),
            Loss::Another { position } => format!(
                "E1053: topic `{topic}`, partition {partition}, is not the one that was read up to {position}: it was deleted and made anew"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_a_loss() {
        let (removed, cut) = (Loss::Removed { from: 5, to: 8 }, Loss::Cut { from: 9, to: 12 });
        for (offsets, position, passed, recognised, expected) in [
            ((0, 0), 0, 0, None, None),
            ((0, 9), 9, 0, Some(true), None),
            ((0, 9), 9, 0, None, None),
            ((5, 9), 5, 0, None, None),
            ((8, 9), 5, 0, None, Some(removed.clone())),
            ((8, 9), 5, 0, Some(true), Some(removed)),
            ((0, 9), 12, 0, Some(true), Some(cut)),
            ((0, 9), 12, 12, Some(true), None),
            ((0, 9), 12, 12, None, None),
            ((0, 9), 12, 11, None, Some(Loss::Another { position: 12 })),
            ((0, 9), 12, 12, Some(false), Some(Loss::Another { position: 12 })),
            ((0, 90), 12, 0, Some(false), Some(Loss::Another { position: 12 })),
        ] {
            assert_eq!(judge(offsets, position, passed, recognised), expected, "{offsets:?} {position} {recognised:?}");
        }
    }
}
