//! Events of one source with one set of columns on their way into a file: sorted by bucket, entity key, event time and the
//! order of the log, in row groups that end with a bucket where they can.

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_schema::Field;
use hashbrown::HashMap;
use tidemill_features::definitions::FieldType;
use tidemill_features::expression::Column;
use tidemill_features::stream::{EventBatch, encode_key};

use super::disk::{NewFile, io_error};
use super::frame_rows::{moment, moments, number, numbers};
use super::manifest::EventsFile;
use super::{ARRIVAL_TIME, BUCKET, OFFSET, PARTITION, POSITION, SEGMENT};
use crate::columnar::{ColumnsBuilder, TableWriter, arrow_type, column_array, joined, picked};
use crate::limits::SEALED_GROUP_ROWS;
use crate::log::{Frame, LogError, LogPlace, SourceSchema};
use crate::place::shard_of;

/// Events in the order of the log.
pub(super) struct Group {
    source: String,
    schema: SourceSchema,
    /// places of the key columns
    key: Vec<usize>,
    builder: ColumnsBuilder,
    /// rows in the builder
    building: usize,
    /// by column: its finished parts
    parts: Vec<Vec<ArrayRef>>,
    /// by frame: its place and its partition
    frames: Vec<(LogPlace, u32)>,
    rows: Vec<EventRow>,
    /// by encoded key: its number; 0 is that of events without a key
    keys: HashMap<Box<[u8]>, u32>,
}

/// What an event has besides its columns.
struct EventRow {
    frame: u32,
    key: u32,
    offset: u64,
    arrival: i64,
    time: i64,
}

/// Rows of a batch whose columns are taken as they are; those of smaller ones are put together.
const WHOLE_ROWS: usize = 512;

/// The bucket of an encoded entity key; that of events without one is 0.
pub(in crate::log) fn bucket_of(key: &[u8]) -> u8 {
    if key.is_empty() { 0 } else { shard_of(key) as u8 }
}

impl Group {
    pub(super) fn new(frame: &Frame, key_columns: Option<&Vec<String>>) -> Self {
        let fields = &frame.schema.fields;
        let place = |name: &String| fields.iter().position(|(own, _)| own == name);
        let key = key_columns.and_then(|names| names.iter().map(place).collect::<Option<Vec<_>>>());
        Group {
            source: frame.source.clone(),
            schema: frame.schema.clone(),
            key: key.unwrap_or_default(),
            builder: ColumnsBuilder::new(fields.iter().map(|(_, field)| &field.data_type)),
            building: 0,
            parts: vec![Vec::new(); fields.len()],
            frames: Vec::new(),
            rows: Vec::new(),
            keys: HashMap::from_iter([(Box::default(), 0)]),
        }
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn schema(&self) -> &SourceSchema {
        &self.schema
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn is_of(&self, frame: &Frame) -> bool {
        self.source == frame.source && self.schema == frame.schema
    }

    /// Takes in the events of a frame and tells how many there were.
    pub(super) fn push(&mut self, place: LogPlace, frame: &Frame) -> Result<u64, String> {
        let before = self.rows.len();
        let number = u32::try_from(self.frames.len()).map_err(|_| "it has too many frames".to_string())?;
        self.frames.push((place, frame.partition));
        for batch in &frame.batches {
            for row in 0..batch.len() {
                let offset = batch.offsets[row];
                if self.rows[before..].last().is_some_and(|last| last.offset >= offset) {
                    return Err(format!("offsets of `{}` do not ascend in a frame", self.source));
                }
                let key = self.key_of(&batch.columns, row)?;
                let (arrival, time) = (batch.arrivals[row], batch.times[row]);
                self.rows.push(EventRow { frame: number, key, offset, arrival, time });
            }
            match batch.len() < WHOLE_ROWS {
                true => self.put_together(batch)?,
                false => {
                    self.finish_part()?;
                    self.add_part(&batch.columns)?;
                }
            }
        }
        Ok((self.rows.len() - before) as u64)
    }

    fn put_together(&mut self, batch: &EventBatch) -> Result<(), String> {
        for row in 0..batch.len() {
            for (at, column) in batch.columns.iter().enumerate() {
                self.builder.push(at, &column.value(row));
            }
        }
        self.building += batch.len();
        // As arrays, lists take a fraction of what they do as values.
        if self.building >= SEALED_GROUP_ROWS { self.finish_part() } else { Ok(()) }
    }

    fn key_of(&mut self, columns: &[Column], row: usize) -> Result<u32, String> {
        if self.key.is_empty() {
            return Ok(0);
        }
        let key = encode_key(self.key.iter().map(|at| columns[*at].value(row))).unwrap_or_default();
        if let Some(known) = self.keys.get(key.as_slice()) {
            return Ok(*known);
        }
        let number = u32::try_from(self.keys.len()).map_err(|_| "it has too many keys".to_string())?;
        self.keys.insert(key.into(), number);
        Ok(number)
    }

    fn finish_part(&mut self) -> Result<(), String> {
        if self.building == 0 {
            return Ok(());
        }
        self.building = 0;
        let columns = self.builder.finish();
        self.add_part(&columns)
    }

    fn add_part(&mut self, columns: &[Column]) -> Result<(), String> {
        for (at, (_, field)) in self.schema.fields.iter().enumerate() {
            let array = column_array(&field.data_type, &columns[at]).map_err(|e| e.to_string())?;
            self.parts[at].push(array);
        }
        Ok(())
    }

    /// The order in which rows are written, and the bucket of each key.
    fn sorted(&mut self) -> (Vec<u32>, Vec<u8>) {
        let keys = std::mem::take(&mut self.keys);
        let mut keys: Vec<(u8, Box<[u8]>, u32)> =
            keys.into_iter().map(|(key, number)| (bucket_of(&key), key, number)).collect();
        keys.sort_unstable();
        let (mut ranks, mut buckets) = (vec![0u32; keys.len()], vec![0; keys.len()]);
        for (rank, (bucket, _, number)) in keys.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
            buckets[*number as usize] = *bucket;
        }
        // Rows were taken in by frame and offset: their own number is that order.
        let sortable = |(at, row): (usize, &EventRow)| (ranks[row.key as usize], row.time, at as u32);
        let mut order: Vec<(u32, i64, u32)> = self.rows.iter().enumerate().map(sortable).collect();
        order.sort_unstable();
        (order.into_iter().map(|(_, _, at)| at).collect(), buckets)
    }

    /// Writes the file. None: it was to stop. The caller knows the number of the schema.
    pub(super) fn write(
        mut self,
        folder: &Path,
        name: String,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<EventsFile>, LogError> {
        let path = folder.join(&name);
        let failed = |what: String| io_error(&path)(std::io::Error::other(what));
        self.finish_part().map_err(failed)?;
        let mut columns = Vec::with_capacity(self.parts.len());
        for part in std::mem::take(&mut self.parts) {
            columns.push(joined(&part).map_err(failed)?);
        }
        let (order, buckets) = self.sorted();
        let sorted_by = self.schema.fields.len();
        let mut writer = TableWriter::new(NewFile::create(folder, name)?, file_fields(&self.schema), Some(sorted_by))
            .map_err(failed)?;
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            if !go_on() {
                return Ok(None);
            }
            let length = group_length(rest, |at| buckets[self.rows[*at as usize].key as usize]);
            let (group, behind) = rest.split_at(length);
            let arrays = self.arrays(&columns, group, &buckets).map_err(failed)?;
            writer.write_group(arrays).map_err(failed)?;
            rest = behind;
        }
        let file = writer.finish().map_err(failed)?.finish(order.len() as u64)?;
        let key = self.key.iter().map(|at| self.schema.fields[*at].0.clone()).collect();
        let times = || self.rows.iter().map(|row| row.time);
        let times = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        Ok(Some(EventsFile { schema: 0, key, times, file }))
    }

    /// The columns of a row group.
    fn arrays(&self, columns: &[ArrayRef], group: &[u32], buckets: &[u8]) -> Result<Vec<ArrayRef>, String> {
        let mut arrays = Vec::with_capacity(columns.len() + 6);
        for column in columns {
            arrays.push(picked(column, group)?);
        }
        let rows = || group.iter().map(|at| &self.rows[*at as usize]);
        arrays.push(numbers(rows().map(|row| u64::from(buckets[row.key as usize]))));
        let frame = |row: &EventRow| self.frames[row.frame as usize];
        arrays.push(numbers(rows().map(|row| u64::from(frame(row).1))));
        arrays.push(numbers(rows().map(|row| row.offset)));
        arrays.push(numbers(rows().map(|row| frame(row).0.segment)));
        arrays.push(numbers(rows().map(|row| frame(row).0.offset)));
        arrays.push(moments(rows().map(|row| row.arrival)));
        Ok(arrays)
    }
}

/// The columns of a file: those of the source, then ours.
pub(super) fn file_fields(schema: &SourceSchema) -> Vec<Field> {
    let field = |(name, field): &(String, FieldType)| Field::new(name, arrow_type(&field.data_type), true);
    let mut fields: Vec<Field> = schema.fields.iter().map(field).collect();
    fields.extend([BUCKET, PARTITION, OFFSET, SEGMENT, POSITION].map(number));
    fields.push(moment(ARRIVAL_TIME));
    fields
}

/// How many rows the next row group has: it ends with the last bucket that it has all of, where that leaves half a group at
/// least; smaller ones cost more than they save.
pub(super) fn group_length<T>(rest: &[T], bucket: impl Fn(&T) -> u8) -> usize {
    if rest.len() <= SEALED_GROUP_ROWS {
        return rest.len();
    }
    let cut = bucket(&rest[SEALED_GROUP_ROWS]);
    let whole = rest[..SEALED_GROUP_ROWS].partition_point(|at| bucket(at) < cut);
    if whole >= SEALED_GROUP_ROWS / 2 { whole } else { SEALED_GROUP_ROWS }
}
