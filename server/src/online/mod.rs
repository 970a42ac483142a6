//! The online store: what serving reads.
//!
//! `memory` is the state that reads see: records and chunks by view and key, with the positions and the ledger that go with
//! them, all published in one step. `embedded` keeps it on disk with fjall: one atomic batch holds changed records, positions
//! and ledger, so nothing can be counted twice or forgotten. It may lag behind memory; the event log fills the gap at start.

mod embedded;
mod ledger;
mod memory;

pub use self::embedded::{Embedded, Flush, Meta, StoreError, ViewMeta};
pub use self::ledger::{SourceLedger, ViewLedger};
pub use self::memory::{ChunkKey, Memory, RecordKey, State, Updates};
