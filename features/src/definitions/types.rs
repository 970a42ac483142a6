//! Types as definitions write them.

use crate::value::DataType;

/// How a declared column reads numbers and texts as times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// RFC 3339 text
    Text,
    /// integers, this many to a second
    PerSecond(i64),
}

/// A declared type: the type of values, and for timestamps how they are written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldType {
    /// of the values
    pub data_type: DataType,
    /// of timestamps
    pub unit: TimeUnit,
}

/// Longest vector.
const DIMS_MAX: u32 = 65_536;

/// Reads a type; None where there is none of that name.
pub fn parse_type(text: &str) -> Option<FieldType> {
    let plain = |data_type| Some(FieldType { data_type, unit: TimeUnit::Text });
    let timed = |per_second| Some(FieldType { data_type: DataType::Timestamp, unit: TimeUnit::PerSecond(per_second) });
    let text = text.trim();
    // No type is long; this one calls itself for lists.
    if text.len() > 64 {
        return None;
    }
    match text {
        "bool" => plain(DataType::Bool),
        "int64" => plain(DataType::Int64),
        "float64" => plain(DataType::Float64),
        "string" => plain(DataType::Text),
        "bytes" => plain(DataType::Bytes),
        "timestamp" => plain(DataType::Timestamp),
        "timestamp[s]" => timed(1),
        "timestamp[ms]" => timed(1_000),
        "timestamp[us]" => timed(1_000_000),
        "timestamp[ns]" => timed(1_000_000_000),
        _ => {
            let inside = |prefix: &str, suffix| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
            if let Some(arguments) = inside("decimal(", ')') {
                let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
                let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
                let fits = (1..=38).contains(&precision) && scale <= precision;
                return fits.then_some(plain(DataType::Decimal { precision, scale })?);
            }
            if let Some(items) = inside("list<", '>') {
                let items = if items == "float32" { plain(DataType::Float32)? } else { parse_type(items)? };
                let nested = matches!(items.data_type, DataType::List(_) | DataType::Vector(_));
                return if nested { None } else { plain(DataType::List(Box::new(items.data_type))) };
            }
            let dims: u32 = inside("vector<", '>')?.parse().ok()?;
            (1..=DIMS_MAX).contains(&dims).then_some(plain(DataType::Vector(dims))?)
        }
    }
}

/// The names that a mistyped type may have meant.
pub(super) const TYPE_NAMES: [&str; 9] =
    ["bool", "int64", "float64", "string", "bytes", "timestamp", "decimal(10,2)", "list<int64>", "vector<64>"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_shown_as_they_are_written() {
        for text in [
            "bool",
            "int64",
            "float64",
            "string",
            "bytes",
            "timestamp",
            "decimal(10,2)",
            "decimal(38,38)",
            "decimal(1,0)",
            "list<int64>",
            "list<float32>",
            "list<decimal(5,1)>",
            "vector<1>",
            "vector<65536>",
        ] {
            let field = parse_type(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((field.data_type.to_string().as_str(), field.unit), (text, TimeUnit::Text));
        }
        for text in [
            "",
            "float32",
            "int",
            "decimal(0,0)",
            "decimal(39,0)",
            "decimal(5,6)",
            "decimal(a,1)",
            "decimal(5,1",
            "list<list<int64>>",
            "list<vector<2>>",
            "list<>",
            "vector<0>",
            "vector<65537>",
            "vector<-1>",
            "map<string,int64>",
        ] {
            assert_eq!(parse_type(text), None, "{text}");
        }
        assert_eq!(parse_type(" decimal(7) "), parse_type("decimal(7, 0)"));
    }

    #[test]
    fn units_of_timestamps() {
        for (unit, per_second) in [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)] {
            let field = parse_type(&format!("timestamp[{unit}]")).unwrap();
            assert_eq!((field.data_type, field.unit), (DataType::Timestamp, TimeUnit::PerSecond(per_second)));
        }
    }

    #[test]
    fn no_type_is_longer_than_64_bytes() {
        let padded = |width: usize| parse_type(&format!("decimal(10,{:>width$})", 2));
        assert!(padded(52).is_some() && padded(51).is_some() && padded(53).is_none());
    }

    #[test]
    fn every_name_that_may_be_meant_is_a_type() {
        assert!(TYPE_NAMES.iter().all(|name| parse_type(name).is_some()));
    }
}
