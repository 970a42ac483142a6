//! How far a verb is, for people.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Style;

/// A bar on a terminal, a line every five seconds off it, nothing when quiet.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    told: std::cell::Cell<Instant>,
    started: Instant,
    quiet: bool,
    /// what is counted
    what: &'static str,
}

impl Progress {
    #[allow(clippy::disallowed_methods)]
    pub(super) fn new(style: Style, what: &'static str) -> Self {
        let quiet = style.quiet || style.json;
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = (!quiet && terminal).then(|| {
            let template = ProgressStyle::with_template("{spinner} {human_pos} {msg}  {per_sec}  {elapsed}");
            ProgressBar::new_spinner()
                .with_style(template.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                .with_message(what)
        });
        Progress { bar, told: Instant::now().into(), started: Instant::now(), quiet, what }
    }

    #[allow(clippy::disallowed_methods)]
    pub(super) fn set(&self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if !self.quiet && self.told.get().elapsed() >= Duration::from_secs(5) => {
                self.told.set(Instant::now());
                let rate = done as f64 / self.started.elapsed().as_secs_f64();
                eprintln!("{done} {}, {rate:.0} a second", self.what);
            }
            None => {}
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
