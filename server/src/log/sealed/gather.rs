//! Frames on their way into a piece: what they said of themselves, their bad events, and their events by source and columns.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::frame_rows::{DeadRow, FrameRow, write_dead, write_frames};
use super::group::{Group, broken};
use super::manifest::{PositionRange, SealedPiece, StoredSchema};
use crate::log::{Frame, LogError, LogPlace};

/// By source: the columns that make the entity key of its first view.
pub type KeyColumns = HashMap<String, Vec<String>>;

/// Frames that become a piece.
pub(super) struct Gathered<'k> {
    key_columns: &'k KeyColumns,
    from: LogPlace,
    frames: Vec<FrameRow>,
    dead: Vec<DeadRow>,
    groups: Vec<Group>,
    positions: BTreeMap<(String, u32), (u64, u64)>,
}

impl<'k> Gathered<'k> {
    pub(super) fn new(key_columns: &'k KeyColumns, from: LogPlace) -> Self {
        Gathered {
            key_columns,
            from,
            frames: Vec::new(),
            dead: Vec::new(),
            groups: Vec::new(),
            positions: BTreeMap::new(),
        }
    }

    /// Where the piece begins.
    pub(super) fn from(&self) -> LogPlace {
        self.from
    }

    /// Takes in the next frame of the log: what it says of itself, and all of its bytes.
    pub(super) fn push(&mut self, place: LogPlace, end: u64, payload: Vec<u8>) -> Result<(), String> {
        let (frame, count, rows) = Frame::decode_front(&payload).map_err(|_| broken(place))?;
        let rows_at = payload.len() - rows.rest().len();
        let group = self.group_of(&frame)?;
        let events = self.groups[group].push(place, &frame, (count, rows_at), payload)?;
        let behind = frame.first_offset + frame.consumed;
        let range = self.positions.entry((frame.source.clone(), frame.partition));
        let range = range.or_insert((frame.first_offset, behind));
        *range = (range.0.min(frame.first_offset), range.1.max(behind));
        self.frames.push(FrameRow {
            place,
            end,
            partition: frame.partition,
            first_offset: frame.first_offset,
            consumed: frame.consumed,
            accepted_at: frame.accepted_at,
            events,
            dead: frame.dead.len() as u64,
            schema: group as u64,
            source: frame.source.clone(),
        });
        let (source, partition, accepted_at) = (frame.source, frame.partition, frame.accepted_at);
        let row = |event| DeadRow { place, source: source.clone(), partition, accepted_at, event };
        self.dead.extend(frame.dead.into_iter().map(row));
        Ok(())
    }

    fn group_of(&mut self, frame: &Frame) -> Result<usize, String> {
        let known = self.groups.iter().position(|group| group.is_of(frame));
        if let Some(known) = known {
            return Ok(known);
        }
        // A name of another kind cannot come out of a definition, and would be a path.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if frame.source.is_empty() || !frame.source.chars().all(plain) {
            return Err(format!("`{}` is not the name of a source", frame.source));
        }
        self.groups.push(Group::new(frame, self.key_columns.get(&frame.source)));
        Ok(self.groups.len() - 1)
    }

    /// Writes all files. None: it was to stop. The caller tells where the next piece begins.
    pub(super) fn write(self, folder: &Path, go_on: &mut dyn FnMut() -> bool) -> Result<Option<SealedPiece>, LogError> {
        let stem = format!("{:020}-{:012}", self.from.segment, self.from.offset);
        let frames = write_frames(folder, format!("frames/{stem}.parquet"), &self.frames)?;
        let mut piece = SealedPiece::new(self.from, self.from, frames);
        piece.log_bytes = self.frames.iter().map(|frame| frame.end - frame.place.offset).sum();
        let accepted = || self.frames.iter().map(|frame| frame.accepted_at);
        piece.accepted = accepted().min().zip(accepted().max());
        if !self.dead.is_empty() {
            piece.dead = Some(write_dead(folder, format!("dead/{stem}.parquet"), &self.dead)?);
        }
        let range = |((source, partition), (from, to))| PositionRange { source, partition, from, to };
        piece.positions = self.positions.into_iter().map(range).collect();
        for (at, group) in self.groups.into_iter().enumerate() {
            if !go_on() {
                return Ok(None);
            }
            piece.schemas.push(StoredSchema::new(group.source(), group.schema()));
            if group.is_empty() {
                continue;
            }
            let name = format!("events/{}/{stem}-{at:02}.parquet", group.source());
            let Some(mut events) = group.write(folder, name, go_on)? else { return Ok(None) };
            events.schema = at;
            piece.events.push(events);
        }
        Ok(Some(piece))
    }
}
