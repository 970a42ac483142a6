//! Parquet files as columns or as Arrow batches, piece by piece. The reader is never trusted: damage is an error.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchReader};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::{Columns, columns};

/// Rows of a batch as they come out of a file.
const ROWS: usize = 1024;

/// A Parquet file, read from front to back.
pub struct ParquetFile {
    /// None once it has panicked
    reader: Option<ParquetRecordBatchReader>,
    schema: SchemaRef,
    /// rows of the next batches that are passed over
    skip: usize,
}

impl ParquetFile {
    /// Opens a file at a row.
    pub fn open(path: &Path, skip_rows: u64) -> Result<Self, String> {
        let mut skip = skip_rows;
        let opened = Self::open_with(path, |builder| {
            // Row groups are left out as a whole, and rows of the next one are read and dropped: the reader's own way of
            // skipping rows never ends on some damaged files.
            let mut first = 0;
            for group in builder.metadata().row_groups() {
                let rows = u64::try_from(group.num_rows()).unwrap_or(0);
                if rows > skip {
                    break;
                }
                skip -= rows;
                first += 1;
            }
            let groups = (first..builder.metadata().num_row_groups()).collect();
            Ok(builder.with_batch_size(ROWS).with_row_groups(groups))
        })?;
        Ok(ParquetFile { skip: usize::try_from(skip).unwrap_or(usize::MAX), ..opened })
    }

    /// Opens a file whose batches have at most so many rows, and about so many bytes. With `only`, it has just these columns.
    pub fn open_batches(path: &Path, rows_max: usize, bytes: u64, only: Option<&[&str]>) -> Result<Self, String> {
        Self::open_with(path, |builder| {
            let groups = builder.metadata().row_groups();
            let total: u64 = groups.iter().map(|group| u64::try_from(group.total_byte_size()).unwrap_or(0)).sum();
            let rows: u64 = groups.iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum();
            let fitting = bytes / (total / rows.max(1)).max(1);
            let builder = builder.with_batch_size((fitting as usize).clamp(1, rows_max.max(1)));
            let Some(only) = only else { return Ok(builder) };
            let fields = builder.schema().fields().iter().enumerate();
            let wanted = fields.filter(|(_, field)| only.contains(&field.name().as_str())).map(|(at, _)| at);
            let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.collect::<Vec<_>>());
            Ok(builder.with_projection(mask))
        })
    }

    fn open_with(path: &Path, with: impl FnOnce(Builder) -> Result<Builder, ParquetError>) -> Result<Self, String> {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let open = || {
            let pages = Arc::new(UpToItsEnd(file.try_clone()?));
            let builder = Builder::try_new(UpToItsEnd(file))?;
            check_claims(&pages, builder.metadata())?;
            with(builder)?.build()
        };
        let reader = guarded(open).and_then(|reader| reader.map_err(|e| e.to_string()));
        let reader = reader.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(ParquetFile { schema: reader.schema(), reader: Some(reader), skip: 0 })
    }

    /// What its batches look like.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows; None at the end.
    pub fn next_columns(&mut self) -> Option<Result<Columns, String>> {
        // An array may be broken in a way that shows only when it is looked at.
        self.next(|batch| Ok(columns(&batch)))
    }

    /// The next rows as they are; what comes out may be looked at without fear. None at the end.
    pub fn next_batch(&mut self) -> Option<Result<RecordBatch, String>> {
        self.next(|batch| {
            let check = |array: &ArrayRef| array.to_data().validate_full();
            batch.columns().iter().try_for_each(check).map_err(|e| format!("the file is damaged: {e}"))?;
            Ok(batch)
        })
    }

    fn next<T>(&mut self, take: impl FnOnce(RecordBatch) -> Result<T, String>) -> Option<Result<T, String>> {
        let mut reader = self.reader.take()?;
        let skip = &mut self.skip;
        let mut next_rows = || loop {
            let batch = match reader.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error.to_string())),
            };
            let passed = batch.num_rows().min(*skip);
            *skip -= passed;
            if passed < batch.num_rows() {
                return Some(Ok(batch.slice(passed, batch.num_rows() - passed)));
            }
        };
        let next = guarded(|| next_rows().map(|batch| batch.and_then(take)));
        let next = next.transpose()?;
        if next.is_ok() {
            self.reader = Some(reader);
        }
        Some(next.and_then(|batch| batch))
    }
}

/// Values that a column may claim for each byte of its file, beside a million: one page of a few bytes can hold any number of
/// nulls, and a page that claims too many keeps the reader busy for hours.
const VALUES_PER_BYTE: u64 = 10_000;

/// Refuses files whose pages claim more values than their columns have, or columns more than such a file can mean. Only the
/// headers of pages are read.
fn check_claims(file: &Arc<UpToItsEnd>, metadata: &ParquetMetaData) -> Result<(), ParquetError> {
    let allowed = file.len().saturating_mul(VALUES_PER_BYTE).saturating_add(1 << 20);
    let refused = |what: &str| Err(ParquetError::General(format!("the file is damaged: {what}")));
    for group in metadata.row_groups() {
        for column in group.columns() {
            let claimed = u64::try_from(column.num_values()).unwrap_or(u64::MAX);
            if claimed > allowed {
                return refused("a column claims more values than a file of this size can hold");
            }
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            let mut pages = SerializedPageReader::new(file.clone(), column, rows, None)?;
            let mut left = claimed;
            while let Some(page) = pages.peek_next_page()? {
                let values = page.num_levels.map_or(0, |values| values as u64);
                let Some(rest) = left.checked_sub(values) else {
                    return refused("its pages claim more values than their column");
                };
                left = rest;
                pages.skip_next_page()?;
            }
        }
    }
    Ok(())
}

type Builder = ParquetRecordBatchReaderBuilder<UpToItsEnd>;

/// A file whose end is an error for those who read on. The reader of page headers would skip a list there that claims to have
/// a billion elements, one by one.
struct UpToItsEnd(File);

impl Length for UpToItsEnd {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for UpToItsEnd {
    type T = BufReader<UpToItsEnd>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let mut file = self.0.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(UpToItsEnd(file)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        // No memory for what the file cannot hold.
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF("the file is damaged: it goes on behind its end".to_string()));
        }
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl Read for UpToItsEnd {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(std::io::Error::other("the file is damaged: it goes on behind its end")),
            read => Ok(read),
        }
    }
}

/// The reader takes some damaged files at their word and panics: for us that is an error like any other.
pub(super) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| "the file is damaged: the Parquet reader gave up on it".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reader panics on two of these files, and the others kept it busy for seconds and for hours. All were found by fuzzing.
    #[test]
    fn damaged_files_are_errors() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for name in [
            "panic_at_open.parquet",
            "panic_in_page.parquet",
            "endless_list.parquet",
            "endless_skip.parquet",
            "slow_unit.parquet",
        ] {
            let read = ParquetFile::open(&folder.join(name), 0).and_then(|mut file| {
                while let Some(next) = file.next_columns() {
                    next?;
                }
                Ok(())
            });
            let message = read.unwrap_err();
            assert!(message.contains("damaged") || message.contains("Parquet error"), "{name}: {message}");
        }
    }
}
