//! A shared store is filled from a log whose front retention has removed: what views can do without is passed over, and they
//! remember that they never saw it, so that reads which reach back that far say that they do not know.

use super::PartitionId;
use super::from_log::{FromLog, lost};
use super::round::Arrived;
use crate::failure::Failure;
use crate::log::{Frame, cut_of};

impl FromLog {
    /// Something that spans offsets which the log does not have any more. Err: retention did not remove them, or live values need
    /// them.
    pub(super) fn without(&self, id: PartitionId, (from, to): (u64, u64)) -> Result<Arrived, Failure> {
        let parts = &self.parts;
        let source = &parts.registry.sources[id.0];
        let (now, lost) = (parts.clock.now(), lost(&parts.registry, id, from, to));
        let cut = cut_of(&parts.folder).map_err(|e| e.failure("E1018"))?;
        let behind = cut.sources.get(&source.name).and_then(|cut| cut.positions.get(&id.1));
        if behind.is_none_or(|behind| *behind < to) {
            return Err(lost);
        }
        if let Some(gone) = cut.of(&source.name) {
            let needy = parts.begun.begin_without(&parts.registry, id.0, gone, (now, parts.force))?;
            if !needy.is_empty() && !parts.force {
                let message = format!(
                    "{}; {} would have to be computed from them: restore the log or the store from a copy, or set log.force = true to serve such features with status ERROR",
                    lost.message,
                    needy.join(", ")
                );
                return Err(Failure { message, ..lost });
            }
        }
        tracing::warn!(
            source = source.name,
            partition = id.1,
            "the shared store is filled without offsets {from} to {}, which retention has removed; reads of that time say that they do not know",
            to - 1
        );
        let frame = Frame::empty(source, id.1, (from, to - from), now);
        Ok(Arrived { source: id.0, frame, print: None })
    }
}
