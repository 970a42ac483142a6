//! What another program would read: a whole topic, from the first record that it has to the last.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::topic_partition_list::Offset;

use super::Kafka;

/// Whether records of transactions that are open or aborted are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// no
    Committed,
    /// yes
    Uncommitted,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// where it lies
    pub partition: i32,
    /// and where there
    pub offset: i64,
    /// its key
    pub key: Option<Vec<u8>>,
    /// none: a tombstone
    pub payload: Option<Vec<u8>>,
    /// names and values
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// of the producer, or of the broker
    pub timestamp_ms: Option<i64>,
}

impl Kafka {
    /// All records of a topic, by partition and offset.
    pub fn read_all(&self, topic: &str, isolation: Isolation) -> Vec<Received> {
        let mut client = self.client();
        client.set("group.id", "tidemill-tests").set("enable.auto.commit", "false");
        client.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "50").set("auto.offset.reset", "error");
        client.set(
            "isolation.level",
            if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" },
        );
        let consumer: BaseConsumer = client.create().expect("good settings");
        let mut open: BTreeSet<i32> = (0..self.partitions(topic)).collect();
        let mut list = TopicPartitionList::new();
        for partition in &open {
            list.add_partition_offset(topic, *partition, Offset::Beginning).expect("a good offset");
        }
        consumer.assign(&list).expect("the partitions are there");
        let mut records = Vec::new();
        while !open.is_empty() {
            match consumer.poll(Duration::from_secs(60)) {
                Some(Ok(message)) => records.push(received(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) => panic!("{topic} cannot be read: {error}"),
                None => panic!("{topic} has more, and nothing comes for a minute"),
            }
        }
        records.sort_by_key(|record: &Received| (record.partition, record.offset));
        records
    }

    /// The payloads of `read_all` as text.
    pub fn read_texts(&self, topic: &str, isolation: Isolation) -> Vec<String> {
        let payloads = self.read_all(topic, isolation).into_iter().filter_map(|record| record.payload);
        payloads.map(|payload| String::from_utf8_lossy(&payload).into_owned()).collect()
    }
}

fn received(message: &BorrowedMessage<'_>) -> Received {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Received {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|h| (h.key.to_string(), h.value.map(<[u8]>::to_vec))).collect(),
        timestamp_ms: message.timestamp().to_millis(),
    }
}
