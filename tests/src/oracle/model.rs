//! The words of the oracle: data, sources, rows, views, answers. Plain data with public fields.
//! Not the engine's types: a test translates between the two, so that a wrong type there cannot hide here.

use std::cmp::Ordering;

use super::expression::Expr;
use super::number;
pub use super::vocabulary::Aggregate;

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
    /// This many float32 elements.
    Vector(usize),
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
    /// Keys ascending, each once.
    Map(Vec<(Datum, Datum)>),
    /// In a row it may be of a wrong length or hold NaN, which also stands for a null element: a dead letter.
    Vector(Vec<f32>),
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
    /// Of events at rest: how long after it happened one became known. (A pushed one: the server's clock.)
    pub assumed_delay: i64,
    /// Whether there are files of the same events at rest.
    pub history: bool,
    /// Events before it belong to the files, the others to the stream.
    pub history_until: Option<i64>,
    /// Its rows are states of their keys and not events: the newest one counts, unless it is a delete.
    pub table: bool,
    /// Of a table; sees the fields only.
    pub delete_when: Option<Expr>,
}

/// Each file of a source's history is a partition, from this one on.
pub const HISTORY: u32 = 1 << 31;

#[derive(Clone, Debug)]
pub struct Row {
    pub partition: u32,
    pub offset: u64,
    /// The server's clock when the row was accepted; of a stream's row it is the arrival time, unless the source declares a
    /// column for it.
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
    pub joins: Vec<Join>,
    pub features: Vec<Feature>,
    /// Over features and derived ones of this view (`name`) and of others (`view.name`).
    pub derived: Vec<(String, Expr)>,
}

/// The columns of a table as of each event, named `name.column`.
#[derive(Clone, Debug)]
pub struct Join {
    pub name: String,
    /// A table source.
    pub source: String,
    /// A field of both sources.
    pub on: String,
}

#[derive(Clone, Debug)]
pub struct Feature {
    pub name: String,
    pub aggregate: Aggregate,
    pub filter: Option<Expr>,
    pub window: Window,
    pub offset: i64,
    pub default: Option<Datum>,
    /// Whether the request's own row counts as one more event, at T.
    pub include_request: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    Sliding {
        width: i64,
        hop: Option<i64>,
    },
    Lifetime,
    LastN(usize),
    Ttl(i64),
    Tumbling(i64),
    /// The gap at which a session ends.
    Session(i64),
    /// Since the local start of the period that holds T, in this IANA zone.
    Calendar(Period, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Day,
    /// Monday to Sunday.
    Week,
    Month,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Present,
    Defaulted,
    Empty,
    NotFound,
    Error,
}

/// What an engine may answer beside the oracle's own value.
#[derive(Clone, Debug)]
pub enum Accuracy {
    /// That value only, to the bit.
    Exact,
    /// A number in one of these closed ranges.
    Within(Vec<(f64, f64)>),
    /// Anything: computed from inputs that are not exact themselves.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Answer {
    /// The nearest value to what is true; `accepts` tells which others are right too.
    pub value: Datum,
    pub accuracy: Accuracy,
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
            (Datum::Map(a), Datum::Map(b)) => {
                let pairs_are_same = || a.iter().zip(b).all(|((j, x), (k, y))| j.same(k) && x.same(y));
                a.len() == b.len() && pairs_are_same()
            }
            (Datum::Vector(a), Datum::Vector(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
            }
            _ => false,
        }
    }

    /// What a record holds: NaN is null and `-0.0` is `0.0`, in vectors too.
    pub fn normalised(self) -> Datum {
        match self {
            Datum::Float(x) if x.is_nan() => Datum::Null,
            Datum::Float(0.0) => Datum::Float(0.0),
            Datum::Vector(elements) => {
                let positive_zero = |x: f32| if x == 0.0 { 0.0 } else { x };
                Datum::Vector(elements.into_iter().map(positive_zero).collect())
            }
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
    pub fn exact(value: Datum, status: Status, newest: Option<i64>) -> Answer {
        Answer { value, accuracy: Accuracy::Exact, status, newest }
    }

    /// Whether an engine that answers `value` is right.
    pub fn accepts(&self, value: &Datum) -> bool {
        match (&self.accuracy, value) {
            (Accuracy::Exact, _) => self.value.same(value),
            (Accuracy::Within(ranges), Datum::Float(_) | Datum::Int(_)) => {
                let is_of_the_type = matches!(self.value, Datum::Float(_)) == matches!(value, Datum::Float(_));
                is_of_the_type && ranges.iter().any(|(low, high)| is_between(value, *low, *high))
            }
            (Accuracy::Within(_), _) => false,
            (Accuracy::Unknown, _) => true,
        }
    }

    /// Whether an engine that says all this is right. Where the value may be anything, it may be null too, and
    /// then the status is another.
    pub fn agrees(&self, value: &Datum, status: Status, newest: Option<i64>) -> bool {
        let status_is_open = matches!(self.accuracy, Accuracy::Unknown);
        self.accepts(value) && newest == self.newest && (status_is_open || status == self.status)
    }

    /// Of two oracles.
    pub fn same(&self, other: &Answer) -> bool {
        self.value.same(&other.value) && self.status == other.status && self.newest == other.newest
    }
}

impl Row {
    pub fn is_at_rest(&self) -> bool {
        self.partition >= HISTORY
    }
}

impl Source {
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|(field, _)| field == name)
    }
}

fn is_between(value: &Datum, low: f64, high: f64) -> bool {
    let is_nan = matches!(value, Datum::Float(f) if f.is_nan());
    let is_above = |bound: f64| value.order(&Datum::Float(bound)) != Ordering::Less;
    let is_below = |bound: f64| value.order(&Datum::Float(bound)) != Ordering::Greater;
    !is_nan && is_above(low) && is_below(high)
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

    #[test]
    fn answers_accept_what_is_within_their_ranges() {
        let within = |value: Datum, ranges: &[(f64, f64)]| Answer {
            accuracy: Accuracy::Within(ranges.to_vec()),
            ..Answer::exact(value, Status::Present, None)
        };
        let median = within(Datum::Float(1.0), &[(0.99, 1.01), (2.97, 3.03)]);
        for (value, is_right) in [(0.99, true), (1.02, false), (2.0, false), (3.0, true), (f64::NAN, false)] {
            assert_eq!(median.accepts(&Datum::Float(value)), is_right, "{value}");
        }
        assert!(!median.accepts(&Datum::Int(1)) && !median.accepts(&Datum::Null));
        let infinite = within(Datum::Float(f64::INFINITY), &[(f64::INFINITY, f64::INFINITY)]);
        assert!(infinite.accepts(&Datum::Float(f64::INFINITY)) && !infinite.accepts(&Datum::Float(f64::MAX)));
        let distinct = within(Datum::Int(1000), &[(915.0, 1085.0)]);
        assert!(distinct.accepts(&Datum::Int(915)) && !distinct.accepts(&Datum::Int(914)));
        assert!(!distinct.accepts(&Datum::Float(1000.0)));
        let exact = Answer::exact(Datum::Float(1.0), Status::Present, None);
        assert!(exact.accepts(&Datum::Float(1.0)) && !exact.accepts(&Datum::Float(1.0 + 1e-15)));
    }

    #[test]
    fn maps_and_vectors_are_same_by_their_parts() {
        let map = |value: f64| Datum::Map(vec![(Datum::Text("a".into()), Datum::Float(value))]);
        assert!(map(1.0).same(&map(1.0)) && !map(0.0).same(&map(-0.0)) && !map(1.0).same(&Datum::Map(Vec::new())));
        let vector = |elements: &[f32]| Datum::Vector(elements.to_vec());
        assert!(!vector(&[0.0]).same(&vector(&[-0.0])) && !vector(&[1.0]).same(&vector(&[1.0, 1.0])));
        assert!(vector(&[-0.0, 1.0]).normalised().same(&vector(&[0.0, 1.0])));
    }
}
