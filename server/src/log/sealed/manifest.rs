//! The manifest: which files are the sealed part of the log. The only commit point: a file that it does not name does not
//! count, and a segment is removed only after it names the files that replace it.
//!
//! One line of JSON with what was cut, if anything was; one for each piece of the log, from the front on without a gap; then one
//! line with the format, the number of pieces and the checksum of all lines before. It is written anew each time, under a
//! temporary name.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_features::definitions::parse_type;

use super::archive;
use super::disk::{NewFile, damaged, io_error};
use crate::log::{Cut, LogError, LogPlace, SourceSchema};

/// Name of the file in the folder of the log.
pub(super) const MANIFEST: &str = "manifest.ndjson";
/// Version of the format. The first one had no cut, and pieces without `log_bytes` and `accepted`.
const FORMAT: u32 = 2;

/// The sealed part of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::log) struct Manifest {
    /// what is gone; the pieces begin where it ends
    pub cut: Cut,
    /// ascending, each beginning where the one before ends
    pub pieces: Vec<SealedPiece>,
}

/// Adjacent frames of the log as files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::log) struct SealedPiece {
    /// its first frame
    from: (u64, u64),
    /// where the next piece begins; behind the last frame of a segment that is the front of the next
    to: (u64, u64),
    /// which columns the sources had
    pub schemas: Vec<StoredSchema>,
    /// what the frames said of themselves
    pub frames: SealedFile,
    /// bad events, if there were any
    pub dead: Option<SealedFile>,
    /// good events
    pub events: Vec<EventsFile>,
    /// which offsets the frames hold
    pub positions: Vec<PositionRange>,
    /// bytes that the frames have in a segment; 0: not known
    #[serde(default)]
    pub log_bytes: u64,
    /// the server's clock when the first and the last frame were taken in
    #[serde(default)]
    pub accepted: Option<(i64, i64)>,
}

/// A file of the sealed log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::log) struct SealedFile {
    /// below the folder of the log
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    /// CRC-32 of the whole file
    pub checksum: u32,
}

/// Events of one source with one set of columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::log) struct EventsFile {
    /// place in the schemas of the piece
    pub schema: usize,
    /// the columns whose values, encoded as an entity key, give an event its bucket; none: all are in bucket 0
    pub key: Vec<String>,
    /// the earliest and the latest event time
    pub times: (i64, i64),
    pub file: SealedFile,
}

/// A source's columns when frames were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::log) struct StoredSchema {
    pub source: String,
    /// names and types
    fields: Vec<(String, String)>,
    event_time: usize,
}

/// Offsets of a partition that a piece holds, good events and bad ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::log) struct PositionRange {
    pub source: String,
    pub partition: u32,
    /// the first one
    pub from: u64,
    /// the one behind the last
    pub to: u64,
}

/// The first line, where something was cut.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Front {
    cut: Cut,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    format: u32,
    pieces: usize,
    checksum: u32,
}

impl SealedPiece {
    pub fn new(from: LogPlace, to: LogPlace, frames: SealedFile) -> Self {
        let (from, to) = ((from.segment, from.offset), (to.segment, to.offset));
        SealedPiece {
            from,
            to,
            frames,
            schemas: Vec::new(),
            dead: None,
            events: Vec::new(),
            positions: Vec::new(),
            log_bytes: 0,
            accepted: None,
        }
    }

    /// Its first frame.
    pub fn from(&self) -> LogPlace {
        LogPlace { segment: self.from.0, offset: self.from.1 }
    }

    /// Where the next piece begins.
    pub fn to(&self) -> LogPlace {
        LogPlace { segment: self.to.0, offset: self.to.1 }
    }

    pub fn set_to(&mut self, to: LogPlace) {
        self.to = (to.segment, to.offset);
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &SealedFile> {
        let events = self.events.iter().map(|events| &events.file);
        [&self.frames].into_iter().chain(&self.dead).chain(events)
    }
}

impl StoredSchema {
    pub fn new(source: &str, schema: &SourceSchema) -> Self {
        let field = |(name, field): &(String, tidemill_features::definitions::FieldType)| {
            (name.clone(), field.data_type.to_string())
        };
        let fields = schema.fields.iter().map(field).collect();
        StoredSchema { source: source.to_string(), fields, event_time: schema.event_time }
    }

    /// None: it has a type that there is not.
    pub fn schema(&self) -> Option<SourceSchema> {
        let field = |(name, data_type): &(String, String)| Some((name.clone(), parse_type(data_type)?));
        let fields = self.fields.iter().map(field).collect::<Option<Vec<_>>>()?;
        Some(SourceSchema { fields, event_time: self.event_time })
    }
}

impl Manifest {
    /// Reads the manifest of a log; without one, nothing is sealed.
    pub fn load(folder: &Path) -> Result<Manifest, LogError> {
        let path = folder.join(MANIFEST);
        match std::fs::read(&path) {
            Ok(bytes) => Manifest::parse(&path, &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Manifest::default()),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, LogError> {
        let broken = || damaged(path, "its checksum does not fit");
        let text = std::str::from_utf8(bytes).map_err(|_| broken())?;
        let body = text.strip_suffix('\n').ok_or_else(broken)?;
        let start = body.rfind('\n').map_or(0, |at| at + 1);
        let end: End = serde_json::from_str(&body[start..]).map_err(|_| broken())?;
        if !(1..=FORMAT).contains(&end.format) {
            return Err(damaged(path, format!("this version reads formats 1 to {FORMAT}, not {}", end.format)));
        }
        if crc32fast::hash(&bytes[..start]) != end.checksum {
            return Err(broken());
        }
        let unreadable = |error: serde_json::Error| damaged(path, error.to_string());
        let mut lines = text[..start].lines().peekable();
        let cut = match lines.next_if(|line| line.starts_with("{\"cut\":")) {
            Some(line) => serde_json::from_str::<Front>(line).map_err(unreadable)?.cut,
            None => Cut::default(),
        };
        let pieces: Result<Vec<SealedPiece>, _> = lines.map(serde_json::from_str).collect();
        let pieces = pieces.map_err(unreadable)?;
        let gap = pieces.windows(2).find(|pair| pair[0].to != pair[1].from);
        if let Some([before, _]) = gap {
            return Err(damaged(
                path,
                format!("what follows byte {} of segment {} is missing", before.to.1, before.to.0),
            ));
        }
        if pieces.len() != end.pieces || pieces.iter().any(|piece| piece.from >= piece.to) {
            return Err(broken());
        }
        if pieces.last().is_some_and(|piece| piece.to.1 != 0) {
            return Err(damaged(path, "its last segment is not whole"));
        }
        if cut.is_any() && pieces.first().map_or(cut.to().offset != 0, |piece| piece.from() != cut.to()) {
            return Err(damaged(path, "it does not begin where the log was cut"));
        }
        Ok(Manifest { cut, pieces })
    }

    /// Makes this the manifest, here and then in the archive. When it returns, it is; when it fails, the old one still is or
    /// this one is.
    pub fn store(&self, folder: &Path) -> Result<(), LogError> {
        self.store_here(folder)?;
        archive::settle(folder, self, &mut || true).map(drop)
    }

    /// Makes this the manifest on this machine.
    pub(super) fn store_here(&self, folder: &Path) -> Result<(), LogError> {
        let path: PathBuf = folder.join(MANIFEST);
        let mut file = NewFile::create(folder, MANIFEST.to_string())?;
        file.write_all(&self.lines()?).map_err(io_error(&path))?;
        file.finish(self.pieces.len() as u64)?;
        Ok(())
    }

    /// The bytes of the file.
    pub(super) fn lines(&self) -> Result<Vec<u8>, LogError> {
        let path = Path::new(MANIFEST);
        let mut lines = Vec::new();
        if self.cut.is_any() {
            let front = Front { cut: self.cut.clone() };
            serde_json::to_writer(&mut lines, &front).map_err(|e| io_error(path)(e.into()))?;
            lines.push(b'\n');
        }
        for piece in &self.pieces {
            serde_json::to_writer(&mut lines, piece).map_err(|e| io_error(path)(e.into()))?;
            lines.push(b'\n');
        }
        let end = End { format: FORMAT, pieces: self.pieces.len(), checksum: crc32fast::hash(&lines) };
        serde_json::to_writer(&mut lines, &end).map_err(|e| io_error(path)(e.into()))?;
        lines.push(b'\n');
        Ok(lines)
    }

    /// Where the log begins.
    pub fn front(&self) -> LogPlace {
        self.pieces.first().map_or(self.cut.to(), SealedPiece::from)
    }

    /// The number of the first segment that is not sealed.
    pub fn end_segment(&self) -> u64 {
        self.pieces.last().map_or(self.cut.to(), SealedPiece::to).segment
    }

    /// The piece that a place is in.
    pub fn piece_at(&self, place: LogPlace) -> Option<&SealedPiece> {
        let at = self.pieces.partition_point(|piece| piece.to() <= place);
        self.pieces.get(at).filter(|piece| piece.from() <= place)
    }
}
