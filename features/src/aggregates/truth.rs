//! any and all: whether some or every value is true.

use crate::codec::{Cursor, Damaged};
use crate::value::Value;

/// Which of the two values were seen.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    seen_true: bool,
    seen_false: bool,
}

impl Truth {
    pub(super) fn update(&mut self, value: &Value<'_>) {
        match value {
            Value::Bool(true) => self.seen_true = true,
            _ => self.seen_false = true,
        }
    }

    pub(super) fn merge(&mut self, other: &Truth) {
        self.seen_true |= other.seen_true;
        self.seen_false |= other.seen_false;
    }

    pub(super) fn any(&self) -> Value<'static> {
        Value::Bool(self.seen_true)
    }

    pub(super) fn all(&self) -> Value<'static> {
        Value::Bool(!self.seen_false)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.seen_true) | u8::from(self.seen_false) << 1);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Truth, Damaged> {
        let seen = cursor.byte()?;
        Ok(Truth { seen_true: seen & 1 != 0, seen_false: seen & 2 != 0 })
    }
}
