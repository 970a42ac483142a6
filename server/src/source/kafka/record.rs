//! A record as it is read: borrowed from the client library until it is decoded.

use rdkafka::message::{BorrowedMessage, Headers, Message};

/// A record of a topic.
pub struct Record<'c> {
    message: BorrowedMessage<'c>,
}

impl<'c> Record<'c> {
    pub(super) fn new(message: BorrowedMessage<'c>) -> Record<'c> {
        Record { message }
    }

    /// Name of its topic.
    pub fn topic(&self) -> &str {
        self.message.topic()
    }

    /// Number of its partition in the topic.
    pub fn partition(&self) -> i32 {
        self.message.partition()
    }

    /// Its place in the partition.
    pub fn offset(&self) -> u64 {
        u64::try_from(self.message.offset()).unwrap_or(0)
    }

    /// Its time in microseconds, whatever its producer has written there; None where it has none.
    pub fn timestamp(&self) -> Option<i64> {
        self.message.timestamp().to_millis().filter(|millis| *millis >= 0).map(|millis| millis.saturating_mul(1_000))
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    /// Its value; None: a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        self.message.payload()
    }

    /// The last header of a name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.message.headers()?.iter().filter(|header| header.key == name).last().and_then(|header| header.value)
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.message.key_len() + self.message.payload_len()
    }
}
