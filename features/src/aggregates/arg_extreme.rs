//! arg_max and arg_min: the value beside the greatest or smallest of another column; of equal ones, that of the newest event.

use std::cmp::Ordering;

use super::order::EventOrder;
use crate::codec::{Cursor, Damaged, put_value};
use crate::value::{DataType, Value};

/// The event that wins so far.
#[derive(Clone, Debug)]
pub struct ArgExtreme {
    winner: Option<Winner>,
    wins: Ordering,
}

#[derive(Clone, Debug)]
struct Winner {
    by: Value<'static>,
    order: EventOrder<'static>,
    value: Value<'static>,
}

impl ArgExtreme {
    pub(super) fn new(wins: Ordering) -> Self {
        ArgExtreme { winner: None, wins }
    }

    pub(super) fn update(&mut self, order: &EventOrder<'_>, value: &Value<'_>, by: &Value<'_>) {
        let better = self.winner.as_ref().is_none_or(|winner| match by.order(&winner.by) {
            Ordering::Equal => order.order(&winner.order).is_gt(),
            differing => differing == self.wins,
        });
        if better {
            let (by, value) = (by.clone().into_owned(), value.clone().into_owned());
            self.winner = Some(Winner { by, order: order.to_owned(), value });
        }
    }

    pub(super) fn merge(&mut self, other: &ArgExtreme) {
        if let Some(Winner { by, order, value }) = &other.winner {
            self.update(order, value, by);
        }
    }

    pub(super) fn finish(&self) -> Value<'static> {
        self.winner.as_ref().map(|winner| winner.value.clone()).unwrap_or_default()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.winner.is_some()));
        if let Some(Winner { by, order, value }) = &self.winner {
            put_value(out, by);
            order.encode(out);
            put_value(out, value);
        }
    }

    pub(super) fn decode(
        cursor: &mut Cursor<'_>,
        wins: Ordering,
        (of, by): (&DataType, &DataType),
        id_type: Option<&DataType>,
    ) -> Result<ArgExtreme, Damaged> {
        if cursor.byte()? == 0 {
            return Ok(ArgExtreme { winner: None, wins });
        }
        let by = cursor.value(by)?.into_owned();
        let order = EventOrder::decode(cursor, id_type)?;
        let value = cursor.value(of)?.into_owned();
        Ok(ArgExtreme { winner: Some(Winner { by, order, value }), wins })
    }
}
