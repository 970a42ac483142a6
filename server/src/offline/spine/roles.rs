//! Which column of a spine is what: its time, the keys, the request values. What is missing or of a wrong type is said at once.

use std::collections::HashSet;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::{DataType as ArrowType, Schema};
use tidemill_features::expression::Column;
use tidemill_features::problem::nearest;
use tidemill_features::value::{DataType, Value};

use super::{Wanted, typed};
use crate::failure::Failure;

/// Column names that an error lists; more would bury what it says.
const NAMES_SHOWN: usize = 40;

/// The columns that have a role, by their place in the file.
#[derive(Clone, Debug)]
pub(super) struct Roles {
    /// the time first, then the keys, then the request values
    columns: Vec<Role>,
    keys: usize,
}

/// A column that has a role.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// place in the file
    pub at: usize,
    /// in the file
    pub name: String,
    /// what it has to be
    pub data_type: DataType,
    /// as messages call it: "key", "request value", "time"
    what: &'static str,
}

impl Roles {
    /// Finds the columns by their names, or says all that are missing.
    pub fn find(path: &Path, names: &[&str], wanted: &Wanted) -> Result<Roles, Failure> {
        let shown = path.display();
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
            return Err(Failure::invalid("E3006", format!("{shown} has two columns named `{twice}`")));
        }
        let time = [("time", &wanted.time, &DataType::Timestamp)];
        let keys = wanted.keys.iter().map(|(name, of)| ("key", name, of));
        let request = wanted.request.iter().map(|(name, of)| ("request value", name, of));
        let (mut columns, mut missing): (Vec<Role>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
        for (what, name, data_type) in time.into_iter().chain(keys).chain(request) {
            let place = |wanted: &str| names.iter().position(|name| *name == wanted);
            let prefixed = (what == "request value").then(|| place(&format!("request.{name}"))).flatten();
            let Some(at) = prefixed.or_else(|| place(name)) else {
                missing.push((what, name));
                continue;
            };
            let role = Role { at, name: names[at].to_string(), data_type: data_type.clone(), what };
            if let Some(other) = columns.iter().find(|other| other.at == at && other.data_type != role.data_type) {
                let (one, two) = (&other.data_type, &role.data_type);
                let message = format!("column `{name}` of {shown} is needed as {one} and as {two}");
                return Err(Failure::invalid("E3003", message));
            }
            columns.push(role);
        }
        if missing.is_empty() {
            Ok(Roles { columns, keys: wanted.keys.len() })
        } else {
            Err(lacks(path, names, &missing))
        }
    }

    /// The declared type of a column, if it has a role.
    pub fn type_of(&self, at: usize) -> Option<&DataType> {
        self.columns.iter().find(|role| role.at == at).map(|role| &role.data_type)
    }

    /// Whether a column is the time.
    pub fn is_time(&self, at: usize) -> bool {
        self.columns.first().is_some_and(|role| role.at == at)
    }

    /// Whether the columns of a file can have the declared types at all.
    pub fn check_types(&self, path: &Path, schema: &Schema) -> Result<(), Failure> {
        for role in &self.columns {
            let given = schema.field(role.at).data_type();
            typed::check(given, &role.data_type).map_err(|wrong| {
                let message = format!("{}: the {} `{}` {}", path.display(), role.what, role.name, wrong.message);
                Failure::invalid(wrong.code, message)
            })?;
        }
        Ok(())
    }

    /// The columns with a role as their declared types; `first` rows come before them.
    pub fn fit(&self, path: &Path, batch: &RecordBatch, first: u64) -> Result<Vec<Column>, Failure> {
        let fit = |role: &Role| {
            typed::fit(batch.column(role.at), &role.data_type).map_err(|(row, reason)| {
                let code = if role.what == "time" { "E3005" } else { "E3007" };
                bad_row(code, path, first + row as u64, &role.name, &reason)
            })
        };
        self.columns.iter().map(fit).collect()
    }

    /// The columns with a role out of columns that have the declared types already.
    pub fn declared(&self, columns: &[Column]) -> Vec<Column> {
        self.columns.iter().map(|role| columns[role.at].clone()).collect()
    }

    /// Times, keys and request values. Times and keys are never null.
    #[allow(clippy::type_complexity, reason = "taken apart at once by its only caller")]
    pub fn check_nulls(
        &self,
        path: &Path,
        mut columns: Vec<Column>,
        first: u64,
    ) -> Result<(Vec<i64>, Vec<Column>, Vec<Column>), Failure> {
        let request = columns.split_off(1 + self.keys);
        for (role, column) in self.columns.iter().zip(&columns) {
            if let Some(row) = (0..column.len()).find(|row| column.value(*row).is_null()) {
                let reason = format!("the {} is null", role.what);
                return Err(bad_row("E3004", path, first + row as u64, &role.name, &reason));
            }
        }
        let keys = columns.split_off(1);
        let time = |row: usize| if let Value::Timestamp(time) = columns[0].value(row) { time } else { 0 };
        Ok(((0..columns[0].len()).map(time).collect(), keys, request))
    }
}

/// A row that cannot be read; rows count from 1.
pub(super) fn bad_row(code: &'static str, path: &Path, rows_before: u64, column: &str, reason: &str) -> Failure {
    Failure::invalid(code, format!("{}: row {}: `{column}`: {reason}", path.display(), rows_before + 1))
}

fn lacks(path: &Path, names: &[&str], missing: &[(&str, &str)]) -> Failure {
    let list: Vec<String> = missing.iter().map(|(what, name)| format!("the {what} `{name}`")).collect();
    let mut known: Vec<String> = names.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > NAMES_SHOWN {
        known.push(format!("and {} more", names.len() - NAMES_SHOWN));
    }
    let near = missing.iter().filter_map(|(_, name)| nearest(name, names.iter().copied())).collect();
    let message =
        format!("{} has no column for {}; its columns are {}", path.display(), list.join(", "), known.join(", "));
    Failure { near, ..Failure::invalid("E3002", message) }
}

/// The Arrow type behind a dictionary.
pub(super) fn plain(data_type: &ArrowType) -> &ArrowType {
    match data_type {
        ArrowType::Dictionary(_, values) => plain(values),
        other => other,
    }
}
