//! CAST and TRY_CAST. A cast that fails is null; CAST counts it as a row error, TRY_CAST does not.

use sqlparser::ast::{DataType as SqlType, ExactNumberInfo};
use sqlparser::tokenizer::Location;

use super::arithmetic::decimal_to_float;
use super::compile::fault;
use super::{Fault, Typed};
use crate::time::{parse_rfc3339, rfc3339};
use crate::value::{DataType, Value, decimal_text, parse_decimal, power_of_ten};

/// The types that a cast may name.
fn target(sql: &SqlType) -> Option<DataType> {
    use SqlType as S;
    Some(match sql {
        S::BigInt(_) | S::Int(_) | S::Int8(_) | S::Int64 | S::Integer(_) => DataType::Int64,
        S::Double(_) | S::DoublePrecision | S::Float(_) | S::Float8 | S::Float64 | S::Real => DataType::Float64,
        S::Varchar(_) | S::Text | S::String(_) | S::Char(_) | S::CharVarying(_) => DataType::Text,
        S::Boolean | S::Bool => DataType::Bool,
        S::Timestamp(..) => DataType::Timestamp,
        S::Decimal(info) | S::Numeric(info) => {
            let (precision, scale) = match info {
                ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
                ExactNumberInfo::Precision(precision) => (*precision, 0),
                ExactNumberInfo::None => (38, 0),
            };
            let (precision, scale) = (u8::try_from(precision).ok()?, u8::try_from(scale).ok()?);
            ((1..=38).contains(&precision) && scale <= precision).then_some(DataType::Decimal { precision, scale })?
        }
        _ => return None,
    })
}

pub(super) fn compile(a: Typed, sql: &SqlType, quiet: bool, at: Location) -> Result<Typed, Fault> {
    let Some(to) = target(sql) else {
        let known = "BIGINT, DOUBLE, VARCHAR, BOOLEAN, TIMESTAMP and DECIMAL(p, s)";
        return Err(fault(at, format!("cannot cast to {sql}; the types are {known}")));
    };
    let Some(from) = a.data_type.clone() else {
        return Ok(Typed { data_type: Some(to), ..a });
    };
    if from == to {
        return Ok(a);
    }
    let possible = match (&from, &to) {
        (DataType::List(_) | DataType::Vector(_) | DataType::Bytes, _) => false,
        (DataType::Timestamp, to) => matches!(to, DataType::Int64 | DataType::Text),
        (from, DataType::Timestamp) => matches!(from, DataType::Int64 | DataType::Text),
        (DataType::Bool, to) => matches!(to, DataType::Int64 | DataType::Text),
        (from, DataType::Bool) => matches!(from, DataType::Int64 | DataType::Text),
        _ => true,
    };
    if !possible {
        return Err(fault(at, format!("{from} cannot be cast to {to}")));
    }
    let inner = a.evaluate;
    Ok(Typed::new(to.clone(), move |frame| {
        let value = inner(frame);
        if value.is_null() {
            return Value::Null;
        }
        match cast(&value, &from, &to) {
            Some(value) => value,
            None if quiet => Value::Null,
            None => frame.error(),
        }
    }))
}

fn cast(value: &Value<'_>, from: &DataType, to: &DataType) -> Option<Value<'static>> {
    match to {
        DataType::Int64 => to_int(value, from).map(Value::Int64),
        DataType::Float64 => to_float(value, from).map(Value::Float64),
        DataType::Text => to_text(value, from).map(|text| Value::Text(text.into())),
        DataType::Bool => match value {
            Value::Int64(v) => Some(Value::Bool(*v != 0)),
            Value::Text(v) if v.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
            Value::Text(v) if v.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
            _ => None,
        },
        DataType::Timestamp => match value {
            Value::Int64(v) => {
                (crate::time::MIN_TIME..=crate::time::MAX_TIME).contains(v).then_some(Value::Timestamp(*v))
            }
            Value::Text(v) => parse_rfc3339(v).map(Value::Timestamp),
            _ => None,
        },
        DataType::Decimal { precision, scale } => to_decimal(value, from, *precision, *scale).map(Value::Decimal),
        _ => None,
    }
}

fn to_int(value: &Value<'_>, from: &DataType) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Bool(v) => Some(i64::from(*v)),
        Value::Timestamp(v) => Some(*v),
        Value::Float64(v) => {
            let rounded = libm::round(*v);
            (-LIMIT..LIMIT).contains(&rounded).then_some(rounded as i64)
        }
        Value::Decimal(v) => {
            let DataType::Decimal { scale, .. } = from else { return None };
            i64::try_from(divide_rounding(*v, power_of_ten(*scale))).ok()
        }
        Value::Text(v) => v.trim().parse().ok(),
        _ => None,
    }
}

fn to_float(value: &Value<'_>, from: &DataType) -> Option<f64> {
    match (value, from) {
        (Value::Int64(v), _) => Some(*v as f64),
        (Value::Decimal(v), DataType::Decimal { scale, .. }) => Some(decimal_to_float(*v, *scale)),
        (Value::Text(v), _) => {
            let text = v.trim();
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            text.parse::<f64>().ok().filter(|v| plain && v.is_finite())
        }
        _ => None,
    }
}

fn to_text(value: &Value<'_>, from: &DataType) -> Option<String> {
    Some(match (value, from) {
        (Value::Bool(v), _) => v.to_string(),
        (Value::Int64(v), _) => v.to_string(),
        (Value::Float64(v), _) if v.is_infinite() => if *v > 0.0 { "Infinity" } else { "-Infinity" }.to_string(),
        (Value::Float64(v), _) => v.to_string(),
        (Value::Timestamp(v), _) => rfc3339(*v),
        (Value::Decimal(v), DataType::Decimal { scale, .. }) => decimal_text(*v, *scale),
        (Value::Text(v), _) => v.to_string(),
        _ => return None,
    })
}

/// The text of a scalar, as CAST and concat write it.
pub(super) fn text_of(value: &Value<'_>, from: &DataType) -> String {
    to_text(value, from).unwrap_or_default()
}

fn to_decimal(value: &Value<'_>, from: &DataType, precision: u8, scale: u8) -> Option<i128> {
    let unscaled = match (value, from) {
        (Value::Int64(v), _) => i128::from(*v).checked_mul(power_of_ten(scale))?,
        (Value::Decimal(v), DataType::Decimal { scale: own, .. }) if *own <= scale => {
            v.checked_mul(power_of_ten(scale - own))?
        }
        (Value::Decimal(v), DataType::Decimal { scale: own, .. }) => divide_rounding(*v, power_of_ten(own - scale)),
        (Value::Float64(v), _) => float_to_decimal(*v, precision, scale)?,
        (Value::Text(v), _) => parse_decimal(v.trim(), precision, scale)?,
        _ => return None,
    };
    (unscaled.unsigned_abs() < power_of_ten(precision).unsigned_abs()).then_some(unscaled)
}

/// The exact value of a float, rounded half away from zero.
fn float_to_decimal(value: f64, precision: u8, scale: u8) -> Option<i128> {
    // As many binary digits behind the point as decimal ones: with one more digit than wanted the text is exact.
    let is_exact = libm::ldexp(value, i32::from(scale) + 1).fract() == 0.0;
    if !is_exact {
        // No tie, so the text has the nearest value.
        return parse_decimal(&format!("{value:.*}", scale as usize), precision, scale);
    }
    let text = format!("{value:.*}", scale as usize + 1);
    let (kept, last) = text.split_at(text.len() - 1);
    let away = if last < "5" { 0 } else { value.signum() as i128 };
    Some(parse_decimal(kept, precision, scale)? + away)
}

/// Integer division that rounds half away from zero.
pub(super) fn divide_rounding(value: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    let away = rest.unsigned_abs() >= (divisor.unsigned_abs()).div_ceil(2);
    quotient + if away { value.signum() } else { 0 }
}
