//! The consumer: partitions by hand or by a group, records one by one, everything else as values.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::{Context, consumer_config, refusal};
use super::pulse::Pulse;
use super::record::Record;
use super::trouble::Trouble;
use crate::limits::KAFKA_TIMEOUT;
use crate::settings::KafkaSettings;

/// How long a connection is listened to; a line takes microseconds.
const SERVE: Duration = Duration::from_millis(20);

/// How long one poll takes while the group is left, and how often it is polled.
const LEAVE_POLL: Duration = Duration::from_millis(50);
const LEAVE_POLLS: u32 = 4;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// name of the topic
    pub topic: String,
    /// number in the topic
    pub partition: i32,
}

/// What a group has decided. Whoever reads answers by `add` or `release`; until then nothing is read, or read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// these are to be read from now on
    Assigned(Vec<TopicPartition>),
    /// these go to another member, once they are released
    Revoked(Vec<TopicPartition>),
    /// these were taken away: what is under way must not be kept
    Lost(Vec<TopicPartition>),
}

/// What a poll gave.
pub enum Polled<'c> {
    /// nothing in time, or something that is told elsewhere (`changes`, `pulse`)
    Nothing,
    /// a record
    Record(Record<'c>),
    /// something is wrong
    Trouble(Trouble),
}

/// Partitions of the topics of a source, by topic; None: the topic does not exist.
pub type Partitions = Vec<(String, Option<i32>)>;

/// A connection that reads. With the last clone its membership of a group ends.
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<Connection>,
    brokers: String,
}

/// The client itself. One that was a member of a group is left to the end of the process when it has left: the library's own end
/// waits for answers that nobody can give any more, and sometimes for ever.
struct Connection(Option<BaseConsumer<Context>>);

impl Deref for Connection {
    type Target = BaseConsumer<Context>;

    fn deref(&self) -> &BaseConsumer<Context> {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.leave() {
            std::mem::forget(self.0.take());
        }
    }
}

impl Connection {
    /// Ends a membership, also one that has ended before. False: there never was one.
    fn leave(&self) -> bool {
        let is_member = self.subscription().is_ok_and(|topics| topics.count() > 0);
        if !is_member {
            return self.context().is_closed();
        }
        self.context().close();
        // The answer to whatever was asked and not answered; then nothing is held any more.
        let answered = self.incremental_assign(&TopicPartitionList::new());
        let held = self.assignment().and_then(|held| self.incremental_unassign(&held));
        if let Err(error) = answered.and(held) {
            tracing::debug!(%error, "leaving the group");
        }
        self.unsubscribe();
        // Changes that come of it are answered while it is polled.
        for _ in 0..LEAVE_POLLS {
            let _ = self.poll(LEAVE_POLL);
        }
        true
    }
}

impl Consumer {
    /// Connects in the background. `pulse` is how often it tells how far it is behind. Err: what the client library has against
    /// the settings.
    pub fn new(settings: &KafkaSettings, pulse: Duration) -> Result<Consumer, String> {
        let config = consumer_config(settings, pulse);
        let inner = config.create_with_context(Context::default()).map_err(|error| refusal(&error))?;
        Ok(Consumer { inner: Arc::new(Connection(Some(inner))), brokers: settings.brokers.clone() })
    }

    fn trouble(&self, error: &KafkaError, what: &str) -> Trouble {
        Trouble::of(error, what, &self.brokers, self.inner.context().said())
    }

    /// What the client library complained of last.
    pub fn said(&self) -> Option<String> {
        self.inner.context().said()
    }

    /// Addresses that it was told.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// How many partitions topics have.
    pub fn partitions(&self, topics: &[String]) -> Result<Partitions, Trouble> {
        let mut found = Partitions::with_capacity(topics.len());
        for name in topics {
            let what = format!("looking at topic `{name}`");
            let metadata = self.inner.fetch_metadata(Some(name), KAFKA_TIMEOUT).map_err(|e| self.trouble(&e, &what))?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            let error = topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
            let count = topic.map_or(0, |topic| topic.partitions().len()) as i32;
            match error {
                None if count > 0 => found.push((name.clone(), Some(count))),
                None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                    found.push((name.clone(), None));
                }
                Some(code) => return Err(self.trouble(&KafkaError::MetadataFetch(code), &what)),
            }
        }
        Ok(found)
    }

    /// Ids of topics that were looked at, where brokers tell them.
    pub fn topic_ids(&self) -> BTreeMap<String, String> {
        self.inner.context().take_ids().known
    }

    /// The id of a topic, where brokers have told it.
    pub fn topic_id(&self, topic: &str) -> Option<String> {
        self.inner.context().id_of(topic)
    }

    /// Whether a topic has become another one of the same name since `topic_ids` was asked. What was polled before it was asked
    /// here may be of the new one.
    pub fn has_changed_topics(&self) -> bool {
        self.inner.context().has_changed_topics()
    }

    /// Takes in what the connection has to say. Only while nothing is read: a record would be gone.
    pub fn serve(&self) {
        while self.inner.poll(SERVE).is_some() {}
    }

    /// The id that a cluster keeps for its whole life.
    pub fn cluster(&self) -> Option<String> {
        self.inner.client().fetch_cluster_id(KAFKA_TIMEOUT)
    }

    /// The first offset that a partition still has, and the one behind its last.
    pub fn watermarks(&self, of: &TopicPartition) -> Result<(u64, u64), Trouble> {
        let what = || format!("asking for the offsets of topic `{}`, partition {}", of.topic, of.partition);
        let (low, high) = self
            .inner
            .fetch_watermarks(&of.topic, of.partition, KAFKA_TIMEOUT)
            .map_err(|error| self.trouble(&error, &what()))?;
        Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
    }

    /// Reads these partitions, each from an offset on, and no others.
    pub fn assign(&self, positions: &[(TopicPartition, u64)]) -> Result<(), Trouble> {
        let list = offsets_of(positions);
        self.inner.assign(&list).map_err(|error| self.trouble(&error, "starting to read"))
    }

    /// Reads nothing.
    pub fn unassign(&self) -> Result<(), Trouble> {
        self.inner.unassign().map_err(|error| self.trouble(&error, "ending to read"))
    }

    /// Joins the group, which says by `changes` what to read.
    pub fn subscribe(&self, topics: &[&str]) -> Result<(), Trouble> {
        self.inner.subscribe(topics).map_err(|error| self.trouble(&error, "joining the group"))
    }

    /// Reads these besides: the answer to `Assigned`, also where there are none.
    pub fn add(&self, positions: &[(TopicPartition, u64)]) -> Result<(), Trouble> {
        let list = offsets_of(positions);
        self.inner.incremental_assign(&list).map_err(|error| self.trouble(&error, "taking partitions of the group"))
    }

    /// Reads these no more: the answer to `Revoked` and `Lost`.
    pub fn release(&self, partitions: &[TopicPartition]) -> Result<(), Trouble> {
        let list = list_of(partitions);
        self.inner.incremental_unassign(&list).map_err(|error| self.trouble(&error, "letting go of partitions"))
    }

    /// Leaves the group, which gives what was read here to others at once. Nothing can be read any more.
    pub fn leave(&self) {
        self.inner.leave();
    }

    /// What the group remembers of a partition: only as a sign that it was read before.
    pub fn committed(&self, of: &TopicPartition) -> Result<Option<u64>, Trouble> {
        let what = || format!("asking what the group knows of topic `{}`, partition {}", of.topic, of.partition);
        let list = self
            .inner
            .committed_offsets(list_of(std::slice::from_ref(of)), KAFKA_TIMEOUT)
            .map_err(|error| self.trouble(&error, &what()))?;
        let offset = list.find_partition(&of.topic, of.partition).map(|element| element.offset());
        Ok(match offset {
            Some(Offset::Offset(offset)) => u64::try_from(offset).ok(),
            _ => None,
        })
    }

    /// The next record, or what else there is.
    pub fn poll(&self, timeout: Duration) -> Polled<'_> {
        match self.inner.poll(timeout) {
            None => Polled::Nothing,
            Some(Ok(message)) => Polled::Record(Record::new(message)),
            Some(Err(error)) => Polled::Trouble(self.trouble(&error, "reading")),
        }
    }

    /// What the group has decided since it was asked before.
    pub fn changes(&self) -> Vec<GroupChange> {
        self.inner.context().take_changes()
    }

    /// How far it is behind, if there is news.
    pub fn pulse(&self) -> Option<Pulse> {
        self.inner.context().take_pulse()
    }

    /// Goes on with another offset of a partition that is read.
    pub fn seek(&self, of: &TopicPartition, offset: u64) -> Result<(), Trouble> {
        let what = || format!("going to offset {offset} of topic `{}`, partition {}", of.topic, of.partition);
        let seek = self.inner.seek(&of.topic, of.partition, Offset::Offset(offset as i64), KAFKA_TIMEOUT);
        seek.map_err(|error| self.trouble(&error, &what()))
    }

    /// Tells brokers how far reading is: for lag tools alone, nothing here ever reads it. With `and_wait` it is also the question
    /// whether this member is still one of the group.
    pub fn commit(&self, positions: &[(TopicPartition, u64)], and_wait: bool) -> Result<(), Trouble> {
        let mode = if and_wait { CommitMode::Sync } else { CommitMode::Async };
        self.inner.commit(&offsets_of(positions), mode).map_err(|error| self.trouble(&error, "telling positions"))
    }
}

fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn offsets_of(positions: &[(TopicPartition, u64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (TopicPartition { topic, partition }, offset) in positions {
        let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
        list.add_partition_offset(topic, *partition, offset).expect("an offset that is not negative is taken");
    }
    list
}

pub(super) fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let one = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| TopicPartition {
        topic: element.topic().to_string(),
        partition: element.partition(),
    };
    list.elements().iter().map(one).collect()
}
