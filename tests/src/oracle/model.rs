//! The words of the oracle: data, sources, rows, views, answers. Plain data with public fields.
//! Not the engine's types: a test translates between the two, so that a wrong type there cannot hide here.

use std::cmp::Ordering;

use super::expression::Expr;
use super::number;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int64,
    Float64,
    Text,
    Bytes,
    Time,
    /// Precision (digits in all) and scale (digits after the point).
    Decimal(u8, u8),
}

#[derive(Clone, Debug)]
pub enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Microseconds since the epoch.
    Time(i64),
    /// Unscaled value and scale: `Decimal(1234, 2)` is 12.34.
    Decimal(i128, u8),
    List(Vec<Datum>),
}

#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub fields: Vec<(String, Type)>,
    pub event_time: String,
    pub event_id: Option<String>,
    pub arrival_time: Option<String>,
    /// All durations are microseconds.
    pub dedup_horizon: i64,
    pub max_future_skew: i64,
    /// Only written to the definition: a push source takes the server's clock, not this.
    pub assumed_delay: i64,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub partition: u32,
    pub offset: u64,
    /// The server's clock when the row was accepted; the arrival time unless the source declares a column for it.
    pub arrival: i64,
    /// By field order of the source, already typed.
    pub columns: Vec<Datum>,
}

#[derive(Clone, Debug)]
pub struct View {
    pub name: String,
    pub entity_keys: Vec<String>,
    pub source: String,
    pub filter: Option<Expr>,
    pub select: Vec<(String, Expr)>,
    pub features: Vec<Feature>,
    pub derived: Vec<(String, Expr)>,
}

#[derive(Clone, Debug)]
pub struct Feature {
    pub name: String,
    pub aggregate: Aggregate,
    pub filter: Option<Expr>,
    pub window: Window,
    pub offset: i64,
    pub default: Option<Datum>,
}

#[derive(Clone, Debug)]
pub enum Aggregate {
    Count,
    CountOf(Expr),
    Sum(Expr),
    Avg(Expr),
    Min(Expr),
    Max(Expr),
    Variance(Expr),
    Stddev(Expr),
    First(Expr),
    Last(Expr),
    FirstK {
        x: Expr,
        k: usize,
        distinct: bool,
    },
    LastK {
        x: Expr,
        k: usize,
        distinct: bool,
    },
    Distinct(Expr),
    /// The oracle's answer is the exact number; beyond 256 values the engine may be 1.7 % off.
    CountDistinct(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    Sliding { width: i64, hop: Option<i64> },
    Lifetime,
    LastN(usize),
    Ttl(i64),
    Tumbling(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Present,
    Defaulted,
    Empty,
    NotFound,
    Error,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Datum,
    pub status: Status,
    /// The event time of the newest contributing event.
    pub newest: Option<i64>,
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// Bit for bit: floats by their bits (so `-0.0` is not `0.0`), decimals by value and scale.
    pub fn same(&self, other: &Datum) -> bool {
        match (self, other) {
            (Datum::Null, Datum::Null) => true,
            (Datum::Bool(a), Datum::Bool(b)) => a == b,
            (Datum::Int(a), Datum::Int(b)) => a == b,
            (Datum::Float(a), Datum::Float(b)) => a.to_bits() == b.to_bits(),
            (Datum::Text(a), Datum::Text(b)) => a == b,
            (Datum::Bytes(a), Datum::Bytes(b)) => a == b,
            (Datum::Time(a), Datum::Time(b)) => a == b,
            (Datum::Decimal(a, s), Datum::Decimal(b, t)) => a == b && s == t,
            (Datum::List(a), Datum::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same(y)),
            _ => false,
        }
    }

    /// What a record holds: NaN is null and `-0.0` is `0.0`.
    pub fn normalised(self) -> Datum {
        match self {
            Datum::Float(x) if x.is_nan() => Datum::Null,
            Datum::Float(0.0) => Datum::Float(0.0),
            other => other,
        }
    }

    /// The order of values of one type; numbers of different types by their exact value.
    pub fn order(&self, other: &Datum) -> Ordering {
        match (self, other) {
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
            (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
            (Datum::Time(a), Datum::Time(b)) => a.cmp(b),
            _ => number::compare(self, other),
        }
    }
}

impl Status {
    /// ERROR > NOT_FOUND > DEFAULTED > EMPTY > PRESENT.
    pub fn severity(self) -> u8 {
        match self {
            Status::Present => 0,
            Status::Empty => 1,
            Status::Defaulted => 2,
            Status::NotFound => 3,
            Status::Error => 4,
        }
    }
}

impl Answer {
    pub fn same(&self, other: &Answer) -> bool {
        self.value.same(&other.value) && self.status == other.status && self.newest == other.newest
    }
}

impl Source {
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|(field, _)| field == name)
    }
}

impl Aggregate {
    /// The argument; `count()` has none.
    pub fn argument(&self) -> Option<&Expr> {
        match self {
            Aggregate::Count => None,
            Aggregate::CountOf(x)
            | Aggregate::Sum(x)
            | Aggregate::Avg(x)
            | Aggregate::Min(x)
            | Aggregate::Max(x)
            | Aggregate::Variance(x)
            | Aggregate::Stddev(x)
            | Aggregate::First(x)
            | Aggregate::Last(x)
            | Aggregate::FirstK { x, .. }
            | Aggregate::LastK { x, .. }
            | Aggregate::Distinct(x)
            | Aggregate::CountDistinct(x) => Some(x),
        }
    }

    /// What an empty window gives: 0 for counts, the empty list for lists, null for the rest.
    pub fn of_nothing(&self) -> Datum {
        match self {
            Aggregate::Count | Aggregate::CountOf(_) | Aggregate::CountDistinct(_) => Datum::Int(0),
            Aggregate::FirstK { .. } | Aggregate::LastK { .. } | Aggregate::Distinct(_) => Datum::List(Vec::new()),
            _ => Datum::Null,
        }
    }

    /// The type of the value for an argument of type `of`; `None` for a list.
    pub fn result(&self, of: Type) -> Option<Type> {
        match self {
            Aggregate::Count | Aggregate::CountOf(_) | Aggregate::CountDistinct(_) => Some(Type::Int64),
            Aggregate::Avg(_) | Aggregate::Variance(_) | Aggregate::Stddev(_) => Some(Type::Float64),
            Aggregate::Sum(_) => match of {
                Type::Decimal(_, scale) => Some(Type::Decimal(38, scale)),
                other => Some(other),
            },
            Aggregate::Min(_) | Aggregate::Max(_) | Aggregate::First(_) | Aggregate::Last(_) => Some(of),
            Aggregate::FirstK { .. } | Aggregate::LastK { .. } | Aggregate::Distinct(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_is_bit_for_bit() {
        assert!(!Datum::Float(0.0).same(&Datum::Float(-0.0)));
        assert!(Datum::Float(-0.0).normalised().same(&Datum::Float(0.0)));
        assert!(Datum::Float(f64::NAN).normalised().same(&Datum::Null));
        assert!(!Datum::Int(1).same(&Datum::Float(1.0)));
        assert!(!Datum::Decimal(10, 1).same(&Datum::Decimal(100, 2)));
    }

    #[test]
    fn text_orders_by_bytes_and_numbers_exactly() {
        assert_eq!(Datum::Text("Z".into()).order(&Datum::Text("a".into())), Ordering::Less);
        assert_eq!(Datum::Text("\u{ffff}".into()).order(&Datum::Text("😀".into())), Ordering::Less);
        let beyond_f64 = (1_i64 << 53) + 1;
        assert_eq!(Datum::Int(beyond_f64).order(&Datum::Float((1_i64 << 53) as f64)), Ordering::Greater);
        assert_eq!(Datum::Int(i64::MAX).order(&Datum::Float(f64::INFINITY)), Ordering::Less);
    }
}
