//! Values as JSON, the one way in which all of Tidemill writes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use tidemill_features::time::rfc3339;
use tidemill_features::value::{DataType, Value, decimal_text};

/// int64 as numbers, infinities as text, decimals as text, times as RFC 3339, bytes as base64, map keys as text. Decimals need their type.
pub fn value(value: &Value<'_>, data_type: Option<&DataType>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(v) => json!(v),
        Value::Int64(v) => json!(v),
        Value::Float64(v) if v.is_nan() => Json::Null,
        Value::Float64(v) if v.is_infinite() => json!(if *v > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Float64(v) => json!(v),
        Value::Text(v) => json!(v),
        Value::Bytes(v) => json!(STANDARD.encode(v)),
        Value::Timestamp(v) => json!(rfc3339(*v)),
        Value::Decimal(v) => match data_type {
            Some(DataType::Decimal { scale, .. }) => json!(decimal_text(*v, *scale)),
            _ => json!(v.to_string()),
        },
        Value::List(items) => {
            let of = match data_type {
                Some(DataType::List(of)) => Some(&**of),
                _ => None,
            };
            Json::Array(items.iter().map(|item| self::value(item, of)).collect())
        }
        Value::Map(entries) => {
            let (keys, values) = match data_type {
                Some(DataType::Map(keys, values)) => (Some(&**keys), Some(&**values)),
                _ => (None, None),
            };
            let entry = |(key, value): &(Value<'_>, Value<'_>)| {
                let key = match self::value(key, keys) {
                    Json::String(text) => text,
                    other => other.to_string(),
                };
                (key, self::value(value, values))
            };
            Json::Object(entries.iter().map(entry).collect())
        }
    }
}
