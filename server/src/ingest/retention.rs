//! Retention: how much of the log may go, and who needs what.
//!
//! An event's age counts from when it was taken in, by the server's clock: that is the order of the log, so what is too old is a
//! prefix of it. By event time a load of old history would go at once, and one event dated wrongly would hold everything back.
//! What views need is counted in event time, as their windows are. What a view needs is kept whatever the settings say, and
//! they are told of it, unless `log.force` is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tidemill_features::definitions::{Registry, View};
use tidemill_features::time::{duration_text, rfc3339};

use crate::clock::Clock;
use crate::log::{LogError, LogPlace, LogSummary, PieceSummary, summary};
use crate::settings::Keeping;

/// What retention would cut and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// the view that needs the oldest part
    pub view: String,
    /// why
    pub reason: String,
    /// sealed pieces that stay
    pub pieces: u64,
    /// bytes of their files
    pub bytes: u64,
}

/// Up to which place of the log the state is safe on the disk.
#[derive(Debug, Default)]
pub(super) struct Kept {
    wanted: AtomicBool,
    to: Mutex<LogPlace>,
}

impl Kept {
    /// Asks for a newer place, and gives the last one.
    fn ask(&self) -> LogPlace {
        self.wanted.store(true, Ordering::Relaxed);
        *self.to.lock()
    }

    /// Whether somebody waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    pub(super) fn set(&self, to: LogPlace) {
        *self.to.lock() = to;
    }
}

/// Tells the time of the oldest served answer that is kept for verification.
pub type OldestAnswer = Box<dyn Fn() -> Option<i64> + Send>;

/// Decides what goes.
pub(super) struct Retention {
    pub keeping: Keeping,
    pub registry: Arc<Registry>,
    pub clock: Arc<Clock>,
    pub kept: Arc<Kept>,
    pub oldest_answer: OldestAnswer,
    /// for everybody who asks
    pub held_back: Arc<Mutex<Option<HeldBack>>>,
    /// cut against a need: said once
    pub forced: bool,
}

/// What a view needs of its source.
enum Need {
    /// all events, with the reason
    Everything(String),
    /// events from a time on, with the reason
    From(i64, String),
}

impl Retention {
    /// The place up to which the log may go now; None: nowhere.
    pub(super) fn next_cut(&mut self, folder: &std::path::Path) -> Result<Option<LogPlace>, LogError> {
        let log = summary(folder)?;
        let wanted = self.too_many(&log);
        if wanted == 0 {
            *self.held_back.lock() = None;
            return Ok(None);
        }
        let needed = self.first_needed(&log.pieces[..wanted]);
        let mut count = wanted;
        let held_back = needed.map(|(at, view, reason)| {
            if !self.keeping.force {
                count = at;
            }
            let stays = &log.pieces[at..wanted];
            HeldBack { view, reason, pieces: stays.len() as u64, bytes: stays.iter().map(|piece| piece.bytes).sum() }
        });
        self.say(held_back);
        // What the state does not have on the disk would be lost with the next power failure.
        let kept = self.kept.ask();
        let safe = log.pieces[..count].partition_point(|piece| piece.to <= kept);
        Ok(log.pieces[..safe].last().map(|piece| piece.to))
    }

    /// How many pieces at the front are too old or too much.
    fn too_many(&self, log: &LogSummary) -> usize {
        let oldest_kept = self.keeping.age.map(|age| self.clock.now().saturating_sub(age));
        let newest = |piece: &PieceSummary| piece.sources.iter().map(|of| of.times.1).max().unwrap_or(i64::MIN);
        let is_old = |piece: &PieceSummary| {
            let age = piece.accepted_to.unwrap_or_else(|| newest(piece));
            oldest_kept.is_some_and(|oldest| age < oldest)
        };
        let mut left = log.bytes();
        let goes = |piece: &&PieceSummary| {
            let goes = is_old(piece) || self.keeping.bytes.is_some_and(|most| left > most);
            left = left.saturating_sub(piece.bytes);
            goes
        };
        log.pieces.iter().take_while(goes).count()
    }

    /// The first piece that a view needs, the view, and why.
    fn first_needed(&self, pieces: &[PieceSummary]) -> Option<(usize, String, String)> {
        let moment = (self.clock.now(), self.keeping.training_horizon);
        let answer = (self.oldest_answer)();
        let mut first: Option<(usize, String, String)> = None;
        for view in &self.registry.views {
            let Some(stream) = &view.stream else { continue };
            let source = &self.registry.sources[stream.source].name;
            let (from, reason) = match need(view, moment, answer) {
                Need::Everything(reason) => (i64::MIN, reason),
                Need::From(from, reason) => (from, reason),
            };
            let is_needed = |piece: &PieceSummary| {
                piece.sources.iter().any(|of| of.source == *source && newest_usual(of.times.1, piece) >= from)
            };
            let at = pieces.iter().position(is_needed);
            if let Some(at) = at.filter(|at| first.as_ref().is_none_or(|(known, ..)| at < known)) {
                first = Some((at, view.name.clone(), reason));
            }
        }
        first
    }

    /// Tells the log when something changes.
    fn say(&mut self, held_back: Option<HeldBack>) {
        let mut known = self.held_back.lock();
        if let Some(held) = &held_back {
            let HeldBack { view, reason, pieces, bytes } = held;
            if self.keeping.force && !self.forced {
                self.forced = true;
                tracing::warn!(
                    "E1028: log.force cuts {pieces} pieces of the event log that view `{view}` needs: {reason}"
                );
            }
            let is_new = known.as_ref().is_none_or(|known| known.view != *view);
            if !self.keeping.force && is_new {
                tracing::warn!(
                    "E1028: view `{view}` holds {pieces} pieces of the event log back ({bytes} bytes): {reason}"
                );
            }
        }
        *known = held_back.filter(|_| !self.keeping.force);
    }
}

/// The newest event time of a piece, without events dated far behind their acceptance: one of those would be needed for ever.
fn newest_usual(newest: i64, piece: &PieceSummary) -> i64 {
    piece.accepted_to.map_or(newest, |accepted| newest.min(accepted.saturating_add(tidemill_features::time::DAY)))
}

/// What a view needs for training sets that go back so far, and for the oldest answer that is kept.
fn need(view: &View, (now, training_horizon): (i64, i64), answer: Option<i64>) -> Need {
    let plan = &view.plan;
    if plan.table.is_some() {
        return Need::Everything("any of its rows may be the newest of its key".to_string());
    }
    if let Some(feature) = plan.features.iter().find(|feature| feature.window.is_unbounded()) {
        return Need::Everything(format!("`{}` may need every event", feature.name));
    }
    let horizon = plan.dedup.as_ref().map_or(0, |dedup| dedup.horizon);
    let back = plan.reach.saturating_add(plan.slack).saturating_add(horizon);
    let since = now.saturating_sub(training_horizon);
    let (from, whose) = match answer {
        Some(answer) if answer < since => {
            (answer, format!("of an answer that is kept for verification, as of {},", rfc3339(answer)))
        }
        _ if training_horizon > 0 => {
            (since, format!("of training sets that go back {}", duration_text(training_horizon)))
        }
        _ => (since, "of reads".to_string()),
    };
    Need::From(from.saturating_sub(back), format!("windows {whose} need the events of {} before", duration_text(back)))
}
