//! Columns that are typed already: what gRPC clients and Parquet files give.

use tidemill_features::definitions::Source;
use tidemill_features::expression::Column;
use tidemill_features::value::{DataType, Value};

use super::decode::{Decoder, wrong_value};

/// Decodes rows given as columns by name. Columns of one type but another unit or width are fitted to the declared one.
pub fn decode(columns: &[(String, Column)], rows: usize, decoder: &mut Decoder) {
    let source = decoder.source();
    let places: Vec<Option<&Column>> = source
        .fields
        .iter()
        .map(|(name, _)| columns.iter().find(|(given, _)| given == name).map(|(_, column)| column))
        .collect();
    for row in 0..rows {
        let values = row_values(&source, &places, row);
        let payload = || shown(columns, row);
        match values {
            Ok(values) => decoder.row(Ok(&values), &payload),
            Err(bad) => decoder.row(Err(bad), &payload),
        }
    }
}

fn row_values<'c>(
    source: &Source,
    places: &[Option<&'c Column>],
    row: usize,
) -> Result<Vec<Value<'c>>, super::decode::Bad> {
    let mut values = Vec::with_capacity(places.len());
    for (place, (name, field)) in places.iter().zip(&source.fields) {
        let value = place.map_or(Value::Null, |column| column.value(row));
        let fitted = match (value, &field.data_type) {
            (Value::Null, _) => Ok(Value::Null),
            (value @ Value::Bool(_), DataType::Bool)
            | (value @ Value::Text(_), DataType::Text)
            | (value @ Value::Bytes(_), DataType::Bytes) => Ok(value),
            (Value::Timestamp(time), DataType::Timestamp) => {
                let known = (tidemill_features::time::MIN_TIME..=tidemill_features::time::MAX_TIME).contains(&time);
                if known { Ok(Value::Timestamp(time)) } else { Err("lies outside the years 1 to 9999".to_string()) }
            }
            (Value::Int64(v), _) => super::scalar::from_int(v, field),
            (Value::Float64(v), _) => super::scalar::from_float(v, field),
            (Value::Text(text), _) => super::scalar::from_text(text, field),
            (Value::Decimal(v), DataType::Decimal { precision, .. }) => {
                let most = tidemill_features::value::power_of_ten(*precision);
                if v.abs() < most { Ok(Value::Decimal(v)) } else { Err(format!("more than {precision} digits")) }
            }
            (Value::List(items), DataType::List(_)) => Ok(Value::List(items)),
            (Value::List(items), DataType::Vector(dims)) if items.len() == *dims as usize => Ok(Value::List(items)),
            (_, other) => Err(format!("the column's values are not {other}")),
        };
        values.push(fitted.map_err(|reason| wrong_value(name, &reason))?);
    }
    Ok(values)
}

/// A row of columns as JSON, for its dead letter.
fn shown(columns: &[(String, Column)], row: usize) -> Vec<u8> {
    let object: serde_json::Map<String, serde_json::Value> =
        columns.iter().map(|(name, column)| (name.clone(), crate::json::value(&column.value(row), None))).collect();
    serde_json::Value::Object(object).to_string().into_bytes()
}
