//! What the store says of itself, written in the same batch as the records.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_features::codec::{Cursor, Damaged, put_bytes, put_signed, put_varint};

use super::ledger::{SourceLedger, ViewLedger};
use crate::place::LogPlace;

/// What the store says of itself.
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
    /// by definition hash; also versions that no definition names now
    pub views: BTreeMap<u64, ViewMeta>,
    /// by definition hash: state that is derived anew beside the one in `views`, which serves meanwhile
    pub rebuilds: BTreeMap<u64, ViewMeta>,
    /// ids whose records are to be removed
    pub dropped: BTreeSet<u32>,
    /// the id that the next version gets; none is given twice, so that records of a dropped one cannot come back
    pub next_id: u32,
}

/// What the store says of one version of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewMeta {
    /// names it in keys
    pub id: u32,
    /// as declared; empty where an older format did not say it
    pub name: String,
    /// its ledger
    pub ledger: ViewLedger,
    /// events of the log before this place are in its records
    pub applied_to: LogPlace,
    /// the commit since which no definition names this version; 0: one does
    pub retired: u64,
}

/// Format 1 had neither names nor rebuilds.
const META_FORMAT: u8 = 2;

fn put_place(out: &mut Vec<u8>, place: LogPlace) {
    put_varint(out, place.segment);
    put_varint(out, place.offset);
}

fn read_place(cursor: &mut Cursor<'_>) -> Result<LogPlace, Damaged> {
    Ok(LogPlace { segment: cursor.varint()?, offset: cursor.varint()? })
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, Damaged> {
    String::from_utf8(cursor.bytes()?.to_vec()).map_err(|_| Damaged)
}

fn id(cursor: &mut Cursor<'_>) -> Result<u32, Damaged> {
    u32::try_from(cursor.varint()?).map_err(|_| Damaged)
}

impl Meta {
    /// An id that no version has had.
    pub fn take_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Definition hashes by the id of a version.
    pub fn definitions(&self) -> BTreeMap<u32, u64> {
        self.views.iter().chain(&self.rebuilds).map(|(hash, view)| (view.id, *hash)).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
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
        for views in [&self.views, &self.rebuilds] {
            put_varint(&mut out, views.len() as u64);
            for (hash, view) in views {
                put_varint(&mut out, *hash);
                put_varint(&mut out, u64::from(view.id));
                view.ledger.encode(&mut out);
                put_place(&mut out, view.applied_to);
                put_bytes(&mut out, view.name.as_bytes());
                put_varint(&mut out, view.retired);
            }
        }
        put_varint(&mut out, self.dropped.len() as u64);
        self.dropped.iter().for_each(|id| put_varint(&mut out, u64::from(*id)));
        put_varint(&mut out, u64::from(self.next_id));
        out
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Meta, Damaged> {
        let mut cursor = Cursor::new(stored);
        let format = cursor.byte()?;
        if format == 0 || format > META_FORMAT {
            return Err(Damaged);
        }
        let (sequence, clock, applied_to) = (cursor.varint()?, cursor.signed()?, read_place(&mut cursor)?);
        let mut meta = Meta { sequence, clock, applied_to, ..Meta::default() };
        for _ in 0..cursor.length()? {
            let key = (text(&mut cursor)?, cursor.varint()? as u32);
            meta.positions.insert(key, cursor.varint()?);
        }
        for _ in 0..cursor.length()? {
            let source = text(&mut cursor)?;
            meta.sources.insert(source, SourceLedger::decode(&mut cursor)?);
        }
        meta.views = views(&mut cursor, format)?;
        if format == 1 {
            meta.next_id = meta.views.values().map(|view| view.id + 1).max().unwrap_or(0);
            return Ok(meta);
        }
        meta.rebuilds = views(&mut cursor, format)?;
        for _ in 0..cursor.length()? {
            meta.dropped.insert(id(&mut cursor)?);
        }
        meta.next_id = id(&mut cursor)?;
        Ok(meta)
    }
}

fn views(cursor: &mut Cursor<'_>, format: u8) -> Result<BTreeMap<u64, ViewMeta>, Damaged> {
    let mut views = BTreeMap::new();
    for _ in 0..cursor.length()? {
        let hash = cursor.varint()?;
        let id = id(cursor)?;
        let ledger = ViewLedger::decode(cursor)?;
        let applied_to = read_place(cursor)?;
        let (name, retired) = if format == 1 { (String::new(), 0) } else { (text(cursor)?, cursor.varint()?) };
        views.insert(hash, ViewMeta { id, name, ledger, applied_to, retired });
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let place = LogPlace { segment: 3, offset: 99 };
        let ledger = ViewLedger { applied: 5, late: 2, newest_event: Some(-4), ..ViewLedger::default() };
        let view = |id, retired| ViewMeta { id, name: "v".into(), ledger, applied_to: place, retired };
        let meta = Meta {
            sequence: 7,
            clock: -1,
            applied_to: place,
            positions: [(("s".to_string(), 2), 8)].into(),
            sources: [("s".to_string(), SourceLedger { consumed: 8, accepted: 8, ..SourceLedger::default() })].into(),
            views: [(u64::MAX, view(0, 0)), (4, view(1, 6))].into(),
            rebuilds: [(4, view(2, 0))].into(),
            dropped: [3].into(),
            next_id: 4,
        };
        assert_eq!(Meta::decode(&meta.encode()), Ok(meta.clone()));
        for length in 0..meta.encode().len() {
            assert!(Meta::decode(&meta.encode()[..length]).is_err(), "{length} bytes");
        }
    }

    /// As the first format was written.
    #[test]
    fn the_first_format_is_read() {
        let mut stored = vec![1];
        put_varint(&mut stored, 7);
        put_signed(&mut stored, 11);
        put_place(&mut stored, LogPlace { segment: 1, offset: 2 });
        put_varint(&mut stored, 0);
        put_varint(&mut stored, 0);
        put_varint(&mut stored, 1);
        put_varint(&mut stored, 77);
        put_varint(&mut stored, 4);
        ViewLedger::default().encode(&mut stored);
        put_place(&mut stored, LogPlace { segment: 1, offset: 2 });
        let meta = Meta::decode(&stored).unwrap();
        assert_eq!((meta.next_id, meta.views[&77].id, meta.views[&77].applied_to.segment), (5, 4, 1));
        assert!(meta.rebuilds.is_empty() && meta.dropped.is_empty());
    }
}
