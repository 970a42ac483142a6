//! Parquet files as columns, batch by batch.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};

use super::{Columns, columns};

/// Rows of a batch as they come out of a file.
const ROWS: usize = 1024;

/// A Parquet file, read from front to back.
pub struct ParquetFile {
    /// None once it has panicked
    reader: Option<ParquetRecordBatchReader>,
}

impl ParquetFile {
    /// Opens a file at a row.
    pub fn open(path: &Path, skip_rows: u64) -> Result<Self, String> {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let open = || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(UpToItsEnd(file))?;
            builder.with_batch_size(ROWS).with_offset(skip_rows as usize).build()
        };
        let reader = guarded(open).and_then(|reader| reader.map_err(|e| e.to_string()));
        Ok(ParquetFile { reader: Some(reader.map_err(|e| format!("{}: {e}", path.display()))?) })
    }

    /// The next rows; None at the end.
    pub fn next_columns(&mut self) -> Option<Result<Columns, String>> {
        let mut reader = self.reader.take()?;
        // An array may be broken in a way that shows only when it is looked at.
        let next = guarded(|| reader.next().map(|batch| batch.map(|batch| columns(&batch))));
        let next = next.transpose()?;
        if next.is_ok() {
            self.reader = Some(reader);
        }
        Some(next.and_then(|batch| batch.map_err(|e| e.to_string())))
    }
}

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
            return Err(parquet::errors::ParquetError::EOF(
                "the file is damaged: it goes on behind its end".to_string(),
            ));
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

    /// The reader panics on two of these files, and the third kept it busy for seconds. All were found by fuzzing.
    #[test]
    fn damaged_files_are_errors() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for name in ["panic_at_open.parquet", "panic_in_page.parquet", "endless_list.parquet"] {
            let read = ParquetFile::open(&folder.join(name), 0).and_then(|mut file| {
                while let Some(next) = file.next_columns() {
                    next?;
                }
                Ok(())
            });
            let message = read.unwrap_err();
            assert!(message.contains("damaged"), "{name}: {message}");
        }
    }
}
