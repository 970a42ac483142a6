//! Comparisons, IN, IS DISTINCT FROM, NULLIF, least and greatest.

use std::cmp::Ordering;

use sqlparser::ast::BinaryOperator;
use sqlparser::tokenizer::Location;

use super::arithmetic::{to_float, unify, unscaled};
use super::compile::fault;
use super::logic::typed;
use super::{Evaluate, Fault, Frame, Typed};
use crate::time::parse_rfc3339;
use crate::value::{DataType, Value, power_of_ten};

/// Compares two values of types that were matched; None where either is null or NaN.
type Compare = Box<dyn Fn(&Frame<'_>, &Evaluate, &Evaluate) -> Option<Ordering> + Send + Sync>;

fn comparison(a: Typed, b: Typed, at: Location) -> Result<(Evaluate, Evaluate, Compare), Fault> {
    use DataType::{Decimal, Float64, Int64, Text, Timestamp};
    let (a, b) = (as_time(a, &b, at)?, b);
    let b = as_time(b, &a, at)?;
    let fits = match (&a.data_type, &b.data_type) {
        (None, _) | (_, None) => true,
        (Some(x), Some(y)) => x == y || (x.is_numeric() && y.is_numeric()),
    };
    if !fits {
        return Err(fault(at, format!("{} and {} cannot be compared", a.type_name(), b.type_name())));
    }
    let compare: Compare = match (&a.data_type, &b.data_type) {
        (Some(Int64), Some(Float64)) | (Some(Float64), Some(Int64)) => {
            Box::new(|frame, a, b| match (a(frame), b(frame)) {
                (Value::Int64(a), Value::Float64(b)) => int_with_float(a, b),
                (Value::Float64(a), Value::Int64(b)) => int_with_float(b, a).map(Ordering::reverse),
                _ => None,
            })
        }
        (Some(Decimal { .. }), Some(Float64)) | (Some(Float64), Some(Decimal { .. })) => {
            return Ok((to_float(a), to_float(b), Box::new(plain)));
        }
        (Some(Decimal { .. }), Some(_)) | (Some(_), Some(Decimal { .. })) => {
            let scale = |t: &Typed| if let Some(Decimal { scale, .. }) = t.data_type { scale } else { 0 };
            let common = scale(&a).max(scale(&b));
            let (up_a, up_b) = (power_of_ten(common - scale(&a)), power_of_ten(common - scale(&b)));
            Box::new(move |frame, a, b| {
                let (a, b) = (unscaled(&a(frame))?, unscaled(&b(frame))?);
                // What does not fit 128 bits after scaling is farther out than anything that does.
                let saturated =
                    |v: i128, up: i128| v.checked_mul(up).unwrap_or(if v < 0 { i128::MIN } else { i128::MAX });
                Some(saturated(a, up_a).cmp(&saturated(b, up_b)))
            })
        }
        (Some(Text), _) | (Some(Timestamp), _) => Box::new(plain),
        _ => Box::new(plain),
    };
    Ok((a.evaluate, b.evaluate, compare))
}

/// A text literal beside a timestamp is a time.
fn as_time(typed: Typed, other: &Typed, at: Location) -> Result<Typed, Fault> {
    match (&typed.literal, &other.data_type) {
        (Some(Value::Text(text)), Some(DataType::Timestamp)) => match parse_rfc3339(text) {
            Some(time) => Ok(Typed::constant(Some(DataType::Timestamp), Value::Timestamp(time))),
            None => Err(fault(at, format!("'{text}' is not an RFC 3339 time with its offset"))),
        },
        _ => Ok(typed),
    }
}

fn plain(frame: &Frame<'_>, a: &Evaluate, b: &Evaluate) -> Option<Ordering> {
    match (a(frame), b(frame)) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Float64(a), Value::Float64(b)) => a.partial_cmp(&b),
        (a, b) => Some(a.order(&b)),
    }
}

/// Exact: a float beyond 2^53 may lie between two integers.
fn int_with_float(a: i64, b: f64) -> Option<Ordering> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if b.is_nan() {
        return None;
    }
    if b >= LIMIT {
        return Some(Ordering::Less);
    }
    if b < -LIMIT {
        return Some(Ordering::Greater);
    }
    let whole = libm::trunc(b);
    Some(a.cmp(&(whole as i64)).then_with(|| 0.0f64.total_cmp(&(b - whole + 0.0))))
}

pub(super) fn compile(a: Typed, op: &BinaryOperator, b: Typed, at: Location) -> Result<Typed, Fault> {
    let (a, b, compare) = comparison(a, b, at)?;
    let wanted: fn(Ordering) -> bool = match op {
        BinaryOperator::Eq => Ordering::is_eq,
        BinaryOperator::NotEq => Ordering::is_ne,
        BinaryOperator::Lt => Ordering::is_lt,
        BinaryOperator::LtEq => Ordering::is_le,
        BinaryOperator::Gt => Ordering::is_gt,
        _ => Ordering::is_ge,
    };
    Ok(Typed::new(DataType::Bool, move |frame| match compare(frame, &a, &b) {
        Some(ordering) => Value::Bool(wanted(ordering)),
        None => Value::Null,
    }))
}

pub(super) fn distinct_from(a: Typed, b: Typed, expected: bool, at: Location) -> Result<Typed, Fault> {
    let (a, b, compare) = comparison(a, b, at)?;
    Ok(Typed::new(DataType::Bool, move |frame| {
        let distinct = match compare(frame, &a, &b) {
            Some(ordering) => ordering.is_ne(),
            None => a(frame).is_null() != b(frame).is_null(),
        };
        Value::Bool(distinct == expected)
    }))
}

pub(super) fn in_list(a: Typed, items: Vec<Typed>, negated: bool, at: Location) -> Result<Typed, Fault> {
    let operand = std::sync::Arc::new(a.evaluate);
    let mut comparisons = Vec::with_capacity(items.len());
    for item in items {
        let shared = operand.clone();
        let copy = typed(a.data_type.clone(), move |frame| shared(frame));
        let copy = Typed { literal: a.literal.clone(), ..copy };
        comparisons.push(comparison(copy, item, at)?);
    }
    Ok(Typed::new(DataType::Bool, move |frame| {
        let mut unknown = false;
        for (a, b, compare) in &comparisons {
            match compare(frame, a, b) {
                Some(Ordering::Equal) => return Value::Bool(!negated),
                Some(_) => {}
                None => unknown = true,
            }
        }
        if unknown { Value::Null } else { Value::Bool(negated) }
    }))
}

pub(super) fn nullif(a: Typed, b: Typed, at: Location) -> Result<Typed, Fault> {
    let data_type = a.data_type.clone();
    let (a, b, compare) = comparison(a, b, at)?;
    Ok(typed(data_type, move |frame| match compare(frame, &a, &b) {
        Some(Ordering::Equal) => Value::Null,
        _ => a(frame),
    }))
}

/// least (`Less` wins) and greatest (`Greater` wins); nulls are skipped.
pub(super) fn extreme(arguments: Vec<Typed>, wins: Ordering, at: Location) -> Result<Typed, Fault> {
    let (data_type, arguments) = unify(arguments, "least and greatest", at)?;
    Ok(typed(data_type, move |frame| {
        let mut best = Value::Null;
        for argument in &arguments {
            let value = argument(frame);
            let better = match (&best, &value) {
                (_, Value::Null) => false,
                (Value::Null, _) => true,
                (Value::Float64(a), Value::Float64(b)) => b.partial_cmp(a) == Some(wins),
                (a, b) => b.order(a) == wins,
            };
            if better {
                best = value;
            }
        }
        best
    }))
}
