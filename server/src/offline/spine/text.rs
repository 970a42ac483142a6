//! CSV and NDJSON spines. A file is read twice: once for the names and types of its columns, then for its rows. Columns with
//! a role take the declared types; of the others each takes the narrowest type that holds all its cells.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use tidemill_features::definitions::{FieldType, TimeUnit};
use tidemill_features::expression::Column;
use tidemill_features::value::DataType;

use super::roles::{Roles, bad_row};
use super::rows::{Row, Rows, UNCLOSED};
use super::written::{Cell, Seen};
use super::{Wanted, typed, unreadable};
use crate::columnar::{ColumnsBuilder, Format, arrow_type, column_array};
use crate::failure::Failure;
use crate::limits::{SPINE_BATCH_BYTES, SPINE_COLUMNS_MAX};

/// A file whose columns are known.
pub(super) struct TextFile {
    path: PathBuf,
    rows: Rows,
    columns: Vec<TextColumn>,
    names: Names,
    schema: SchemaRef,
}

struct TextColumn {
    name: String,
    /// where it stands among the file's columns
    at: usize,
    field: FieldType,
    role: Role,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Time,
    Declared,
    Learned,
}

/// Columns by name, for objects.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    places: HashMap<String, usize>,
}

impl TextFile {
    /// Opens a file and learns its columns.
    pub fn open(path: &Path, format: Format, wanted: &Wanted, only_times: bool) -> Result<(TextFile, Roles), Failure> {
        let named = |e: String| unreadable(format!("{}: {e}", path.display()));
        let (names, seen) = survey(path, format, only_times)?;
        if names.list.is_empty() {
            return Err(named("no row tells the names of its columns".to_string()));
        }
        let known: Vec<&str> = names.list.iter().map(String::as_str).collect();
        let roles = Roles::find(path, &known, wanted)?;
        let mut columns = Vec::with_capacity(known.len());
        for (at, name) in names.list.iter().enumerate() {
            let (data_type, role) = match roles.type_of(at) {
                Some(declared) if !roles.is_time(at) => (declared.clone(), Role::Declared),
                Some(_) => (DataType::Timestamp, Role::Time),
                None => (seen.get(at).map_or(DataType::Text, Seen::data_type), Role::Learned),
            };
            let field = FieldType { data_type, unit: TimeUnit::Text };
            columns.push(TextColumn { name: name.clone(), at, field, role });
        }
        let roles = if only_times {
            columns.retain(|column| column.role == Role::Time);
            Roles::find(path, &[&wanted.time], wanted)?
        } else {
            roles
        };
        let field = |column: &TextColumn| Field::new(&column.name, arrow_type(&column.field.data_type), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let (rows, _) = Rows::open(path, format).map_err(named)?;
        Ok((TextFile { path: path.to_path_buf(), rows, columns, names, schema }, roles))
    }

    /// The file's own columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows, as a batch and as columns of the declared and learned types; `first` rows come before them.
    pub fn next_rows(&mut self, rows_max: usize, first: u64) -> Result<Option<(RecordBatch, Vec<Column>)>, Failure> {
        let mut builder = ColumnsBuilder::new(self.columns.iter().map(|column| &column.field.data_type));
        let (mut count, mut bytes) = (0, 0);
        while count < rows_max && bytes < SPINE_BATCH_BYTES {
            let before = first + count as u64;
            let row = self.rows.next_row().map_err(|reason| unreadable_row(&self.path, before, &reason))?;
            let Some(row) = row else { break };
            let cells = row.cells(&self.names);
            for (place, column) in self.columns.iter().enumerate() {
                let cell = cells.at(column.at);
                bytes += cell.bytes();
                let value = match column.role {
                    Role::Time => cell.time().map_err(|e| ("E3005", e)),
                    Role::Declared => cell.declared(&column.field).map_err(|e| ("E3007", e)),
                    Role::Learned => cell
                        .learned(&column.field.data_type)
                        .ok_or_else(|| ("E3001", "the file has changed while it was read".to_string())),
                };
                let value = value.map_err(|(code, e)| bad_row(code, &self.path, before, &column.name, &e))?;
                builder.push(place, &value);
            }
            count += 1;
        }
        if count == 0 {
            return Ok(None);
        }
        let types = self.columns.iter().map(|column| &column.field.data_type);
        let columns: Vec<Column> =
            builder.finish().into_iter().zip(types).map(|(c, of)| typed::scaled(c, of)).collect();
        let arrays =
            self.columns.iter().zip(&columns).map(|(column, values)| column_array(&column.field.data_type, values));
        let batch =
            arrays.collect::<Result<Vec<_>, _>>().and_then(|arrays| RecordBatch::try_new(self.schema.clone(), arrays));
        let batch = batch.map_err(|e| Failure::internal("E3001", format!("{}: {e}", self.path.display())))?;
        Ok(Some((batch, columns)))
    }
}

/// Reads a file once for the names of its columns and for what their cells are.
fn survey(path: &Path, format: Format, only_times: bool) -> Result<(Names, Vec<Seen>), Failure> {
    let named = |e: String| unreadable(format!("{}: {e}", path.display()));
    let (mut rows, header) = Rows::open(path, format).map_err(named)?;
    let (mut names, mut seen, mut count) = (Names::default(), Vec::new(), 0);
    for (at, name) in header.iter().enumerate() {
        names.places.insert(name.clone(), at);
        names.list.push(name.clone());
    }
    seen.resize(names.list.len(), Seen::default());
    // The times of a file that has been read before need no survey of it, but NDJSON tells its names row by row.
    if only_times && format == Format::Csv {
        return Ok((names, seen));
    }
    loop {
        let Some(row) = rows.next_row().map_err(|reason| unreadable_row(path, count, &reason))? else {
            if count > 0 && rows.ends_within_quotes() {
                return Err(unreadable_row(path, count - 1, UNCLOSED));
            }
            break;
        };
        count += 1;
        if let Row::Object(members) = &row {
            for (name, _) in members {
                if !names.places.contains_key(name.as_ref()) {
                    names.places.insert(name.to_string(), names.list.len());
                    names.list.push(name.to_string());
                }
            }
        }
        if names.list.len() > SPINE_COLUMNS_MAX {
            return Err(named(format!("more than {SPINE_COLUMNS_MAX} columns by row {count}")));
        }
        seen.resize(names.list.len(), Seen::default());
        let cells = row.cells(&names);
        seen.iter_mut().enumerate().for_each(|(at, seen)| seen.look(cells.at(at)));
    }
    Ok((names, seen))
}

fn unreadable_row(path: &Path, rows_before: u64, reason: &str) -> Failure {
    unreadable(format!("{}: row {}: {reason}", path.display(), rows_before + 1))
}

/// The cells of a row by their place among the file's columns.
enum Cells<'c, 'r> {
    Plain(&'c ::csv::StringRecord),
    Json(Vec<Cell<'r>>),
}

impl<'r> Row<'r> {
    fn cells<'c>(&'c self, names: &Names) -> Cells<'c, 'r> {
        match self {
            Row::Cells(record) => Cells::Plain(record),
            Row::Object(members) => {
                let mut cells = vec![Cell::Absent; names.list.len()];
                for (at, (name, value)) in members.iter().enumerate() {
                    // Most files have the same names in the same order in each line.
                    let expected = names.list.get(at).is_some_and(|expected| *expected == **name);
                    let place = if expected { Some(at) } else { names.places.get(name.as_ref()).copied() };
                    if let Some(place) = place {
                        cells[place] = Cell::Json(value.get());
                    }
                }
                Cells::Json(cells)
            }
        }
    }
}

impl<'c, 'r: 'c> Cells<'c, 'r> {
    fn at(&self, place: usize) -> Cell<'c> {
        match self {
            Cells::Plain(record) => Cell::Plain(record.get(place).unwrap_or("")),
            Cells::Json(cells) => cells.get(place).copied().unwrap_or(Cell::Absent),
        }
    }
}
