//! Compaction and cuts: the same frames and events out of fewer files, whatever is killed or damaged, and whoever reads
//! meanwhile; and of what is cut, the numbers.

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;

use super::generate::{frames, key_columns, some_frames};
use super::scans::{naive, request, scanned};
use super::{Seen, copy, files, read_log, seal_all, seen, write_log};
use crate::log::sealed::{Manifest, SealedFrames, Wanted};
use crate::log::{Frame, LogPlace, LogReader, ScanRequest, SealedLog, Sealer, cut_of, remove_leftovers, summary};

fn sealer(folder: &Path) -> Sealer {
    Sealer::new(folder.to_path_buf(), key_columns())
}

/// Compacts until nothing pays any more, and tells how often it did.
fn compact_all(folder: &Path) -> usize {
    let mut sealer = sealer(folder);
    let mut steps = 0;
    while sealer.compact_next(&mut || true).unwrap_or_else(|e| panic!("{e}")).is_some() {
        steps += 1;
    }
    steps
}

fn pieces(folder: &Path) -> usize {
    Manifest::load(folder).unwrap().pieces.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compacted_frames_and_events_are_the_same(
        frames in frames(),
        per_segment in 1usize..3,
        piece_bytes in prop_oneof![Just(1u64), Just(200)],
        slice_bytes in prop_oneof![Just(1u64), Just(150), Just(u64::MAX)],
        picks in ((0usize..20, 0u64..1000), (any::<u8>(), any::<u8>()), any::<bool>(), any::<bool>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_log(folder, &frames, per_segment);
        let (before, end) = read_log(folder, LogPlace::default()).unwrap();
        seal_all(folder, piece_bytes);
        let ((pick, cut), buckets, some, other_key) = picks;
        let request = request(&frames, pick, cut, buckets, some, other_key);
        let expected = naive(folder, &request);
        let sealed = pieces(folder);
        let steps = compact_all(folder);
        prop_assert!(sealed < 4 || steps > 0 || pieces(folder) == sealed, "{} pieces", sealed);
        let named: usize = Manifest::load(folder).unwrap().pieces.iter().map(|piece| piece.files().count()).sum();
        let parquet = |path: &std::path::PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
        prop_assert_eq!(files(folder).iter().filter(|path| parquet(path)).count(), named, "old files are gone");
        prop_assert_eq!(&read_log(folder, LogPlace::default()).unwrap(), &(before.clone(), end));
        for at in 0..before.len() {
            prop_assert_eq!(&read_log(folder, before[at].0).unwrap().0, &before[at..], "from the front of {}", at);
        }
        prop_assert_eq!(scanned(folder, &request).0, expected);
        for piece in &Manifest::load(folder).unwrap().pieces {
            let mut found = Vec::new();
            let sealed = SealedFrames::open(folder, piece, piece.from(), &Wanted::All).unwrap().unwrap();
            let mut sealed = sealed.with_slices_of(slice_bytes);
            while let Some(read) = sealed.next_frame().unwrap() {
                found.push(seen(&read));
            }
            let inside = |seen: &&Seen| (piece.from()..piece.to()).contains(&seen.0);
            prop_assert_eq!(found, before.iter().filter(inside).cloned().collect::<Vec<_>>(), "in slices");
        }
    }
}

/// What a killed process leaves: read as it is, cleaned up, compacted to the end.
fn whole_after_kill(left: &Path, frames: &[Seen]) {
    let read = |what: &str| assert_eq!(read_log(left, LogPlace::default()).unwrap().0, frames, "{what}");
    read("as it was left");
    remove_leftovers(left).unwrap();
    read("cleaned up");
    let named = Manifest::load(left).unwrap().pieces.iter().map(|piece| piece.files().count()).sum::<usize>();
    let parquet = |path: &std::path::PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
    assert_eq!(files(left).iter().filter(|path| parquet(path)).count(), named, "nothing is left over");
    compact_all(left);
    read("compacted");
}

#[test]
fn a_kill_between_any_two_steps_of_a_compaction_leaves_a_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut frames = some_frames(11);
    frames[3].source = "logins".to_string();
    frames[6].source = "logins".to_string();
    write_log(folder.path(), &frames, 2);
    let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    seal_all(folder.path(), u64::MAX);
    let mut copies = Vec::new();
    let mut go_on = || {
        let left = tempfile::tempdir().unwrap();
        copy(folder.path(), left.path());
        copies.push(left);
        true
    };
    let mut sealer = sealer(folder.path());
    while sealer.compact_next(&mut go_on).unwrap().is_some() {}
    assert!(copies.len() >= 3 && pieces(folder.path()) <= 2, "{} copies", copies.len());
    for left in &copies {
        whole_after_kill(left.path(), &frames);
    }
    for stop_at in 1..=copies.len() {
        let left = tempfile::tempdir().unwrap();
        copy(copies[0].path(), left.path());
        let mut steps = 0;
        let mut go_on = || {
            steps += 1;
            steps != stop_at
        };
        while self::sealer(left.path()).compact_next(&mut go_on).unwrap().is_some() {}
        whole_after_kill(left.path(), &frames);
    }
}

#[test]
fn a_kill_between_any_two_steps_of_a_cut_leaves_the_log_with_it_or_without() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(8), 1);
    let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    seal_all(folder.path(), u64::MAX);
    let mut copies = Vec::new();
    let mut go_on = || {
        let left = tempfile::tempdir().unwrap();
        copy(folder.path(), left.path());
        copies.push(left);
        true
    };
    let to = LogPlace { segment: 5, offset: 0 };
    sealer(folder.path()).cut(to, &mut go_on).unwrap().unwrap();
    assert!(copies.len() >= 2);
    for left in copies {
        let left = left.path();
        for what in ["as it was left", "cleaned up"] {
            let (found, _) = read_log(left, LogPlace::default()).unwrap();
            let gone = cut_of(left).unwrap().sources.get("payments").map_or(0, |cut| cut.consumed as usize / 100);
            assert!([0, 5].contains(&gone), "{what}");
            assert_eq!(found, frames[gone..], "{what}");
            remove_leftovers(left).unwrap();
        }
        sealer(left).cut(to, &mut || true).unwrap();
        assert_eq!(read_log(left, LogPlace::default()).unwrap().0, frames[5..]);
        assert_eq!(cut_of(left).unwrap().sources["payments"].consumed, 500);
    }
}

/// Readers and scans at every place of the log, each a step further after each step of sealing, compacting and cutting.
#[test]
fn readers_and_scans_go_on_while_pieces_are_replaced_and_cut() {
    let folder = tempfile::tempdir().unwrap();
    let frames = some_frames(24);
    write_log(folder.path(), &frames, 1);
    let (all, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    seal_all(folder.path(), u64::MAX);
    let mut readers: Vec<(usize, LogReader)> =
        (0..all.len()).map(|at| (at, LogReader::open(folder.path(), all[at].0).unwrap())).collect();
    let request = whole(&frames);
    let log = SealedLog::open(folder.path()).unwrap();
    let sealed = all.iter().filter(|seen| seen.0 < log.end()).count();
    let mut scan = log.scan(request.clone());
    drop(log);
    let mut scanned = scan.next_events().unwrap().map_or(0, |scanned| scanned.batch.len());
    let mut sealer = sealer(folder.path());
    loop {
        for (at, reader) in &mut readers {
            if let Some(read) = reader.next_frame().unwrap() {
                assert_eq!(seen(&read), all[*at]);
            }
            *at += 1;
        }
        if sealer.compact_next(&mut || true).unwrap().is_none() {
            break;
        }
    }
    let kept = files(folder.path()).len();
    let cut = sealer.cut(LogPlace { segment: 16, offset: 0 }, &mut || true).unwrap().unwrap();
    assert_eq!((cut.to().offset, cut_of(folder.path()).unwrap().to()), (0, cut.to()));
    assert!(cut.to().segment >= 12, "most of it goes");
    for (mut at, mut reader) in readers {
        while let Some(read) = reader.next_frame().unwrap() {
            assert_eq!(seen(&read), all[at]);
            at += 1;
        }
        assert!(at >= all.len());
    }
    while let Some(found) = scan.next_events().unwrap() {
        scanned += found.batch.len();
    }
    assert_eq!(scanned, sealed * 99, "an open scan sees what was there when it began");
    assert_eq!(files(folder.path()).len(), kept, "its files are still there");
    drop(scan);
    sealer.remove_replaced().unwrap();
    assert!(files(folder.path()).len() < kept, "and go when it has ended");
    let first = all.iter().position(|seen| seen.0 == cut.to()).unwrap();
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0, all[first..]);
    let left = super::scans::scanned(folder.path(), &request).0;
    assert_eq!(left.len(), (sealed - first) * 99);
}

/// All payments.
fn whole(frames: &[Frame]) -> ScanRequest {
    ScanRequest {
        source: "payments".to_string(),
        schema: frames[0].schema.clone(),
        key: vec![0],
        until: HashMap::from([(0, u64::MAX)]),
        buckets: 0..=255,
        columns: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_is_remembered(frames in frames(), per_segment in 1usize..4, at in 0u64..6, again in 0u64..9) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_log(folder, &frames, per_segment);
        let (all, _) = read_log(folder, LogPlace::default()).unwrap();
        seal_all(folder, u64::MAX);
        let mut sealer = sealer(folder);
        for segment in [at, again] {
            sealer.cut(LogPlace { segment, offset: 0 }, &mut || true).unwrap();
            sealer.compact_next(&mut || true).unwrap();
        }
        let cut = Manifest::load(folder).unwrap().cut;
        prop_assert_eq!(&cut, &*cut_of(folder).unwrap());
        let (left, _) = read_log(folder, LogPlace::default()).unwrap();
        let gone = all.len() - left.len();
        prop_assert_eq!(&left[..], &all[gone..]);
        prop_assert_eq!(left.first().map_or(cut.to(), |seen| seen.0), cut.to().max(all.first().map_or(cut.to(), |seen| seen.0)));
        for source in super::generate::SOURCES {
            let of = || frames[..gone].iter().filter(|frame| frame.source == source);
            let known = cut.sources.get(source).cloned().unwrap_or_default();
            let batches = || of().flat_map(|frame| &frame.batches);
            prop_assert_eq!(known.events, batches().map(|batch| batch.len() as u64).sum::<u64>());
            prop_assert_eq!(known.consumed, known.events + of().map(|frame| frame.dead.len() as u64).sum::<u64>());
            prop_assert_eq!(known.arrival, batches().flat_map(|batch| &batch.arrivals).max().copied());
            for frame in of() {
                prop_assert!(known.positions[&frame.partition] >= frame.first_offset + frame.consumed);
                for time in frame.batches.iter().flat_map(|batch| &batch.times) {
                    prop_assert!(known.ranges().iter().any(|(from, to)| (from..=to).contains(&time)));
                }
            }
        }
        let numbers = summary(folder).unwrap();
        prop_assert_eq!(numbers.cut, cut);
    }
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(10), 1);
    seal_all(folder.path(), u64::MAX);
    let events = files(&folder.path().join("events/payments"));
    let whole = std::fs::read(&events[2]).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&events[2], flipped).unwrap();
    let mut sealer = sealer(folder.path());
    let said = sealer.compact_next(&mut || true).unwrap_err().to_string();
    let name = events[2].file_name().unwrap().to_str().unwrap();
    assert!(said.contains("E1020") && said.contains(name), "{said}");
    assert!(sealer.compact_next(&mut || true).unwrap().is_none(), "not tried again and again");
    let said = sealer.cut(LogPlace { segment: 5, offset: 0 }, &mut || true).unwrap_err().to_string();
    assert!(said.contains(name), "{said}");
    std::fs::write(&events[2], whole).unwrap();
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0.len(), 10);
    assert!(compact_all(folder.path()) > 0);
}

/// A damaged file of one source, and a walk for another.
#[test]
fn a_walk_opens_files_of_its_sources_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut frames = some_frames(8);
    frames.iter_mut().step_by(2).for_each(|frame| frame.source = "logins".to_string());
    write_log(folder.path(), &frames, 2);
    seal_all(folder.path(), u64::MAX);
    compact_all(folder.path());
    for path in files(&folder.path().join("events/logins")) {
        std::fs::write(path, b"PAR1").unwrap();
    }
    let walk = |source: &str| {
        let mut reader = LogReader::open(folder.path(), LogPlace::default()).unwrap().of_sources(&[source]);
        let mut events = 0;
        while let Some(read) = reader.next_frame()? {
            events += read.frame.batches.iter().map(|batch| batch.len()).sum::<usize>();
        }
        Ok::<usize, crate::log::LogError>(events)
    };
    assert_eq!(walk("payments").unwrap(), 4 * 99);
    let said = walk("logins").unwrap_err().to_string();
    assert!(said.contains("E1020") && said.contains("events/logins"), "{said}");
}

/// A manifest as the first format had it.
#[test]
fn the_first_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), &some_frames(8), 1);
    let (frames, _) = read_log(folder.path(), LogPlace::default()).unwrap();
    seal_all(folder.path(), u64::MAX);
    let path = folder.path().join("manifest.ndjson");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut old = String::new();
    for line in &lines[..lines.len() - 1] {
        let mut piece: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["log_bytes", "accepted"] {
            piece.as_object_mut().unwrap().remove(key);
        }
        old += &format!("{piece}\n");
    }
    let (count, checksum) = (lines.len() - 1, crc32fast::hash(old.as_bytes()));
    old += &format!("{{\"format\":1,\"pieces\":{count},\"checksum\":{checksum}}}\n");
    std::fs::write(&path, old).unwrap();
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0, frames);
    assert!(compact_all(folder.path()) > 0);
    assert_eq!(read_log(folder.path(), LogPlace::default()).unwrap().0, frames);
}
