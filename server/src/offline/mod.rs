//! Offline: the same values as serving's, computed from the event log for many entities at many moments.
//!
//! `replay` reads what a service names for rows of keys and times; it gathers the events of those keys in `pile`s and the rows
//! of joined tables in `tables`; `visibility` says from when on a read may see an event.

mod pile;
mod replay;
mod stub;
mod tables;
mod visibility;

pub use self::replay::{Replay, Walk};
pub use self::stub::*;
pub use self::visibility::{CommitTimes, Positions, Visibility};
