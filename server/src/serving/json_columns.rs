//! JSON lists as columns of the protocol: what HTTP bodies and key files give.

use serde_json::Value as Json;
use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1;

use super::wire::values_to_wire;
use crate::failure::Failure;

/// A single JSON value as a column of one row.
pub fn column_of_one(name: &str, json: &Json) -> Result<v1::Column, Failure> {
    column_of(name, &Json::Array(vec![json.clone()]))
}

/// A JSON value or list as a column; a list of lists of numbers is a column of vectors. Elements that are not null decide the
/// type, integers beside floats are floats.
pub fn column_of(name: &str, json: &Json) -> Result<v1::Column, Failure> {
    let single = std::slice::from_ref(json);
    let list = json.as_array().map_or(single, Vec::as_slice);
    let wrong = || {
        Failure::field(
            "E2009",
            name,
            format!("`{name}` is a list of texts, numbers, bools or vectors, all of one type"),
        )
    };
    let mut data_type: Option<DataType> = None;
    let mut values: Vec<Value<'_>> = Vec::with_capacity(list.len());
    for item in list {
        let (value, own) = match item {
            Json::Null => (Value::Null, None),
            Json::Bool(v) => (Value::Bool(*v), Some(DataType::Bool)),
            Json::String(v) => (Value::text(v), Some(DataType::Text)),
            Json::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(v), _) => (Value::Int64(v), Some(DataType::Int64)),
                (None, Some(v)) => (Value::Float64(v), Some(DataType::Float64)),
                _ => return Err(wrong()),
            },
            Json::Array(items) => {
                let numbers: Option<Vec<Value<'_>>> = items.iter().map(|n| n.as_f64().map(Value::Float64)).collect();
                (Value::List(numbers.ok_or_else(wrong)?), Some(DataType::List(Box::new(DataType::Float64))))
            }
            Json::Object(_) => return Err(wrong()),
        };
        values.push(value);
        data_type = match (data_type, own) {
            (None, own) => own,
            (known, None) => known,
            (Some(known), Some(own)) if known == own => Some(known),
            (Some(known), Some(own)) if known.is_numeric() && own.is_numeric() => Some(DataType::Float64),
            _ => return Err(wrong()),
        };
    }
    if data_type == Some(DataType::Float64) {
        for value in &mut values {
            if let Value::Int64(n) = value {
                *value = Value::Float64(*n as f64);
            }
        }
    }
    Ok(values_to_wire(&data_type.unwrap_or(DataType::Text), values.iter(), values.len()))
}
