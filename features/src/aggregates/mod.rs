//! Aggregations: what a feature computes over the events of its window.
//!
//! A `Partial` is a commutative monoid and a function of the SET of events that went in: `update` and `merge` may come in any
//! order and grouping and give the same bytes. `finish` turns it into a value. In reading order: `order` (who is first),
//! `exact` (sums without error), then one file a family of aggregates. The enum is closed: an aggregate is added here and in
//! `Kind`.

mod distinct;
mod edge;
mod exact;
mod extreme;
mod order;
mod sum;
mod variance;

use std::cmp::Ordering;

pub use self::distinct::DISTINCT_MAX;
pub use self::edge::Edge;
pub use self::order::{EventOrder, Sorted};

use self::distinct::Distinct;
use self::edge::AtEdge;
use self::extreme::Extreme;
use self::sum::Sum;
use self::variance::Variance;
use crate::codec::{Cursor, Damaged, put_signed, put_varint};
use crate::value::{DataType, Value};

/// The aggregate functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// events, or non-null values of a column
    Count,
    /// exact sum
    Sum,
    /// exact mean, rounded once
    Avg,
    /// smallest value
    Min,
    /// greatest value
    Max,
    /// sample variance
    Variance,
    /// root of the sample variance
    Stddev,
    /// value of the oldest (newest) event
    One(Edge),
    /// values of the k oldest (newest) events
    Many(Edge),
    /// the values, ascending
    Distinct,
    /// how many different values
    CountDistinct,
}

/// An aggregate with the type of its argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aggregate {
    /// the function
    pub kind: Kind,
    /// type of the argument; None for `count()`
    pub input: Option<DataType>,
    /// type of the source's event id, which breaks ties of `first` and `last`
    pub id_type: Option<DataType>,
}

/// Why there are events but no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoValue {
    /// the exact result is beyond the type
    Overflow,
    /// infinity minus infinity, or a variance over infinity
    Undefined,
}

/// What `finish` gives: a value (null where there were no terms), or the reason for an ERROR status.
pub type Finished = Result<Value<'static>, NoValue>;

impl Aggregate {
    /// The type of the value.
    pub fn output(&self) -> DataType {
        let input = self.input.clone().unwrap_or(DataType::Int64);
        match self.kind {
            Kind::Count | Kind::CountDistinct => DataType::Int64,
            Kind::Avg | Kind::Variance | Kind::Stddev => DataType::Float64,
            Kind::Sum => match input {
                DataType::Decimal { scale, .. } => DataType::Decimal { precision: 38, scale },
                other => other,
            },
            Kind::Min | Kind::Max | Kind::One(_) => input,
            Kind::Many(_) | Kind::Distinct => DataType::List(Box::new(input)),
        }
    }

    /// Whether the value depends on the order of events with equal times.
    pub fn order_matters(&self) -> bool {
        matches!(self.kind, Kind::One(_) | Kind::Many(_))
    }

    /// Whether an empty window gives something else than null: 0 for counts, the empty list for lists.
    pub fn value_of_nothing(&self) -> Value<'static> {
        match self.kind {
            Kind::Count | Kind::CountDistinct => Value::Int64(0),
            Kind::Many(_) | Kind::Distinct => Value::List(Vec::new()),
            _ => Value::Null,
        }
    }

    fn input_type(&self) -> &DataType {
        self.input.as_ref().unwrap_or(&DataType::Int64)
    }
}

/// Mergeable intermediate state of one aggregate.
#[derive(Clone, Debug)]
pub enum Partial {
    /// count
    Count(u64),
    /// sum, avg
    Sum(Sum),
    /// min, max
    Extreme(Extreme),
    /// variance, stddev
    Variance(Variance),
    /// first, last, first_k, last_k
    AtEdge(AtEdge),
    /// distinct, count_distinct
    Distinct(Distinct),
}

/// A partial and the event time of the newest event in it: what a tile keeps of one aggregate.
#[derive(Clone, Debug)]
pub struct Cell {
    /// None while no event contributed
    pub newest: Option<i64>,
    /// the state
    pub partial: Partial,
}

impl Cell {
    /// No events yet.
    pub fn new(aggregate: &Aggregate) -> Self {
        let partial = match aggregate.kind {
            Kind::Count => Partial::Count(0),
            Kind::Sum | Kind::Avg => Partial::Sum(Sum::default()),
            Kind::Min => Partial::Extreme(Extreme::new(Ordering::Less)),
            Kind::Max => Partial::Extreme(Extreme::new(Ordering::Greater)),
            Kind::Variance | Kind::Stddev => Partial::Variance(Variance::default()),
            Kind::One(edge) | Kind::Many(edge) => Partial::AtEdge(AtEdge::new(edge)),
            Kind::Distinct => Partial::Distinct(Distinct::new(DISTINCT_MAX)),
            Kind::CountDistinct => Partial::Distinct(Distinct::new(usize::MAX)),
        };
        Cell { newest: None, partial }
    }

    /// Takes an event in; the value is not null (any value for `count()`). Its place in the order is asked for only where it
    /// matters: most aggregates never look at it.
    #[inline]
    pub fn update<'o>(&mut self, time: i64, order: impl FnOnce() -> EventOrder<'o>, value: &Value<'_>) {
        self.newest = self.newest.max(Some(time));
        match &mut self.partial {
            Partial::Count(count) => *count += 1,
            Partial::Sum(sum) => sum.update(value),
            Partial::Extreme(extreme) => extreme.update(value),
            Partial::Variance(variance) => variance.update(value),
            Partial::AtEdge(edge) => edge.update(&order(), value),
            Partial::Distinct(distinct) => distinct.update(value),
        }
    }

    /// Takes in all events of another cell of the same aggregate; the two have none in common.
    pub fn merge(&mut self, other: &Cell) {
        self.newest = self.newest.max(other.newest);
        match (&mut self.partial, &other.partial) {
            (Partial::Count(a), Partial::Count(b)) => *a += b,
            (Partial::Sum(a), Partial::Sum(b)) => a.merge(b),
            (Partial::Extreme(a), Partial::Extreme(b)) => a.merge(b),
            (Partial::Variance(a), Partial::Variance(b)) => a.merge(b),
            (Partial::AtEdge(a), Partial::AtEdge(b)) => a.merge(b),
            (Partial::Distinct(a), Partial::Distinct(b)) => a.merge(b),
            _ => debug_assert!(false, "cells of different aggregates"),
        }
    }

    /// The value of the events so far.
    pub fn finish(&self, aggregate: &Aggregate) -> Finished {
        match (&self.partial, aggregate.kind) {
            (Partial::Count(count), _) => Ok(Value::Int64(i64::try_from(*count).unwrap_or(i64::MAX))),
            (Partial::Sum(sum), Kind::Avg) => sum.mean(aggregate.input_type()),
            (Partial::Sum(sum), _) => sum.total(aggregate.input_type()),
            (Partial::Extreme(extreme), _) => Ok(extreme.finish()),
            (Partial::Variance(variance), Kind::Stddev) => variance.deviation(),
            (Partial::Variance(variance), _) => variance.finish(),
            (Partial::AtEdge(edge), Kind::Many(_)) => Ok(edge.finish_list()),
            (Partial::AtEdge(edge), _) => Ok(edge.finish_one()),
            (Partial::Distinct(distinct), Kind::CountDistinct) => Ok(distinct.finish_count()),
            (Partial::Distinct(distinct), _) => Ok(distinct.finish_list()),
        }
    }

    /// Appends the canonical bytes: equal sets of events give equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Some(newest) = self.newest else {
            out.push(0);
            return;
        };
        out.push(1);
        put_signed(out, newest);
        match &self.partial {
            Partial::Count(count) => put_varint(out, *count),
            Partial::Sum(sum) => sum.encode(out),
            Partial::Extreme(extreme) => extreme.encode(out),
            Partial::Variance(variance) => variance.encode(out),
            Partial::AtEdge(edge) => edge.encode(out),
            Partial::Distinct(distinct) => distinct.encode(out),
        }
    }

    /// Reads what `encode` wrote.
    pub fn decode(cursor: &mut Cursor<'_>, aggregate: &Aggregate) -> Result<Cell, Damaged> {
        if cursor.byte()? == 0 {
            return Ok(Cell::new(aggregate));
        }
        let newest = Some(cursor.signed()?);
        let input = aggregate.input_type();
        let partial = match aggregate.kind {
            Kind::Count => Partial::Count(cursor.varint()?),
            Kind::Sum | Kind::Avg => Partial::Sum(Sum::decode(cursor)?),
            Kind::Min => Partial::Extreme(Extreme::decode(cursor, input, Ordering::Less)?),
            Kind::Max => Partial::Extreme(Extreme::decode(cursor, input, Ordering::Greater)?),
            Kind::Variance | Kind::Stddev => Partial::Variance(Variance::decode(cursor)?),
            Kind::One(edge) | Kind::Many(edge) => {
                Partial::AtEdge(AtEdge::decode(cursor, edge, input, aggregate.id_type.as_ref())?)
            }
            Kind::Distinct => Partial::Distinct(Distinct::decode(cursor, DISTINCT_MAX, input)?),
            Kind::CountDistinct => Partial::Distinct(Distinct::decode(cursor, usize::MAX, input)?),
        };
        Ok(Cell { newest, partial })
    }
}

#[cfg(test)]
mod tests;
