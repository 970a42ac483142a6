//! The files that a sealed piece has besides its events: what each frame said of itself, and the bad events. Rows stand in
//! the order of the log.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType as ArrowType, Field, TimeUnit};

use super::disk::{NewFile, damaged, io_error, read_whole};
use super::manifest::SealedFile;
use crate::columnar::{ParquetTable, TableRequest, TableWriter};
use crate::limits::SEALED_GROUP_ROWS;
use crate::log::{DeadEvent, LogError, LogPlace};

/// What a frame said of itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FrameRow {
    pub place: LogPlace,
    /// in the same segment
    pub end: u64,
    pub source: String,
    pub partition: u32,
    pub first_offset: u64,
    pub consumed: u64,
    pub accepted_at: i64,
    /// good events
    pub events: u64,
    /// bad ones
    pub dead: u64,
    /// place in the schemas of the piece
    pub schema: u64,
}

/// A bad event and the frame that it came with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeadRow {
    pub place: LogPlace,
    pub source: String,
    pub partition: u32,
    pub accepted_at: i64,
    pub event: DeadEvent,
}

const FRAME_NUMBERS: [&str; 9] =
    ["_segment", "_position", "_end", "_partition", "_first_offset", "_consumed", "_events", "_dead", "_schema"];
const DEAD_NUMBERS: [&str; 4] = ["_segment", "_position", "_partition", "_offset"];

/// An integer column without nulls.
pub(super) fn number(name: &str) -> Field {
    Field::new(name, ArrowType::Int64, false)
}

/// A column of times without nulls.
pub(super) fn moment(name: &str) -> Field {
    Field::new(name, ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
}

/// Times as the array of such a column.
pub(super) fn moments(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

/// Numbers as the array of such a column. Offsets of a log stay below 2^63: no disk holds more bytes.
pub(super) fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|value| value as i64)))
}

/// Writes a file whose columns are made from rows, group by group. `columns` has to give those that `fields` names.
fn write_rows<T>(
    folder: &Path,
    name: String,
    fields: Vec<Field>,
    rows: &[T],
    columns: impl Fn(&[T]) -> Vec<ArrayRef>,
) -> Result<SealedFile, LogError> {
    let path = folder.join(&name);
    let failed = |what: String| io_error(&path)(std::io::Error::other(what));
    let mut writer = TableWriter::new(NewFile::create(folder, name.clone())?, fields, None).map_err(failed)?;
    for group in rows.chunks(SEALED_GROUP_ROWS) {
        writer.write_group(columns(group)).map_err(failed)?;
    }
    writer.finish().map_err(failed)?.finish(rows.len() as u64)
}

/// Writes the frames of a piece.
pub(super) fn write_frames(folder: &Path, name: String, rows: &[FrameRow]) -> Result<SealedFile, LogError> {
    let mut fields: Vec<Field> = FRAME_NUMBERS.iter().map(|name| number(name)).collect();
    fields.extend([moment("_accepted_at"), Field::new("_source", ArrowType::Utf8, false)]);
    let columns = |rows: &[FrameRow]| -> Vec<ArrayRef> {
        vec![
            numbers(rows.iter().map(|row| row.place.segment)),
            numbers(rows.iter().map(|row| row.place.offset)),
            numbers(rows.iter().map(|row| row.end)),
            numbers(rows.iter().map(|row| u64::from(row.partition))),
            numbers(rows.iter().map(|row| row.first_offset)),
            numbers(rows.iter().map(|row| row.consumed)),
            numbers(rows.iter().map(|row| row.events)),
            numbers(rows.iter().map(|row| row.dead)),
            numbers(rows.iter().map(|row| row.schema)),
            moments(rows.iter().map(|row| row.accepted_at)),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.source))),
        ]
    };
    write_rows(folder, name, fields, rows, columns)
}

/// Writes the bad events of a piece.
pub(super) fn write_dead(folder: &Path, name: String, rows: &[DeadRow]) -> Result<SealedFile, LogError> {
    let mut fields: Vec<Field> = DEAD_NUMBERS.iter().map(|name| number(name)).collect();
    fields.push(moment("_accepted_at"));
    fields.extend(["_source", "code", "reason"].map(|name| Field::new(name, ArrowType::Utf8, false)));
    fields.push(Field::new("payload", ArrowType::Binary, false));
    let columns = |rows: &[DeadRow]| -> Vec<ArrayRef> {
        let text = |of: fn(&DeadRow) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(of)));
        vec![
            numbers(rows.iter().map(|row| row.place.segment)),
            numbers(rows.iter().map(|row| row.place.offset)),
            numbers(rows.iter().map(|row| u64::from(row.partition))),
            numbers(rows.iter().map(|row| row.event.offset)),
            moments(rows.iter().map(|row| row.accepted_at)),
            text(|row| &row.source),
            text(|row| &row.event.code),
            text(|row| &row.event.reason),
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.event.payload))),
        ]
    };
    write_rows(folder, name, fields, rows, columns)
}

/// Columns of a small file that was read whole.
struct Columns {
    names: Vec<String>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn named(&self, name: &str) -> Result<&ArrayRef, String> {
        let at = self.names.iter().position(|own| own == name);
        at.map(|at| &self.arrays[at]).ok_or_else(|| format!("it has no column `{name}`"))
    }

    fn numbers(&self, name: &str) -> Result<&[i64], String> {
        let array = self.named(name)?.as_primitive_opt::<Int64Type>();
        array.map(|array| array.values().as_ref()).ok_or_else(|| format!("`{name}` is not a number"))
    }

    fn moments(&self, name: &str) -> Result<&[i64], String> {
        let array = self.named(name)?.as_primitive_opt::<TimestampMicrosecondType>();
        array.map(|array| array.values().as_ref()).ok_or_else(|| format!("`{name}` is not a time"))
    }

    fn texts(&self, name: &str) -> Result<&StringArray, String> {
        self.named(name)?.as_string_opt::<i32>().ok_or_else(|| format!("`{name}` is not a text"))
    }
}

/// Reads a file whole. None: there is no such file.
fn read<T>(
    folder: &Path,
    file: &SealedFile,
    rows: impl FnOnce(&Columns, usize) -> Result<Vec<T>, String>,
) -> Result<Option<Vec<T>>, LogError> {
    let Some(bytes) = read_whole(folder, file)? else { return Ok(None) };
    let request = TableRequest { columns: None, within: None, batch_rows: SEALED_GROUP_ROWS };
    let read = || {
        let table = ParquetTable::in_memory(bytes, &request)?;
        let names = table.names();
        let columns = Columns { names, arrays: table.rest()? };
        let count = columns.arrays.first().map_or(0, |array| array.len());
        rows(&columns, count)
    };
    read().map(Some).map_err(|what| damaged(&folder.join(&file.path), what))
}

/// The frames of a piece. None: there is no such file.
pub(super) fn read_frames(folder: &Path, file: &SealedFile) -> Result<Option<Vec<FrameRow>>, LogError> {
    read(folder, file, |columns, count| {
        let mut numbers = Vec::with_capacity(FRAME_NUMBERS.len());
        for name in FRAME_NUMBERS {
            numbers.push(columns.numbers(name)?);
        }
        let (accepted_at, source) = (columns.moments("_accepted_at")?, columns.texts("_source")?);
        let row = |at: usize| FrameRow {
            place: LogPlace { segment: numbers[0][at] as u64, offset: numbers[1][at] as u64 },
            end: numbers[2][at] as u64,
            partition: numbers[3][at] as u32,
            first_offset: numbers[4][at] as u64,
            consumed: numbers[5][at] as u64,
            events: numbers[6][at] as u64,
            dead: numbers[7][at] as u64,
            schema: numbers[8][at] as u64,
            accepted_at: accepted_at[at],
            source: source.value(at).to_string(),
        };
        Ok((0..count).map(row).collect())
    })
}

/// The bad events of a piece. None: there is no such file.
pub(super) fn read_dead(folder: &Path, file: &SealedFile) -> Result<Option<Vec<DeadRow>>, LogError> {
    read(folder, file, |columns, count| {
        let mut numbers = Vec::with_capacity(DEAD_NUMBERS.len());
        for name in DEAD_NUMBERS {
            numbers.push(columns.numbers(name)?);
        }
        let accepted_at = columns.moments("_accepted_at")?;
        let (source, code, reason) = (columns.texts("_source")?, columns.texts("code")?, columns.texts("reason")?);
        let payload = columns.named("payload")?.as_binary_opt::<i32>().ok_or("`payload` is not bytes")?;
        let row = |at: usize| DeadRow {
            place: LogPlace { segment: numbers[0][at] as u64, offset: numbers[1][at] as u64 },
            partition: numbers[2][at] as u32,
            accepted_at: accepted_at[at],
            source: source.value(at).to_string(),
            event: DeadEvent {
                offset: numbers[3][at] as u64,
                code: code.value(at).to_string(),
                reason: reason.value(at).to_string(),
                payload: payload.value(at).to_vec(),
            },
        };
        Ok((0..count).map(row).collect())
    })
}
