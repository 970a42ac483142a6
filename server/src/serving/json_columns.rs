//! JSON lists as columns of the protocol: what HTTP bodies and key files give.

use serde_json::Value as Json;
use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1;

use super::wire::values_to_wire;
use crate::failure::Failure;

/// A JSON value or list as a column; the values that are not null decide its type, integers beside floats are floats.
pub fn column_of(name: &str, json: &Json) -> Result<v1::Column, Failure> {
    let single = std::slice::from_ref(json);
    let list = json.as_array().map_or(single, Vec::as_slice);
    let wrong = || Failure::field("E2009", name, format!("`{name}` is a list of texts, numbers or bools of one type"));
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
            _ => return Err(wrong()),
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
