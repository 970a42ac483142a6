//! Values of Protobuf fields: what stands on the wire, as a value of a column.

use prost_reflect::{FieldDescriptor, Kind as ProtoKind};
use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::value::{DataType, Value};

use super::wire::{Wire, counted, skip, tag};
use crate::columnar::scalar;
use crate::source::message::Fault;
use crate::source::message::bytes::{Bytes, unzigzag};
use crate::source::message::kind::Kind;

/// What a field's values are.
#[derive(Clone, Debug)]
pub(super) enum Type {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    Bool,
    Text,
    Bytes,
    /// numbers, ascending, with their names
    Enum {
        name: String,
        values: Vec<(i32, String)>,
    },
    /// google.protobuf.Timestamp
    Timestamp,
    /// google.protobuf.Int64Value and so on
    Wrapper(Box<Type>),
    /// such as `a map`: has no counterpart among the columns
    Other(&'static str),
}

impl Type {
    pub(super) fn of(field: &FieldDescriptor) -> Type {
        if field.is_map() {
            return Type::Other("a map");
        }
        match field.kind() {
            ProtoKind::Int32 => Type::Int32,
            ProtoKind::Int64 => Type::Int64,
            ProtoKind::Uint32 => Type::Uint32,
            ProtoKind::Uint64 => Type::Uint64,
            ProtoKind::Sint32 => Type::Sint32,
            ProtoKind::Sint64 => Type::Sint64,
            ProtoKind::Fixed32 => Type::Fixed32,
            ProtoKind::Fixed64 => Type::Fixed64,
            ProtoKind::Sfixed32 => Type::Sfixed32,
            ProtoKind::Sfixed64 => Type::Sfixed64,
            ProtoKind::Float => Type::Float,
            ProtoKind::Double => Type::Double,
            ProtoKind::Bool => Type::Bool,
            ProtoKind::String => Type::Text,
            ProtoKind::Bytes => Type::Bytes,
            ProtoKind::Enum(of) => {
                let mut values: Vec<_> = of.values().map(|value| (value.number(), value.name().to_string())).collect();
                // Of two names of one number the first counts.
                values.sort_by_key(|(number, _)| *number);
                values.dedup_by_key(|(number, _)| *number);
                Type::Enum { name: of.full_name().to_string(), values }
            }
            ProtoKind::Message(_) if field.is_group() => Type::Other("a group"),
            ProtoKind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Type::Timestamp,
                name => match name.strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value")) {
                    Some(
                        "Double" | "Float" | "Int64" | "UInt64" | "Int32" | "UInt32" | "Bool" | "String" | "Bytes",
                    ) => {
                        let inner = message.get_field(1);
                        inner.map_or(Type::Other("a message"), |inner| Type::Wrapper(Box::new(Type::of(&inner))))
                    }
                    _ => Type::Other("a message"),
                },
            },
        }
    }

    pub(super) fn wire(&self) -> Wire {
        match self {
            Type::Float | Type::Fixed32 | Type::Sfixed32 => Wire::Four,
            Type::Double | Type::Fixed64 | Type::Sfixed64 => Wire::Eight,
            Type::Text | Type::Bytes | Type::Timestamp | Type::Wrapper(_) | Type::Other(_) => Wire::Counted,
            _ => Wire::Varint,
        }
    }

    /// Whether a value is a message of its own: two of them on the wire are one, merged.
    pub(super) fn is_message(&self) -> bool {
        matches!(self, Type::Timestamp | Type::Wrapper(_))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => Kind::Int,
            Type::Sint32 | Type::Sint64 | Type::Fixed32 | Type::Fixed64 | Type::Sfixed32 | Type::Sfixed64 => Kind::Int,
            Type::Float | Type::Double => Kind::Float,
            Type::Bool => Kind::Bool,
            Type::Text => Kind::Text,
            Type::Bytes => Kind::Bytes,
            // Its names as text, its numbers as integers.
            Type::Enum { .. } => Kind::Any(vec![Kind::Text, Kind::Int]),
            Type::Timestamp => Kind::Time,
            Type::Wrapper(inner) => inner.kind(),
            Type::Other(what) => Kind::Other(what),
        }
    }

    /// What a field is that the message does not say.
    pub(super) fn default(&self, field: &FieldType) -> Result<Value<'static>, String> {
        match self {
            Type::Float | Type::Double => scalar::from_float(0.0, field),
            Type::Bool => boolean(false, field),
            Type::Text => scalar::from_text("".into(), field),
            Type::Bytes => bytes(b"", field),
            Type::Enum { name, values } => symbol(name, values, 0, field).map(Value::into_owned),
            Type::Timestamp | Type::Wrapper(_) | Type::Other(_) => Ok(Value::Null),
            _ => scalar::from_int(0, field),
        }
    }

    /// The next value, without its tag.
    pub(super) fn read<'m>(&'m self, input: &mut Bytes<'m>, field: &FieldType) -> Result<Value<'m>, Fault> {
        let fitted = match self {
            Type::Int32 => scalar::from_int(i64::from(input.varint()? as i32), field),
            Type::Int64 => scalar::from_int(input.varint()? as i64, field),
            Type::Uint32 => scalar::from_int(i64::from(input.varint()? as u32), field),
            Type::Uint64 => large(input.varint()?, field),
            // A number of 32 bits is cut to them before its sign is unfolded.
            Type::Sint32 => scalar::from_int(unzigzag(input.varint()? & u64::from(u32::MAX)), field),
            Type::Sint64 => scalar::from_int(unzigzag(input.varint()?), field),
            Type::Fixed32 => scalar::from_int(i64::from(u32::from_le_bytes(input.array()?)), field),
            Type::Fixed64 => large(u64::from_le_bytes(input.array()?), field),
            Type::Sfixed32 => scalar::from_int(i64::from(i32::from_le_bytes(input.array()?)), field),
            Type::Sfixed64 => scalar::from_int(i64::from_le_bytes(input.array()?), field),
            Type::Float => scalar::from_float(f64::from(f32::from_le_bytes(input.array()?)), field),
            Type::Double => scalar::from_float(f64::from_le_bytes(input.array()?), field),
            Type::Bool => boolean(input.varint()? != 0, field),
            Type::Text => match std::str::from_utf8(counted(input)?) {
                Ok(text) => scalar::from_text(text.into(), field),
                Err(_) => Err("not UTF-8".to_string()),
            },
            Type::Bytes => bytes(counted(input)?, field),
            Type::Enum { name, values } => symbol(name, values, input.varint()? as i32, field),
            Type::Timestamp | Type::Wrapper(_) => return self.read_message(counted(input)?, field),
            Type::Other(what) => Err(format!("{what} is not {}", field.data_type)),
        };
        fitted.map_err(Fault::Value)
    }

    /// The value of a message of its own.
    pub(super) fn read_message<'m>(&'m self, message: &'m [u8], field: &FieldType) -> Result<Value<'m>, Fault> {
        let mut input = Bytes::new(message);
        match self {
            Type::Wrapper(inner) => {
                let mut value = inner.default(field);
                while !input.is_empty() {
                    match tag(&mut input)? {
                        (1, wire) if wire == inner.wire() => value = Ok(inner.read(&mut input, field)?),
                        (number, wire) => skip(&mut input, number, wire)?,
                    }
                }
                value.map_err(Fault::Value)
            }
            _ => {
                let (mut seconds, mut nanos) = (0i64, 0i32);
                while !input.is_empty() {
                    match tag(&mut input)? {
                        (1, Wire::Varint) => seconds = input.varint()? as i64,
                        (2, Wire::Varint) => nanos = input.varint()? as i32,
                        (number, wire) => skip(&mut input, number, wire)?,
                    }
                }
                timestamp(seconds, nanos, field).map_err(Fault::Value)
            }
        }
    }
}

/// An integer beyond int64 is one beyond the column, or a float.
fn large(number: u64, field: &FieldType) -> Result<Value<'static>, String> {
    match i64::try_from(number) {
        Ok(number) => scalar::from_int(number, field),
        Err(_) => scalar::from_large(number, field),
    }
}

fn boolean(flag: bool, field: &FieldType) -> Result<Value<'static>, String> {
    match field.data_type {
        DataType::Bool => Ok(Value::Bool(flag)),
        ref other => Err(format!("{flag} is not {other}")),
    }
}

fn bytes<'m>(bytes: &'m [u8], field: &FieldType) -> Result<Value<'m>, String> {
    match field.data_type {
        DataType::Bytes => Ok(Value::Bytes(bytes.into())),
        ref other => Err(format!("a value of bytes is not {other}")),
    }
}

/// A value of an enum: its name, or its number where the column is one. A number without a name is of a newer schema.
fn symbol<'m>(name: &str, values: &'m [(i32, String)], number: i32, field: &FieldType) -> Result<Value<'m>, String> {
    if field.data_type == DataType::Int64 {
        return Ok(Value::Int64(i64::from(number)));
    }
    match values.binary_search_by_key(&number, |(number, _)| *number) {
        Ok(at) => scalar::from_text(values[at].1.as_str().into(), field),
        Err(_) => Err(format!("{number} is no value of {name}")),
    }
}

/// A time to the microsecond; what is finer is cut off, as everywhere.
fn timestamp(seconds: i64, nanos: i32, field: &FieldType) -> Result<Value<'static>, String> {
    if field.data_type != DataType::Timestamp {
        return Err(format!("an instant is not {}", field.data_type));
    }
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(format!("an instant with {nanos} nanoseconds"));
    }
    let own = FieldType { data_type: DataType::Timestamp, unit: TimeUnit::PerSecond(1_000_000) };
    let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(i64::from(nanos / 1_000)));
    match micros {
        Some(micros) => scalar::from_int(micros, &own),
        None => Err(format!("second {seconds} lies outside the years 1 to 9999")),
    }
}
