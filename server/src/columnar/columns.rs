//! Arrow arrays as columns of values: what Parquet files and spines give.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use tidemill_features::expression::Column;
use tidemill_features::value::Value;

/// Columns by name, and how many rows they have.
pub type Columns = (Vec<(String, Column)>, usize);

/// The columns of a batch. What cannot be read may be a column that nobody asks for; asked for, its values fit no declared
/// type.
pub fn columns(batch: &RecordBatch) -> Columns {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let unread = || Column::Values(vec![Value::List(Vec::new()); array.len()]);
        columns.push((field.name().clone(), column(array).unwrap_or_else(unread)));
    }
    (columns, batch.num_rows())
}

/// Digits behind the point of a column of decimals.
pub fn scale_of(column: &Column) -> u8 {
    match column {
        Column::Decimal(array) => u8::try_from(array.scale()).unwrap_or(0),
        _ => 0,
    }
}

/// An array as a column; None where its type has no counterpart.
pub fn column(array: &ArrayRef) -> Option<Column> {
    macro_rules! integers {
        ($of:ty) => {
            Column::Int64(array.as_primitive::<$of>().iter().map(|v| v.map(i64::from)).collect())
        };
    }
    macro_rules! times {
        ($of:ty, $fit:expr) => {
            Column::Timestamp(array.as_primitive::<$of>().iter().map(|v| v.and_then($fit)).collect::<Int64Array>())
        };
    }
    Some(match array.data_type() {
        ArrowType::Boolean => Column::Bool(array.as_boolean().clone()),
        ArrowType::Int8 => integers!(Int8Type),
        ArrowType::Int16 => integers!(Int16Type),
        ArrowType::Int32 => integers!(Int32Type),
        ArrowType::Int64 => Column::Int64(array.as_primitive::<Int64Type>().clone()),
        ArrowType::UInt8 => integers!(UInt8Type),
        ArrowType::UInt16 => integers!(UInt16Type),
        ArrowType::UInt32 => integers!(UInt32Type),
        ArrowType::UInt64 => {
            let numbers = array.as_primitive::<UInt64Type>().iter();
            let value = |v: u64| i64::try_from(v).map_or(Value::Float64(v as f64), Value::Int64);
            Column::Values(numbers.map(|v| v.map_or(Value::Null, value)).collect())
        }
        ArrowType::Date32 => times!(Date32Type, |days: i32| Some(i64::from(days) * tidemill_features::time::DAY)),
        ArrowType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary_opt()?;
            let values = column(dictionary.values())?;
            let keys = dictionary.normalized_keys();
            let value = |(row, key): (usize, &usize)| {
                if array.is_valid(row) { values.value(*key).into_owned() } else { Value::Null }
            };
            Column::Values(keys.iter().enumerate().map(value).collect())
        }
        ArrowType::Float32 => {
            Column::Float64(array.as_primitive::<Float32Type>().iter().map(|v| v.map(f64::from)).collect())
        }
        ArrowType::Float64 => Column::Float64(array.as_primitive::<Float64Type>().clone()),
        ArrowType::Utf8 => Column::Text(array.as_string::<i32>().clone()),
        ArrowType::LargeUtf8 => Column::Text(array.as_string::<i64>().iter().collect()),
        ArrowType::Utf8View => Column::Text(array.as_string_view().iter().collect()),
        ArrowType::Binary => Column::Bytes(array.as_binary::<i32>().clone()),
        ArrowType::LargeBinary => Column::Bytes(array.as_binary::<i64>().iter().collect()),
        ArrowType::BinaryView => Column::Bytes(array.as_binary_view().iter().collect()),
        ArrowType::Timestamp(TimeUnit::Second, _) => {
            times!(TimestampSecondType, |v: i64| Some(v.checked_mul(1_000_000).unwrap_or(i64::MAX)))
        }
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            times!(TimestampMillisecondType, |v: i64| Some(v.checked_mul(1000).unwrap_or(i64::MAX)))
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => times!(TimestampMicrosecondType, Some),
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => {
            times!(TimestampNanosecondType, |v: i64| Some(v.div_euclid(1000)))
        }
        ArrowType::Decimal128(..) => {
            Column::Decimal(array.as_primitive::<arrow_array::types::Decimal128Type>().clone())
        }
        ArrowType::Null => Column::Values(vec![Value::Null; array.len()]),
        ArrowType::List(_) => lists(array.as_list::<i32>().iter())?,
        ArrowType::LargeList(_) => lists(array.as_list::<i64>().iter())?,
        ArrowType::FixedSizeList(..) => lists(array.as_fixed_size_list().iter())?,
        _ => return None,
    })
}

fn lists(lists: impl Iterator<Item = Option<ArrayRef>>) -> Option<Column> {
    let values = lists.map(|list| match list {
        None => Some(Value::Null),
        Some(items) => {
            let items = column(&items)?;
            Some(Value::List((0..items.len()).map(|i| items.value(i).into_owned()).collect()))
        }
    });
    Some(Column::Values(values.collect::<Option<Vec<_>>>()?))
}
