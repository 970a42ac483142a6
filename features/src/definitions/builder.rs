//! The builder of a plan: collects the distinct columns, filters and aggregates of a view's features.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::check::{Definition, check_name, is_name};
use super::columns::{EventColumns, Needs, Selected, compile_filter};
use super::document::{Files, Item, Key};
use super::joins::Join;
use super::model::Source;
use super::vocabulary::meaning;
use super::windows::{Windowed, check_default, check_windows};
use crate::aggregates::Aggregate;
use crate::expression::{Argument, Call, Expression, FUNCTIONS_VERSION, Fault, compile_call};
use crate::hash::hash_bytes;
use crate::plan::{CellPlan, Dedup, FeaturePlan, JoinPlan, JoinedCell, MIN_SLACK, Plan, Window};
use crate::record::LEAF_MAX;
use crate::value::DataType;

/// What has been collected so far.
#[derive(Default)]
pub(super) struct Builder {
    pub inputs: Vec<Expression>,
    pub filters: Vec<Expression>,
    pub features: Vec<FeaturePlan>,
    pub types: Vec<DataType>,
    /// by feature: source columns that a request must give
    pub request_fields: Vec<BTreeSet<usize>>,
    id_type: Option<DataType>,
    where_fields: BTreeSet<usize>,
    cells: Vec<CellPlan>,
    joined_cells: Vec<JoinedCell>,
    /// columns that joined cells are computed from
    joined_kept: BTreeSet<usize>,
    joins: Option<JoinPlan>,
}

/// Whose plan is built.
pub(super) enum ViewName<'d> {
    /// a view that the user declared
    Declared(&'d Definition<'d>),
    /// one that keeps the rows of a joined table
    Hidden(&'d str),
    /// one that keeps the vectors of an embedding, with the rule that they keep
    Vectors(&'d str, &'d str),
}

impl Builder {
    /// Starts a view of events; `where_fields` are the source's columns that its `where` uses.
    pub(super) fn of_stream(source: &Source, where_fields: BTreeSet<usize>) -> Self {
        let id_type = source.event_id.map(|at| source.fields[at].1.data_type.clone());
        Builder { id_type, where_fields, ..Builder::default() }
    }

    /// Keeps all columns of a table.
    pub(super) fn of_table(columns: Vec<Expression>) -> Self {
        Builder { inputs: columns, ..Builder::default() }
    }

    pub(super) fn add(
        &mut self,
        files: &Files<'_>,
        key: &Key,
        item: &Item,
        columns: &EventColumns<'_>,
        source: &Source,
    ) -> Option<()> {
        check_name(files, key);
        let feature = Definition::of(key, item)?;
        let windows = check_windows(files, &feature);
        let aggregate = feature.get("agg")?;
        let ((filter, call), needs) = columns.needs(|| {
            let filter = feature.get("where").map(|item| compile_filter(files, item, columns));
            (filter, compile_call(aggregate.text().unwrap_or_default(), columns))
        });
        let call = match call {
            Ok(call) => call,
            Err(fault) => {
                let code = if fault.message.starts_with("unknown column") { "E0007" } else { "E0008" };
                files.report_fault(code, aggregate, fault);
                return None;
            }
        };
        let filter = match filter {
            None => None,
            Some(expression) => Some(expression?),
        };
        let (aggregate, arguments) = match meaning(&call, feature.flag("distinct"), self.id_type.as_ref()) {
            Ok(meaning) => meaning,
            Err((place, message, near)) => {
                let (line, column) = place.unwrap_or((1, 1));
                files.report_fault("E0010", aggregate, Fault { line, column, message, near });
                return None;
            }
        };
        let include_request = check_request(files, &feature, source);
        let mut request_fields = BTreeSet::new();
        if include_request {
            request_fields.extend(needs.fields.union(&self.where_fields));
        }
        let text = call.text();
        let data_type = aggregate.output();
        let default = check_default(files, &feature, &data_type);
        let cell = self.cell(aggregate, filter, call, arguments, &needs);
        for Windowed { name, window, place } in windows? {
            if name.len() > 63 && is_name(feature.name) {
                files.report("E0005", place, format!("`{name}` is longer than 63 characters"), None);
            }
            if self.features.iter().any(|f| f.name == name) {
                files.report("E0013", place, format!("feature `{name}` is there already"), None);
            }
            let offset = feature.duration("offset").unwrap_or(0);
            let (default, text) = (default.clone(), text.clone());
            self.features.push(FeaturePlan { name, text, cell, window, offset, default, include_request });
            self.request_fields.push(request_fields.clone());
            self.types.push(data_type.clone());
        }
        Some(())
    }

    /// A column of the newest row.
    pub(super) fn add_newest(&mut self, name: String, column: Expression, aggregate: Aggregate, data_type: DataType) {
        let text = format!("last({})", column.text);
        let input = Some(shared(&mut self.inputs, column));
        self.cells.push(CellPlan { aggregate, input, second: None, filter: None, joined: None });
        let (cell, window) = (self.cells.len() - 1, Window::Lifetime);
        let feature = FeaturePlan { name, text, cell, window, offset: 0, default: None, include_request: false };
        self.features.push(feature);
        self.request_fields.push(BTreeSet::new());
        self.types.push(data_type);
    }

    fn cell(
        &mut self,
        aggregate: Aggregate,
        filter: Option<Expression>,
        call: Call,
        columns: usize,
        needs: &Needs,
    ) -> usize {
        let mut arguments = call.arguments.into_iter().take(columns).map(|Argument { expression, .. }| expression);
        let (first, second) = (arguments.next(), arguments.next());
        let cell = if needs.joined {
            self.joined_kept.extend(&needs.kept);
            let joined = JoinedCell { input: first, second, filter };
            let text = |cell: &JoinedCell| format!("{cell:?}");
            let known = self.joined_cells.iter().position(|known| text(known) == text(&joined));
            let at = known.unwrap_or_else(|| {
                self.joined_cells.push(joined);
                self.joined_cells.len() - 1
            });
            CellPlan { aggregate, input: None, second: None, filter: None, joined: Some(at) }
        } else {
            let filter = filter.map(|filter| shared(&mut self.filters, filter));
            let input = first.map(|e| shared(&mut self.inputs, e));
            let second = second.map(|e| shared(&mut self.inputs, e));
            CellPlan { aggregate, input, second, filter, joined: None }
        };
        self.cells.iter().position(|known| *known == cell).unwrap_or_else(|| {
            self.cells.push(cell);
            self.cells.len() - 1
        })
    }

    /// Sorts out what of the selected columns is computed as events come in (the result) and what at read.
    pub(super) fn place_joins(
        &mut self,
        joins: &[Join<'_>],
        select: Vec<Selected>,
        columns: &EventColumns<'_>,
    ) -> Vec<(String, Option<Expression>)> {
        let first_selected = columns.len() - select.len();
        let (mut on_arrival, mut at_read) = (Vec::new(), Vec::new());
        for (i, Selected { name, expression, needs }) in select.into_iter().enumerate() {
            if needs.joined {
                at_read.push((first_selected + i, expression));
                on_arrival.push((name, None));
            } else {
                on_arrival.push((name, Some(expression)));
            }
        }
        if joins.is_empty() || self.joined_cells.is_empty() {
            return on_arrival;
        }
        self.joined_kept.extend(joins.iter().map(|join| join.on));
        // Selected columns that need no joined cell of this view are computed all the same: it keeps the plan simple.
        let raw: Vec<(usize, usize)> =
            self.joined_kept.iter().map(|at| (*at, shared(&mut self.inputs, columns.column(*at)))).collect();
        let input_of = |column: usize| raw.iter().find(|(at, _)| *at == column).map_or(0, |(_, input)| *input);
        let tables =
            joins.iter().map(|join| join.joined_table(input_of(join.on), columns.first_of_join(join.name))).collect();
        self.joins = Some(JoinPlan {
            width: columns.len(),
            tables,
            raw,
            select: at_read,
            cells: std::mem::take(&mut self.joined_cells),
        });
        on_arrival
    }

    pub(super) fn finish(&mut self, name: ViewName<'_>, source: Option<&Arc<Source>>, keys: &[String]) -> Plan {
        let reach = self.features.iter().map(|f| f.window.reach().saturating_add(f.offset)).max().unwrap_or(0);
        let is_table = source.is_some_and(|source| source.is_table) || matches!(name, ViewName::Vectors(..));
        let is_hidden = matches!(name, ViewName::Hidden(_));
        // A filter on joined columns may let any event pass later, so none of them can be left out of a last_n either.
        let one_by_one = |feature: &FeaturePlan| {
            let cell = &self.cells[feature.cell];
            match feature.window {
                Window::Lifetime => cell.joined.is_some() || cell.aggregate.needs_neighbours(),
                Window::LastN(_) => cell.joined.is_some(),
                _ => false,
            }
        };
        let keeps_all = is_hidden || (!is_table && self.features.iter().any(one_by_one));
        let order_kept = is_table
            || self.features.iter().any(|f| matches!(f.window, Window::LastN(_)))
            || self.cells.iter().any(|cell| cell.aggregate.order_matters());
        let (lifetime_cells, last_n) = if is_table { (Vec::new(), vec![(None, 1)]) } else { self.unbounded() };
        let dedup = source.and_then(|s| s.event_id.map(|at| (s, at))).map(|(s, at)| Dedup {
            id_type: s.fields[at].1.data_type.clone(),
            horizon: s.dedup_horizon,
            // Only the server's own clock never goes back; what lies in files arrived long before.
            arrivals_ascend: s.is_stream_clocked() && s.history.is_none(),
            with_history: s.history.is_some(),
        });
        let plan = Plan {
            hash: 0,
            inputs: self.inputs.iter().map(|e| e.data_type.clone().unwrap_or(DataType::Text)).collect(),
            filters: self.filters.len() + usize::from(is_table),
            cells: self.cells.clone(),
            features: self.features.clone(),
            order_kept,
            id_type: source.and_then(|s| s.event_id.map(|at| s.fields[at].1.data_type.clone())),
            dedup,
            reach,
            slack: MIN_SLACK.max(source.map_or(0, |s| s.max_future_skew)),
            lifetime_cells,
            last_n,
            never_late: is_hidden || self.features.iter().any(|f| f.window.is_unbounded()),
            table: is_table.then_some(self.filters.len()),
            joins: self.joins.take(),
            keeps_all,
            leaf_max: LEAF_MAX,
        };
        Plan { hash: self.hash(&name, source, keys, &plan), ..plan }
    }

    /// What lifetime and last_n features need of events that have left a record.
    fn unbounded(&self) -> (Vec<usize>, Vec<(Option<usize>, usize)>) {
        let mut lifetime_cells = Vec::new();
        let mut last_n: Vec<(Option<usize>, usize)> = Vec::new();
        for feature in &self.features {
            match feature.window {
                Window::Lifetime if !lifetime_cells.contains(&feature.cell) => lifetime_cells.push(feature.cell),
                Window::LastN(n) => {
                    let filter = self.cells[feature.cell].filter;
                    match last_n.iter_mut().find(|(known, _)| *known == filter) {
                        Some((_, most)) => *most = (*most).max(n),
                        None => last_n.push((filter, n)),
                    }
                }
                _ => {}
            }
        }
        (lifetime_cells, last_n)
    }

    /// Hash of everything that decides what a record of the view holds and how it is read.
    fn hash(&self, name: &ViewName<'_>, source: Option<&Arc<Source>>, keys: &[String], plan: &Plan) -> u64 {
        let texts = |list: &[Expression]| list.iter().map(|e| e.text.clone()).collect::<Vec<_>>();
        let stream = source
            .map(|s| (&s.name, &s.fields, s.event_time, s.event_id, s.arrival_time, s.max_future_skew, &s.delete_when));
        let declared = match name {
            ViewName::Hidden(name) => format!("{name:?}"),
            ViewName::Vectors(name, rule) => format!("{name:?} {rule:?}"),
            ViewName::Declared(definition) => {
                let table = |name: &str| -> Vec<(String, Option<String>)> {
                    definition.table(name).iter().map(|(k, v)| (k.name.clone(), v.text().map(str::to_string))).collect()
                };
                format!(
                    "{} {:?} {:?} {:?} {:?} {:?}",
                    definition.name,
                    definition.text("entity"),
                    definition.text("where"),
                    table("select"),
                    table("derived"),
                    table("request"),
                )
            }
        };
        let (inputs, filters) = (texts(&self.inputs), texts(&self.filters));
        hash_bytes(
            format!("{FUNCTIONS_VERSION} {keys:?} {stream:?} {declared} {inputs:?} {filters:?} {plan:?}").as_bytes(),
        )
    }
}

/// Whether the request's row counts.
fn check_request(files: &Files<'_>, feature: &Definition<'_>, source: &Source) -> bool {
    let include_request = feature.flag("include_request");
    if include_request && source.is_table {
        let message = "`include_request` has no meaning on a table: a request is an event, not a row";
        files.report("E0018", feature.key_place("include_request"), message, None);
    }
    include_request
}

fn shared(list: &mut Vec<Expression>, expression: Expression) -> usize {
    let known = |e: &Expression| e.text == expression.text && e.data_type == expression.data_type;
    list.iter().position(known).unwrap_or_else(|| {
        list.push(expression);
        list.len() - 1
    })
}
