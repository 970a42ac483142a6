//! The meaning: what a feature value is, computed.
//!
//! A pure core: no I/O, no clock, no randomness, no threads. Ingest, serving and training call the same functions. In
//! reading order: `value` and `time` (what flows), `definitions` (what users declare), `expression` (rows), `aggregates` (sets
//! of events), `plan` (a checked view, ready to run), `stream` (events as a view sees them), `record` (what is kept of an
//! entity), `read` (a record and T to values), `service` (all that one model reads). `reference` is the page that tells users all of it.

pub mod aggregates;
pub mod codec;
pub mod definitions;
pub mod expression;
pub mod hash;
pub mod plan;
pub mod problem;
pub mod read;
pub mod record;
pub mod reference;
pub mod service;
pub mod stream;
pub mod time;
pub mod value;
