//! The table of functions: names, arguments, what they do. Its version goes into every definition's hash, because a changed
//! function is a changed feature.

use std::cmp::Ordering;

use sqlparser::tokenizer::Location;

use super::compile::fault;
use super::{Fault, Typed, calendar, compare, lists, logic, math, text};
use crate::hash::hash_bytes;
use crate::problem::nearest;
use crate::value::{DataType, Value};

/// Raised when a function or a cast changes its values.
pub const FUNCTIONS_VERSION: u32 = 2;

/// What a function takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// anything; the function checks by itself
    Any,
    Text,
    Number,
    Int,
    ListOrText,
}

/// A function: name, fewest and most arguments, their types in order (the last one repeats), what it does.
pub struct Signature {
    /// as written in expressions
    pub name: &'static str,
    /// how many arguments, from and to
    pub arity: (usize, usize),
    takes: &'static [Takes],
    /// arguments and result in one line
    pub says: &'static str,
    /// a call for the reference page
    pub example: &'static str,
}

const MANY: usize = 64;

macro_rules! functions {
    ($($name:literal $from:tt .. $to:tt ($($takes:ident),*) $says:literal, $example:literal;)*) => {
        /// Every function of the expression language.
        pub const FUNCTIONS: &[Signature] = &[
            $(Signature {
                name: $name, arity: ($from, $to), takes: &[$(Takes::$takes),*], says: $says, example: $example,
            },)*
        ];
    };
}

functions! {
    "abs" 1..1 (Number) "abs(x): magnitude; the type stays", "abs(-2.5)";
    "ceil" 1..1 (Number) "ceil(x): smallest whole number not below x", "ceil(1.2)";
    "coalesce" 1..MANY (Any) "coalesce(a, b, …): the first that is not null", "coalesce(NULL, 'b', 'c')";
    "concat" 1..MANY (Any) "concat(a, b, …): texts in a row, nulls skipped", "concat('a', NULL, 'b')";
    "contains" 2..2 (Any) "contains(list, x): whether x is among the elements", "contains(ARRAY[1, 2], 2)";
    "date_trunc" 2..3 (Any) "date_trunc('day', t [, 'Zone']): start of the unit that holds t", "date_trunc('day', TIMESTAMP '2026-03-29T12:00:00Z', 'Europe/Berlin')";
    "div" 2..2 (Int) "div(a, b): integer division, toward zero", "div(-7, 2)";
    "element" 2..2 (Any) "element(list, i): the i-th element, from 1", "element(ARRAY['a', 'b'], 2)";
    "exp" 1..1 (Number) "exp(x)", "exp(1)";
    "extract" 2..3 (Any) "extract('hour', t [, 'Zone']): a field of the local time", "extract('hour', TIMESTAMP '2026-03-29T12:00:00Z', 'Europe/Berlin')";
    "floor" 1..1 (Number) "floor(x): greatest whole number not above x", "floor(-1.2)";
    "greatest" 1..MANY (Any) "greatest(a, b, …): nulls skipped", "greatest(1, NULL, 3)";
    "hash64" 1..1 (Text) "hash64(text): XXH3-64 as int64", "hash64('tidemill')";
    "haversine" 4..4 (Number) "haversine(lat1, lon1, lat2, lon2): kilometres", "haversine(52.52, 13.405, 48.1372, 11.5756)";
    "least" 1..MANY (Any) "least(a, b, …): nulls skipped", "least(2, 1, NULL)";
    "length" 1..1 (ListOrText) "length(text or list): characters or elements", "length('häuser')";
    "ln" 1..1 (Number) "ln(x): natural logarithm", "ln(2)";
    "lower" 1..1 (Text) "lower(text)", "lower('ÄB')";
    "now" 0..0 () "now(): the time of the read", "now()";
    "nullif" 2..2 (Any) "nullif(a, b): null where both are equal, else a", "nullif(0, 0)";
    "power" 2..2 (Number) "power(x, y)", "power(2, 10)";
    "regexp_like" 2..2 (Text) "regexp_like(text, 'pattern')", "regexp_like('abc', '^a.c$')";
    "round" 1..2 (Number, Int) "round(x [, digits]): half away from zero", "round(2.345, 2)";
    "split_part" 3..3 (Text, Text, Int) "split_part(text, separator, n): the n-th part, from 1", "split_part('a/b/c', '/', 2)";
    "sqrt" 1..1 (Number) "sqrt(x)", "sqrt(2)";
    "starts_with" 2..2 (Text) "starts_with(text, prefix)", "starts_with('tidemill', 'tide')";
    "substr" 2..3 (Text, Int, Int) "substr(text, start [, count]): from 1, in characters", "substr('tidemill', 5, 2)";
    "trim" 1..1 (Text) "trim(text): without spaces at both ends", "trim('  a ')";
    "upper" 1..1 (Text) "upper(text)", "upper('ab')";
}

fn check(signature: &Signature, arguments: &[Typed], at: Location) -> Result<(), Fault> {
    let (from, to) = signature.arity;
    if arguments.len() < from || arguments.len() > to {
        return Err(fault(
            at,
            format!("`{}` does not take {} arguments: {}", signature.name, arguments.len(), signature.says),
        ));
    }
    for (i, argument) in arguments.iter().enumerate() {
        let takes = signature.takes.get(i).or(signature.takes.last()).copied().unwrap_or(Takes::Any);
        let fits = match (takes, &argument.data_type) {
            (Takes::Any, _) | (_, None) => true,
            (Takes::Text, Some(own)) => *own == DataType::Text,
            (Takes::Int, Some(own)) => *own == DataType::Int64,
            (Takes::Number, Some(own)) => own.is_numeric(),
            (Takes::ListOrText, Some(own)) => matches!(own, DataType::Text | DataType::List(_) | DataType::Vector(_)),
        };
        if !fits {
            let (n, own) = (i + 1, argument.type_name());
            return Err(fault(at, format!("argument {n} of `{}` cannot be {own}: {}", signature.name, signature.says)));
        }
    }
    Ok(())
}

/// Compiles a call.
pub(super) fn compile(name: &str, mut list: Vec<Typed>, at_read: bool, at: Location) -> Result<Typed, Fault> {
    let name = match name {
        "substring" => "substr",
        "ceiling" => "ceil",
        "pow" => "power",
        other => other,
    };
    let Some(signature) = FUNCTIONS.iter().find(|f| f.name == name) else {
        let near = nearest(name, FUNCTIONS.iter().map(|f| f.name));
        return Err(Fault { near, ..fault(at, format!("unknown function `{name}`")) });
    };
    check(signature, &list, at)?;
    let second = |list: &mut Vec<Typed>| list.remove(1);
    let first = |list: &mut Vec<Typed>| list.remove(0);
    Ok(match name {
        "coalesce" => logic::coalesce(list, at)?,
        "least" => compare::extreme(list, Ordering::Less, at)?,
        "greatest" => compare::extreme(list, Ordering::Greater, at)?,
        "concat" => text::concat(list, at)?,
        "date_trunc" => calendar::date_trunc(list, at)?,
        "extract" => calendar::extract(list, at)?,
        "haversine" => math::haversine(list),
        "substr" => text::substr(list),
        "split_part" => text::split_part(list),
        "now" if at_read => Typed::new(DataType::Timestamp, |frame| Value::Timestamp(frame.now)),
        "now" => {
            return Err(fault(at, "now() has a meaning only at read: in derived features, not in where or select"));
        }
        "round" if list.len() == 2 => {
            let digits = second(&mut list);
            math::round_to(first(&mut list), digits)
        }
        "nullif" | "contains" | "element" | "regexp_like" | "starts_with" | "power" | "div" => {
            let b = second(&mut list);
            two(name, first(&mut list), b, at)?
        }
        _ => one(name, first(&mut list)),
    })
}

fn two(name: &str, a: Typed, b: Typed, at: Location) -> Result<Typed, Fault> {
    match name {
        "nullif" => compare::nullif(a, b, at),
        "contains" => lists::contains(a, b, at),
        "element" => lists::element(a, b, at),
        "regexp_like" => text::regexp_like(a, b, at),
        "starts_with" => Ok(text::test(a, b, |text, prefix| text.starts_with(prefix))),
        "power" => Ok(math::power(a, b)),
        _ => Ok(math::div(a, b)),
    }
}

fn one(name: &str, a: Typed) -> Typed {
    match name {
        "abs" => math::abs(a),
        "ceil" => math::whole(a, libm::ceil, math::ceil_division),
        "floor" => math::whole(a, libm::floor, math::floor_division),
        "round" => math::whole(a, libm::round, math::round_division),
        "exp" => math::float(a, libm::exp),
        "ln" => math::float(a, libm::log),
        "sqrt" => math::float(a, libm::sqrt),
        "length" => lists::length(a),
        "lower" => text::map(a, text::lower),
        "upper" => text::map(a, text::upper),
        "trim" => text::map(a, text::trim),
        _ => hash64(a),
    }
}

fn hash64(a: Typed) -> Typed {
    let a = a.evaluate;
    Typed::new(DataType::Int64, move |frame| match a(frame) {
        Value::Text(v) => Value::Int64(hash_bytes(v.as_bytes()) as i64),
        _ => Value::Null,
    })
}
