//! Any bytes as an Arrow IPC stream of spine rows, with keys and request values of many types.
//!
//! The reader of the `arrow` crates panics on some damaged streams, which the server turns into an error: only panics of our own
//! code are finds.
#![no_main]

use std::io::{Seek, Write};
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;
use tidemill::offline::{Spine, Wanted};
use tidemill_features::value::DataType;
use tidemill_fuzz::{memory_folder, watch_own_panics};

static FILE: LazyLock<Mutex<NamedTempFile>> =
    LazyLock::new(|| Mutex::new(NamedTempFile::new_in(memory_folder()).expect("a temporary file")));

/// What the rows have to hold: the first byte of the data chooses.
fn wanted(choice: u8) -> Wanted {
    let named = |list: &[(&str, DataType)]| list.iter().map(|(name, of)| (name.to_string(), of.clone())).collect();
    let of_text = || DataType::List(Box::new(DataType::Text));
    let (keys, request): (Vec<_>, Vec<_>) = match choice % 4 {
        0 => (named(&[]), named(&[])),
        1 => (named(&[("key", DataType::Text)]), named(&[("amount", DataType::Float64)])),
        2 => (
            named(&[("key", DataType::Text), ("other_key", DataType::Int64)]),
            named(&[("foreign", DataType::Bool), ("huge", DataType::Decimal { precision: 38, scale: 2 })]),
        ),
        _ => (
            named(&[("key", DataType::Bytes)]),
            named(&[("tags", of_text()), ("vec", DataType::Vector(2)), ("then", DataType::Timestamp)]),
        ),
    };
    Wanted { time: "at".to_string(), keys, request }
}

fuzz_target!(init: watch_own_panics(), |data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut file = FILE.lock().expect("one case at a time");
    file.as_file().set_len(0).expect("a file can be emptied");
    file.rewind().expect("a file can be rewound");
    file.write_all(bytes).expect("a file takes some bytes");
    let wanted = wanted(*choice);
    let Ok(mut spine) = Spine::open_stream(file.path(), "the spine", &wanted) else { return };
    let mut seen = 0;
    while let Ok(Some(rows)) = spine.next_rows(usize::from(*choice) + 1) {
        let count = rows.times.len();
        assert!(rows.first == seen && (1..=usize::from(*choice) + 1).contains(&count));
        assert!(rows.columns.num_rows() == count && rows.columns.schema() == spine.schema());
        assert!((rows.keys.len(), rows.request.len()) == (wanted.keys.len(), wanted.request.len()));
        assert!(rows.keys.iter().chain(&rows.request).all(|column| column.len() == count));
        assert!(rows.keys.iter().all(|column| (0..count).all(|row| !column.value(row).is_null())));
        seen += count as u64;
        // A row may take no more than a bit.
        if seen > 10_000 {
            break;
        }
    }
});
