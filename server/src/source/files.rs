//! The files of a file source: which there are, and reading one of them from an event on.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::decode::Decoder;
use super::parquet::ParquetFile;
use super::{csv, json};
use crate::limits::EVENT_BYTES_MAX;

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

/// The files that a glob names, sorted.
pub fn matching(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let whole = root.join(pattern);
    let whole = whole.to_str().ok_or("the path is not UTF-8")?;
    let paths = glob::glob(whole).map_err(|e| format!("`{pattern}` is not a glob: {e}"))?;
    let mut files: Vec<PathBuf> = paths.filter_map(Result::ok).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

/// Reads a file in steps, and again where it has grown.
pub enum FileReader {
    /// NDJSON and CSV: whole lines only, so that a half-written last line waits
    Lines {
        /// the file
        file: BufReader<File>,
        /// header of a CSV file
        header: Option<Vec<u8>>,
    },
    /// Parquet files do not grow
    Parquet(ParquetFile),
}

/// Bytes of lines that are decoded together.
const STEP_BYTES: usize = 1 << 20;

impl FileReader {
    /// Opens a file behind its first `skip` events.
    pub fn open(path: &Path, format: Format, skip: u64) -> Result<FileReader, String> {
        if format == Format::Parquet {
            return ParquetFile::open(path, skip).map(FileReader::Parquet);
        }
        let named = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(named)?);
        let mut header = None;
        if format == Format::Csv {
            let mut line = Vec::new();
            file.read_until(b'\n', &mut line).map_err(named)?;
            header = Some(line);
        }
        let mut reader = FileReader::Lines { file, header };
        let mut left = skip;
        while left > 0 {
            let Some(lines) = reader.lines(true)? else { break };
            let count = count_events(&lines, format);
            if count > left {
                reader.give_back(&lines, left, format)?;
                break;
            }
            left -= count;
        }
        Ok(reader)
    }

    /// Decodes the next events. False at the end of what is there now.
    pub fn step(&mut self, decoder: &mut Decoder, last_line_counts: bool) -> Result<bool, String> {
        if let FileReader::Parquet(file) = self {
            let Some(columns) = file.next_columns() else { return Ok(false) };
            let (columns, rows) = columns?;
            super::columns::decode(&columns, rows, decoder);
            return Ok(true);
        }
        let Some(lines) = self.lines(last_line_counts)? else { return Ok(false) };
        match self {
            FileReader::Lines { header: Some(header), .. } => {
                let mut text = header.clone();
                text.extend_from_slice(&lines);
                csv::decode(&text, decoder)?;
            }
            _ => json::decode(&lines, decoder),
        }
        Ok(true)
    }

    /// About a megabyte of whole lines (CSV: of whole records). A last line without its end counts only where nothing follows.
    fn lines(&mut self, last_line_counts: bool) -> Result<Option<Vec<u8>>, String> {
        let FileReader::Lines { file, header } = self else { return Ok(None) };
        let quoted = header.is_some();
        let mut lines = Vec::new();
        loop {
            let start = lines.len();
            let limit = (EVENT_BYTES_MAX * 64) as u64;
            let read = file.by_ref().take(limit).read_until(b'\n', &mut lines).map_err(|e| e.to_string())?;
            let whole = lines.last() == Some(&b'\n');
            if read > 0 && !whole && !last_line_counts {
                file.seek(SeekFrom::Current(-(read as i64))).map_err(|e| e.to_string())?;
                lines.truncate(start);
            }
            let ended = read == 0 || !whole;
            let inside_quotes = quoted && lines.iter().filter(|b| **b == b'"').count() % 2 == 1;
            if ended || (lines.len() >= STEP_BYTES && !inside_quotes) {
                return Ok(if lines.is_empty() { None } else { Some(lines) });
            }
        }
    }

    /// Goes back to the first event of `lines` that was not skipped.
    fn give_back(&mut self, lines: &[u8], skipped: u64, format: Format) -> Result<(), String> {
        let FileReader::Lines { file, .. } = self else { return Ok(()) };
        let mut passed = 0;
        let mut at = 0;
        for line in lines.split_inclusive(|b| *b == b'\n') {
            if passed >= skipped && count_events(&lines[..at], format) >= skipped {
                break;
            }
            at += line.len();
            passed = count_events(&lines[..at], format);
        }
        file.seek(SeekFrom::Current(-((lines.len() - at) as i64))).map_err(|e| e.to_string())?;
        Ok(())
    }
}

/// Events in whole lines; an NDJSON line of white space is none, a CSV record may span lines.
fn count_events(lines: &[u8], format: Format) -> u64 {
    if format == Format::Csv {
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(lines);
        let mut record = ::csv::ByteRecord::new();
        let mut count = 0;
        while let Ok(true) = reader.read_byte_record(&mut record) {
            count += 1;
        }
        return count;
    }
    lines.split(|b| *b == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).count() as u64
}
