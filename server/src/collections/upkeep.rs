//! Upkeep: one thread that seals fresh vectors and rebuilds indexes with many dead ones. Searches and writes go on meanwhile. It also
//! takes in what has come to stand while nobody searched, so that no search has to make up for much.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::{Collection, Collections, kept};
use crate::clock::Clock;
use crate::limits::UPKEEP_EVERY;
use crate::online::Memory;

/// The thread.
#[derive(Debug)]
pub struct Upkeep {
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Starts it, if there is something to look after; it ends soon after `stopping` is set.
    /// What was built is kept in a folder.
    /// `store` has the records, where they are in memory; else whoever follows them does the rest.
    pub fn start(
        collections: Arc<Collections>,
        store: Option<(Arc<Memory>, Arc<Clock>)>,
        folder: PathBuf,
        stopping: Arc<AtomicBool>,
    ) -> Upkeep {
        if collections.is_empty() {
            return Upkeep { thread: None };
        }
        // Half of the machine is left to those who ask.
        let threads = (std::thread::available_parallelism().map_or(1, std::num::NonZero::get) / 2).max(1);
        let run = move || {
            // Of an index that cannot be built it is said once.
            let mut failing = HashSet::new();
            while !stopping.load(Ordering::Relaxed) {
                for (embedding, collection) in collections.embeddings().iter().zip(&collections.list) {
                    if let Some((memory, clock)) = &store
                        && let Err(failure) = collection.open(&memory.read(), clock)
                    {
                        tracing::error!(%failure, embedding = embedding.name, "what stands now could not be read");
                    }
                    match collection.index().upkeep(threads) {
                        Ok(false) => {}
                        Ok(true) => {
                            failing.remove(&embedding.name);
                            keep(collection, &folder, &embedding.name);
                        }
                        Err(failure) if failing.insert(embedding.name.clone()) => {
                            tracing::error!(%failure, embedding = embedding.name, "an index could not be built; it goes on as it is");
                        }
                        Err(_) => {}
                    }
                }
                std::thread::park_timeout(UPKEEP_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("upkeep".into()).spawn(run);
        Upkeep { thread: thread.inspect_err(|error| tracing::error!(%error, "indexes are not looked after")).ok() }
    }
}

/// A graph that cannot be kept is built again after the next start; searches do not need the file.
fn keep(collection: &Collection, folder: &Path, embedding: &str) {
    let path = kept::path_of(folder, embedding);
    let saved = std::fs::create_dir_all(folder).and_then(|()| kept::save(collection, &path));
    if let Err(error) = saved {
        tracing::warn!(%error, path = %path.display(), "the index is not kept; the next start builds it anew");
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        // A build that is under way is not waited for: an index is derived, and the process ends without it.
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}
