//! Offline: the same values as serving's, computed from the event log for many entities at many moments, and the files that
//! they come from and go to.
//!
//! `spine` reads the rows for which features are wanted; `replay` reads what a service names for rows of keys and times:
//! `asked` are the keys, `event_log` is what it asks of the log, events come in `ranges` of sorted keys or are gathered in
//! `pile`s, the rows of joined tables in `tables`, and `visibility` says which events a row sees. `training_set` writes rows
//! with their features as Parquet. This room knows neither servers nor logs.

mod asked;
mod event_log;
mod pile;
mod ranges;
mod replay;
pub mod spine;
mod tables;
pub mod training_set;
mod visibility;

pub use self::event_log::{EventLog, FileRange, Located};
pub use self::replay::Replay;
pub use self::spine::{Spine, SpineRows, Wanted};
pub use self::visibility::{CommitTimes, Positions, Visibility};
