//! Sources that read topics, on a real broker.

mod exact;
mod groups;
mod losses;
mod moments;
mod records;
#[cfg(feature = "kafka-tls")]
mod tls;
mod troubles;
pub mod world;
