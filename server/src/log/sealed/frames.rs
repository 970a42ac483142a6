//! Frames of a sealed piece, put together again in the order of the log.

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use tidemill_features::expression::Column;
use tidemill_features::stream::EventBatch;

use super::disk::{damaged, read_whole};
use super::frame_rows::{DeadRow, FrameRow, read_dead, read_frames};
use super::manifest::{EventsFile, SealedPiece};
use super::{ARRIVAL_TIME, OFFSET, POSITION, SEGMENT};
use crate::columnar::{ParquetTable, TableRequest, column, picked};
use crate::limits::{BATCH_ROWS, SEALED_GROUP_ROWS};
use crate::log::{Frame, LogError, LogPlace, ReadFrame, SourceSchema};

/// Whose events a walk over the log gives; frames of other sources come without theirs.
#[derive(Clone, Debug)]
pub(in crate::log) enum EventsOf {
    All,
    None,
    Sources(Vec<String>),
}

impl EventsOf {
    fn includes(&self, source: &str) -> bool {
        match self {
            EventsOf::All => true,
            EventsOf::None => false,
            EventsOf::Sources(sources) => sources.iter().any(|own| own == source),
        }
    }
}

/// A piece that is being read, from a place on.
pub(in crate::log) struct SealedFrames {
    /// the file of the frames, for what is wrong with them
    path: std::path::PathBuf,
    frames: VecDeque<FrameRow>,
    dead: VecDeque<DeadRow>,
    schemas: Vec<SourceSchema>,
    /// by schema; None: it has no events, or they are not asked for
    events: Vec<Option<Events>>,
    /// where the next piece begins
    to: LogPlace,
}

/// Events of one file.
struct Events {
    columns: Vec<ArrayRef>,
    offsets: Vec<u64>,
    arrivals: Vec<i64>,
    places: Vec<LogPlace>,
    /// rows of the file in the order of the log
    order: Vec<u32>,
    /// how many of them have been given out
    next: usize,
}

impl SealedFrames {
    /// Reads a piece. None: one of its files is not there, maybe because another piece has replaced it.
    pub(in crate::log) fn open(
        folder: &Path,
        piece: &SealedPiece,
        from: LogPlace,
        events_of: &EventsOf,
    ) -> Result<Option<SealedFrames>, LogError> {
        let path = folder.join(&piece.frames.path);
        let Some(frames) = read_frames(folder, &piece.frames)? else { return Ok(None) };
        let dead = match &piece.dead {
            Some(file) => read_dead(folder, file)?,
            None => Some(Vec::new()),
        };
        let Some(dead) = dead else { return Ok(None) };
        let schemas: Option<Vec<_>> = piece.schemas.iter().map(|schema| schema.schema()).collect();
        let schemas = schemas.ok_or_else(|| damaged(&path, "the manifest has a type for it that there is not"))?;
        let mut sealed = SealedFrames {
            events: schemas.iter().map(|_| None).collect(),
            path,
            frames: frames.into(),
            dead: dead.into(),
            schemas,
            to: piece.to(),
        };
        sealed.go_to(from)?;
        let mut wanted = HashSet::new();
        for frame in &mut sealed.frames {
            match events_of.includes(&frame.source) {
                true => drop(wanted.insert(frame.schema as usize)),
                false => frame.events = 0,
            }
        }
        for file in piece.events.iter().filter(|file| wanted.contains(&file.schema)) {
            let Some(mut events) = Events::read(folder, file, &sealed.schemas)? else { return Ok(None) };
            events.next = events.order.partition_point(|row| events.places[*row as usize] < from);
            sealed.events[file.schema] = Some(events);
        }
        Ok(Some(sealed))
    }

    /// Where the next piece begins.
    pub(in crate::log) fn to(&self) -> LogPlace {
        self.to
    }

    /// Leaves out frames before a place, where one has to begin or end.
    fn go_to(&mut self, from: LogPlace) -> Result<(), LogError> {
        let mut behind = 0;
        while let Some(frame) = self.frames.front().filter(|frame| frame.place < from) {
            behind = if frame.place.segment == from.segment { frame.end } else { 0 };
            self.frames.pop_front();
        }
        let starts = self.frames.front().is_some_and(|frame| frame.place == from);
        if !starts && behind != from.offset {
            let what = format!("no frame begins at byte {} of segment {}", from.offset, from.segment);
            return Err(damaged(&self.path, what));
        }
        while self.dead.front().is_some_and(|dead| dead.place < from) {
            self.dead.pop_front();
        }
        Ok(())
    }

    /// The next frame; None at the end of the piece.
    pub(in crate::log) fn next_frame(&mut self) -> Result<Option<ReadFrame>, LogError> {
        let Some(row) = self.frames.pop_front() else { return Ok(None) };
        let broken = |what: &str| damaged(&self.path, what);
        let schema = self.schemas.get(row.schema as usize).ok_or_else(|| broken("a frame has no columns"))?;
        let mut frame = Frame {
            source: row.source,
            partition: row.partition,
            first_offset: row.first_offset,
            consumed: row.consumed,
            accepted_at: row.accepted_at,
            schema: schema.clone(),
            batches: Vec::new(),
            dead: Vec::with_capacity(row.dead as usize),
        };
        let mut left = row.events as usize;
        while left > 0 {
            let events = self.events.get_mut(row.schema as usize).and_then(Option::as_mut);
            let events = events.ok_or_else(|| damaged(&self.path, "a frame misses its events"))?;
            let batch = events.next_batch(left.min(BATCH_ROWS), row.place, schema.event_time);
            let mut batch = batch.map_err(|what| damaged(&self.path, what))?;
            batch.partition = row.partition;
            left -= batch.len();
            frame.batches.push(batch);
        }
        for _ in 0..row.dead {
            let dead = self.dead.pop_front().filter(|dead| dead.place == row.place);
            frame.dead.push(dead.ok_or_else(|| damaged(&self.path, "a frame misses its bad events"))?.event);
        }
        let end = LogPlace { segment: row.place.segment, offset: row.end };
        Ok(Some(ReadFrame { place: row.place, end, frame }))
    }
}

impl Events {
    fn read(folder: &Path, file: &EventsFile, schemas: &[SourceSchema]) -> Result<Option<Events>, LogError> {
        let path = folder.join(&file.file.path);
        let Some(bytes) = read_whole(folder, &file.file)? else { return Ok(None) };
        let fields = schemas.get(file.schema).map_or(0, |schema| schema.fields.len());
        let request = TableRequest { columns: None, groups: None, batch_rows: SEALED_GROUP_ROWS };
        let read = || {
            let table = ParquetTable::in_memory(bytes, &request)?;
            let names = table.names();
            let mut columns = table.rest()?;
            let at = |name: &str| names.iter().position(|own| own == name).ok_or(format!("it has no `{name}`"));
            let integers = |name: &str| -> Result<Vec<u64>, String> {
                let array =
                    columns[at(name)?].as_primitive_opt::<Int64Type>().ok_or(format!("`{name}` is no number"))?;
                Ok(array.values().iter().map(|value| *value as u64).collect())
            };
            let (segments, positions, offsets) = (integers(SEGMENT)?, integers(POSITION)?, integers(OFFSET)?);
            let arrivals = columns[at(ARRIVAL_TIME)?].as_primitive_opt::<TimestampMicrosecondType>();
            let arrivals = arrivals.ok_or("its arrivals are no times")?.values().to_vec();
            let place = |(segment, offset): (u64, u64)| LogPlace { segment, offset };
            let places: Vec<LogPlace> = segments.into_iter().zip(positions).map(place).collect();
            let mut order: Vec<u32> = (0..offsets.len() as u32).collect();
            order.sort_unstable_by_key(|row| (places[*row as usize], offsets[*row as usize]));
            columns.truncate(fields);
            Ok(Events { columns, offsets, arrivals, places, order, next: 0 })
        };
        read().map(Some).map_err(|what: String| damaged(&path, what))
    }

    /// The next events of the frame at a place.
    fn next_batch(&mut self, count: usize, place: LogPlace, event_time: usize) -> Result<EventBatch, String> {
        let rows = self.order.get(self.next..self.next + count).ok_or("a frame misses its events")?;
        if rows.iter().any(|row| self.places[*row as usize] != place) {
            return Err("events do not fit their frame".to_string());
        }
        self.next += count;
        let mut batch = EventBatch {
            offsets: rows.iter().map(|row| self.offsets[*row as usize]).collect(),
            arrivals: rows.iter().map(|row| self.arrivals[*row as usize]).collect(),
            ..EventBatch::default()
        };
        for array in &self.columns {
            batch.columns.push(column(&picked(array, rows)?).ok_or("a column has a type that there is not")?);
        }
        let times = match batch.columns.get(event_time) {
            Some(Column::Timestamp(times)) if times.null_count() == 0 => times.values().to_vec(),
            _ => return Err("its event times are no times".to_string()),
        };
        batch.times = times;
        Ok(batch)
    }
}
