//! Parquet files as record batches: some columns, and only the pages that can hold what is asked for. For files whose
//! bytes were found to be right: the readers of foreign ones are in `parquet`.

use std::fs::File;
use std::ops::RangeInclusive;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchReader};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

use super::parquet::guarded;

/// Which rows and columns of a file are read.
#[derive(Clone, Debug)]
pub struct TableRequest<'a> {
    /// names of columns; None: all
    pub columns: Option<&'a [&'a str]>,
    /// pages in which this integer column, by which the file is sorted, has no value of this range are skipped
    pub within: Option<(&'a str, RangeInclusive<i64>)>,
    /// rows of a batch, at most
    pub batch_rows: usize,
}

/// A file that is being read, batch by batch.
pub struct ParquetTable {
    reader: ParquetRecordBatchReader,
}

impl ParquetTable {
    /// Of a file on the disk, read piece by piece.
    pub fn open(file: File, request: &TableRequest<'_>) -> Result<Self, String> {
        guarded(|| Self::start(file, request))?
    }

    /// Of a file that is in memory.
    pub fn in_memory(bytes: Bytes, request: &TableRequest<'_>) -> Result<Self, String> {
        guarded(|| Self::start(bytes, request))?
    }

    fn start<R: ChunkReader + 'static>(input: R, request: &TableRequest<'_>) -> Result<Self, String> {
        let index = if request.within.is_some() { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
        let options = ArrowReaderOptions::new().with_page_index_policy(index);
        let builder =
            ParquetRecordBatchReaderBuilder::try_new_with_options(input, options).map_err(|e| e.to_string())?;
        let mut builder = builder.with_batch_size(request.batch_rows);
        if let Some(names) = request.columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
            builder = builder.with_projection(mask);
        }
        if let Some((column, range)) = &request.within {
            let all = builder.metadata().row_groups().iter().enumerate();
            let groups: Vec<usize> =
                all.filter(|(_, group)| may_hold(group, column, range)).map(|(at, _)| at).collect();
            let rows = rows_within(builder.metadata(), &groups, column, range);
            builder = builder.with_row_groups(groups).with_row_selection(rows);
        }
        Ok(ParquetTable { reader: builder.build().map_err(|e| e.to_string())? })
    }

    /// Names of the columns that it gives.
    pub fn names(&self) -> Vec<String> {
        self.reader.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The next rows; None at the end.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, String> {
        guarded(|| self.reader.next().transpose().map_err(|e| e.to_string()))?
    }

    /// All that is left, as one array for each column.
    pub fn rest(mut self) -> Result<Vec<ArrayRef>, String> {
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        while let Some(batch) = self.next_batch()? {
            parts.resize_with(batch.num_columns(), Vec::new);
            parts.iter_mut().zip(batch.columns()).for_each(|(part, column)| part.push(column.clone()));
        }
        if parts.is_empty() {
            let schema = self.reader.schema();
            return Ok(schema.fields().iter().map(|field| arrow_array::new_empty_array(field.data_type())).collect());
        }
        parts.into_iter().map(|part| joined(&part)).collect()
    }
}

/// Arrays one behind the other.
pub fn joined(parts: &[ArrayRef]) -> Result<ArrayRef, String> {
    let parts: Vec<&dyn arrow_array::Array> = parts.iter().map(AsRef::as_ref).collect();
    arrow_select::concat::concat(&parts).map_err(|e| e.to_string())
}

/// Some rows of an array, in the order asked for.
pub fn picked(array: &ArrayRef, rows: &[u32]) -> Result<ArrayRef, String> {
    let rows = arrow_array::UInt32Array::from(rows.to_vec());
    arrow_select::take::take(array, &rows, None).map_err(|e| e.to_string())
}

/// Rows of several arrays of one type, each named by its array and its place there, in the order asked for.
pub fn interleaved(arrays: &[ArrayRef], rows: &[(usize, usize)]) -> Result<ArrayRef, String> {
    let arrays: Vec<&dyn arrow_array::Array> = arrays.iter().map(AsRef::as_ref).collect();
    arrow_select::interleave::interleave(&arrays, rows).map_err(|e| e.to_string())
}

/// Whether a row group can hold a value of the range. Without statistics it can.
fn may_hold(group: &RowGroupMetaData, column: &str, range: &RangeInclusive<i64>) -> bool {
    let found = group.columns().iter().find(|chunk| chunk.column_path().string() == column);
    let (least, most) = match found.and_then(|chunk| chunk.statistics()) {
        Some(Statistics::Int64(of)) => (of.min_opt().copied(), of.max_opt().copied()),
        Some(Statistics::Int32(of)) => (of.min_opt().map(|v| i64::from(*v)), of.max_opt().map(|v| i64::from(*v))),
        _ => return true,
    };
    least.is_none_or(|least| least <= *range.end()) && most.is_none_or(|most| most >= *range.start())
}

/// The rows of pages that can hold a value of the range. A group whose pages are not described is read whole.
fn rows_within(
    metadata: &ParquetMetaData,
    groups: &[usize],
    column: &str,
    range: &RangeInclusive<i64>,
) -> RowSelection {
    let mut selectors = Vec::new();
    for group in groups {
        let rows = usize::try_from(metadata.row_group(*group).num_rows()).unwrap_or(0);
        let pages = pages_of(metadata, *group, column).unwrap_or_default();
        if pages.is_empty() {
            selectors.push(RowSelector::select(rows));
        }
        for (at, (first, least, most)) in pages.iter().enumerate() {
            let end = pages.get(at + 1).map_or(rows, |(next, ..)| *next);
            let count = end.saturating_sub(*first);
            let holds = least <= range.end() && most >= range.start();
            selectors.push(if holds { RowSelector::select(count) } else { RowSelector::skip(count) });
        }
    }
    selectors.into()
}

/// By page of a column: its first row, its least and its greatest value. None: nothing is known of them.
fn pages_of(metadata: &ParquetMetaData, group: usize, column: &str) -> Option<Vec<(usize, i64, i64)>> {
    let at = metadata.row_group(group).columns().iter().position(|chunk| chunk.column_path().string() == column)?;
    let offsets = metadata.offset_index()?.get(group)?.get(at)?;
    let ColumnIndexMetaData::INT64(values) = metadata.column_index()?.get(group)?.get(at)? else { return None };
    let pages = offsets.page_locations().iter().enumerate().map(|(page, location)| {
        let (least, most) = (*values.min_value(page)?, *values.max_value(page)?);
        Some((usize::try_from(location.first_row_index).ok()?, least, most))
    });
    pages.collect()
}
