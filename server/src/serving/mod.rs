//! Serving: from a request to values.
//!
//! `get` reads what a request names at one `moment`, in memory or, fetch by fetch, in a store that is `shared`; `tables` finds the table rows that events see; `past` answers from the
//! event log what records no longer hold; `explain` shows how one value came about. `training` runs jobs over
//! the whole log (`logged_events`), which `offline` is the door of, and whose files go to a `destination`; `trickle` recomputes what
//! was served, all the time; `search` finds nearest neighbours; `backfill` has a view built anew, `cut` tells what retention has taken. `sink` publishes values as they change. `wire` converts between values and
//! messages, `grpc` and `http` are the two doors, `status` is the one place where errors become codes.

pub mod answer;
pub mod api;
pub mod arrow;
mod backfill;
pub mod connection;
mod cut;
mod destination;
pub mod door;
pub mod explain;
pub mod get;
pub mod grpc;
mod history;
pub mod http;
pub mod json_columns;
mod logged_events;
mod moment;
pub mod offline;
pub mod past;
mod row_json;
pub mod sample;
pub mod search;
mod self_spine;
mod shared;
pub mod sink;
pub mod snapshot;
pub mod status;
mod tables;
pub mod training;
pub mod trickle;
pub mod verify;
pub mod wire;

pub use self::shared::SharedReads;
