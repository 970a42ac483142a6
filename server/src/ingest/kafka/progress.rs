//! How reading the topics of a source goes: for reads (are they stale?), for `status`, and for whoever lets it go on after a loss.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::failure::{Failure, Remedy};

/// Offsets that were lost, and that somebody has given up or that were gone before the source began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// name of the topic
    pub topic: String,
    /// number in the topic
    pub partition: i32,
    /// the first offset that is lost
    pub from: u64,
    /// the one behind the last; None: nobody knows how many there were
    pub to: Option<u64>,
    /// what took them
    pub reason: String,
    /// when it was decided to go on without them, microseconds
    pub time: i64,
}

/// Somebody who waits for a halted source to go on.
type Asked = oneshot::Sender<Result<Vec<GivenUp>, Failure>>;

/// What `status` shows of a source's topics.
#[derive(Clone, Debug, Default)]
pub struct KafkaState {
    /// why nothing comes in just now
    pub waiting: Option<String>,
    /// why nothing will come in until somebody decides
    pub halted: Option<String>,
    /// id of the cluster
    pub cluster: Option<String>,
    /// by number of the partition: its topic and its number there
    pub partitions: BTreeMap<u32, (String, i32)>,
    /// what was lost
    pub given_up: Vec<GivenUp>,
}

/// How reading the topics of a source goes.
#[derive(Debug)]
pub struct KafkaProgress {
    is_read: AtomicBool,
    is_halted: AtomicBool,
    /// in another process that reads it
    is_halted_elsewhere: AtomicBool,
    /// everything that was in the topics by then is applied
    complete_to: AtomicI64,
    lag: AtomicU64,
    state: Mutex<KafkaState>,
    asked: Mutex<Option<Asked>>,
}

impl Default for KafkaProgress {
    fn default() -> Self {
        KafkaProgress {
            is_read: AtomicBool::new(false),
            is_halted: AtomicBool::new(false),
            is_halted_elsewhere: AtomicBool::new(false),
            complete_to: AtomicI64::new(i64::MIN),
            lag: AtomicU64::new(0),
            state: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

impl KafkaProgress {
    /// Whether topics are read here at all.
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    /// Whether reading has stopped until somebody decides.
    pub fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Relaxed)
    }

    /// Whether events are missing that will not come until somebody decides, here or in another process.
    pub fn is_incomplete(&self) -> bool {
        self.is_halted() || self.is_halted_elsewhere.load(Ordering::Relaxed)
    }

    pub(in crate::ingest) fn set_halted_elsewhere(&self, is_halted: bool) {
        self.is_halted_elsewhere.store(is_halted, Ordering::Relaxed);
    }

    /// How far reads are behind the topics at `now`, in microseconds.
    pub fn behind(&self, now: i64) -> i64 {
        if self.is_read() { now.saturating_sub(self.complete_to.load(Ordering::Relaxed)) } else { 0 }
    }

    /// Records that are in the topics and not applied, about: gaps count.
    pub fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// What there is to show.
    pub fn state(&self) -> KafkaState {
        self.state.lock().clone()
    }

    /// Lets a halted source go on without what it has lost; gives what that is.
    pub async fn resume(&self) -> Result<Vec<GivenUp>, Failure> {
        let (reply, answer) = oneshot::channel();
        {
            // Nobody's word may be kept for a loss that comes later.
            let state = self.state.lock();
            if state.halted.is_none() {
                return Err(Failure::invalid("E1056", "the source has not stopped: there is nothing to resume"));
            }
            *self.asked.lock() = Some(reply);
        }
        let gone = |_| {
            Failure::new(Remedy::Unavailable, "E1013", "the server is stopping, or somebody else resumes the source")
        };
        answer.await.map_err(gone)?
    }

    pub(in crate::ingest) fn begin(&self) {
        self.is_read.store(true, Ordering::Relaxed);
    }

    pub(in crate::ingest) fn set_complete(&self, complete_to: i64, lag: u64) {
        self.complete_to.store(complete_to, Ordering::Relaxed);
        self.lag.store(lag, Ordering::Relaxed);
    }

    pub(in crate::ingest) fn set(&self, change: impl FnOnce(&mut KafkaState)) {
        let mut state = self.state.lock();
        let was_halted = state.halted.is_some();
        change(&mut state);
        let is_halted = state.halted.is_some();
        self.is_halted.store(is_halted, Ordering::Relaxed);
        if was_halted && !is_halted {
            *self.asked.lock() = None;
        }
    }

    /// Says why nothing comes in, once for each reason.
    pub(in crate::ingest) fn wait(&self, source: &str, why: &str) {
        let mut state = self.state.lock();
        if state.waiting.as_deref() != Some(why) {
            tracing::warn!(source, "the source waits; what is there is served: {why}");
            state.waiting = Some(why.to_string());
        }
    }

    /// Events come in, or could.
    pub(in crate::ingest) fn go_on(&self, source: &str) {
        if self.state.lock().waiting.take().is_some() {
            tracing::info!(source, "the source is read again");
        }
    }

    pub(in crate::ingest) fn take_asked(&self) -> Option<Asked> {
        self.asked.lock().take().filter(|asked| !asked.is_closed())
    }
}
