//! Answers as an Arrow IPC stream of one record batch, named as Parquet columns are: `view__feature`.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
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
        DataType::Float64 | DataType::Float32 => Arc::new(collected!(Float64Array, Value::Float64(v) => *v)),
        DataType::Text => Arc::new(collected!(StringArray, Value::Text(v) => v.to_string())),
        DataType::Bytes => Arc::new(collected!(BinaryArray, Value::Bytes(v) => v.to_vec())),
        DataType::Timestamp => {
            Arc::new(collected!(TimestampMicrosecondArray, Value::Timestamp(v) => *v).with_timezone("UTC"))
        }
        DataType::Decimal { precision, scale } => {
            let decimals = collected!(Decimal128Array, Value::Decimal(v) => *v);
            Arc::new(decimals.with_precision_and_scale(*precision, *scale as i8)?)
        }
        DataType::List(_) | DataType::Vector(_) => {
            let of = if let DataType::List(of) = data_type { (**of).clone() } else { DataType::Float32 };
            let (mut items, mut offsets, mut valid) = (Vec::new(), vec![0i32], Vec::new());
            for value in values {
                if let Value::List(list) = value {
                    items.extend(list.iter());
                }
                valid.push(!value.is_null());
                offsets.push(items.len() as i32);
            }
            let items = array(&of, &items)?;
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            let offsets = arrow_buffer::OffsetBuffer::new(offsets.into());
            Arc::new(ListArray::try_new(field, offsets, items, Some(valid.into()))?)
        }
    })
}

/// The Arrow type of a feature, for schemas.
pub fn arrow_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => array(other, &[]).map_or(ArrowType::Null, |array| array.data_type().clone()),
    }
}
