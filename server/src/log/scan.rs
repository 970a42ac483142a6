//! The sealed events of one source, some buckets of entities at a time: what training reads.
//!
//! Sealed files come one after the other, each sorted by bucket, entity key, event time and log order; of them only the pages
//! are read that may hold one of the buckets. Every event comes with the place of its frame, so that a caller can restore the
//! order of the log for each entity. What is not sealed yet is read frame by frame: `SealedLog` says where that begins, and
//! stands for one moment of the log, whatever is sealed while it is read.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
use super::{LogError, LogPlace, SourceSchema};
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

/// The sealed part of the log at one moment.
pub struct SealedLog {
    folder: PathBuf,
    manifest: Manifest,
    /// keeps the files of the manifest where they are
    lease: Arc<Lease>,
}

impl SealedLog {
    /// Of the log in a folder, as it is now.
    pub fn open(folder: &Path) -> Result<SealedLog, LogError> {
        let lease = Arc::new(shelf_of(folder).lease());
        Ok(SealedLog { folder: folder.to_path_buf(), manifest: Manifest::load(folder)?, lease })
    }

    /// Where the log goes on behind it.
    pub fn end(&self) -> LogPlace {
        LogPlace { segment: self.manifest.end_segment(), offset: 0 }
    }

    /// How many events of a source there are in files that are sorted by these columns; None: some of its files are not.
    pub fn sorted_by(&self, source: &str, key: &[&str]) -> Option<u64> {
        let files = self.manifest.pieces.iter().flat_map(|piece| piece.events.iter().map(move |file| (piece, file)));
        let mut of_source =
            files.filter(|(piece, file)| piece.schemas.get(file.schema).is_some_and(|s| s.source == source));
        of_source.try_fold(0, |events, (_, file)| (file.key == *key).then_some(events + file.file.rows))
    }

    /// Reads events of one source.
    pub fn scan(&self, request: ScanRequest) -> EventScan {
        let wanted = |partition: &u32, from: u64| request.until.get(partition).is_some_and(|until| from < *until);
        let of_source = |piece: &&SealedPiece| {
            let mut positions = piece.positions.iter().filter(|range| range.source == request.source);
            positions.any(|range| wanted(&range.partition, range.from))
        };
        let pieces = self.manifest.pieces.iter().filter(of_source).cloned().collect();
        let (files, ready) = (VecDeque::new(), VecDeque::new());
        let (folder, lease) = (self.folder.clone(), self.lease.clone());
        EventScan { folder, request, pieces, files, file: None, ready, rows_read: 0, _lease: lease }
    }
}

/// A scan under way.
pub struct EventScan {
    folder: PathBuf,
    request: ScanRequest,
    pieces: VecDeque<SealedPiece>,
    files: VecDeque<(EventsFile, SourceSchema)>,
    file: Option<FileScan>,
    ready: VecDeque<Scanned>,
    /// rows of the pages that were read
    rows_read: usize,
    /// keeps the files of the manifest where they are
    _lease: Arc<Lease>,
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
    /// Rows of the pages that have been read, whether asked for or not.
    pub fn rows_read(&self) -> usize {
        self.rows_read
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
                    self.rows_read += rows.num_rows();
                    self.ready.extend(file.events(&self.request, &rows).map_err(broken)?);
                    self.file = Some(file);
                }
            } else if let Some((events, schema)) = self.files.pop_front() {
                self.file = Some(self.open_file(&events, schema)?);
            } else if let Some(piece) = self.pieces.pop_front() {
                self.enter(&piece)?;
            } else {
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
            let hashed = !bucketed && !self.request.is_whole() && self.request.key.contains(&at);
            let needed = self.request.wants(at) || hashed;
            if needed && stored.fields.contains(field) {
                names.push(&field.0);
            }
        }
        let (least, most) = (i64::from(*self.request.buckets.start()), i64::from(*self.request.buckets.end()));
        let within = (bucketed && !self.request.is_whole()).then_some((BUCKET, least..=most));
        let asked = TableRequest { columns: Some(&names), within, batch_rows: SCAN_ROWS };
        let table = ParquetTable::open(file, &asked).map_err(|what| damaged(&path, what))?;
        let names = table.names();
        Ok(FileScan { path, stored, names, table, bucketed })
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

    /// Whether all buckets are asked for.
    fn is_whole(&self) -> bool {
        self.buckets == (0..=u8::MAX)
    }
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
        if request.is_whole() {
            return Ok(vec![0; rows.num_rows()]);
        }
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
