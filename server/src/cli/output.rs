//! Printing: tables for people, JSON lines for programs, errors for both.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value as Json, json};
use tidemill_features::expression::Column;
use tidemill_features::time::rfc3339;
use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1::{self, column::Values};

use super::Style;
use crate::serving::wire::{NO_TIME, from_wire};

/// One line on stderr.
pub fn error(style: Style, code: &str, message: &str, near: Option<&str>) {
    if style.json {
        let near: Vec<&str> = near.into_iter().collect();
        eprintln!("{}", json!({ "error": { "code": code, "message": message, "near": near } }));
        return;
    }
    match near {
        Some(near) => eprintln!("error {code}: {message}; did you mean `{near}`?"),
        None => eprintln!("error {code}: {message}"),
    }
}

/// A plain table.
pub fn table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.to_vec());
    table.add_rows(rows);
    table.to_string()
}

/// A column of an answer, ready to be shown row by row.
pub struct Cells {
    column: Option<Column>,
    data_type: Option<DataType>,
}

impl Cells {
    /// Of a column as it came.
    pub fn of(column: &v1::Column) -> Cells {
        Cells { column: from_wire(&column.name, column).ok(), data_type: decimal_type(column) }
    }

    /// The value of a row as JSON.
    pub fn json(&self, row: usize) -> Json {
        let value = self.column.as_ref().map_or(Value::Null, |column| column.value(row));
        crate::json::value(&value, self.data_type.as_ref())
    }

    /// The value of a row for people.
    pub fn text(&self, row: usize) -> String {
        match self.json(row) {
            Json::String(text) => text,
            Json::Null => "-".to_string(),
            other => other.to_string(),
        }
    }
}

/// The value of a row as JSON; of one row, since all of the column is looked at.
pub fn cell_json(column: &v1::Column, row: usize) -> Json {
    Cells::of(column).json(row)
}

/// The type of a column as far as decimals need it.
fn decimal_type(column: &v1::Column) -> Option<DataType> {
    let of = |part: &Option<Box<v1::Column>>| part.as_ref().and_then(|part| decimal_type(part)).map(Box::new);
    match &column.values {
        Some(Values::Decimals(v)) => Some(DataType::Decimal { precision: 38, scale: v.scale as u8 }),
        Some(Values::Lists(lists)) => of(&lists.items).map(DataType::List),
        Some(Values::Maps(maps)) => {
            let plain = || Box::new(DataType::Text);
            Some(DataType::Map(of(&maps.keys).unwrap_or_else(plain), of(&maps.values).unwrap_or_else(plain)))
        }
        _ => None,
    }
}

/// Whether a cap left values of a row out.
pub fn is_capped(column: &v1::Column, row: usize) -> bool {
    column.capped.get(row / 8).is_some_and(|bits| bits & (1 << (row % 8)) != 0)
}

/// The same for people.
pub fn cell_text(column: &v1::Column, row: usize) -> String {
    Cells::of(column).text(row)
}

/// The status of a row.
pub fn status(column: &v1::Column, row: usize) -> &'static str {
    match column.statuses.get(row).copied().unwrap_or(0) {
        0 => "PRESENT",
        1 => "DEFAULTED",
        2 => "EMPTY",
        3 => "NOT_FOUND",
        _ => "ERROR",
    }
}

/// A time that may be missing.
pub fn time(time: i64) -> Option<String> {
    (time != NO_TIME).then(|| rfc3339(time))
}

/// How long ago, for people.
pub fn age(time: i64, now: i64) -> String {
    if time == NO_TIME {
        return "-".to_string();
    }
    let seconds = (now - time) / 1_000_000;
    match seconds {
        s if s < 120 => format!("{s}s"),
        s if s < 7200 => format!("{}m", s / 60),
        s if s < 172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// Positions by source and partition.
pub fn positions(list: &[v1::Position]) -> Json {
    let mut positions = json!({});
    for position in list {
        positions[&position.source][position.partition.to_string()] = json!(position.next_offset);
    }
    positions
}
