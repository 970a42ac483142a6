//! The event log: every consumed event, in order, on disk. The source of truth: state is derived from it.
//!
//! Segments of frames; a frame is one batch of one source, good events typed and bad ones with their reason, guarded by a
//! checksum. `frame` is the format, `writer` appends (group commit: many frames, one fsync), `reader` walks from a place on,
//! `commits` notes when events could first be read.

pub use crate::place::LogPlace;

mod commits;
mod frame;
mod reader;
mod writer;

pub use self::commits::{CommitLog, Notes, read_commits};
pub use self::frame::{DeadEvent, Frame, SourceSchema};
pub use self::reader::{LogReader, ReadFrame, segments};
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
}
