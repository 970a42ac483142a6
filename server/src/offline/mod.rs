//! Offline: the same values as serving's, computed from the event log for many entities at many moments, and the files that
//! they come from and go to.
//!
//! `spine` reads the rows for which features are wanted; `replay` reads what a service names for rows of keys and times: it
//! gathers the events of those keys in `pile`s and the rows of joined tables in `tables`, and `visibility` says which events a
//! row sees; `training_set` writes rows with their features as Parquet. This room knows neither servers nor logs.

mod pile;
mod replay;
pub mod spine;
mod tables;
pub mod training_set;
mod visibility;

pub use self::replay::{Gone, Replay, Walk};
pub use self::spine::{Spine, SpineRows, Wanted};
pub use self::visibility::{CommitTimes, Positions, Visibility};
