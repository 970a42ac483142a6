//! Records as reads see them: those of this process's memory, or those that were fetched from a shared store.

use tidemill_features::record::Nodes;

use super::memory::State;
use super::shards::RecordChunks;

/// Records of all views by key.
pub trait Records {
    /// The chunks of one record.
    type Chunks<'r>: Nodes
    where
        Self: 'r;

    /// The record of an entity.
    fn record(&self, view: usize, key: &[u8]) -> Option<&[u8]>;

    /// The chunks of an entity's record.
    fn chunks<'r>(&'r self, view: usize, key: &'r [u8]) -> Self::Chunks<'r>;

    /// Whether the records of a view hold every event before the positions.
    fn is_complete(&self, view: usize) -> bool;

    /// Whether something was asked for that is not here yet, so that what was read of it counts for nothing.
    fn is_lacking(&self) -> bool {
        false
    }
}

impl Records for State {
    type Chunks<'r> = RecordChunks<'r>;

    fn record(&self, view: usize, key: &[u8]) -> Option<&[u8]> {
        State::record(self, view, key)
    }

    fn chunks<'r>(&'r self, view: usize, key: &'r [u8]) -> RecordChunks<'r> {
        State::chunks(self, view, key)
    }

    fn is_complete(&self, view: usize) -> bool {
        self.complete[view]
    }
}
