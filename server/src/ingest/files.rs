//! Feeding file sources in: each file is a partition, in the order in which the files were first seen; its events have the
//! offsets of their rows, so that a new start goes on where the log ends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill_features::definitions::{Connector, Registry};

use super::{Ingest, Wait};
use crate::clock::Clock;
use crate::failure::{Failure, Remedy};
use crate::online::Memory;
use crate::source::files::{FileReader, Format, matching};
use crate::source::{Decoded, Decoder};

/// How long a followed source sleeps at its end.
const POLL: Duration = Duration::from_millis(200);

/// What a feed needs.
pub struct FileFeed {
    /// the definitions
    pub registry: Arc<Registry>,
    /// place of the source in the registry
    pub source: usize,
    /// key columns of the source's entities
    pub keys: Arc<Vec<Vec<usize>>>,
    /// folder that paths are relative to
    pub project: PathBuf,
    /// where the order of files is kept
    pub data_dir: PathBuf,
    /// where events go
    pub ingest: Ingest,
    /// the clock of the load
    pub clock: Arc<Clock>,
    /// positions to go on from
    pub memory: Arc<Memory>,
    /// set when the server stops
    pub stop: Arc<AtomicBool>,
}

/// Feeds a source until its end or, if it is followed, until the server stops.
pub async fn feed(feed: FileFeed) -> Result<(), Failure> {
    let source = feed.registry.sources[feed.source].clone();
    let Connector::File { path, follow, format } = &source.connector else { return Ok(()) };
    let failed = |message: String| Failure::invalid("E1019", format!("source `{}`: {message}", source.name));
    let mut partitions = Partitions::load(&feed.data_dir, &source.name).map_err(failed)?;
    let mut open: BTreeMap<u32, FileReader> = BTreeMap::new();
    loop {
        let files = matching(&feed.project, path).map_err(failed)?;
        if files.is_empty() && !follow {
            return Err(failed(format!("no file matches `{path}`")));
        }
        partitions.add(&feed.project, &files).map_err(failed)?;
        let mut moved = false;
        for file in &files {
            let partition = partitions.of(&feed.project, file);
            if let Entry::Vacant(slot) = open.entry(partition) {
                let next = feed.memory.read().positions.get(&(feed.source as u32, partition)).copied().unwrap_or(0);
                let format = Format::of(file, format.as_deref()).map_err(failed)?;
                match FileReader::open(file, format, next, *follow) {
                    Ok(reader) => drop(slot.insert(reader)),
                    // A file that is still being written is tried again at the next look.
                    Err(message) if *follow => {
                        tracing::debug!(message, "a file cannot be read yet");
                        continue;
                    }
                    Err(message) => return Err(failed(message)),
                }
            }
            let Some(reader) = open.get_mut(&partition) else { continue };
            while !feed.stop.load(Ordering::Relaxed) {
                let now = feed.clock.now();
                let mut decoder = Decoder::new(source.clone(), feed.keys.clone(), now);
                let more = tokio::task::block_in_place(|| reader.step(&mut decoder, !follow)).map_err(failed)?;
                let decoded: Decoded = decoder.finish();
                if decoded.consumed > 0 {
                    moved = true;
                    if !submit(&feed, partition, now, decoded).await? {
                        // Nothing was kept; the file still has it, from the next offset on.
                        open.remove(&partition);
                        break;
                    }
                }
                if !more {
                    break;
                }
            }
        }
        if feed.stop.load(Ordering::Relaxed) || (!follow && !moved) {
            return Ok(());
        }
        if !moved {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Hands events over. False: there is no room for them now, and everything before them is applied.
async fn submit(feed: &FileFeed, partition: u32, now: i64, decoded: Decoded) -> Result<bool, Failure> {
    match feed.ingest.submit(feed.source, partition, now, decoded, Wait::Durable).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.remedy == Remedy::Exhausted => {
            while feed.ingest.pending[feed.source].events() > 0 {
                tokio::time::sleep(POLL).await;
            }
            tokio::time::sleep(POLL).await;
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// Which partition each file is.
struct Partitions {
    path: PathBuf,
    files: Vec<String>,
}

impl Partitions {
    fn load(data_dir: &Path, source: &str) -> Result<Self, String> {
        let path = data_dir.join("files").join(format!("{source}.json"));
        let files = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Ok(Partitions { path, files })
    }

    fn name(project: &Path, file: &Path) -> String {
        file.strip_prefix(project).unwrap_or(file).display().to_string()
    }

    /// Gives new files a partition, durably, before their first event is taken.
    fn add(&mut self, project: &Path, files: &[PathBuf]) -> Result<(), String> {
        let known = self.files.len();
        for file in files {
            let name = Self::name(project, file);
            if !self.files.contains(&name) {
                self.files.push(name);
            }
        }
        if self.files.len() == known {
            return Ok(());
        }
        let named = |e: std::io::Error| format!("{}: {e}", self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(named)?;
        let temporary = self.path.with_extension("tmp");
        let text = serde_json::to_vec(&self.files).map_err(|e| e.to_string())?;
        std::fs::write(&temporary, text).map_err(named)?;
        std::fs::File::open(&temporary).and_then(|f| f.sync_all()).map_err(named)?;
        std::fs::rename(&temporary, &self.path).map_err(named)?;
        std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(named)
    }

    fn of(&self, project: &Path, file: &Path) -> u32 {
        let name = Self::name(project, file);
        self.files.iter().position(|known| *known == name).unwrap_or(0) as u32
    }
}
