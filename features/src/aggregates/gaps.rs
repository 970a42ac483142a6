//! mean_gap and max_gap: the time between events that follow one another.
//!
//! The mean needs the ends and the number of events only. The greatest gap is no sum of parts in any order: two runs of events
//! can be put together only where one ends before the other begins. So its state is built in the order of time, from rows or
//! from spans beside one another; a span that gets events in its middle is summed up anew from the spans below it.

use num_bigint::{BigInt, BigUint};

use super::exact::round_ratio;
use crate::codec::{Cursor, Damaged, put_signed, put_varint};
use crate::value::Value;

const MICROS: u64 = 1_000_000;

/// Number of events, and the time of the oldest and the newest.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    events: u64,
    ends: Option<(i64, i64)>,
}

impl Ends {
    pub(super) fn update(&mut self, time: i64) {
        self.add(1, (time, time));
    }

    fn add(&mut self, events: u64, (oldest, newest): (i64, i64)) {
        self.events += events;
        self.ends = Some(self.ends.map_or((oldest, newest), |(a, b)| (a.min(oldest), b.max(newest))));
    }

    pub(super) fn merge(&mut self, other: &Ends) {
        if let Some(ends) = other.ends {
            self.add(other.events, ends);
        }
    }

    /// Seconds; null below two events.
    pub(super) fn mean(&self) -> Value<'static> {
        let Some((oldest, newest)) = self.ends.filter(|_| self.events > 1) else { return Value::Null };
        let divisor = BigUint::from(self.events - 1) * BigUint::from(MICROS);
        round_ratio(&(BigInt::from(newest) - BigInt::from(oldest)), &divisor, 0).map_or(Value::Null, Value::Float64)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.events);
        if let Some((oldest, newest)) = self.ends {
            put_signed(out, oldest);
            put_signed(out, newest);
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Ends, Damaged> {
        let events = cursor.count()?;
        let ends = if events > 0 { Some((cursor.signed()?, cursor.signed()?)) } else { None };
        Ok(Ends { events, ends })
    }
}

/// A run of events: where it begins and ends, and the greatest gap in it.
#[derive(Clone, Debug, Default)]
pub struct Run {
    run: Option<(i64, i64, u64)>,
    events: u64,
}

impl Run {
    pub(super) fn update(&mut self, time: i64) {
        self.join(&Run { run: Some((time, time, 0)), events: 1 });
    }

    pub(super) fn merge(&mut self, other: &Run) {
        self.join(other);
    }

    fn join(&mut self, other: &Run) {
        self.events += other.events;
        self.run = match (self.run, other.run) {
            (own, None) => own,
            (None, other) => other,
            (Some((a, b, gap)), Some((c, d, other_gap))) => {
                // One of the two is negative, or both where damaged bytes say that they overlap.
                let between = c.saturating_sub(b).max(a.saturating_sub(d)).max(0).unsigned_abs();
                Some((a.min(c), b.max(d), gap.max(other_gap).max(between)))
            }
        };
    }

    /// Seconds; null below two events.
    pub(super) fn greatest(&self) -> Value<'static> {
        match self.run {
            Some((_, _, gap)) if self.events > 1 => Value::Float64(gap as f64 / MICROS as f64),
            _ => Value::Null,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.events);
        if let Some((first, last, gap)) = self.run {
            put_signed(out, first);
            put_signed(out, last);
            put_varint(out, gap);
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Run, Damaged> {
        let events = cursor.count()?;
        let run = if events > 0 { Some((cursor.signed()?, cursor.signed()?, cursor.varint()?)) } else { None };
        Ok(Run { run, events })
    }
}

/// Seconds from the newest event to T.
pub(super) fn since(newest: i64, time: i64) -> Value<'static> {
    let micros = i128::from(time) - i128::from(newest);
    round_ratio(&BigInt::from(micros), &BigUint::from(MICROS), 0).map_or(Value::Null, Value::Float64)
}
