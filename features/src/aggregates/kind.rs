//! The vocabulary: every aggregate with its constants, and the types that it takes and gives.

use std::sync::Arc;

use super::edge::Edge;
use crate::value::{DataType, Value};

/// A constant of an aggregate: a finite float that can be compared and hashed by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Real(u64);

impl Real {
    /// The constant; -0.0 is 0.0.
    pub fn new(value: f64) -> Self {
        Real((value + 0.0).to_bits())
    }

    /// Its value.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// The aggregate functions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// m3 / m2^1.5
    Skewness,
    /// m4 / m2^2 - 3
    Kurtosis,
    /// value of the oldest (newest) event
    One(Edge),
    /// values of the k oldest (newest) events
    Many(Edge),
    /// the values, ascending
    Distinct,
    /// how many different values
    CountDistinct,
    /// the value at a rank, by sketch
    Quantile(Real),
    /// counts between edges
    Histogram(Arc<[Real]>),
    /// the most frequent values
    TopK(usize),
    /// the least frequent values
    BottomK(usize),
    /// the most frequent value
    Mode,
    /// of the values' frequencies, in nats
    Entropy,
    /// whether some value is true
    Any,
    /// whether every value is true
    All,
    /// the value beside the greatest of another column
    ArgMax,
    /// the value beside the smallest of another column
    ArgMin,
    /// ratio of two sums with a prior
    Rate(Real, Real),
    /// sum (or count) of terms that halve in weight, half-life in microseconds
    Decayed(i64),
    /// events by category
    CountBy,
    /// sums by category
    SumBy,
    /// means by category
    AvgBy,
    /// seconds since the newest event
    TimeSinceLast,
    /// mean seconds between neighbours
    MeanGap,
    /// most seconds between neighbours
    MaxGap,
    /// slope of the least-squares line, per second
    Trend,
    /// element-wise sum
    VectorSum,
    /// element-wise mean
    VectorAvg,
}

/// An aggregate with the types of its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aggregate {
    /// the function
    pub kind: Kind,
    /// type of the argument; None for `count()`
    pub input: Option<DataType>,
    /// type of the second argument, where there is one
    pub second: Option<DataType>,
    /// type of the source's event id, which breaks ties of `first` and `last`
    pub id_type: Option<DataType>,
}

impl Aggregate {
    /// The type of the value.
    pub fn output(&self) -> DataType {
        let input = self.input.clone().unwrap_or(DataType::Int64);
        let map = |keys: &DataType, values| DataType::Map(Box::new(keys.clone()), Box::new(values));
        match self.kind {
            Kind::Count | Kind::CountDistinct => DataType::Int64,
            Kind::Sum => total_type(input),
            Kind::Min | Kind::Max | Kind::One(_) | Kind::Mode | Kind::ArgMax | Kind::ArgMin => input,
            Kind::Many(_) | Kind::Distinct | Kind::TopK(_) | Kind::BottomK(_) => DataType::List(Box::new(input)),
            Kind::Histogram(_) => DataType::List(Box::new(DataType::Int64)),
            Kind::Any | Kind::All => DataType::Bool,
            Kind::CountBy => map(&input, DataType::Int64),
            Kind::SumBy => map(self.second_type(), total_type(input)),
            Kind::AvgBy => map(self.second_type(), DataType::Float64),
            Kind::VectorSum | Kind::VectorAvg => input,
            _ => DataType::Float64,
        }
    }

    /// Whether the value depends on the order of events with equal times.
    pub fn order_matters(&self) -> bool {
        matches!(self.kind, Kind::One(_) | Kind::Many(_) | Kind::ArgMax | Kind::ArgMin)
    }

    /// Whether the state of two sets of events can be put together only where one lies before the other.
    pub fn needs_neighbours(&self) -> bool {
        self.kind == Kind::MaxGap
    }

    /// Whether an empty window gives something else than null: 0 for counts, the empty list or map.
    pub fn value_of_nothing(&self) -> Value<'static> {
        match self.kind {
            Kind::Count | Kind::CountDistinct => Value::Int64(0),
            Kind::Many(_) | Kind::Distinct | Kind::TopK(_) | Kind::BottomK(_) | Kind::Histogram(_) => {
                Value::List(Vec::new())
            }
            Kind::CountBy | Kind::SumBy | Kind::AvgBy => Value::Map(Vec::new()),
            _ => Value::Null,
        }
    }

    pub(super) fn input_type(&self) -> &DataType {
        self.input.as_ref().unwrap_or(&DataType::Int64)
    }

    pub(super) fn second_type(&self) -> &DataType {
        self.second.as_ref().unwrap_or(&DataType::Int64)
    }
}

/// The type of a sum.
fn total_type(input: DataType) -> DataType {
    match input {
        DataType::Decimal { scale, .. } => DataType::Decimal { precision: 38, scale },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The type of each aggregate's value, what it is of no events, and whether ties are broken by an event's place.
    #[test]
    fn aggregates_have_their_types() {
        use DataType::{Bool, Float64, Int64, Text, Timestamp, Vector};
        let edge = |k| Edge { newest: true, k, distinct: false };
        let decimal = DataType::Decimal { precision: 9, scale: 2 };
        let edges = Kind::Histogram([Real::new(1.0)].into());
        let (null, zero) = (Value::Null, Value::Int64(0));
        let (list, map) = (Value::List(Vec::new()), Value::Map(Vec::new()));
        for (kind, input, second, output, nothing, by_place) in [
            (Kind::Count, None, None, "int64", &zero, false),
            (Kind::CountDistinct, Some(Text), None, "int64", &zero, false),
            (Kind::Sum, Some(Float64), None, "float64", &null, false),
            (Kind::Sum, Some(decimal.clone()), None, "decimal(38,2)", &null, false),
            (Kind::Avg, Some(decimal.clone()), None, "float64", &null, false),
            (Kind::Avg, Some(Int64), None, "float64", &null, false),
            (Kind::Max, Some(decimal.clone()), None, "decimal(9,2)", &null, false),
            (Kind::Min, Some(Timestamp), None, "timestamp", &null, false),
            (Kind::Variance, Some(Int64), None, "float64", &null, false),
            (Kind::One(edge(1)), Some(Text), None, "string", &null, true),
            (Kind::Many(edge(3)), Some(Text), None, "list<string>", &list, true),
            (Kind::Distinct, Some(Int64), None, "list<int64>", &list, false),
            (Kind::TopK(3), Some(Text), None, "list<string>", &list, false),
            (Kind::BottomK(3), Some(Text), None, "list<string>", &list, false),
            (Kind::Mode, Some(Text), None, "string", &null, false),
            (edges, Some(Float64), None, "list<int64>", &list, false),
            (Kind::Any, Some(Bool), None, "bool", &null, false),
            (Kind::All, Some(Bool), None, "bool", &null, false),
            (Kind::ArgMax, Some(Text), Some(Int64), "string", &null, true),
            (Kind::ArgMin, Some(Text), Some(Int64), "string", &null, true),
            (Kind::CountBy, Some(Text), None, "map<string,int64>", &map, false),
            (Kind::SumBy, Some(decimal), Some(Text), "map<string,decimal(38,2)>", &map, false),
            (Kind::AvgBy, Some(Int64), Some(Bool), "map<bool,float64>", &map, false),
            (Kind::Decayed(1), None, None, "float64", &null, false),
            (Kind::MaxGap, None, None, "float64", &null, false),
            (Kind::VectorSum, Some(Vector(2)), None, "vector<2>", &null, false),
            (Kind::VectorAvg, Some(Vector(2)), None, "vector<2>", &null, false),
        ] {
            let aggregate = Aggregate { kind, input, second, id_type: None };
            assert_eq!(aggregate.output().to_string(), output, "{aggregate:?}");
            assert!(aggregate.value_of_nothing().same(nothing), "{aggregate:?}");
            assert_eq!(aggregate.order_matters(), by_place, "{aggregate:?}");
            assert_eq!(aggregate.needs_neighbours(), aggregate.kind == Kind::MaxGap, "{aggregate:?}");
        }
    }
}
