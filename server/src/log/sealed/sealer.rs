//! Turns closed segments into pieces, one at a time.
//!
//! A segment is removed only after its frames have been read back from the new files and encoded to the very bytes that it
//! has, and after the manifest names these files, in the archive too if there is one. Whatever ends the process in between
//! leaves one of both forms whole; the next start removes the other.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::archive;
use super::disk::{TEMPORARY, damaged, io_error, remove_sealed};
use super::frames::{SealedFrames, Wanted};
use super::gather::{Gathered, KeyColumns};
use super::manifest::{Manifest, SealedPiece};
use crate::limits::{COMPACTED_BYTES, SEAL_PIECE_BYTES};
use crate::log::frame::HEADER;
use crate::log::raw::{Payload, RawSegment, segment_path, segments};
use crate::log::writer::sync_folder;
use crate::log::{LogError, LogPlace};

/// Folders of sealed files below that of the log.
pub(super) const FOLDERS: [&str; 3] = ["events", "frames", "dead"];
/// Frames between two looks at whether to go on.
pub(super) const FRAMES_AT_ONCE: usize = 64;

/// Seals the segments of a log, makes larger pieces of small ones, and cuts its front off.
pub struct Sealer {
    pub(super) folder: PathBuf,
    key_columns: KeyColumns,
    piece_bytes: u64,
    /// bytes of the log that a piece has at most after compaction
    pub(super) compacted_bytes: u64,
    /// pieces (by their first frame) that could not be compacted, because something is damaged
    pub(super) left_alone: HashSet<LogPlace>,
}

impl Sealer {
    /// For the log in a folder. The key columns decide how events are sorted.
    pub fn new(folder: PathBuf, key_columns: KeyColumns) -> Self {
        Sealer {
            folder,
            key_columns,
            piece_bytes: SEAL_PIECE_BYTES,
            compacted_bytes: COMPACTED_BYTES,
            left_alone: HashSet::new(),
        }
    }

    /// Sorts fewer bytes of the log at once.
    pub fn with_piece_bytes(self, piece_bytes: u64) -> Self {
        Sealer { piece_bytes, ..self }
    }

    /// Makes no larger pieces than this: whole pieces go when the log is cut.
    pub fn with_compacted_bytes(self, compacted_bytes: u64) -> Self {
        Sealer { compacted_bytes: compacted_bytes.min(COMPACTED_BYTES), ..self }
    }

    /// Seals the first segment that is closed and not sealed yet. `go_on` is asked between steps; when it says no, all stays
    /// as it was. Gives the number of the segment if it was sealed; None: there is none, or it was to stop.
    pub fn seal_next(&self, go_on: &mut dyn FnMut() -> bool) -> Result<Option<u64>, LogError> {
        let mut manifest = Manifest::load(&self.folder)?;
        let segment = manifest.end_segment();
        if !archive::settle(&self.folder, &manifest, go_on)? {
            return Ok(None);
        }
        remove_before(&self.folder, segment)?;
        let numbers = segments(&self.folder)?;
        // The last segment is still being written.
        if numbers.last().is_none_or(|last| *last <= segment) {
            return Ok(None);
        }
        if !numbers.contains(&segment) {
            return Err(damaged(&segment_path(&self.folder, segment), "it is missing"));
        }
        let archive = archive::of(&self.folder);
        // Where it cannot be reached, nothing needs to be sorted.
        archive.as_ref().map_or(Ok(()), |archive| archive.check(&manifest))?;
        let Some(mut pieces) = self.write_pieces(segment, go_on)? else { return Ok(None) };
        let next = LogPlace { segment: segment + 1, offset: 0 };
        if let Some(last) = pieces.last_mut() {
            last.set_to(next);
        }
        if !self.comes_back(segment, &pieces, go_on)? {
            return Ok(None);
        }
        if let Some(archive) = &archive
            && !archive.put(pieces.iter().flat_map(SealedPiece::files), go_on)?
        {
            return Ok(None);
        }
        manifest.pieces.extend(pieces);
        manifest.store(&self.folder)?;
        if go_on() {
            remove_before(&self.folder, segment + 1)?;
        }
        Ok(Some(segment))
    }

    fn write_pieces(
        &self,
        segment: u64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<SealedPiece>>, LogError> {
        let mut pieces: Vec<SealedPiece> = Vec::new();
        let mut gathered = Gathered::new(&self.key_columns, LogPlace { segment, offset: 0 });
        let mut raw = Frames::open(&self.folder, segment)?;
        for count in 0.. {
            if count % FRAMES_AT_ONCE == 0 && !go_on() {
                return Ok(None);
            }
            let next = raw.next()?;
            let place = next.as_ref().map_or(raw.segment.place(), |(place, _)| *place);
            let full = place.offset - gathered.from().offset >= self.piece_bytes;
            if full || next.is_none() {
                let whole = std::mem::replace(&mut gathered, Gathered::new(&self.key_columns, place));
                let Some(mut piece) = whole.write(&self.folder, go_on)? else { return Ok(None) };
                piece.set_to(place);
                pieces.push(piece);
            }
            let Some((place, payload)) = next else { return Ok(Some(pieces)) };
            let taken = gathered.push(place, raw.segment.place().offset, payload);
            taken.map_err(|what| damaged(&segment_path(&self.folder, segment), what))?;
        }
        Ok(None)
    }

    /// Whether pieces give back the frames of a segment to the byte. False: it was to stop.
    fn comes_back(
        &self,
        segment: u64,
        pieces: &[SealedPiece],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, LogError> {
        let path = segment_path(&self.folder, segment);
        let differs = |place: LogPlace| {
            let what = format!(
                "its frame at byte {} does not come back from its sealed form; it stays as it is",
                place.offset
            );
            damaged(&path, what)
        };
        let mut raw = Frames::open(&self.folder, segment)?;
        let mut encoded = Vec::new();
        for piece in pieces {
            let sealed = SealedFrames::open(&self.folder, piece, piece.from(), &Wanted::All)?;
            let mut sealed = sealed.ok_or_else(|| differs(piece.from()))?;
            let mut count = 0;
            while let Some(read) = sealed.next_frame()? {
                count += 1;
                if count % FRAMES_AT_ONCE == 0 && !go_on() {
                    return Ok(false);
                }
                let (place, payload) = raw.next()?.ok_or_else(|| differs(read.place))?;
                encoded.clear();
                read.frame.encode(&mut encoded);
                let same = place == read.place && raw.segment.place() == read.end;
                if !same || encoded.get(HEADER..) != Some(payload.as_slice()) {
                    return Err(differs(place));
                }
            }
        }
        match raw.next()? {
            Some((place, _)) => Err(differs(place)),
            None => Ok(true),
        }
    }
}

/// Frames of a closed segment, none of which may be broken.
struct Frames {
    segment: RawSegment,
}

impl Frames {
    fn open(folder: &Path, segment: u64) -> Result<Frames, LogError> {
        let opened = RawSegment::open(folder, LogPlace { segment, offset: 0 })?;
        let segment = opened.ok_or_else(|| damaged(&segment_path(folder, segment), "it is missing"))?;
        Ok(Frames { segment })
    }

    fn next(&mut self) -> Result<Option<(LogPlace, Vec<u8>)>, LogError> {
        let place = self.segment.place();
        match self.segment.next_payload()? {
            Payload::Whole(payload) => Ok(Some((place, payload))),
            Payload::End => Ok(None),
            Payload::Broken { .. } => Err(self.segment.damaged(place.offset, "its checksum does not fit")),
        }
    }
}

/// Removes segments before one, which are all sealed.
fn remove_before(folder: &Path, end: u64) -> Result<(), LogError> {
    for segment in segments(folder)?.into_iter().filter(|segment| *segment < end) {
        let path = segment_path(folder, segment);
        std::fs::remove_file(&path).map_err(io_error(&path))?;
    }
    Ok(())
}

/// Removes what a crash has left: segments that are sealed, and files that the manifest does not name. Only for the process
/// that owns the log, before it seals.
pub fn remove_leftovers(folder: &Path) -> Result<(), LogError> {
    let manifest = Manifest::load(folder)?;
    // Segments that the archive does not have yet wait until it does.
    let behind = archive::of(folder).map_or(Ok(false), |archive| archive.is_behind(&manifest))?;
    if !behind {
        remove_before(folder, manifest.end_segment())?;
    }
    let named: HashSet<PathBuf> =
        manifest.pieces.iter().flat_map(SealedPiece::files).map(|file| folder.join(&file.path)).collect();
    let mut files = Vec::new();
    for kind in FOLDERS {
        files_below(&folder.join(kind), &mut files)?;
    }
    let temporary = folder.join(format!("{}.{TEMPORARY}", super::manifest::MANIFEST));
    files.extend(Some(temporary).filter(|path| path.exists()));
    for path in files.into_iter().filter(|path| !named.contains(path)) {
        // Anything else is not ours to remove.
        let ours = path.extension().is_some_and(|ending| ending == "parquet" || ending == TEMPORARY);
        if ours {
            let name = path.strip_prefix(folder).unwrap_or(&path);
            remove_sealed(folder, &name.display().to_string())?;
        }
    }
    if folder.is_dir() { sync_folder(folder).map_err(io_error(folder)) } else { Ok(()) }
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), LogError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(io_error(folder))?.path();
        if path.is_dir() { files_below(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
