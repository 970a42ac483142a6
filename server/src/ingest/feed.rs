//! What all feeds of files share: reading on in a file, and handing its events over with the partition that the file is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill_features::definitions::{Registry, Source};

use super::{Ingest, Wait};
use crate::clock::Clock;
use crate::failure::{Failure, Remedy};
use crate::limits::{FEED_BYTES, FEED_ROWS};
use crate::objects::Objects;
use crate::online::Memory;
use crate::source::files::FileReader;
use crate::source::{Decoded, Decoder};

/// How long a feed sleeps before it looks again.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// What a feed needs.
pub struct Feed {
    /// the definitions
    pub registry: Arc<Registry>,
    /// place of the source in the registry
    pub source: usize,
    /// key columns of the source's entities
    pub keys: Arc<Vec<Vec<usize>>>,
    /// folder that paths are relative to
    pub project: PathBuf,
    /// where it is kept which partition each file is
    pub data_dir: PathBuf,
    /// where events go
    pub ingest: Ingest,
    /// the clock of the load
    pub clock: Arc<Clock>,
    /// positions to go on from
    pub memory: Arc<Memory>,
    /// set when the server stops
    pub stop: Arc<AtomicBool>,
    /// for files in object stores
    pub objects: Arc<Objects>,
}

/// Decoded events of one partition, and when they were.
pub(super) struct Chunk {
    partition: u32,
    accepted_at: i64,
    decoded: Decoded,
}

impl Chunk {
    /// Whether nothing stands in it, good or bad.
    pub(super) fn is_empty(&self) -> bool {
        self.decoded.consumed == 0
    }
}

impl Feed {
    pub(super) fn definition(&self) -> &Arc<Source> {
        &self.registry.sources[self.source]
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The row of a file with which its partition goes on.
    pub(super) fn next_offset(&self, partition: u32) -> u64 {
        self.memory.read().positions.get(&(self.source as u32, partition)).copied().unwrap_or(0)
    }

    /// Decodes events of the source that are read now.
    pub(super) fn decoder(&self) -> Decoder {
        Decoder::new(self.definition().clone(), self.keys.clone(), self.clock.now())
    }

    /// Decodes the next events of a file: as many as go into the log together. False: the file has no more now.
    pub(super) fn read_on(
        &self,
        reader: &mut FileReader,
        partition: u32,
        mut decoder: Decoder,
        last_line_counts: bool,
    ) -> Result<(Chunk, bool), String> {
        let more = tokio::task::block_in_place(|| -> Result<bool, String> {
            while reader.step(&mut decoder, last_line_counts)? {
                if decoder.rows() >= FEED_ROWS || decoder.bytes() >= FEED_BYTES {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        Ok((Chunk { partition, accepted_at: decoder.now(), decoded: decoder.finish() }, more))
    }

    /// Hands events over. False: there is no room for them, nothing was kept, and what came before them is applied.
    pub(super) async fn submit(&self, chunk: Chunk, wait: Wait) -> Result<bool, Failure> {
        let Chunk { partition, accepted_at, decoded } = chunk;
        match self.ingest.submit(self.source, partition, accepted_at, decoded, wait).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.remedy == Remedy::Exhausted => {
                while self.ingest.pending[self.source].events() > 0 {
                    tokio::time::sleep(POLL).await;
                }
                tokio::time::sleep(POLL).await;
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }
}

/// The name of a file by which it is remembered: below the project where it lies there.
pub(super) fn name_of(project: &Path, file: &Path) -> String {
    file.strip_prefix(project).unwrap_or(file).display().to_string()
}

/// Replaces a small file as a whole; it is on the disk when this returns.
pub fn write_durably(path: &Path, text: &[u8]) -> Result<(), String> {
    let named = |e: std::io::Error| format!("{}: {e}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(named)?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text).map_err(named)?;
    std::fs::File::open(&temporary).and_then(|f| f.sync_all()).map_err(named)?;
    std::fs::rename(&temporary, path).map_err(named)?;
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(named)
}
