//! Publishing values: messages with keys, of which each partition has those of a key in the order in which they were sent.
//!
//! The client library tries for ever, so what it has taken is delivered, or refused by the brokers. Nothing is given up because it
//! takes long: what was given up could still arrive, behind a newer message of its key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use tokio::runtime::Handle;

use super::connection::{TopicIds, client_config, complaint, refusal};
use super::trouble::Trouble;
use crate::limits::{KAFKA_TIMEOUT, SINK_QUEUE_KBYTES};
use crate::settings::KafkaSettings;

/// A connection that publishes.
pub struct Publisher {
    inner: BaseProducer<Deliveries>,
    settings: KafkaSettings,
}

/// How a topic treats older messages of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// the newest one stays
    Compacted,
    /// by this policy, after which a key may have no message any more
    Other(String),
    /// this user may not know
    Unknown,
}

/// What has become of messages.
#[derive(Default)]
struct Deliveries {
    waiting: AtomicU64,
    delivered: AtomicU64,
    refused: Mutex<Option<KafkaError>>,
    /// the last complaint in the library's own words, since something was delivered
    said: Mutex<Option<String>>,
    ids: Mutex<TopicIds>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if level as i32 > RDKafkaLogLevel::Warning as i32 {
            return self.ids.lock().hear(message);
        }
        tracing::debug!(facility, "{message}");
        self.complain(message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "{reason}");
        self.complain(reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                *self.said.lock() = None;
            }
            Err((error, _)) => drop(self.refused.lock().get_or_insert(error.clone())),
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deliveries {
    fn complain(&self, message: &str) {
        if let Some(said) = complaint(message) {
            *self.said.lock() = Some(said);
        }
    }
}

/// Properties of users that a connection has which sends; the others are about reading.
fn is_about_sending(name: &str) -> bool {
    let families = ["socket.", "ssl.", "reconnect.", "broker.address.", "metadata."];
    let others = ["message.max.bytes", "connections.max.idle.ms", "topic.metadata.refresh.interval.ms"];
    families.iter().any(|family| name.starts_with(family)) || others.contains(&name)
}

fn publisher_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = client_config(settings);
    config.set("topic.metadata.refresh.interval.ms", "10000");
    for (name, value) in settings.properties.iter().filter(|(name, _)| is_about_sending(name)) {
        config.set(name, value);
    }
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        // Where clients in Java put a key, too.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        // The only place where the library tells the id of a topic.
        .set("debug", "topic")
        .set_log_level(RDKafkaLogLevel::Debug)
        .set("queue.buffering.max.kbytes", SINK_QUEUE_KBYTES.to_string());
    config
}

impl Publisher {
    /// Connects in the background.
    pub fn new(settings: &KafkaSettings) -> Result<Publisher, String> {
        let config = publisher_config(settings);
        let inner = config.create_with_context(Deliveries::default()).map_err(|error| refusal(&error))?;
        Ok(Publisher { inner, settings: settings.clone() })
    }

    fn trouble(&self, error: &KafkaError, what: &str) -> Trouble {
        Trouble::of(error, what, &self.settings.brokers, self.said())
    }

    /// What the client library complained of since something was delivered.
    pub fn said(&self) -> Option<String> {
        self.inner.context().said.lock().clone()
    }

    /// Addresses that it was told.
    pub fn brokers(&self) -> &str {
        &self.settings.brokers
    }

    /// How a topic treats older messages of a key. Err: it is not there, or nobody answers.
    pub fn look_at(&self, topic: &str, runtime: &Handle) -> Result<Cleanup, Trouble> {
        let trouble = |error: KafkaError| self.trouble(&error, &format!("looking at topic `{topic}`"));
        let admin: AdminClient<DefaultClientContext> = client_config(&self.settings).create().map_err(trouble)?;
        let metadata = admin.inner().fetch_metadata(Some(topic), KAFKA_TIMEOUT).map_err(trouble)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.and_then(|found| found.error()).map(RDKafkaErrorCode::from) {
            None if found.is_some_and(|found| !found.partitions().is_empty()) => {}
            Some(code) => return Err(trouble(KafkaError::MetadataFetch(code))),
            None => return Err(trouble(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))),
        }
        let options = AdminOptions::new().request_timeout(Some(KAFKA_TIMEOUT));
        let described = runtime.block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options));
        let of_topic = described.map_err(trouble)?.into_iter().next().and_then(Result::ok);
        let policy = of_topic.and_then(|of_topic| of_topic.get("cleanup.policy")?.value.clone());
        Ok(match policy {
            Some(policy) if policy.split(',').any(|policy| policy.trim() == "compact") => Cleanup::Compacted,
            Some(policy) => Cleanup::Other(policy),
            // A user that may write need not be one that may ask for settings.
            None => Cleanup::Unknown,
        })
    }

    /// Puts a message on its way; without a value it deletes its key. False: too many are under way.
    pub fn send(&self, topic: &str, key: &[u8], value: Option<&[u8]>) -> Result<bool, Trouble> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        let waiting = &self.inner.context().waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        let Err((error, _)) = self.inner.send(record) else { return Ok(true) };
        waiting.fetch_sub(1, Ordering::Relaxed);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Ok(false),
            code => {
                // This connection sends nothing more.
                if code == Some(RDKafkaErrorCode::Fatal) {
                    self.inner.context().refused.lock().get_or_insert(error.clone());
                }
                Err(self.trouble(
                    &error,
                    &format!("sending a message of {} bytes to topic `{topic}`", value.map_or(0, <[u8]>::len)),
                ))
            }
        }
    }

    /// Hears of deliveries for so long, or until nothing is under way. Gives how many messages are.
    pub fn hear(&self, patience: Duration) -> u64 {
        let slice = Duration::from_millis(5).min(patience);
        let mut left = patience;
        loop {
            self.inner.poll(slice);
            left = left.saturating_sub(slice);
            let waiting = self.inner.context().waiting.load(Ordering::Relaxed);
            if waiting == 0 || left.is_zero() {
                return waiting;
            }
        }
    }

    /// The id of a topic, once something was sent to it, where brokers tell it. One that is deleted and made anew has another.
    pub fn topic_id(&self, topic: &str) -> Option<String> {
        self.inner.context().ids.lock().known.get(topic).cloned()
    }

    /// Messages that brokers have, since the connection was made.
    pub fn delivered(&self) -> u64 {
        self.inner.context().delivered.load(Ordering::Relaxed)
    }

    /// Why brokers refused a message, if they did.
    pub fn refused(&self, topic: &str) -> Option<Trouble> {
        let error = self.inner.context().refused.lock().clone()?;
        Some(self.trouble(&error, &format!("sending to topic `{topic}`")))
    }
}
