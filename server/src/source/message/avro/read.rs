//! Avro bytes by their schema: one value for a column, or past a value that nobody asked for.

use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::time::{DAY, MAX_TIME, MIN_TIME};
use tidemill_features::value::{DataType, Value};

use super::schema::{Id, Node, Schema};
use crate::columnar::scalar;
use crate::limits::MESSAGE_DEPTH_MAX;
use crate::source::message::Fault;
use crate::source::message::bytes::{Broken, Bytes};

/// A message and how many items and records it may still have. Either can take no bytes at all; a message with many more of them
/// than bytes is made to use up memory or time.
pub(super) struct Input<'m> {
    pub bytes: Bytes<'m>,
    items_left: u64,
}

/// Records without bytes that a message may have besides.
const EMPTY_RECORDS: u64 = 1_000;

impl<'m> Input<'m> {
    pub(super) fn new(message: &'m [u8]) -> Self {
        Input { bytes: Bytes::new(message), items_left: message.len() as u64 + EMPTY_RECORDS }
    }

    pub(super) fn branch(&mut self, branches: usize) -> Result<usize, Broken> {
        let branch = self.bytes.zigzag()?;
        let known = usize::try_from(branch).ok().filter(|at| *at < branches);
        known.ok_or_else(|| format!("branch {branch} of a union that has {branches}"))
    }

    fn int(&mut self) -> Result<i64, Broken> {
        let number = self.bytes.zigzag()?;
        if i32::try_from(number).is_err() {
            return Err(format!("{number} is out of the range of an int"));
        }
        Ok(number)
    }

    fn boolean(&mut self) -> Result<bool, Broken> {
        match self.bytes.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("a boolean of value {other}")),
        }
    }

    /// Bytes behind their length.
    fn counted(&mut self) -> Result<&'m [u8], Broken> {
        let length = self.bytes.zigzag()?;
        let length = u64::try_from(length).map_err(|_| format!("a length of {length}"))?;
        self.bytes.take(length)
    }

    fn symbol<'s>(&mut self, symbols: &'s [String]) -> Result<&'s str, Broken> {
        let index = self.bytes.zigzag()?;
        let symbol = usize::try_from(index).ok().and_then(|at| symbols.get(at));
        symbol.map(String::as_str).ok_or_else(|| format!("symbol {index} of an enum that has {}", symbols.len()))
    }

    /// How many items the next block of a list or map has, and how many bytes where it says so. No items: the end.
    fn block(&mut self) -> Result<(u64, Option<u64>), Broken> {
        let count = self.bytes.zigzag()?;
        let bytes = match count {
            ..0 => {
                let bytes = self.bytes.zigzag()?;
                Some(u64::try_from(bytes).map_err(|_| format!("a block of {bytes} bytes"))?)
            }
            _ => None,
        };
        let count = count.unsigned_abs();
        self.items(count)?;
        Ok((count, bytes))
    }

    fn items(&mut self, count: u64) -> Result<(), Broken> {
        let left = self.items_left.checked_sub(count);
        self.items_left = left.ok_or_else(|| format!("{count} items are claimed, more than the message has bytes"))?;
        Ok(())
    }
}

impl Schema {
    /// Reads past a value.
    pub(super) fn skip(&self, node: Id, input: &mut Input<'_>, depth: usize) -> Result<(), Broken> {
        if depth > MESSAGE_DEPTH_MAX {
            return Err(format!("types are nested more than {MESSAGE_DEPTH_MAX} deep"));
        }
        match &self.nodes[node] {
            Node::Null | Node::Unknown(_) => {}
            Node::Boolean => drop(input.boolean()?),
            Node::Int | Node::Date => drop(input.int()?),
            Node::Long | Node::Instant(_) | Node::LocalTime | Node::TimeOfDay => drop(input.bytes.zigzag()?),
            Node::Float => drop(input.bytes.array::<4>()?),
            Node::Double => drop(input.bytes.array::<8>()?),
            Node::Bytes | Node::Text | Node::Decimal { size: None, .. } => drop(input.counted()?),
            Node::Fixed(size) | Node::Decimal { size: Some(size), .. } => drop(input.bytes.take(*size as u64)?),
            Node::Uuid => drop(input.bytes.take(16)?),
            Node::Enum(symbols) => drop(input.symbol(symbols)?),
            Node::Union(branches) => {
                let branch = branches[input.branch(branches.len())?];
                self.skip(branch, input, depth + 1)?;
            }
            Node::Record(fields) => {
                input.items(1)?;
                for field in fields {
                    self.skip(field.node, input, depth + 1)?;
                }
            }
            Node::Array(items) | Node::Map(items) => loop {
                let (count, bytes) = input.block()?;
                if count == 0 {
                    break;
                }
                if let Some(bytes) = bytes {
                    input.bytes.take(bytes)?;
                    continue;
                }
                for _ in 0..count {
                    if matches!(self.nodes[node], Node::Map(_)) {
                        input.counted()?;
                    }
                    self.skip(*items, input, depth + 1)?;
                }
            },
        }
        Ok(())
    }

    /// The value of a column.
    pub(super) fn value<'m>(&'m self, node: Id, input: &mut Input<'m>, field: &FieldType) -> Result<Value<'m>, Fault> {
        let fitted = match &self.nodes[node] {
            Node::Null | Node::Unknown(_) => return Ok(Value::Null),
            Node::Boolean => match (input.boolean()?, &field.data_type) {
                (flag, DataType::Bool) => Ok(Value::Bool(flag)),
                (flag, other) => Err(format!("{flag} is not {other}")),
            },
            Node::Int => scalar::from_int(input.int()?, field),
            Node::Long => scalar::from_int(input.bytes.zigzag()?, field),
            Node::Float => scalar::from_float(f64::from(f32::from_le_bytes(input.bytes.array()?)), field),
            Node::Double => scalar::from_float(f64::from_le_bytes(input.bytes.array()?), field),
            Node::Text => scalar::from_text(text(input.counted()?)?.into(), field),
            Node::Enum(symbols) => scalar::from_text(input.symbol(symbols)?.into(), field),
            Node::Bytes => bytes(input.counted()?, field),
            Node::Fixed(size) => bytes(input.bytes.take(*size as u64)?, field),
            Node::Uuid => scalar::from_text(uuid(input.bytes.array()?).into(), field),
            Node::Instant(per_second) => instant(input.bytes.zigzag()?, *per_second, field),
            Node::Date => instant(input.int()?, 0, field),
            Node::Decimal { scale, size } => {
                let digits = match size {
                    Some(size) => input.bytes.take(*size as u64)?,
                    None => input.counted()?,
                };
                decimal(digits, *scale, field)
            }
            Node::Union(branches) => {
                let branch = branches[input.branch(branches.len())?];
                return self.value(branch, input, field);
            }
            Node::Array(items) => return self.list(*items, input, field),
            Node::LocalTime | Node::TimeOfDay | Node::Map(_) | Node::Record(_) => {
                Err(self.kind(node).misfit(field).unwrap_or_default())
            }
        };
        fitted.map_err(Fault::Value)
    }

    fn list<'m>(&'m self, items: Id, input: &mut Input<'m>, field: &FieldType) -> Result<Value<'m>, Fault> {
        let of = match &field.data_type {
            DataType::List(of) => (**of).clone(),
            DataType::Vector(_) => DataType::Float32,
            other => return Err(Fault::Value(format!("a list is not {other}"))),
        };
        let of = FieldType { data_type: of, unit: TimeUnit::Text };
        let mut values = Vec::new();
        loop {
            let (count, _) = input.block()?;
            if count == 0 {
                return Ok(Value::List(values));
            }
            for _ in 0..count {
                values.push(self.value(items, input, &of)?);
            }
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Value("not UTF-8".to_string()))
}

fn bytes<'m>(bytes: &'m [u8], field: &FieldType) -> Result<Value<'m>, String> {
    match field.data_type {
        DataType::Bytes => Ok(Value::Bytes(bytes.into())),
        ref other => Err(format!("a value of bytes is not {other}")),
    }
}

/// A number of a unit, of which so many make a second (0: days), as a time. The schema says the unit; what the column declares is
/// for numbers without one.
fn instant(number: i64, per_second: i64, field: &FieldType) -> Result<Value<'static>, String> {
    if field.data_type != DataType::Timestamp {
        return Err(format!("an instant is not {}", field.data_type));
    }
    if per_second != 0 {
        let own = FieldType { data_type: DataType::Timestamp, unit: TimeUnit::PerSecond(per_second) };
        return scalar::from_int(number, &own);
    }
    let time = number.checked_mul(DAY).filter(|time| (MIN_TIME..=MAX_TIME).contains(time));
    time.map(Value::Timestamp).ok_or_else(|| format!("day {number} lies outside the years 1 to 9999"))
}

/// A two's complement number, the highest byte first.
fn decimal(digits: &[u8], scale: u8, field: &FieldType) -> Result<Value<'static>, String> {
    let negative = digits.first().is_some_and(|first| first & 0x80 != 0);
    let sign: u8 = if negative { 0xff } else { 0 };
    // Leading bytes may only repeat the sign.
    let (leading, own) = digits.split_at(digits.len().saturating_sub(16));
    if leading.iter().any(|byte| *byte != sign) || (!leading.is_empty() && (own[0] ^ sign) & 0x80 != 0) {
        return Err("a decimal of more than 38 digits".to_string());
    }
    let mut number = [sign; 16];
    number[16 - own.len()..].copy_from_slice(own);
    scalar::fit(Value::Decimal(i128::from_be_bytes(number)), field, scale)
}

/// The usual form: 8-4-4-4-12.
fn uuid(bytes: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
