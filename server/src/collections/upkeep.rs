//! Upkeep: one thread that seals fresh vectors and rebuilds indexes with many dead ones. Searches and writes go on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::Collections;
use crate::limits::UPKEEP_EVERY;

/// The thread.
#[derive(Debug)]
pub struct Upkeep {
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Starts it, if there is something to look after; it ends soon after `stopping` is set.
    pub fn start(collections: Arc<Collections>, stopping: Arc<AtomicBool>) -> Upkeep {
        if collections.is_empty() {
            return Upkeep { thread: None };
        }
        // Half of the machine is left to those who ask.
        let threads = (std::thread::available_parallelism().map_or(1, std::num::NonZero::get) / 2).max(1);
        let run = move || {
            while !stopping.load(Ordering::Relaxed) {
                for collection in &collections.list {
                    if let Err(failure) = collection.index().upkeep(threads) {
                        tracing::error!(%failure, "an index could not be built; its vectors are scanned");
                    }
                }
                std::thread::park_timeout(UPKEEP_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("upkeep".into()).spawn(run);
        Upkeep { thread: thread.inspect_err(|error| tracing::error!(%error, "indexes are not looked after")).ok() }
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
