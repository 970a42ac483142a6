//! The online store: what serving reads.
//!
//! `memory` is the state that reads see: records and chunks by view and key, with the positions and the ledger that go with
//! them, all published in one step; `shards` are the records of one view. `embedded` keeps them on disk with fjall: one atomic
//! batch holds changed records, positions and ledger (`meta`), so nothing can be counted twice or forgotten. It may lag behind
//! memory; the event log fills the gap at start.
//!
//! `shared` is what a store of several processes has instead: records that say which commit wrote them, and positions for each
//! shard, changed together in one step. `redis` keeps it in Redis or a Redis Cluster. Reads see either
//! kind through `records`; `fetched` is what one request has fetched of a shared store.

mod embedded;
mod fetched;
mod ledger;
mod memory;
mod meta;
mod records;
mod redis;
mod shards;
mod shared;

pub use self::embedded::{Embedded, Flush, StoreError};
pub use self::fetched::Fetched;
pub use self::ledger::{SourceLedger, ViewLedger};
pub use self::memory::{ChunkKey, MemberShown, Memory, RecordKey, Sources, State, Updates};
pub use self::meta::{Meta, ViewMeta};
pub use self::records::Records;
pub(crate) use self::redis::pause;
pub use self::redis::{Change, Changes, Claimed, ProgressOf, ReadChunks, RedisStore, home_of};
pub use self::shards::{RecordChunks, Shard, ViewState};
pub use self::shared::{
    Outcome, PartitionStep, Print, Progress, RecordStep, ShardCommit, SharedKey, SharedRecord, SourcePartition, Token,
    Totals, ViewTotals,
};
