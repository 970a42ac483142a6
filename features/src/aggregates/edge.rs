//! first, last, first_k, last_k: the values at one end of the total order of events.

use std::cmp::Ordering;

use super::order::EventOrder;
use crate::codec::{Cursor, Damaged, put_value, put_varint};
use crate::value::{DataType, Value};

/// Which end of the order, and how many values of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// newest instead of oldest
    pub newest: bool,
    /// how many values are kept
    pub k: usize,
    /// equal values count once
    pub distinct: bool,
}

/// Up to k values with their places, best first.
#[derive(Clone, Debug)]
pub struct AtEdge {
    edge: Edge,
    kept: Vec<(EventOrder<'static>, Value<'static>)>,
}

impl AtEdge {
    pub(super) fn new(edge: Edge) -> Self {
        AtEdge { edge, kept: Vec::new() }
    }

    fn rank(&self, a: &EventOrder<'_>, b: &EventOrder<'_>) -> Ordering {
        if self.edge.newest { b.order(a) } else { a.order(b) }
    }

    #[inline]
    pub(super) fn update(&mut self, order: &EventOrder<'_>, value: &Value<'_>) {
        let full = self.kept.len() >= self.edge.k;
        if full && self.kept.last().is_some_and(|(worst, _)| self.rank(order, worst).is_gt()) {
            return;
        }
        if self.edge.distinct
            && let Some(at) = self.kept.iter().position(|(_, kept)| kept.same(value))
        {
            if self.rank(order, &self.kept[at].0).is_ge() {
                return;
            }
            self.kept.remove(at);
        }
        let at = self.kept.partition_point(|(kept, _)| self.rank(kept, order).is_lt());
        self.kept.insert(at, (order.to_owned(), value.clone().into_owned()));
        self.kept.truncate(self.edge.k);
    }

    pub(super) fn merge(&mut self, other: &AtEdge) {
        other.kept.iter().for_each(|(order, value)| self.update(order, value));
    }

    pub(super) fn finish_one(&self) -> Value<'static> {
        self.kept.first().map(|(_, value)| value.clone()).unwrap_or_default()
    }

    pub(super) fn finish_list(&self) -> Value<'static> {
        Value::List(self.kept.iter().map(|(_, value)| value.clone()).collect())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.kept.len() as u64);
        for (order, value) in &self.kept {
            order.encode(out);
            put_value(out, value);
        }
    }

    pub(super) fn decode(
        cursor: &mut Cursor<'_>,
        edge: Edge,
        input: &DataType,
        id_type: Option<&DataType>,
    ) -> Result<AtEdge, Damaged> {
        let count = cursor.length()?;
        if count > edge.k {
            return Err(Damaged);
        }
        let mut kept = Vec::with_capacity(count);
        for _ in 0..count {
            let order = EventOrder::decode(cursor, id_type)?;
            kept.push((order, cursor.value(input)?.into_owned()));
        }
        Ok(AtEdge { edge, kept })
    }
}
