//! What a schema says of a field, as far as it matters to columns: whether its values can fit a declared type at all. Avro and
//! Protobuf are asked the same questions; the values themselves are fitted one by one, as those of the other formats.

use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::value::DataType;

/// Values of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    /// an instant
    Time,
    Decimal,
    List(Box<Kind>),
    /// one of these; the first is told where none fits
    Any(Vec<Kind>),
    /// such as `a map`: has no counterpart among the columns
    Other(&'static str),
}

impl Kind {
    /// Why none of the values can be of a type.
    pub(super) fn misfit(&self, field: &FieldType) -> Option<String> {
        let (data_type, unit) = (&field.data_type, field.unit);
        let fits = match self {
            Kind::Null => true,
            Kind::Bool => *data_type == DataType::Bool,
            Kind::Int => match data_type {
                DataType::Timestamp if unit == TimeUnit::Text => {
                    return Some("an integer is a time only with a unit, such as timestamp[ms]".to_string());
                }
                DataType::Timestamp => true,
                other => other.is_numeric() || *other == DataType::Float32,
            },
            Kind::Float => matches!(data_type, DataType::Float64 | DataType::Float32 | DataType::Decimal { .. }),
            Kind::Text => match data_type {
                DataType::Timestamp => unit == TimeUnit::Text,
                other => matches!(other, DataType::Text | DataType::Int64 | DataType::Bytes | DataType::Decimal { .. }),
            },
            Kind::Bytes => *data_type == DataType::Bytes,
            Kind::Time => *data_type == DataType::Timestamp,
            Kind::Decimal => matches!(data_type, DataType::Decimal { .. }),
            Kind::List(items) => {
                let items_type = match data_type {
                    DataType::List(of) => (**of).clone(),
                    DataType::Vector(_) => DataType::Float32,
                    other => return Some(format!("a list is not {other}")),
                };
                return items.misfit(&FieldType { data_type: items_type, unit: TimeUnit::Text });
            }
            Kind::Any(kinds) => {
                let mut own = kinds.iter().filter(|kind| **kind != Kind::Null).map(|kind| kind.misfit(field));
                let first = own.next().flatten()?;
                return own.all(|misfit| misfit.is_some()).then_some(first);
            }
            Kind::Other(_) => false,
        };
        (!fits).then(|| format!("{} is not {data_type}", self.shown()))
    }

    fn shown(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "a bool",
            Kind::Int => "an integer",
            Kind::Float => "a float",
            Kind::Text => "a text",
            Kind::Bytes => "a value of bytes",
            Kind::Time => "an instant",
            Kind::Decimal => "a decimal",
            Kind::List(_) => "a list",
            Kind::Any(_) => "a union",
            Kind::Other(what) => what,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_features::definitions::parse_type;

    use super::*;

    #[test]
    fn kinds_fit_their_types() {
        let any = |kinds: &[Kind]| Kind::Any(kinds.to_vec());
        let list = |kind| Kind::List(Box::new(kind));
        for (kind, data_type, misfit) in [
            (Kind::Int, "float64", None),
            (Kind::Int, "timestamp[ms]", None),
            (Kind::Int, "timestamp", Some("only with a unit")),
            (Kind::Int, "string", Some("an integer is not string")),
            (Kind::Float, "int64", Some("a float is not int64")),
            (Kind::Text, "int64", None),
            (Kind::Text, "timestamp", None),
            (Kind::Text, "timestamp[s]", Some("a text is not timestamp")),
            (Kind::Time, "timestamp[s]", None),
            (Kind::Other("a map"), "string", Some("a map is not string")),
            (any(&[Kind::Null, Kind::Other("a record"), Kind::Int]), "int64", None),
            (any(&[Kind::Null, Kind::Other("a record")]), "int64", Some("a record is not int64")),
            (any(&[Kind::Null]), "int64", None),
            (list(Kind::Float), "vector<3>", None),
            (list(any(&[Kind::Null, Kind::Text])), "list<string>", None),
            (list(Kind::Bool), "list<string>", Some("a bool is not string")),
            (list(Kind::Int), "int64", Some("a list is not int64")),
        ] {
            let told = kind.misfit(&parse_type(data_type).unwrap());
            let right = told.as_deref().map_or(misfit.is_none(), |told| misfit.is_some_and(|own| told.contains(own)));
            assert!(right, "{kind:?} as {data_type}: {told:?}");
        }
    }
}
