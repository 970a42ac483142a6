//! What became of every consumed event. Committed with the state, so that it always adds up.

use tidemill_features::codec::{Cursor, Damaged, put_signed, put_varint};
use tidemill_features::record::Fate;

/// Of a source: `consumed = accepted + dead_lettered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceLedger {
    /// events taken from the source
    pub consumed: u64,
    /// those that could be read
    pub accepted: u64,
    /// those that could not
    pub dead_lettered: u64,
    /// newest event time accepted
    pub newest_event: Option<i64>,
}

/// Of a view: `accepted = applied + filtered + keyless + late + duplicate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewLedger {
    /// in a record
    pub applied: u64,
    /// `where` was not true
    pub filtered: u64,
    /// a key column was null
    pub keyless: u64,
    /// too old for any feature
    pub late: u64,
    /// seen before
    pub duplicate: u64,
    /// newest event time applied
    pub newest_event: Option<i64>,
}

impl SourceLedger {
    /// Adds what a batch brought.
    pub fn add(&mut self, other: &SourceLedger) {
        self.consumed += other.consumed;
        self.accepted += other.accepted;
        self.dead_lettered += other.dead_lettered;
        self.newest_event = self.newest_event.max(other.newest_event);
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        [self.consumed, self.accepted, self.dead_lettered].iter().for_each(|n| put_varint(out, *n));
        put_time(out, self.newest_event);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Damaged> {
        Ok(SourceLedger {
            consumed: cursor.varint()?,
            accepted: cursor.varint()?,
            dead_lettered: cursor.varint()?,
            newest_event: read_time(cursor)?,
        })
    }
}

impl ViewLedger {
    /// Counts one event.
    pub fn count(&mut self, fate: Fate, event_time: i64) {
        match fate {
            Fate::Applied => {
                self.applied += 1;
                self.newest_event = self.newest_event.max(Some(event_time));
            }
            Fate::Filtered => self.filtered += 1,
            Fate::Keyless => self.keyless += 1,
            Fate::Late => self.late += 1,
            Fate::Duplicate => self.duplicate += 1,
        }
    }

    /// Adds what a batch brought.
    pub fn add(&mut self, other: &ViewLedger) {
        self.applied += other.applied;
        self.filtered += other.filtered;
        self.keyless += other.keyless;
        self.late += other.late;
        self.duplicate += other.duplicate;
        self.newest_event = self.newest_event.max(other.newest_event);
    }

    /// Events of the source that this view has seen.
    pub fn seen(&self) -> u64 {
        self.applied + self.filtered + self.keyless + self.late + self.duplicate
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let counts = [self.applied, self.filtered, self.keyless, self.late, self.duplicate];
        counts.iter().for_each(|n| put_varint(out, *n));
        put_time(out, self.newest_event);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Damaged> {
        Ok(ViewLedger {
            applied: cursor.varint()?,
            filtered: cursor.varint()?,
            keyless: cursor.varint()?,
            late: cursor.varint()?,
            duplicate: cursor.varint()?,
            newest_event: read_time(cursor)?,
        })
    }
}

fn put_time(out: &mut Vec<u8>, time: Option<i64>) {
    out.push(u8::from(time.is_some()));
    put_signed(out, time.unwrap_or(0));
}

fn read_time(cursor: &mut Cursor<'_>) -> Result<Option<i64>, Damaged> {
    let present = cursor.byte()? != 0;
    let time = cursor.signed()?;
    Ok(present.then_some(time))
}
