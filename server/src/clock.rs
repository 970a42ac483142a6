//! The one clock of the process. Every read time and every arrival time comes from here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the epoch that never go back: deduplication relies on arrival times that ascend.
#[derive(Debug, Default)]
pub struct Clock {
    latest: AtomicI64,
    /// the time at which it stands still
    standing: Option<i64>,
}

impl Clock {
    /// A clock that starts no earlier than `at_least`, the latest time that the log has seen.
    pub fn starting_at(at_least: i64) -> Self {
        Clock { latest: AtomicI64::new(at_least), standing: None }
    }

    /// A clock that stands still: for tests of definitions, whose values must not depend on the day.
    pub fn standing_at(time: i64) -> Self {
        Clock { latest: AtomicI64::new(time), standing: Some(time) }
    }

    /// The time now.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> i64 {
        if let Some(time) = self.standing {
            return time;
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        self.latest.fetch_max(wall, Ordering::Relaxed).max(wall)
    }

    /// A time later than every one that was given out before.
    pub fn tick(&self) -> i64 {
        let now = self.now();
        if self.standing.is_some() {
            return now;
        }
        self.latest.fetch_max(now, Ordering::Relaxed);
        self.latest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Goes no further back than this.
    pub fn advance(&self, at_least: i64) {
        self.latest.fetch_max(at_least, Ordering::Relaxed);
    }
}
