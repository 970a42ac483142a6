//! Columns of data at rest and in transit: Arrow arrays and Parquet files. The only place that names the Parquet engine.
//!
//! `builder` makes typed columns row by row, `arrays` turns values into Arrow arrays, `columns` turns arrays into columns, and
//! `parquet` reads files that may be damaged.

mod arrays;
mod builder;
mod columns;
mod parquet;

pub use self::arrays::{array, arrow_type};
pub use self::builder::ColumnsBuilder;
pub use self::columns::{Columns, column, columns};
pub use self::parquet::ParquetFile;
