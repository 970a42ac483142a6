//! The rows of a CSV or NDJSON file, one by one. A row may be long, but not so long that it fills the memory.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use ::csv::{Reader as CsvReader, StringRecord};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::columnar::Format;
use crate::limits::SPINE_ROW_BYTES_MAX;

/// A file of rows.
pub(super) enum Rows {
    /// with a header line
    Csv {
        reader: CsvReader<Bounded>,
        record: StringRecord,
        /// where the last row began
        last: u64,
    },
    /// one object a line
    Ndjson { reader: BufReader<File>, line: String },
}

/// One row, borrowed from its reader.
pub(super) enum Row<'r> {
    /// by place
    Cells(&'r StringRecord),
    /// by name; of equal names the last one counts, as everywhere in JSON
    Object(Vec<(Cow<'r, str>, &'r RawValue)>),
}

impl Rows {
    /// Opens a file; of CSV, with the names in its header.
    pub fn open(path: &Path, format: Format) -> Result<(Rows, Vec<String>), String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let mut mark = [0; 3];
        // What some Windows programs put in front of UTF-8 is no part of the first name.
        let has_mark = file.read_exact(&mut mark).is_ok() && mark == [0xef, 0xbb, 0xbf];
        file.seek(SeekFrom::Start(if has_mark { 3 } else { 0 })).map_err(|e| e.to_string())?;
        if format != Format::Csv {
            return Ok((Rows::Ndjson { reader: BufReader::new(file), line: String::new() }, Vec::new()));
        }
        let mut reader =
            CsvReader::from_reader(Bounded { file, base: if has_mark { 3 } else { 0 }, left: SPINE_ROW_BYTES_MAX });
        let header = reader.headers().map_err(|e| format!("the header line cannot be read: {}", reason(&e)))?;
        let names = header.iter().map(str::to_string).collect();
        Ok((Rows::Csv { reader, record: StringRecord::new(), last: 0 }, names))
    }

    /// The next row; None at the end.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, String> {
        match self {
            Rows::Csv { reader, record, last } => {
                reader.get_mut().left = SPINE_ROW_BYTES_MAX;
                let start = reader.position().byte();
                match reader.read_record(record) {
                    Ok(true) => {
                        *last = start;
                        Ok(Some(Row::Cells(record)))
                    }
                    Ok(false) => Ok(None),
                    Err(e) => {
                        let unclosed = reader.get_mut().is_unclosed(start);
                        Err(if unclosed { UNCLOSED.to_string() } else { reason(&e) })
                    }
                }
            }
            Rows::Ndjson { reader, line } => {
                let mut bytes = std::mem::take(line).into_bytes();
                loop {
                    bytes.clear();
                    let mut bounded = reader.by_ref().take(SPINE_ROW_BYTES_MAX as u64 + 1);
                    bounded.read_until(b'\n', &mut bytes).map_err(|e| e.to_string())?;
                    if bytes.len() > SPINE_ROW_BYTES_MAX {
                        return Err(too_long());
                    }
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    if !bytes.iter().all(u8::is_ascii_whitespace) {
                        break;
                    }
                }
                *line = String::from_utf8(bytes)
                    .map_err(|e| format!("not UTF-8 at byte {} of its line", e.utf8_error().valid_up_to() + 1))?;
                let Object(object) = serde_json::from_str(line).map_err(|e| format!("not a JSON object: {e}"))?;
                Ok(Some(Row::Object(object)))
            }
        }
    }

    /// Whether the last row that was read, which must be the last one of the file, ended within quotes: then a quote was
    /// never closed, or the file is cut, and what looks like one cell may have been rows.
    pub fn ends_within_quotes(&mut self) -> bool {
        match self {
            Rows::Csv { reader, last, .. } => reader.get_mut().is_unclosed(*last),
            Rows::Ndjson { .. } => false,
        }
    }
}

pub(super) const UNCLOSED: &str = "a quote is opened and never closed";

/// A file that gives only so many bytes for one row.
pub(super) struct Bounded {
    file: File,
    /// where its text begins
    base: u64,
    left: usize,
}

impl Bounded {
    /// Whether the text from a place to the end of the file is one record that would go on.
    fn is_unclosed(&mut self, start: u64) -> bool {
        let mut rest = Vec::new();
        let from_start = self.file.seek(SeekFrom::Start(self.base + start));
        let read = from_start.and_then(|_| (&self.file).take(SPINE_ROW_BYTES_MAX as u64 + 1).read_to_end(&mut rest));
        if read.is_err() {
            return false;
        }
        rest.extend(b"\nend\n");
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(rest.as_slice());
        let (mut record, mut last_is_end) = (::csv::ByteRecord::new(), false);
        while let Ok(true) = reader.read_byte_record(&mut record) {
            last_is_end = record.len() == 1 && record.get(0) == Some(b"end");
        }
        !last_is_end
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(too_long()));
        }
        let most = buffer.len().min(self.left);
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

fn too_long() -> String {
    format!("a row of more than {} MB", SPINE_ROW_BYTES_MAX >> 20)
}

/// What is wrong with a CSV file, without the numbers of records that its reader counts in its own way.
fn reason(error: &::csv::Error) -> String {
    match error.kind() {
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells under {expected_len} headers")
        }
        ::csv::ErrorKind::Utf8 { err, .. } => format!("cell {} is not UTF-8", err.field() + 1),
        ::csv::ErrorKind::Io(e) => e.to_string(),
        _ => error.to_string(),
    }
}

/// The members of an object, as they are written.
struct Object<'r>(Vec<(Cow<'r, str>, &'r RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A name that is copied only where it has escapes.
struct Name<'r>(Cow<'r, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_string())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
