//! Walking the log from a place on, over sealed pieces and segments alike.

use std::path::{Path, PathBuf};

use super::raw::{Payload, RawSegment, segment_path, segments};
use super::sealed::{EventsOf, Manifest, SealedFrames, damaged};
use super::{Frame, LogError, LogPlace};
use crate::limits::BATCH_ROWS;

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
    part: Part,
    manifest: Manifest,
    events_of: EventsOf,
    /// in the last segment a torn tail ends the log; anywhere else it is damage
    last_segment: u64,
    /// whether there was a segment at all
    any: bool,
}

/// What is being read.
enum Part {
    None,
    Raw(RawSegment),
    Sealed(Box<SealedFrames>),
}

impl LogReader {
    /// Starts at a place; at the front of the log where it is the default.
    pub fn open(folder: &Path, from: LogPlace) -> Result<LogReader, LogError> {
        // In this order: a segment that is gone by now was in the manifest before.
        let numbers = segments(folder)?;
        let manifest = Manifest::load(folder)?;
        let sealed_end = manifest.end_segment();
        // Where the process ended before a sealed segment was removed, both forms are there.
        let numbers: Vec<u64> = numbers.into_iter().filter(|number| *number >= sealed_end).collect();
        let missing = (sealed_end..).zip(&numbers).find(|(expected, found)| expected != *found);
        if let Some((missing, _)) = missing {
            return Err(damaged(&segment_path(folder, missing), "it is missing, and later segments are there"));
        }
        let any = !numbers.is_empty() || sealed_end > 0;
        let last_segment = numbers.last().copied().unwrap_or(sealed_end.saturating_sub(1));
        if from != LogPlace::default() && manifest.piece_at(from).is_none() {
            let path = segment_path(folder, from.segment);
            let at_front = from == LogPlace { segment: sealed_end, offset: 0 };
            // One that has just been sealed is gone, and will be found as it is opened.
            let short = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() < from.offset);
            if short || !(at_front || numbers.contains(&from.segment)) {
                let (path, offset) = (path.display().to_string(), from.offset);
                return Err(LogError::Damaged { path, offset, what: "it ends before events that the state has" });
            }
        }
        Ok(LogReader {
            folder: folder.to_path_buf(),
            place: from.max(manifest.front().unwrap_or_default()),
            part: Part::None,
            manifest,
            events_of: EventsOf::All,
            last_segment,
            any,
        })
    }

    /// For those who look for bad events only: sealed frames come without their events.
    pub fn without_events(self) -> LogReader {
        LogReader { events_of: EventsOf::None, ..self }
    }

    /// For those who look for events of some sources: sealed ones of the others are not even read, so damage of theirs is none.
    pub fn of_sources(self, sources: Vec<String>) -> LogReader {
        LogReader { events_of: EventsOf::Sources(sources), ..self }
    }

    /// Where the next frame would stand: behind the last one, once `next` has given None.
    pub fn place(&self) -> LogPlace {
        self.place
    }

    /// The next frame; None at the end of the log.
    pub fn next_frame(&mut self) -> Result<Option<ReadFrame>, LogError> {
        loop {
            if matches!(self.part, Part::None) && !self.open_part()? {
                return Ok(None);
            }
            match &mut self.part {
                Part::None => {}
                Part::Sealed(sealed) => {
                    if let Some(read) = sealed.next_frame()? {
                        self.place = read.end;
                        return Ok(Some(read));
                    }
                    self.place = sealed.to();
                    self.part = Part::None;
                }
                Part::Raw(raw) => match raw.next_payload()? {
                    Payload::Whole(payload) => {
                        let (place, end) = (self.place, raw.place());
                        let frame = Frame::decode(&payload, BATCH_ROWS)
                            .map_err(|_| raw.damaged(place.offset, "the frame cannot be decoded"))?;
                        self.place = end;
                        return Ok(Some(ReadFrame { place, end, frame }));
                    }
                    Payload::End if self.place.segment < self.last_segment => {
                        self.place = LogPlace { segment: self.place.segment + 1, offset: 0 };
                        self.part = Part::None;
                    }
                    Payload::End => return Ok(None),
                    // The last bytes of the last segment may be those of a write that never finished.
                    Payload::Broken { torn: true } if self.place.segment == self.last_segment => return Ok(None),
                    Payload::Broken { .. } => {
                        return Err(raw.damaged(self.place.offset, "its checksum does not fit"));
                    }
                },
            }
        }
    }

    /// Opens what holds the place. False: the log ends here.
    fn open_part(&mut self) -> Result<bool, LogError> {
        if !self.any || self.place.segment > self.last_segment {
            return Ok(false);
        }
        loop {
            if let Some(piece) = self.manifest.piece_at(self.place) {
                if let Some(sealed) = SealedFrames::open(&self.folder, piece, self.place, &self.events_of)? {
                    self.part = Part::Sealed(Box::new(sealed));
                    return Ok(true);
                }
            } else if let Some(raw) = RawSegment::open(&self.folder, self.place)? {
                self.part = Part::Raw(raw);
                return Ok(true);
            }
            // Segments are replaced while they are read: then the manifest says by what.
            let manifest = Manifest::load(&self.folder)?;
            if manifest.piece_at(self.place) == self.manifest.piece_at(self.place) {
                return Err(self.missing());
            }
            self.manifest = manifest;
        }
    }

    /// What is not there at the place.
    fn missing(&self) -> LogError {
        let gone = |path: &PathBuf| !path.exists();
        let files = self.manifest.piece_at(self.place).into_iter().flat_map(|piece| piece.files());
        let path = files.map(|file| self.folder.join(&file.path)).find(gone);
        damaged(&path.unwrap_or_else(|| segment_path(&self.folder, self.place.segment)), "it is missing")
    }
}
