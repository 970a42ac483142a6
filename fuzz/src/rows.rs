//! Rows of edge values: typed columns for expressions, events for records.

use std::sync::Arc;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tidemill_features::definitions::{FieldType, Source};
use tidemill_features::expression::Column;
use tidemill_features::stream::EventBatch;
use tidemill_features::time::{HOUR, MAX_TIME, MIN_TIME, SECOND};
use tidemill_features::value::{DataType, Value, power_of_ten};

/// 2026-01-01T00:00:00Z
pub const NOW: i64 = 1_767_225_600_000_000;

/// Values at the edges of a type, null first.
pub fn edges(data_type: &DataType) -> Vec<Value<'static>> {
    let mut values = vec![Value::Null];
    match data_type {
        DataType::Bool => values.extend([true, false].map(Value::Bool)),
        DataType::Int64 => values.extend([0, 1, -1, 13, i64::MIN, i64::MAX].map(Value::Int64)),
        DataType::Float64 | DataType::Float32 => values
            .extend([0.0, -0.0, 2.5, -1e308, f64::MAX, 5e-324, f64::INFINITY, f64::NEG_INFINITY].map(Value::Float64)),
        DataType::Text => {
            values.extend(["", "a", "Grüße, 👋", "%_\\", "2026-01-01T00:00:00Z", "-12.50"].map(Value::text))
        }
        DataType::Bytes => values.extend([&b""[..], b"\xff\0"].map(|bytes| Value::Bytes(bytes.into()))),
        DataType::Timestamp => {
            values.extend([0, -1, NOW, MIN_TIME, MAX_TIME].map(Value::Timestamp));
        }
        DataType::Decimal { precision, .. } => {
            let most = power_of_ten(*precision) - 1;
            values.extend([0, 1, -1, most, -most].map(Value::Decimal));
        }
        DataType::List(of) => {
            values.push(Value::List(Vec::new()));
            values.push(Value::List(edges(of)));
        }
        DataType::Vector(dims) => {
            let all = |number: f64| Value::List(vec![Value::Float64(number); *dims as usize]);
            values.extend([0.0, f64::from(f32::MAX), 1e-45].map(all));
        }
        DataType::Map(..) => values.push(Value::Map(Vec::new())),
    }
    values
}

/// Whether a value is null or of the type.
pub fn is_of(value: &Value<'_>, data_type: &DataType) -> bool {
    match (value, data_type) {
        (Value::Null, _)
        | (Value::Bool(_), DataType::Bool)
        | (Value::Int64(_), DataType::Int64)
        | (Value::Float64(_), DataType::Float64 | DataType::Float32)
        | (Value::Text(_), DataType::Text)
        | (Value::Bytes(_), DataType::Bytes)
        | (Value::Timestamp(_), DataType::Timestamp) => true,
        (Value::Decimal(v), DataType::Decimal { precision, .. }) => {
            v.unsigned_abs() < power_of_ten(*precision).unsigned_abs()
        }
        (Value::List(items), DataType::List(of)) => items.iter().all(|item| is_of(item, of)),
        (Value::List(items), DataType::Vector(dims)) => {
            items.len() == *dims as usize && items.iter().all(|item| matches!(item, Value::Float64(_)))
        }
        (Value::Map(entries), DataType::Map(keys, values)) => {
            entries.iter().all(|(key, value)| is_of(key, keys) && is_of(value, values))
        }
        _ => false,
    }
}

/// A value of a field as decode would let it in: mostly an edge, sometimes anything.
fn value(field: &FieldType, u: &mut Unstructured<'_>) -> Result<Value<'static>> {
    let free = u.ratio(1u8, 4u8)?;
    Ok(match &field.data_type {
        DataType::Int64 if free => Value::Int64(u.arbitrary()?),
        DataType::Float64 if free => Value::Float64(u.arbitrary()?),
        DataType::Text if free => Value::Text(u.arbitrary::<String>()?.into()),
        DataType::Decimal { .. } if free => Value::Decimal(u.arbitrary::<i64>()?.rem_euclid(10_000_000_000).into()),
        data_type => u.choose(&edges(data_type))?.clone(),
    }
    .settled())
}

/// Accepted events of a source, as the engine's decode would hand them on.
pub fn batch(source: &Source, u: &mut Unstructured<'_>, first_offset: u64) -> Result<EventBatch> {
    const STEPS: [i64; 8] = [0, 1, 15, SECOND, 60 * SECOND, HOUR, 30 * HOUR, 40 * 24 * HOUR];
    let mut batch = EventBatch::default();
    let mut columns: Vec<Vec<Value<'static>>> = vec![Vec::new(); source.fields.len()];
    let count = u.int_in_range(1..=24u8)?;
    let mut time = NOW;
    for row in 0..count {
        if u.is_empty() {
            break;
        }
        let step = *u.choose(&STEPS)? * i64::from(u.int_in_range(-2..=4i8)?);
        time = if u.ratio(1u8, 64u8)? {
            *u.choose(&[MIN_TIME, MAX_TIME])?
        } else {
            (time + step).clamp(MIN_TIME, MAX_TIME)
        };
        for (at, (_, field)) in source.fields.iter().enumerate() {
            let value = match at {
                _ if at == source.event_time => Value::Timestamp(time),
                _ if Some(at) == source.event_id => Value::Text(u.int_in_range(0..=40u8)?.to_string().into()),
                _ => value(field, u)?,
            };
            columns[at].push(value);
        }
        batch.times.push(time);
        batch.arrivals.push(NOW + (first_offset as i64 + i64::from(row)) * 60 * SECOND);
        batch.offsets.push(first_offset + u64::from(row));
    }
    batch.columns = columns.into_iter().map(Column::Values).collect();
    Ok(batch)
}

/// The fields of a source of the shared definitions.
pub fn source(registry: &tidemill_features::definitions::Registry, name: &str) -> Arc<Source> {
    let at = registry.source(name).expect("the definitions have it");
    registry.sources[at].clone()
}
