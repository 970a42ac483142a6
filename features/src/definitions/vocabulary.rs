//! Aggregates as definitions call them: names, arguments, types.

use super::arguments::{Wrong, column_type, constant, positive_duration, whole};
use crate::aggregates::{Aggregate, Edge, Kind, Real};
use crate::expression::{Argument, Call};
use crate::problem::nearest;
use crate::value::{DataType, Value};

/// Values that first_k, last_k, top_k and bottom_k keep at most.
pub(super) const K_MAX: i64 = 10_000;
/// Edges of a histogram.
const EDGES_MAX: usize = 1_000;

/// An aggregate of the language.
pub struct AggregateName {
    /// as it is called
    pub name: &'static str,
    /// arguments that are columns; they come first
    pub columns: usize,
    /// arguments that are constants
    pub constants: usize,
    /// arguments and result in one line
    pub says: &'static str,
    /// a call over the columns of the reference page's example
    pub example: &'static str,
}

macro_rules! aggregates {
    ($($name:literal $columns:literal + $constants:literal $says:literal, $example:literal;)*) => {
        /// Every aggregate of the language.
        pub const AGGREGATES: &[AggregateName] = &[
            $(AggregateName {
                name: $name, columns: $columns, constants: $constants, says: $says, example: $example,
            },)*
        ];
    };
}

aggregates! {
    "count" 0 + 0 "count(): events; count(x): values that are not null", "count()";
    "sum" 1 + 0 "sum(x): exact, rounded once; int64, float64 or decimal", "sum(amount)";
    "avg" 1 + 0 "avg(x): exact sum / n, rounded once; also called mean", "avg(amount)";
    "min" 1 + 0 "min(x): the smallest value", "min(amount)";
    "max" 1 + 0 "max(x): the greatest value", "max(amount)";
    "variance" 1 + 0 "variance(x): of a sample (n - 1), null below 2 values", "variance(amount)";
    "stddev" 1 + 0 "stddev(x): root of the sample variance", "stddev(amount)";
    "skewness" 1 + 0 "skewness(x): m3 / m2^1.5 with population moments; null where all values are equal", "skewness(amount)";
    "kurtosis" 1 + 0 "kurtosis(x): m4 / m2^2 - 3 with population moments; null where all values are equal", "kurtosis(amount)";
    "quantile" 1 + 1 "quantile(x, q): within 1 % of an element at rank q (n - 1), by DDSketch", "quantile(amount, 0.95)";
    "median" 1 + 0 "median(x): quantile(x, 0.5)", "median(amount)";
    "histogram" 1 + 1 "histogram(x, ARRAY[e1, e2, …]): a count for each bucket [edge i-1, edge i), one more than edges", "histogram(amount, ARRAY[10, 100])";
    "first" 1 + 0 "first(x): of the oldest event", "first(country)";
    "last" 1 + 0 "last(x): of the newest event", "last(country)";
    "first_k" 1 + 1 "first_k(x, k): of the k oldest events, oldest first", "first_k(country, 2)";
    "last_k" 1 + 1 "last_k(x, k): of the k newest events, newest first", "last_k(country, 2)";
    "arg_max" 2 + 0 "arg_max(x, by): x where `by` is greatest; of equal ones the newest event", "arg_max(country, amount)";
    "arg_min" 2 + 0 "arg_min(x, by): x where `by` is smallest; of equal ones the newest event", "arg_min(country, amount)";
    "distinct" 1 + 0 "distinct(x): the values, ascending; at most 10,000", "distinct(country)";
    "count_distinct" 1 + 0 "count_distinct(x): exact up to 256 values, beyond that HyperLogLog within 1.7 % (standard error)", "count_distinct(country)";
    "top_k" 1 + 1 "top_k(x, k): the most frequent values; of equally frequent ones the smaller first", "top_k(country, 2)";
    "bottom_k" 1 + 1 "bottom_k(x, k): the least frequent values; of equally frequent ones the smaller first", "bottom_k(country, 2)";
    "mode" 1 + 0 "mode(x): the most frequent value; of equally frequent ones the smallest", "mode(country)";
    "entropy" 1 + 0 "entropy(x): of the values' frequencies, in nats", "entropy(country)";
    "count_by" 1 + 0 "count_by(category): a map from category to events; at most 1,000 categories", "count_by(country)";
    "sum_by" 2 + 0 "sum_by(x, category): a map from category to sum(x)", "sum_by(amount, country)";
    "avg_by" 2 + 0 "avg_by(x, category): a map from category to avg(x)", "avg_by(amount, country)";
    "any" 1 + 0 "any(x): whether some value is true", "any(foreign)";
    "all" 1 + 0 "all(x): whether every value is true", "all(foreign)";
    "rate" 2 + 2 "rate(n, d, a, b): (sum n + a) / (sum d + b), a ratio with a prior; null where the divisor is 0", "rate(fraud, seen, 1, 100)";
    "decayed_sum" 1 + 1 "decayed_sum(x, 'h'): sum of x * 2^(-(T - t) / h), h a half-life such as '1h'", "decayed_sum(amount, '1h')";
    "decayed_count" 0 + 1 "decayed_count('h'): sum of 2^(-(T - t) / h)", "decayed_count('1h')";
    "time_since_last" 0 + 0 "time_since_last(): seconds from the newest event to T", "time_since_last()";
    "mean_gap" 0 + 0 "mean_gap(): mean seconds between events that follow one another; null below 2", "mean_gap()";
    "max_gap" 0 + 0 "max_gap(): most seconds between events that follow one another; null below 2", "max_gap()";
    "trend" 1 + 0 "trend(x): slope of the least-squares line over event time, per second", "trend(amount)";
    "vector_sum" 1 + 0 "vector_sum(v): element by element, exact, rounded once; vector<n>", "vector_sum(taste)";
    "vector_avg" 1 + 0 "vector_avg(v): mean element by element", "vector_avg(taste)";
    "vector_last" 1 + 0 "vector_last(v): of the newest event", "vector_last(taste)";
}

/// Finds out what a call means, and how many of its arguments are columns; `distinct` is the key of the feature.
pub(super) fn meaning(call: &Call, distinct: bool, id_type: Option<&DataType>) -> Result<(Aggregate, usize), Wrong> {
    let name = if call.name == "mean" { "avg" } else { call.name.as_str() };
    let here = |message: String| (None, message, None);
    let Some(entry) = AGGREGATES.iter().find(|known| known.name == name) else {
        let near = nearest(name, AGGREGATES.iter().map(|known| known.name));
        return Err((None, format!("unknown aggregate `{name}`"), near));
    };
    let given = call.arguments.len();
    let columns = if name == "count" { given } else { entry.columns };
    if given != columns + entry.constants || columns > entry.columns.max(1) {
        return Err(here(format!("`{name}` does not take {given} arguments: {}", entry.says)));
    }
    let kind = kind(name, &call.arguments[columns..], distinct)?;
    if distinct && !matches!(kind, Kind::Many(_)) {
        return Err(here(format!("`distinct` has no effect on {name}: it belongs to first_k and last_k")));
    }
    let argument = |at: usize| -> Result<Option<DataType>, Wrong> {
        let argument = call.arguments[..columns].get(at);
        argument.map(|argument| column_type(name, &kind, at, argument)).transpose()
    };
    let (input, second) = (argument(0)?, argument(1)?);
    Ok((Aggregate { kind, input, second, id_type: id_type.cloned() }, columns))
}

fn kind(name: &str, constants: &[Argument], distinct: bool) -> Result<Kind, Wrong> {
    let edge = |newest, k| Edge { newest, k, distinct };
    Ok(match name {
        "count" => Kind::Count,
        "sum" => Kind::Sum,
        "avg" => Kind::Avg,
        "min" => Kind::Min,
        "max" => Kind::Max,
        "variance" => Kind::Variance,
        "stddev" => Kind::Stddev,
        "skewness" => Kind::Skewness,
        "kurtosis" => Kind::Kurtosis,
        "quantile" => Kind::Quantile(constant(&constants[0], "q of quantile is a number from 0 to 1", 0.0..=1.0)?),
        "median" => Kind::Quantile(Real::new(0.5)),
        "histogram" => Kind::Histogram(edges(&constants[0])?.into()),
        "first" => Kind::One(edge(false, 1)),
        "last" | "vector_last" => Kind::One(edge(true, 1)),
        "first_k" => Kind::Many(edge(false, whole(name, &constants[0], K_MAX)?)),
        "last_k" => Kind::Many(edge(true, whole(name, &constants[0], K_MAX)?)),
        "arg_max" => Kind::ArgMax,
        "arg_min" => Kind::ArgMin,
        "distinct" => Kind::Distinct,
        "count_distinct" => Kind::CountDistinct,
        "top_k" => Kind::TopK(whole(name, &constants[0], K_MAX)?),
        "bottom_k" => Kind::BottomK(whole(name, &constants[0], K_MAX)?),
        "mode" => Kind::Mode,
        "entropy" => Kind::Entropy,
        "count_by" => Kind::CountBy,
        "sum_by" => Kind::SumBy,
        "avg_by" => Kind::AvgBy,
        "any" => Kind::Any,
        "all" => Kind::All,
        "rate" => {
            let prior = |at: usize| constant(&constants[at], "the prior of rate is two numbers", f64::MIN..=f64::MAX);
            Kind::Rate(prior(0)?, prior(1)?)
        }
        "decayed_sum" | "decayed_count" => Kind::Decayed(positive_duration(name, &constants[0])?),
        "time_since_last" => Kind::TimeSinceLast,
        "mean_gap" => Kind::MeanGap,
        "max_gap" => Kind::MaxGap,
        "trend" => Kind::Trend,
        "vector_sum" => Kind::VectorSum,
        "vector_avg" => Kind::VectorAvg,
        other => return Err((None, format!("`{other}` has no meaning"), None)),
    })
}

fn edges(argument: &Argument) -> Result<Vec<Real>, Wrong> {
    let wrong = |message: &str| (Some(argument.place), format!("edges of histogram {message}"), None);
    let Some(Value::List(items)) = &argument.literal else {
        return Err(wrong("are a list of numbers such as ARRAY[0, 10, 100]"));
    };
    if items.is_empty() || items.len() > EDGES_MAX {
        return Err(wrong(&format!("are 1 to {EDGES_MAX} numbers, not {}", items.len())));
    }
    let mut edges = Vec::with_capacity(items.len());
    for item in items {
        edges.push(match item {
            Value::Int64(v) if (*v as f64) as i128 == i128::from(*v) => *v as f64,
            Value::Int64(v) => return Err(wrong(&format!("are float64, which does not hold {v}"))),
            Value::Float64(v) if v.is_finite() => *v,
            _ => return Err(wrong("are numbers")),
        });
    }
    if edges.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(wrong("ascend, each greater than the one before"));
    }
    Ok(edges.into_iter().map(Real::new).collect())
}
