//! Bytes of records: little-endian, canonical (one value has one form), read without building objects.
//!
//! Integers are LEB128 varints, signed ones zigzag first. A float is kept as a short decimal where that gives back its very
//! bits (214.5 takes 3 bytes instead of 9), an idea of ALP (Afroozeh, Kuffo, Boncz 2023).

use std::borrow::Cow;

use crate::value::{DataType, Value};

/// Stored bytes that break the format's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored bytes are damaged")]
pub struct Damaged;

/// Appends an unsigned varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed varint.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a signed 128-bit varint.
pub fn put_wide(out: &mut Vec<u8>, value: i128) {
    let mut zigzag = ((value << 1) ^ (value >> 127)) as u128;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends bytes behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

const SCALES: [f64; 5] = [1.0, 10.0, 100.0, 1000.0, 10000.0];
/// The tag of a float that is kept as its eight bytes.
const PLAIN_FLOAT: u8 = 7;
/// Scaled integers stay below 2^50: above, the eight bytes of the float are shorter.
const SCALED_LIMIT: f64 = (1u64 << 50) as f64;

/// Appends a float.
pub fn put_float(out: &mut Vec<u8>, value: f64) {
    for (tag, scale) in SCALES.iter().enumerate() {
        let scaled = libm::rint(value * scale);
        let whole = scaled as i64;
        if scaled.abs() < SCALED_LIMIT && (whole as f64 / scale).to_bits() == value.to_bits() {
            let zigzag = ((whole << 1) ^ (whole >> 63)) as u64;
            put_varint(out, zigzag << 3 | tag as u64);
            return;
        }
    }
    out.push(PLAIN_FLOAT);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

const DELTA_UNITS: [i64; 4] = [1, 1_000, 1_000_000, 60_000_000];

/// Appends the time between two events, in the coarsest of four units that divides it.
pub fn put_delta(out: &mut Vec<u8>, micros: i64) {
    let tag = if micros == 0 { 0 } else { (0..4).rev().find(|i| micros % DELTA_UNITS[*i] == 0).unwrap_or(0) };
    let amount = micros / DELTA_UNITS[tag];
    let zigzag = ((amount << 1) ^ (amount >> 63)) as u64;
    put_varint(out, zigzag << 2 | tag as u64);
}

/// Appends a value that is not null.
pub fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null => debug_assert!(false, "nulls are kept as flags"),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::Int64(v) | Value::Timestamp(v) => put_signed(out, *v),
        Value::Float64(v) => put_float(out, *v),
        Value::Text(v) => put_bytes(out, v.as_bytes()),
        Value::Bytes(v) => put_bytes(out, v),
        Value::Decimal(v) => put_wide(out, *v),
        Value::List(items) => {
            put_varint(out, items.len() as u64);
            items.iter().for_each(|item| put_optional(out, item));
        }
        Value::Map(entries) => {
            put_varint(out, entries.len() as u64);
            for (key, value) in entries {
                put_optional(out, key);
                put_optional(out, value);
            }
        }
    }
}

/// Appends a value behind a byte that says whether it is null.
pub fn put_optional(out: &mut Vec<u8>, value: &Value<'_>) {
    out.push(u8::from(!value.is_null()));
    if !value.is_null() {
        put_value(out, value);
    }
}

/// Far more events than an entity can have, and so few that adding up the counts of many tiles cannot overflow.
const COUNT_MAX: u64 = 1 << 48;

/// Beyond every event and arrival time, and so near that the distance of two times cannot overflow.
const TIME_MAX: u64 = 1 << 60;

/// Walks over stored bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the front of the bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (front, rest) = self.rest.split_at_checked(count).ok_or(Damaged)?;
        self.rest = rest;
        Ok(front)
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.rest.split_first().ok_or(Damaged)?;
        self.rest = rest;
        Ok(*first)
    }

    /// An unsigned varint.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    /// A signed varint.
    #[inline]
    pub fn signed(&mut self) -> Result<i64, Damaged> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// A signed 128-bit varint.
    pub fn wide(&mut self) -> Result<i128, Damaged> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i128 ^ -((value & 1) as i128));
            }
        }
        Err(Damaged)
    }

    /// A length that the rest can hold, so that no memory is taken for what is not there.
    pub fn length(&mut self) -> Result<usize, Damaged> {
        let length = self.varint()? as usize;
        if length > self.rest.len() { Err(Damaged) } else { Ok(length) }
    }

    /// A number of events.
    pub fn count(&mut self) -> Result<u64, Damaged> {
        self.varint().and_then(|count| if count > COUNT_MAX { Err(Damaged) } else { Ok(count) })
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.length()?;
        self.take(length)
    }

    /// A float.
    #[inline]
    pub fn float(&mut self) -> Result<f64, Damaged> {
        if self.rest.first() == Some(&PLAIN_FLOAT) {
            let bytes = self.take(9)?;
            let bits: [u8; 8] = bytes[1..].try_into().map_err(|_| Damaged)?;
            return Ok(f64::from_bits(u64::from_le_bytes(bits)));
        }
        let tagged = self.varint()?;
        let scale = SCALES.get((tagged & 7) as usize).ok_or(Damaged)?;
        let zigzag = tagged >> 3;
        Ok(((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)) as f64 / scale)
    }

    /// A time between two events.
    #[inline]
    pub fn delta(&mut self) -> Result<i64, Damaged> {
        let tagged = self.varint()?;
        let zigzag = tagged >> 2;
        let amount = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        amount.checked_mul(DELTA_UNITS[(tagged & 3) as usize]).ok_or(Damaged)
    }

    /// The time of an event, kept as its distance to the one before.
    #[inline]
    pub fn time_after(&mut self, before: i64) -> Result<i64, Damaged> {
        let time = before.checked_add(self.delta()?);
        time.filter(|time| time.unsigned_abs() <= TIME_MAX).ok_or(Damaged)
    }

    /// A value of a type that is not null.
    #[inline]
    pub fn value(&mut self, data_type: &DataType) -> Result<Value<'a>, Damaged> {
        Ok(match data_type {
            DataType::Bool => Value::Bool(self.byte()? != 0),
            DataType::Int64 => Value::Int64(self.signed()?),
            DataType::Float64 | DataType::Float32 => Value::Float64(self.float()?),
            DataType::Text => Value::Text(Cow::Borrowed(std::str::from_utf8(self.bytes()?).map_err(|_| Damaged)?)),
            DataType::Bytes => Value::Bytes(Cow::Borrowed(self.bytes()?)),
            DataType::Timestamp => Value::Timestamp(self.signed()?),
            DataType::Decimal { .. } => Value::Decimal(self.wide()?),
            DataType::List(items) => self.list(items)?,
            DataType::Vector(_) => self.list(&DataType::Float32)?,
            DataType::Map(keys, values) => {
                let length = self.length()?;
                let mut entries = Vec::with_capacity(length);
                for _ in 0..length {
                    entries.push((self.optional(keys)?, self.optional(values)?));
                }
                Value::Map(entries)
            }
        })
    }

    /// Reads past such a value.
    #[inline]
    pub fn pass(&mut self, data_type: &DataType) -> Result<(), Damaged> {
        match data_type {
            DataType::Int64 | DataType::Timestamp => self.varint().map(drop),
            DataType::Float64 | DataType::Float32 => self.float().map(drop),
            DataType::Text | DataType::Bytes => self.bytes().map(drop),
            _ => self.value(data_type).map(drop),
        }
    }

    fn list(&mut self, items: &DataType) -> Result<Value<'a>, Damaged> {
        let length = self.length()?;
        let mut list = Vec::with_capacity(length);
        for _ in 0..length {
            list.push(self.optional(items)?);
        }
        Ok(Value::List(list))
    }

    /// A value behind a byte that says whether it is null.
    pub fn optional(&mut self, data_type: &DataType) -> Result<Value<'a>, Damaged> {
        if self.byte()? == 0 { Ok(Value::Null) } else { self.value(data_type) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floats_come_back_to_the_bit(bits: u64, cents in -1_000_000i64..1_000_000) {
            for value in [f64::from_bits(bits), cents as f64 / 100.0] {
                let mut out = Vec::new();
                put_float(&mut out, value);
                let mut cursor = Cursor::new(&out);
                prop_assert_eq!(cursor.float().map(f64::to_bits), Ok(value.to_bits()));
                prop_assert!(cursor.is_empty());
            }
        }

        #[test]
        fn integers_come_back(a: i64, b: i128, c in -(1i64 << 58)..(1 << 58)) {
            let mut out = Vec::new();
            put_signed(&mut out, a);
            put_wide(&mut out, b);
            put_delta(&mut out, c);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!((cursor.signed(), cursor.wide(), cursor.delta()), (Ok(a), Ok(b), Ok(c)));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            for data_type in [DataType::Float64, DataType::Text, DataType::List(Box::new(DataType::Int64))] {
                let _ = Cursor::new(&bytes).value(&data_type);
            }
        }
    }

    #[test]
    fn numbers_that_no_record_has_are_damage() {
        let mut out = Vec::new();
        put_varint(&mut out, COUNT_MAX);
        put_varint(&mut out, COUNT_MAX + 1);
        put_delta(&mut out, 1 << 60);
        put_delta(&mut out, 1);
        let mut cursor = Cursor::new(&out);
        assert_eq!((cursor.count(), cursor.count()), (Ok(COUNT_MAX), Err(Damaged)));
        assert_eq!((cursor.time_after(0), cursor.time_after(1 << 60)), (Ok(1 << 60), Err(Damaged)));
    }

    #[test]
    fn money_is_short() {
        let mut out = Vec::new();
        put_float(&mut out, 214.5);
        assert_eq!(out.len(), 3);
    }

    /// The bytes themselves, at every length: they lie on disks.
    #[test]
    fn numbers_have_these_bytes() {
        let of = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            out
        };
        let varint = |value: u64| of(&|out| put_varint(out, value));
        assert_eq!((varint(0), varint(127), varint(128)), (vec![0], vec![127], vec![128, 1]));
        assert_eq!((varint(16_383), varint(16_384)), (vec![255, 127], vec![128, 128, 1]));
        assert_eq!(varint(u64::MAX), [vec![255; 9], vec![1]].concat());
        for (value, bytes) in [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (63, vec![126]), (64, vec![128, 1])] {
            assert_eq!(of(&|out| put_signed(out, value)), bytes, "{value}");
            assert_eq!(of(&|out| put_wide(out, i128::from(value))), bytes, "{value}");
        }
        assert_eq!(of(&|out| put_signed(out, i64::MIN)), varint(u64::MAX));
        assert_eq!(of(&|out| put_wide(out, i128::MIN)), [vec![255; 18], vec![3]].concat());
        for (micros, bytes) in [
            (0, vec![0]),
            (1, vec![8]),
            (-1, vec![4]),
            (2_000, vec![17]),
            (3_000_000, vec![26]),
            (60_000_000, vec![11]),
            (-120_000_000, vec![15]),
            (61_000_000, vec![234, 3]),
        ] {
            assert_eq!(of(&|out| put_delta(out, micros)), bytes, "{micros}");
        }
        for (value, bytes) in [(0.0, vec![0]), (1.0, vec![16]), (0.5, vec![81]), (-0.25, vec![138, 3])] {
            assert_eq!(of(&|out| put_float(out, value)), bytes, "{value}");
        }
        let limit = (1u64 << 50) as f64;
        let plain = [vec![PLAIN_FLOAT], limit.to_bits().to_le_bytes().to_vec()].concat();
        assert_eq!(of(&|out| put_float(out, limit)), plain);
        assert_eq!(of(&|out| put_float(out, limit - 1.0)).len(), 8);
    }

    /// Every type, to its last byte: whatever is cut short is damage.
    #[test]
    fn values_of_every_type_come_back_whole() {
        let boxed = Box::new;
        let list = Value::List(vec![Value::Int64(-5), Value::Null, Value::Int64(1 << 40)]);
        let map = Value::Map(vec![(Value::text("a"), Value::Int64(1)), (Value::text("b"), Value::Null)]);
        let cases = [
            (DataType::Bool, Value::Bool(true)),
            (DataType::Bool, Value::Bool(false)),
            (DataType::Int64, Value::Int64(-300)),
            (DataType::Float64, Value::Float64(0.1 + 0.2)),
            (DataType::Text, Value::text("häuser")),
            (DataType::Text, Value::text("")),
            (DataType::Bytes, Value::Bytes(Cow::Borrowed(b"\0\xff"))),
            (DataType::Timestamp, Value::Timestamp(1_700_000_000_000_000)),
            (DataType::Decimal { precision: 38, scale: 2 }, Value::Decimal(-(1 << 100))),
            (DataType::List(boxed(DataType::Int64)), list),
            (DataType::List(boxed(DataType::Int64)), Value::List(Vec::new())),
            (DataType::Vector(2), Value::List(vec![Value::Float64(0.5), Value::Float64(-1e-30)])),
            (DataType::Map(boxed(DataType::Text), boxed(DataType::Int64)), map),
        ];
        for (data_type, value) in cases {
            let mut out = Vec::new();
            put_value(&mut out, &value);
            let mut cursor = Cursor::new(&out);
            assert!(!cursor.is_empty());
            assert!(cursor.value(&data_type).unwrap().same(&value) && cursor.is_empty(), "{data_type} {value:?}");
            let mut cursor = Cursor::new(&out);
            assert!(cursor.pass(&data_type).is_ok() && cursor.is_empty(), "{data_type} {value:?}");
            for length in 0..out.len() {
                assert!(Cursor::new(&out[..length]).value(&data_type).is_err(), "{data_type} {value:?} {length}");
                assert!(Cursor::new(&out[..length]).pass(&data_type).is_err(), "{data_type} {value:?} {length}");
            }
            let mut out = Vec::new();
            put_optional(&mut out, &value);
            put_optional(&mut out, &Value::Null);
            let mut cursor = Cursor::new(&out);
            assert!(cursor.optional(&data_type).unwrap().same(&value) && cursor.rest() == [0]);
            assert!(cursor.optional(&data_type).unwrap().is_null());
        }
    }

    #[test]
    fn what_no_one_writes_is_damage() {
        // Floats with a scale that there is none of, varints that do not end, a length beyond the end.
        assert!([[5], [6], [15]].iter().all(|bytes| Cursor::new(bytes).float().is_err()));
        assert!(Cursor::new(&[255; 10]).varint().is_err() && Cursor::new(&[255; 19]).wide().is_err());
        assert_eq!((Cursor::new(&[2, 0, 0]).length(), Cursor::new(&[3, 0, 0]).length()), (Ok(2), Err(Damaged)));
        assert_eq!(Cursor::new(&[2, 7, 8, 9]).bytes(), Ok(&[7, 8][..]));
    }
}
