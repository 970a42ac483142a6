//! What an expression sees: typed columns, a row of them, the read time, and a count of row errors.

use std::borrow::Cow;
use std::cell::Cell;

use arrow_array::{Array, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};

use crate::value::Value;

/// A column of one type: Arrow arrays for what flows in batches, plain values for lists and for what a read has computed.
#[derive(Clone, Debug)]
pub enum Column {
    /// bool
    Bool(BooleanArray),
    /// int64
    Int64(Int64Array),
    /// float64
    Float64(Float64Array),
    /// string
    Text(StringArray),
    /// bytes
    Bytes(BinaryArray),
    /// timestamp, microseconds
    Timestamp(Int64Array),
    /// decimal, unscaled
    Decimal(Decimal128Array),
    /// anything
    Values(Vec<Value<'static>>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Bool(a) => a.len(),
            Column::Int64(a) | Column::Timestamp(a) => a.len(),
            Column::Float64(a) => a.len(),
            Column::Text(a) => a.len(),
            Column::Bytes(a) => a.len(),
            Column::Decimal(a) => a.len(),
            Column::Values(v) => v.len(),
        }
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        match self {
            Column::Bool(a) => a.get_array_memory_size(),
            Column::Int64(a) | Column::Timestamp(a) => a.get_array_memory_size(),
            Column::Float64(a) => a.get_array_memory_size(),
            Column::Text(a) => a.get_array_memory_size(),
            Column::Bytes(a) => a.get_array_memory_size(),
            Column::Decimal(a) => a.get_array_memory_size(),
            Column::Values(values) => values.iter().map(value_bytes).sum(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a row; null beyond the last one.
    #[inline]
    pub fn value(&self, row: usize) -> Value<'_> {
        macro_rules! at {
            ($array:expr, $make:expr) => {
                if row < $array.len() && $array.is_valid(row) { $make($array.value(row)) } else { Value::Null }
            };
        }
        match self {
            Column::Bool(a) => at!(a, Value::Bool),
            Column::Int64(a) => at!(a, Value::Int64),
            Column::Float64(a) => at!(a, Value::Float64),
            Column::Text(a) => at!(a, |v| Value::Text(Cow::Borrowed(v))),
            Column::Bytes(a) => at!(a, |v| Value::Bytes(Cow::Borrowed(v))),
            Column::Timestamp(a) => at!(a, Value::Timestamp),
            Column::Decimal(a) => at!(a, Value::Decimal),
            Column::Values(v) => v.get(row).map(Value::borrowed).unwrap_or_default(),
        }
    }
}

fn value_bytes(value: &Value<'_>) -> usize {
    let held = match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.iter().map(value_bytes).sum(),
        Value::Map(entries) => entries.iter().map(|(k, v)| value_bytes(k) + value_bytes(v)).sum(),
        _ => 0,
    };
    size_of::<Value<'_>>() + held
}

/// One row of columns.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// the columns that names were resolved to
    pub columns: &'a [Column],
    /// which row of them
    pub row: usize,
    /// the time of the read, which `now()` gives
    pub now: i64,
    /// counts what could not be computed
    pub errors: &'a Cell<u64>,
}

impl<'a> Frame<'a> {
    /// Counts a row error; its value is null.
    #[cold]
    pub fn error(&self) -> Value<'a> {
        self.errors.set(self.errors.get() + 1);
        Value::Null
    }

    /// A computed float: NaN, and infinity out of finite operands, are row errors.
    #[inline]
    pub fn float(&self, value: f64, operands_finite: bool) -> Value<'a> {
        if value.is_finite() || (!operands_finite && !value.is_nan()) { Value::Float64(value) } else { self.error() }
    }

    /// A computed value, or a row error.
    #[inline]
    pub fn some<T>(&self, value: Option<T>, make: impl FnOnce(T) -> Value<'a>) -> Value<'a> {
        match value {
            Some(value) => make(value),
            None => self.error(),
        }
    }
}
