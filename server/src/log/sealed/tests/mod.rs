//! Random frames sealed and read again: the same frames, whatever is killed, and no damage that goes unnoticed.

mod archived;
mod compaction;
mod crashes;
mod generate;
mod scans;

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use self::generate::{frames, key_columns};
use super::Sealer;
use crate::log::{Frame, LogError, LogPlace, LogReader, LogWriter, ReadFrame, segments};

/// What a frame is, for comparing.
type Seen = (LogPlace, LogPlace, Vec<u8>);

/// Writes a log with a segment for every `per_segment` frames.
fn write_log(folder: &Path, frames: &[Frame], per_segment: usize) {
    let mut writer = LogWriter::open(folder, LogPlace::default()).unwrap();
    writer.set_segment_bytes(1);
    for frames in frames.chunks(per_segment) {
        for frame in frames {
            writer.add(frame);
        }
        writer.write().unwrap();
        writer.sync().unwrap();
        writer.rotate().unwrap();
    }
}

fn seen(read: &ReadFrame) -> Seen {
    let mut bytes = Vec::new();
    read.frame.encode(&mut bytes);
    (read.place, read.end, bytes)
}

/// All frames from a place on, and where the log ends.
fn read_log(folder: &Path, from: LogPlace) -> Result<(Vec<Seen>, LogPlace), LogError> {
    let mut reader = LogReader::open(folder, from)?;
    let mut found = Vec::new();
    while let Some(read) = reader.next_frame()? {
        found.push(seen(&read));
    }
    Ok((found, reader.place()))
}

fn seal_all(folder: &Path, piece_bytes: u64) -> u64 {
    let sealer = Sealer::new(folder.to_path_buf(), key_columns()).with_piece_bytes(piece_bytes);
    let mut sealed = 0;
    while sealer.seal_next(&mut || true).unwrap_or_else(|e| panic!("{e}")).is_some() {
        sealed += 1;
    }
    sealed
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, &target).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sealed_frames_are_the_same_frames(
        frames in frames(),
        per_segment in 1usize..6,
        piece_bytes in prop_oneof![Just(1u64), Just(500), Just(u64::MAX)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        write_log(folder.path(), &frames, per_segment);
        let (before, end) = read_log(folder.path(), LogPlace::default()).unwrap();
        let shape = |frame: &Frame| frame.batches.iter().map(|batch| batch.len()).collect::<Vec<_>>();
        let (mut raw_shapes, mut dead) = (Vec::new(), Vec::new());
        let mut reader = LogReader::open(folder.path(), LogPlace::default()).unwrap();
        while let Some(read) = reader.next_frame().unwrap() {
            raw_shapes.push(shape(&read.frame));
            dead.push(read.frame.dead);
        }
        let closed = segments(folder.path()).unwrap().len() as u64 - 1;
        prop_assert_eq!(seal_all(folder.path(), piece_bytes), closed);
        prop_assert_eq!(segments(folder.path()).unwrap(), vec![closed], "sealed segments are gone");
        let (after, sealed_end) = read_log(folder.path(), LogPlace::default()).unwrap();
        prop_assert_eq!(&after, &before);
        prop_assert_eq!(sealed_end, end);
        for at in 0..before.len() {
            prop_assert_eq!(&read_log(folder.path(), before[at].0).unwrap().0, &before[at..], "from the front of {}", at);
            prop_assert_eq!(&read_log(folder.path(), before[at].1).unwrap().0, &before[at + 1..], "from the end of {}", at);
        }
        let mut reader = LogReader::open(folder.path(), LogPlace::default()).unwrap();
        for raw in &raw_shapes {
            prop_assert_eq!(&shape(&reader.next_frame().unwrap().unwrap().frame), raw, "batches");
        }
        let mut reader = LogReader::open(folder.path(), LogPlace::default()).unwrap().without_events();
        for raw in &dead {
            prop_assert_eq!(&reader.next_frame().unwrap().unwrap().frame.dead, raw, "bad events alone");
        }
    }
}

#[test]
fn a_place_inside_of_a_frame_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &generate::some_frames(9), 3);
    let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    seal_all(folder.path(), u64::MAX);
    for (place, end, _) in frames.iter().filter(|(place, ..)| place.segment == 1) {
        for offset in [place.offset + 1, end.offset - 1] {
            let said = read_log(folder.path(), LogPlace { segment: 1, offset }).unwrap_err().to_string();
            assert!(said.contains("E1020") && said.contains("no frame begins"), "{said}");
        }
    }
    let behind = LogPlace { segment: 1, offset: 1 << 40 };
    assert!(read_log(folder.path(), behind).unwrap_err().to_string().contains("no frame begins"));
    let later = LogPlace { segment: 7, offset: 0 };
    assert!(read_log(folder.path(), later).unwrap_err().to_string().contains("it ends before"));
}
