//! Quality in view: some of the searches that walk a graph are answered once more, by comparing everything, and what they have
//! found of the truth is counted.
//!
//! One search at a time, at a fiftieth of a core. The second answer is of the same moment of the index as the first one, so the
//! two differ only by what the walk has missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_features::service::Condition;

use crate::collections::Attributes;
use crate::components::Server;
use crate::failure::Failure;
use crate::limits::{RECALL_PAUSE, RECALL_SHARE};
use crate::vectors::{Explained, Filter, Hit, Plan, Query, View, Way};

/// See above.
#[derive(Debug, Default)]
pub struct Quality {
    /// whether somebody waits for a search
    wants: AtomicBool,
    sample: Mutex<Option<Sample>>,
    /// by embedding
    counts: Mutex<Vec<Recall>>,
}

/// Of sampled searches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recall {
    /// how many there were
    pub searches: u64,
    /// neighbours that they should have found
    pub neighbours: u64,
    /// neighbours of these that they have found
    pub found: u64,
}

/// A search that was answered.
#[derive(Debug)]
pub(super) struct Sample {
    pub embedding: usize,
    pub view: Arc<View>,
    pub attributes: Attributes,
    /// over attributes alone
    pub condition: Option<Arc<Condition>>,
    pub time: i64,
    pub vector: Vec<f32>,
    pub k: usize,
    pub exclude: Vec<Vec<u8>>,
    pub min_score: Option<f32>,
    pub hits: Vec<Hit>,
}

impl Quality {
    /// Takes a search, if it walked a graph and one is wanted.
    pub(super) fn offer(&self, explained: &Explained, sample: impl FnOnce() -> Sample) {
        if explained.plan == Plan::Traverse && self.wants.swap(false, Ordering::Relaxed) {
            *self.sample.lock() = Some(sample());
        }
    }

    /// What was counted of an embedding.
    pub fn recall(&self, embedding: usize) -> Recall {
        self.counts.lock().get(embedding).copied().unwrap_or_default()
    }

    fn count(&self, embedding: usize, recall: Recall) {
        let mut counts = self.counts.lock();
        if counts.len() <= embedding {
            counts.resize(embedding + 1, Recall::default());
        }
        let known = &mut counts[embedding];
        known.searches += recall.searches;
        known.neighbours += recall.neighbours;
        known.found += recall.found;
    }
}

impl Sample {
    /// How much of the truth was found. Of equal scores one is as good as the other.
    fn recall(&self) -> Result<Recall, Failure> {
        let Sample { view, attributes, condition, time, .. } = self;
        let passes = |slot: u32, _: &[u8]| {
            condition.as_ref().is_none_or(|condition| condition.holds(attributes.get(slot), &[], *time))
        };
        let exclude: Vec<&[u8]> = self.exclude.iter().map(Vec::as_slice).collect();
        let truth = view.search(Query {
            filter: condition.as_ref().map(|_| Filter::Keys(&passes)),
            exclude: &exclude,
            min_score: self.min_score,
            way: Way::Exact,
            ..Query::new(&self.vector, self.k)
        })?;
        let least = truth.hits.last().map_or(f32::MAX, |hit| hit.score);
        let found = self.hits.iter().filter(|hit| hit.score >= least).count().min(truth.hits.len());
        Ok(Recall { searches: 1, neighbours: truth.hits.len() as u64, found: found as u64 })
    }
}

/// Samples until the server stops.
pub fn run(server: &Server) {
    let is_stopping = || server.stopping.load(Ordering::Relaxed);
    while !is_stopping() {
        server.quality.wants.store(true, Ordering::Relaxed);
        let taken = server.quality.sample.lock().take();
        let mut pause = RECALL_PAUSE;
        if let Some(sample) = taken {
            let began = server.clock.now();
            match sample.recall() {
                Ok(recall) => server.quality.count(sample.embedding, recall),
                Err(failure) => tracing::error!(%failure, "a search could not be answered once more"),
            }
            let used = Duration::from_micros(u64::try_from(server.clock.now() - began).unwrap_or(0));
            pause = pause.max(used * RECALL_SHARE);
        }
        while !pause.is_zero() && !is_stopping() {
            let slice = RECALL_PAUSE.min(pause);
            std::thread::sleep(slice);
            pause -= slice;
        }
    }
}
