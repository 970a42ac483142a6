//! Feeding file sources in: each file is a partition, in the order in which the files were first seen; its events have the
//! offsets of their rows, so that a new start goes on where the log ends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use tidemill_features::definitions::Connector;

use super::Wait;
use super::feed::{Feed, POLL, name_of, write_durably};
use crate::failure::Failure;
use crate::source::files::{FileReader, Format, matching};

/// Feeds a source until its end or, if it is followed, until the server stops.
pub async fn feed(feed: Feed) -> Result<(), Failure> {
    let source = feed.definition().clone();
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
                let format = Format::of(file, format.as_deref()).map_err(failed)?;
                match FileReader::open(file, format, feed.next_offset(partition), *follow) {
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
            while !feed.is_stopping() {
                let (chunk, more) = feed.read_on(reader, partition, feed.decoder(), !follow).map_err(failed)?;
                if !chunk.is_empty() {
                    moved = true;
                    if !feed.submit(chunk, Wait::Durable).await? {
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
        if feed.is_stopping() || (!follow && !moved) {
            return Ok(());
        }
        if !moved {
            tokio::time::sleep(POLL).await;
        }
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

    /// Gives new files a partition, durably, before their first event is taken.
    fn add(&mut self, project: &Path, files: &[PathBuf]) -> Result<(), String> {
        let known = self.files.len();
        for file in files {
            let name = name_of(project, file);
            if !self.files.contains(&name) {
                self.files.push(name);
            }
        }
        if self.files.len() == known {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.files).map_err(|e| e.to_string())?;
        write_durably(&self.path, &text)
    }

    fn of(&self, project: &Path, file: &Path) -> u32 {
        let name = name_of(project, file);
        self.files.iter().position(|known| *known == name).unwrap_or(0) as u32
    }
}
