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

    pub(super) fn set(&self, done: u64) {
        self.set_of(done, 0);
    }

    /// The same where it is known how much there is to do; 0: it is not.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn set_of(&self, done: u64, total: u64) {
        let of = if total == 0 { String::new() } else { format!(" of {total}") };
        match &self.bar {
            Some(bar) => {
                if total > 0 && bar.length() != Some(total) {
                    let known =
                        ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} {msg}  {per_sec}  {eta}");
                    bar.set_style(known.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            None if !self.quiet && self.told.get().elapsed() >= Duration::from_secs(5) => {
                self.told.set(Instant::now());
                let rate = done as f64 / self.started.elapsed().as_secs_f64();
                eprintln!("{done}{of} {}, {rate:.0} a second", self.what);
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
