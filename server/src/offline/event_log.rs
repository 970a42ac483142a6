//! What a replay asks of the event log.

use std::ops::RangeInclusive;

use tidemill_features::read::Missing;
use tidemill_features::stream::EventBatch;

use crate::failure::Failure;
use crate::place::LogPlace;

/// Events of one source and partition, and where the frame of each of them stands.
pub struct Located {
    /// the events
    pub batch: EventBatch,
    /// by event; of two events of one frame the offset says which came first
    pub places: Vec<LogPlace>,
}

/// Which events in files are read.
pub struct FileRange<'f> {
    /// place of the source in the registry
    pub source: usize,
    /// columns of the key whose buckets are meant
    pub key: &'f [usize],
    /// columns that are read; the others have their place, but no values
    pub columns: &'f [usize],
    /// see `place::shard_of`
    pub buckets: RangeInclusive<u8>,
}

/// Every bucket.
pub(super) const ALL_BUCKETS: RangeInclusive<u8> = 0..=u8::MAX;

/// The event log at one moment, as replays read it: sealed files, sorted by entity, and the rest in the order of the log.
pub trait EventLog: Sync {
    /// How many events of a source there are in files sorted by this key; None: some of its files are sorted otherwise.
    fn sorted_by(&self, source: usize, key: &[usize]) -> Option<u64>;

    /// Events in files, in no order that matters.
    fn read_files(
        &self,
        range: &FileRange<'_>,
        visit: &mut dyn FnMut(Located) -> Result<(), Failure>,
    ) -> Result<(), Failure>;

    /// Where events of a key may be missing, because the log was cut; by the view's place in the registry. To be asked after the
    /// log was read.
    fn missing(&self, view: usize, key: &[u8]) -> Option<Missing>;

    /// Events of some sources that are in no file yet, in the order of the log.
    fn read_rest(
        &self,
        sources: &[usize],
        visit: &mut dyn FnMut(usize, Located) -> Result<(), Failure>,
    ) -> Result<(), Failure>;
}
