//! Sending bad events to a topic of their own.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::connection::{client_config, refusal};
use super::trouble::Trouble;
use crate::limits::KAFKA_DELIVERY_TIMEOUT;
use crate::settings::KafkaSettings;

/// A bad event on its way to a topic.
#[derive(Clone, Debug)]
pub struct DeadRecord {
    /// where it came from
    pub topic: String,
    /// number in the topic
    pub partition: i32,
    /// in the partition
    pub offset: u64,
    /// such as `E1001`
    pub code: String,
    /// what is wrong with it
    pub reason: String,
    /// as it came, or the beginning of it
    pub payload: Vec<u8>,
}

/// A connection that sends.
pub struct Producer {
    inner: FutureProducer,
    brokers: String,
}

impl Producer {
    /// Connects in the background.
    pub fn new(settings: &KafkaSettings) -> Result<Producer, String> {
        let mut config = client_config(settings);
        config.set("linger.ms", "5").set("message.timeout.ms", KAFKA_DELIVERY_TIMEOUT.as_millis().to_string());
        let inner = config.create().map_err(|error| refusal(&error))?;
        Ok(Producer { inner, brokers: settings.brokers.clone() })
    }

    /// Sends bad events of a source and waits until brokers have them. What was sent before an error is there twice after the
    /// next try: the headers say which event it is.
    pub async fn send(&self, to: &str, source: &str, dead: &[DeadRecord]) -> Result<(), Trouble> {
        let keys: Vec<String> =
            dead.iter().map(|event| format!("{}/{}/{}", event.topic, event.partition, event.offset)).collect();
        let sent = dead.iter().zip(&keys).map(|(event, key)| {
            let text = |key, value| Header { key, value: Some(value) };
            let headers = OwnedHeaders::new()
                .insert(text("tidemill.source", source))
                .insert(text("tidemill.topic", event.topic.as_str()))
                .insert(text("tidemill.partition", event.partition.to_string().as_str()))
                .insert(text("tidemill.offset", event.offset.to_string().as_str()))
                .insert(text("tidemill.code", event.code.as_str()))
                .insert(text("tidemill.reason", event.reason.as_str()));
            let record = FutureRecord::to(to).key(key).payload(&event.payload).headers(headers);
            self.inner.send(record, Duration::from_secs(5))
        });
        for delivery in join_all(sent).await {
            if let Err((error, _)) = delivery {
                let what = format!("sending a bad event to topic `{to}`");
                return Err(Trouble::Retry(Trouble::of(&error, &what, &self.brokers, None).to_string()));
            }
        }
        Ok(())
    }
}
