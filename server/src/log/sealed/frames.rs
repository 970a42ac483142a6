//! Frames of a sealed piece, put together again in the order of the log.
//!
//! The events of a piece are sorted by entity, so those of a frame lie anywhere in it. A piece that was compacted is read in
//! slices of the log, each as large as what was sealed at once: each slice looks through all of the piece's files, and keeps its
//! own events. So memory has a bound that does not depend on how large pieces are.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, TimestampMicrosecondArray};
use bytes::Bytes;
use tidemill_features::expression::Column;
use tidemill_features::stream::EventBatch;

use super::disk::{damaged, read_whole};
use super::frame_rows::{DeadRow, FrameRow, read_dead, read_frames};
use super::manifest::{EventsFile, SealedPiece};
use super::{ARRIVAL_TIME, OFFSET, POSITION, SEGMENT};
use crate::columnar::{ParquetTable, TableRequest, column, interleaved, picked};
use crate::limits::{BATCH_ROWS, SEAL_PIECE_BYTES, SEALED_GROUP_ROWS};
use crate::log::{Frame, LogError, LogPlace, ReadFrame, SourceSchema};

/// Which events are asked for. Frames and bad events come in any case.
#[derive(Clone, Debug)]
pub(in crate::log) enum Wanted {
    /// all of them
    All,
    /// none
    Nothing,
    /// those of some sources, by name
    Sources(Vec<String>),
}

impl Wanted {
    fn is_of(&self, source: &str) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Nothing => false,
            Wanted::Sources(names) => names.iter().any(|name| name == source),
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
    /// files of which events are still to come, with all of their bytes
    files: Vec<(EventsFile, std::path::PathBuf, Bytes)>,
    /// by schema; None: the slice has no events of it
    events: Vec<Option<Events>>,
    /// where the next slice begins
    loaded_to: LogPlace,
    /// bytes of the log that a slice has
    slice_bytes: u64,
    /// where the next piece begins
    to: LogPlace,
}

/// Events of one file.
struct Events {
    /// by column: what was read of it, array by array
    columns: Vec<Vec<ArrayRef>>,
    /// by array
    arrivals: Vec<TimestampMicrosecondArray>,
    /// in the order of the log
    rows: Vec<EventRow>,
    /// how many of them have been given out
    next: usize,
}

/// An event: first what it is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EventRow {
    /// of its frame
    place: LogPlace,
    offset: u64,
    array: u32,
    row: u32,
}

impl SealedFrames {
    /// Reads a piece. None: one of its files is not there, maybe because another piece has replaced it.
    pub(in crate::log) fn open(
        folder: &Path,
        piece: &SealedPiece,
        from: LogPlace,
        wanted: &Wanted,
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
            files: Vec::new(),
            loaded_to: from,
            slice_bytes: SEAL_PIECE_BYTES,
            to: piece.to(),
        };
        sealed.go_to(from)?;
        let others = sealed.frames.iter_mut().filter(|frame| !wanted.is_of(&frame.source));
        others.for_each(|frame| frame.events = 0);
        for file in &piece.events {
            // A file without an event that is still to come need not even be whole.
            if sealed.frames.iter().any(|frame| frame.schema == file.schema as u64 && frame.events > 0) {
                let Some(bytes) = read_whole(folder, &file.file)? else { return Ok(None) };
                sealed.files.push((file.clone(), folder.join(&file.file.path), bytes));
            }
        }
        Ok(Some(sealed))
    }

    /// Has fewer events in memory at once.
    #[cfg(test)]
    pub(in crate::log) fn with_slices_of(self, slice_bytes: u64) -> Self {
        SealedFrames { slice_bytes, ..self }
    }

    /// Reads the events of the next frames.
    fn load(&mut self) -> Result<(), LogError> {
        let from = self.frames.front().map_or(self.to, |frame| frame.place);
        let (mut bytes, mut until) = (0, self.to);
        for frame in &self.frames {
            if bytes >= self.slice_bytes {
                until = frame.place;
                break;
            }
            bytes += frame.end.saturating_sub(frame.place.offset);
        }
        self.loaded_to = until;
        for (file, path, bytes) in &self.files {
            self.events[file.schema] = None;
            let fields = self.schemas.get(file.schema).map_or(0, |schema| schema.fields.len());
            let of_slice = self.frames.iter().take_while(|frame| frame.place < until);
            let count =
                of_slice.filter(|frame| frame.schema == file.schema as u64).map(|frame| frame.events).sum::<u64>();
            let events = Events::read(bytes.clone(), fields, (from..until, count as usize));
            let events = events.map_err(|what| damaged(path, what))?;
            self.events[file.schema] = Some(events);
        }
        if until == self.to {
            self.files.clear();
        }
        Ok(())
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
        if self.frames.front().is_some_and(|frame| frame.events > 0 && frame.place >= self.loaded_to) {
            self.load()?;
        }
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
    /// The events of a file whose frames are in a range of the log, and how many they are. The first `fields` columns are the
    /// source's.
    fn read(bytes: Bytes, fields: usize, (range, count): (Range<LogPlace>, usize)) -> Result<Events, String> {
        let request = TableRequest { columns: None, within: None, batch_rows: SEALED_GROUP_ROWS };
        let mut table = ParquetTable::in_memory(bytes, &request)?;
        let names = table.names();
        let at = |name: &str| names.iter().position(|own| own == name).ok_or(format!("it has no `{name}`"));
        let [segment, position, offset] = [at(SEGMENT)?, at(POSITION)?, at(OFFSET)?];
        let arrival = at(ARRIVAL_TIME)?;
        let mut events = Events {
            columns: vec![Vec::new(); fields],
            arrivals: Vec::new(),
            rows: Vec::with_capacity(count),
            next: 0,
        };
        while let Some(batch) = table.next_batch()? {
            let integers = |at: usize| {
                let array = batch.column(at).as_primitive_opt::<Int64Type>();
                array.map(|array| array.values()).ok_or(format!("`{}` is no number", names[at]))
            };
            let (segments, positions, offsets) = (integers(segment)?, integers(position)?, integers(offset)?);
            let place = |row: usize| LogPlace { segment: segments[row] as u64, offset: positions[row] as u64 };
            let rows: Vec<u32> =
                (0..batch.num_rows()).filter(|row| range.contains(&place(*row))).map(|row| row as u32).collect();
            let own = |array: &ArrayRef| match rows.len() == batch.num_rows() {
                true => Ok(array.clone()),
                false => picked(array, &rows),
            };
            for (at, arrays) in events.columns.iter_mut().enumerate() {
                arrays.push(own(batch.columns().get(at).ok_or("it has too few columns")?)?);
            }
            let array = events.arrivals.len() as u32;
            let known = own(batch.column(arrival))?;
            let known = known.as_primitive_opt::<TimestampMicrosecondType>().ok_or("its arrivals are no times")?;
            events.arrivals.push(known.clone());
            let row = |(at, row): (usize, &u32)| EventRow {
                place: place(*row as usize),
                offset: offsets[*row as usize] as u64,
                array,
                row: at as u32,
            };
            events.rows.extend(rows.iter().enumerate().map(row));
        }
        events.rows.sort_unstable();
        Ok(events)
    }

    /// The next events of the frame at a place.
    fn next_batch(&mut self, count: usize, place: LogPlace, event_time: usize) -> Result<EventBatch, String> {
        let rows = self.rows.get(self.next..self.next + count).ok_or("a frame misses its events")?;
        if rows.iter().any(|row| row.place != place) {
            return Err("events do not fit their frame".to_string());
        }
        self.next += count;
        let arrival = |row: &EventRow| self.arrivals[row.array as usize].value(row.row as usize);
        let mut batch = EventBatch {
            offsets: rows.iter().map(|row| row.offset).collect(),
            arrivals: rows.iter().map(arrival).collect(),
            ..EventBatch::default()
        };
        let places: Vec<_> = rows.iter().map(|row| (row.array as usize, row.row as usize)).collect();
        for arrays in &self.columns {
            batch.columns.push(column(&interleaved(arrays, &places)?).ok_or("a column has a type that there is not")?);
        }
        let times = match batch.columns.get(event_time) {
            Some(Column::Timestamp(times)) if times.null_count() == 0 => times.values().to_vec(),
            _ => return Err("its event times are no times".to_string()),
        };
        batch.times = times;
        Ok(batch)
    }
}
