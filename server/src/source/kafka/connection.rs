//! From settings to a client of brokers, and what it tells of itself: its last complaint, its statistics, changes of its group.
//!
//! Nothing here is left to the library's choice: where to go on, when to commit and what to do with a gap are decided by whoever
//! reads (`auto.offset.reset = error`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::consumer::{GroupChange, partitions_of};
use super::pulse::{Pulse, pulse_of};
use crate::limits::{KAFKA_FETCH_BYTES, KAFKA_QUEUED_KBYTES};
use crate::settings::KafkaSettings;

/// What every client has.
pub(super) fn client_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("client.id", &settings.client_id)
        .set("security.protocol", &settings.security_protocol)
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "5000")
        .set_log_level(RDKafkaLogLevel::Warning);
    let secrets = [
        ("sasl.username", &settings.username),
        ("sasl.password", &settings.password),
        ("ssl.key.password", &settings.key_password),
    ];
    for (name, secret) in secrets {
        if let Some(secret) = secret {
            config.set(name, secret.reveal());
        }
    }
    let texts = [
        ("sasl.mechanism", &settings.sasl_mechanism),
        ("ssl.ca.location", &settings.ca),
        ("ssl.certificate.location", &settings.certificate),
        ("ssl.key.location", &settings.key),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        config.set(name, text);
    }
    for (name, value) in settings.properties.iter().filter(|(name, _)| is_of_connections(name)) {
        config.set(name, value);
    }
    config
}

/// Whether a property is for everything that connects, and not for readers alone.
fn is_of_connections(name: &str) -> bool {
    const CONNECTIONS: [&str; 6] = ["broker.", "socket.", "ssl.", "reconnect.", "connections.", "receive.message."];
    CONNECTIONS.iter().any(|begin| name.starts_with(begin))
}

/// What every consumer has. Statistics come in so many milliseconds.
pub(super) fn consumer_config(settings: &KafkaSettings, pulse: Duration) -> ClientConfig {
    let mut config = client_config(settings);
    config
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("allow.auto.create.topics", "false")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.max.bytes", KAFKA_FETCH_BYTES.to_string())
        .set("queued.max.messages.kbytes", KAFKA_QUEUED_KBYTES.to_string())
        .set("statistics.interval.ms", pulse.as_millis().to_string())
        // The only place where the library tells the id of a topic; some lines for each look at the topics.
        .set("debug", "topic")
        .set_log_level(RDKafkaLogLevel::Debug);
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    // Last, so that nothing above can change them.
    config.set("auto.offset.reset", "error").set("enable.partition.eof", "false");
    config
}

/// Whether the client library takes the settings: what it says against them.
pub fn check(settings: &KafkaSettings) -> Result<(), String> {
    for (key, path) in [("ca", &settings.ca), ("certificate", &settings.certificate), ("key", &settings.key)] {
        if !path.is_empty() {
            std::fs::File::open(path).map_err(|error| format!("kafka.{key} = \"{path}\": {error}"))?;
        }
    }
    let created: Result<BaseConsumer, KafkaError> = consumer_config(settings, Duration::from_secs(1)).create();
    created.map(drop).map_err(|error| refusal(&error))
}

/// Why the library does not take a setting, without its value: it may be a secret.
pub(super) fn refusal(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => format!("`{name}`: {description}"),
        other => in_our_words(&other.to_string()),
    }
}

/// The id of nothing.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Ids of topics, by their names. A topic that is deleted and made anew has another one.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicIds {
    pub known: BTreeMap<String, String>,
    /// whether one has changed
    pub changed: bool,
}

impl TopicIds {
    /// Takes in a line such as `Topic a changed id from X to Y`, which the library writes before it reads anything of Y.
    pub(super) fn hear(&mut self, line: &str) {
        let Some((topic, ids)) = line.split_once(" changed id from ") else { return };
        let (Some((_, topic)), Some((_, id))) = (topic.rsplit_once("Topic "), ids.split_once(" to ")) else { return };
        // Brokers that are older, beside new ones, have none.
        if id.trim() == NO_ID {
            return;
        }
        let before = self.known.insert(topic.to_string(), id.trim().to_string());
        self.changed |= before.is_some_and(|before| before != id.trim());
    }
}

/// What a client tells of itself while it is polled.
#[derive(Default)]
pub(super) struct Context {
    /// the last complaint in the library's own words
    said: Mutex<Option<String>>,
    pulse: Mutex<Option<Pulse>>,
    ids: Mutex<TopicIds>,
    changes: Mutex<Vec<GroupChange>>,
    /// set when the client is about to be dropped
    is_closing: AtomicBool,
}

impl Context {
    pub(super) fn said(&self) -> Option<String> {
        self.said.lock().clone()
    }

    fn complain(&self, message: &str) {
        if let Some(said) = complaint(message) {
            *self.said.lock() = Some(said);
        }
    }

    /// Ids of topics; whether one has changed is told once.
    pub(super) fn take_ids(&self) -> TopicIds {
        let mut ids = self.ids.lock();
        let taken = ids.clone();
        ids.changed = false;
        taken
    }

    pub(super) fn id_of(&self, topic: &str) -> Option<String> {
        self.ids.lock().known.get(topic).cloned()
    }

    pub(super) fn has_changed_topics(&self) -> bool {
        self.ids.lock().changed
    }

    pub(super) fn take_pulse(&self) -> Option<Pulse> {
        self.pulse.lock().take()
    }

    /// From now on changes of the group are answered here: there is nobody else.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Whether a membership of a group has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    pub(super) fn take_changes(&self) -> Vec<GroupChange> {
        std::mem::take(&mut self.changes.lock())
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if level as i32 > RDKafkaLogLevel::Warning as i32 {
            return self.ids.lock().hear(message);
        }
        // The library repeats itself at each try to connect; whoever reads the source says it once.
        tracing::debug!(facility, "{message}");
        self.complain(message);
    }

    fn stats(&self, statistics: Statistics) {
        *self.pulse.lock() = Some(pulse_of(&statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "{reason}");
        self.complain(reason);
    }
}

/// A complaint with the names that our settings have.
fn in_our_words(said: &str) -> String {
    const SETTINGS: [(&str, &str); 5] = [
        ("ssl.ca.location", "kafka.ca"),
        ("ssl.certificate.location", "kafka.certificate"),
        ("ssl.key.location", "kafka.key"),
        ("security.protocol", "kafka.security_protocol"),
        ("sasl.mechanism", "kafka.sasl_mechanism"),
    ];
    let short: String = said.chars().take(300).collect();
    SETTINGS.iter().fold(short, |said, (theirs, ours)| said.replace(theirs, ours))
}

/// Says nothing that the complaints before it did not say better.
const ALL_DOWN: &str = "brokers are down";

/// A complaint of the library as it is shown; None: it says nothing.
pub(super) fn complaint(message: &str) -> Option<String> {
    // The name of the thread says nothing to whoever reads it.
    let plain = message.rsplit_once("]: ").map_or(message, |(_, plain)| plain);
    (!message.contains(ALL_DOWN)).then(|| in_our_words(plain))
}

impl ConsumerContext for Context {
    /// A change of the group is a value like others: whoever reads takes partitions with its own positions, or lets go of them
    /// once what is under way is kept.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.is_closing.load(Ordering::Relaxed) {
            // Nobody reads any more; the library waits for an answer.
            let answered = match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                    consumer.incremental_assign(&TopicPartitionList::new())
                }
                _ => consumer.incremental_unassign(list),
            };
            return answered.unwrap_or_else(|error| tracing::debug!(%error, "leaving the group"));
        }
        let partitions = partitions_of(list);
        let change = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => GroupChange::Assigned(partitions),
            _ if consumer.assignment_lost() => GroupChange::Lost(partitions),
            _ => GroupChange::Revoked(partitions),
        };
        self.changes.lock().push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_topics_are_heard() {
        let mut ids = TopicIds::default();
        for line in [
            "[thrd:main]: Topic a.b changed id from AAAAAAAAAAAAAAAAAAAAAA to nWEZ-LjBTm6uDR9mGbBbTA",
            "[thrd:main]: Topic a.b [0] Leader 1 Epoch 0",
            "[thrd:main]: Topic c changed id from AAAAAAAAAAAAAAAAAAAAAA to xx",
        ] {
            ids.hear(line);
        }
        assert_eq!(ids.known["a.b"], "nWEZ-LjBTm6uDR9mGbBbTA");
        assert!(ids.known.len() == 2 && !ids.changed);
        ids.hear("[thrd:main]: Topic c changed id from xx to yy");
        assert!(ids.changed && ids.known["c"] == "yy");
    }
}
