//! Kafka: the only room that names its client library.
//!
//! `connection` turns settings into a client, `consumer` reads records and tells what happens to the group and the connection,
//! `trouble` says what to do about an error. `record` is what is read, `row` how it becomes a row of its source. `probe` looks at
//! records by their offsets, so that a topic can be recognised; `producer` sends bad events to a topic of their own, `publisher`
//! values that have changed. Which partitions are read from where, and what is published when, is not decided here.

mod connection;
mod consumer;
mod probe;
mod producer;
mod publisher;
mod pulse;
mod record;
mod row;
mod trouble;

pub use self::connection::check;
pub use self::consumer::{Consumer, GroupChange, Partitions, Polled, TopicPartition};
pub use self::probe::{Fingerprint, probe};
pub use self::producer::{DeadRecord, Producer};
pub use self::publisher::{Cleanup, Publisher};
pub use self::pulse::{PartitionPulse, Pulse};
pub use self::record::Record;
pub use self::row::take;
pub use self::trouble::Trouble;
