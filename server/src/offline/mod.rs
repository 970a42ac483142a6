//! Offline: what goes into a training set and what comes out, files to files.
//!
//! `spine` reads the rows for which features are wanted; `training_set` writes them, with their features, as Parquet. How the
//! features come about is not decided here, and neither does this room know servers, logs or definitions.

pub mod spine;
pub mod training_set;
