//! Three-valued logic, IS tests, CASE, COALESCE.

use sqlparser::tokenizer::Location;

use super::arithmetic::unify;
use super::compile::fault;
use super::{Evaluate, Fault, Typed};
use crate::value::{DataType, Value};

fn boolean(typed: Typed, what: &str, at: Location) -> Result<Evaluate, Fault> {
    if typed.is(&DataType::Bool) {
        Ok(typed.evaluate)
    } else {
        Err(fault(at, format!("{what} takes bool, not {}", typed.type_name())))
    }
}

pub(super) fn and(a: Typed, b: Typed, at: Location) -> Result<Typed, Fault> {
    let (a, b) = (boolean(a, "AND", at)?, boolean(b, "AND", at)?);
    Ok(Typed::new(DataType::Bool, move |frame| match a(frame) {
        Value::Bool(false) => Value::Bool(false),
        Value::Bool(true) => b(frame),
        _ => match b(frame) {
            Value::Bool(false) => Value::Bool(false),
            _ => Value::Null,
        },
    }))
}

pub(super) fn or(a: Typed, b: Typed, at: Location) -> Result<Typed, Fault> {
    let (a, b) = (boolean(a, "OR", at)?, boolean(b, "OR", at)?);
    Ok(Typed::new(DataType::Bool, move |frame| match a(frame) {
        Value::Bool(true) => Value::Bool(true),
        Value::Bool(false) => b(frame),
        _ => match b(frame) {
            Value::Bool(true) => Value::Bool(true),
            _ => Value::Null,
        },
    }))
}

pub(super) fn not(a: Typed, at: Location) -> Result<Typed, Fault> {
    let a = boolean(a, "NOT", at)?;
    Ok(Typed::new(DataType::Bool, move |frame| match a(frame) {
        Value::Bool(v) => Value::Bool(!v),
        _ => Value::Null,
    }))
}

pub(super) fn is_null(a: Typed, expected: bool) -> Typed {
    let a = a.evaluate;
    Typed::new(DataType::Bool, move |frame| Value::Bool(a(frame).is_null() == expected))
}

/// IS [NOT] TRUE, FALSE, UNKNOWN.
pub(super) fn is_bool(a: Typed, wanted: Option<bool>, expected: bool, at: Location) -> Result<Typed, Fault> {
    let a = boolean(a, "IS TRUE", at)?;
    Ok(Typed::new(DataType::Bool, move |frame| {
        let found = match a(frame) {
            Value::Bool(v) => Some(v),
            _ => None,
        };
        Value::Bool((found == wanted) == expected)
    }))
}

pub(super) fn case(arms: Vec<(Typed, Typed)>, otherwise: Option<Typed>, at: Location) -> Result<Typed, Fault> {
    let mut conditions = Vec::with_capacity(arms.len());
    let mut results = Vec::with_capacity(arms.len() + 1);
    for (condition, result) in arms {
        conditions.push(boolean(condition, "WHEN", at)?);
        results.push(result);
    }
    results.push(otherwise.unwrap_or_else(|| Typed::constant(None, Value::Null)));
    let (data_type, results) = unify(results, "CASE", at)?;
    let chosen = move |frame: &super::Frame<'_>| {
        conditions.iter().position(|c| matches!(c(frame), Value::Bool(true))).unwrap_or(conditions.len())
    };
    Ok(typed(data_type, move |frame| results[chosen(frame)](frame)))
}

pub(super) fn coalesce(arguments: Vec<Typed>, at: Location) -> Result<Typed, Fault> {
    let (data_type, arguments) = unify(arguments, "coalesce", at)?;
    Ok(typed(data_type, move |frame| arguments.iter().map(|a| a(frame)).find(|v| !v.is_null()).unwrap_or(Value::Null)))
}

/// A node whose type may be that of NULL.
pub(super) fn typed<F>(data_type: Option<DataType>, evaluate: F) -> Typed
where
    F: for<'a> Fn(&super::Frame<'a>) -> Value<'a> + Send + Sync + 'static,
{
    Typed { data_type, ..Typed::new(DataType::Bool, evaluate) }
}
