//! Parquet files as columns, batch by batch.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};
use tidemill_features::expression::Column;
use tidemill_features::value::Value;

/// Rows of a batch as they come out of a file.
const ROWS: usize = 1024;

/// A Parquet file, read from front to back.
pub struct ParquetFile {
    /// None once it has panicked
    reader: Option<ParquetRecordBatchReader>,
}

/// Columns by name, and how many rows they have.
pub type Columns = (Vec<(String, Column)>, usize);

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
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| "the file is damaged: the Parquet reader gave up on it".to_string())
}

fn columns(batch: &RecordBatch) -> Columns {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        // What cannot be read may be a column that nobody asks for; asked for, its values fit no declared type.
        let unread = || Column::Values(vec![Value::List(Vec::new()); array.len()]);
        columns.push((field.name().clone(), column(array).unwrap_or_else(unread)));
    }
    (columns, batch.num_rows())
}

fn column(array: &ArrayRef) -> Option<Column> {
    macro_rules! integers {
        ($of:ty) => {
            Column::Int64(array.as_primitive::<$of>().iter().map(|v| v.map(i64::from)).collect())
        };
    }
    macro_rules! times {
        ($of:ty, $fit:expr) => {
            Column::Timestamp(array.as_primitive::<$of>().iter().map(|v| v.and_then($fit)).collect::<Int64Array>())
        };
    }
    Some(match array.data_type() {
        ArrowType::Boolean => Column::Bool(array.as_boolean().clone()),
        ArrowType::Int8 => integers!(Int8Type),
        ArrowType::Int16 => integers!(Int16Type),
        ArrowType::Int32 => integers!(Int32Type),
        ArrowType::Int64 => Column::Int64(array.as_primitive::<Int64Type>().clone()),
        ArrowType::UInt8 => integers!(UInt8Type),
        ArrowType::UInt16 => integers!(UInt16Type),
        ArrowType::UInt32 => integers!(UInt32Type),
        ArrowType::UInt64 => {
            let numbers = array.as_primitive::<UInt64Type>().iter();
            let value = |v: u64| i64::try_from(v).map_or(Value::Float64(v as f64), Value::Int64);
            Column::Values(numbers.map(|v| v.map_or(Value::Null, value)).collect())
        }
        ArrowType::Date32 => times!(Date32Type, |days: i32| Some(i64::from(days) * tidemill_features::time::DAY)),
        ArrowType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary_opt()?;
            let values = column(dictionary.values())?;
            let keys = dictionary.normalized_keys();
            let value = |(row, key): (usize, &usize)| {
                if array.is_valid(row) { values.value(*key).into_owned() } else { Value::Null }
            };
            Column::Values(keys.iter().enumerate().map(value).collect())
        }
        ArrowType::Float32 => {
            Column::Float64(array.as_primitive::<Float32Type>().iter().map(|v| v.map(f64::from)).collect())
        }
        ArrowType::Float64 => Column::Float64(array.as_primitive::<Float64Type>().clone()),
        ArrowType::Utf8 => Column::Text(array.as_string::<i32>().clone()),
        ArrowType::LargeUtf8 => Column::Text(array.as_string::<i64>().iter().collect()),
        ArrowType::Utf8View => Column::Text(array.as_string_view().iter().collect()),
        ArrowType::Binary => Column::Bytes(array.as_binary::<i32>().clone()),
        ArrowType::Timestamp(TimeUnit::Second, _) => {
            times!(TimestampSecondType, |v: i64| Some(v.checked_mul(1_000_000).unwrap_or(i64::MAX)))
        }
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            times!(TimestampMillisecondType, |v: i64| Some(v.checked_mul(1000).unwrap_or(i64::MAX)))
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => times!(TimestampMicrosecondType, Some),
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => {
            times!(TimestampNanosecondType, |v: i64| Some(v.div_euclid(1000)))
        }
        ArrowType::Decimal128(..) => {
            Column::Decimal(array.as_primitive::<arrow_array::types::Decimal128Type>().clone())
        }
        ArrowType::Null => Column::Values(vec![Value::Null; array.len()]),
        ArrowType::List(_) => {
            let lists = array.as_list::<i32>();
            let values = lists.iter().map(|list| match list {
                None => Some(Value::Null),
                Some(items) => column(&Arc::clone(&items))
                    .map(|items| Value::List((0..items.len()).map(|i| items.value(i).into_owned()).collect())),
            });
            Column::Values(values.collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    })
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
