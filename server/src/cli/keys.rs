//! Keys and request values for reads, from the command line or from a file.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value as Json};
use tidemill_features::expression::Column;
use tidemill_features::time::parse_rfc3339;
use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1;

use crate::columnar::ParquetFile;
use crate::failure::Failure;
use crate::serving::json_columns::column_of;
use crate::serving::wire::values_to_wire;
use crate::source::files::Format;

/// Columns by name, and how many rows they have.
pub struct Given {
    /// by name
    pub columns: Vec<(String, v1::Column)>,
    /// of each
    pub rows: usize,
    /// texts are to be read as their declared types
    pub as_text: bool,
}

/// `KEY=VALUE` arguments: one row.
pub fn from_arguments(pairs: &[String]) -> Result<Given, Failure> {
    let mut columns: Vec<(String, v1::Column)> = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Failure::invalid("E2017", format!("`{pair}` is not KEY=VALUE")));
        };
        if columns.iter().any(|(known, _)| known == name) {
            let message = format!("`{name}` is given twice, and one entity is asked for");
            return Err(Failure::invalid("E2017", message));
        }
        columns.push((name.to_string(), tidemill_client::texts([value])));
    }
    Ok(Given { columns, rows: 1, as_text: true })
}

/// A file of keys.
pub fn from_file(path: &Path) -> Result<Given, Failure> {
    let named = |what: String| Failure::invalid("E2018", format!("{}: {what}", path.display()));
    match Format::of(path, None).map_err(|e| Failure::invalid("E2018", e))? {
        Format::Ndjson => {
            let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
            from_objects(&text).map_err(named)
        }
        Format::Csv => {
            let mut reader = ::csv::Reader::from_path(path).map_err(|e| named(e.to_string()))?;
            let headers = reader.headers().map_err(|e| named(e.to_string()))?.clone();
            let mut cells: Vec<Vec<String>> = vec![Vec::new(); headers.len()];
            for record in reader.records() {
                let record = record.map_err(|e| named(e.to_string()))?;
                record.iter().zip(&mut cells).for_each(|(cell, column)| column.push(cell.to_string()));
            }
            let rows = cells.first().map_or(0, Vec::len);
            let columns =
                headers.iter().zip(&cells).map(|(name, cells)| (name.to_string(), tidemill_client::texts(cells)));
            Ok(Given { columns: columns.collect(), rows, as_text: true })
        }
        Format::Parquet => from_parquet(path).map_err(named),
    }
}

fn from_objects(text: &str) -> Result<Given, String> {
    let mut objects: Vec<Map<String, Json>> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        objects.push(serde_json::from_str(line).map_err(|e| format!("line {}: {e}", number + 1))?);
    }
    let mut names: Vec<&String> = Vec::new();
    for name in objects.iter().flat_map(Map::keys) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut columns = Vec::with_capacity(names.len());
    for name in &names {
        let list: Vec<Json> = objects.iter().map(|o| o.get(*name).cloned().unwrap_or(Json::Null)).collect();
        columns.push(((*name).clone(), column_of(name, &Json::Array(list)).map_err(|f| f.message)?));
    }
    Ok(Given { columns, rows: objects.len(), as_text: false })
}

fn from_parquet(path: &Path) -> Result<Given, String> {
    let mut file = ParquetFile::open(path, 0)?;
    let mut parts: Vec<(String, Vec<Value<'static>>)> = Vec::new();
    let mut rows = 0;
    while let Some(next) = file.next_columns() {
        let (columns, count) = next?;
        rows += count;
        for (at, (name, column)) in columns.iter().enumerate() {
            if parts.len() <= at {
                parts.push((name.clone(), Vec::new()));
            }
            parts[at].1.extend((0..count).map(|row| column.value(row).into_owned()));
        }
    }
    let columns = parts.into_iter().map(|(name, values)| {
        let data_type = type_of(&values);
        let column = values_to_wire(&data_type, values.iter(), values.len());
        (name, column)
    });
    Ok(Given { columns: columns.collect(), rows, as_text: false })
}

fn type_of(values: &[Value<'_>]) -> DataType {
    match values.iter().find(|value| !value.is_null()) {
        Some(Value::Bool(_)) => DataType::Bool,
        Some(Value::Int64(_)) => DataType::Int64,
        Some(Value::Float64(_)) => DataType::Float64,
        Some(Value::Timestamp(_)) => DataType::Timestamp,
        Some(Value::Bytes(_)) => DataType::Bytes,
        _ => DataType::Text,
    }
}

/// A column as it is sent with a push.
pub fn to_wire(name: &str, column: &Column) -> v1::Column {
    let values: Vec<Value<'_>> = (0..column.len()).map(|row| column.value(row)).collect();
    let data_type = match values.iter().find(|value| !value.is_null()) {
        Some(Value::List(items)) => DataType::List(Box::new(type_of(items))),
        Some(Value::Decimal(_)) => DataType::Decimal { precision: 38, scale: crate::columnar::scale_of(column) },
        _ => type_of(&values),
    };
    v1::Column { name: name.to_string(), ..values_to_wire(&data_type, values.iter(), values.len()) }
}

impl Given {
    /// The times of a column, each RFC 3339 text or a timestamp.
    pub fn times(&self, name: &str) -> Result<Vec<i64>, Failure> {
        let missing = || {
            let near = tidemill_features::problem::nearest(name, self.columns.iter().map(|(n, _)| n.as_str()));
            Failure {
                near: near.into_iter().collect(),
                ..Failure::invalid("E2019", format!("no column `{name}` in the file"))
            }
        };
        let (_, column) = self.columns.iter().find(|(known, _)| known == name).ok_or_else(missing)?;
        let column = crate::serving::wire::from_wire(name, column)?;
        let time = |row: usize| match column.value(row) {
            Value::Timestamp(time) => Some(time),
            Value::Text(text) => parse_rfc3339(&text),
            _ => None,
        };
        let wrong =
            |row: usize| Failure::invalid("E2019", format!("row {}: `{name}` is not a time with its offset", row + 1));
        (0..self.rows).map(|row| time(row).ok_or_else(|| wrong(row))).collect()
    }

    /// Splits the columns into keys and request values (named `request.NAME`, or NAME where the service wants it).
    pub fn split(
        &self,
        keys: &[String],
        request: &[String],
        strict: bool,
    ) -> (HashMap<String, v1::Column>, HashMap<String, v1::Column>) {
        let (mut of_keys, mut of_request) = (HashMap::new(), HashMap::new());
        for (name, column) in &self.columns {
            match name.strip_prefix("request.") {
                Some(plain) => drop(of_request.insert(plain.to_string(), column.clone())),
                None if keys.contains(name) => drop(of_keys.insert(name.clone(), column.clone())),
                None if request.contains(name) => drop(of_request.insert(name.clone(), column.clone())),
                // On the command line a wrong name is a mistake; in a file it may be a label.
                None if strict => drop(of_keys.insert(name.clone(), column.clone())),
                None => {}
            }
        }
        (of_keys, of_request)
    }
}

/// Rows `from..to` of a column.
pub fn slice(column: &v1::Column, from: usize, to: usize) -> Result<v1::Column, Failure> {
    let whole = crate::serving::wire::from_wire(&column.name, column)?;
    let values: Vec<Value<'_>> = (from..to).map(|row| whole.value(row)).collect();
    let data_type = match &column.values {
        Some(v1::column::Values::Timestamps(_)) => DataType::Timestamp,
        Some(v1::column::Values::Blobs(_)) => DataType::Bytes,
        Some(v1::column::Values::Int64s(_)) => DataType::Int64,
        Some(v1::column::Values::Doubles(_)) => DataType::Float64,
        Some(v1::column::Values::Bools(_)) => DataType::Bool,
        _ => DataType::Text,
    };
    Ok(values_to_wire(&data_type, values.iter(), values.len()))
}
