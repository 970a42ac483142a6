//! What is remembered of a source's topics beside its positions, in `files/SOURCE.kafka.json`: which number each topic has, where
//! each partition was begun, how some of its records look, and what was given up.
//!
//! A topic keeps its number for ever, whatever the order in which the definition lists topics. One that was deleted and made
//! anew gets another number, since its offsets begin anew: an event's identity has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::progress::GivenUp;
use crate::ingest::feed::write_durably;
use crate::limits::KAFKA_FINGERPRINTS;
use crate::source::kafka::Fingerprint;

/// Bits of a partition's number that say which of its topic it is; the others say which topic.
const PARTITION_BITS: u32 = 16;

/// What is remembered of the topics of a source.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ingest) struct Notes {
    /// id of the cluster
    pub cluster: Option<String>,
    /// by number
    pub topics: Vec<TopicNotes>,
    pub given_up: Vec<GivenUp>,
    /// whether there were none
    #[serde(skip)]
    pub is_new: bool,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    changed: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ingest) struct TopicNotes {
    pub name: String,
    /// as brokers have it; None: they do not tell
    pub id: Option<String>,
    /// another one of this name has come after it
    pub retired: bool,
    pub partitions: BTreeMap<i32, PartitionNotes>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ingest) struct PartitionNotes {
    /// reading begins here, whatever was before
    pub begun: u64,
    /// the topic was once shorter than this, and that was accepted
    pub passed: u64,
    /// ascending
    pub fingerprints: Vec<Fingerprint>,
}

impl Notes {
    pub(super) fn load(data_dir: &Path, source: &str) -> Result<Notes, String> {
        let path = data_dir.join("files").join(format!("{source}.kafka.json"));
        let mut notes: Notes = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Notes { is_new: true, ..Notes::default() },
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        notes.path = path;
        Ok(notes)
    }

    /// Where they are kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what has changed; it is on the disk when this returns.
    pub(super) fn keep(&mut self) -> Result<(), String> {
        if !self.changed {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(self).map_err(|e| e.to_string())?;
        write_durably(&self.path, &text)?;
        self.changed = false;
        Ok(())
    }

    /// The number of a topic: a new one where it was never seen.
    pub(super) fn number_of(&mut self, topic: &str) -> usize {
        let known = self.topics.iter().position(|notes| notes.name == topic && !notes.retired);
        known.unwrap_or_else(|| {
            self.changed = true;
            self.topics.push(TopicNotes { name: topic.to_string(), ..TopicNotes::default() });
            self.topics.len() - 1
        })
    }

    /// Whether numbers of partitions say nothing without notes: they are of more than one topic.
    pub(super) fn are_needed_for(numbers: impl Iterator<Item = u32>) -> bool {
        numbers.map(|number| number >> PARTITION_BITS).any(|topic| topic > 0)
    }

    /// The number by which the log knows a partition of a topic.
    pub(in crate::ingest) fn partition_number(topic: usize, partition: i32) -> Result<u32, String> {
        let fits = (0..1 << PARTITION_BITS).contains(&partition) && topic < 1 << (31 - PARTITION_BITS);
        match fits {
            true => Ok(((topic as u32) << PARTITION_BITS) | partition as u32),
            false => Err(format!("partition {partition} of topic number {topic} has no place in the event log")),
        }
    }

    pub(super) fn partition(&self, topic: usize, partition: i32) -> Option<&PartitionNotes> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    /// For changes.
    pub(super) fn partition_mut(&mut self, topic: usize, partition: i32) -> &mut PartitionNotes {
        self.changed = true;
        self.topics[topic].partitions.entry(partition).or_default()
    }

    /// No record comes before this offset that is not in the log: if retention removes what stands there, nothing is lost.
    pub(super) fn pass_over(&mut self, (topic, partition): (usize, i32), end: u64) {
        if self.partition(topic, partition).is_none_or(|notes| notes.begun < end) {
            self.partition_mut(topic, partition).begun = end;
        }
    }

    pub(super) fn set_cluster(&mut self, cluster: &str) {
        self.changed |= self.cluster.as_deref() != Some(cluster);
        self.cluster = Some(cluster.to_string());
    }

    pub(super) fn set_topic_id(&mut self, topic: usize, id: &str) {
        self.changed |= self.topics[topic].id.as_deref() != Some(id);
        self.topics[topic].id = Some(id.to_string());
    }

    pub(super) fn retire(&mut self, topic: usize) {
        self.changed = true;
        self.topics[topic].retired = true;
    }

    pub(super) fn give_up(&mut self, lost: GivenUp) {
        self.changed = true;
        self.given_up.push(lost);
    }

    /// Remembers how one more record looks.
    pub(super) fn add_fingerprint(&mut self, topic: usize, partition: i32, print: Fingerprint) {
        let prints = &mut self.partition_mut(topic, partition).fingerprints;
        if prints.last().is_some_and(|last| last.offset >= print.offset) {
            return;
        }
        prints.push(print);
        if prints.len() > KAFKA_FINGERPRINTS {
            prints.remove(least_missed(prints));
        }
    }
}

/// The record whose loss leaves the smallest hole, by its age: so they lie the wider apart the older they are.
fn least_missed(prints: &[Fingerprint]) -> usize {
    let newest = prints.last().map_or(0, |print| print.offset);
    let hole = |at: &usize| {
        let around = prints[at + 1].offset - prints[at - 1].offset;
        let age = newest - prints[*at].offset + 1;
        (around as f64 / age as f64 * 1e6) as u64
    };
    (1..prints.len() - 1).min_by_key(hole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(offset: u64) -> Fingerprint {
        Fingerprint { offset, timestamp: None, checksum: 0 }
    }

    #[test]
    fn fingerprints_lie_wider_apart_the_older_they_are() {
        let mut notes = Notes::default();
        let topic = notes.number_of("a");
        (0..10_000).step_by(10).for_each(|offset| notes.add_fingerprint(topic, 3, print(offset)));
        notes.add_fingerprint(topic, 3, print(5));
        let offsets: Vec<u64> =
            notes.partition(topic, 3).unwrap().fingerprints.iter().map(|print| print.offset).collect();
        assert_eq!((offsets.len(), offsets[0], offsets[KAFKA_FINGERPRINTS - 1]), (KAFKA_FINGERPRINTS, 0, 9_990));
        let gaps: Vec<u64> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[0] >= pair[1]), "{offsets:?}");
    }

    #[test]
    fn topics_keep_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let mut notes = Notes::load(folder.path(), "s").unwrap();
        assert_eq!((notes.number_of("b"), notes.number_of("a"), notes.number_of("b")), (0, 1, 0));
        notes.partition_mut(0, 2).begun = 7;
        notes.retire(0);
        assert_eq!(notes.number_of("b"), 2, "another topic of the same name");
        notes.keep().unwrap();
        let mut again = Notes::load(folder.path(), "s").unwrap();
        assert_eq!((again.number_of("a"), again.number_of("b")), (1, 2));
        assert_eq!(again.partition(0, 2).unwrap().begun, 7);
        assert_eq!(Notes::partition_number(2, 5).unwrap(), (2 << 16) + 5);
        assert!(Notes::partition_number(1 << 15, 0).is_err() && Notes::partition_number(0, 1 << 16).is_err());
    }
}
