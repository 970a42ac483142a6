//! One text or number as a value of a declared type. The rules are strict: no coercion but int64 from decimal text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::time::{MAX_TIME, MIN_TIME, parse_rfc3339};
use tidemill_features::value::{DataType, Value, decimal_text, parse_decimal};

/// A time given as a number of a unit.
fn time_from_number(number: i64, per_second: i64) -> Result<Value<'static>, String> {
    let micros = if per_second > 1_000_000 {
        Some(number.div_euclid(per_second / 1_000_000))
    } else {
        number.checked_mul(1_000_000 / per_second)
    };
    match micros.filter(|t| (MIN_TIME..=MAX_TIME).contains(t)) {
        Some(time) => Ok(Value::Timestamp(time)),
        None => Err(format!("{number} lies outside the years 1 to 9999")),
    }
}

/// An integer.
pub fn from_int(number: i64, field: &FieldType) -> Result<Value<'static>, String> {
    match (&field.data_type, field.unit) {
        (DataType::Int64, _) => Ok(Value::Int64(number)),
        (DataType::Float64, _) => Ok(Value::Float64(number as f64)),
        (DataType::Float32, _) => single(number as f64),
        (DataType::Timestamp, TimeUnit::PerSecond(per_second)) => time_from_number(number, per_second),
        (DataType::Timestamp, TimeUnit::Text) => Err("a timestamp without a unit is RFC 3339 text".to_string()),
        (DataType::Decimal { precision, scale }, _) => decimal(&number.to_string(), *precision, *scale),
        (other, _) => Err(format!("an integer is not {other}")),
    }
}

/// A number as the nearest 32-bit float.
fn single(number: f64) -> Result<Value<'static>, String> {
    let nearest = number as f32;
    if nearest.is_infinite() && number.is_finite() {
        return Err(format!("{number} is out of the range of float32"));
    }
    Ok(Value::Float64(f64::from(nearest)).settled())
}

/// An integer beyond int64.
pub fn from_large(number: u64, field: &FieldType) -> Result<Value<'static>, String> {
    match &field.data_type {
        DataType::Float64 => Ok(Value::Float64(number as f64)),
        DataType::Float32 => single(number as f64),
        DataType::Decimal { precision, scale } => decimal(&number.to_string(), *precision, *scale),
        other => Err(format!("{number} is out of the range of {other}")),
    }
}

/// A number with a fraction or an exponent.
pub fn from_float(number: f64, field: &FieldType) -> Result<Value<'static>, String> {
    match &field.data_type {
        DataType::Float64 => Ok(Value::Float64(number).settled()),
        DataType::Float32 => single(number),
        // JSON writers may spell an integer zero so.
        DataType::Int64 if number == 0.0 && number.is_sign_negative() => Ok(Value::Int64(0)),
        DataType::Decimal { precision, scale } => {
            let shortest = number.to_string();
            if shortest.bytes().filter(u8::is_ascii_digit).count() > 15 {
                return Err("a decimal of more than 15 digits is given as text: a float would round it".to_string());
            }
            decimal(&shortest, *precision, *scale)
        }
        other => Err(format!("{number:?} is not {other}")),
    }
}

/// A text of a format that has types of its own, such as JSON.
pub fn from_text<'a>(text: std::borrow::Cow<'a, str>, field: &FieldType) -> Result<Value<'a>, String> {
    match (&field.data_type, field.unit) {
        (DataType::Text, _) => Ok(Value::Text(text)),
        (DataType::Int64, _) => {
            let digits = text.strip_prefix('-').unwrap_or(&text);
            let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let number = if decimal { text.parse().ok() } else { None };
            number.map(Value::Int64).ok_or_else(|| format!("'{}' is not an int64", shortened(&text)))
        }
        (DataType::Timestamp, TimeUnit::Text) => match parse_rfc3339(&text) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => {
                Err(format!("'{}' is not an RFC 3339 time with its offset, of the years 1 to 9999", shortened(&text)))
            }
        },
        (DataType::Timestamp, _) => Err("a timestamp with a unit is an integer, not text".to_string()),
        (DataType::Decimal { precision, scale }, _) => decimal(&text, *precision, *scale),
        (DataType::Bytes, _) => match STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => Ok(Value::Bytes(bytes.into())),
            Err(_) => Err("bytes are given as base64".to_string()),
        },
        (other, _) => Err(format!("the text '{}' is not {other}", shortened(&text))),
    }
}

/// A cell of a format that has only text, such as CSV; the empty cell is null.
pub fn from_cell<'a>(cell: &'a str, field: &FieldType) -> Result<Value<'a>, String> {
    if cell.is_empty() {
        return Ok(Value::Null);
    }
    let wrong = || format!("'{}' is not {}", shortened(cell), field.data_type);
    match (&field.data_type, field.unit) {
        (DataType::Bool, _) => match cell {
            "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        (DataType::Float64 | DataType::Float32, _) => match cell.parse::<f64>() {
            Ok(number) if number.is_finite() => from_float(number, field),
            Ok(number) if cell.contains(['n', 'N']) => Ok(Value::Float64(number).settled()),
            _ => Err(wrong()),
        },
        (DataType::Timestamp, TimeUnit::PerSecond(_)) => match cell.parse() {
            Ok(number) => from_int(number, field),
            Err(_) => Err(wrong()),
        },
        (DataType::List(_) | DataType::Vector(_), _) => Err("lists cannot stand in a CSV cell".to_string()),
        _ => from_text(cell.into(), field),
    }
}

fn decimal(text: &str, precision: u8, scale: u8) -> Result<Value<'static>, String> {
    parse_decimal(text, precision, scale)
        .map(Value::Decimal)
        .ok_or_else(|| format!("'{}' is not a decimal({precision},{scale})", shortened(text)))
}

/// Texts in messages: enough to recognise them.
pub fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Any value as a value of a type, by the rules above. `scale` is that of decimals among the values given.
pub fn fit<'v>(value: Value<'v>, field: &FieldType, scale: u8) -> Result<Value<'v>, String> {
    match (value, &field.data_type) {
        (Value::Null, _) => Ok(Value::Null),
        (value @ Value::Bool(_), DataType::Bool) | (value @ Value::Bytes(_), DataType::Bytes) => Ok(value),
        (Value::Timestamp(time), DataType::Timestamp) if (MIN_TIME..=MAX_TIME).contains(&time) => {
            Ok(Value::Timestamp(time))
        }
        (Value::Timestamp(_), DataType::Timestamp) => Err("a time outside the years 1 to 9999".to_string()),
        (Value::Int64(v), _) => from_int(v, field),
        (Value::Float64(v), _) => from_float(v, field),
        (Value::Text(v), _) => from_text(v, field),
        (Value::Decimal(v), DataType::Decimal { precision, scale: own }) => {
            decimal(&decimal_text(v, scale), *precision, *own)
        }
        (Value::List(items), DataType::List(of)) => list(items, of, scale),
        (Value::List(items), DataType::Vector(dims)) if items.len() == *dims as usize => {
            let fitted = list(items, &DataType::Float32, scale)?;
            match &fitted {
                Value::List(items) if items.iter().any(Value::is_null) => {
                    Err("a vector without one of its numbers".to_string())
                }
                _ => Ok(fitted),
            }
        }
        (Value::List(items), DataType::Vector(dims)) => Err(format!("a vector of {} numbers, not {dims}", items.len())),
        (_, other) => Err(format!("the column's values are not {other}")),
    }
}

fn list<'v>(items: Vec<Value<'v>>, of: &DataType, scale: u8) -> Result<Value<'v>, String> {
    let field = FieldType { data_type: of.clone(), unit: TimeUnit::Text };
    items.into_iter().map(|item| fit(item, &field, scale)).collect::<Result<_, _>>().map(Value::List)
}

/// A text that stands for a value of a type, as on a command line.
pub fn read_cell(text: &str, data_type: &DataType) -> Result<Value<'static>, String> {
    let field = FieldType { data_type: data_type.clone(), unit: TimeUnit::Text };
    let value = if *data_type == DataType::Text { Ok(Value::text(text)) } else { from_cell(text, &field) };
    value.map(Value::into_owned)
}
