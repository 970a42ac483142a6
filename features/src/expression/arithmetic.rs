//! + - * / % and unary minus, over int64, float64 and decimal; and the common type of several expressions.

use sqlparser::ast::BinaryOperator;
use sqlparser::tokenizer::Location;

use super::compile::fault;
use super::logic::typed;
use super::{Evaluate, Fault, Frame, Typed};
use crate::value::{DataType, Value, decimal_text, power_of_ten};

/// Digits behind the point that a product of decimals may have.
const SCALE_MAX: u8 = 38;

/// What a numeric operator computes in.
enum Domain {
    Int,
    Decimal(u8, u8),
    Float,
}

fn domain(a: &Typed, b: &Typed, op: &BinaryOperator, at: Location) -> Result<Domain, Fault> {
    let scale = |t: &Typed| match &t.data_type {
        None | Some(DataType::Int64) => Some(0),
        Some(DataType::Decimal { scale, .. }) => Some(*scale),
        _ => None,
    };
    let numeric = |t: &Typed| t.data_type.as_ref().is_none_or(DataType::is_numeric);
    if !numeric(a) || !numeric(b) {
        return Err(fault(at, format!("`{op}` takes numbers, not {} and {}", a.type_name(), b.type_name())));
    }
    if *op == BinaryOperator::Divide {
        return Ok(Domain::Float);
    }
    Ok(match (a.is(&DataType::Int64) && b.is(&DataType::Int64), scale(a), scale(b)) {
        (true, ..) => Domain::Int,
        (false, Some(a), Some(b)) => Domain::Decimal(a, b),
        _ => Domain::Float,
    })
}

pub(super) fn compile(a: Typed, op: &BinaryOperator, b: Typed, at: Location) -> Result<Typed, Fault> {
    match domain(&a, &b, op, at)? {
        Domain::Int => integers(a.evaluate, op, b.evaluate, at),
        Domain::Decimal(left, right) => decimals((a, left), op, (b, right), at),
        Domain::Float => floats(to_float(a), op, to_float(b), at),
    }
}

fn integers(a: Evaluate, op: &BinaryOperator, b: Evaluate, at: Location) -> Result<Typed, Fault> {
    let compute: fn(i64, i64) -> Option<i64> = match op {
        BinaryOperator::Plus => i64::checked_add,
        BinaryOperator::Minus => i64::checked_sub,
        BinaryOperator::Multiply => i64::checked_mul,
        BinaryOperator::Modulo => |a, b| (b != 0).then(|| a.wrapping_rem(b)),
        other => return Err(fault(at, format!("`{other}` is not arithmetic"))),
    };
    Ok(Typed::new(DataType::Int64, move |frame| match (a(frame), b(frame)) {
        (Value::Int64(a), Value::Int64(b)) => frame.some(compute(a, b), Value::Int64),
        _ => Value::Null,
    }))
}

fn floats(a: Evaluate, op: &BinaryOperator, b: Evaluate, at: Location) -> Result<Typed, Fault> {
    let compute: fn(f64, f64) -> f64 = match op {
        BinaryOperator::Plus => |a, b| a + b,
        BinaryOperator::Minus => |a, b| a - b,
        BinaryOperator::Multiply => |a, b| a * b,
        BinaryOperator::Divide => |a, b| if b == 0.0 { f64::NAN } else { a / b },
        BinaryOperator::Modulo => libm::fmod,
        other => return Err(fault(at, format!("`{other}` is not arithmetic"))),
    };
    Ok(Typed::new(DataType::Float64, move |frame| match (a(frame), b(frame)) {
        (Value::Float64(a), Value::Float64(b)) => frame.float(compute(a, b), a.is_finite() && b.is_finite()),
        _ => Value::Null,
    }))
}

fn decimals(a: (Typed, u8), op: &BinaryOperator, b: (Typed, u8), at: Location) -> Result<Typed, Fault> {
    let ((a, left), (b, right)) = (a, b);
    let multiply = *op == BinaryOperator::Multiply;
    let scale = if multiply { left + right } else { left.max(right) };
    if scale > SCALE_MAX {
        return Err(fault(at, format!("the product has {scale} digits behind the point, more than {SCALE_MAX}")));
    }
    let compute: fn(i128, i128) -> Option<i128> = match op {
        BinaryOperator::Plus => i128::checked_add,
        BinaryOperator::Minus => i128::checked_sub,
        BinaryOperator::Multiply => i128::checked_mul,
        BinaryOperator::Modulo => |a, b| (b != 0).then(|| a.wrapping_rem(b)),
        other => return Err(fault(at, format!("`{other}` is not arithmetic"))),
    };
    let (up_a, up_b) = if multiply { (1, 1) } else { (power_of_ten(scale - left), power_of_ten(scale - right)) };
    let (a, b) = (a.evaluate, b.evaluate);
    Ok(Typed::new(DataType::Decimal { precision: 38, scale }, move |frame| {
        let (Some(a), Some(b)) = (unscaled(&a(frame)), unscaled(&b(frame))) else { return Value::Null };
        let result = a.checked_mul(up_a).zip(b.checked_mul(up_b)).and_then(|(a, b)| compute(a, b));
        frame.some(result.filter(|v| v.unsigned_abs() < power_of_ten(38).unsigned_abs()), Value::Decimal)
    }))
}

/// The unscaled digits of an int64 or decimal.
pub(super) fn unscaled(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int64(v) => Some(i128::from(*v)),
        Value::Decimal(v) => Some(*v),
        _ => None,
    }
}

pub(super) fn negate(a: Typed, at: Location) -> Result<Typed, Fault> {
    if a.data_type.as_ref().is_some_and(|t| !t.is_numeric()) {
        return Err(fault(at, format!("`-` takes a number, not {}", a.type_name())));
    }
    let inner = a.evaluate;
    Ok(typed(a.data_type, move |frame| match inner(frame) {
        Value::Int64(v) => frame.some(v.checked_neg(), Value::Int64),
        Value::Float64(v) => Value::Float64(-v),
        Value::Decimal(v) => Value::Decimal(-v),
        _ => Value::Null,
    }))
}

/// A decimal as the nearest float.
pub(super) fn decimal_to_float(unscaled: i128, scale: u8) -> f64 {
    const EXACT: i128 = 1 << 53;
    if unscaled.abs() < EXACT && scale <= 22 {
        return unscaled as f64 / power_of_ten(scale) as f64;
    }
    decimal_text(unscaled, scale).parse().unwrap_or(f64::NAN)
}

/// The value as float64; the argument is a number.
pub(super) fn to_float(a: Typed) -> Evaluate {
    fn typed<F: for<'a> Fn(&Frame<'a>) -> Value<'a> + Send + Sync + 'static>(f: F) -> Evaluate {
        Box::new(f)
    }
    let inner = a.evaluate;
    match a.data_type {
        Some(DataType::Int64) => typed(move |frame| match inner(frame) {
            Value::Int64(v) => Value::Float64(v as f64),
            _ => Value::Null,
        }),
        Some(DataType::Decimal { scale, .. }) => typed(move |frame| match inner(frame) {
            Value::Decimal(v) => Value::Float64(decimal_to_float(v, scale)),
            _ => Value::Null,
        }),
        _ => inner,
    }
}

fn to_decimal(a: Typed, scale: u8) -> Evaluate {
    let own = match a.data_type {
        Some(DataType::Decimal { scale, .. }) => scale,
        _ => 0,
    };
    let up = power_of_ten(scale - own);
    let inner = a.evaluate;
    let converted = Typed::new(DataType::Bool, move |frame| match unscaled(&inner(frame)) {
        Some(v) => frame.some(v.checked_mul(up), Value::Decimal),
        None => Value::Null,
    });
    converted.evaluate
}

/// The one type that several expressions have, numbers meeting in the wider of theirs; None if all are NULL.
pub(super) fn unify(list: Vec<Typed>, what: &str, at: Location) -> Result<(Option<DataType>, Vec<Evaluate>), Fault> {
    let mut common: Option<DataType> = None;
    for typed in &list {
        common = match (common, &typed.data_type) {
            (None, own) => own.clone(),
            (common, None) => common,
            (Some(a), Some(b)) => match wider(&a, b) {
                Some(wider) => Some(wider),
                None => return Err(fault(at, format!("{what} mixes {a} and {b}"))),
            },
        };
    }
    let convert = |typed: Typed| match &common {
        Some(DataType::Float64) => to_float(typed),
        Some(DataType::Decimal { scale, .. }) => to_decimal(typed, *scale),
        _ => typed.evaluate,
    };
    let converted = list.into_iter().map(convert).collect();
    Ok((common, converted))
}

fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Decimal, Float64, Int64};
    let decimal = |x: u8, y: u8| Some(Decimal { precision: 38, scale: x.max(y) });
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Decimal { scale: x, .. }, Decimal { scale: y, .. }) => decimal(*x, *y),
        (Decimal { scale, .. }, Int64) | (Int64, Decimal { scale, .. }) => decimal(*scale, 0),
        (a, b) if a.is_numeric() && b.is_numeric() => Some(Float64),
        _ => None,
    }
}
