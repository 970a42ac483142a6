//! Parquet files as the server writes them: zstd, statistics and page index, row groups that end where the caller says.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType as ArrowType, Field, Schema};
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

/// A Parquet file under construction.
pub struct TableWriter<W: Write + Send> {
    schema: Arc<Schema>,
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> TableWriter<W> {
    /// Begins a file of these columns. Its rows ascend by the column at `sorted_by`, if there is one.
    pub fn new(out: W, fields: Vec<Field>, sorted_by: Option<usize>) -> Result<Self, String> {
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("tidemill {}", env!("CARGO_PKG_VERSION")))
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| e.to_string())?))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            // Row groups end where the caller says.
            .set_max_row_group_row_count(None);
        for field in &fields {
            properties = encoded(properties, field);
        }
        if let Some(at) = sorted_by {
            let column = SortingColumn { column_idx: at as i32, descending: false, nulls_first: false };
            properties = properties.set_sorting_columns(Some(vec![column]));
        }
        let schema = Arc::new(Schema::new(fields));
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties.build())).map_err(text)?;
        Ok(TableWriter { schema, writer })
    }

    /// One row group.
    pub fn write_group(&mut self, columns: Vec<ArrayRef>) -> Result<(), String> {
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| e.to_string())?;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(text)
    }

    /// Writes the end of the file and gives back what it was written to.
    pub fn finish(self) -> Result<W, String> {
        self.writer.into_inner().map_err(text)
    }
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
