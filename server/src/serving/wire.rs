//! Between the engine's values and the messages of the protocol: columns in, columns out.

use std::collections::HashMap;

use arrow_array::{BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};
use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::expression::Column;
use tidemill_features::read::{Answer, Status};
use tidemill_features::service::ReadPlan;
use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1::{self, column::Values};

use crate::failure::{Failure, shortened};

/// Bytes of a column name: four times what a definition may use.
const NAME_BYTES_MAX: usize = 256;
/// What stands for "no event" where a time is expected.
pub const NO_TIME: i64 = i64::MIN;

fn rows_of(column: &v1::Column) -> usize {
    let texts = |offsets: &[u32]| offsets.len().saturating_sub(1);
    match &column.values {
        None => column.rows as usize,
        Some(Values::Bools(v)) => v.values.len(),
        Some(Values::Int64s(v) | Values::Timestamps(v)) => v.values.len(),
        Some(Values::Doubles(v)) => v.values.len(),
        Some(Values::Texts(v)) => texts(&v.offsets),
        Some(Values::Blobs(v)) => texts(&v.offsets),
        Some(Values::Decimals(v)) => v.data.len() / 16,
        Some(Values::Lists(v)) => texts(&v.offsets),
        Some(Values::Maps(v)) => texts(&v.offsets),
    }
}

/// A column of a request, checked: whatever it claims about itself is verified before it is used.
pub fn from_wire(name: &str, column: &v1::Column) -> Result<Column, Failure> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Failure::field("E2014", "columns", format!("a column name of {} bytes", name.len())));
    }
    let wrong = |what: &str| wrong(name, what);
    let rows = rows_of(column);
    if !column.validity.is_empty() && column.validity.len() < rows.div_ceil(8) {
        return Err(wrong("the validity bitmap is shorter than the column"));
    }
    if column.values.is_none() && rows > crate::limits::PUSH_ROWS_MAX {
        return Err(wrong("a column of nulls with too many rows"));
    }
    let valid = |row: usize| column.validity.is_empty() || column.validity[row / 8] & (1 << (row % 8)) != 0;
    let parts = |data: &'_ [u8], offsets: &[u32]| parts(name, data.len(), offsets);
    Ok(match &column.values {
        None => Column::Values(vec![Value::Null; rows]),
        Some(Values::Bools(v)) => Column::Bool(optional(&v.values, valid).collect::<BooleanArray>()),
        Some(Values::Int64s(v)) => Column::Int64(optional(&v.values, valid).collect::<Int64Array>()),
        Some(Values::Timestamps(v)) => Column::Timestamp(optional(&v.values, valid).collect::<Int64Array>()),
        Some(Values::Doubles(v)) => Column::Float64(optional(&v.values, valid).collect::<Float64Array>()),
        Some(Values::Texts(v)) => {
            parts(&v.data, &v.offsets)?;
            let mut texts = Vec::with_capacity(rows);
            for (row, w) in v.offsets.windows(2).enumerate() {
                let text = std::str::from_utf8(&v.data[w[0] as usize..w[1] as usize]);
                texts.push(Some(text.map_err(|_| wrong("not UTF-8"))?).filter(|_| valid(row)));
            }
            Column::Text(texts.into_iter().collect::<StringArray>())
        }
        Some(Values::Blobs(v)) => {
            parts(&v.data, &v.offsets)?;
            let blob = |(row, w): (usize, &[u32])| Some(&v.data[w[0] as usize..w[1] as usize]).filter(|_| valid(row));
            Column::Bytes(v.offsets.windows(2).enumerate().map(blob).collect::<BinaryArray>())
        }
        Some(Values::Decimals(v)) => {
            let one =
                |(row, bytes): (usize, &[u8])| bytes.try_into().ok().map(i128::from_le_bytes).filter(|_| valid(row));
            let scale = i8::try_from(v.scale)
                .ok()
                .filter(|scale| *scale <= 38)
                .ok_or_else(|| wrong("more than 38 digits behind the point"))?;
            let array = v.data.chunks(16).enumerate().map(one).collect::<Decimal128Array>();
            Column::Decimal(array.with_precision_and_scale(38, scale).map_err(|_| wrong("not decimals"))?)
        }
        Some(Values::Lists(v)) => Column::Values(lists(name, v, valid)?),
        Some(Values::Maps(v)) => Column::Values(maps(name, v, valid)?),
    })
}

fn wrong(name: &str, what: &str) -> Failure {
    Failure::field("E2014", &shortened(name), format!("column `{}`: {what}", shortened(name)))
}

/// Whether offsets ascend and stay within what they cut into parts.
fn parts(name: &str, length: usize, offsets: &[u32]) -> Result<(), Failure> {
    let ordered = offsets.windows(2).all(|w| w[0] <= w[1]);
    let inside = offsets.last().is_none_or(|last| *last as usize <= length);
    if ordered && inside { Ok(()) } else { Err(wrong(name, "its offsets do not fit its bytes")) }
}

/// Elements of lists and maps are plain values.
fn plain(name: &str, column: &v1::Column) -> Result<Column, Failure> {
    if matches!(column.values, Some(Values::Lists(_) | Values::Maps(_))) {
        return Err(wrong(name, "lists or maps within lists or maps"));
    }
    from_wire(name, column)
}

fn lists(name: &str, lists: &v1::Lists, valid: impl Fn(usize) -> bool) -> Result<Vec<Value<'static>>, Failure> {
    let items = plain(name, lists.items.as_deref().ok_or_else(|| wrong(name, "a list without items"))?)?;
    parts(name, items.len(), &lists.offsets)?;
    let list = |(row, w): (usize, &[u32])| {
        let values = (w[0]..w[1]).map(|i| items.value(i as usize).into_owned());
        if valid(row) { Value::List(values.collect()) } else { Value::Null }
    };
    Ok(lists.offsets.windows(2).enumerate().map(list).collect())
}

fn maps(name: &str, maps: &v1::Maps, valid: impl Fn(usize) -> bool) -> Result<Vec<Value<'static>>, Failure> {
    let (Some(keys), Some(items)) = (maps.keys.as_deref(), maps.values.as_deref()) else {
        return Err(wrong(name, "a map without keys or values"));
    };
    let (keys, items) = (plain(name, keys)?, plain(name, items)?);
    parts(name, keys.len().min(items.len()), &maps.offsets)?;
    let map = |(row, w): (usize, &[u32])| {
        let entry = |i: u32| (keys.value(i as usize).into_owned(), items.value(i as usize).into_owned());
        if valid(row) { Value::Map((w[0]..w[1]).map(entry).collect()) } else { Value::Null }
    };
    Ok(maps.offsets.windows(2).enumerate().map(map).collect())
}

fn optional<T: Copy>(values: &[T], valid: impl Fn(usize) -> bool) -> impl Iterator<Item = Option<T>> {
    values.iter().enumerate().map(move |(row, v)| valid(row).then_some(*v))
}

/// The named columns of a request in the plan's order, of the declared types, all of one length.
pub fn request_columns(
    given: &HashMap<String, v1::Column>,
    wanted: &[(String, DataType)],
    what: &str,
    as_text: bool,
    rows: &mut Option<usize>,
) -> Result<Vec<Column>, Failure> {
    let mut columns = Vec::with_capacity(wanted.len());
    for (name, data_type) in wanted {
        let column = match given.get(name) {
            Some(column) => from_wire(name, column)?,
            None => {
                let unknown = given.keys().filter(|given| !wanted.iter().any(|(known, _)| known == *given));
                let close = tidemill_features::problem::nearest(name, unknown.map(String::as_str));
                let instead =
                    close.as_ref().map_or(String::new(), |given| format!("; `{}` is given", shortened(given)));
                let failure = Failure::field("E2006", what, format!("{what} `{name}` is missing{instead}"));
                return Err(Failure { near: close.map(|_| name.clone()).into_iter().collect(), ..failure });
            }
        };
        if *rows.get_or_insert(column.len()) != column.len() {
            let message = format!("{what} `{name}` has {} rows, others have {}", column.len(), rows.unwrap_or(0));
            return Err(Failure::field("E2007", what, message));
        }
        columns.push(fitted(name, column, data_type, what, as_text)?);
    }
    if let Some(unknown) = given.keys().find(|name| !wanted.iter().any(|(known, _)| known == *name)) {
        let near = tidemill_features::problem::nearest(unknown, wanted.iter().map(|(name, _)| name.as_str()));
        let known: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("unknown {what} `{}`; this answer takes [{}]", shortened(unknown), known.join(", "));
        return Err(Failure { near: near.into_iter().collect(), ..Failure::field("E2008", what, message) });
    }
    Ok(columns)
}

/// The column as the declared type; numbers and texts are fitted as decode fits them.
fn fitted(name: &str, column: Column, data_type: &DataType, what: &str, as_text: bool) -> Result<Column, Failure> {
    let same = matches!(
        (&column, data_type),
        (Column::Bool(_), DataType::Bool)
            | (Column::Int64(_), DataType::Int64)
            | (Column::Text(_), DataType::Text)
            | (Column::Bytes(_), DataType::Bytes)
            | (Column::Timestamp(_), DataType::Timestamp)
    );
    if same {
        return Ok(column);
    }
    let field = FieldType { data_type: data_type.clone(), unit: TimeUnit::Text };
    let scale = crate::columnar::scale_of(&column);
    let mut values = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let value = column.value(row);
        let fitted = match &value {
            Value::Text(text) if as_text => crate::source::read_cell(text, data_type),
            value => crate::source::fit(value.borrowed(), &field, scale).map(Value::into_owned),
        };
        let value = fitted.map_err(|reason| Failure::field("E2009", what, format!("{what} `{name}`: {reason}")))?;
        values.push(value);
    }
    Ok(Column::Values(values))
}

/// A column of an answer.
pub fn to_wire(name: String, data_type: &DataType, answers: &[Answer], value_times: bool) -> v1::Column {
    let mut column = values_to_wire(data_type, answers.iter().map(|answer| &answer.value), answers.len());
    column.name = name;
    if answers.iter().any(|answer| answer.status != Status::Present) {
        column.statuses = answers.iter().map(|answer| answer.status as u8).collect::<Vec<u8>>().into();
    }
    if answers.iter().any(|answer| answer.capped) {
        column.capped = bitmap(answers.iter().map(|answer| answer.capped), answers.len()).into();
    }
    if value_times {
        column.newest = answers.iter().map(|answer| answer.newest.unwrap_or(NO_TIME)).collect();
    }
    column
}

/// Values of one type as a column.
pub fn values_to_wire<'v>(
    data_type: &DataType,
    values: impl Iterator<Item = &'v Value<'v>> + Clone,
    rows: usize,
) -> v1::Column {
    macro_rules! packed {
        ($pattern:pat => $value:expr, $default:expr) => {
            values.clone().map(|value| if let $pattern = value { $value } else { $default }).collect()
        };
    }
    let packed = match data_type {
        DataType::Bool => Values::Bools(v1::Bools { values: packed!(Value::Bool(v) => *v, false) }),
        DataType::Int64 => Values::Int64s(v1::Int64s { values: packed!(Value::Int64(v) => *v, 0) }),
        DataType::Timestamp => Values::Timestamps(v1::Int64s { values: packed!(Value::Timestamp(v) => *v, 0) }),
        DataType::Float64 | DataType::Float32 => {
            Values::Doubles(v1::Doubles { values: packed!(Value::Float64(v) => *v, 0.0) })
        }
        DataType::Text | DataType::Bytes => {
            let (mut data, mut offsets) = (Vec::new(), vec![0]);
            for value in values.clone() {
                match value {
                    Value::Text(v) => data.extend_from_slice(v.as_bytes()),
                    Value::Bytes(v) => data.extend_from_slice(v),
                    _ => {}
                }
                offsets.push(data.len() as u32);
            }
            match data_type {
                DataType::Text => Values::Texts(v1::Texts { data: data.into(), offsets }),
                _ => Values::Blobs(v1::Blobs { data: data.into(), offsets }),
            }
        }
        DataType::Decimal { scale, .. } => {
            let decimals: Vec<i128> = packed!(Value::Decimal(v) => *v, 0);
            let data: Vec<u8> = decimals.iter().flat_map(|v| v.to_le_bytes()).collect();
            Values::Decimals(v1::Decimals { data: data.into(), scale: u32::from(*scale) })
        }
        DataType::List(_) | DataType::Vector(_) => {
            let of = if let DataType::List(of) = data_type { (**of).clone() } else { DataType::Float32 };
            let (mut items, mut offsets) = (Vec::new(), vec![0]);
            for value in values.clone() {
                if let Value::List(list) = value {
                    items.extend(list.iter());
                }
                offsets.push(items.len() as u32);
            }
            let items = values_to_wire(&of, items.iter().copied(), items.len());
            Values::Lists(Box::new(v1::Lists { items: Some(Box::new(items)), offsets }))
        }
        DataType::Map(key_type, value_type) => {
            let (mut keys, mut items, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
            for value in values.clone() {
                if let Value::Map(entries) = value {
                    keys.extend(entries.iter().map(|(key, _)| key));
                    items.extend(entries.iter().map(|(_, value)| value));
                }
                offsets.push(keys.len() as u32);
            }
            let keys = values_to_wire(key_type, keys.iter().copied(), keys.len());
            let items = values_to_wire(value_type, items.iter().copied(), items.len());
            Values::Maps(Box::new(v1::Maps { keys: Some(Box::new(keys)), values: Some(Box::new(items)), offsets }))
        }
    };
    let mut validity = Vec::new();
    if values.clone().any(Value::is_null) {
        validity = bitmap(values.map(|value| !value.is_null()), rows);
    }
    v1::Column { values: Some(packed), validity: validity.into(), rows: rows as u32, ..v1::Column::default() }
}

/// One bit a row, least significant bit first.
fn bitmap(bits: impl Iterator<Item = bool>, rows: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; rows.div_ceil(8)];
    for (row, _) in bits.enumerate().filter(|(_, bit)| *bit) {
        bytes[row / 8] |= 1 << (row % 8);
    }
    bytes
}

/// Keys and request values of a message, as a read takes them.
pub fn keys(
    plan: &ReadPlan,
    keys: &HashMap<String, v1::Column>,
    request: &HashMap<String, v1::Column>,
    as_text: bool,
) -> Result<tidemill_features::service::Keys, Failure> {
    let mut rows = None;
    let columns = request_columns(keys, &plan.keys, "key", as_text, &mut rows)?;
    let request = request_columns(request, &plan.request, "request value", as_text, &mut rows)?;
    Ok(tidemill_features::service::Keys { columns, request, rows: rows.unwrap_or(0) })
}
