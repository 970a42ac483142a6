//! What the log consists of, for people and for retention: numbers only, from the manifest and the lengths of segments.

use std::path::Path;

use super::raw::{segment_path, segments};
use super::sealed::{Manifest, SealedPiece};
use super::{Cut, LogError};
use crate::place::LogPlace;

/// The log in numbers.
#[derive(Clone, Debug, Default)]
pub struct LogSummary {
    /// segments that are not sealed
    pub segments: u64,
    /// their bytes
    pub segment_bytes: u64,
    /// sealed pieces, from the front of the log on
    pub pieces: Vec<PieceSummary>,
    /// what is gone
    pub cut: Cut,
}

/// A sealed piece in numbers.
#[derive(Clone, Debug)]
pub struct PieceSummary {
    /// where the next one begins
    pub to: LogPlace,
    /// how many files it has
    pub files: u64,
    /// their bytes
    pub bytes: u64,
    /// the server's clock when its last frame was taken in; None: it was sealed by an older version that did not note it
    pub accepted_to: Option<i64>,
    /// good events by source
    pub sources: Vec<SourceSummary>,
}

/// Events of one source with the same columns in a piece.
#[derive(Clone, Debug)]
pub struct SourceSummary {
    /// name of the source
    pub source: String,
    /// how many there are
    pub events: u64,
    /// least and greatest event time
    pub times: (i64, i64),
}

/// Sums the log in a folder up.
pub fn summary(folder: &Path) -> Result<LogSummary, LogError> {
    let numbers = segments(folder)?;
    let manifest = Manifest::load(folder)?;
    let mut summary = LogSummary { cut: manifest.cut.clone(), ..LogSummary::default() };
    for number in numbers.into_iter().filter(|number| *number >= manifest.end_segment()) {
        summary.segments += 1;
        summary.segment_bytes += std::fs::metadata(segment_path(folder, number)).map_or(0, |metadata| metadata.len());
    }
    summary.pieces = manifest.pieces.iter().map(of_piece).collect();
    Ok(summary)
}

fn of_piece(piece: &SealedPiece) -> PieceSummary {
    let of_source = |events: &super::sealed::EventsFile| {
        let source = piece.schemas.get(events.schema).map(|schema| schema.source.clone()).unwrap_or_default();
        SourceSummary { source, events: events.file.rows, times: events.times }
    };
    PieceSummary {
        to: piece.to(),
        files: piece.files().count() as u64,
        bytes: piece.files().map(|file| file.bytes).sum(),
        accepted_to: piece.accepted.map(|(_, last)| last),
        sources: piece.events.iter().map(of_source).collect(),
    }
}

impl LogSummary {
    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.segment_bytes + self.pieces.iter().map(|piece| piece.bytes).sum::<u64>()
    }

    /// Good events in sealed pieces.
    pub fn sealed_events(&self) -> u64 {
        self.pieces.iter().flat_map(|piece| &piece.sources).map(|of| of.events).sum()
    }

    /// The least event time in sealed pieces.
    pub fn oldest_event(&self) -> Option<i64> {
        self.pieces.iter().flat_map(|piece| &piece.sources).map(|of| of.times.0).min()
    }
}
