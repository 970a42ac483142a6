//! Walking the log from a place on.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::frame::HEADER;
use super::writer::segment_path;
use super::{Frame, LogError, LogPlace};
use crate::limits::{BATCH_ROWS, FRAME_BYTES_MAX};

/// A frame and where it stands.
pub struct ReadFrame {
    /// its first byte
    pub place: LogPlace,
    /// the first byte behind it
    pub end: LogPlace,
    /// what it holds
    pub frame: Frame,
}

/// Reads frames one after the other, over all segments.
pub struct LogReader {
    folder: PathBuf,
    place: LogPlace,
    file: Option<BufReader<File>>,
    /// in the last segment a torn tail ends the log; anywhere else it is damage
    last_segment: u64,
}

/// Numbers of the segments in a folder, ascending.
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

impl LogReader {
    /// Starts at a place; at the front of the first segment where it is the default.
    pub fn open(folder: &Path, from: LogPlace) -> Result<LogReader, LogError> {
        let numbers = segments(folder)?;
        let first = numbers.first().copied().unwrap_or(0);
        if numbers.windows(2).any(|pair| pair[1] != pair[0] + 1) {
            let path = folder.display().to_string();
            return Err(LogError::Damaged { path, offset: 0, what: "a segment is missing" });
        }
        if from != LogPlace::default() {
            let path = segment_path(folder, from.segment);
            if std::fs::metadata(&path).map_or(0, |m| m.len()) < from.offset || !numbers.contains(&from.segment) {
                let (path, offset) = (path.display().to_string(), from.offset);
                return Err(LogError::Damaged { path, offset, what: "it ends before events that the state has" });
            }
        }
        let place = if from.segment < first { LogPlace { segment: first, offset: 0 } } else { from };
        Ok(LogReader {
            folder: folder.to_path_buf(),
            place,
            file: None,
            last_segment: numbers.last().copied().unwrap_or(0),
        })
    }

    /// Where the next frame would stand: behind the last one, once `next` has given None.
    pub fn place(&self) -> LogPlace {
        self.place
    }

    /// The next frame; None at the end of the log.
    pub fn next_frame(&mut self) -> Result<Option<ReadFrame>, LogError> {
        loop {
            let path = segment_path(&self.folder, self.place.segment);
            let named = |error| LogError::Io { path: path.display().to_string(), error };
            if self.file.is_none() {
                let mut file = match File::open(&path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(named(error)),
                };
                file.seek(SeekFrom::Start(self.place.offset)).map_err(named)?;
                self.file = Some(BufReader::with_capacity(1 << 18, file));
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            match read_payload(file).map_err(named)? {
                Payload::Whole(payload) => {
                    let what = "the frame cannot be decoded";
                    let frame = Frame::decode(&payload, BATCH_ROWS).map_err(|_| self.damaged(what))?;
                    let place = self.place;
                    self.place.offset += (HEADER + payload.len()) as u64;
                    return Ok(Some(ReadFrame { place, end: self.place, frame }));
                }
                Payload::End if self.place.segment < self.last_segment => {
                    self.place = LogPlace { segment: self.place.segment + 1, offset: 0 };
                    self.file = None;
                }
                Payload::End => return Ok(None),
                Payload::Broken { torn } => {
                    // The last bytes of the last segment may be those of a write that never finished.
                    if self.place.segment == self.last_segment && torn {
                        return Ok(None);
                    }
                    return Err(self.damaged("its checksum does not fit"));
                }
            }
        }
    }

    fn damaged(&self, what: &'static str) -> LogError {
        let path = segment_path(&self.folder, self.place.segment).display().to_string();
        LogError::Damaged { path, offset: self.place.offset, what }
    }
}

enum Payload {
    Whole(Vec<u8>),
    End,
    /// `torn`: nothing readable can follow
    Broken {
        torn: bool,
    },
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
