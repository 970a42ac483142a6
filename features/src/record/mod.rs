//! Records: what is kept of one entity in one view.
//!
//! A record is one run of bytes: newest and oldest event time, event ids (for deduplication), a base (for features without a
//! left edge) and a node (its events, see `node`). Larger records have chunks beside them. All of it is canonical: equal sets
//! of events give equal bytes. `envelope` wraps a record for the disk. In reading order: `row`, `node`, `tree`, `ids`, `base`,
//! `apply`.

mod apply;
mod base;
mod envelope;
mod ids;
mod node;
mod row;
mod tree;

pub use self::apply::{Applied, Fate, Incoming, Judge, apply};
pub use self::base::Base;
pub use self::envelope::{Envelope, FORMAT};
pub use self::node::{Branch, LEAF_MAX, Node, NodeId, Nodes, Tile};
pub use self::row::{Row, Rows, encode_body, sort_numbered, sort_rows};

use crate::codec::{Cursor, Damaged, put_bytes, put_signed};
use crate::time::{MAX_TIME, MIN_TIME};

/// A record, parsed as far as its parts.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// greatest event time applied
    pub newest: i64,
    /// smallest event time applied or late
    pub oldest: i64,
    /// known event ids
    pub ids: Option<&'a [u8]>,
    /// what lifetime and last_n features need of events that have left
    pub base: Option<&'a [u8]>,
    /// the events
    pub node: &'a [u8],
}

const HAS_IDS: u8 = 1;
const HAS_BASE: u8 = 2;

impl<'a> Outline<'a> {
    /// Parses a record.
    pub fn parse(record: &'a [u8]) -> Result<Self, Damaged> {
        let mut cursor = Cursor::new(record);
        let parts = cursor.byte()?;
        let (newest, oldest) = (cursor.signed()?, cursor.signed()?);
        let is_time = |time: i64| (MIN_TIME..=MAX_TIME).contains(&time);
        // Where no event was applied there is no newest one.
        if !(is_time(newest) || newest == i64::MIN) || !(is_time(oldest) || oldest == i64::MAX) {
            return Err(Damaged);
        }
        Ok(Outline {
            newest,
            oldest,
            ids: if parts & HAS_IDS != 0 { Some(cursor.bytes()?) } else { None },
            base: if parts & HAS_BASE != 0 { Some(cursor.bytes()?) } else { None },
            node: cursor.rest(),
        })
    }
}

fn put_outline(outline: &Outline<'_>, out: &mut Vec<u8>) {
    let parts = [(outline.ids, HAS_IDS), (outline.base, HAS_BASE)];
    out.push(parts.iter().filter(|(part, _)| part.is_some()).map(|(_, flag)| flag).sum());
    put_signed(out, outline.newest);
    put_signed(out, outline.oldest);
    parts.iter().filter_map(|(part, _)| *part).for_each(|part| put_bytes(out, part));
    out.extend_from_slice(outline.node);
}
