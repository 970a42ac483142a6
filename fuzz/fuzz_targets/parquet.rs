//! Any bytes as a Parquet file of a source with a column of every type.
//!
//! The reader of the `parquet` crate panics on some damaged files, which the server turns into an error: only panics of our own
//! code are finds.
#![no_main]

use std::io::{Seek, Write};
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;
use tidemill::columnar::ParquetFile;
use tidemill::source::columns;
use tidemill_fuzz::decoded::{decoder, verify};
use tidemill_fuzz::{memory_folder, watch_own_panics};

static FILE: LazyLock<Mutex<NamedTempFile>> =
    LazyLock::new(|| Mutex::new(NamedTempFile::new_in(memory_folder()).expect("a temporary file")));

fuzz_target!(init: watch_own_panics(), |data: &[u8]| {
    let mut file = FILE.lock().expect("one case at a time");
    file.as_file().set_len(0).expect("a file can be emptied");
    file.rewind().expect("a file can be rewound");
    file.write_all(data).expect("a file takes some bytes");
    let Ok(mut reader) = ParquetFile::open(file.path(), u64::from(data.len().is_multiple_of(7))) else { return };
    let mut decoder = decoder();
    while let Some(Ok((named, rows))) = reader.next_columns() {
        columns::decode(&named, rows, &mut decoder);
        if decoder.is_full() {
            break;
        }
    }
    verify(&decoder.finish());
});
