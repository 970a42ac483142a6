//! Arguments of aggregates: constants and their ranges, columns and their types.

use std::ops::RangeInclusive;

use super::windows::WIDTH_MAX;
use crate::aggregates::{Kind, Real};
use crate::expression::Argument;
use crate::time::parse_duration;
use crate::value::{DataType, Value};

/// What is wrong with a call: the argument it is about (None: the call), a message, a near name.
pub(super) type Wrong = (Option<(u64, u64)>, String, Option<String>);

/// A number in a range.
pub(super) fn constant(argument: &Argument, says: &str, range: RangeInclusive<f64>) -> Result<Real, Wrong> {
    let number = match argument.literal {
        Some(Value::Int64(v)) => Some(v as f64),
        Some(Value::Float64(v)) => Some(v),
        _ => None,
    };
    let fits = number.filter(|number| range.contains(number));
    fits.map(Real::new).ok_or_else(|| (Some(argument.place), says.to_string(), None))
}

/// k: an integer from 1 to `most`.
pub(super) fn whole(name: &str, argument: &Argument, most: i64) -> Result<usize, Wrong> {
    match argument.literal {
        Some(Value::Int64(k)) if (1..=most).contains(&k) => Ok(k as usize),
        _ => Err((Some(argument.place), format!("k of {name} is an integer from 1 to {most}"), None)),
    }
}

/// A duration as text.
pub(super) fn positive_duration(name: &str, argument: &Argument) -> Result<i64, Wrong> {
    let wrong = |message: String| (Some(argument.place), message, None);
    let Some(Value::Text(text)) = &argument.literal else {
        return Err(wrong(format!("the half-life of {name} is a duration in quotes such as '1h'")));
    };
    match parse_duration(text) {
        Ok(duration) if (1..=WIDTH_MAX).contains(&duration) => Ok(duration),
        Ok(_) => Err(wrong(format!("the half-life of {name} is from 1us to 3660 days"))),
        Err(message) => Err(wrong(message)),
    }
}

/// The type of a column argument, if the aggregate can take it.
pub(super) fn column_type(name: &str, kind: &Kind, at: usize, argument: &Argument) -> Result<DataType, Wrong> {
    let Some(data_type) = argument.expression.data_type.clone() else {
        return Err((Some(argument.place), format!("`{name}` of NULL has no type"), None));
    };
    if fits(name, kind, at, &data_type) {
        return Ok(data_type);
    }
    let hint = match (kind, &data_type) {
        (Kind::Variance | Kind::Stddev | Kind::Skewness | Kind::Kurtosis | Kind::Trend, DataType::Decimal { .. }) => {
            "; CAST it to DOUBLE"
        }
        (Kind::VectorSum | Kind::VectorAvg, DataType::List(_)) => "; declare the column as vector<n>",
        _ => "",
    };
    let which = if at == 0 { "" } else { " as its second argument" };
    Err((Some(argument.place), format!("`{name}` cannot take {data_type}{which}{hint}"), None))
}

fn fits(name: &str, kind: &Kind, at: usize, of: &DataType) -> bool {
    let nested = matches!(of, DataType::List(_) | DataType::Vector(_) | DataType::Map(..));
    let category = matches!(of, DataType::Bool | DataType::Int64 | DataType::Text | DataType::Timestamp);
    match (kind, at) {
        (Kind::Sum | Kind::Avg | Kind::Quantile(_) | Kind::Histogram(_) | Kind::Rate(..) | Kind::Decayed(_), _) => {
            of.is_numeric()
        }
        (Kind::Variance | Kind::Stddev | Kind::Skewness | Kind::Kurtosis | Kind::Trend, _) => {
            matches!(of, DataType::Int64 | DataType::Float64)
        }
        (Kind::CountBy, _) | (Kind::SumBy | Kind::AvgBy, 1) => category,
        (Kind::SumBy | Kind::AvgBy, _) => of.is_numeric(),
        (Kind::Any | Kind::All, _) => *of == DataType::Bool,
        (Kind::VectorSum | Kind::VectorAvg, _) => matches!(of, DataType::Vector(_)),
        (Kind::One(_), _) if name == "vector_last" => matches!(of, DataType::Vector(_)),
        (Kind::Count | Kind::One(_), _) | (Kind::ArgMax | Kind::ArgMin, 0) => true,
        (Kind::ArgMax | Kind::ArgMin, _) => !nested && *of != DataType::Bytes,
        _ => !nested,
    }
}
