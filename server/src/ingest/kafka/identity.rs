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
    /// Looks. With `accept` losses are given up, durably: they are added to `given_up`, also where the look itself fails then.
    pub(super) fn run(&mut self, accept: bool, given_up: &mut Vec<GivenUp>) -> Result<Found, Stop> {
        self.check_cluster(accept)?;
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
        if !losses.is_empty() {
            let lost: Vec<GivenUp> = losses.iter().map(|(at, loss)| self.give_up(&seen[*at], loss)).collect();
            self.keep()?;
            given_up.extend(lost);
            // What is given up may give topics other numbers, so they are looked at once more.
            return self.run(false, given_up);
        }
        for seen in &seen {
            if let Some(id) = ids.get(&seen.of.topic) {
                self.notes.set_topic_id(seen.topic, id);
            }
        }
        let readings = seen.into_iter().map(|seen| self.reading(seen)).collect();
        self.keep()?;
        Ok(Found { readings, missing })
    }

    fn keep(&mut self) -> Result<(), Stop> {
        self.notes.keep().map_err(|e| Stop::Retry(format!("what is known of the topics cannot be kept: {e}")))
    }

    fn check_cluster(&mut self, accept: bool) -> Result<(), Stop> {
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
        Ok(())
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
            let has_id = self.notes.topics[partition.topic].id.as_ref();
            let is_same = has_id.is_some_and(|known| ids.get(&partition.of.topic) == Some(known));
            if let Some(loss) = judge((partition.low, partition.high), position, passed, (recognised[at], is_same)) {
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

    /// Which known records each partition has.
    fn recognise(&self, seen: &[Seen]) -> Result<Vec<Recognised>, Stop> {
        let mut recognised = vec![Recognised::default(); seen.len()];
        let prints = |partition: &Seen| -> Vec<&Fingerprint> {
            let notes = self.notes.partition(partition.topic, partition.of.partition);
            let prints = notes.map_or(&[][..], |notes| &notes.fingerprints);
            prints.iter().rev().filter(|print| (partition.low..partition.high).contains(&print.offset)).collect()
        };
        let candidates: Vec<Vec<&Fingerprint>> = seen.iter().map(prints).collect();
        // The newest first; where compaction has removed it, or it is another one, older ones.
        for round in 0..candidates.iter().map(Vec::len).max().unwrap_or(0) {
            let open = |at: &usize| recognised[*at].same_to.is_none() && round < candidates[*at].len();
            let asked: Vec<usize> = (0..seen.len()).filter(open).collect();
            let wanted: Vec<(TopicPartition, u64)> =
                asked.iter().map(|at| (seen[*at].of.clone(), candidates[*at][round].offset)).collect();
            let found: HashMap<_, _> = probe(self.settings, &wanted)?;
            for at in asked {
                let Some(Some(there)) = found.get(&seen[at].of) else { continue };
                let is_same = there == candidates[at][round];
                recognised[at].newest.get_or_insert(is_same);
                recognised[at].same_to = is_same.then_some(there.offset + 1);
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

/// What of a partition is known.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ingest) struct Recognised {
    /// whether the newest record that can be compared is the one that was there; None: there is none to compare
    pub newest: Option<bool>,
    /// behind the newest one that is
    pub same_to: Option<u64>,
}

/// What is wrong with a partition that has these offsets and is to be read on at `position`. `is_same`: brokers say by its id
/// that it is still the same topic. Then a record that is another one was written after an election that lost the old one.
pub(in crate::ingest) fn judge(
    (low, high): (u64, u64),
    position: u64,
    passed: u64,
    (recognised, is_same): (Recognised, bool),
) -> Option<Loss> {
    let cut_off = |from: u64| Some(Loss::Cut { from: from.min(position), to: position });
    match recognised.newest {
        Some(false) if is_same && position > passed => cut_off(recognised.same_to.unwrap_or(low)),
        Some(false) if !is_same => Some(Loss::Another { position }),
        _ if position < low => Some(Loss::Removed { from: position, to: low }),
        _ if position <= high || position <= passed => None,
        None if !is_same => Some(Loss::Another { position }),
        _ => cut_off(high),
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
        let another = Loss::Another { position: 12 };
        for (offsets, position, passed, recognised, is_same, expected) in [
            ((0, 0), 0, 0, None, false, None),
            ((0, 9), 9, 0, Some(true), false, None),
            ((0, 9), 9, 0, None, false, None),
            ((5, 9), 5, 0, None, false, None),
            ((8, 9), 5, 0, None, false, Some(removed.clone())),
            ((8, 9), 5, 0, Some(true), true, Some(removed)),
            ((0, 9), 12, 0, Some(true), false, Some(cut.clone())),
            ((0, 9), 12, 12, Some(true), false, None),
            ((0, 9), 12, 12, None, false, None),
            ((0, 9), 12, 11, None, false, Some(another.clone())),
            ((0, 9), 12, 12, Some(false), false, Some(another.clone())),
            ((0, 90), 12, 0, Some(false), false, Some(another)),
            // Brokers say that it is the same topic: an election has lost some of it, and other records came in their places.
            ((0, 9), 12, 0, None, true, Some(cut)),
            ((0, 90), 12, 0, Some(false), true, Some(Loss::Cut { from: 7, to: 12 })),
            ((0, 90), 12, 12, Some(false), true, None),
        ] {
            let known = Recognised { newest: recognised, same_to: recognised.map(|_| 7) };
            let judged = judge(offsets, position, passed, (known, is_same));
            assert_eq!(judged, expected, "{offsets:?} {position} {recognised:?} {is_same}");
        }
    }
}
