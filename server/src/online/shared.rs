//! What several processes share: records that say which commit wrote them, and how far each partition is in each shard.
//!
//! A shard of a shared store holds the records of its entities and, for each partition of each source, a `Progress`: who may
//! write, the next offset, and what became of the events before it. A commit changes both in one atomic step. It names the
//! token of the partition's owner, which must be equal to the stored one; the position that the owner thinks the shard has, which
//! must be the stored one; and for each record the commit that wrote the version it was computed from. So an owner that was
//! replaced, a store that went back in time, and two owners of two partitions that change one entity at once all come out at
//! the next commit, before anything is written.

use std::collections::BTreeMap;

use tidemill_features::codec::{Cursor, Damaged, put_signed, put_varint};
use tidemill_features::record::NodeId;

use super::ledger::{SourceLedger, ViewLedger};
use crate::place::LogPlace;

/// 128 random bits: who owns a partition, or which commit wrote something.
pub type Token = [u8; 16];

/// A partition of a source, by name, since places in the registry are those of one process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePartition {
    /// the source
    pub source: String,
    /// its partition
    pub partition: u32,
}

impl std::fmt::Display for SourcePartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.source, self.partition)
    }
}

/// What a shard, or the home of a partition, says of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// of its owner
    pub token: Token,
    /// the last commit
    pub batch: Token,
    /// every event of the partition below this offset is in
    pub next: u64,
    /// number of the commit
    pub sequence: u64,
    /// of the events before `next`
    pub totals: Totals,
}

/// What became of events of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// at a partition's home only
    pub source: SourceLedger,
    /// at a partition's home only: expressions that could not be computed
    pub row_errors: u64,
    /// at a partition's home only: where a walk over the log finds every event that a shard may lack, and the offset there
    pub safe: Option<(LogPlace, u64)>,
    /// at a partition's home only: how the last record that came of a topic looks
    pub print: Option<Print>,
    /// by definition hash of the view; keyless events at the home, all others in the shards of their entities
    pub views: BTreeMap<u64, ViewTotals>,
}

/// How a record of a topic is recognised: offset, time in microseconds, checksum.
pub type Print = (u64, Option<i64>, u32);

/// Of one view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewTotals {
    /// what became of the events
    pub ledger: ViewLedger,
    /// entities whose first event came from this partition
    pub entities: u64,
    /// bytes that events of this partition added to keys, records and chunks
    pub bytes: i64,
}

/// Format of an encoded progress.
const FORMAT: u8 = 1;
/// Bytes before the totals.
const HEAD: usize = 1 + 16 + 16 + 8 + 8;

impl Progress {
    /// The bytes that a commit expects: next offset and number.
    pub fn state(&self) -> [u8; 16] {
        let mut state = [0; 16];
        state[..8].copy_from_slice(&self.next.to_le_bytes());
        state[8..].copy_from_slice(&self.sequence.to_le_bytes());
        state
    }

    /// As it is stored. Scripts look at the token from byte 1, the batch from byte 17 and the state from byte 33 on.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + 32);
        out.push(FORMAT);
        out.extend_from_slice(&self.token);
        out.extend_from_slice(&self.batch);
        out.extend_from_slice(&self.state());
        let totals = &self.totals;
        totals.source.encode(&mut out);
        put_varint(&mut out, totals.row_errors);
        out.push(u8::from(totals.safe.is_some()));
        let (place, offset) = totals.safe.unwrap_or_default();
        [place.segment, place.offset, offset].iter().for_each(|n| put_varint(&mut out, *n));
        out.push(u8::from(totals.print.is_some()));
        let (offset, time, checksum) = totals.print.unwrap_or_default();
        put_varint(&mut out, offset);
        out.push(u8::from(time.is_some()));
        put_signed(&mut out, time.unwrap_or(0));
        put_varint(&mut out, u64::from(checksum));
        put_varint(&mut out, totals.views.len() as u64);
        for (hash, view) in &totals.views {
            out.extend_from_slice(&hash.to_le_bytes());
            view.ledger.encode(&mut out);
            put_varint(&mut out, view.entities);
            put_signed(&mut out, view.bytes);
        }
        out
    }

    /// Reads what was stored.
    pub fn decode(stored: &[u8]) -> Result<Progress, Damaged> {
        let (head, totals) = stored.split_at_checked(HEAD).ok_or(Damaged)?;
        if head[0] != FORMAT {
            return Err(Damaged);
        }
        let part = |from: usize| -> Result<Token, Damaged> { head[from..from + 16].try_into().map_err(|_| Damaged) };
        let word = |from: usize| -> Result<u64, Damaged> {
            Ok(u64::from_le_bytes(head[from..from + 8].try_into().map_err(|_| Damaged)?))
        };
        let mut cursor = Cursor::new(totals);
        let (source, row_errors) = (SourceLedger::decode(&mut cursor)?, cursor.varint()?);
        let has_place = cursor.byte()? != 0;
        let place = LogPlace { segment: cursor.varint()?, offset: cursor.varint()? };
        let safe = Some((place, cursor.varint()?)).filter(|_| has_place);
        let has_print = cursor.byte()? != 0;
        let (offset, has_time, time) = (cursor.varint()?, cursor.byte()? != 0, cursor.signed()?);
        let checksum = u32::try_from(cursor.varint()?).map_err(|_| Damaged)?;
        let print = Some((offset, Some(time).filter(|_| has_time), checksum)).filter(|_| has_print);
        let mut views = BTreeMap::new();
        for _ in 0..cursor.length()? {
            let mut hash = [0; 8];
            for byte in &mut hash {
                *byte = cursor.byte()?;
            }
            let ledger = ViewLedger::decode(&mut cursor)?;
            let view = ViewTotals { ledger, entities: cursor.varint()?, bytes: cursor.signed()? };
            views.insert(u64::from_le_bytes(hash), view);
        }
        let totals = Totals { source, row_errors, safe, print, views };
        Ok(Progress { token: part(1)?, batch: part(17)?, next: word(33)?, sequence: word(41)?, totals })
    }
}

impl Totals {
    /// Adds what else became of events.
    pub fn add(&mut self, other: &Totals) {
        self.source.add(&other.source);
        self.row_errors += other.row_errors;
        self.print = other.print.or(self.print);
        for (hash, more) in &other.views {
            let view = self.views.entry(*hash).or_default();
            view.ledger.add(&more.ledger);
            view.entities += more.entities;
            view.bytes += more.bytes;
        }
    }
}

/// Names a record: the view by its definition hash, and the encoded entity key.
pub type SharedKey = (u64, Box<[u8]>);

/// A record, and the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRecord {
    /// the commit
    pub stamp: Token,
    /// the record
    pub body: Box<[u8]>,
}

/// One atomic step in one shard.
#[derive(Clone, Debug)]
pub struct ShardCommit {
    /// the shard
    pub shard: usize,
    /// names the step: a step that was sent twice happens once. It becomes the stamp of the records
    pub batch: Token,
    /// partitions whose events are in it
    pub partitions: Vec<PartitionStep>,
    /// records that its events go into
    pub records: Vec<RecordStep>,
    /// whether it is the home of the partitions that is written, and not their progress in the shard
    pub at_home: bool,
}

/// How one partition goes on in a shard.
#[derive(Clone, Debug)]
pub struct PartitionStep {
    /// the partition
    pub partition: SourcePartition,
    /// what must be stored now
    pub from: [u8; 16],
    /// what is stored then
    pub to: Progress,
}

/// How one record changes, or does not.
#[derive(Clone, Debug)]
pub struct RecordStep {
    /// the record
    pub key: SharedKey,
    /// the commit that wrote what it was computed from; None: there was nothing
    pub from: Option<Token>,
    /// its new bytes; None: it stays, but what was decided by it holds only if it is still the same
    pub body: Option<Box<[u8]>>,
    /// chunks that change with it; None: gone
    pub chunks: Vec<(NodeId, Option<std::sync::Arc<[u8]>>)>,
    /// whether somebody wants to know that it has changed
    pub is_followed: bool,
}

impl ShardCommit {
    /// Whether it changes a record that is followed.
    pub fn changes_followed(&self) -> bool {
        self.records.iter().any(|record| record.is_followed && record.body.is_some())
    }
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// it is in the store, also when it was there before
    Done,
    /// nothing was written: the store has another owner, or another position, of this step of the commit
    Moved {
        /// which of the partitions
        step: usize,
        /// what is stored; None: nothing
        stored: Option<Progress>,
    },
    /// nothing was written: these records (by their places in the commit) have been changed by others
    Conflict(Vec<(usize, Option<SharedRecord>)>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ledger = ViewLedger { applied: 7, newest_event: Some(-5), ..ViewLedger::default() };
        let view = ViewTotals { ledger, entities: 3, bytes: -12 };
        let totals = Totals {
            source: SourceLedger { consumed: 9, accepted: 8, dead_lettered: 1, newest_event: None },
            row_errors: 2,
            safe: Some((LogPlace { segment: 4, offset: 70 }, 5)),
            print: Some((8, Some(-3), 77)),
            views: [(u64::MAX, view), (3, ViewTotals::default())].into(),
        };
        let progress = Progress { token: [1; 16], batch: [2; 16], next: 1 << 40, sequence: 77, totals };
        let stored = progress.encode();
        assert_eq!(Progress::decode(&stored), Ok(progress.clone()));
        assert_eq!(
            (&stored[1..17], &stored[17..33], &stored[33..49]),
            (&[1; 16][..], &[2; 16][..], &progress.state()[..])
        );
        for length in 0..stored.len() {
            assert!(Progress::decode(&stored[..length]).is_err(), "{length} bytes");
        }
    }
}
