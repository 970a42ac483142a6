//! The process: everything of Tidemill that touches the world.
//!
//! The data path, in the order in which an event takes it: `source` (bytes to typed rows), `log` (made durable), `ingest`
//! (folded into records), `online` (kept and published), `serving` (read). Beside it `offline` (files of rows in, training
//! sets out), `vectors` (nearest neighbours), `collections` (indexes that follow the records), `catalog` (what is declared), `cli` (the verbs), and below all of them `background`, `clock`,
//! `limits`, `settings`, `objects` (files by URL, `s3://` too).
//! `components` alone puts the parts together.

pub mod background;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod collections;
pub mod columnar;
pub mod components;
pub mod failure;
pub mod ingest;
pub mod json;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod objects;
pub mod offline;
pub mod online;
pub mod place;
pub mod serving;
pub mod settings;
pub mod source;
pub mod vectors;
