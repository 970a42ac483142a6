//! All events of one source, some buckets of entities at a time: what training reads.
//!
//! Sealed files come first, one after the other, each sorted by bucket, entity key, event time and log order; of them only the
//! row groups are read that may hold one of the buckets. What is not sealed yet follows in the order of the log. Every event
//! comes with the place of its frame, so that a caller can restore the order of the log for each entity.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, RecordBatch};
use tidemill_features::expression::Column;
use tidemill_features::stream::{EventBatch, encode_key};
use tidemill_features::value::Value;

use super::sealed::{
    ARRIVAL_TIME, BUCKET, EventsFile, Manifest, OFFSET, PARTITION, POSITION, SEGMENT, SealedPiece, bucket_of, damaged,
    open_checked,
};
use super::shelf::{Lease, shelf_of};
use super::{LogError, LogPlace, LogReader, ReadFrame, SourceSchema};
use crate::columnar::{ParquetTable, TableRequest, column, picked};
use crate::limits::SCAN_ROWS;

/// What a scan gives.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// name of the source
    pub source: String,
    /// its columns as they are declared now; those that were not there, or of another type, are null
    pub schema: SourceSchema,
    /// places of the columns that make the entity key; events whose key has a null are in bucket 0
    pub key: Vec<usize>,
    /// by partition: the offset behind the last event that is asked for
    pub until: HashMap<u32, u64>,
    /// hash of the encoded entity key, by number of shards
    pub buckets: RangeInclusive<u8>,
    /// places of the columns that are asked for; the others have their place, but no values. None: all
    pub columns: Option<Vec<usize>>,
}

/// Some events of one partition.
#[derive(Debug)]
pub struct Scanned {
    /// the events
    pub batch: EventBatch,
    /// by event: where its frame begins
    pub places: Vec<LogPlace>,
}

/// A scan under way.
pub struct EventScan {
    folder: PathBuf,
    request: ScanRequest,
    pieces: VecDeque<SealedPiece>,
    files: VecDeque<(EventsFile, SourceSchema)>,
    file: Option<FileScan>,
    /// where the log goes on behind the pieces
    sealed_end: LogPlace,
    tail: Option<LogReader>,
    /// partitions of which everything has been seen that is asked for
    complete: HashSet<u32>,
    ready: VecDeque<Scanned>,
    /// row groups that were read
    groups_read: usize,
    /// keeps the files of the manifest where they are
    _lease: Lease,
}

/// A sealed file that is being read.
struct FileScan {
    path: PathBuf,
    stored: SourceSchema,
    names: Vec<String>,
    table: ParquetTable,
    /// whether its buckets are those of the key that is asked for
    bucketed: bool,
}

impl EventScan {
    /// Starts a scan of the log in a folder.
    pub fn open(folder: &Path, request: ScanRequest) -> Result<EventScan, LogError> {
        let lease = shelf_of(folder).lease();
        let manifest = Manifest::load(folder)?;
        let sealed_end = LogPlace { segment: manifest.end_segment(), offset: 0 };
        let wanted = |partition: &u32, from: u64| request.until.get(partition).is_some_and(|until| from < *until);
        let of_source = |piece: &SealedPiece| {
            let mut positions = piece.positions.iter().filter(|range| range.source == request.source);
            positions.any(|range| wanted(&range.partition, range.from))
        };
        let mut complete: HashSet<u32> =
            request.until.keys().filter(|partition| !wanted(partition, 0)).copied().collect();
        for range in manifest.pieces.iter().flat_map(|piece| &piece.positions) {
            if range.source == request.source && !wanted(&range.partition, range.to) {
                complete.insert(range.partition);
            }
        }
        let pieces = manifest.pieces.iter().filter(|piece| of_source(piece)).cloned().collect();
        Ok(EventScan {
            folder: folder.to_path_buf(),
            request,
            pieces,
            files: VecDeque::new(),
            file: None,
            sealed_end,
            tail: None,
            complete,
            ready: VecDeque::new(),
            groups_read: 0,
            _lease: lease,
        })
    }

    /// How many row groups of sealed files have been opened.
    pub fn groups_read(&self) -> usize {
        self.groups_read
    }

    /// The next events; None at the end.
    pub fn next_events(&mut self) -> Result<Option<Scanned>, LogError> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(Some(ready));
            }
            if let Some(mut file) = self.file.take() {
                let broken = |what: String| damaged(&file.path, what);
                if let Some(rows) = file.table.next_batch().map_err(broken)? {
                    self.ready.extend(file.events(&self.request, &rows).map_err(broken)?);
                    self.file = Some(file);
                }
            } else if let Some((events, schema)) = self.files.pop_front() {
                self.file = Some(self.open_file(&events, schema)?);
            } else if let Some(piece) = self.pieces.pop_front() {
                self.enter(&piece)?;
            } else if !self.read_tail()? {
                return Ok(None);
            }
        }
    }

    /// Lists the files of a piece that hold events of the source.
    fn enter(&mut self, piece: &SealedPiece) -> Result<(), LogError> {
        for events in &piece.events {
            let stored = piece.schemas.get(events.schema).filter(|schema| schema.source == self.request.source);
            let Some(stored) = stored else { continue };
            let path = self.folder.join(&events.file.path);
            let schema = stored.schema();
            let schema = schema.ok_or_else(|| damaged(&path, "the manifest has a type for it that there is not"))?;
            self.files.push_back((events.clone(), schema));
        }
        Ok(())
    }

    fn open_file(&mut self, events: &EventsFile, stored: SourceSchema) -> Result<FileScan, LogError> {
        let path = self.folder.join(&events.file.path);
        let file = open_checked(&self.folder, &events.file)?.ok_or_else(|| damaged(&path, "it is missing"))?;
        let bucketed = self.request.has_key(&events.key, &stored);
        let mut names: Vec<&str> = vec![BUCKET, PARTITION, OFFSET, SEGMENT, POSITION, ARRIVAL_TIME];
        names.extend(stored.fields.get(stored.event_time).map(|(name, _)| name.as_str()));
        for (at, field) in self.request.schema.fields.iter().enumerate() {
            let needed = self.request.wants(at) || (!bucketed && self.request.key.contains(&at));
            if needed && stored.fields.contains(field) {
                names.push(&field.0);
            }
        }
        let (least, most) = (i64::from(*self.request.buckets.start()), i64::from(*self.request.buckets.end()));
        let groups = bucketed.then_some((BUCKET, least..=most));
        let asked = TableRequest { columns: Some(&names), groups, batch_rows: SCAN_ROWS };
        let table = ParquetTable::open(file, &asked).map_err(|what| damaged(&path, what))?;
        self.groups_read += table.groups;
        let names = table.names();
        Ok(FileScan { path, stored, names, table, bucketed })
    }

    /// Reads on in what is not sealed. False: the scan is at its end.
    fn read_tail(&mut self) -> Result<bool, LogError> {
        // What stands behind the last position may not even be durable.
        if self.request.until.keys().all(|partition| self.complete.contains(partition)) {
            return Ok(false);
        }
        let tail = match &mut self.tail {
            Some(tail) => tail,
            None => {
                let tail = LogReader::open(&self.folder, self.sealed_end)?;
                // What was sealed and cut since this scan began would be missed.
                if tail.place() > self.sealed_end {
                    return Err(LogError::CutMeanwhile);
                }
                self.tail.insert(tail)
            }
        };
        let Some(ReadFrame { place, frame, .. }) = tail.next_frame()? else { return Ok(false) };
        if frame.source != self.request.source {
            return Ok(true);
        }
        let until = self.request.until.get(&frame.partition).copied().unwrap_or(0);
        if frame.first_offset + frame.consumed >= until {
            self.complete.insert(frame.partition);
        }
        for batch in frame.batches {
            let (request, rows) = (&self.request, batch.len());
            let columns: Vec<Column> =
                request.schema.fields.iter().map(|field| fitted(&frame.schema, field, &batch.columns, rows)).collect();
            let kept =
                |row: &usize| batch.offsets[*row] < until && request.buckets.contains(&request.bucket(&columns, *row));
            let kept: Vec<usize> = (0..rows).filter(kept).collect();
            if kept.is_empty() {
                continue;
            }
            let of_place = |(at, column): (usize, Column)| request.asked(at, kept.len() == rows, column, &kept);
            let batch = EventBatch {
                columns: columns.into_iter().enumerate().map(of_place).collect(),
                times: kept.iter().map(|row| batch.times[*row]).collect(),
                arrivals: kept.iter().map(|row| batch.arrivals[*row]).collect(),
                partition: batch.partition,
                offsets: kept.iter().map(|row| batch.offsets[*row]).collect(),
            };
            self.ready.push_back(Scanned { places: vec![place; batch.len()], batch });
        }
        Ok(true)
    }
}

impl ScanRequest {
    fn wants(&self, column: usize) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.contains(&column))
    }

    /// Whether a file was sorted by the key that is asked for.
    fn has_key(&self, names: &[String], stored: &SourceSchema) -> bool {
        let own = self.key.iter().map(|at| &self.schema.fields[*at]);
        own.clone().map(|(name, _)| name).eq(names) && own.clone().all(|field| stored.fields.contains(field))
    }

    fn bucket(&self, columns: &[Column], row: usize) -> u8 {
        let key = encode_key(self.key.iter().map(|at| columns[*at].value(row)));
        bucket_of(&key.unwrap_or_default())
    }

    /// A column with the rows that are kept, if it is asked for.
    fn asked(&self, at: usize, all: bool, column: Column, kept: &[usize]) -> Column {
        if !self.wants(at) {
            return Column::Values(Vec::new());
        }
        if all {
            return column;
        }
        let mut builder = crate::columnar::ColumnsBuilder::new([&self.schema.fields[at].1.data_type]);
        kept.iter().for_each(|row| builder.push(0, &column.value(*row)));
        builder.finish().pop().unwrap_or_else(|| Column::Values(Vec::new()))
    }
}

/// A field's column out of those that were stored; nulls where it was not there.
fn fitted(
    stored: &SourceSchema,
    field: &(String, tidemill_features::definitions::FieldType),
    columns: &[Column],
    rows: usize,
) -> Column {
    let at = stored.fields.iter().position(|own| own == field);
    at.and_then(|at| columns.get(at)).cloned().unwrap_or_else(|| nulls(rows))
}

fn nulls(rows: usize) -> Column {
    Column::Values(vec![Value::Null; rows])
}

impl FileScan {
    fn array<'r>(&self, name: &str, rows: &'r RecordBatch) -> Result<&'r ArrayRef, String> {
        let at = self.names.iter().position(|own| own == name);
        at.map(|at| rows.column(at)).ok_or_else(|| format!("it has no column `{name}`"))
    }

    fn numbers<'r>(&self, name: &str, rows: &'r RecordBatch) -> Result<&'r [i64], String> {
        let array = self.array(name, rows)?.as_primitive_opt::<Int64Type>();
        array.map(|array| array.values().as_ref()).ok_or_else(|| format!("`{name}` is not a number"))
    }

    fn times<'r>(&self, name: &str, rows: &'r RecordBatch) -> Result<&'r [i64], String> {
        let array = self.array(name, rows)?.as_primitive_opt::<TimestampMicrosecondType>();
        array.map(|array| array.values().as_ref()).ok_or_else(|| format!("`{name}` is not a time"))
    }

    /// The events of a batch of rows that are asked for, by partition, in the order of the rows.
    fn events(&self, request: &ScanRequest, rows: &RecordBatch) -> Result<Vec<Scanned>, String> {
        let (partitions, offsets) = (self.numbers(PARTITION, rows)?, self.numbers(OFFSET, rows)?);
        let (segments, positions) = (self.numbers(SEGMENT, rows)?, self.numbers(POSITION, rows)?);
        let arrivals = self.times(ARRIVAL_TIME, rows)?;
        let times = self.stored.fields.get(self.stored.event_time).ok_or("it has no event time")?;
        let times = self.times(&times.0, rows)?;
        let buckets = self.buckets(request, rows)?;
        let mut kept: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let partition = partitions[row] as u32;
            let until = request.until.get(&partition).copied().unwrap_or(0);
            if (offsets[row] as u64) < until && request.buckets.contains(&buckets[row]) {
                kept.entry(partition).or_default().push(row as u32);
            }
        }
        let mut scanned = Vec::with_capacity(kept.len());
        for (partition, kept) in kept {
            let mut columns = Vec::with_capacity(request.schema.fields.len());
            for (at, field) in request.schema.fields.iter().enumerate() {
                columns.push(match request.wants(at) {
                    false => Column::Values(Vec::new()),
                    true if !self.stored.fields.contains(field) => nulls(kept.len()),
                    true => self.values(&field.0, rows, &kept)?,
                });
            }
            let of = |values: &[i64]| kept.iter().map(|row| values[*row as usize]).collect::<Vec<i64>>();
            let batch = EventBatch {
                columns,
                times: of(times),
                arrivals: of(arrivals),
                partition,
                offsets: of(offsets).into_iter().map(|offset| offset as u64).collect(),
            };
            let place = |row: &u32| LogPlace {
                segment: segments[*row as usize] as u64,
                offset: positions[*row as usize] as u64,
            };
            scanned.push(Scanned { batch, places: kept.iter().map(place).collect() });
        }
        Ok(scanned)
    }

    fn values(&self, name: &str, rows: &RecordBatch, kept: &[u32]) -> Result<Column, String> {
        let array = self.array(name, rows)?;
        let unknown = || format!("`{name}` has a type that there is not");
        if kept.len() == rows.num_rows() {
            return column(array).ok_or_else(unknown);
        }
        column(&picked(array, kept)?).ok_or_else(unknown)
    }

    /// By row: its bucket under the key that is asked for.
    fn buckets(&self, request: &ScanRequest, rows: &RecordBatch) -> Result<Vec<u8>, String> {
        if self.bucketed {
            return Ok(self.numbers(BUCKET, rows)?.iter().map(|bucket| *bucket as u8).collect());
        }
        let mut keys = Vec::with_capacity(request.key.len());
        for at in &request.key {
            let field = &request.schema.fields[*at];
            let known = self.stored.fields.contains(field);
            let all: Vec<u32> = (0..rows.num_rows() as u32).collect();
            keys.push(if known { self.values(&field.0, rows, &all)? } else { nulls(rows.num_rows()) });
        }
        let key = |row: usize| encode_key(keys.iter().map(|column| column.value(row))).unwrap_or_default();
        Ok((0..rows.num_rows()).map(|row| bucket_of(&key(row))).collect())
    }
}
