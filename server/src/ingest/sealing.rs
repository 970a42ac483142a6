//! Sealing closed segments of the log in the background, one at a time, with at most half of one core, as long as the
//! sequencer runs; then making larger pieces of small ones, then cutting off what retention lets go. What goes wrong is logged
//! and tried again: the log is whole in either form.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tidemill_features::definitions::Registry;

use super::retention::Retention;
use crate::limits::{RETENTION_EVERY, SEAL_RETRY};
use crate::log::{KeyColumns, LogError, Sealer};

/// Longest pause between two steps of sealing: a stop is noticed within this.
const PAUSE_MAX: Duration = Duration::from_millis(50);

pub(super) struct Sealing {
    pub sealer: Sealer,
    /// a message for each new segment; closed when the sequencer ends
    pub rotated: Receiver<()>,
    /// where the settings limit the log
    pub retention: Option<Retention>,
    /// the log
    pub folder: std::path::PathBuf,
}

impl Sealing {
    /// Runs until the sequencer is gone.
    pub(super) fn run(mut self) {
        loop {
            let mut stopped = false;
            let mut pace = Pace::new();
            let rotated = &self.rotated;
            let mut go_on = || {
                stopped |= matches!(rotated.try_recv(), Err(TryRecvError::Disconnected));
                pace.rest();
                !stopped
            };
            let worked = work(&mut self.sealer, self.retention.as_mut(), &self.folder, &mut go_on);
            let wait = match worked {
                Ok(true) => continue,
                Ok(false) if stopped => return,
                // Files that were replaced may wait for readers, and pieces grow old by themselves.
                Ok(false) => RETENTION_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "E1024: the event log cannot be sealed, compacted or cut; it stays as it is, and is tried again later");
                    SEAL_RETRY
                }
            };
            if matches!(self.rotated.recv_timeout(wait), Err(RecvTimeoutError::Disconnected)) {
                return;
            }
        }
    }
}

/// One step: seals, else compacts, else cuts. False: there was nothing to do, or it was to stop.
fn work(
    sealer: &mut Sealer,
    retention: Option<&mut Retention>,
    folder: &std::path::Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<bool, LogError> {
    sealer.remove_replaced()?;
    if let Some(segment) = sealer.seal_next(go_on)? {
        tracing::debug!(segment, "a segment of the event log is sealed");
        return Ok(true);
    }
    if let Some(pieces) = sealer.compact_next(go_on)? {
        tracing::debug!(pieces, "pieces of the event log are one now");
        return Ok(true);
    }
    let Some(retention) = retention else { return Ok(false) };
    let Some(to) = retention.next_cut(folder)? else { return Ok(false) };
    let Some(cut) = sealer.cut(to, go_on)? else { return Ok(false) };
    for (source, gone) in &cut.sources {
        tracing::info!(source, events = gone.events, "the event log was cut; so many events are gone since it began");
    }
    Ok(true)
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
