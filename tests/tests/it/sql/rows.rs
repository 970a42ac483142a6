//! Random rows: nulls and the edges of each type, independently by column.

use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};
use tidemill_features::expression::Column;
use tidemill_features::value::{DataType, Value, decimal_text};

use super::forms::{COLUMNS, Kind};

/// A value for each of `COLUMNS`.
pub type Row = Vec<Value<'static>>;

const SECOND: i64 = 1_000_000;

/// The columns of DuckDB's types.
pub fn data_type(sql: &str) -> DataType {
    match sql {
        "BIGINT" => DataType::Int64,
        "DOUBLE" => DataType::Float64,
        "BOOLEAN" => DataType::Bool,
        "TIMESTAMP" => DataType::Timestamp,
        "DECIMAL(12,2)" => DataType::Decimal { precision: 12, scale: 2 },
        "DECIMAL(10,2)" => DataType::Decimal { precision: 10, scale: 2 },
        _ => DataType::Text,
    }
}

pub fn row() -> impl Strategy<Value = Row> {
    let of_column = |(_, kind, _): &(&str, Kind, &str)| prop_oneof![7 => value(*kind), 1 => Just(Value::Null)];
    COLUMNS.iter().map(of_column).collect::<Vec<_>>()
}

fn value(kind: Kind) -> BoxedStrategy<Value<'static>> {
    let text = |texts: &[&'static str]| select(texts.to_vec()).prop_map(Value::text).boxed();
    match kind {
        Kind::SmallInt => prop_oneof![-3..=3_i64, -1_000_000..=1_000_000_i64].prop_map(Value::Int64).boxed(),
        Kind::Int => {
            let edges = vec![0, 1, -1, 2, 7, -7, 100, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1, 3_037_000_500];
            prop_oneof![select(edges), any::<i64>(), -9..=9_i64].prop_map(Value::Int64).boxed()
        }
        Kind::Float => {
            prop_oneof![4 => select(float_edges()), 1 => -1e3..1e3_f64, 1 => finite()].prop_map(Value::Float64).boxed()
        }
        Kind::Text => {
            text(&["", "a", "Z", "abc", "é", "e\u{301}", "Äb", "😀b", " pad ", "it's", "%", "a\\b", "a,b,c", "\t x"])
        }
        Kind::IntText => {
            text(&["0", "12", "-7", "+5", "007", " 12 ", "9223372036854775807", "9223372036854775808", "x", "-"])
        }
        Kind::FloatText => text(&["0", "1.5", "-2.5e3", "1e-400", "5e-324", " 7 ", "x", "", "1.7976931348623157e308"]),
        Kind::BoolText => text(&["true", "false", "TRUE", "False", "x", ""]),
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Time => {
            prop_oneof![select(time_edges()), 0..2_000_000_000_000_000_i64].prop_map(Value::Timestamp).boxed()
        }
        Kind::Decimal => {
            let edges = vec![0, 1, -1, 5, -5, 50, 150, -250, 249, 1999, 9_999_999_999, -9_999_999_999];
            prop_oneof![select(edges), -100_000..=100_000_i128].prop_map(Value::Decimal).boxed()
        }
    }
}

fn float_edges() -> Vec<f64> {
    let halves = [0.5, -0.5, 1.5, 2.5, -2.5, 0.125, 2.675, 0.1, 0.3, 1e-17];
    let large =
        [9_007_199_254_740_993.0, 9.223_372_036_854_775e18, 9_223_372_036_854_775_808.0, -9_223_372_036_854_775_808.0];
    let ends =
        [f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, 0.0, -0.0, 1.0, -1.0, 0.499_999_999_999_999_94];
    halves.into_iter().chain(large).chain(ends).collect()
}

/// All magnitudes alike.
fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(|bits| Some(f64::from_bits(bits)).filter(|float| float.is_finite()).unwrap_or(3.0))
}

/// Epoch, leap days, year ends of the ISO week, and both changes of the clocks.
fn time_edges() -> Vec<i64> {
    vec![
        0,
        -1,
        -SECOND,
        951_782_399_999_999,
        1_709_164_800 * SECOND,
        1_735_516_800 * SECOND,
        1_767_225_599 * SECOND,
        1_774_745_999_999_999,
        1_774_746_000 * SECOND,
        1_792_886_400 * SECOND,
        1_792_890_000 * SECOND,
        1_793_512_800 * SECOND,
    ]
}

/// As the script reads it.
pub fn json_of(row: &Row) -> Vec<Json> {
    let of_value = |(value, (.., sql)): (&Value<'static>, &(&str, Kind, &str))| match (value, data_type(sql)) {
        (Value::Null, _) => Json::Null,
        (Value::Bool(v), _) => json!(v),
        (Value::Int64(v) | Value::Timestamp(v), _) => json!(v),
        (Value::Float64(v), _) => json!(format!("{v:?}")),
        (Value::Decimal(v), DataType::Decimal { scale, .. }) => json!(decimal_text(*v, scale)),
        (Value::Text(v), _) => json!(v),
        (other, _) => panic!("no column holds {other:?}"),
    };
    row.iter().zip(&COLUMNS).map(of_value).collect()
}

/// The rows as a batch holds them.
pub fn arrays(rows: &[Row]) -> Vec<Column> {
    let array = |(at, (.., sql)): (usize, &(&str, Kind, &str))| {
        let values = || rows.iter().map(|row| &row[at]);
        match data_type(sql) {
            DataType::Bool => Column::Bool(BooleanArray::from_iter(
                values().map(|v| if let Value::Bool(v) = v { Some(*v) } else { None }),
            )),
            DataType::Int64 => Column::Int64(whole(values())),
            DataType::Timestamp => Column::Timestamp(whole(values())),
            DataType::Float64 => Column::Float64(Float64Array::from_iter(
                values().map(|v| if let Value::Float64(v) = v { Some(*v) } else { None }),
            )),
            DataType::Text => {
                let texts = values().map(|v| if let Value::Text(v) = v { Some(v.to_string()) } else { None });
                Column::Text(StringArray::from_iter(texts))
            }
            _ => Column::Values(values().cloned().collect()),
        }
    };
    COLUMNS.iter().enumerate().map(array).collect()
}

fn whole<'v>(values: impl Iterator<Item = &'v Value<'static>>) -> Int64Array {
    let number = |value: &Value<'_>| match value {
        Value::Int64(v) | Value::Timestamp(v) => Some(*v),
        _ => None,
    };
    Int64Array::from_iter(values.map(number))
}
