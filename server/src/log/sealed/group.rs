//! Events of one source with one set of columns on their way into a file: sorted by bucket, entity key, event time and the
//! order of the log, in row groups that end with a bucket where they can.
//!
//! Until they are sorted, events stay the bytes that they are in the log, bucket by bucket: what one bucket has is near to the
//! processor while it is sorted, and a row is decoded when it is written.

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_schema::Field;
use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::definitions::FieldType;
use tidemill_features::hash::hash_bytes;
use tidemill_features::value::Value;

use super::bucket::{Bucket, Row, bucket_of_hash};
use super::disk::{NewFile, io_error};
use super::frame_rows::{moment, moments, number, numbers};
use super::manifest::EventsFile;
use super::{ARRIVAL_TIME, BUCKET, OFFSET, PARTITION, POSITION, SEGMENT};
use crate::columnar::{ColumnsBuilder, TableWriter, arrow_type, column_array};
use crate::limits::{SEALED_GROUP_ROWS, SHARDS};
use crate::log::{Frame, LogError, LogPlace, SourceSchema};

/// Events in the order of the log.
pub(super) struct Group {
    source: String,
    schema: SourceSchema,
    /// places of the key columns
    key: Vec<usize>,
    /// by frame: its place and its partition
    frames: Vec<(LogPlace, u32)>,
    buckets: Vec<Bucket>,
    /// event times of the first and of the last event
    times: Option<(i64, i64)>,
}

/// A row on its way into the file.
struct Placed {
    bucket: u8,
    row: u32,
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
            frames: Vec::new(),
            buckets: (0..SHARDS).map(|_| Bucket::default()).collect(),
            times: None,
        }
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn schema(&self) -> &SourceSchema {
        &self.schema
    }

    pub(super) fn is_empty(&self) -> bool {
        self.times.is_none()
    }

    pub(super) fn is_of(&self, frame: &Frame) -> bool {
        self.source == frame.source && self.schema == frame.schema
    }

    /// Takes in the events of a frame whose front was decoded: so many, from a byte of the payload on. Tells how many there were.
    pub(super) fn push(
        &mut self,
        place: LogPlace,
        frame: &Frame,
        (count, rows_at): (usize, usize),
        payload: Vec<u8>,
    ) -> Result<u64, String> {
        let number = u32::try_from(self.frames.len()).map_err(|_| "it has too many frames".to_string())?;
        self.frames.push((place, frame.partition));
        let ascend = self.read_rows(number, frame, count, &payload[rows_at..]).map_err(|_| broken(place))?;
        if !ascend {
            return Err(format!("offsets of `{}` do not ascend in a frame", self.source));
        }
        Ok(count as u64)
    }

    /// Puts the rows of a frame into their buckets. False: their offsets do not ascend.
    fn read_rows(&mut self, number: u32, frame: &Frame, count: usize, rows: &[u8]) -> Result<bool, Damaged> {
        let mut cursor = Cursor::new(rows);
        let (mut key, mut last) = (Vec::new(), None);
        // The bytes of each column; those of a null are none.
        let mut columns: Vec<Option<&[u8]>> = Vec::with_capacity(self.schema.fields.len());
        for _ in 0..count {
            let (offset, arrival) = frame.read_place(&mut cursor)?;
            if last.replace(offset).is_some_and(|last| last >= offset) {
                return Ok(false);
            }
            let whole = cursor.rest();
            columns.clear();
            for (_, field) in &self.schema.fields {
                let is_there = cursor.byte()? != 0;
                let start = cursor.rest();
                if is_there {
                    cursor.pass(&field.data_type)?;
                }
                columns.push(is_there.then(|| &start[..start.len() - cursor.rest().len()]));
            }
            let time = columns.get(self.schema.event_time).copied().flatten().ok_or(Damaged)?;
            let (_, time_field) = &self.schema.fields[self.schema.event_time];
            let Value::Timestamp(time) = Cursor::new(time).value(&time_field.data_type)? else { return Err(Damaged) };
            let (first, newest) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), newest.max(time)));
            // A key is its columns as they are stored; an event without one of them has none.
            key.clear();
            if self.key.iter().all(|at| columns[*at].is_some()) {
                self.key.iter().filter_map(|at| columns[*at]).for_each(|column| key.extend_from_slice(column));
            }
            let hash = hash_bytes(&key);
            let bucket = &mut self.buckets[usize::from(bucket_of_hash(&key, hash))];
            let columns = &whole[..whole.len() - cursor.rest().len()];
            bucket.push(Row { hash, time, offset, arrival, frame: number, ..Row::default() }, &key, columns)?;
        }
        Ok(true)
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
        let mut order = Vec::with_capacity(self.buckets.iter().map(Bucket::len).sum());
        for (number, bucket) in self.buckets.iter_mut().enumerate() {
            bucket.sort();
            order.extend((0..bucket.len()).map(|row| Placed { bucket: number as u8, row: row as u32 }));
        }
        let sorted_by = self.schema.fields.len();
        let mut writer = TableWriter::new(NewFile::create(folder, name)?, file_fields(&self.schema), Some(sorted_by))
            .map_err(failed)?;
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            if !go_on() {
                return Ok(None);
            }
            let length = group_length(rest, |at| at.bucket);
            let (group, behind) = rest.split_at(length);
            let arrays = self.arrays(group).map_err(failed)?;
            writer.write_group(arrays).map_err(failed)?;
            rest = behind;
        }
        let file = writer.finish().map_err(failed)?.finish(order.len() as u64)?;
        let key = self.key.iter().map(|at| self.schema.fields[*at].0.clone()).collect();
        let times = self.times.unwrap_or_default();
        Ok(Some(EventsFile { schema: 0, key, times, file }))
    }

    /// The columns of a row group.
    fn arrays(&self, group: &[Placed]) -> Result<Vec<ArrayRef>, String> {
        let fields = &self.schema.fields;
        let mut builder = ColumnsBuilder::new(fields.iter().map(|(_, field)| &field.data_type));
        let mut rows = Vec::with_capacity(group.len());
        for at in group {
            let (row, columns) = self.buckets[usize::from(at.bucket)].row(at.row as usize);
            let mut cursor = Cursor::new(columns);
            for (column, (_, field)) in fields.iter().enumerate() {
                let (place, _) = self.frames[row.frame as usize];
                builder.push(column, &cursor.optional(&field.data_type).map_err(|_| broken(place))?);
            }
            rows.push(row);
        }
        let mut arrays = Vec::with_capacity(fields.len() + 6);
        for ((_, field), column) in fields.iter().zip(builder.finish()) {
            arrays.push(column_array(&field.data_type, &column).map_err(|e| e.to_string())?);
        }
        let frames = || rows.iter().map(|row| self.frames[row.frame as usize]);
        arrays.push(numbers(group.iter().map(|at| u64::from(at.bucket))));
        arrays.push(numbers(frames().map(|(_, partition)| u64::from(partition))));
        arrays.push(numbers(rows.iter().map(|row| row.offset)));
        arrays.push(numbers(frames().map(|(place, _)| place.segment)));
        arrays.push(numbers(frames().map(|(place, _)| place.offset)));
        arrays.push(moments(rows.iter().map(|row| row.arrival)));
        Ok(arrays)
    }
}

/// What is wrong with a frame that is not what it claims to be.
pub(super) fn broken(place: LogPlace) -> String {
    format!("the frame at byte {} cannot be decoded", place.offset)
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
