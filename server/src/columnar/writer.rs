//! Parquet files as the server writes them: zstd, statistics and page index, row groups that end where the caller says.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType as ArrowType, Field, Schema};
use hashbrown::HashSet;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

/// Ratio is nearly that of the slow levels, at several times their speed.
const ZSTD_LEVEL: i32 = 3;
/// Pages are cut at this many rows, so that the page index tells something about small row groups, too.
const PAGE_ROWS: usize = 8192;

/// Bytes of a dictionary of numbers: with more than some 4,000 different ones in a row group, differences are smaller.
const NUMBERS_DICTIONARY_BYTES: usize = 32 << 10;

/// Rows by which it is told whether the texts of a column repeat.
const LOOKED_AT: usize = 8192;
/// Fewer are not worth to look at.
const LOOKED_AT_MIN: usize = 1024;

/// A Parquet file under construction. It begins with its first row group, which tells how columns are best encoded.
pub struct TableWriter<W: Write + Send> {
    schema: Arc<Schema>,
    sorted_by: Option<usize>,
    /// what it is written to; None once it has begun
    out: Option<W>,
    writer: Option<ArrowWriter<W>>,
}

impl<W: Write + Send> TableWriter<W> {
    /// Begins a file of these columns. Its rows ascend by the column at `sorted_by`, if there is one.
    pub fn new(out: W, fields: Vec<Field>, sorted_by: Option<usize>) -> Result<Self, String> {
        Ok(TableWriter { schema: Arc::new(Schema::new(fields)), sorted_by, out: Some(out), writer: None })
    }

    /// Begins the file; `first` are the columns of its first row group.
    fn begun(&mut self, first: &[ArrayRef]) -> Result<&mut ArrowWriter<W>, String> {
        if let Some(out) = self.out.take() {
            let properties = self.properties(first)?;
            self.writer = Some(ArrowWriter::try_new(out, self.schema.clone(), Some(properties)).map_err(text)?);
        }
        self.writer.as_mut().ok_or_else(|| "the file could not be begun".to_string())
    }

    fn properties(&self, first: &[ArrayRef]) -> Result<WriterProperties, String> {
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("tidemill {}", env!("CARGO_PKG_VERSION")))
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| e.to_string())?))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            // Row groups end where the caller says.
            .set_max_row_group_row_count(None);
        for (at, field) in self.schema.fields().iter().enumerate() {
            properties = encoded(properties, field);
            if first.get(at).is_some_and(differ_mostly) {
                properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false);
            }
        }
        if let Some(at) = self.sorted_by {
            let column = SortingColumn { column_idx: at as i32, descending: false, nulls_first: false };
            properties = properties.set_sorting_columns(Some(vec![column]));
        }
        Ok(properties.build())
    }

    /// One row group.
    pub fn write_group(&mut self, columns: Vec<ArrayRef>) -> Result<(), String> {
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| e.to_string())?;
        let writer = self.begun(batch.columns())?;
        writer.write(&batch).and_then(|()| writer.flush()).map_err(text)
    }

    /// Writes the end of the file and gives back what it was written to.
    pub fn finish(mut self) -> Result<W, String> {
        self.begun(&[])?;
        let writer = self.writer.ok_or_else(|| "the file could not be begun".to_string())?;
        writer.into_inner().map_err(text)
    }
}

/// Whether most texts of a column are there once, such as ids: a dictionary of them takes more time and more room than they do.
fn differ_mostly(array: &ArrayRef) -> bool {
    let Some(texts) = array.as_string_opt::<i32>().filter(|texts| texts.len() >= LOOKED_AT_MIN) else { return false };
    let looked_at = texts.len().min(LOOKED_AT);
    let distinct: HashSet<Option<&str>> = texts.iter().take(looked_at).collect();
    distinct.len() > looked_at / 4 * 3
}

/// Integers and times of which there are many are kept as differences, which takes half of what a dictionary of them does.
fn encoded(properties: WriterPropertiesBuilder, field: &Field) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(field.name().as_str());
    match field.data_type() {
        ArrowType::Int64 | ArrowType::Timestamp(..) => properties
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_dictionary_page_size_limit(path, NUMBERS_DICTIONARY_BYTES),
        _ => properties,
    }
}

fn text(error: ParquetError) -> String {
    match error {
        ParquetError::External(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn texts_that_repeat_have_a_dictionary_and_ids_have_none() {
        let fields = ["id", "country", "few"].map(|name| Field::new(name, ArrowType::Utf8, true)).to_vec();
        let mut writer = TableWriter::new(Vec::new(), fields, None).unwrap();
        let texts =
            |of: fn(usize) -> String, rows| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..rows).map(of))) };
        let columns = [texts(|row| format!("id-{row}"), 2_000), texts(|row| format!("c{}", row % 30), 2_000)];
        let ids: ArrayRef = Arc::new((0..2_000).map(|row| (row < 9).then(|| row.to_string())).collect::<StringArray>());
        writer.write_group([columns.to_vec(), vec![ids]].concat()).unwrap();
        let file = SerializedFileReader::new(bytes::Bytes::from(writer.finish().unwrap())).unwrap();
        let group = file.metadata().row_group(0);
        let has_dictionary = |at: usize| group.column(at).dictionary_page_offset().is_some();
        assert_eq!([0, 1, 2].map(has_dictionary), [false, true, true]);
        let empty = TableWriter::new(Vec::new(), vec![Field::new("id", ArrowType::Utf8, true)], None).unwrap();
        let empty = SerializedFileReader::new(bytes::Bytes::from(empty.finish().unwrap())).unwrap();
        assert_eq!(empty.metadata().file_metadata().num_rows(), 0);
    }
}
