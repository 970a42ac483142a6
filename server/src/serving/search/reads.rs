//! The reads of one search: all at its T, each of what records say when it happens.
//!
//! Nothing waits for a search as a whole: the gate is open for one read, and may close before the next. So what is read later may
//! be of a longer prefix of the log than what was read first; an answer names what all of them have seen at least.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_features::read::Answer;
use tidemill_features::service::{Keys, ReadPlan};

use super::super::get::{At, Positions};
use super::super::moment::{Moment, Times};
use crate::components::Server;
use crate::failure::{Failure, Remedy};

/// See above.
pub(super) struct Reads<'r> {
    pub server: &'r Server,
    /// T
    pub time: i64,
    stop: &'r AtomicBool,
    /// None: nothing was read yet
    positions: RefCell<Option<Positions>>,
}

impl<'r> Reads<'r> {
    /// Reads of a search that has seen these positions; None: it has seen nothing yet.
    pub(super) fn new(server: &'r Server, time: i64, positions: Option<Positions>, stop: &'r AtomicBool) -> Self {
        Reads { server, time, stop, positions: RefCell::new(positions) }
    }

    /// Reads a plan for keys.
    pub(super) fn read(&self, plan: &Arc<ReadPlan>, keys: &Keys) -> Result<Vec<Vec<Answer>>, Failure> {
        self.check_wanted()?;
        let answers = self.server.reader.read(plan.clone(), keys, At::Time(self.time), true, self.stop)?;
        let mut known = self.positions.borrow_mut();
        let positions = known.get_or_insert_with(|| answers.positions.clone());
        positions.retain(|partition, next| {
            let seen = answers.positions.get(partition);
            *next = (*next).min(seen.copied().unwrap_or(0));
            seen.is_some()
        });
        Ok(answers.columns)
    }

    /// The same from this process's memory, for few keys at a time: it keeps nothing for verification.
    pub(super) fn look(&self, plan: &Arc<ReadPlan>, keys: &Keys) -> Result<Vec<Vec<Answer>>, Failure> {
        self.check_wanted()?;
        let state = self.server.memory.read();
        let moment = Moment::new(&self.server.reader, Times::One(self.time), &state.positions, self.stop);
        moment.columns(&*state, plan, keys)
    }

    /// Refuses to go on once nobody waits.
    pub(super) fn check_wanted(&self) -> Result<(), Failure> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Failure::new(Remedy::Unavailable, "E4029", "nobody waits for this search any more")),
            false => Ok(()),
        }
    }

    /// What all reads have seen at least.
    pub(super) fn positions(&self) -> Positions {
        self.positions.take().unwrap_or_default()
    }
}
