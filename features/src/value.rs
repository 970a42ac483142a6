//! Types and values: what a column may hold, and one value of it.
//!
//! A `Value` does not know its decimal scale or list type; the `DataType` beside it does, since both are fixed when a
//! definition is checked. Floats in a record are never NaN and never -0.0 (see `Value::settled`), so that equal sets of
//! events have equal bytes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// The type of a column, an expression or a feature.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// true or false
    Bool,
    /// 64-bit signed integer
    Int64,
    /// 64-bit IEEE float
    Float64,
    /// 32-bit IEEE float; only inside lists and vectors
    Float32,
    /// UTF-8 text
    Text,
    /// bytes without a meaning
    Bytes,
    /// microseconds since the Unix epoch, UTC
    Timestamp,
    /// unscaled 128-bit integer with a fixed number of digits behind the point
    Decimal {
        /// digits in all, 1 to 38
        precision: u8,
        /// digits behind the point
        scale: u8,
    },
    /// any number of elements of one type
    List(Box<DataType>),
    /// a fixed number of floats
    Vector(u32),
    /// values by key, keys ascending; only out of aggregates
    Map(Box<DataType>, Box<DataType>),
}

impl DataType {
    /// int64, float64 or decimal.
    pub fn is_numeric(&self) -> bool {
        matches!(self, DataType::Int64 | DataType::Float64 | DataType::Decimal { .. })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Bool => f.write_str("bool"),
            DataType::Int64 => f.write_str("int64"),
            DataType::Float64 => f.write_str("float64"),
            DataType::Float32 => f.write_str("float32"),
            DataType::Text => f.write_str("string"),
            DataType::Bytes => f.write_str("bytes"),
            DataType::Timestamp => f.write_str("timestamp"),
            DataType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            DataType::List(items) => write!(f, "list<{items}>"),
            DataType::Vector(dims) => write!(f, "vector<{dims}>"),
            DataType::Map(keys, values) => write!(f, "map<{keys},{values}>"),
        }
    }
}

/// One value; it may borrow its text and bytes from the batch, record or request that it was read from.
#[derive(Clone, Debug, Default)]
pub enum Value<'a> {
    /// no value
    #[default]
    Null,
    /// bool
    Bool(bool),
    /// int64
    Int64(i64),
    /// float64, float32
    Float64(f64),
    /// string
    Text(Cow<'a, str>),
    /// bytes
    Bytes(Cow<'a, [u8]>),
    /// timestamp, microseconds
    Timestamp(i64),
    /// decimal, unscaled
    Decimal(i128),
    /// list and vector
    List(Vec<Value<'a>>),
    /// map, keys ascending
    Map(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// A value from text that outlives it.
    pub fn text(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }

    /// Copies what is borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(v) => Value::Bool(v),
            Value::Int64(v) => Value::Int64(v),
            Value::Float64(v) => Value::Float64(v),
            Value::Text(v) => Value::Text(Cow::Owned(v.into_owned())),
            Value::Bytes(v) => Value::Bytes(Cow::Owned(v.into_owned())),
            Value::Timestamp(v) => Value::Timestamp(v),
            Value::Decimal(v) => Value::Decimal(v),
            Value::List(items) => Value::List(items.into_iter().map(Value::into_owned).collect()),
            Value::Map(entries) => {
                Value::Map(entries.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
            }
        }
    }

    /// The same value, borrowing from this one.
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Value::Text(v) => Value::Text(Cow::Borrowed(v)),
            Value::Bytes(v) => Value::Bytes(Cow::Borrowed(v)),
            Value::List(items) => Value::List(items.iter().map(Value::borrowed).collect()),
            Value::Map(entries) => Value::Map(entries.iter().map(|(k, v)| (k.borrowed(), v.borrowed())).collect()),
            Value::Null => Value::Null,
            Value::Bool(v) => Value::Bool(*v),
            Value::Int64(v) => Value::Int64(*v),
            Value::Float64(v) => Value::Float64(*v),
            Value::Timestamp(v) => Value::Timestamp(*v),
            Value::Decimal(v) => Value::Decimal(*v),
        }
    }

    /// The form in which a value enters a record: NaN counts as null, and -0.0 is 0.0.
    pub fn settled(self) -> Self {
        match self {
            Value::Float64(v) if v.is_nan() => Value::Null,
            Value::Float64(v) => Value::Float64(v + 0.0),
            Value::List(items) => Value::List(items.into_iter().map(Value::settled).collect()),
            other => other,
        }
    }

    /// A total order over values of one type: numbers by size, text by its UTF-8 bytes, lists by their elements, null first.
    pub fn order(&self, other: &Value<'_>) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int64(a), Value::Int64(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Float64(a), Value::Float64(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            (Value::List(a), Value::List(b)) => {
                let differing = a.iter().zip(b).map(|(x, y)| x.order(y)).find(|o| o.is_ne());
                differing.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Value::Map(a), Value::Map(b)) => {
                let entry = |((k, v), (l, w)): (&(Value<'_>, Value<'_>), &(Value<'_>, Value<'_>))| {
                    k.order(l).then_with(|| v.order(w))
                };
                a.iter().zip(b).map(entry).find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// Whether both are the same to the bit.
    pub fn same(&self, other: &Value<'_>) -> bool {
        self.rank() == other.rank() && self.order(other).is_eq()
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int64(_) => 2,
            Value::Float64(_) => 3,
            Value::Text(_) => 4,
            Value::Bytes(_) => 5,
            Value::Timestamp(_) => 6,
            Value::Decimal(_) => 7,
            Value::List(_) => 8,
            Value::Map(_) => 9,
        }
    }
}

/// Ten to the power of `exponent`, for decimal scales (0 to 38).
pub fn power_of_ten(exponent: u8) -> i128 {
    10i128.pow(u32::from(exponent.min(38)))
}

/// Writes a decimal as text, with all digits of its scale.
pub fn decimal_text(unscaled: i128, scale: u8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs();
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let unit = power_of_ten(scale).unsigned_abs();
    format!("{sign}{}.{:0width$}", digits / unit, digits % unit, width = scale as usize)
}

/// Reads a decimal; digits beyond the scale must be zeros. None where the text is no decimal or does not fit.
pub fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let kept = &fraction[..fraction.len().min(scale as usize)];
    if fraction[kept.len()..].bytes().any(|b| b != b'0') {
        return None;
    }
    let mut unscaled: i128 = 0;
    for digit in whole.bytes().chain(kept.bytes()) {
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    unscaled = unscaled.checked_mul(power_of_ten(scale - kept.len() as u8))?;
    (unscaled < power_of_ten(precision)).then_some(if negative { -unscaled } else { unscaled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_read_and_write() {
        assert_eq!(parse_decimal("12.30", 10, 2), Some(1230));
        assert_eq!(parse_decimal("-0.05", 10, 2), Some(-5));
        assert_eq!(decimal_text(-5, 2), "-0.05");
        assert_eq!(parse_decimal("1.234", 10, 2), None);
        assert_eq!(parse_decimal("1.2300", 10, 2), Some(123));
        assert_eq!(parse_decimal("123", 2, 0), None);
        assert_eq!(parse_decimal(".", 2, 0), None);
    }

    #[test]
    fn records_hold_no_nan_and_no_negative_zero() {
        assert!(Value::Float64(f64::NAN).settled().is_null());
        assert!(Value::Float64(-0.0).settled().same(&Value::Float64(0.0)));
        assert!(!Value::Float64(-0.0).same(&Value::Float64(0.0)));
    }

    #[test]
    fn decimals_have_their_digits() {
        let most = power_of_ten(38) - 1;
        for (text, precision, scale, unscaled) in [
            ("+1.5", 10, 2, Some(150)),
            ("1.", 10, 2, Some(100)),
            (".5", 10, 2, Some(50)),
            ("-.5", 10, 1, Some(-5)),
            ("99.9", 3, 1, Some(999)),
            ("-99.9", 3, 1, Some(-999)),
            ("100", 3, 1, None),
            ("-100", 3, 1, None),
            ("0100", 3, 0, Some(100)),
            ("", 3, 1, None),
            ("-", 3, 1, None),
            ("1..2", 3, 1, None),
            ("1.a", 3, 1, None),
            ("a.1", 3, 1, None),
            ("--1", 3, 1, None),
            ("99999999999999999999999999999999999999", 38, 0, Some(most)),
            ("100000000000000000000000000000000000000", 38, 0, None),
            ("999999999999999999999999999999999999999999", 38, 0, None),
        ] {
            assert_eq!(parse_decimal(text, precision, scale), unscaled, "{text}");
        }
        for unscaled in [0, 1, -1, 9, 10, -10, 12_345, most, -most] {
            for scale in 0..=38 {
                let text = decimal_text(unscaled, scale);
                assert_eq!(parse_decimal(&text, 38, scale), Some(unscaled), "{text}");
                assert_eq!(text.split_once('.').map_or(0, |(_, digits)| digits.len()), scale as usize, "{text}");
            }
        }
        assert_eq!((decimal_text(12_345, 3), decimal_text(-7, 0)), ("12.345".to_string(), "-7".to_string()));
    }

    /// Each value lies before all behind it, is the same as itself only, and stays so when it is copied or borrowed.
    #[test]
    fn values_have_one_order() {
        let list = |items: &[i64]| Value::List(items.iter().map(|v| Value::Int64(*v)).collect());
        let map = |entries: &[(i64, i64)]| {
            Value::Map(entries.iter().map(|(k, v)| (Value::Int64(*k), Value::Int64(*v))).collect())
        };
        let ascending = vec![
            vec![Value::Null],
            vec![Value::Bool(false), Value::Bool(true)],
            [i64::MIN, -1, 0, 1, i64::MAX].map(Value::Int64).to_vec(),
            [f64::NEG_INFINITY, -1.5, 0.0, 5e-324, 1.0, f64::INFINITY].map(Value::Float64).to_vec(),
            ["", "Z", "a", "aa", "b", "ü"].map(Value::text).to_vec(),
            [&b""[..], b"\0", b"\0a", b"a", b"\xff"].map(|v| Value::Bytes(Cow::Borrowed(v))).to_vec(),
            [i64::MIN, -1, 0, 1].map(Value::Timestamp).to_vec(),
            [i128::MIN, -1, 0, 1].map(Value::Decimal).to_vec(),
            vec![list(&[]), Value::List(vec![Value::Null]), list(&[1]), list(&[1, 2]), list(&[2]), list(&[2, 0])],
            vec![map(&[]), map(&[(1, 1)]), map(&[(1, 1), (2, 0)]), map(&[(1, 2)]), map(&[(2, 0)])],
        ];
        let all: Vec<Value<'_>> = ascending.concat();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(a.order(b), i.cmp(&j), "{a:?} {b:?}");
                assert_eq!(a.same(b), i == j, "{a:?} {b:?}");
                assert_eq!(a.borrowed().same(b) && a.clone().into_owned().same(b), i == j, "{a:?} {b:?}");
            }
            assert_eq!(a.is_null(), i == 0);
        }
    }

    #[test]
    fn lists_settle_too() {
        let list = Value::List([f64::NAN, -0.0, 1.0].map(Value::Float64).to_vec()).settled();
        let Value::List(items) = list else { panic!("{list:?}") };
        assert!(items[0].is_null() && items[1].same(&Value::Float64(0.0)) && items[2].same(&Value::Float64(1.0)));
    }

    #[test]
    fn numbers_are_three_types() {
        let decimal = DataType::Decimal { precision: 5, scale: 1 };
        assert!([DataType::Int64, DataType::Float64, decimal].iter().all(DataType::is_numeric));
        let others = [DataType::Bool, DataType::Text, DataType::Bytes, DataType::Timestamp, DataType::Vector(2)];
        assert!(!others.iter().any(DataType::is_numeric));
    }
}
