//! The total order of events, and values that can stand in sorted collections.

use std::cmp::Ordering;

use crate::codec::{Cursor, Damaged, put_optional, put_signed, put_varint};
use crate::value::{DataType, Value};

/// Where an event stands among the events of its view: by event time, then the declared event id, then its place in the
/// log. (A view has one source, so the source need not be compared.)
#[derive(Clone, Debug, Default)]
pub struct EventOrder<'a> {
    /// microseconds
    pub time: i64,
    /// null where the source declares no event id
    pub id: Value<'a>,
    /// partition of the source
    pub partition: u32,
    /// offset in the partition
    pub offset: u64,
}

impl EventOrder<'_> {
    /// Compares two events of one source.
    pub fn order(&self, other: &EventOrder<'_>) -> Ordering {
        self.time.cmp(&other.time).then_with(|| self.order_at_equal_time(other))
    }

    /// The tie-break alone.
    pub fn order_at_equal_time(&self, other: &EventOrder<'_>) -> Ordering {
        let place = (self.partition, self.offset).cmp(&(other.partition, other.offset));
        self.id.order(&other.id).then(place)
    }

    /// Copies what is borrowed.
    pub fn to_owned(&self) -> EventOrder<'static> {
        EventOrder { time: self.time, id: self.id.clone().into_owned(), partition: self.partition, offset: self.offset }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_signed(out, self.time);
        put_optional(out, &self.id);
        put_varint(out, u64::from(self.partition));
        put_varint(out, self.offset);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, id_type: Option<&DataType>) -> Result<EventOrder<'static>, Damaged> {
        Ok(EventOrder {
            time: cursor.signed()?,
            id: cursor.optional(id_type.unwrap_or(&DataType::Int64))?.into_owned(),
            partition: u32::try_from(cursor.varint()?).map_err(|_| Damaged)?,
            offset: cursor.varint()?,
        })
    }
}

/// A value that sorts by `Value::order`.
#[derive(Clone, Debug)]
pub struct Sorted(pub Value<'static>);

impl PartialEq for Sorted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sorted {}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sorted {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.order(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_as_they_are_ordered() {
        let of = |v: i64| Sorted(Value::Int64(v));
        assert!(of(1) == of(1) && of(1) != of(2) && of(1) < of(2));
        assert_eq!(of(1).partial_cmp(&of(0)), Some(Ordering::Greater));
    }

    /// By time, then by id, then by place.
    #[test]
    fn events_have_one_order() {
        let at = |time, id, partition, offset| EventOrder { time, id: Value::Int64(id), partition, offset };
        let ascending =
            [at(0, 9, 9, 9), at(1, 0, 9, 9), at(1, 1, 0, 9), at(1, 1, 1, 0), at(1, 1, 1, 1), at(2, 0, 0, 0)];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.order(b), i.cmp(&j), "{a:?} {b:?}");
            }
            let mut out = Vec::new();
            a.encode(&mut out);
            let back = EventOrder::decode(&mut Cursor::new(&out), Some(&DataType::Int64)).unwrap();
            assert!(back.order(a).is_eq() && a.to_owned().order(a).is_eq());
        }
    }
}
