//! Looking at single records by their offsets: whether a topic is still the one that was read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::connection::{client_config, refusal};
use super::consumer::TopicPartition;
use super::record::Record;
use super::trouble::Trouble;
use crate::limits::KAFKA_TIMEOUT;
use crate::settings::KafkaSettings;

/// How a record is recognised. Another topic of the same name has another record there, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// in the partition
    pub offset: u64,
    /// of the record, microseconds
    pub timestamp: Option<i64>,
    /// of key and value
    pub checksum: u32,
}

impl Fingerprint {
    /// Of a record.
    pub fn of(record: &Record<'_>) -> Fingerprint {
        let mut hasher = crc32fast::Hasher::new();
        // A missing key is none that is empty, and what belongs to the key is none of the value.
        for part in [record.key(), record.payload()] {
            hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        Fingerprint { offset: record.offset(), timestamp: record.timestamp(), checksum: hasher.finalize() }
    }
}

/// Looks at one offset of each of these partitions. None in the answer: compaction or a transaction left no record there. (An
/// offset must be one that the partition has.)
pub fn probe(
    settings: &KafkaSettings,
    wanted: &[(TopicPartition, u64)],
) -> Result<HashMap<TopicPartition, Option<Fingerprint>>, Trouble> {
    let mut found = HashMap::new();
    // A partition whose end is reached is told by its number alone, so topics are asked one by one.
    let mut topics: Vec<&str> = wanted.iter().map(|(of, _)| of.topic.as_str()).collect();
    topics.dedup();
    for topic in topics {
        let of_topic: Vec<&(TopicPartition, u64)> = wanted.iter().filter(|(of, _)| of.topic == topic).collect();
        probe_topic(settings, topic, &of_topic, &mut found)?;
    }
    Ok(found)
}

#[allow(clippy::disallowed_methods)]
fn probe_topic(
    settings: &KafkaSettings,
    topic: &str,
    wanted: &[&(TopicPartition, u64)],
    found: &mut HashMap<TopicPartition, Option<Fingerprint>>,
) -> Result<(), Trouble> {
    let trouble = |error: KafkaError| {
        Trouble::of(&error, &format!("looking at records of topic `{topic}`"), &settings.brokers, None)
    };
    let consumer: BaseConsumer =
        probe_config(settings).create().map_err(|error: KafkaError| Trouble::Retry(refusal(&error)))?;
    let mut list = TopicPartitionList::with_capacity(wanted.len());
    for (of, offset) in wanted {
        list.add_partition_offset(topic, of.partition, Offset::Offset(*offset as i64)).map_err(trouble)?;
    }
    consumer.assign(&list).map_err(trouble)?;
    let mut open: HashMap<i32, u64> = wanted.iter().map(|(of, offset)| (of.partition, *offset)).collect();
    let until = Instant::now() + KAFKA_TIMEOUT;
    while !open.is_empty() {
        let (partition, print) = match consumer.poll(Duration::from_millis(100)) {
            None if Instant::now() >= until => {
                let message = format!(
                    "looking at records of topic `{topic}` at {}: no answer within {} s",
                    settings.brokers,
                    KAFKA_TIMEOUT.as_secs()
                );
                return Err(Trouble::Retry(message));
            }
            None => continue,
            Some(Ok(message)) => (message.partition(), Some(Fingerprint::of(&Record::new(message)))),
            Some(Err(KafkaError::PartitionEOF(partition))) => (partition, None),
            Some(Err(error)) => match Trouble::of(&error, "", "", None) {
                Trouble::Doubt(_) => return Err(trouble(error)),
                // The library goes on trying; time is what ends it.
                Trouble::Retry(_) if Instant::now() < until => continue,
                Trouble::Retry(_) => return Err(trouble(error)),
            },
        };
        if let Some(offset) = open.remove(&partition) {
            let of = TopicPartition { topic: topic.to_string(), partition };
            found.insert(of, print.filter(|print| print.offset == offset));
        }
    }
    Ok(())
}

fn probe_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = client_config(settings);
    config
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("allow.auto.create.topics", "false")
        .set("fetch.wait.max.ms", "100")
        // One record of each partition is wanted; a broker gives the batch that holds it, whatever its size.
        .set("max.partition.fetch.bytes", "1024")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true");
    config
}
