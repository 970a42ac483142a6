//! The columns that expressions over events see: the source's, those of joined tables, the selected ones; and what each needs.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::check::{Definition, check_name};
use super::document::{Files, Item};
use super::joins::Join;
use super::model::Source;
use crate::expression::{Expression, Fault, Scope, compile};
use crate::problem::nearest;
use crate::value::DataType;

/// The scope of a view's expressions over events.
pub(super) struct EventColumns<'v> {
    columns: Vec<EventColumn<'v>>,
    joins: Vec<JoinedColumns<'v>>,
    /// what was resolved since `compiled` began
    used: RefCell<BTreeSet<usize>>,
}

struct EventColumn<'v> {
    /// joined columns have the name of their table before their own
    name: &'v str,
    data_type: DataType,
    needs: Needs,
}

struct JoinedColumns<'v> {
    name: &'v str,
    first: usize,
    count: usize,
}

/// What must be known of an event to compute something.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// whether a table row must be looked up
    pub joined: bool,
    /// columns that are computed as events come in and kept for reads
    pub kept: BTreeSet<usize>,
    /// columns of the source
    pub fields: BTreeSet<usize>,
}

impl Needs {
    fn add(&mut self, other: &Needs) {
        self.joined |= other.joined;
        self.kept.extend(&other.kept);
        self.fields.extend(&other.fields);
    }
}

impl<'v> EventColumns<'v> {
    pub(super) fn new(source: &'v Source, joins: &[Join<'v>]) -> Self {
        let mut columns = Vec::new();
        for (at, (name, field)) in source.fields.iter().enumerate() {
            let needs = Needs { joined: false, kept: BTreeSet::from([at]), fields: BTreeSet::from([at]) };
            columns.push(EventColumn { name, data_type: field.data_type.clone(), needs });
        }
        let mut joined = Vec::new();
        for join in joins {
            joined.push(JoinedColumns { name: join.name, first: columns.len(), count: join.table.fields.len() });
            for (name, field) in &join.table.fields {
                let needs = Needs { joined: true, kept: BTreeSet::from([join.on]), fields: BTreeSet::from([join.on]) };
                columns.push(EventColumn { name, data_type: field.data_type.clone(), needs });
            }
        }
        EventColumns { columns, joins: joined, used: RefCell::default() }
    }

    /// Number of columns so far.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Where the columns of a join start.
    pub(super) fn first_of_join(&self, name: &str) -> usize {
        self.joins.iter().find(|join| join.name == name).map_or(0, |join| join.first)
    }

    /// A column as an expression.
    pub(super) fn column(&self, at: usize) -> Expression {
        let column = &self.columns[at];
        Expression::column(column.name, at, column.data_type.clone())
    }

    fn is_joined_column(&self, at: usize) -> bool {
        self.joins.iter().any(|join| (join.first..join.first + join.count).contains(&at))
    }

    /// Runs a compilation, and says what its expressions need.
    pub(super) fn needs<T>(&self, compilation: impl FnOnce() -> T) -> (T, Needs) {
        self.used.borrow_mut().clear();
        let compiled = compilation();
        let mut needs = Needs::default();
        self.used.borrow().iter().for_each(|at| needs.add(&self.columns[*at].needs));
        (compiled, needs)
    }
}

impl Scope for EventColumns<'_> {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        let (within, name): (Vec<usize>, &str) = match path {
            [name] => ((0..self.columns.len()).filter(|at| !self.is_joined_column(*at)).collect(), *name),
            [table, name] => match self.joins.iter().find(|join| join.name == *table) {
                Some(join) => ((join.first..join.first + join.count).collect(), *name),
                None => {
                    let near = nearest(table, self.joins.iter().map(|join| join.name));
                    let near = near.map(|near| format!("{near}.{name}"));
                    return Err((format!("unknown column `{table}.{name}`: no join `{table}` is declared"), near));
                }
            },
            _ => return Err((format!("unknown column `{}`", path.join(".")), None)),
        };
        match within.iter().find(|at| self.columns[**at].name == name) {
            Some(at) => {
                self.used.borrow_mut().insert(*at);
                Ok((*at, self.columns[*at].data_type.clone()))
            }
            None => {
                let near = nearest(name, within.iter().map(|at| self.columns[*at].name));
                Err((format!("unknown column `{}`", path.join(".")), near))
            }
        }
    }

    fn at_read(&self) -> bool {
        false
    }
}

/// A condition over the columns of a source, which is none of its definitions: of those who ask for some of its events.
pub fn condition(source: &Source, text: &str) -> Result<Expression, Fault> {
    let expression = compile(text, &EventColumns::new(source, &[]))?;
    match &expression.data_type {
        None | Some(DataType::Bool) => Ok(expression),
        Some(other) => {
            let message = format!("this is a condition, so bool, not {other}");
            Err(Fault { line: 1, column: 1, message, near: None })
        }
    }
}

/// Compiles an expression that must be a bool.
pub(super) fn compile_filter(files: &Files<'_>, item: &Item, scope: &dyn Scope) -> Option<Expression> {
    let expression = compile_reported(files, item, scope)?;
    match &expression.data_type {
        None | Some(DataType::Bool) => Some(expression),
        Some(other) => {
            files.report("E0008", &item.place, format!("this is a condition, so bool, not {other}"), None);
            None
        }
    }
}

fn compile_reported(files: &Files<'_>, item: &Item, scope: &dyn Scope) -> Option<Expression> {
    match compile(item.text()?, scope) {
        Ok(expression) => Some(expression),
        Err(fault) => {
            let code = if fault.message.starts_with("unknown column") { "E0007" } else { "E0008" };
            files.report_fault(code, item, fault);
            None
        }
    }
}

/// A derived column of each event.
pub(super) struct Selected {
    pub name: String,
    pub expression: Expression,
    pub needs: Needs,
}

/// Derived columns, each of which the next ones may use.
pub(super) fn check_select<'v>(
    files: &Files<'_>,
    definition: &Definition<'v>,
    columns: &mut EventColumns<'v>,
) -> Vec<Selected> {
    let mut select = Vec::new();
    for (key, item) in definition.table("select") {
        check_name(files, key);
        let taken = (0..columns.len()).any(|at| !columns.is_joined_column(at) && columns.columns[at].name == key.name);
        if taken {
            files.report("E0013", &key.place, format!("column `{}` is there already", key.name), None);
        }
        let (expression, needs) = columns.needs(|| compile_reported(files, item, &*columns));
        let Some(expression) = expression else {
            // Known all the same, so that its uses are not reported too; its type is a guess.
            columns.columns.push(EventColumn { name: &key.name, data_type: DataType::Bool, needs: Needs::default() });
            continue;
        };
        let at = columns.len();
        // What is computed as the event comes in is kept as it is; what needs a table row is computed from its parts.
        let kept = if needs.joined { needs.kept.clone() } else { BTreeSet::from([at]) };
        let of_column = Needs { kept, ..needs.clone() };
        let data_type = expression.data_type.clone().unwrap_or(DataType::Text);
        columns.columns.push(EventColumn { name: &key.name, data_type, needs: of_column });
        select.push(Selected { name: key.name.clone(), expression, needs });
    }
    select
}
