//! Sources that read topics, on a real broker.

mod exact;
mod groups;
mod losses;
mod moments;
mod records;
mod troubles;
pub mod world;
