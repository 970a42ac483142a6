//! A scan gives what a walk over all frames gives: the naive twin.

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;
use tidemill_features::stream::encode_key;
use tidemill_features::value::Value;

use super::generate::{SOURCES, frames, key_columns, some_frames};
use super::{seal_all, write_log};
use crate::log::{Frame, LogPlace, LogReader, ScanRequest, SealedLog, Sealer, SourceSchema};

/// An event: place, partition, offset, arrival, time, values of the columns asked for.
pub(super) type Event = (LogPlace, u32, u64, i64, i64, String);

fn shown(values: impl Iterator<Item = Value<'static>>) -> String {
    values.map(|value| format!("{value:?};")).collect()
}

/// Walks over all frames that are sealed.
pub(super) fn naive(folder: &Path, request: &ScanRequest) -> Vec<Event> {
    let end = SealedLog::open(folder).unwrap().end();
    let mut reader = LogReader::open(folder, LogPlace::default()).unwrap();
    let mut events = Vec::new();
    while let Some(read) = reader.next_frame().unwrap() {
        if read.place >= end {
            break;
        }
        let frame = read.frame;
        let until = request.until.get(&frame.partition).copied().unwrap_or(0);
        for batch in frame.batches.iter().filter(|_| frame.source == request.source) {
            for row in (0..batch.len()).filter(|row| batch.offsets[*row] < until) {
                let value = |at: &usize| {
                    let place = frame.schema.fields.iter().position(|field| *field == request.schema.fields[*at]);
                    place.map_or(Value::Null, |place| batch.columns[place].value(row).into_owned())
                };
                let key = encode_key(request.key.iter().map(value)).unwrap_or_default();
                let bucket = if key.is_empty() { 0 } else { tidemill_features::hash::hash_bytes(&key) % 256 };
                if request.buckets.contains(&(bucket as u8)) {
                    let all: Vec<usize> = (0..request.schema.fields.len()).collect();
                    let values = shown(request.columns.as_ref().unwrap_or(&all).iter().map(value));
                    let (arrival, time) = (batch.arrivals[row], batch.times[row]);
                    events.push((read.place, frame.partition, batch.offsets[row], arrival, time, values));
                }
            }
        }
    }
    events
}

/// What the scan gives, in log order; and how many rows it read.
pub(super) fn scanned(folder: &Path, request: &ScanRequest) -> (Vec<Event>, usize) {
    let mut scan = SealedLog::open(folder).unwrap().scan(request.clone());
    let mut events = Vec::new();
    while let Some(scanned) = scan.next_events().unwrap() {
        let batch = &scanned.batch;
        assert!(!batch.is_empty() && batch.columns.len() == request.schema.fields.len());
        for row in 0..batch.len() {
            let columns = batch.columns.iter().enumerate();
            let asked = columns.filter(|(at, _)| request.columns.as_ref().is_none_or(|columns| columns.contains(at)));
            let values = shown(asked.map(|(_, column)| column.value(row).into_owned()));
            let (arrival, time) = (batch.arrivals[row], batch.times[row]);
            events.push((scanned.places[row], batch.partition, batch.offsets[row], arrival, time, values));
        }
    }
    events.sort_by_key(|event| (event.0, event.2));
    (events, scan.rows_read())
}

/// A request that fits one of the frames: its columns, a key out of them, some positions.
pub(super) fn request(
    frames: &[Frame],
    pick: usize,
    cut: u64,
    buckets: (u8, u8),
    some: bool,
    other_key: bool,
) -> ScanRequest {
    let frame = &frames[pick % frames.len()];
    let schema: SourceSchema = frame.schema.clone();
    let place = |name: &str| schema.fields.iter().position(|(own, _)| own == name);
    let names: Vec<&str> = if other_key { vec!["shop"] } else { vec!["user", "shop"] };
    let key = names.iter().filter_map(|name| place(name)).collect();
    let of_source =
        |frame: &&Frame| SOURCES.contains(&frame.source.as_str()) && frame.source == frames[pick % frames.len()].source;
    let until: HashMap<u32, u64> =
        frames.iter().filter(of_source).map(|f| (f.partition, f.first_offset + cut % (f.consumed + 1))).collect();
    let columns = some.then(|| (0..schema.fields.len()).step_by(2).collect());
    let (least, most) = (buckets.0.min(buckets.1), buckets.0.max(buckets.1));
    ScanRequest { source: frame.source.clone(), schema, key, until, buckets: least..=most, columns }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scan_gives_what_a_walk_gives(
        frames in frames(),
        per_segment in 1usize..6,
        pick: usize,
        cut: u64,
        buckets: (u8, u8),
        all_buckets: bool,
        some: bool,
        other_key: bool,
        sealed in 0usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        write_log(folder.path(), &frames, per_segment);
        let buckets = if all_buckets { (0, 255) } else { buckets };
        let request = request(&frames, pick, cut, buckets, some, other_key);
        let sealer = Sealer::new(folder.path().to_path_buf(), key_columns());
        for _ in 0..sealed {
            sealer.seal_next(&mut || true).unwrap();
        }
        let expected = naive(folder.path(), &request);
        prop_assert_eq!(scanned(folder.path(), &request).0, expected);
    }
}

#[test]
fn a_range_of_buckets_reads_few_pages() {
    let folder = tempfile::tempdir().unwrap();
    let frames = some_frames(2000);
    write_log(folder.path(), &frames, 2000);
    seal_all(folder.path(), u64::MAX);
    let until = HashMap::from([(0, u64::MAX)]);
    let schema = frames[0].schema.clone();
    let request = |buckets| ScanRequest {
        source: "payments".to_string(),
        schema: schema.clone(),
        key: vec![0],
        until: until.clone(),
        buckets,
        columns: None,
    };
    let (all, rows) = scanned(folder.path(), &request(0..=255));
    assert_eq!((all.len(), rows), (2000 * 99, 2000 * 99));
    let mut parts = 0;
    for start in (0..=255u8).step_by(16) {
        let (events, read) = scanned(folder.path(), &request(start..=start + 15));
        assert!(read <= events.len() + 2 * 8192, "{read} rows for {} events of 16 buckets", events.len());
        parts += events.len();
    }
    assert_eq!(parts, all.len());
}

#[test]
fn a_damaged_file_of_another_source_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let mut frames = some_frames(4);
    frames[1].source = "logins".to_string();
    write_log(folder.path(), &frames, 4);
    seal_all(folder.path(), u64::MAX);
    let logins = super::files(&folder.path().join("events/logins"));
    let mut bytes = std::fs::read(&logins[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&logins[0], bytes).unwrap();
    let request = |source: &str| ScanRequest {
        source: source.to_string(),
        schema: frames[0].schema.clone(),
        key: vec![0],
        until: HashMap::from([(0, u64::MAX)]),
        buckets: 0..=255,
        columns: None,
    };
    assert_eq!(scanned(folder.path(), &request("payments")).0.len(), 297);
    let said = SealedLog::open(folder.path()).unwrap().scan(request("logins")).next_events().unwrap_err().to_string();
    assert!(said.contains("E1020") && said.contains("events/logins"), "{said}");
}
