//! What a cell of a text file says: of which type a column of such cells is, and each of them as a value.

use std::borrow::Cow;

use serde_json::Value as Json;
use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::value::{DataType, Value};

use super::typed;
use crate::columnar::scalar;

/// A cell as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'r> {
    /// JSON without this column
    Absent,
    /// of CSV; the empty one is null
    Plain(&'r str),
    /// of NDJSON, as the file has it: quotes, escapes and all
    Json(&'r str),
}

/// What the cells of a column have been so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    bools: bool,
    integers: bool,
    floats: bool,
    other: bool,
    /// an integer that would not survive among floats
    large: bool,
}

enum Number {
    Integer(i64),
    Float(f64),
}

impl Seen {
    /// Takes a cell in.
    pub fn look(&mut self, cell: Cell<'_>) {
        let text = match cell {
            Cell::Absent | Cell::Plain("") | Cell::Json("null") => return,
            Cell::Plain(text) | Cell::Json(text) => text,
        };
        if as_bool(text).is_some() {
            self.bools = true;
            return;
        }
        match number(text) {
            Some(Number::Integer(integer)) => {
                self.integers = true;
                self.large |= i128::from(integer) != (integer as f64) as i128;
            }
            Some(Number::Float(_)) => self.floats = true,
            None => self.other = true,
        }
    }

    /// The narrowest type that holds all of them with nothing lost; text where there is none.
    pub fn data_type(&self) -> DataType {
        match (self.other, self.bools, self.integers || self.floats) {
            (true, ..) | (_, true, true) | (_, false, false) => DataType::Text,
            (_, true, false) => DataType::Bool,
            _ if !self.floats => DataType::Int64,
            _ if self.large => DataType::Text,
            _ => DataType::Float64,
        }
    }
}

impl<'r> Cell<'r> {
    /// The value of a column whose type was learned from its cells. None where they have changed since.
    pub fn learned(self, data_type: &DataType) -> Option<Value<'r>> {
        let text = match self {
            Cell::Absent | Cell::Plain("") | Cell::Json("null") => return Some(Value::Null),
            Cell::Plain(text) | Cell::Json(text) => text,
        };
        match (data_type, self) {
            (DataType::Bool, _) => as_bool(text).map(Value::Bool),
            (DataType::Int64, _) => match number(text)? {
                Number::Integer(v) => Some(Value::Int64(v)),
                Number::Float(_) => None,
            },
            (DataType::Float64, _) => match number(text)? {
                Number::Integer(v) => Some(Value::Float64(v as f64)),
                Number::Float(v) => Some(Value::Float64(v)),
            },
            (_, Cell::Json(json)) if json.starts_with('"') => {
                serde_json::from_str::<String>(json).ok().map(|text| Value::Text(Cow::Owned(text)))
            }
            _ => Some(Value::text(text)),
        }
    }

    /// The value of a column whose type is declared.
    pub fn declared(self, field: &FieldType) -> Result<Value<'r>, String> {
        match self {
            Cell::Absent => Ok(Value::Null),
            Cell::Plain(text) => scalar::from_cell(text, field),
            Cell::Json(json) => from_json(parse(json)?, field),
        }
    }

    /// Its length in the file, about.
    pub fn bytes(self) -> usize {
        match self {
            Cell::Absent => 0,
            Cell::Plain(text) | Cell::Json(text) => text.len(),
        }
    }

    /// The time of a row.
    pub fn time(self) -> Result<Value<'r>, String> {
        match self {
            Cell::Absent | Cell::Plain("") | Cell::Json("null") => Ok(Value::Null),
            Cell::Plain(text) => typed::time(text).map(Value::Timestamp),
            Cell::Json(json) => match parse(json)? {
                Json::String(text) => typed::time(&text).map(Value::Timestamp),
                _ => typed::time(json).map(Value::Timestamp),
            },
        }
    }
}

fn parse(json: &str) -> Result<Json, String> {
    serde_json::from_str(json).map_err(|e| e.to_string())
}

/// A declared type's value out of JSON, by the rules of pushed events.
fn from_json(json: Json, field: &FieldType) -> Result<Value<'static>, String> {
    match json {
        Json::Null => Ok(Value::Null),
        Json::Bool(value) => scalar::fit(Value::Bool(value), field, 0),
        Json::String(text) => scalar::from_text(Cow::Owned(text), field),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), ..) => scalar::from_int(integer, field),
            (_, Some(large), _) => scalar::from_large(large, field),
            (.., float) => scalar::from_float(float.unwrap_or(f64::NAN), field),
        },
        Json::Array(items) => {
            let of = match &field.data_type {
                DataType::List(of) => (**of).clone(),
                DataType::Vector(_) => DataType::Float32,
                other => return Err(format!("a list is not {other}")),
            };
            let of = FieldType { data_type: of, unit: TimeUnit::Text };
            let items = items.into_iter().map(|item| from_json(item, &of)).collect::<Result<Vec<_>, _>>()?;
            // Lists are fitted already; of vectors their length and their nulls are still to be looked at.
            if matches!(field.data_type, DataType::Vector(_)) {
                return scalar::fit(Value::List(items), field, 0);
            }
            Ok(Value::List(items))
        }
        Json::Object(_) => Err(format!("an object is not {}", field.data_type)),
    }
}

fn as_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A number that can be written again as it stands. `007` is none, for it is a code rather than seven, and neither is an
/// integer that int64 cannot hold: as a float it would become another one.
fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let bytes = digits.as_bytes();
    let has_leading_zero = bytes.len() > 1 && bytes[0] == b'0' && bytes[1].is_ascii_digit();
    if has_leading_zero || digits.is_empty() {
        return None;
    }
    if bytes.iter().all(u8::is_ascii_digit) {
        return if text == "-0" { Some(Number::Float(-0.0)) } else { text.parse().ok().map(Number::Integer) };
    }
    if ["nan", "NaN", "inf", "Inf", "Infinity"].contains(&digits) {
        return text.parse().ok().map(Number::Float);
    }
    let begins_as_one = bytes[0].is_ascii_digit() || (bytes[0] == b'.' && bytes.len() > 1);
    let float = if begins_as_one { text.parse::<f64>().ok() } else { None };
    float.filter(|float| float.is_finite()).map(Number::Float)
}
