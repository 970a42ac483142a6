//! Aggregations: what a feature computes over the events of its window.
//!
//! A `Partial` is a commutative monoid and a function of the SET of events that went in: `update` and `merge` may come in any
//! order and grouping and give the same bytes. `finish` turns it into a value. In reading order: `kind` (the vocabulary),
//! `cell` (state of any kind), `order` (who is first), `exact` (sums without error), `capped` (something for each of many
//! values), then one file a family of aggregates. The enums are closed: an aggregate is added in `kind` and in `cell`.

mod arg_extreme;
mod capped;
mod categories;
mod cell;
mod decayed;
mod distinct;
mod edge;
mod exact;
mod extreme;
mod frequency;
mod gaps;
mod histogram;
mod kind;
mod moments;
mod order;
mod quantile;
mod rate;
mod registers;
mod sum;
mod trend;
mod truth;
mod variance;
mod vector;

pub use self::categories::CATEGORIES_MAX;
pub use self::cell::{Cell, Finished, NoValue, Terms};
pub use self::distinct::{DISTINCT_MAX, EXACT_MAX};
pub use self::edge::Edge;
pub use self::kind::{Aggregate, Kind, Real};
pub use self::order::{EventOrder, Sorted};

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod tests;
