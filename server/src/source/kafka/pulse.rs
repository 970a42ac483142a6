//! The pulse of a consumer: how far brokers and reader are apart, and how old that knowledge is.

use rdkafka::statistics::{Partition, Statistics};

use super::consumer::TopicPartition;

/// What a consumer knew at one moment.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// whether any broker is connected
    pub is_connected: bool,
    /// the partitions that are read
    pub partitions: Vec<PartitionPulse>,
}

/// What it knew of one partition.
#[derive(Clone, Debug)]
pub struct PartitionPulse {
    /// which
    pub of: TopicPartition,
    /// the offset behind the last committed record; None: unknown
    pub end: Option<u64>,
    /// whether everything before the end was handed over, or waits for nobody
    pub is_at_end: bool,
    /// microseconds since its broker was heard of; None: it is away
    pub silent: Option<i64>,
}

pub(super) fn pulse_of(statistics: &Statistics) -> Pulse {
    let is_up = |state: &str| state == "UP";
    let silent = |partition: &Partition| {
        let leader = statistics.brokers.values().find(|broker| broker.nodeid == partition.broker)?;
        (is_up(&leader.state) && leader.rxidle >= 0).then_some(leader.rxidle)
    };
    let mut partitions = Vec::new();
    for (topic, of_topic) in &statistics.topics {
        for (number, partition) in &of_topic.partitions {
            if *number < 0 || partition.fetch_state != "active" {
                continue;
            }
            let end = u64::try_from(partition.ls_offset).ok();
            let next = u64::try_from(partition.next_offset).ok();
            let is_at_end = partition.fetchq_cnt == 0 && end.zip(next).is_some_and(|(end, next)| next >= end);
            partitions.push(PartitionPulse {
                of: TopicPartition { topic: topic.clone(), partition: *number },
                end,
                is_at_end,
                silent: silent(partition),
            });
        }
    }
    Pulse { is_connected: statistics.brokers.values().any(|broker| is_up(&broker.state)), partitions }
}
