//! The embedded store on disk. Only this file knows fjall.
//!
//! Three keyspaces: records, chunks, meta. Keys begin with the shard, so that a shard lies together. The commit is one atomic
//! batch in which every value carries the batch's sequence number; meta names the sequence too, so a value ahead of its meta
//! would show a torn batch. Whatever is damaged is thrown away whole and derived anew from the event log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tidemill_features::codec::Damaged;
use tidemill_features::hash::hash_bytes;
use tidemill_features::record::{Envelope, NodeId};

use super::memory::{ChunkKey, RecordKey};
use super::meta::Meta;
use super::shards::{Shard, ViewState};
use crate::limits::SHARDS;
use crate::place::shard_of;

/// What went wrong with the store, and so what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// there is no room: try again
    #[error("the disk is full: {0}")]
    Full(String),
    /// the disk does not let us
    #[error("the state store failed: {0}")]
    Unavailable(String),
    /// a server that has the state has no room, or does not answer: try again
    #[error("{0}")]
    Away(String),
    /// a request asks for more than one may have
    #[error("more bytes than one request may have")]
    TooMuch,
    /// throw it away and derive it anew
    #[error("the state store is damaged: {0}")]
    Damaged(String),
    /// it is not what the settings say, or does not let us in: mend that
    #[error("{0}")]
    Refused(String),
    /// another process has it
    #[error("E5010: {0} is used by another process; stop that one, or choose another data_dir")]
    InUse(String),
}

impl From<Damaged> for StoreError {
    fn from(_: Damaged) -> Self {
        StoreError::Damaged("a record's checksum or form is wrong".to_string())
    }
}

/// Changes on their way to the disk.
#[derive(Default)]
pub struct Flush {
    /// by view id of the meta
    pub records: Vec<(RecordKey, Box<[u8]>)>,
    /// by view id of the meta; None: gone
    pub chunks: Vec<(ChunkKey, Option<Arc<[u8]>>)>,
    /// all of it, new
    pub meta: Meta,
}

/// An open store.
pub struct Embedded {
    database: Database,
    records: Keyspace,
    chunks: Keyspace,
    meta: Keyspace,
}

const META_KEY: &[u8] = b"commit";

fn failed(error: fjall::Error) -> StoreError {
    use std::io::ErrorKind;
    if matches!(error, fjall::Error::Locked) {
        return StoreError::InUse("the data directory".to_string());
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        if let Some(io) = at.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(io.to_string()),
                ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
                    StoreError::Damaged(io.to_string())
                }
                _ => StoreError::Unavailable(io.to_string()),
            };
        }
        cause = at.source();
    }
    StoreError::Damaged(error.to_string())
}

impl Embedded {
    /// Opens or makes the store in a folder.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        // Durability comes from the event log; the store may lag behind it, so its journal is synced by us.
        let database =
            Database::builder(folder).manual_journal_persist(true).worker_threads(1).open().map_err(failed)?;
        let open = |name| database.keyspace(name, KeyspaceCreateOptions::default).map_err(failed);
        let (records, chunks, meta) = (open("records")?, open("chunks")?, open("meta")?);
        Ok(Embedded { database, records, chunks, meta })
    }

    /// What the last commit said; the default where there was none.
    pub fn meta(&self) -> Result<Meta, StoreError> {
        match self.meta.get(META_KEY).map_err(failed)? {
            None => Ok(Meta::default()),
            Some(stored) => Ok(Meta::decode(Envelope::open(&stored)?.body)?),
        }
    }

    /// Loads all records and chunks of some versions of views: definition hash by id.
    pub fn load(
        &self,
        definitions: &BTreeMap<u32, u64>,
        sequence: u64,
    ) -> Result<BTreeMap<u32, ViewState>, StoreError> {
        let half = SHARDS / 2;
        let (lower, upper) = std::thread::scope(|scope| {
            let upper = scope.spawn(|| self.load_shards(half..SHARDS, definitions, sequence));
            let lower = self.load_shards(0..half, definitions, sequence);
            (lower, upper.join().unwrap_or_else(|_| Err(StoreError::Damaged("loading panicked".into()))))
        });
        let (mut lower, mut upper) = (lower?, upper?);
        let mut views = BTreeMap::new();
        for id in definitions.keys() {
            let mut shards = lower.remove(id).unwrap_or_default();
            shards.extend(upper.remove(id).unwrap_or_default());
            views.insert(*id, ViewState { shards, ..ViewState::default() });
        }
        Ok(views)
    }

    fn load_shards(
        &self,
        shards: std::ops::Range<usize>,
        definitions: &BTreeMap<u32, u64>,
        sequence: u64,
    ) -> Result<BTreeMap<u32, Vec<Shard>>, StoreError> {
        let empty = || shards.clone().map(|_| Shard::default()).collect::<Vec<_>>();
        let mut views: BTreeMap<u32, Vec<Shard>> = definitions.keys().map(|id| (*id, empty())).collect();
        for shard in shards.clone() {
            for keyspace in [&self.records, &self.chunks] {
                for pair in keyspace.prefix([shard as u8]) {
                    let (key, stored) = pair.into_inner().map_err(failed)?;
                    let envelope = Envelope::open(&stored)?;
                    let (view, rest) = split_key(&key)?;
                    // Versions that are not asked for stay as they are.
                    let Some(loaded) = views.get_mut(&view).and_then(|view| view.get_mut(shard - shards.start)) else {
                        continue;
                    };
                    if envelope.sequence > sequence || definitions.get(&view) != Some(&envelope.definition) {
                        return Err(StoreError::Damaged("a record is ahead of its commit".to_string()));
                    }
                    if std::ptr::eq(keyspace, &self.records) {
                        loaded.put_record(hash_bytes(rest), rest, envelope.body, 0);
                    } else {
                        let (key, id) = split_chunk_key(rest)?;
                        loaded.put_chunk(key, id, Some(envelope.body.into()));
                    }
                }
            }
        }
        Ok(views)
    }

    /// Removes what a dropped version has in one shard.
    pub fn purge(&self, id: u32, shard: u8) -> Result<(), StoreError> {
        for keyspace in [&self.records, &self.chunks] {
            let mut batch = self.database.batch();
            for pair in keyspace.prefix(shard_prefix(shard, id)) {
                batch.remove(keyspace, pair.key().map_err(failed)?);
            }
            if !batch.is_empty() {
                batch.commit().map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Writes changes in one atomic batch.
    pub fn commit(&self, flush: &Flush) -> Result<(), StoreError> {
        let (sequence, definitions) = (flush.meta.sequence, flush.meta.definitions());
        let seal = |view: u32, body: &[u8]| {
            Envelope { definition: definitions.get(&view).copied().unwrap_or(0), sequence, body }.seal()
        };
        let mut batch = self.database.batch();
        let records = flush.records.iter().map(|((view, key), record)| (record_key(*view, key), *view, &**record));
        let mut records: Vec<(Vec<u8>, u32, &[u8])> = records.collect();

        // In order, each is looked for where the one before it went.
        records.sort_unstable();
        for (key, view, record) in records {
            batch.insert(&self.records, key, seal(view, record));
        }
        for ((view, key, id), chunk) in &flush.chunks {
            match chunk {
                Some(chunk) => batch.insert(&self.chunks, chunk_key(*view, key, *id), seal(*view, chunk)),
                None => batch.remove(&self.chunks, chunk_key(*view, key, *id)),
            }
        }
        let meta = Envelope { definition: 0, sequence, body: &flush.meta.encode() }.seal();
        batch.insert(&self.meta, META_KEY, meta);
        batch.commit().map_err(failed)?;
        // The log is the truth, and does not need it; but what lies unwritten for long is written all at once, and where both share a
        // disk a sync of the log then waits for it.
        self.database.persist(PersistMode::SyncData).map_err(failed)
    }

    /// Makes all commits durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }
}

/// Bytes of a stored key before the entity's.
const PREFIX: usize = 5;

fn shard_prefix(shard: u8, view: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX);
    out.push(shard);
    out.extend_from_slice(&view.to_be_bytes());
    out
}

fn record_key(view: u32, key: &[u8]) -> Vec<u8> {
    let mut out = shard_prefix(shard_of(key) as u8, view);
    out.extend_from_slice(key);
    out
}

fn chunk_key(view: u32, key: &[u8], id: NodeId) -> Vec<u8> {
    let mut out = record_key(view, key);
    out.push(id.level);
    out.extend_from_slice(&id.slot.to_be_bytes());
    out
}

fn split_key(stored: &[u8]) -> Result<(u32, &[u8]), Damaged> {
    let view: [u8; 4] = stored.get(1..PREFIX).and_then(|b| b.try_into().ok()).ok_or(Damaged)?;
    Ok((u32::from_be_bytes(view), &stored[PREFIX..]))
}

fn split_chunk_key(rest: &[u8]) -> Result<(&[u8], NodeId), Damaged> {
    let (key, id) = rest.split_at_checked(rest.len().checked_sub(9).ok_or(Damaged)?).ok_or(Damaged)?;
    let slot: [u8; 8] = id[1..].try_into().map_err(|_| Damaged)?;
    Ok((key, NodeId { level: id[0], slot: u64::from_be_bytes(slot) }))
}
