//! The formats of files that hold rows, told by the endings of their names.

use std::path::Path;

/// Formats by their endings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// one JSON object a line
    Ndjson,
    /// with a header line
    Csv,
    /// with any schema that names the source's columns
    Parquet,
}

impl Format {
    /// The declared format, or the one of a file's ending.
    pub fn of(path: &Path, declared: Option<&str>) -> Result<Format, String> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
        match declared.unwrap_or(&ending) {
            "ndjson" | "jsonl" | "json" => Ok(Format::Ndjson),
            "csv" => Ok(Format::Csv),
            "parquet" => Ok(Format::Parquet),
            other => Err(format!("{}: `{other}` is none of ndjson, csv, parquet", path.display())),
        }
    }
}
