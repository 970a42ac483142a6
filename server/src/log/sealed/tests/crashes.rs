//! Kills between any two steps, damage to any file, and readers that walk while segments are replaced.

use std::path::Path;

use proptest::prelude::*;

use super::generate::{frames, key_columns, some_frames};
use super::{Seen, copy, files, read_log, seal_all, write_log};
use crate::log::{LogPlace, LogReader, LogWriter, Sealer, remove_leftovers, segments};

/// What a killed process leaves: read as it is, cleaned up, read again, sealed to the end, read again.
fn whole_after_kill(left: &Path, frames: &[Seen]) {
    let read = |what: &str| assert_eq!(read_log(left, LogPlace::default()).unwrap().0, frames, "{what}");
    read("as it was left");
    remove_leftovers(left).unwrap();
    read("cleaned up");
    assert!(files(left).iter().all(|path| path.extension().is_none_or(|ending| ending != "tmp")));
    seal_all(left, 300);
    read("sealed to the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_kill_between_any_two_steps_leaves_a_whole_log(frames in frames(), per_segment in 1usize..5) {
        let folder = tempfile::tempdir().unwrap();
        write_log(folder.path(), &frames, per_segment);
        let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
        let sealer = Sealer::new(folder.path().to_path_buf(), key_columns()).with_piece_bytes(300);
        let mut copies = Vec::new();
        let mut go_on = || {
            let left = tempfile::tempdir().unwrap();
            copy(folder.path(), left.path());
            copies.push(left);
            true
        };
        while sealer.seal_next(&mut go_on).unwrap().is_some() {}
        for left in &copies {
            whole_after_kill(left.path(), &frames);
        }
        // And where it was told to stop instead.
        for stop_at in 1..=copies.len() {
            let left = tempfile::tempdir().unwrap();
            copy(copies[0].path(), left.path());
            let sealer = Sealer::new(left.path().to_path_buf(), key_columns()).with_piece_bytes(300);
            let mut steps = 0;
            let mut go_on = || { steps += 1; steps != stop_at };
            while sealer.seal_next(&mut go_on).unwrap().is_some() {}
            whole_after_kill(left.path(), &frames);
        }
    }
}

/// Half of a file under its temporary name, a whole file that the manifest does not name: neither counts.
#[test]
fn files_that_the_manifest_does_not_name_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(6), 2);
    let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    seal_all(folder.path(), u64::MAX);
    let sealed = files(folder.path());
    let events = sealed.iter().find(|path| path.parent().unwrap().ends_with("payments")).unwrap();
    std::fs::copy(events, events.with_file_name("99999999999999999999-000000000000-00.parquet")).unwrap();
    std::fs::write(events.with_file_name("x.parquet.tmp"), b"PAR1").unwrap();
    std::fs::write(folder.path().join("manifest.ndjson.tmp"), b"{").unwrap();
    std::fs::write(folder.path().join("events/notes.txt"), b"mine").unwrap();
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0, frames);
    remove_leftovers(folder.path()).unwrap();
    let mut left = files(folder.path());
    left.retain(|path| !path.ends_with("notes.txt"));
    assert_eq!(left, sealed, "a file of someone else stays");
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0, frames);
}

#[test]
fn a_full_disk_leaves_the_segment() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(6), 2);
    let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    // What stands in the way of a file fails its creation or its renaming, as a full disk would.
    for in_the_way in ["frames", "dead", "events", "manifest.ndjson.tmp/x", "manifest.ndjson/x"] {
        let path = folder.path().join(in_the_way);
        let is_folder = in_the_way.ends_with('x');
        if is_folder {
            std::fs::create_dir_all(&path).unwrap()
        } else {
            std::fs::write(&path, b"").unwrap()
        }
        let sealer = Sealer::new(folder.path().to_path_buf(), key_columns());
        let said = sealer.seal_next(&mut || true).unwrap_err().to_string();
        assert!(said.contains(in_the_way.trim_end_matches("/x")), "{in_the_way}: {said}");
        assert_eq!(segments(folder.path()).unwrap(), [0, 1, 2, 3], "{in_the_way}");
        let top = folder.path().join(in_the_way.trim_end_matches("/x"));
        if is_folder {
            std::fs::remove_dir_all(top).unwrap()
        } else {
            std::fs::remove_file(top).unwrap()
        }
        assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0, frames);
        remove_leftovers(folder.path()).unwrap();
    }
    assert_eq!(seal_all(folder.path(), u64::MAX), 3);
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0, frames);
}

#[test]
fn every_flipped_byte_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(4), 2);
    seal_all(folder.path(), u64::MAX);
    let later = LogPlace { segment: 1, offset: 0 };
    let (frames, _) = read_log(folder.path(), later).unwrap();
    for path in files(folder.path()) {
        let whole = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let step = (whole.len() / 150).max(1);
        for at in (0..whole.len()).step_by(step) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(&path, flipped).unwrap();
            let said = read_log(folder.path(), LogPlace::default()).unwrap_err().to_string();
            assert!(said.contains("E1020") && said.contains(&name), "byte {at} of {name}: {said}");
        }
        for cut in [&whole[..whole.len() / 2], b""] {
            std::fs::write(&path, cut).unwrap();
            let said = read_log(folder.path(), LogPlace::default()).map(|_| "read").unwrap_or("refused");
            assert_eq!(said, if name == "00000000000000000002.log" { "read" } else { "refused" }, "{name} cut");
        }
        std::fs::remove_file(&path).unwrap();
        let read = read_log(folder.path(), LogPlace::default());
        if !name.ends_with(".log") {
            let said = read.unwrap_err().to_string();
            assert!(said.contains(if name.starts_with("manifest") { "0000.log" } else { &name }), "{name}: {said}");
        }
        // A reader that does not need the file reads on.
        if name.starts_with("00000000000000000000-") {
            assert_eq!(read_log(folder.path(), later).unwrap().0, frames);
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(read_log(folder.path(), later).unwrap().0, frames);
}

#[test]
fn a_missing_segment_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(8), 2);
    let sealer = Sealer::new(folder.path().to_path_buf(), key_columns());
    sealer.seal_next(&mut || true).unwrap();
    std::fs::remove_file(folder.path().join("00000000000000000001.log")).unwrap();
    let said = read_log(folder.path(), LogPlace::default()).unwrap_err().to_string();
    assert!(said.contains("00000000000000000001.log") && said.contains("missing"), "{said}");
    let said = sealer.seal_next(&mut || true).unwrap_err().to_string();
    assert!(said.contains("00000000000000000001.log") && said.contains("missing"), "{said}");
}

/// Readers at every place of the log, each a frame further after each segment that is sealed under it.
#[test]
fn readers_walk_on_while_segments_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(12), 2);
    let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    let open = |at: usize| (at, LogReader::open(folder.path(), frames[at].0).unwrap());
    let mut readers: Vec<(usize, LogReader)> = (0..frames.len()).map(open).collect();
    let sealer = Sealer::new(folder.path().to_path_buf(), key_columns());
    loop {
        for (at, reader) in &mut readers {
            match reader.next_frame().unwrap() {
                Some(read) => assert_eq!(super::seen(&read), frames[*at]),
                None => assert_eq!(*at, frames.len()),
            }
            *at = (*at + 1).min(frames.len());
        }
        if sealer.seal_next(&mut || true).unwrap().is_none() {
            break;
        }
    }
    for (mut at, mut reader) in readers {
        while let Some(read) = reader.next_frame().unwrap() {
            assert_eq!(super::seen(&read), frames[at]);
            at += 1;
        }
        assert_eq!(at, frames.len());
    }
}

/// The writer goes on behind what is sealed, also where the open segment is gone: it had nothing.
#[test]
fn the_log_goes_on_behind_what_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let frames = some_frames(6);
    write_log(folder.path(), &frames[..4], 2);
    seal_all(folder.path(), u64::MAX);
    std::fs::remove_file(folder.path().join("00000000000000000002.log")).unwrap();
    let (_, end) = read_log(folder.path(), LogPlace::default()).unwrap();
    assert_eq!(end, LogPlace { segment: 2, offset: 0 });
    let mut writer = LogWriter::open(folder.path(), end).unwrap();
    writer.add(&frames[4]);
    writer.write().unwrap();
    writer.sync().unwrap();
    let (found, _) = read_log(folder.path(), end).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0.len(), 5);
}
