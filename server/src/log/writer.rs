//! Appending to the log: frames are collected, written at once, made durable by one fsync.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::raw::segment_path;
use super::{Frame, LogError, LogPlace};
use crate::limits::SEGMENT_BYTES;

/// Why frames could not be appended.
#[derive(Debug)]
pub enum AppendError {
    /// nothing was kept, and the log is as it was: try again when there is room
    Full(std::io::Error),
    /// whether the bytes are on the disk is unknown: the process must end (see "fsyncgate", 2018)
    Unknown(std::io::Error),
}

/// The end of the log.
pub struct LogWriter {
    folder: PathBuf,
    file: File,
    place: LogPlace,
    buffer: Vec<u8>,
    segment_bytes: u64,
}

impl LogWriter {
    /// Opens the log at its end, which a reader has found; what stands behind it was never acknowledged.
    pub fn open(folder: &Path, end: LogPlace) -> Result<LogWriter, LogError> {
        std::fs::create_dir_all(folder).map_err(|error| LogError::Io { path: folder.display().to_string(), error })?;
        let path = segment_path(folder, end.segment);
        let named = |error| LogError::Io { path: path.display().to_string(), error };
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(named)?;
        // Never longer than it is: a gap of zeros would be taken for damage.
        let length = file.metadata().map_err(named)?.len();
        if length < end.offset {
            let path = path.display().to_string();
            return Err(LogError::Damaged { path, offset: length, what: "it ends too early" });
        }
        file.set_len(end.offset).map_err(named)?;
        file.seek(SeekFrom::Start(end.offset)).map_err(named)?;
        sync_folder(folder).map_err(named)?;
        Ok(LogWriter {
            folder: folder.to_path_buf(),
            file,
            place: end,
            buffer: Vec::new(),
            segment_bytes: SEGMENT_BYTES,
        })
    }

    /// Where the log is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a new segment after this many bytes.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Adds a frame to those that the next `write` appends, and tells where the log ends behind it.
    pub fn add(&mut self, frame: &Frame) -> LogPlace {
        frame.encode(&mut self.buffer);
        LogPlace { segment: self.place.segment, offset: self.place.offset + self.buffer.len() as u64 }
    }

    /// Writes what was added. Where the disk is full the log is cut back to what it was.
    pub fn write(&mut self) -> Result<(), AppendError> {
        let written = self.file.write_all(&self.buffer);
        let length = self.buffer.len() as u64;
        self.buffer.clear();
        if let Err(error) = written {
            let cut = self.file.set_len(self.place.offset);
            let back = cut.and_then(|()| self.file.seek(SeekFrom::Start(self.place.offset)));
            return Err(if back.is_ok() { AppendError::Full(error) } else { AppendError::Unknown(error) });
        }
        self.place.offset += length;
        Ok(())
    }

    /// Makes everything written durable.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        self.file.sync_data().map_err(AppendError::Unknown)
    }

    /// Starts a new segment if this one is long enough; everything is durable. Tells whether it did.
    pub fn rotate(&mut self) -> Result<bool, AppendError> {
        if self.place.offset < self.segment_bytes {
            return Ok(false);
        }
        let next = LogPlace { segment: self.place.segment + 1, offset: 0 };
        let path = segment_path(&self.folder, next.segment);
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path).map_err(AppendError::Full)?;
        sync_folder(&self.folder).map_err(AppendError::Unknown)?;
        self.file = file;
        self.place = next;
        Ok(true)
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
