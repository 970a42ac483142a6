//! Upkeep: one thread that seals fresh vectors and rebuilds indexes with many dead ones. Searches and writes go on meanwhile. It also
//! takes in what has come to stand while nobody searched, so that no search has to make up for much.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::{Collection, Collections, kept};
use crate::clock::Clock;
use crate::limits::{INDEX_KEPT_EVERY, UPKEEP_EVERY};
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
        (store, clock): (Option<Arc<Memory>>, Arc<Clock>),
        folder: PathBuf,
        stopping: Arc<AtomicBool>,
    ) -> Upkeep {
        if collections.is_empty() {
            return Upkeep { thread: None };
        }
        // Half of the machine is left to those who ask.
        let threads = (std::thread::available_parallelism().map_or(1, std::num::NonZero::get) / 2).max(1);
        let run = move || {
            crate::background::comes_last();
            let mut said = HashSet::new();
            let mut kept: Vec<Kept> = collections.list.iter().map(|_| Kept::default()).collect();
            while !stopping.load(Ordering::Relaxed) {
                for ((embedding, collection), kept) in
                    collections.embeddings().iter().zip(&collections.list).zip(&mut kept)
                {
                    let settled = store.as_ref().map_or(Ok(()), |memory| collection.settle(memory, &clock));
                    match settled.and(collection.index().upkeep(threads)) {
                        // Of an index that cannot be looked after it is said once.
                        Err(failure) if said.insert(embedding.name.clone()) => {
                            tracing::error!(%failure, embedding = embedding.name, "an index cannot be looked after; it goes on as it is");
                        }
                        Err(_) => {}
                        Ok(is_built) => {
                            said.remove(&embedding.name);
                            kept.is_behind |= is_built;
                            kept.keep(collection, &folder, &embedding.name, clock.now());
                        }
                    }
                }
                std::thread::park_timeout(UPKEEP_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("upkeep".into()).spawn(run);
        Upkeep { thread: thread.inspect_err(|error| tracing::error!(%error, "indexes are not looked after")).ok() }
    }
}

/// The file of an index.
#[derive(Default)]
struct Kept {
    /// whether the index has been built since
    is_behind: bool,
    /// when it was written
    at: Option<i64>,
}

impl Kept {
    /// Writes it, if there is something new and the last time was long ago. A graph that cannot be kept is built again after the next
    /// start; searches do not need the file.
    fn keep(&mut self, collection: &Collection, folder: &Path, embedding: &str, now: i64) {
        let is_soon = self.at.is_some_and(|at| now - at < INDEX_KEPT_EVERY.as_micros() as i64);
        if !self.is_behind || is_soon {
            return;
        }
        (self.is_behind, self.at) = (false, Some(now));
        let path = kept::path_of(folder, embedding);
        let saved = std::fs::create_dir_all(folder).and_then(|()| kept::save(collection, &path));
        if let Err(error) = saved {
            tracing::warn!(%error, path = %path.display(), "the index is not kept; the next start builds it anew");
        }
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
