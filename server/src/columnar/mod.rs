//! Columns of data at rest and in transit: Arrow arrays and Parquet files. The only place that names the Parquet engine.
//!
//! `builder` makes typed columns row by row, `arrays` turns values and columns into Arrow arrays, `columns` turns arrays into
//! columns. `parquet` reads files that may be damaged, `writer` writes files, and `table` reads them back, only the columns and
//! row groups that are asked for.

mod arrays;
mod builder;
mod columns;
mod parquet;
mod table;
mod writer;

pub use self::arrays::{array, arrow_type, column_array};
pub use self::builder::ColumnsBuilder;
pub use self::columns::{Columns, column, columns};
pub use self::parquet::ParquetFile;
pub use self::table::{ParquetTable, TableRequest, joined, picked};
pub use self::writer::ParquetWriter;
