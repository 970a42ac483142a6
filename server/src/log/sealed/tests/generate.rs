//! Random frames: sources whose columns change, every type, nulls, edges, bad events, gaps in offsets.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tidemill_features::definitions::parse_type;
use tidemill_features::stream::EventBatch;
use tidemill_features::value::{DataType, Value};

use crate::columnar::ColumnsBuilder;
use crate::limits::BATCH_ROWS;
use crate::log::{DeadEvent, Frame, KeyColumns, SourceSchema};

pub(super) const SOURCES: [&str; 3] = ["payments", "logins", "keyless"];

/// What the sealer is told: the last source feeds no view.
pub(super) fn key_columns() -> KeyColumns {
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    [("payments".to_string(), names(&["user"])), ("logins".to_string(), names(&["user", "shop"]))].into()
}

const TYPES: [&str; 14] = [
    "bool",
    "int64",
    "float64",
    "string",
    "bytes",
    "timestamp",
    "decimal(5,2)",
    "decimal(18,0)",
    "decimal(38,10)",
    "list<int64>",
    "list<string>",
    "list<float32>",
    "list<decimal(9,3)>",
    "vector<3>",
];

/// Columns: the time of the event, keys that may be missing or of another type, then any others.
fn schema() -> impl Strategy<Value = SourceSchema> {
    let keys = (any::<bool>(), select(&["string", "int64"]), prop::option::of(select(&["string", "int64"])));
    (keys, vec(select(&TYPES), 0..4), any::<bool>()).prop_map(|((first, user, shop), others, has_user)| {
        let field = |name: &str, data_type: &str| (name.to_string(), parse_type(data_type).unwrap());
        let mut fields = Vec::new();
        if has_user {
            fields.push(field("user", user));
        }
        fields.extend(shop.map(|shop| field("shop", shop)));
        let event_time = if first { 0 } else { fields.len() };
        fields.insert(event_time, field("at", "timestamp"));
        fields.extend(others.iter().enumerate().map(|(at, data_type)| field(&format!("c{at}"), data_type)));
        SourceSchema { fields, event_time }
    })
}

/// A value of a type; times, texts and numbers come from few, so that they meet.
fn value(data_type: &DataType) -> BoxedStrategy<Value<'static>> {
    match data_type {
        DataType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        DataType::Int64 => prop_oneof![4 => -2i64..3, 1 => any::<i64>()].prop_map(Value::Int64).boxed(),
        DataType::Float64 => {
            let any = any::<f64>().prop_filter("no event has it", |v| !v.is_nan()).prop_map(|v| v + 0.0);
            let edges = select(vec![0.0, 0.1, -214.5, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE / 8.0]);
            prop_oneof![any, edges].prop_map(Value::Float64).boxed()
        }
        DataType::Float32 => {
            let any = any::<f32>().prop_filter("no event has it", |v| !v.is_nan()).prop_map(|v| v + 0.0);
            any.prop_map(|v| Value::Float64(f64::from(v))).boxed()
        }
        DataType::Text => {
            let edges = select(vec!["", "a", "\0", "🦀{}", "a\u{202e}b"]).prop_map(Value::text);
            prop_oneof![edges, "[a-e]{1,3}".prop_map(|text| Value::Text(text.into()))].boxed()
        }
        DataType::Bytes => vec(any::<u8>(), 0..4).prop_map(|bytes| Value::Bytes(bytes.into())).boxed(),
        DataType::Timestamp => prop_oneof![-3i64..3, -62_135_596_800_000_000i64..253_402_300_800_000_000]
            .prop_map(Value::Timestamp)
            .boxed(),
        DataType::Decimal { precision, .. } => {
            let most = 10i128.pow(u32::from(*precision)) - 1;
            (-most..=most).prop_map(Value::Decimal).boxed()
        }
        DataType::List(items) => {
            let item = prop_oneof![5 => value(items), 1 => Just(Value::Null)];
            vec(item, 0..4).prop_map(Value::List).boxed()
        }
        DataType::Vector(dims) => vec(value(&DataType::Float32), *dims as usize).prop_map(Value::List).boxed(),
        DataType::Map(..) => unreachable!("no event has one"),
    }
}

fn row(schema: &SourceSchema) -> BoxedStrategy<Vec<Value<'static>>> {
    let column = |(at, (_, field)): (usize, &(String, tidemill_features::definitions::FieldType))| {
        let value = value(&field.data_type);
        if at == schema.event_time { value } else { prop_oneof![5 => value, 1 => Just(Value::Null)].boxed() }
    };
    schema.fields.iter().enumerate().map(column).collect::<Vec<_>>().boxed()
}

fn dead() -> impl Strategy<Value = (u64, String, Vec<u8>)> {
    (1u64..4, "[a-z ]{0,9}", vec(any::<u8>(), 0..9))
}

fn batches(schema: &SourceSchema, rows: Vec<(u64, i64, Vec<Value<'static>>)>, partition: u32) -> Vec<EventBatch> {
    let mut batches = Vec::new();
    for rows in rows.chunks(BATCH_ROWS) {
        let mut builder = ColumnsBuilder::new(schema.fields.iter().map(|(_, field)| &field.data_type));
        let mut batch = EventBatch { partition, ..EventBatch::default() };
        for (offset, arrival, values) in rows {
            batch.offsets.push(*offset);
            batch.arrivals.push(*arrival);
            values.iter().enumerate().for_each(|(at, value)| builder.push(at, value));
            let Value::Timestamp(time) = values[schema.event_time] else { panic!("an event has a time") };
            batch.times.push(time);
        }
        batch.columns = builder.finish();
        batches.push(batch);
    }
    batches
}

/// One frame; its offsets are moved later.
fn frame() -> impl Strategy<Value = Frame> {
    let rows = |schema: SourceSchema| {
        let one = (1u64..3, -5i64..5, row(&schema));
        (Just(schema), vec(one, 0..12), vec(dead(), 0..3))
    };
    let place = (select(&SOURCES), 0u32..3, 0i64..1_000_000, 0u64..3);
    (place, schema().prop_flat_map(rows)).prop_map(|((source, partition, accepted_at, more), (schema, rows, dead))| {
        let mut offset = 0;
        let mut placed = Vec::new();
        for (step, late, values) in rows {
            offset += step;
            placed.push((offset, accepted_at + late, values));
        }
        let batches = batches(&schema, placed, partition);
        let bad = |(step, reason, payload): (u64, String, Vec<u8>)| {
            offset += step;
            DeadEvent { offset, code: "E1001".to_string(), reason, payload }
        };
        let dead = dead.into_iter().map(bad).collect();
        Frame {
            source: source.to_string(),
            partition,
            first_offset: 0,
            consumed: offset + 1 + more,
            accepted_at,
            schema,
            batches,
            dead,
        }
    })
}

/// Frames as a log has them: offsets of a partition go on where the frame before ended, and columns mostly stay.
pub(super) fn frames() -> impl Strategy<Value = Vec<Frame>> {
    vec((frame(), any::<bool>()), 1..14).prop_map(|frames| {
        let mut next = std::collections::HashMap::<(String, u32), u64>::new();
        let place = |(mut frame, _): (Frame, bool)| {
            let next = next.entry((frame.source.clone(), frame.partition)).or_default();
            frame.first_offset = *next;
            frame.batches.iter_mut().flat_map(|batch| &mut batch.offsets).for_each(|offset| *offset += *next);
            frame.dead.iter_mut().for_each(|dead| dead.offset += *next);
            *next += frame.consumed;
            frame
        };
        frames.into_iter().map(place).collect()
    })
}

/// Payments of one schema, without chance.
pub(super) fn some_frames(count: usize) -> Vec<Frame> {
    let types = [("user", "string"), ("amount", "float64"), ("at", "timestamp")];
    let field = |(name, data_type): &(&str, &str)| (name.to_string(), parse_type(data_type).unwrap());
    let schema = SourceSchema { fields: types.iter().map(field).collect(), event_time: 2 };
    let frame = |number: usize| {
        let row = |at: usize| {
            let id = (number * 100 + at) as u64;
            let user = Value::Text(format!("user {}", id * 7919 % 400).into());
            let values = vec![user, Value::Float64(id as f64 / 8.0), Value::Timestamp(id as i64 * 1000)];
            (id, 5, values)
        };
        Frame {
            source: "payments".to_string(),
            partition: 0,
            first_offset: number as u64 * 100,
            consumed: 100,
            accepted_at: 5,
            batches: batches(&schema, (0..99).map(row).collect(), 0),
            schema: schema.clone(),
            dead: vec![DeadEvent {
                offset: number as u64 * 100 + 99,
                code: "E1002".to_string(),
                reason: "no time".to_string(),
                payload: b"{}".to_vec(),
            }],
        }
    };
    (0..count).map(frame).collect()
}
