//! A log with an archive: kills between any two steps, machines that are lost, files that are fetched and evicted, damage, and
//! strangers. The archive is a folder here; `tests/` has one in an object store.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::generate::{frames, key_columns, some_frames};
use super::{Seen, copy, files, read_log, seal_all, write_log};
use crate::log::sealed::archive::{Archiving, attach};
use crate::log::sealed::disk::remove_sealed;
use crate::log::sealed::manifest::Manifest;
use crate::log::{CommitLog, LogError, LogPlace, Sealer, read_commits, remove_leftovers, segments};
use crate::objects::{ObjectUrl, Objects};
use crate::settings::S3Settings;

/// A machine's data directory and an archive, as they are at some moment.
struct Machine {
    data: TempDir,
    store: TempDir,
}

impl Machine {
    fn new() -> Machine {
        Machine { data: tempfile::tempdir().unwrap(), store: tempfile::tempdir().unwrap() }
    }

    fn log(&self) -> std::path::PathBuf {
        self.data.path().join("log")
    }

    fn start(&self, cache_bytes: u64) -> Result<(), LogError> {
        let archiving = Archiving {
            objects: Arc::new(Objects::new(S3Settings::default())),
            url: ObjectUrl::Local(self.store.path().to_path_buf()),
            cache_bytes,
            beside: self.data.path().join("files"),
        };
        attach(&self.log(), Some(archiving))?;
        remove_leftovers(&self.log())
    }

    fn copied(&self) -> Machine {
        let copied = Machine::new();
        copy(self.data.path(), copied.data.path());
        copy(self.store.path(), copied.store.path());
        copied
    }

    /// Another machine with the same archive.
    fn replaced(self) -> Machine {
        Machine { data: tempfile::tempdir().unwrap(), ..self }
    }

    fn written(frames: &[crate::log::Frame], per_segment: usize) -> (Machine, Vec<Seen>) {
        let machine = Machine::new();
        write_log(&machine.log(), frames, per_segment);
        let (seen, _) = read_log(&machine.log(), LogPlace::default()).unwrap();
        (machine, seen)
    }

    fn read(&self) -> Vec<Seen> {
        read_log(&self.log(), LogPlace::default()).unwrap_or_else(|e| panic!("{e}")).0
    }

    /// Parquet files on this machine.
    fn local(&self) -> Vec<std::path::PathBuf> {
        let parquet = |path: &std::path::PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
        files(&self.log()).into_iter().filter(parquet).collect()
    }

    /// A file of the log as the archive has it.
    fn archived(&self, path: &str) -> std::path::PathBuf {
        let stem = self.store.path().join(path.strip_suffix("parquet").unwrap());
        let is_it = |path: &std::path::PathBuf| path.to_str().unwrap().starts_with(stem.to_str().unwrap());
        files(self.store.path()).into_iter().find(is_it).unwrap()
    }

    fn error(&self) -> String {
        read_log(&self.log(), LogPlace::default()).unwrap_err().to_string()
    }
}

/// Whatever a killed process leaves: the machine goes on, and another one has what was archived and no segment that is gone.
fn whole_after_kill(left: Machine, frames: &[Seen]) {
    let raw = segments(&left.log()).unwrap();
    left.start(0).unwrap();
    assert_eq!(left.read(), frames, "cleaned up");
    let lost = left.copied().replaced();
    lost.start(0).unwrap();
    let archived = if lost.log().exists() { lost.read() } else { Vec::new() };
    assert_eq!(archived, frames[..archived.len()]);
    let next = frames.get(archived.len()).map_or(u64::MAX, |(place, ..)| place.segment);
    assert!(raw.first().is_none_or(|first| *first <= next), "segments {raw:?} and {} frames archived", archived.len());
    seal_all(&left.log(), 300);
    assert_eq!(left.read(), frames, "sealed to the end");
    let named: usize = Manifest::load(&left.log()).unwrap().pieces.iter().map(|piece| piece.files().count()).sum();
    let parquet = |path: &&std::path::PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
    assert_eq!(files(left.store.path()).iter().filter(parquet).count(), named, "nothing else is in the archive");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_kill_between_any_two_steps_loses_nothing(frames in frames(), per_segment in 1usize..5) {
        let (machine, frames) = Machine::written(&frames, per_segment);
        machine.start(0).unwrap();
        let sealer = Sealer::new(machine.log(), key_columns()).with_piece_bytes(300);
        let mut copies = Vec::new();
        let mut go_on = || {
            copies.push(machine.copied());
            true
        };
        while sealer.seal_next(&mut go_on).unwrap().is_some() {}
        // Some of the steps, the first and the last ones among them.
        let step = (copies.len() / 12).max(1);
        for left in copies.into_iter().step_by(step).chain([machine]) {
            whole_after_kill(left, &frames);
        }
    }
}

#[test]
fn files_are_fetched_when_they_are_read_and_evicted_when_there_are_too_many() {
    let (machine, frames) = Machine::written(&some_frames(24), 2);
    machine.start(u64::MAX).unwrap();
    seal_all(&machine.log(), u64::MAX);
    let (all, named) = (machine.local(), Manifest::load(&machine.log()).unwrap());
    assert_eq!(all.len(), named.pieces.iter().map(|piece| piece.files().count()).sum::<usize>());
    // A smaller cache from the next start on: reading leaves the newest of it.
    let bytes: u64 = all.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    machine.start(bytes / 3).unwrap();
    for path in &all {
        std::fs::remove_file(path).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(machine.read(), frames);
        let left: u64 = machine.local().iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
        assert!(left > 0 && left <= bytes / 3, "{left} of {bytes} bytes");
    }
    // Many readers at once, in a cache that holds one file.
    machine.start(0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..2).for_each(|_| assert_eq!(machine.read(), frames)));
        }
    });
    assert_eq!(machine.local().len(), 1);
}

/// What the archive does not name yet is never evicted, and its segments stay.
#[test]
fn an_archive_that_is_away_holds_sealing_up() {
    let (machine, frames) = Machine::written(&some_frames(12), 2);
    machine.start(0).unwrap();
    let sealer = Sealer::new(machine.log(), key_columns());
    sealer.seal_next(&mut || true).unwrap();
    let raw = segments(&machine.log()).unwrap();
    // A file in the place of the folder: nothing can be put there, and nothing fetched.
    let aside = machine.store.path().with_extension("aside");
    std::fs::rename(machine.store.path(), &aside).unwrap();
    std::fs::write(machine.store.path(), b"").unwrap();
    let said = sealer.seal_next(&mut || true).unwrap_err().to_string();
    assert!(said.contains("E1040"), "{said}");
    assert_eq!(segments(&machine.log()).unwrap(), raw);
    assert!(machine.error().contains("E1040"), "{}", machine.error());
    // It starts without its archive, and another machine does not.
    machine.start(0).unwrap();
    assert_eq!(segments(&machine.log()).unwrap(), raw);
    let empty = Machine::new();
    std::fs::remove_dir(empty.store.path()).unwrap();
    std::fs::write(empty.store.path(), b"").unwrap();
    let said = empty.start(0).unwrap_err().to_string();
    assert!(said.contains("E1040"), "{said}");
    std::fs::remove_file(machine.store.path()).unwrap();
    std::fs::rename(&aside, machine.store.path()).unwrap();
    assert_eq!(seal_all(&machine.log(), u64::MAX) as usize, raw.len() - 1);
    assert_eq!(machine.read(), frames);
}

#[test]
fn damage_in_the_archive_is_named_and_damage_here_is_healed() {
    let (machine, frames) = Machine::written(&some_frames(8), 2);
    machine.start(u64::MAX).unwrap();
    seal_all(&machine.log(), u64::MAX);
    let local = machine.local();
    for path in &local {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[9] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(machine.read(), frames, "damaged files come from the archive again");
    for path in &local {
        let there = machine.archived(path.strip_prefix(machine.log()).unwrap().to_str().unwrap());
        let whole = std::fs::read(&there).unwrap();
        let flipped = [&whole[..9], &[whole[9] ^ 1], &whole[10..]].concat();
        for damaged in [Some(flipped.as_slice()), Some(&whole[..9]), None] {
            std::fs::remove_file(path).unwrap_or_default();
            damaged.map_or_else(|| std::fs::remove_file(&there), |bytes| std::fs::write(&there, bytes)).unwrap();
            let said = machine.error();
            assert!(said.contains("E1020") && said.contains(&there.display().to_string()), "{said}");
        }
        std::fs::write(&there, whole).unwrap();
    }
    assert_eq!(machine.read(), frames);
}

/// Two logs with one archive, a data directory from before, a log whose archive is not named any more.
#[test]
fn strangers_are_kept_out() {
    let (machine, frames) = Machine::written(&some_frames(8), 2);
    machine.start(0).unwrap();
    let sealer = Sealer::new(machine.log(), key_columns());
    sealer.seal_next(&mut || true).unwrap();
    let before = machine.copied();
    sealer.seal_next(&mut || true).unwrap();
    let (other, _) = Machine::written(&some_frames(6), 3);
    let refused = |machine: &Machine, log: &Path| {
        let archiving = Archiving {
            objects: Arc::new(Objects::new(S3Settings::default())),
            url: ObjectUrl::Local(machine.store.path().to_path_buf()),
            cache_bytes: 0,
            beside: machine.data.path().join("files"),
        };
        let said = attach(log, Some(archiving)).unwrap_err().to_string();
        assert!(said.contains("E1041"), "{said}");
    };
    refused(&machine, &other.log());
    refused(&machine, &before.log());
    // One that started when the archive was as it knew it, and is overtaken.
    let overtaken = machine.copied();
    overtaken.start(0).unwrap();
    std::fs::remove_dir_all(overtaken.store.path()).unwrap();
    assert_eq!(seal_all(&machine.log(), u64::MAX), 2);
    copy(machine.store.path(), overtaken.store.path());
    let sealer = Sealer::new(overtaken.log(), key_columns());
    let said = sealer.seal_next(&mut || true).unwrap_err().to_string();
    assert!(said.contains("E1041"), "{said}");
    assert_eq!(
        files(machine.store.path()).len(),
        files(overtaken.store.path()).len(),
        "nothing was written or removed"
    );
    let said = attach(&machine.log(), None).unwrap_err().to_string();
    assert!(said.contains("E1042") && said.contains(&machine.store.path().display().to_string()), "{said}");
    // Another archive, which is empty, and then has a copy of the old one.
    let moved = Machine { store: tempfile::tempdir().unwrap(), ..machine };
    let said = moved.start(0).unwrap_err().to_string();
    assert!(said.contains("E1042"), "{said}");
    copy(overtaken.store.path(), moved.store.path());
    moved.start(0).unwrap();
    assert_eq!(moved.read(), frames);
}

/// An archive for a log that has been sealed for long, and what stands beside the log.
#[test]
fn an_archive_can_begin_later_and_keeps_what_is_beside_the_log() {
    let (machine, frames) = Machine::written(&some_frames(8), 2);
    seal_all(&machine.log(), u64::MAX);
    std::fs::create_dir(machine.data.path().join("files")).unwrap();
    std::fs::write(machine.data.path().join("files/flights.json"), b"[\"a.csv\"]").unwrap();
    let mut notes = CommitLog::open(&machine.log(), &["payments"]).unwrap();
    notes.note("payments", 0, 5, 100).unwrap();
    machine.start(0).unwrap();
    assert_eq!(seal_all(&machine.log(), u64::MAX), 0);
    assert_eq!(machine.local().len(), 1, "everything is in the archive");
    // More of all of it, by the next process.
    notes.note("payments", 0, 9, 200).unwrap();
    machine.start(0).unwrap();
    let mut writer = crate::log::LogWriter::open(&machine.log(), LogPlace { segment: 4, offset: 0 }).unwrap();
    writer.set_segment_bytes(1);
    writer.add(&some_frames(9)[8]);
    writer.write().unwrap();
    writer.rotate().unwrap();
    assert_eq!(seal_all(&machine.log(), u64::MAX), 1);
    let expected = (machine.read(), read_commits(&machine.log(), "payments").unwrap());
    assert_eq!(expected.0[..8], frames);
    let replaced = machine.replaced();
    replaced.start(u64::MAX).unwrap();
    assert_eq!((replaced.read(), read_commits(&replaced.log(), "payments").unwrap()), expected);
    assert_eq!(std::fs::read(replaced.data.path().join("files/flights.json")).unwrap(), b"[\"a.csv\"]");
    // One file that no manifest names any more.
    let file = Manifest::load(&replaced.log()).unwrap().pieces[0].frames.clone();
    let there = replaced.archived(&file.path);
    remove_sealed(&replaced.log(), &file.path).unwrap();
    assert!(!replaced.log().join(&file.path).exists() && !there.exists());
    assert!(replaced.error().contains("missing"), "{}", replaced.error());
}

/// A manifest of somebody who means no good.
#[test]
fn an_archive_cannot_write_where_no_log_is() {
    let (machine, _) = Machine::written(&some_frames(4), 2);
    machine.start(0).unwrap();
    seal_all(&machine.log(), u64::MAX);
    let whole = Manifest::load(&machine.log()).unwrap();
    for odd in [
        "../evil.parquet",
        "/evil.parquet",
        "events/../../evil.parquet",
        "frames/x.so",
        "framesx/x.parquet",
        "frames//x.parquet",
    ] {
        let mut manifest = whole.clone();
        manifest.pieces[0].frames.path = odd.to_string();
        std::fs::write(machine.store.path().join("manifest.ndjson"), manifest.lines().unwrap()).unwrap();
        let other = Machine { data: tempfile::tempdir().unwrap(), store: tempfile::tempdir().unwrap() };
        copy(machine.store.path(), other.store.path());
        let said = other.start(0).unwrap_err().to_string();
        assert!(said.contains("E1020") && said.contains(odd), "{said}");
        assert!(!other.log().exists(), "nothing was restored");
    }
}
