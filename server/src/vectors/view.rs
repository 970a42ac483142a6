//! What a search sees: segments that do not change, as of one write.

use std::sync::Arc;

use parking_lot::Mutex;

use super::graph::Scratch;
use super::metric::Metric;
use super::options::IndexOptions;
use super::search::{self, Answer, Query};
use super::segment::Segment;
use crate::failure::Failure;

/// The index as of one write. Later writes change nothing in it; searches of one view agree with each other.
#[derive(Debug)]
pub struct View {
    /// components of a vector
    pub dims: usize,
    /// the metric
    pub metric: Metric,
    /// the options
    pub options: IndexOptions,
    /// what was sealed
    pub(super) sealed: Option<Arc<Segment>>,
    /// what was written since, in chunks
    pub(super) fresh: Vec<Arc<Segment>>,
    /// the number of the write
    pub(super) seen: u64,
    /// keys that have a vector
    pub(super) live: usize,
    pub(super) scratch: Arc<ScratchPool>,
}

impl View {
    /// The nearest neighbours of a vector.
    pub fn search(&self, query: Query) -> Result<Answer, Failure> {
        search::answer(self, query)
    }

    /// Keys that have a vector.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Slots and keys of all vectors, in no order.
    pub fn keys(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.segments().flat_map(|segment| {
            let rows = (0..segment.count()).filter(|row| segment.lives(*row as u32, self.seen));
            rows.map(|row| (segment.slots[row], segment.keys.get(row)))
        })
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().chain(&self.fresh).map(|segment| &**segment)
    }
}

/// Memory of searches, as many as there were at once.
#[derive(Debug, Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    pub fn take(&self) -> Scratch {
        self.0.lock().pop().unwrap_or_default()
    }

    pub fn put(&self, scratch: Scratch) {
        self.0.lock().push(scratch);
    }

    pub fn bytes(&self) -> usize {
        self.0.lock().iter().map(|scratch| scratch.visited.bytes()).sum()
    }
}
