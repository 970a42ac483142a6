//! Events of one source with one set of columns on their way into a file: sorted by bucket, entity key, event time and the
//! order of the log, in row groups that end with a bucket where they can.
//!
//! Until they are sorted, events stay the bytes that they are in the log: one look into memory finds all columns of an event, so
//! that they are decoded in the order in which they are written.

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_schema::Field;
use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::definitions::FieldType;
use tidemill_features::value::Value;

use super::disk::{NewFile, io_error};
use super::frame_rows::{moment, moments, number, numbers};
use super::manifest::EventsFile;
use super::order::{Keys, Placed};
use super::{ARRIVAL_TIME, BUCKET, OFFSET, PARTITION, POSITION, SEGMENT};
use crate::columnar::{ColumnsBuilder, TableWriter, arrow_type, column_array};
use crate::limits::SEALED_GROUP_ROWS;
use crate::log::{Frame, LogError, LogPlace, SourceSchema};

/// Events in the order of the log.
pub(super) struct Group {
    source: String,
    schema: SourceSchema,
    /// places of the key columns
    key: Vec<usize>,
    frames: Vec<RawFrame>,
    keys: Keys,
}

/// A frame as it stands in the log.
struct RawFrame {
    place: LogPlace,
    partition: u32,
    payload: Vec<u8>,
    rows: Vec<RawRow>,
}

/// What an event has besides its columns.
struct RawRow {
    /// where in the payload its columns begin; a payload is shorter than 4 GiB
    at: u32,
    offset: u64,
    arrival: i64,
    time: i64,
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
            keys: Keys::default(),
        }
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn schema(&self) -> &SourceSchema {
        &self.schema
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
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
        let rows = self.read_rows(number, frame, (count, rows_at), &payload).map_err(|_| broken(place))?;
        if rows.windows(2).any(|two| two[0].offset >= two[1].offset) {
            return Err(format!("offsets of `{}` do not ascend in a frame", self.source));
        }
        self.frames.push(RawFrame { place, partition: frame.partition, payload, rows });
        Ok(count as u64)
    }

    /// Finds the rows of a frame, and takes their keys.
    fn read_rows(
        &mut self,
        number: u32,
        frame: &Frame,
        (count, rows_at): (usize, usize),
        payload: &[u8],
    ) -> Result<Vec<RawRow>, Damaged> {
        let mut cursor = Cursor::new(&payload[rows_at..]);
        let mut rows = Vec::with_capacity(count);
        // The bytes of each column; those of a null are none.
        let mut columns: Vec<Option<&[u8]>> = Vec::with_capacity(self.schema.fields.len());
        for row in 0..count {
            let (offset, arrival) = frame.read_place(&mut cursor)?;
            let at = (payload.len() - cursor.rest().len()) as u32;
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
            rows.push(RawRow { at, offset, arrival, time });
            // A key is its columns as they are stored; an event without one of them has none.
            let whole = self.key.iter().all(|at| columns[*at].is_some());
            let key = self.key.iter().filter_map(|at| columns[*at]).filter(|_| whole);
            self.keys.push((number, row as u32), |bytes| key.for_each(|column| bytes.extend_from_slice(column)));
        }
        Ok(rows)
    }

    fn row(&self, at: &Placed) -> (&RawFrame, &RawRow) {
        let frame = &self.frames[at.frame as usize];
        (frame, &frame.rows[at.row as usize])
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
        let order = std::mem::take(&mut self.keys).sorted(|at| self.row(at).1.time);
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
        let times = || self.frames.iter().flat_map(|frame| &frame.rows).map(|row| row.time);
        let times = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        Ok(Some(EventsFile { schema: 0, key, times, file }))
    }

    /// The columns of a row group.
    fn arrays(&self, group: &[Placed]) -> Result<Vec<ArrayRef>, String> {
        let fields = &self.schema.fields;
        let mut builder = ColumnsBuilder::new(fields.iter().map(|(_, field)| &field.data_type));
        for at in group {
            let (frame, row) = self.row(at);
            let mut cursor = Cursor::new(&frame.payload[row.at as usize..]);
            for (column, (_, field)) in fields.iter().enumerate() {
                let value = cursor.optional(&field.data_type).map_err(|_| broken(frame.place))?;
                builder.push(column, &value);
            }
        }
        let mut arrays = Vec::with_capacity(fields.len() + 6);
        for ((_, field), column) in fields.iter().zip(builder.finish()) {
            arrays.push(column_array(&field.data_type, &column).map_err(|e| e.to_string())?);
        }
        let rows = || group.iter().map(|at| self.row(at));
        arrays.push(numbers(group.iter().map(|at| u64::from(at.bucket))));
        arrays.push(numbers(rows().map(|(frame, _)| u64::from(frame.partition))));
        arrays.push(numbers(rows().map(|(_, row)| row.offset)));
        arrays.push(numbers(rows().map(|(frame, _)| frame.place.segment)));
        arrays.push(numbers(rows().map(|(frame, _)| frame.place.offset)));
        arrays.push(moments(rows().map(|(_, row)| row.arrival)));
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
