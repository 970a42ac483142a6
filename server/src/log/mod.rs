//! The event log: every consumed event, in order, on disk. The source of truth: state is derived from it.
//!
//! Segments of frames; a frame is one batch of one source, good events typed and bad ones with their reason, guarded by a
//! checksum. `frame` is the format, `writer` appends (group commit: many frames, one fsync), `raw` reads one segment. Closed
//! segments become Parquet files in the background (`sealed`), which an object store may keep. `reader` walks over both from a place on; `scan` gives the
//! events of one source for training, some buckets of entities at a time; `commits` notes when events could first be read.
//! `cut` says what retention has removed, `shelf` which files wait for readers, `summary` what there is, for people.

pub use crate::place::LogPlace;

mod commits;
mod cut;
mod frame;
mod raw;
mod reader;
mod scan;
mod sealed;
mod shelf;
mod summary;
mod writer;

pub use self::commits::{CommitLog, Notes, read_commits};
pub use self::cut::{Cut, SourceCut};
pub use self::frame::{DeadEvent, Frame, SourceSchema};
pub use self::raw::segments;
pub use self::reader::{LogReader, ReadFrame, bytes_behind};
pub use self::scan::{EventScan, ScanRequest, Scanned, SealedLog};
pub use self::sealed::{Archiving, KeyColumns, Sealer, attach_archive, remove_leftovers};
pub use self::shelf::cut_of;
pub use self::summary::{LogSummary, PieceSummary, SourceSummary, summary};
pub use self::writer::{AppendError, LogWriter};

/// What is wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// the disk said no
    #[error("{path}: {error}")]
    Io {
        /// of the segment
        path: String,
        /// as the system said it
        error: std::io::Error,
    },
    /// bytes in the middle of the log are broken
    #[error(
        "E1020: {path} is damaged at byte {offset}: {what}; restore the file from a copy, or move it away and push its events again"
    )]
    Damaged {
        /// of the segment
        path: String,
        /// where
        offset: u64,
        /// what was found
        what: &'static str,
    },
    /// retention was faster than a reader
    #[error("E1025: the event log was cut while it was read; try again, and let `log.keep` or `log.keep_mb` keep more")]
    CutMeanwhile,
    /// a file of the log is missing or not what it was
    #[error("E1020: {path} is damaged: {what}; restore the file from a copy")]
    DamagedFile {
        /// of the file
        path: String,
        /// what was found
        what: String,
    },
    /// the archive of the log cannot be reached, or refuses
    #[error("E1040: the archive of the event log: {error}")]
    Archive {
        /// with the name of the file there
        error: Box<crate::objects::ObjectError>,
    },
    /// the archive holds what another log has written
    #[error(
        "E1041: the archive {url} {what}: another server writes there, or this data directory is older than it; give each log an archive of its own, or move this log away to have the archived one restored"
    )]
    ForeignArchive {
        /// of the archive
        url: String,
        /// what was found
        what: &'static str,
    },
    /// files are in an archive that is not named any more
    #[error(
        "E1042: {path} of the event log is not on this machine but in {url}: set log.archive to it, or copy all of it to the new one"
    )]
    ArchiveNeeded {
        /// of a file
        path: String,
        /// of the archive
        url: String,
    },
}

impl LogError {
    /// The same for the person who reads it. What an archive cannot give now it may give later.
    pub fn failure(self, code: &'static str) -> crate::failure::Failure {
        match &self {
            LogError::Archive { error } => {
                let failure = error.failure(code);
                crate::failure::Failure { message: self.to_string(), ..failure }
            }
            LogError::ForeignArchive { .. } | LogError::ArchiveNeeded { .. } => {
                crate::failure::Failure::invalid(code, self.to_string())
            }
            _ => crate::failure::Failure::internal(code, self.to_string()),
        }
    }
}
