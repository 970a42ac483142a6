//! Closed segments as Parquet: smaller, sorted by entity, and readable by other tools. The frames come back as they were.
//!
//! `manifest` says which files count; `disk` writes and checks files. `gather` takes frames in, `group` sorts events into files,
//! `bucket` by bucket, `frame_rows` are those that hold what the frames said of themselves, `frames` puts the frames together
//! again. `sealer` turns one segment into a piece, proves that it comes back, and only then removes it. `compact` makes one piece
//! of several, whose events `merge` brings into one file; `front` cuts pieces off. `archive` keeps all of it in an object store,
//! with `fetched` (what of it is here), `marker` (what of it is ours) and `companions` (what else a new machine needs).

mod archive;
mod bucket;
mod compact;
mod companions;
mod disk;
mod fetched;
mod frame_rows;
mod frames;
mod front;
mod gather;
mod group;
mod manifest;
mod marker;
mod merge;
mod sealer;
#[cfg(test)]
mod tests;

pub use self::archive::{Archiving, attach as attach_archive};
pub use self::gather::KeyColumns;
pub use self::sealer::{Sealer, remove_leftovers};

pub(super) use self::bucket::bucket_of;
pub(super) use self::disk::{damaged, open_checked, remove_sealed};
pub(super) use self::frames::{SealedFrames, Wanted};
pub(super) use self::manifest::{EventsFile, Manifest, SealedPiece};

/// Column of sealed events: hash of the entity key of the source's first view, by number of buckets.
pub(super) const BUCKET: &str = "_bucket";
/// Column of sealed events: partition of the source.
pub(super) const PARTITION: &str = "_partition";
/// Column of sealed events: offset in the partition.
pub(super) const OFFSET: &str = "_offset";
/// Column of sealed events: segment of the log that the event came from.
pub(super) const SEGMENT: &str = "_segment";
/// Column of sealed events: where in the segment its frame began.
pub(super) const POSITION: &str = "_position";
/// Column of sealed events: when it became known.
pub(super) const ARRIVAL_TIME: &str = "_arrival_time";
