//! Columns of a Parquet spine as declared types: what can be one at all, and each value of it.

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as ArrowType;
use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::expression::Column;
use tidemill_features::time::parse_rfc3339;
use tidemill_features::value::{DataType, Value};

use super::roles::plain;
use crate::columnar::scalar::{fit as fit_value, shortened};
use crate::columnar::{ColumnsBuilder, column, scale_of};

/// Why a column of one type cannot stand for another.
#[derive(Debug)]
pub(super) struct WrongType {
    pub code: &'static str,
    pub message: String,
}

/// Whether values of an Arrow type may fit a declared one.
pub(super) fn check(given: &ArrowType, declared: &DataType) -> Result<(), WrongType> {
    use ArrowType as A;
    let given = plain(given);
    let naive = match given {
        A::Timestamp(_, None) => Some("has timestamps without a zone: nobody can tell which instants they are"),
        A::Date32 | A::Date64 => Some("has dates: a date is no instant, and begins at another one in every zone"),
        integer if integer.is_integer() => Some("has integers: nobody can tell their unit"),
        _ => None,
    };
    if let (DataType::Timestamp, Some(naive)) = (declared, naive) {
        let message = format!("{naive}; {HOW_TO_FIX}");
        return Err(WrongType { code: "E3005", message });
    }
    let text = matches!(given, A::Utf8 | A::LargeUtf8 | A::Utf8View);
    let decimal = matches!(given, A::Decimal128(..));
    let fits = *given == A::Null
        || match declared {
            DataType::Bool => *given == A::Boolean,
            DataType::Int64 => given.is_integer() || text,
            DataType::Float64 | DataType::Float32 => given.is_integer() || matches!(given, A::Float32 | A::Float64),
            DataType::Text => text,
            DataType::Bytes => text || matches!(given, A::Binary | A::LargeBinary | A::BinaryView),
            DataType::Timestamp => text || matches!(given, A::Timestamp(_, Some(_))),
            DataType::Decimal { .. } => {
                decimal || text || given.is_integer() || matches!(given, A::Float32 | A::Float64)
            }
            DataType::List(_) | DataType::Vector(_) => {
                matches!(given, A::List(_) | A::LargeList(_) | A::FixedSizeList(..))
            }
            DataType::Map(..) => false,
        };
    if fits {
        return Ok(());
    }
    Err(WrongType { code: "E3003", message: format!("is {given} in the file, and has to be {declared}") })
}

const HOW_TO_FIX: &str = "use timestamps with a zone (SQL: `t AT TIME ZONE 'UTC'`, pandas: `t.dt.tz_localize('UTC')`, \
                          Polars: `t.dt.replace_time_zone('UTC')`) or RFC 3339 text with an offset";

/// The values of an array as a declared type; or the first row that is not, and why.
pub(super) fn fit(array: &ArrayRef, declared: &DataType) -> Result<Column, (usize, String)> {
    let Some(given) = column(array) else {
        return Err((0, format!("{} cannot be read as {declared}", array.data_type())));
    };
    let same = matches!(
        (&given, declared),
        (Column::Bool(_), DataType::Bool)
            | (Column::Int64(_), DataType::Int64)
            | (Column::Text(_), DataType::Text)
            | (Column::Bytes(_), DataType::Bytes)
    );
    if same {
        return Ok(given);
    }
    let field = FieldType { data_type: declared.clone(), unit: TimeUnit::Text };
    let (scale, mut builder) = (scale_of(&given), ColumnsBuilder::new([declared]));
    for row in 0..given.len() {
        let value = match (given.value(row), declared) {
            (Value::Text(text), DataType::Timestamp) => time(&text).map(Value::Timestamp),
            (value, _) => fit_value(value, &field, scale),
        };
        builder.push(0, &value.map_err(|reason| (row, reason))?);
    }
    Ok(scaled(builder.finish().remove(0), declared))
}

/// A column whose decimals know their scale, as those out of Parquet do.
pub(super) fn scaled(column: Column, declared: &DataType) -> Column {
    match (column, declared) {
        (Column::Decimal(array), DataType::Decimal { precision, scale }) => {
            let scaled = array.clone().with_precision_and_scale(*precision, *scale as i8);
            Column::Decimal(scaled.unwrap_or(array))
        }
        (column, _) => column,
    }
}

/// A time as text; the error says how to write one.
pub(super) fn time(text: &str) -> Result<i64, String> {
    if let Some(time) = parse_rfc3339(text) {
        return Ok(time);
    }
    let shown = shortened(text);
    let is_naive = [format!("{text}Z"), format!("{text}T00:00:00Z")].iter().any(|with| parse_rfc3339(with).is_some());
    Err(if is_naive {
        format!(
            "'{shown}' has no offset from UTC: nobody can tell which instant it is; write 2013-10-01T05:00:00Z or 2013-10-01T05:00:00-04:00"
        )
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("'{shown}' is a number without a unit; write RFC 3339, such as 2013-10-01T05:00:00Z")
    } else {
        format!("'{shown}' is not an RFC 3339 time with its offset, of the years 1 to 9999")
    })
}
