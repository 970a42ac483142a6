//! Checking joins: which table, by which column; and the views that keep the rows of joined tables.

use std::sync::Arc;

use super::builder::{Builder, ViewName};
use super::check::Definition;
use super::document::Files;
use super::model::{Source, Stream, View};
use super::sources::{key_type_fits, reference};
use crate::expression::Expression;
use crate::plan::JoinedTable;
use crate::problem::nearest;

/// Joins of one view: each read of a joined feature looks up as many rows an event.
const JOINS_MAX: usize = 16;

/// A declared join.
pub(super) struct Join<'v> {
    pub name: &'v str,
    /// place of the table among the sources
    pub source: usize,
    pub table: &'v Arc<Source>,
    /// the event's column that holds the key
    pub on: usize,
    /// the table's column of the same name
    pub key: usize,
}

/// The joins of a view that are right; the others were reported.
pub(super) fn check_joins<'v>(
    files: &Files<'_>,
    definition: &Definition<'v>,
    source: &Source,
    sources: &'v [Arc<Source>],
) -> Vec<Join<'v>> {
    let declared = definition.table("join");
    if declared.len() > JOINS_MAX {
        files.report("E0017", definition.key_place("join"), format!("more than {JOINS_MAX} joins"), None);
    }
    let joins = declared.iter().take(JOINS_MAX).filter_map(|(key, item)| {
        super::check::check_name(files, key);
        check_join(files, &Definition::of(key, item)?, source, sources)
    });
    joins.collect()
}

fn check_join<'v>(
    files: &Files<'_>,
    join: &Definition<'v>,
    source: &Source,
    sources: &'v [Arc<Source>],
) -> Option<Join<'v>> {
    let at = reference(files, join, "source", sources, |s| &s.name)?;
    let table = &sources[at];
    if !table.is_table {
        let message = format!("`{}` is a stream; a join needs a source of kind table", table.name);
        files.report("E0012", &join.get("source")?.place, message, None);
        return None;
    }
    let on = join.get("on")?;
    let name = on.text()?;
    let find = |of: &Source| {
        let found = of.fields.iter().position(|(field, _)| field == name);
        if found.is_none() {
            let near = nearest(name, of.fields.iter().map(|(field, _)| field.as_str()));
            files.report("E0007", &on.place, format!("source `{}` has no column `{name}`", of.name), near);
        }
        found
    };
    let (of_event, of_table) = (find(source), find(table));
    let (of_event, of_table) = (of_event?, of_table?);
    let (left, right) = (&source.fields[of_event].1.data_type, &table.fields[of_table].1.data_type);
    if left != right {
        let message = format!("`{name}` is {left} in `{}` and {right} in `{}`", source.name, table.name);
        files.report("E0012", &on.place, message, None);
        return None;
    }
    if !key_type_fits(right) {
        files.report("E0012", &on.place, format!("key `{name}` cannot be {right}"), None);
        return None;
    }
    Some(Join { name: join.name, source: at, table, on: of_event, key: of_table })
}

impl Join<'_> {
    /// The name of the view that keeps the table's rows by this key. No user's view has an `@`.
    fn view_name(&self) -> String {
        format!("{}@{}", self.table.name, self.table.fields[self.key].0)
    }

    /// Where a plan finds the rows.
    pub(super) fn joined_table(&self, key_input: usize, first_column: usize) -> JoinedTable {
        JoinedTable { view: self.view_name(), key: key_input, first_column, columns: self.table.fields.len() }
    }

    /// A view that keeps all rows of the table by this key, unless there is one already.
    pub(super) fn add_view(&self, views: &mut Vec<View>) {
        let name = self.view_name();
        if views.iter().any(|view| view.name == name) {
            return;
        }
        let columns: Vec<Expression> = self
            .table
            .fields
            .iter()
            .enumerate()
            .map(|(at, (field, of))| Expression::column(field, at, of.data_type.clone()))
            .collect();
        let (key, of) = &self.table.fields[self.key];
        let mut builder = Builder::of_table(columns);
        let plan = builder.finish(ViewName::Hidden(&name), Some(self.table), std::slice::from_ref(key));
        views.push(View {
            entity: None,
            keys: vec![(key.clone(), of.data_type.clone())],
            stream: Some(Stream {
                source: self.source,
                key_columns: vec![self.key],
                joined_columns: 0,
                select: Vec::new(),
                filter: None,
                inputs: std::mem::take(&mut builder.inputs),
                filters: Vec::new(),
            }),
            plan: Arc::new(plan),
            feature_types: Vec::new(),
            derived: Vec::new(),
            request: Vec::new(),
            request_fields: Vec::new(),
            name,
        });
    }
}
