//! Loading the history of a source: files of the same events at rest, read once while the stream goes on.
//!
//! The list of files is fixed, durably, when the history is first seen. Each file is a partition, its events have the offsets
//! of their rows, and they go through the log like all events: a new start goes on where the log ends. One chunk is under way
//! at a time, so that a push never waits for more than that; the next one is decoded meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidemill_features::definitions::{HISTORY_PARTITIONS, HistoryFiles};
use tidemill_features::time::rfc3339;
use tokio::task::JoinHandle;

use super::Wait;
use super::feed::{Feed, write_durably};
use super::lake::{Fetched, Lake};
use crate::failure::Failure;
use crate::limits::{HISTORY_FILES_MAX, HISTORY_SAYS_EVERY};
use crate::source::files::{FileReader, Format};

/// How far the history of a source is loaded, for reads and for `status`.
#[derive(Debug, Default)]
pub struct HistoryProgress {
    incomplete: AtomicBool,
    files: AtomicU32,
    files_done: AtomicU32,
    stopped: Mutex<Option<String>>,
}

impl HistoryProgress {
    /// Whether events of the history are missing.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Relaxed)
    }

    /// Files that are loaded, and of how many.
    pub fn files(&self) -> (u32, u32) {
        (self.files_done.load(Ordering::Relaxed), self.files.load(Ordering::Relaxed))
    }

    /// Why it does not go on.
    pub fn stopped(&self) -> Option<String> {
        self.stopped.lock().clone()
    }

    fn show(&self, list: &HistoryList) {
        self.files.store(list.files.len() as u32, Ordering::Relaxed);
        self.files_done.store(list.files.iter().filter(|file| file.rows.is_some()).count() as u32, Ordering::Relaxed);
    }
}

/// The files of a history as they were when it was first seen.
#[derive(Debug, Deserialize, Serialize)]
struct HistoryList {
    glob: String,
    /// the time fence under which they are read
    until: Option<i64>,
    files: Vec<ListedFile>,
}

#[derive(Debug, Deserialize, Serialize)]
struct ListedFile {
    /// below the project, or a URL
    name: String,
    bytes: u64,
    /// how many it has, once all of them are in the log
    rows: Option<u64>,
}

fn list_path(data_dir: &Path, source: &str) -> PathBuf {
    data_dir.join("files").join(format!("{source}.history.json"))
}

impl HistoryList {
    /// None: the history was never seen here.
    fn load(path: &Path) -> Result<Option<HistoryList>, String> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| format!("{}: {e}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Of the files that are there now.
    fn of(history: &HistoryFiles, lake: &Lake<'_>) -> Result<HistoryList, String> {
        let files = lake.matching(&history.path)?;
        if files.is_empty() {
            return Err(format!("no file matches `{}`", history.path));
        }
        if files.len() > HISTORY_FILES_MAX {
            let (found, glob) = (files.len(), &history.path);
            return Err(format!("{found} files match `{glob}`, more than {HISTORY_FILES_MAX}; put them together"));
        }
        let listed = |(name, bytes): (String, u64)| {
            Format::of(Path::new(&name), None)?;
            Ok(ListedFile { name, bytes, rows: None })
        };
        let files = files.into_iter().map(listed).collect::<Result<_, String>>()?;
        Ok(HistoryList { glob: history.path.clone(), until: history.until, files })
    }

    fn keep(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| e.to_string())?;
        write_durably(path, &text)
    }
}

/// Loads what is missing of a source's history. What it needs to know of the past it finds in the list and in the log.
pub struct HistoryFeed {
    feed: Arc<Feed>,
    history: HistoryFiles,
    path: PathBuf,
    said_at: i64,
}

impl HistoryFeed {
    /// None: the source has no history. From here on reads know whether it is complete.
    pub fn new(feed: Feed) -> Option<HistoryFeed> {
        let source = feed.definition();
        let history = source.history.clone()?;
        let path = list_path(&feed.data_dir, &source.name);
        let feed = HistoryFeed { history, path, said_at: feed.clock.now(), feed: Arc::new(feed) };
        let known = HistoryList::load(&feed.path).ok().flatten();
        let complete = known.as_ref().is_some_and(|list| (0..list.files.len()).all(|at| feed.is_loaded(list, at)));
        known.iter().for_each(|list| feed.progress().show(list));
        feed.progress().incomplete.store(!complete, Ordering::Relaxed);
        Some(feed)
    }

    /// Loads all files, one after the other, until the end or until the server stops.
    pub async fn run(mut self) {
        let name = self.feed.definition().name.clone();
        match self.load().await {
            Ok(true) => {
                self.progress().incomplete.store(false, Ordering::Relaxed);
                tracing::info!(source = name, rows = self.rows(), "the history is loaded");
            }
            Ok(false) => {}
            Err(failure) => {
                tracing::error!(source = name, %failure, "the history is not loaded on; the stream goes on");
                *self.progress().stopped.lock() = Some(failure.to_string());
            }
        }
    }

    fn progress(&self) -> &HistoryProgress {
        &self.feed.ingest.pending[self.feed.source].history
    }

    fn failed(&self, message: String) -> Failure {
        let source = &self.feed.definition().name;
        Failure::invalid("E1032", format!("the history of source `{source}`: {message}"))
    }

    /// Whether all rows of a file are in the log. (A log that was put back to an earlier state has fewer.)
    fn is_loaded(&self, list: &HistoryList, at: usize) -> bool {
        list.files[at].rows.is_some_and(|rows| self.feed.next_offset(partition_of(at)) >= rows)
    }

    /// False: the server stops.
    async fn load(&mut self) -> Result<bool, Failure> {
        let mut list = self.fixed_list().map_err(|e| self.failed(e))?;
        self.progress().show(&list);
        for at in 0..list.files.len() {
            if self.is_loaded(&list, at) {
                continue;
            }
            if !self.load_file(&list, at).await? {
                return Ok(false);
            }
            list.files[at].rows = Some(self.feed.next_offset(partition_of(at)));
            list.keep(&self.path).map_err(|e| self.failed(e))?;
            self.progress().show(&list);
        }
        Ok(true)
    }

    /// The list that was fixed once, or now.
    fn fixed_list(&self) -> Result<HistoryList, String> {
        let (source, glob) = (&self.feed.definition().name, &self.history.path);
        let Some(list) = HistoryList::load(&self.path)? else {
            let lake = Lake::of(&self.feed);
            let list = tokio::task::block_in_place(|| HistoryList::of(&self.history, &lake))?;
            list.keep(&self.path)?;
            tracing::info!(
                source,
                files = list.files.len(),
                bytes = list.files.iter().map(|file| file.bytes).sum::<u64>(),
                "the history is `{glob}` as it is now; files that appear later are not loaded: their events come through the stream"
            );
            return Ok(list);
        };
        if (&list.glob, list.until) != (glob, self.history.until) {
            let fence = list.until.map(|until| format!(" until {}", rfc3339(until))).unwrap_or_default();
            tracing::warn!(source, "the history stays `{}`{fence}, as it was first declared here", list.glob);
        }
        self.tell_of_later_files(&list);
        Ok(list)
    }

    /// Files of the lake that the stream has brought too: loading them would count their events twice.
    fn tell_of_later_files(&self, list: &HistoryList) {
        let known: HashSet<&str> = list.files.iter().map(|file| file.name.as_str()).collect();
        let found = tokio::task::block_in_place(|| Lake::of(&self.feed).matching(&list.glob)).unwrap_or_default();
        let mut later = found.into_iter().map(|(name, _)| name).filter(|name| !known.contains(name.as_str()));
        if let Some(first) = later.next() {
            let (source, more) = (&self.feed.definition().name, later.count());
            tracing::info!(
                source,
                more,
                "`{first}` came later than the history was fixed: it is not loaded, its events come through the stream"
            );
        }
    }

    fn open(&self, list: &HistoryList, at: usize, fetched: &mut Fetched) -> Result<FileReader, Failure> {
        let ListedFile { name, bytes, .. } = &list.files[at];
        let next = self.feed.next_offset(partition_of(at));
        let opened = tokio::task::block_in_place(|| Lake::of(&self.feed).open((name, *bytes), next, fetched));
        opened.map_err(|e| self.failed(e))
    }

    /// Loads one file from the row on that the log does not have. False: the server stops.
    async fn load_file(&mut self, list: &HistoryList, at: usize) -> Result<bool, Failure> {
        let partition = partition_of(at);
        let mut fetched = None;
        let mut reader = self.open(list, at, &mut fetched)?;
        let mut ended = false;
        let mut under_way: Option<JoinHandle<Result<bool, Failure>>> = None;
        loop {
            let stops = self.feed.is_stopping();
            let mut next = None;
            if !ended && !stops {
                let decoder = self.feed.decoder().of_history(list.until);
                let (chunk, more) = self.feed.read_on(&mut reader, partition, decoder, true).map_err(|e| {
                    let named = format!("{}: {e}", list.files[at].name);
                    self.failed(named)
                })?;
                ended = !more;
                next = Some(chunk).filter(|chunk| !chunk.is_empty());
            }
            // What has just been decoded counts on the chunk before it.
            if let Some(last) = under_way.take()
                && !last.await.map_err(|e| self.failed(e.to_string()))??
            {
                (reader, ended) = (self.open(list, at, &mut fetched)?, false);
                continue;
            }
            self.say(list);
            match next {
                Some(chunk) => {
                    let feed = self.feed.clone();
                    under_way = Some(tokio::spawn(async move { feed.submit(chunk, Wait::Readable).await }));
                }
                None if ended || stops => return Ok(!stops),
                None => {}
            }
        }
    }

    /// A line now and then.
    fn say(&mut self, list: &HistoryList) {
        let now = self.feed.clock.now();
        if now.saturating_sub(self.said_at) < HISTORY_SAYS_EVERY.as_micros() as i64 {
            return;
        }
        self.said_at = now;
        let (source, (files_done, _)) = (&self.feed.definition().name, self.progress().files());
        tracing::info!(source, rows = self.rows(), files_done, files = list.files.len(), "loading the history");
    }

    /// Rows that are in the log.
    fn rows(&self) -> u64 {
        history_rows(&self.feed.memory.read().positions, self.feed.source)
    }
}

fn partition_of(at: usize) -> u32 {
    HISTORY_PARTITIONS + at as u32
}

/// How many rows of a source's history are applied.
pub fn history_rows(positions: &BTreeMap<(u32, u32), u64>, source: usize) -> u64 {
    let source = source as u32;
    positions.range((source, HISTORY_PARTITIONS)..=(source, u32::MAX)).map(|(_, next)| next).sum()
}
