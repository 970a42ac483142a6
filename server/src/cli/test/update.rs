//! Writing what came out into a fixture file, in place of what was expected; everything else in the file stays as it is.

use std::path::Path;

use serde_json::Value as Json;
use toml_edit::{Array, DocumentMut, InlineTable, Item, TableLike, Value};

use super::fixture::FixtureFile;
use super::run::Difference;
use crate::failure::Failure;

/// Rewrites a file; each difference comes with the number of its test.
pub(super) fn rewrite(project: &Path, file: &FixtureFile, differences: &[(usize, Difference)]) -> Result<(), Failure> {
    let wrong = |what: String| Failure::internal("E5021", format!("{} cannot be updated: {what}", file.path));
    let mut document: DocumentMut = file.text.parse().map_err(|e: toml_edit::TomlError| wrong(e.to_string()))?;
    for (test, difference) in differences {
        let expect = nth(document.get_mut("test"), *test)
            .and_then(|test| nth(test.get_mut("expect"), difference.expect))
            .ok_or_else(|| wrong("its tests lie in places of their own".to_string()))?;
        let mut set = |table: &str, value: Value| {
            if expect.get(table).is_none() {
                expect.insert(table, Item::Value(Value::InlineTable(InlineTable::new())));
            }
            if let Some(values) = expect.get_mut(table).and_then(Item::as_table_like_mut) {
                values.insert(&difference.feature, Item::Value(value));
            }
        };
        set("values", toml_value(&difference.actual));
        if difference.expected_status.is_some() {
            set("statuses", difference.actual_status.into());
        }
    }
    let path = project.join(&file.path);
    std::fs::write(&path, document.to_string()).map_err(|e| wrong(e.to_string()))
}

/// The n-th of several tables, however they are written.
fn nth(list: Option<&mut Item>, n: usize) -> Option<&mut dyn TableLike> {
    match list? {
        Item::ArrayOfTables(tables) => tables.get_mut(n).map(|table| table as &mut dyn TableLike),
        Item::Value(Value::Array(items)) => {
            items.get_mut(n).and_then(Value::as_inline_table_mut).map(|table| table as &mut dyn TableLike)
        }
        _ => None,
    }
}

fn toml_value(json: &Json) -> Value {
    match json {
        Json::Null => InlineTable::from_iter([("null", Value::from(true))]).into(),
        Json::Bool(v) => (*v).into(),
        Json::Number(n) => n.as_i64().map_or_else(|| n.as_f64().unwrap_or_default().into(), Value::from),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::Array(items.iter().map(toml_value).collect::<Array>()),
        Json::Object(entries) => {
            InlineTable::from_iter(entries.iter().map(|(key, value)| (key.as_str(), toml_value(value)))).into()
        }
    }
}
