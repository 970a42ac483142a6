//! Real servers for tests, as `tests/services install` brings them: Kafka, Redis, Valkey, a Redis Cluster, a schema registry; and a
//! proxy that stands between a server and who asks it.
//!
//! A test that needs a server starts one of its own where it hurts it, else takes the one that its test binary shares
//! (`Kafka::shared`). A server that is not installed fails the test with one line. Nothing outlives the tests: see `place`.
//! All calls block, so they can be made from everywhere.

mod certificates;
mod installed;
pub mod kafka;
mod place;
pub mod proxy;
pub mod redis;
pub mod redis_cluster;
pub mod registry;

pub use certificates::Certificates;
pub use installed::{installed, script};
pub use kafka::{Kafka, KafkaOptions, Message};
pub use place::{Place, Server, lasting_port};
pub use proxy::Proxy;
pub use redis::{Redis, RedisKind, RedisOptions};
pub use redis_cluster::RedisCluster;
pub use registry::Registry;
