//! Columns of data at rest and in transit: Arrow arrays and Parquet files. The only place that names the Parquet engine.
//!
//! `builder` makes typed columns row by row, `arrays` turns values and columns into Arrow arrays, `columns` turns arrays into
//! columns. `parquet` reads files that may be damaged, `arrow_stream` what a client sends; `parquet_writer` writes files whose
//! bytes are known by their checksum.
//! `writer` and `table` are the same for the sealed log, which is read by the columns and row groups that are asked for.
//! `scalar` is the one set of rules by which a given value fits a declared type, `format` tells files apart.

mod arrays;
mod arrow_stream;
mod builder;
mod columns;
mod format;
mod parquet;
mod parquet_writer;
pub mod scalar;
mod table;
mod writer;

pub use self::arrays::{array, arrow_type, column_array};
pub use self::arrow_stream::ArrowStream;
pub use self::builder::ColumnsBuilder;
pub use self::columns::{Columns, column, columns, scale_of};
pub use self::format::Format;
pub use self::parquet::ParquetFile;
#[cfg(test)]
pub use self::parquet_writer::parquet_notes;
pub use self::parquet_writer::{ParquetWriter, WrittenFile};
pub use self::table::{ParquetTable, TableRequest, interleaved, joined, picked};
pub use self::writer::TableWriter;
