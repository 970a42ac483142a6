//! Aggregates as definitions call them: names, arguments, types.
//!
//! The whole vocabulary of the language is known here, so that a definition can be checked; what this version cannot compute
//! yet is marked and refused when a project is served.

use crate::aggregates::{Aggregate, Edge, Kind};
use crate::expression::{Argument, Call};
use crate::problem::nearest;
use crate::value::{DataType, Value};

/// Values that first_k and last_k keep at most.
const K_MAX: i64 = 10_000;

/// An aggregate of a feature.
pub(super) enum Meaning {
    /// with the index of its argument, if any
    Ready(Aggregate),
    /// known, not computed yet; the type of its values
    Later(DataType),
}

/// Aggregates that are computed: name, arguments, what they do.
pub const AGGREGATES: &[(&str, usize, &str)] = &[
    ("count", 0, "count() of events, count(x) of values"),
    ("sum", 1, "sum(x), exact"),
    ("avg", 1, "avg(x), exact and rounded once"),
    ("min", 1, "min(x)"),
    ("max", 1, "max(x)"),
    ("variance", 1, "variance(x) of a sample"),
    ("stddev", 1, "stddev(x) of a sample"),
    ("first", 1, "first(x): of the oldest event"),
    ("last", 1, "last(x): of the newest event"),
    ("first_k", 2, "first_k(x, k): of the k oldest events"),
    ("last_k", 2, "last_k(x, k): of the k newest events"),
    ("distinct", 1, "distinct(x): the values, ascending"),
    ("count_distinct", 1, "count_distinct(x)"),
];

/// Aggregates that are checked only: name, arguments.
const LATER: &[(&str, usize)] = &[
    ("quantile", 2),
    ("median", 1),
    ("histogram", 2),
    ("top_k", 2),
    ("bottom_k", 2),
    ("mode", 1),
    ("skewness", 1),
    ("kurtosis", 1),
    ("any", 1),
    ("all", 1),
    ("arg_max", 2),
    ("arg_min", 2),
    ("rate", 4),
    ("decayed_sum", 2),
    ("decayed_count", 1),
    ("count_by", 1),
    ("sum_by", 2),
    ("avg_by", 2),
    ("entropy", 1),
    ("time_since_last", 0),
    ("mean_gap", 0),
    ("max_gap", 0),
    ("trend", 1),
    ("vector_sum", 1),
    ("vector_avg", 1),
    ("vector_last", 1),
];

/// What is wrong with a call: the argument it is about (None: the call), a message, a near name.
pub(super) type Wrong = (Option<(u64, u64)>, String, Option<String>);

/// Finds out what a call means; `distinct` is the key of the feature.
pub(super) fn meaning(call: &Call, distinct: bool, id_type: Option<&DataType>) -> Result<Meaning, Wrong> {
    let name = if call.name == "mean" { "avg" } else { call.name.as_str() };
    let here = |message: String| (None, message, None);
    if let Some((_, arity)) = LATER.iter().find(|(known, _)| *known == name) {
        return later(call, name, *arity);
    }
    let Some((_, arity, says)) = AGGREGATES.iter().find(|(known, ..)| *known == name) else {
        let known = AGGREGATES.iter().map(|(known, ..)| *known).chain(LATER.iter().map(|(known, _)| *known));
        return Err((None, format!("unknown aggregate `{name}`"), nearest(name, known)));
    };
    let given = call.arguments.len();
    if given != *arity && !(name == "count" && given == 1) {
        return Err(here(format!("`{name}` does not take {given} arguments: {says}")));
    }
    let kind = kind(name, call, distinct)?;
    if distinct && !matches!(kind, Kind::Many(_)) {
        return Err(here(format!("`distinct` has no effect on {name}: it belongs to first_k and last_k")));
    }
    let input = match call.arguments.first() {
        None => None,
        Some(argument) => Some(input(name, kind, argument)?),
    };
    Ok(Meaning::Ready(Aggregate { kind, input, id_type: id_type.cloned() }))
}

fn kind(name: &str, call: &Call, distinct: bool) -> Result<Kind, Wrong> {
    let edge = |newest, k| Edge { newest, k, distinct };
    Ok(match name {
        "count" => Kind::Count,
        "sum" => Kind::Sum,
        "avg" => Kind::Avg,
        "min" => Kind::Min,
        "max" => Kind::Max,
        "variance" => Kind::Variance,
        "stddev" => Kind::Stddev,
        "first" => Kind::One(edge(false, 1)),
        "last" => Kind::One(edge(true, 1)),
        "distinct" => Kind::Distinct,
        "count_distinct" => Kind::CountDistinct,
        _ => match &call.arguments[1] {
            Argument { literal: Some(Value::Int64(k)), .. } if (1..=K_MAX).contains(k) => {
                Kind::Many(edge(name == "last_k", *k as usize))
            }
            other => return Err((Some(other.place), format!("k of {name} is an integer from 1 to {K_MAX}"), None)),
        },
    })
}

fn input(name: &str, kind: Kind, argument: &Argument) -> Result<DataType, Wrong> {
    let Some(data_type) = argument.expression.data_type.clone() else {
        return Err((Some(argument.place), format!("`{name}` of NULL has no type"), None));
    };
    let fits = match kind {
        Kind::Sum | Kind::Avg => data_type.is_numeric(),
        Kind::Variance | Kind::Stddev => matches!(data_type, DataType::Int64 | DataType::Float64),
        Kind::Min | Kind::Max | Kind::Many(_) | Kind::Distinct | Kind::CountDistinct => {
            !matches!(data_type, DataType::List(_) | DataType::Vector(_))
        }
        Kind::Count | Kind::One(_) => true,
    };
    if fits {
        return Ok(data_type);
    }
    let hint = match (kind, &data_type) {
        (Kind::Variance | Kind::Stddev, DataType::Decimal { .. }) => "; CAST it to DOUBLE",
        _ => "",
    };
    Err((Some(argument.place), format!("`{name}` cannot take {data_type}{hint}"), None))
}

fn later(call: &Call, name: &str, arity: usize) -> Result<Meaning, Wrong> {
    let given = call.arguments.len();
    if given != arity {
        return Err((None, format!("`{name}` takes {arity} arguments, not {given}"), None));
    }
    let first = call.arguments.first().and_then(|a| a.expression.data_type.clone()).unwrap_or(DataType::Float64);
    Ok(Meaning::Later(match name {
        "histogram" => DataType::List(Box::new(DataType::Int64)),
        "top_k" | "bottom_k" => DataType::List(Box::new(first)),
        "mode" | "arg_max" | "arg_min" | "vector_last" | "vector_sum" | "vector_avg" => first,
        "any" | "all" => DataType::Bool,
        // Maps are of a type of their own, which comes with them.
        "count_by" | "sum_by" | "avg_by" => DataType::Bytes,
        _ => DataType::Float64,
    }))
}
