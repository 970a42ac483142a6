//! A spine: the rows for which features are wanted, with their keys, their times and whatever else stands beside them.
//!
//! Parquet, CSV, NDJSON and Arrow IPC streams give the same: batches of the file's own columns, unchanged, and out of them the times, the keys
//! and the request values as the declared types. A file is never held whole. In reading order: `roles` (which column is
//! what), `typed` (columns as declared types), `text` (CSV and NDJSON, which are read twice: once to learn the types of their
//! columns), `rows` (their rows), `written` (what a cell says).

mod roles;
mod rows;
mod text;
mod typed;
mod written;

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use tidemill_features::expression::Column;
use tidemill_features::value::DataType;

use self::roles::Roles;
use self::text::TextFile;
use crate::columnar::{ArrowStream, Format, ParquetFile};
use crate::failure::Failure;
use crate::limits::{SPINE_BATCH_BYTES, SPINE_ROWS_MAX};

/// What a service needs of each row.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// the column of the rows' times
    pub time: String,
    /// entity keys and their types
    pub keys: Vec<(String, DataType)>,
    /// request values and their types; their columns may be named `request.NAME` too
    pub request: Vec<(String, DataType)>,
}

/// A file of rows, read from front to back.
pub struct Spine {
    path: PathBuf,
    schema: SchemaRef,
    roles: Roles,
    reader: Reader,
    next_row: u64,
}

/// Some rows, in the order of the file.
#[derive(Clone, Debug)]
pub struct SpineRows {
    /// rows before these
    pub first: u64,
    /// the file's own columns
    pub columns: RecordBatch,
    /// microseconds
    pub times: Vec<i64>,
    /// in the order of `Wanted::keys`, never null
    pub keys: Vec<Column>,
    /// in the order of `Wanted::request`
    pub request: Vec<Column>,
}

enum Reader {
    /// and what is read, but not given yet
    Batches(Batches, Option<RecordBatch>),
    /// CSV, NDJSON
    Text(TextFile),
}

/// Files that hold typed columns.
enum Batches {
    Parquet(ParquetFile),
    Arrow(ArrowStream),
}

impl Batches {
    fn next_batch(&mut self) -> Option<Result<RecordBatch, String>> {
        match self {
            Batches::Parquet(file) => file.next_batch(),
            Batches::Arrow(stream) => stream.next_batch(),
        }
    }
}

/// The ending of files that hold an Arrow IPC stream.
const STREAM_ENDING: &str = "arrows";

impl Spine {
    /// Opens a file of the format that its ending names.
    pub fn open(path: &Path, wanted: &Wanted) -> Result<Spine, Failure> {
        Self::open_columns(path, wanted, false)
    }

    /// Opens a file for the times of its rows alone, which is cheaper.
    pub fn open_times(path: &Path, time: &str) -> Result<Spine, Failure> {
        Self::open_columns(path, &Wanted { time: time.to_string(), ..Wanted::default() }, true)
    }

    /// Opens a file that holds an Arrow IPC stream, under a name that its sender understands.
    pub fn open_stream(path: &Path, name: &str, wanted: &Wanted) -> Result<Spine, Failure> {
        let stream = ArrowStream::open(path).map_err(|e| unreadable(format!("{name}: {e}")))?;
        // As with Parquet: notes on the whole table would be wrong beside new columns.
        let schema = Schema::new(stream.schema().fields().clone());
        let path = PathBuf::from(name);
        let roles = Roles::find(&path, &names_of(&schema), wanted)?;
        roles.check_types(&path, &schema)?;
        let reader = Reader::Batches(Batches::Arrow(stream), None);
        Ok(Spine { path, schema: schema.into(), roles, reader, next_row: 0 })
    }

    fn open_columns(path: &Path, wanted: &Wanted, only_times: bool) -> Result<Spine, Failure> {
        if path.extension().is_some_and(|ending| ending == STREAM_ENDING) {
            check_file(path)?;
            return Self::open_stream(path, &path.display().to_string(), wanted);
        }
        let format = Format::of(path, None).map_err(unreadable)?;
        check_file(path)?;
        if format == Format::Parquet {
            let open = |only| ParquetFile::open_batches(path, SPINE_ROWS_MAX, SPINE_BATCH_BYTES as u64, only);
            let whole = open(None).map_err(unreadable)?;
            // Notes of other programs on the whole table, such as pandas' on its index, would be wrong beside new columns.
            let mut schema = Schema::new(whole.schema().fields().clone());
            let mut roles = Roles::find(path, &names_of(&schema), wanted)?;
            roles.check_types(path, &schema)?;
            let mut file = whole;
            if only_times {
                file = open(Some(&[&wanted.time])).map_err(unreadable)?;
                schema = Schema::new(file.schema().fields().clone());
                roles = Roles::find(path, &names_of(&schema), wanted)?;
            }
            let reader = Reader::Batches(Batches::Parquet(file), None);
            return Ok(Spine { path: path.to_path_buf(), schema: schema.into(), roles, reader, next_row: 0 });
        }
        let (file, roles) = TextFile::open(path, format, wanted, only_times)?;
        let schema = file.schema();
        Ok(Spine { path: path.to_path_buf(), schema, roles, reader: Reader::Text(file), next_row: 0 })
    }

    /// The file's own columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows, at least one and at most so many; None at the end.
    pub fn next_rows(&mut self, rows_max: usize) -> Result<Option<SpineRows>, Failure> {
        let rows_max = rows_max.max(1);
        let rows = match &mut self.reader {
            Reader::Text(file) => file.next_rows(rows_max, self.next_row)?.map(|(batch, columns)| {
                let times = self.roles.declared(&columns);
                (batch, times)
            }),
            Reader::Batches(file, pending) => {
                let named = |e: String| unreadable(format!("{}: {e}", self.path.display()));
                match next_slice(file, pending, rows_max).map_err(named)? {
                    None => None,
                    Some(batch) => {
                        let batch = RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec());
                        let batch = batch.map_err(|e| named(e.to_string()))?;
                        let columns = self.roles.fit(&self.path, &batch, self.next_row)?;
                        Some((batch, columns))
                    }
                }
            }
        };
        let Some((columns, of_roles)) = rows else { return Ok(None) };
        let (times, keys, request) = self.roles.check_nulls(&self.path, of_roles, self.next_row)?;
        let first = self.next_row;
        self.next_row += columns.num_rows() as u64;
        Ok(Some(SpineRows { first, columns, times, keys, request }))
    }
}

/// The next rows of a file with typed columns, at most so many.
fn next_slice(
    file: &mut Batches,
    pending: &mut Option<RecordBatch>,
    rows_max: usize,
) -> Result<Option<RecordBatch>, String> {
    let mut batch = match pending.take() {
        Some(batch) => batch,
        None => match file.next_batch().transpose()? {
            Some(batch) => batch,
            None => return Ok(None),
        },
    };
    // A batch without rows ends nothing.
    while batch.num_rows() == 0 {
        match file.next_batch().transpose()? {
            Some(next) => batch = next,
            None => return Ok(None),
        }
    }
    if batch.num_rows() > rows_max {
        *pending = Some(batch.slice(rows_max, batch.num_rows() - rows_max));
        batch = batch.slice(0, rows_max);
    }
    Ok(Some(batch))
}

fn names_of(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// Whether there is a file at all that can be read, and more than once.
fn check_file(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(unreadable(format!("{shown}: there is no such file")))
        }
        Err(e) => Err(unreadable(format!("{shown}: {e}"))),
        Ok(there) if there.is_dir() => Err(unreadable(format!("{shown} is a folder: a spine is one file"))),
        Ok(there) if !there.is_file() => {
            Err(unreadable(format!("{shown} is no ordinary file: a spine may be read more than once")))
        }
        Ok(there) if there.len() == 0 => {
            Err(unreadable(format!("{shown} is empty: not even the names of columns are there")))
        }
        Ok(_) => Ok(()),
    }
}

/// A file that cannot be read.
fn unreadable(message: impl Into<String>) -> Failure {
    Failure::invalid("E3001", message)
}

#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
