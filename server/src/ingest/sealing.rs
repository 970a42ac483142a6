//! Sealing closed segments of the log in the background, one at a time, with at most half of one core, as long as the
//! sequencer runs. What goes wrong is logged and tried again: the log is whole in either form.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tidemill_features::definitions::Registry;

use crate::limits::SEAL_RETRY;
use crate::log::{KeyColumns, Sealer};

/// Longest pause between two steps of sealing: a stop is noticed within this.
const PAUSE_MAX: Duration = Duration::from_millis(50);

pub(super) struct Sealing {
    pub sealer: Sealer,
    /// a message for each new segment; closed when the sequencer ends
    pub rotated: Receiver<()>,
}

impl Sealing {
    /// Runs until the sequencer is gone.
    pub(super) fn run(self) {
        loop {
            let mut stopped = false;
            let mut pace = Pace::new();
            let mut go_on = || {
                stopped = matches!(self.rotated.try_recv(), Err(TryRecvError::Disconnected));
                pace.rest();
                !stopped
            };
            let wait = match self.sealer.seal_next(&mut go_on) {
                Ok(Some(segment)) => {
                    tracing::debug!(segment, "a segment of the event log is sealed");
                    continue;
                }
                Ok(None) if stopped => return,
                Ok(None) => None,
                Err(error) => {
                    tracing::warn!(%error, "E1024: a segment of the event log cannot be sealed; it stays as it is, and is tried again later");
                    Some(SEAL_RETRY)
                }
            };
            let ended = match wait {
                None => self.rotated.recv().is_err(),
                Some(pause) => matches!(self.rotated.recv_timeout(pause), Err(RecvTimeoutError::Disconnected)),
            };
            if ended {
                return;
            }
        }
    }
}

/// Rests as long as it worked.
struct Pace {
    since: Instant,
}

#[allow(clippy::disallowed_methods)]
impl Pace {
    fn new() -> Self {
        Pace { since: Instant::now() }
    }

    fn rest(&mut self) {
        std::thread::sleep(self.since.elapsed().min(PAUSE_MAX));
        self.since = Instant::now();
    }
}

/// By source: the key columns of its first view.
pub(super) fn key_columns(registry: &Registry) -> KeyColumns {
    let mut columns = KeyColumns::new();
    for stream in registry.views.iter().filter_map(|view| view.stream.as_ref()) {
        let source = &registry.sources[stream.source];
        let names = stream.key_columns.iter().map(|at| source.fields[*at].0.clone());
        columns.entry(source.name.clone()).or_insert_with(|| names.collect());
    }
    columns
}
