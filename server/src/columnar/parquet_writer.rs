//! Parquet files out: zstd, statistics, a page index, whole row groups at a time, and a checksum of every byte.
//!
//! A row group is encoded once its rows are all there, its columns side by side on the threads that the machine has. Between
//! two row groups an open file costs next to nothing, so that many can be open at once.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use sha2::{Digest, Sha256};

/// A level at which zstd costs little more than the encoding before it; higher ones save a few percent for twice the time.
const ZSTD_LEVEL: i32 = 3;
/// Fewer rows are encoded sooner than threads are started.
const ROWS_FOR_THREADS: usize = 8192;
/// Threads that encode one row group: more would wait for the longest column.
const THREADS_MAX: usize = 8;

/// A file that is being written.
pub struct ParquetWriter {
    file: SerializedFileWriter<Checked>,
    groups: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    rows: u64,
}

/// A file that is written, and on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// rows in it
    pub rows: u64,
    /// its length
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal digits
    pub sha256: String,
}

impl ParquetWriter {
    /// Creates a file. `notes` go into its metadata.
    pub fn create(path: &Path, schema: SchemaRef, notes: &[(&str, &str)]) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let file = File::create(path).map_err(|e| failed(&e))?;
        let notes = notes.iter().map(|(key, value)| KeyValue::new(key.to_string(), value.to_string())).collect();
        let properties = WriterProperties::builder()
            .set_created_by(concat!("tidemill version ", env!("CARGO_PKG_VERSION")).to_string())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| failed(&e))?))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_key_value_metadata(Some(notes))
            .build();
        let checked = Checked { file, hash: Sha256::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(checked, schema.clone(), Some(properties)).map_err(|e| failed(&e))?;
        let (file, groups) = writer.into_serialized_writer().map_err(|e| failed(&e))?;
        Ok(ParquetWriter { file, groups, schema, rows: 0 })
    }

    /// Rows that it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes batches as one row group.
    pub fn write_row_group(&mut self, batches: &[RecordBatch]) -> Result<(), String> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Ok(());
        }
        let chunks = self.encode(batches, rows).map_err(|e| e.to_string())?;
        let append = |file: &mut SerializedFileWriter<Checked>| {
            let mut group = file.next_row_group()?;
            for chunk in chunks {
                chunk.append_to_row_group(&mut group)?;
            }
            group.close().map(drop)
        };
        append(&mut self.file).map_err(|e| e.to_string())?;
        self.rows += rows as u64;
        Ok(())
    }

    /// Writes the footer and waits for the disk.
    pub fn finish(self) -> Result<WrittenFile, String> {
        let rows = self.rows;
        let checked = self.file.into_inner().map_err(|e| e.to_string())?;
        checked.file.sync_all().map_err(|e| e.to_string())?;
        Ok(WrittenFile { rows, bytes: checked.bytes, sha256: hexadecimal(&checked.hash.finalize()) })
    }

    fn encode(&self, batches: &[RecordBatch], rows: usize) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        let mut columns = self.columns_of_group()?;
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = if rows < ROWS_FOR_THREADS { 1 } else { processors.min(THREADS_MAX).min(columns.len()) };
        if threads > 1 {
            // Taken from the end; the first columns, keys and times, are no longer than others.
            let count = columns.len();
            let (open, done) = (Mutex::new(columns), Mutex::new(Vec::with_capacity(count)));
            std::thread::scope(|scope| {
                let encode = || {
                    loop {
                        let next = open.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some(column) = next else { return };
                        let at = column.at;
                        let encoded = column.encode(batches);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((at, encoded));
                    }
                };
                (0..threads).for_each(|_| drop(scope.spawn(encode)));
            });
            let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
            done.sort_by_key(|(at, _)| *at);
            let chunks = done.into_iter().map(|(_, encoded)| encoded).collect::<Result<Vec<_>, _>>()?;
            return Ok(chunks.into_iter().flatten().collect());
        }
        let chunks = columns.drain(..).map(|column| column.encode(batches)).collect::<Result<Vec<_>, _>>()?;
        Ok(chunks.into_iter().flatten().collect())
    }

    /// The writers of a new row group, by column of the schema: a column of lists or maps has several.
    fn columns_of_group(&self) -> Result<Vec<GroupColumn>, ParquetError> {
        let leaves = self.groups.create_column_writers(self.file.flushed_row_groups().len())?;
        let fields = self.schema.fields().iter().enumerate();
        let new = |(at, field): (usize, &FieldRef)| GroupColumn { at, field: field.clone(), leaves: Vec::new() };
        let mut columns: Vec<GroupColumn> = fields.map(new).collect();
        for (leaf, writer) in leaves.into_iter().enumerate() {
            columns[self.file.schema_descr().get_column_root_idx(leaf)].leaves.push(writer);
        }
        Ok(columns)
    }
}

/// One column of the schema in a row group.
struct GroupColumn {
    at: usize,
    field: FieldRef,
    leaves: Vec<ArrowColumnWriter>,
}

impl GroupColumn {
    fn encode(mut self, batches: &[RecordBatch]) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        for batch in batches {
            let array: &ArrayRef = batch.column(self.at);
            for (writer, leaf) in self.leaves.iter_mut().zip(compute_leaves(&self.field, array)?) {
                writer.write(&leaf)?;
            }
        }
        self.leaves.into_iter().map(ArrowColumnWriter::close).collect()
    }
}

/// A file that knows its length and its checksum.
struct Checked {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What a file says of itself, for tests.
#[cfg(test)]
pub fn parquet_notes(path: &Path) -> Result<Vec<(String, String)>, String> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let file = File::open(path).map_err(|e| e.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|e| e.to_string())?;
    let notes = reader.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    Ok(notes.map(|note| (note.key.clone(), note.value.clone().unwrap_or_default())).collect())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
