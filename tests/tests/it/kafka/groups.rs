//! The consumer as one of a group: what the group decides comes as values, and nothing is read before it is answered.

use std::time::Duration;

use tidemill::settings::KafkaSettings;
use tidemill::source::kafka::{Consumer, GroupChange, Polled, TopicPartition};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Message};

fn member(kafka: &Kafka, group: &str, topic: &str) -> Consumer {
    let settings = KafkaSettings {
        brokers: kafka.address(),
        group: group.to_string(),
        client_id: "tidemill".to_string(),
        security_protocol: "plaintext".to_string(),
        properties: vec![("session.timeout.ms".to_string(), "6000".to_string())],
        ..KafkaSettings::default()
    };
    let consumer = Consumer::new(&settings, Duration::from_secs(1)).unwrap();
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

/// Polls all members until one of them has a change.
fn change(members: &[&Consumer], of: usize) -> GroupChange {
    for _ in 0..3_000 {
        for (at, member) in members.iter().enumerate() {
            assert!(!matches!(member.poll(Duration::from_millis(10)), Polled::Record(_)), "nothing is assigned");
            let mut changes = member.changes();
            if at == of && !changes.is_empty() {
                assert_eq!(changes.len(), 1);
                return changes.remove(0);
            }
            // Whoever is asked for nothing answers as it should.
            for change in changes {
                match change {
                    GroupChange::Assigned(partitions) => member.add(&from(&partitions, 0)).unwrap(),
                    GroupChange::Revoked(partitions) | GroupChange::Lost(partitions) => {
                        member.release(&partitions).unwrap()
                    }
                }
            }
        }
    }
    panic!("the group decides nothing");
}

fn from(partitions: &[TopicPartition], offset: u64) -> Vec<(TopicPartition, u64)> {
    partitions.iter().map(|partition| (partition.clone(), offset)).collect()
}

#[test]
fn partitions_move_when_they_are_released() {
    let kafka = Kafka::shared();
    let (topic, group) = (topic_name("shared"), topic_name("group"));
    kafka.create_topic(&topic, 4, &[]);
    let messages: Vec<Message> =
        (0..4).flat_map(|p| (0..3).map(move |i| Message::new(format!("{i}")).partition(p))).collect();
    let first = member(kafka, &group, &topic);
    let GroupChange::Assigned(all) = change(&[&first], 0) else { panic!("the first member takes everything") };
    assert_eq!(all.len(), 4);
    // The offsets are the reader's own, whatever the group remembers.
    kafka.produce(&topic, &messages);
    first.add(&from(&all, 1)).unwrap();
    let mut offsets = Vec::new();
    while offsets.len() < 8 {
        if let Polled::Record(record) = first.poll(Duration::from_secs(10)) {
            offsets.push(record.offset());
        }
    }
    offsets.sort_unstable();
    assert_eq!(offsets, [1, 1, 1, 1, 2, 2, 2, 2]);
    first.commit(&from(&all, 3), true).unwrap();

    let second = member(kafka, &group, &topic);
    let moved = loop {
        match change(&[&first, &second], 0) {
            GroupChange::Revoked(moved) => break moved,
            // The first step of a cooperative rebalance gives nothing new.
            GroupChange::Assigned(none) => {
                assert_eq!(none, []);
                first.add(&[]).unwrap();
            }
            GroupChange::Lost(lost) => panic!("{lost:?} are lost"),
        }
    };
    assert_eq!(moved.len(), 2);
    first.release(&moved).unwrap();
    let taken = loop {
        match change(&[&first, &second], 1) {
            GroupChange::Assigned(taken) if taken.is_empty() => second.add(&[]).unwrap(),
            GroupChange::Assigned(taken) => break taken,
            other => panic!("{other:?}"),
        }
    };
    let sorted = |mut list: Vec<TopicPartition>| {
        list.sort();
        list
    };
    assert_eq!(sorted(taken.clone()), sorted(moved));
    second.add(&from(&taken, 3)).unwrap();
    second.commit(&from(&taken, 3), true).unwrap();
}
