//! Columns that are typed already: what gRPC clients and Parquet files give.

use tidemill_features::definitions::Source;
use tidemill_features::expression::Column;
use tidemill_features::value::{DataType, Value};

use super::decode::{Decoder, wrong_value};
use crate::columnar::scalar::fit;
use crate::columnar::scale_of;

/// Decodes rows given as columns by name. Columns of one type but another unit or width are fitted to the declared one.
pub fn decode(columns: &[(String, Column)], rows: usize, decoder: &mut Decoder) {
    let source = decoder.source();
    let places: Vec<Option<&Column>> = source
        .fields
        .iter()
        .map(|(name, _)| columns.iter().find(|(given, _)| given == name).map(|(_, column)| column))
        .collect();
    for row in 0..rows {
        if decoder.is_full() {
            break;
        }
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
        let fitted = fit(value, field, place.map_or(0, scale_of));
        values.push(fitted.map_err(|reason| wrong_value(name, &reason))?);
    }
    Ok(values)
}

/// A row of columns as JSON, for its dead letter.
fn shown(columns: &[(String, Column)], row: usize) -> Vec<u8> {
    let object: serde_json::Map<String, serde_json::Value> =
        columns.iter().map(|(name, column)| (name.clone(), shown_value(column, row))).collect();
    serde_json::Value::Object(object).to_string().into_bytes()
}

fn shown_value(column: &Column, row: usize) -> serde_json::Value {
    let decimal = DataType::Decimal { precision: 38, scale: scale_of(column) };
    crate::json::value(&column.value(row), matches!(column, Column::Decimal(_)).then_some(&decimal))
}
