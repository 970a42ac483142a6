//! min and max: the smallest or greatest value seen.

use std::cmp::Ordering;

use crate::codec::{Cursor, Damaged, put_optional};
use crate::value::{DataType, Value};

/// The value that wins, and which side wins.
#[derive(Clone, Debug)]
pub struct Extreme {
    winner: Value<'static>,
    wins: Ordering,
}

impl Extreme {
    pub(super) fn new(wins: Ordering) -> Self {
        Extreme { winner: Value::Null, wins }
    }

    #[inline]
    pub(super) fn update(&mut self, value: &Value<'_>) {
        if self.winner.is_null() || value.order(&self.winner) == self.wins {
            self.winner = value.clone().into_owned();
        }
    }

    pub(super) fn merge(&mut self, other: &Extreme) {
        if !other.winner.is_null() {
            self.update(&other.winner);
        }
    }

    pub(super) fn finish(&self) -> Value<'static> {
        self.winner.clone()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_optional(out, &self.winner);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, input: &DataType, wins: Ordering) -> Result<Extreme, Damaged> {
        Ok(Extreme { winner: cursor.optional(input)?.into_owned(), wins })
    }
}
