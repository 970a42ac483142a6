//! When events could first be read: one file a source, a note for each step in which events were published.
//!
//! Training needs it: the few milliseconds between an event's arrival and its commit are a time in which serving did not know
//! of it. Only live sources that do not declare arrivals need notes; elsewhere the data say when an event was known. A
//! note is written before the gate opens, without an fsync: a killed process loses none, and a machine that loses power the
//! last of them, whose events then count as readable from the next start on.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::LogError;

/// Partition, next offset, time, checksum.
const NOTE: usize = 4 + 8 + 8 + 4;
/// Ending of the files of notes.
pub(super) const NOTES_ENDING: &str = "commits";

/// By partition: next offsets, ascending, and when the events before them could be read.
pub type Notes = BTreeMap<u32, Vec<(u64, i64)>>;

/// Writes notes.
pub struct CommitLog {
    folder: PathBuf,
    files: HashMap<String, File>,
    /// sources that had no file yet
    new: Vec<String>,
}

fn path_of(folder: &Path, source: &str) -> PathBuf {
    folder.join(format!("{source}.{NOTES_ENDING}"))
}

/// All notes of a source. What stands behind a broken note is left out: it was never whole.
pub fn read_commits(folder: &Path, source: &str) -> Result<Notes, LogError> {
    let path = path_of(folder, source);
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(LogError::Io { path: path.display().to_string(), error });
        }
        _ => {}
    }
    let mut notes = Notes::new();
    for (partition, next, time) in bytes.chunks_exact(NOTE).map_while(decode) {
        notes.entry(partition).or_default().push((next, time));
    }
    Ok(notes)
}

fn encode(partition: u32, next: u64, time: i64) -> [u8; NOTE] {
    let mut note = [0; NOTE];
    note[..4].copy_from_slice(&partition.to_le_bytes());
    note[4..12].copy_from_slice(&next.to_le_bytes());
    note[12..20].copy_from_slice(&time.to_le_bytes());
    let checksum = crc32fast::hash(&note[..20]);
    note[20..].copy_from_slice(&checksum.to_le_bytes());
    note
}

fn decode(note: &[u8]) -> Option<(u32, u64, i64)> {
    let (partition, rest) = note.split_first_chunk()?;
    let (next, rest) = rest.split_first_chunk()?;
    let (time, rest) = rest.split_first_chunk()?;
    let sound = crc32fast::hash(&note[..20]).to_le_bytes() == *rest;
    sound.then(|| (u32::from_le_bytes(*partition), u64::from_le_bytes(*next), i64::from_le_bytes(*time)))
}

impl CommitLog {
    /// Of the sources whose commits are noted, in the folder of the log.
    pub fn open(folder: &Path, sources: &[&str]) -> Result<CommitLog, LogError> {
        let (mut files, mut new) = (HashMap::new(), Vec::new());
        for source in sources {
            let path = path_of(folder, source);
            let named = |error| LogError::Io { path: path.display().to_string(), error };
            let whole: usize = read_commits(folder, source)?.values().map(Vec::len).sum();
            std::fs::create_dir_all(folder).map_err(named)?;
            if !path.exists() {
                new.push(source.to_string());
            }
            let file = OpenOptions::new().create(true).append(true).open(&path).map_err(named)?;
            // The end of a note that was being written when the power went.
            file.set_len((whole * NOTE) as u64).map_err(named)?;
            files.insert(source.to_string(), file);
        }
        Ok(CommitLog { folder: folder.to_path_buf(), files, new })
    }

    /// Whether commits of a source are noted.
    pub fn notes(&self, source: &str) -> bool {
        self.files.contains_key(source)
    }

    /// Whether nothing was noted for a source before: its older events came in a time without notes.
    pub fn is_new(&self, source: &str) -> bool {
        self.new.iter().any(|new| new == source)
    }

    /// Notes that the events before an offset can be read from `time` on.
    pub fn note(&mut self, source: &str, partition: u32, next: u64, time: i64) -> Result<(), LogError> {
        let Some(file) = self.files.get_mut(source) else { return Ok(()) };
        let path = || path_of(&self.folder, source).display().to_string();
        file.write_all(&encode(partition, next, time)).map_err(|error| LogError::Io { path: path(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_torn_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = CommitLog::open(folder.path(), &["a", "b"]).unwrap();
        for (partition, next, time) in [(0, 5, 100), (3, 1, 150), (0, 9, 200)] {
            log.note("a", partition, next, time).unwrap();
        }
        log.note("c", 0, 1, 1).unwrap();
        assert!(log.notes("b") && !log.notes("c"));
        drop(log);
        let expected = Notes::from([(0, vec![(5, 100), (9, 200)]), (3, vec![(1, 150)])]);
        assert_eq!(read_commits(folder.path(), "a").unwrap(), expected);
        let path = folder.path().join("a.commits");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut log = CommitLog::open(folder.path(), &["a"]).unwrap();
        log.note("a", 0, 7, 300).unwrap();
        let expected = Notes::from([(0, vec![(5, 100), (7, 300)]), (3, vec![(1, 150)])]);
        assert_eq!(read_commits(folder.path(), "a").unwrap(), expected);
    }
}
