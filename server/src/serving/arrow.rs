//! Answers as an Arrow IPC stream of one record batch, named as Parquet columns are: `view__feature`.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeListArray, Float32Array, Float64Array,
    Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType as ArrowType, Field, Schema, TimeUnit};
use tidemill_features::value::{DataType, Value};

use super::get::Answers;
use crate::components::Server;
use crate::failure::Failure;

/// The stream's bytes.
pub fn stream(server: &Server, answers: &Answers) -> Result<Vec<u8>, Failure> {
    let failed =
        |e: arrow_schema::ArrowError| Failure::internal("E2022", format!("the answer cannot be written as Arrow: {e}"));
    let mut fields = Vec::with_capacity(answers.columns.len());
    let mut arrays = Vec::with_capacity(answers.columns.len());
    for (id, column) in answers.plan.ids.iter().zip(&answers.columns) {
        let data_type = server.registry.data_type(*id).unwrap_or(&DataType::Text);
        let values: Vec<&Value<'_>> = column.iter().map(|answer| &answer.value).collect();
        let array = array(data_type, &values).map_err(failed)?;
        fields.push(Field::new(server.registry.reference(*id).replace(':', "__"), array.data_type().clone(), true));
        arrays.push(array);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.finish().map_err(failed)?;
    drop(writer);
    Ok(bytes)
}

fn array(data_type: &DataType, values: &[&Value<'_>]) -> Result<ArrayRef, arrow_schema::ArrowError> {
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
