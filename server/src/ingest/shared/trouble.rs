//! Why nothing goes on in a shared store just now: for `status`, and for reads, which may be older than they look.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// What is wrong with a shared store, while it is.
#[derive(Debug, Default)]
pub struct Trouble {
    waiting: Mutex<Option<String>>,
    feeding: AtomicBool,
}

impl Trouble {
    /// Why commits wait, if they do.
    pub fn why(&self) -> Option<String> {
        let feeding = || "the shared store lacks events that it had; they are fed again from the event log".to_string();
        self.waiting.lock().clone().or_else(|| self.is_feeding().then(feeding))
    }

    /// Whether the store is known to lack events that were in it: reads see less than they say.
    pub fn is_feeding(&self) -> bool {
        self.feeding.load(Ordering::Acquire)
    }

    pub(super) fn waits(&self, why: String) {
        *self.waiting.lock() = Some(why);
    }

    pub(super) fn goes_on(&self) {
        *self.waiting.lock() = None;
    }

    pub(super) fn feeds(&self, feeding: bool) {
        self.feeding.store(feeding, Ordering::Release);
    }
}
