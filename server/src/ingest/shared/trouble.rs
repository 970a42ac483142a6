//! Why nothing goes on in a shared store just now: for `status`, and for reads, which may be older than they look.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// What is said while a store is fed what it has lost.
pub(super) const LACKING: &str = "the shared store lacks events that it had; they are fed again";

/// What is wrong with a shared store, while it is.
#[derive(Debug, Default)]
pub struct Trouble {
    /// how many wait, and why the last of them does
    waiting: Mutex<(usize, String)>,
    feeding: AtomicBool,
}

impl Trouble {
    /// Why commits wait, if they do.
    pub fn why(&self) -> Option<String> {
        let waiting = self.waiting.lock();
        let why = (waiting.0 > 0).then(|| waiting.1.clone());
        why.or_else(|| self.is_feeding().then(|| LACKING.to_string()))
    }

    /// Whether the store is known to lack events that were in it: reads see less than they say.
    pub fn is_feeding(&self) -> bool {
        self.feeding.load(Ordering::Acquire)
    }

    /// Somebody who may have to wait.
    pub(super) fn no_wait(&self) -> Waits<'_> {
        Waits { trouble: self, has_said: false }
    }

    pub(super) fn feeds(&self, feeding: bool) {
        self.feeding.store(feeding, Ordering::Release);
    }
}

/// Somebody who waits once it has said why, until it is dropped: also where it gives up, or is not asked any more.
pub(super) struct Waits<'t> {
    trouble: &'t Trouble,
    has_said: bool,
}

impl Waits<'_> {
    pub(super) fn says(&mut self, why: String) {
        let mut waiting = self.trouble.waiting.lock();
        waiting.0 += usize::from(!self.has_said);
        waiting.1 = why;
        self.has_said = true;
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.has_said {
            self.trouble.waiting.lock().0 -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_waits_no_longer() {
        let trouble = Trouble::default();
        let (mut first, mut second, third) = (trouble.no_wait(), trouble.no_wait(), trouble.no_wait());
        assert_eq!(trouble.why(), None);
        first.says("it is away".into());
        first.says("it is still away".into());
        second.says("it is full".into());
        drop((first, third));
        assert_eq!(trouble.why().as_deref(), Some("it is full"));
        drop(second);
        assert_eq!(trouble.why(), None);
        trouble.feeds(true);
        assert_eq!(trouble.why().as_deref(), Some(LACKING));
    }
}
