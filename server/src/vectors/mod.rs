//! Nearest neighbours: the index of a collection of vectors.
//!
//! In reading order: `metric` (what near means, and which vectors are refused), `options`; `index` (writes), `seal` (upkeep) and
//! `view` (what a search sees); `search` (scan or walk, and the answer); `segment` (vectors that lie together), `graph`
//! (neighbours, laid out flat), `codes` (short forms of vectors), `home` (vectors in memory or on the disk: the only file that
//! opens one), `packed` (fewer bytes, bit for bit), `lanes` (arithmetic by wide instructions); `file` (an index at rest). `hnsw` is the other builder of graphs.
//!
//! The room is a library: it knows no store, no source and no request. Vectors belong to the store; an index is derived from
//! them, and where a file of it is in doubt it is refused, so that it is built anew.

mod codes;
mod file;
mod filter;
mod graph;
mod hnsw;
mod home;
mod index;
mod keys;
mod lanes;
mod marks;
mod metric;
mod options;
mod packed;
mod pool;
mod recall;
mod rows;
mod seal;
mod search;
mod segment;
mod view;
mod writer;

pub use file::Expected;
pub use filter::{Bitmap, Filter};
pub use index::{Change, Index, Stats};
pub use metric::Metric;
pub use options::{Builder, IndexOptions, RowsIn};
pub use search::{Answer, Explained, Hit, Plan, Query, Way};
pub use view::View;

#[cfg(test)]
mod tests;
