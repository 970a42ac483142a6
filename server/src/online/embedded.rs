//! The embedded store on disk. Only this file knows fjall.
//!
//! Three keyspaces: records, chunks, meta. Keys begin with the shard, so that a shard lies together. The commit is one atomic
//! batch in which every value carries the batch's sequence number; meta names the sequence too, so a value ahead of its meta
//! would show a torn batch. Whatever is damaged is thrown away whole and derived anew from the event log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tidemill_features::codec::{Cursor, Damaged, put_bytes, put_signed, put_varint};
use tidemill_features::record::{Envelope, NodeId};

use super::ledger::{SourceLedger, ViewLedger};
use super::memory::{ChunkKey, Memory, RecordKey, Updates};
use crate::limits::SHARDS;
use crate::place::{LogPlace, shard_of};

/// What went wrong with the store, and so what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// there is no room: try again
    #[error("the disk is full: {0}")]
    Full(String),
    /// the disk does not let us
    #[error("the state store failed: {0}")]
    Unavailable(String),
    /// throw it away and derive it anew
    #[error("the state store is damaged: {0}")]
    Damaged(String),
    /// another process has it
    #[error("E5010: {0} is used by another process; stop that one, or choose another data_dir")]
    InUse(String),
}

impl From<Damaged> for StoreError {
    fn from(_: Damaged) -> Self {
        StoreError::Damaged("a record's checksum or form is wrong".to_string())
    }
}

/// What the store says of itself, written in the same batch as the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// of the commit
    pub sequence: u64,
    /// latest clock reading that the log has seen
    pub clock: i64,
    /// events of the log before this place are in positions and source ledgers
    pub applied_to: LogPlace,
    /// next offsets, by source name and partition
    pub positions: BTreeMap<(String, u32), u64>,
    /// by source name
    pub sources: BTreeMap<String, SourceLedger>,
    /// by definition hash
    pub views: BTreeMap<u64, ViewMeta>,
}

/// What the store says of one version of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewMeta {
    /// names it in keys
    pub id: u32,
    /// its ledger
    pub ledger: ViewLedger,
    /// events of the log before this place are in its records
    pub applied_to: LogPlace,
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
const META_FORMAT: u8 = 1;

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

    /// Loads all records and chunks of the views that `places` knows: view id of the meta to place in the registry.
    pub fn load(&self, places: &BTreeMap<u32, (u32, u64)>, sequence: u64, memory: &Memory) -> Result<(), StoreError> {
        let halves = [0..=(SHARDS / 2 - 1) as u8, (SHARDS / 2) as u8..=(SHARDS - 1) as u8];
        std::thread::scope(|scope| {
            let loading = halves.map(|half| scope.spawn(move || self.load_shards(half, places, sequence, memory)));
            let mut result = Ok(());
            for thread in loading {
                let part = thread.join().unwrap_or_else(|_| Err(StoreError::Damaged("loading panicked".into())));
                result = result.and(part);
            }
            result
        })
    }

    fn load_shards(
        &self,
        shards: std::ops::RangeInclusive<u8>,
        places: &BTreeMap<u32, (u32, u64)>,
        sequence: u64,
        memory: &Memory,
    ) -> Result<(), StoreError> {
        let range = vec![*shards.start()]..=[&[*shards.end()][..], &[0xff; 8]].concat();
        let mut updates = Updates::default();
        for keyspace in [&self.records, &self.chunks] {
            for pair in keyspace.range(range.clone()) {
                let (key, stored) = pair.into_inner().map_err(failed)?;
                let envelope = Envelope::open(&stored)?;
                let (view, rest) = split_key(&key)?;
                // Versions that are not declared any more stay as they are.
                let Some((place, definition)) = places.get(&view) else { continue };
                if envelope.sequence > sequence || envelope.definition != *definition {
                    return Err(StoreError::Damaged("a record is ahead of its commit".to_string()));
                }
                if std::ptr::eq(keyspace, &self.records) {
                    updates.records.push(((*place, rest.into()), envelope.body.into()));
                } else {
                    let (key, id) = split_chunk_key(rest)?;
                    updates.chunks.push(((*place, key.into(), id), Some(envelope.body.into())));
                }
                if updates.records.len() + updates.chunks.len() >= 4096 {
                    memory.publish(std::mem::take(&mut updates));
                }
            }
        }
        memory.publish(updates);
        Ok(())
    }

    /// Writes changes in one atomic batch.
    pub fn commit(&self, flush: &Flush, definitions: &BTreeMap<u32, u64>) -> Result<(), StoreError> {
        let sequence = flush.meta.sequence;
        let seal = |view: u32, body: &[u8]| {
            Envelope { definition: definitions.get(&view).copied().unwrap_or(0), sequence, body }.seal()
        };
        let mut batch = self.database.batch();
        for ((view, key), record) in &flush.records {
            batch.insert(&self.records, record_key(*view, key), seal(*view, record));
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
        self.database.persist(PersistMode::Buffer).map_err(failed)
    }

    /// Makes all commits durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }
}

fn record_key(view: u32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + key.len());
    out.push(shard_of(key) as u8);
    out.extend_from_slice(&view.to_be_bytes());
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
    let view: [u8; 4] = stored.get(1..5).and_then(|b| b.try_into().ok()).ok_or(Damaged)?;
    Ok((u32::from_be_bytes(view), &stored[5..]))
}

fn split_chunk_key(rest: &[u8]) -> Result<(&[u8], NodeId), Damaged> {
    let (key, id) = rest.split_at_checked(rest.len().checked_sub(9).ok_or(Damaged)?).ok_or(Damaged)?;
    let slot: [u8; 8] = id[1..].try_into().map_err(|_| Damaged)?;
    Ok((key, NodeId { level: id[0], slot: u64::from_be_bytes(slot) }))
}

fn put_place(out: &mut Vec<u8>, place: LogPlace) {
    put_varint(out, place.segment);
    put_varint(out, place.offset);
}

fn read_place(cursor: &mut Cursor<'_>) -> Result<LogPlace, Damaged> {
    Ok(LogPlace { segment: cursor.varint()?, offset: cursor.varint()? })
}

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![META_FORMAT];
        put_varint(&mut out, self.sequence);
        put_signed(&mut out, self.clock);
        put_place(&mut out, self.applied_to);
        put_varint(&mut out, self.positions.len() as u64);
        for ((source, partition), next) in &self.positions {
            put_bytes(&mut out, source.as_bytes());
            put_varint(&mut out, u64::from(*partition));
            put_varint(&mut out, *next);
        }
        put_varint(&mut out, self.sources.len() as u64);
        for (source, ledger) in &self.sources {
            put_bytes(&mut out, source.as_bytes());
            ledger.encode(&mut out);
        }
        put_varint(&mut out, self.views.len() as u64);
        for (hash, view) in &self.views {
            put_varint(&mut out, *hash);
            put_varint(&mut out, u64::from(view.id));
            view.ledger.encode(&mut out);
            put_place(&mut out, view.applied_to);
        }
        out
    }

    fn decode(stored: &[u8]) -> Result<Meta, Damaged> {
        let mut cursor = Cursor::new(stored);
        if cursor.byte()? != META_FORMAT {
            return Err(Damaged);
        }
        let (sequence, clock, applied_to) = (cursor.varint()?, cursor.signed()?, read_place(&mut cursor)?);
        let mut meta = Meta { sequence, clock, applied_to, ..Meta::default() };
        let name = |cursor: &mut Cursor<'_>| String::from_utf8(cursor.bytes()?.to_vec()).map_err(|_| Damaged);
        for _ in 0..cursor.length()? {
            let key = (name(&mut cursor)?, cursor.varint()? as u32);
            meta.positions.insert(key, cursor.varint()?);
        }
        for _ in 0..cursor.length()? {
            let source = name(&mut cursor)?;
            meta.sources.insert(source, SourceLedger::decode(&mut cursor)?);
        }
        for _ in 0..cursor.length()? {
            let hash = cursor.varint()?;
            let id = cursor.varint()? as u32;
            let ledger = ViewLedger::decode(&mut cursor)?;
            let applied_to = read_place(&mut cursor)?;
            meta.views.insert(hash, ViewMeta { id, ledger, applied_to });
        }
        Ok(meta)
    }
}
