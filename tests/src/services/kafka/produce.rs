//! What other programs write: records with keys, headers and times, plainly or in transactions.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::Kafka;
use super::topics::PATIENCE;

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// else the key decides, or chance
    pub partition: Option<i32>,
    /// its key
    pub key: Option<Vec<u8>>,
    /// none: a tombstone
    pub payload: Option<Vec<u8>>,
    /// names and values
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// else the producer's clock
    pub timestamp_ms: Option<i64>,
}

impl Message {
    /// One that has a payload and nothing else.
    pub fn new(payload: impl Into<Vec<u8>>) -> Message {
        Message { payload: Some(payload.into()), ..Message::default() }
    }

    /// One without a payload.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Message {
        Message { key: Some(key.into()), ..Message::default() }
    }

    /// With a key.
    pub fn key(self, key: impl Into<Vec<u8>>) -> Message {
        Message { key: Some(key.into()), ..self }
    }

    /// For this partition.
    pub fn partition(self, partition: i32) -> Message {
        Message { partition: Some(partition), ..self }
    }

    /// Of this time, in milliseconds.
    pub fn at_ms(self, timestamp_ms: i64) -> Message {
        Message { timestamp_ms: Some(timestamp_ms), ..self }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Message {
        self.headers.push((name.to_string(), Some(value.into())));
        self
    }
}

/// A producer that is kept. It is idempotent: whatever happens to brokers, each record is written once.
pub struct Producer {
    client: BaseProducer<Deliveries>,
    /// one batch at a time
    sending: Mutex<()>,
}

/// The partition and offset of a record.
pub type Delivery = Result<(i32, i64), KafkaError>;

/// Where each record of the batch under way has come to.
#[derive(Default)]
struct Deliveries(Mutex<Vec<Option<Delivery>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, index: usize) {
        let place = match delivered {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(place);
    }
}

impl Kafka {
    /// Writes records and waits until all are acknowledged; their partitions and offsets.
    pub fn produce(&self, topic: &str, messages: &[Message]) -> Vec<(i32, i64)> {
        self.producer.get_or_init(|| self.producer(&[])).send(topic, messages)
    }

    /// A producer with settings of its own.
    pub fn producer(&self, settings: &[(&str, &str)]) -> Producer {
        let mut client = self.client();
        client.set("enable.idempotence", "true").set("linger.ms", "0");
        for (name, value) in settings {
            client.set(*name, *value);
        }
        let client = client.create_with_context(Deliveries::default()).expect("good settings");
        Producer { client, sending: Mutex::new(()) }
    }

    /// A producer that writes in transactions; a second one of the same id fences the first.
    pub fn transactional(&self, id: &str) -> Producer {
        let producer = self.producer(&[("transactional.id", id)]);
        producer.client.init_transactions(PATIENCE).expect("the broker answers");
        producer
    }
}

impl Producer {
    /// Writes records and waits until all are acknowledged; their partitions and offsets.
    pub fn send(&self, topic: &str, messages: &[Message]) -> Vec<(i32, i64)> {
        let places = self.try_send(topic, messages);
        places.into_iter().map(|place| place.unwrap_or_else(|e| panic!("{topic} takes no record: {e}"))).collect()
    }

    /// The same, where some may fail.
    pub fn try_send(&self, topic: &str, messages: &[Message]) -> Vec<Delivery> {
        let _one = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let deliveries = &self.client.context().0;
        *deliveries.lock().unwrap_or_else(PoisonError::into_inner) = vec![None; messages.len()];
        let mut looked = false;
        for (index, message) in messages.iter().enumerate() {
            let mut record = record(topic, message, index);
            while let Err((error, refused)) = self.client.send(record) {
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => self.client.poll(Duration::from_millis(10)),
                    // A topic that has grown since: the client looks only every few minutes by itself.
                    Some(RDKafkaErrorCode::UnknownPartition) if !looked => {
                        looked = true;
                        let _ = self.client.client().fetch_metadata(Some(topic), PATIENCE);
                    }
                    _ => panic!("{topic}: {error}"),
                }
                record = refused;
            }
        }
        self.client.flush(Duration::from_secs(300)).expect("the broker answers within five minutes");
        let places = std::mem::take(&mut *deliveries.lock().unwrap_or_else(PoisonError::into_inner));
        places.into_iter().map(|place| place.expect("what is flushed is delivered or has failed")).collect()
    }

    /// Begins a transaction.
    pub fn begin(&self) {
        self.client.begin_transaction().expect("no other is open");
    }

    /// Makes what was sent visible.
    pub fn commit(&self) {
        self.client.commit_transaction(PATIENCE).expect("the broker answers");
    }

    /// What was sent stays in the log, and is never seen by who reads what is committed.
    pub fn abort(&self) {
        self.client.abort_transaction(PATIENCE).expect("the broker answers");
    }
}

fn record<'a>(topic: &'a str, message: &'a Message, index: usize) -> BaseRecord<'a, [u8], [u8], usize> {
    let mut record = BaseRecord::with_opaque_to(topic, index);
    if let Some(key) = &message.key {
        record = record.key(key.as_slice());
    }
    if let Some(payload) = &message.payload {
        record = record.payload(payload.as_slice());
    }
    if let Some(partition) = message.partition {
        record = record.partition(partition);
    }
    if let Some(timestamp_ms) = message.timestamp_ms {
        record = record.timestamp(timestamp_ms);
    }
    if !message.headers.is_empty() {
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_ref() }));
        record = record.headers(headers);
    }
    record
}
