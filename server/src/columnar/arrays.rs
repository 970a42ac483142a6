//! Values as Arrow arrays: what answers, training sets and the event log become.

use std::sync::Arc;

use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeListArray, Float32Array, Float64Array,
    Int64Array, ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType as ArrowType, Field, TimeUnit};
use tidemill_features::expression::Column;
use tidemill_features::value::{DataType, Value};

/// Values of one type as an array; what is of another type is null.
pub fn array(data_type: &DataType, values: &[&Value<'_>]) -> Result<ArrayRef, arrow_schema::ArrowError> {
    macro_rules! collected {
        ($array:ty, $pattern:pat => $value:expr) => {
            values.iter().map(|value| if let $pattern = value { Some($value) } else { None }).collect::<$array>()
        };
    }
    Ok(match data_type {
        DataType::Bool => Arc::new(collected!(BooleanArray, Value::Bool(v) => *v)),
        DataType::Int64 => Arc::new(collected!(Int64Array, Value::Int64(v) => *v)),
        DataType::Float64 => Arc::new(collected!(Float64Array, Value::Float64(v) => *v)),
        DataType::Float32 => Arc::new(collected!(Float32Array, Value::Float64(v) => *v as f32)),
        DataType::Text => Arc::new(collected!(StringArray, Value::Text(v) => v.to_string())),
        DataType::Bytes => Arc::new(collected!(BinaryArray, Value::Bytes(v) => v.to_vec())),
        DataType::Timestamp => {
            Arc::new(collected!(TimestampMicrosecondArray, Value::Timestamp(v) => *v).with_timezone("UTC"))
        }
        DataType::Decimal { precision, scale } => {
            let decimals = collected!(Decimal128Array, Value::Decimal(v) => *v);
            Arc::new(decimals.with_precision_and_scale(*precision, *scale as i8)?)
        }
        DataType::List(of) => {
            let (mut items, mut offsets) = (Vec::new(), vec![0i32]);
            for value in values {
                if let Value::List(list) = value {
                    items.extend(list.iter());
                }
                offsets.push(items.len() as i32);
            }
            let items = array(of, &items)?;
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(ListArray::try_new(field, OffsetBuffer::new(offsets.into()), items, Some(valid(values)))?)
        }
        DataType::Vector(dims) => {
            let nothing = Value::Float64(0.0);
            let mut items = Vec::with_capacity(values.len() * *dims as usize);
            for value in values {
                match value {
                    Value::List(list) => items.extend(list.iter()),
                    _ => items.extend((0..*dims).map(|_| &nothing)),
                }
            }
            let items = array(&DataType::Float32, &items)?;
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(FixedSizeListArray::try_new(field, *dims as i32, items, Some(valid(values)))?)
        }
        DataType::Map(key_type, value_type) => {
            let (mut keys, mut items, mut offsets) = (Vec::new(), Vec::new(), vec![0i32]);
            for value in values {
                if let Value::Map(entries) = value {
                    keys.extend(entries.iter().map(|(key, _)| key));
                    items.extend(entries.iter().map(|(_, value)| value));
                }
                offsets.push(keys.len() as i32);
            }
            let (keys, items) = (array(key_type, &keys)?, array(value_type, &items)?);
            let fields = vec![
                Field::new("keys", keys.data_type().clone(), false),
                Field::new("values", items.data_type().clone(), true),
            ];
            let entries = StructArray::try_new(fields.into(), vec![keys, items], None)?;
            let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
            let offsets = OffsetBuffer::new(offsets.into());
            Arc::new(MapArray::try_new(field, offsets, entries, Some(valid(values)), true)?)
        }
    })
}

/// A column as an array of the type that it was declared with.
pub fn column_array(data_type: &DataType, column: &Column) -> Result<ArrayRef, arrow_schema::ArrowError> {
    Ok(match (column, data_type) {
        (Column::Bool(values), DataType::Bool) => Arc::new(values.clone()),
        (Column::Int64(values), DataType::Int64) => Arc::new(values.clone()),
        (Column::Float64(values), DataType::Float64) => Arc::new(values.clone()),
        (Column::Text(values), DataType::Text) => Arc::new(values.clone()),
        (Column::Bytes(values), DataType::Bytes) => Arc::new(values.clone()),
        (Column::Timestamp(values), DataType::Timestamp) => {
            Arc::new(values.reinterpret_cast::<TimestampMicrosecondType>().with_timezone("UTC"))
        }
        (Column::Decimal(values), DataType::Decimal { precision, scale }) => {
            Arc::new(values.clone().with_precision_and_scale(*precision, *scale as i8)?)
        }
        (other, _) => {
            let values: Vec<Value<'_>> = (0..other.len()).map(|row| other.value(row)).collect();
            array(data_type, &values.iter().collect::<Vec<_>>())?
        }
    })
}

fn valid(values: &[&Value<'_>]) -> NullBuffer {
    values.iter().map(|value| !value.is_null()).collect::<Vec<bool>>().into()
}

/// The Arrow type of a feature, for schemas.
pub fn arrow_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => array(other, &[]).map_or(ArrowType::Null, |array| array.data_type().clone()),
    }
}
