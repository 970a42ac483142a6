//! Sources that read topics, on a real broker.

mod exact;
mod losses;
mod records;
mod troubles;
mod world;
