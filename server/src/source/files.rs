//! The files of a file source: which there are, and reading one of them from an event on.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::decode::Decoder;
use super::{csv, json};
pub use crate::columnar::Format;
use crate::columnar::ParquetFile;
use crate::limits::EVENT_BYTES_MAX;

/// The files that a glob names, sorted. A folder that cannot be read is an error: it may have some.
pub fn matching(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let root = root.to_str().ok_or("the project's path is not UTF-8")?;
    let absolute = Path::new(pattern).is_absolute();
    let whole = if absolute { pattern.to_string() } else { format!("{}/{pattern}", glob::Pattern::escape(root)) };
    let paths = glob::glob(&whole).map_err(|e| format!("`{pattern}` is not a glob: {e}"))?;
    let mut files = Vec::new();
    for path in paths {
        match path {
            Ok(path) if path.is_file() => files.push(path),
            Err(error) if error.error().kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
            // What is gone since the folder was listed is not there.
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

/// Bytes of a file.
pub fn length_of(path: &Path) -> Result<u64, String> {
    std::fs::metadata(path).map(|metadata| metadata.len()).map_err(|e| format!("{}: {e}", path.display()))
}

/// Reads a file in steps, and again where it has grown.
pub enum FileReader {
    /// NDJSON and CSV: whole events only, so that a half-written last one waits
    Lines(LineReader),
    /// Parquet files do not grow
    Parquet(ParquetFile),
}

/// Whole events out of a growing text.
pub struct LineReader {
    file: File,
    /// bytes of it that are still to be read; None: as many as there are
    left: Option<u64>,
    /// header of a CSV file
    header: Option<Vec<u8>>,
    /// read, but not a whole event yet
    pending: Vec<u8>,
    /// inside a line that was too long: dropped up to its end
    skipping: bool,
}

/// Bytes that are read, and then decoded, together.
const STEP_BYTES: usize = 1 << 20;
/// Bytes of one event beyond which it is cut: decode makes a dead letter of it.
const CUT_BYTES: usize = 4 * EVENT_BYTES_MAX;

impl FileReader {
    /// Opens a file behind its first `skip` events. A header without its line end is an error: it may be half written.
    pub fn open(path: &Path, format: Format, skip: u64, grows: bool) -> Result<FileReader, String> {
        Self::open_up_to(path, format, skip, (None, grows))
    }

    /// The same of a file that must not have changed since its length was looked at.
    pub fn open_whole(path: &Path, format: Format, skip: u64, bytes: u64) -> Result<FileReader, String> {
        let found = length_of(path)?;
        if found != bytes {
            return Err(format!("{} has {found} bytes, but had {bytes} when it was listed", path.display()));
        }
        Self::open_up_to(path, format, skip, (Some(bytes), false))
    }

    fn open_up_to(
        path: &Path,
        format: Format,
        skip: u64,
        (left, grows): (Option<u64>, bool),
    ) -> Result<FileReader, String> {
        if format == Format::Parquet {
            return ParquetFile::open(path, skip).map(FileReader::Parquet);
        }
        let named = |e: std::io::Error| format!("{}: {e}", path.display());
        let file = File::open(path).map_err(named)?;
        let mut reader = LineReader { file, left, header: None, pending: Vec::new(), skipping: false };
        if format == Format::Csv {
            reader.read_header(!grows).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        let mut left = skip;
        while left > 0 {
            let Some(events) = reader.next_events(!grows)? else { break };
            let count = count_events(&events, format);
            if count > left {
                let rest = events[end_of_event(&events, left, format)..].to_vec();
                reader.pending.splice(..0, rest);
                break;
            }
            left -= count;
        }
        Ok(FileReader::Lines(reader))
    }

    /// Decodes the next events. False at the end of what is there now.
    pub fn step(&mut self, decoder: &mut Decoder, last_line_counts: bool) -> Result<bool, String> {
        match self {
            FileReader::Parquet(file) => {
                let Some(columns) = file.next_columns() else { return Ok(false) };
                let (columns, rows) = columns?;
                super::columns::decode(&columns, rows, decoder);
            }
            FileReader::Lines(reader) => {
                let Some(events) = reader.next_events(last_line_counts)? else { return Ok(false) };
                match &reader.header {
                    Some(header) => csv::decode(&[header, events.as_slice()].concat(), decoder)?,
                    None => json::decode(&events, decoder),
                }
            }
        }
        Ok(true)
    }
}

impl LineReader {
    /// About a megabyte of whole events. A last one without its line end counts only where nothing will follow.
    fn next_events(&mut self, last_line_counts: bool) -> Result<Option<Vec<u8>>, String> {
        loop {
            let grown = self.fill()?;
            if self.skipping {
                let end = self.pending.iter().position(|b| *b == b'\n');
                self.pending.drain(..end.map_or(self.pending.len(), |end| end + 1));
                self.skipping = end.is_none();
                if self.skipping && grown {
                    continue;
                }
            }
            let end = self.last_event_end();
            if end > 0 {
                return Ok(Some(self.pending.drain(..end).collect()));
            }
            if self.pending.len() > CUT_BYTES {
                self.skipping = true;
                let mut cut = std::mem::take(&mut self.pending);
                cut.truncate(EVENT_BYTES_MAX + 1);
                return Ok(Some(cut));
            }
            if !grown {
                let last = last_line_counts && !self.pending.is_empty();
                return Ok(last.then(|| std::mem::take(&mut self.pending)));
            }
        }
    }

    /// Reads on. False at the end of the file.
    fn fill(&mut self) -> Result<bool, String> {
        let mut chunk = Vec::new();
        let wanted = self.left.map_or(STEP_BYTES as u64, |left| left.min(STEP_BYTES as u64));
        let read = (&self.file).take(wanted).read_to_end(&mut chunk).map_err(|e| e.to_string())?;
        if let Some(left) = &mut self.left {
            if read == 0 && *left > 0 {
                return Err(format!("the file has become {left} bytes shorter while it was read"));
            }
            *left -= read as u64;
        }
        self.pending.extend_from_slice(&chunk);
        Ok(read > 0)
    }

    /// Where the last whole event ends: at a line end that, in CSV, stands outside quotes.
    fn last_event_end(&self) -> usize {
        if self.header.is_none() {
            return self.pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        }
        let (mut quoted, mut end) = (false, 0);
        for (at, byte) in self.pending.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => end = at + 1,
                _ => {}
            }
        }
        end
    }

    fn read_header(&mut self, may_end: bool) -> Result<(), String> {
        while self.fill()? && !self.pending.contains(&b'\n') {}
        let end = match self.pending.iter().position(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if may_end => self.pending.len(),
            None => return Err("the header line is not whole yet".to_string()),
        };
        self.header = Some(self.pending.drain(..end).collect());
        Ok(())
    }
}

/// Events in whole lines; an NDJSON line of white space is none, a CSV record may span lines.
fn count_events(events: &[u8], format: Format) -> u64 {
    if format == Format::Csv {
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(events);
        let mut record = ::csv::ByteRecord::new();
        let mut count = 0;
        while let Ok(true) = reader.read_byte_record(&mut record) {
            count += 1;
        }
        return count;
    }
    events.split(|b| *b == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).count() as u64
}

/// Where the first `count` events end.
fn end_of_event(events: &[u8], count: u64, format: Format) -> usize {
    if format == Format::Csv {
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(events);
        let mut record = ::csv::ByteRecord::new();
        for _ in 0..count {
            if !matches!(reader.read_byte_record(&mut record), Ok(true)) {
                break;
            }
        }
        return reader.position().byte() as usize;
    }
    let (mut end, mut seen) = (0, 0);
    for line in events.split_inclusive(|b| *b == b'\n') {
        if seen == count {
            break;
        }
        end += line.len();
        seen += u64::from(!line.iter().all(u8::is_ascii_whitespace));
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path, format: Format, skip: u64) -> String {
        let mut reader = match FileReader::open(path, format, skip, false).unwrap() {
            FileReader::Lines(reader) => reader,
            FileReader::Parquet(_) => panic!("not a Parquet file"),
        };
        let mut all = Vec::new();
        while let Some(events) = reader.next_events(true).unwrap() {
            all.extend(events);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn reading_goes_on_behind_whole_events() {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("a.csv");
        std::fs::write(&csv, "k,v\n1,\"a\nb\"\n2,c\n3,d").unwrap();
        assert_eq!(text(&csv, Format::Csv, 1), "2,c\n3,d");
        assert_eq!(text(&csv, Format::Csv, 3), "");
        let ndjson = folder.path().join("a.ndjson");
        std::fs::write(&ndjson, "{}\n\n{1}\n{2}").unwrap();
        assert_eq!(text(&ndjson, Format::Ndjson, 1).trim_start(), "{1}\n{2}");
    }

    #[test]
    fn whole_files_have_the_length_that_they_had() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        std::fs::write(&path, "{1}\n{2}\n").unwrap();
        let changed = FileReader::open_whole(&path, Format::Ndjson, 0, 7).err().unwrap();
        assert!(changed.contains("has 8 bytes, but had 7"), "{changed}");
        assert!(FileReader::open_whole(&folder.path().join("b"), Format::Ndjson, 0, 0).is_err());
        let opened = |skip| FileReader::open_whole(&path, Format::Ndjson, skip, 8).unwrap();
        let FileReader::Lines(mut growing) = opened(1) else { panic!() };
        std::fs::write(&path, "{1}\n{2}\n{3}\n").unwrap();
        assert_eq!(growing.next_events(true).unwrap().unwrap(), b"{2}\n");
        assert_eq!(growing.next_events(true).unwrap(), None, "what is added is not of the file that was listed");
        std::fs::write(&path, "{1}\n{2}\n").unwrap();
        let FileReader::Lines(mut shrinking) = opened(0) else { panic!() };
        std::fs::write(&path, "{1}").unwrap();
        assert!(shrinking.next_events(true).and_then(|_| shrinking.next_events(true)).is_err());
    }

    #[test]
    fn half_written_events_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "k,v").unwrap();
        assert!(FileReader::open(&path, Format::Csv, 0, true).is_err(), "the header is not whole");
        std::fs::write(&path, "k,v\n5,\"first line\n").unwrap();
        let FileReader::Lines(mut reader) = FileReader::open(&path, Format::Csv, 0, true).unwrap() else { panic!() };
        assert_eq!(reader.next_events(false).unwrap(), None);
        std::fs::write(&path, "k,v\n5,\"first line\nsecond\"\n").unwrap();
        assert_eq!(reader.next_events(false).unwrap().unwrap(), b"5,\"first line\nsecond\"\n");
    }
}
