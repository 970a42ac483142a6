//! One segment as it is written: frames one after the other, each behind its length and its checksums.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::frame::HEADER;
use super::{LogError, LogPlace};
use crate::limits::FRAME_BYTES_MAX;

/// Path of a segment.
pub(super) fn segment_path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.log"))
}

/// Numbers of the segments in a folder that are not sealed yet, ascending.
pub fn segments(folder: &Path) -> Result<Vec<u64>, LogError> {
    let named = |error| LogError::Io { path: folder.display().to_string(), error };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(named(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(named)?.file_name();
        let number: Option<u64> = name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What stands at the place where a segment is read.
pub(super) enum Payload {
    /// a frame without its header; its checksum is right
    Whole(Vec<u8>),
    /// the segment ends here
    End,
    /// `torn`: nothing readable can follow
    Broken { torn: bool },
}

/// A segment that is being read.
pub(super) struct RawSegment {
    path: PathBuf,
    file: BufReader<File>,
    place: LogPlace,
}

impl RawSegment {
    /// Opens a segment at a place; None where there is no such file.
    pub(super) fn open(folder: &Path, place: LogPlace) -> Result<Option<RawSegment>, LogError> {
        let path = segment_path(folder, place.segment);
        let named = |error| LogError::Io { path: path.display().to_string(), error };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(error)),
        };
        file.seek(SeekFrom::Start(place.offset)).map_err(named)?;
        let file = BufReader::with_capacity(1 << 18, file);
        Ok(Some(RawSegment { path, file, place }))
    }

    /// What stands at the place, which then is the one behind it.
    pub(super) fn next_payload(&mut self) -> Result<Payload, LogError> {
        let read = read_payload(&mut self.file);
        let payload = read.map_err(|error| LogError::Io { path: self.path.display().to_string(), error })?;
        if let Payload::Whole(bytes) = &payload {
            self.place.offset += (HEADER + bytes.len()) as u64;
        }
        Ok(payload)
    }

    /// Where it is read.
    pub(super) fn place(&self) -> LogPlace {
        self.place
    }

    /// Damage in this segment.
    pub(super) fn damaged(&self, offset: u64, what: &'static str) -> LogError {
        LogError::Damaged { path: self.path.display().to_string(), offset, what }
    }
}

fn read_payload(file: &mut BufReader<File>) -> std::io::Result<Payload> {
    let mut header = Vec::with_capacity(HEADER);
    file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(Payload::End);
    }
    let (Some(length), Some(checksum), Some(guard)) = (word(&header, 0), word(&header, 4), word(&header, 8)) else {
        return Ok(Payload::Broken { torn: true });
    };
    let left = file.get_ref().metadata()?.len().saturating_sub(file.stream_position()?);
    if guard != crc32fast::hash(&header[..8]) {
        // Zeros are what a file system leaves where a file's length came to the disk before its bytes.
        let mut rest = header;
        file.read_to_end(&mut rest)?;
        return Ok(Payload::Broken { torn: rest.iter().all(|byte| *byte == 0) });
    }
    if length as usize > FRAME_BYTES_MAX {
        return Ok(Payload::Broken { torn: false });
    }
    if u64::from(length) > left {
        return Ok(Payload::Broken { torn: true });
    }
    let mut payload = vec![0; length as usize];
    file.read_exact(&mut payload)?;
    if crc32fast::hash(&payload) == checksum {
        return Ok(Payload::Whole(payload));
    }
    Ok(Payload::Broken { torn: payload.iter().all(|byte| *byte == 0) && u64::from(length) == left })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}
