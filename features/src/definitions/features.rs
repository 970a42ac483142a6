//! Checking views: which events count, what is kept of them, features and their windows; the plan comes out.

use std::sync::Arc;

use super::check::{Broken, Definition, NotReady, check_name, is_name};
use super::document::{Files, Item, Key};
use super::model::{Entity, Source, Stream, View};
use super::sources::reference;
use super::types::parse_type;
use super::vocabulary::{Meaning, meaning};
use super::windows::{Windowed, check_default, check_windows};
use crate::expression::{Expression, FUNCTIONS_VERSION, Fault, Scope, compile, compile_call};
use crate::hash::hash_bytes;
use crate::plan::{CellPlan, Dedup, FeaturePlan, MIN_SLACK, Plan, Window};
use crate::problem::nearest;
use crate::record::LEAF_MAX;
use crate::value::DataType;

/// Features of one view, windows expanded: an entity's record is read as a whole.
const FEATURES_MAX: usize = 2_000;

/// The columns that an expression over events sees: the source's, then the selected ones.
struct EventColumns<'v> {
    names: Vec<(&'v str, DataType)>,
    joins: Vec<&'v str>,
}

impl Scope for EventColumns<'_> {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        let [name] = path else {
            let whole = path.join(".");
            let message = if self.joins.contains(&path[0]) {
                format!("joined columns such as `{whole}` cannot be read yet")
            } else {
                format!("unknown column `{whole}`")
            };
            return Err((message, nearest(path[path.len() - 1], self.names.iter().map(|(name, _)| *name))));
        };
        match self.names.iter().position(|(known, _)| known == name) {
            Some(at) => Ok((at, self.names[at].1.clone())),
            None => Err((format!("unknown column `{name}`"), nearest(name, self.names.iter().map(|(name, _)| *name)))),
        }
    }

    fn at_read(&self) -> bool {
        false
    }
}

/// Compiles an expression that must be a bool.
fn compile_filter(files: &Files<'_>, item: &Item, scope: &EventColumns<'_>) -> Option<Expression> {
    let expression = compile_reported(files, item, scope)?;
    match &expression.data_type {
        None | Some(DataType::Bool) => Some(expression),
        Some(other) => {
            files.report("E0008", &item.place, format!("a `where` is bool, not {other}"), None);
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

/// A view whose features and stream are checked; derived features come later, when all views are known.
pub(super) fn check_view(
    files: &Files<'_>,
    definition: &Definition<'_>,
    sources: &[Arc<Source>],
    entities: &[Entity],
    not_ready: &mut NotReady,
    broken: &mut Broken,
) -> Option<View> {
    let entity = reference(files, definition, "entity", entities, |e| &e.name);
    let has_source = definition.get("source").is_some();
    let source = reference(files, definition, "source", sources, |s| &s.name);
    let request = check_request(files, definition);
    if !has_source {
        for key in ["where", "select", "features", "join"] {
            if definition.get(key).is_some() {
                files.report("E0004", definition.key_place(key), format!("`{key}` needs a `source`"), None);
            }
        }
    }
    if !definition.table("join").is_empty() {
        not_ready.push(format!("view `{}`: joins cannot run yet", definition.name));
    }
    let key_names = entity.map_or(&[][..], |at| entities[at].keys.as_slice());
    let mut keys: Vec<(String, DataType)> = key_names.iter().map(|key| (key.clone(), DataType::Text)).collect();
    let entity = entity.unwrap_or(0);
    if !has_source {
        let plan = Arc::new(Builder::default().finish(definition, None, key_names));
        let (feature_types, derived) = (Vec::new(), Vec::new());
        return Some(View {
            name: definition.name.to_string(),
            entity,
            keys,
            stream: None,
            plan,
            feature_types,
            derived,
            request,
        });
    }
    let source_index = source?;
    let source = &sources[source_index];
    let key_columns = check_keys(files, definition, source, &mut keys);
    let mut columns = EventColumns {
        names: source.fields.iter().map(|(name, t)| (name.as_str(), t.data_type.clone())).collect(),
        joins: definition.table("join").iter().map(|(key, _)| key.name.as_str()).collect(),
    };
    let select = check_select(files, definition, &mut columns);
    let filter = definition.get("where").and_then(|item| compile_filter(files, item, &columns));
    let mut builder =
        Builder { id_type: source.event_id.map(|at| source.fields[at].1.data_type.clone()), ..Builder::default() };
    for (key, item) in definition.table("features") {
        if builder.add(files, key, item, &columns, definition, not_ready).is_none() {
            broken.features.push((definition.name.to_string(), key.name.clone()));
        }
    }
    if builder.features.len() > FEATURES_MAX {
        files.report("E0017", definition.key_place("features"), format!("more than {FEATURES_MAX} features"), None);
    }
    let plan = Arc::new(builder.finish(definition, Some(source), key_names));
    let feature_types = builder.types;
    let stream = Stream {
        source: source_index,
        key_columns: key_columns?,
        select,
        filter,
        inputs: builder.inputs,
        filters: builder.filters,
    };
    let name = definition.name.to_string();
    Some(View { name, entity, keys, stream: Some(stream), plan, feature_types, derived: Vec::new(), request })
}

/// Derived columns, each of which the next ones may use.
fn check_select<'v>(
    files: &Files<'_>,
    definition: &Definition<'v>,
    columns: &mut EventColumns<'v>,
) -> Vec<(String, Expression)> {
    let mut select = Vec::new();
    for (key, item) in definition.table("select") {
        check_name(files, key);
        if columns.names.iter().any(|(name, _)| *name == key.name) {
            files.report("E0013", &key.place, format!("column `{}` is there already", key.name), None);
        }
        let Some(expression) = compile_reported(files, item, columns) else {
            // Known all the same, so that its uses are not reported too; its type is a guess.
            columns.names.push((&key.name, DataType::Bool));
            continue;
        };
        columns.names.push((&key.name, expression.data_type.clone().unwrap_or(DataType::Text)));
        select.push((key.name.clone(), expression));
    }
    select
}

fn check_keys(
    files: &Files<'_>,
    definition: &Definition<'_>,
    source: &Source,
    keys: &mut [(String, DataType)],
) -> Option<Vec<usize>> {
    let mut columns = Vec::with_capacity(keys.len());
    for (key, data_type) in keys {
        let Some(at) = source.fields.iter().position(|(name, _)| name == key) else {
            let near = nearest(key, source.fields.iter().map(|(name, _)| name.as_str()));
            let message = format!("source `{}` has no column `{key}`, the key of the entity", source.name);
            files.report("E0012", definition.key_place("source"), message, near);
            continue;
        };
        *data_type = source.fields[at].1.data_type.clone();
        if matches!(data_type, DataType::Float64 | DataType::Float32 | DataType::List(_) | DataType::Vector(_)) {
            files.report("E0012", definition.key_place("entity"), format!("key `{key}` cannot be {data_type}"), None);
        }
        columns.push(at);
    }
    Some(columns)
}

fn check_request(files: &Files<'_>, definition: &Definition<'_>) -> Vec<(String, DataType)> {
    let mut request = Vec::new();
    for (key, item) in definition.table("request") {
        check_name(files, key);
        let Some(text) = item.text() else { continue };
        match parse_type(text) {
            Some(field) => request.push((key.name.clone(), field.data_type)),
            None => files.report("E0015", &item.place, format!("`{text}` is not a type"), None),
        }
    }
    request
}

/// Collects the distinct columns, filters and aggregates of a view's features.
#[derive(Default)]
struct Builder {
    id_type: Option<DataType>,
    inputs: Vec<Expression>,
    filters: Vec<Expression>,
    cells: Vec<CellPlan>,
    features: Vec<FeaturePlan>,
    types: Vec<DataType>,
}

impl Builder {
    fn add(
        &mut self,
        files: &Files<'_>,
        key: &Key,
        item: &Item,
        columns: &EventColumns<'_>,
        view: &Definition<'_>,
        not_ready: &mut NotReady,
    ) -> Option<()> {
        check_name(files, key);
        let feature = Definition::of(key, item)?;
        let windows = check_windows(files, &feature);
        let filter = feature.get("where").map(|item| compile_filter(files, item, columns));
        let aggregate = feature.get("agg")?;
        let call = match compile_call(aggregate.text()?, columns) {
            Ok(call) => call,
            Err(fault) => {
                let code = if fault.message.starts_with("unknown column") { "E0007" } else { "E0008" };
                files.report_fault(code, aggregate, fault);
                return None;
            }
        };
        let filter = match filter {
            None => None,
            Some(expression) => Some(shared(&mut self.filters, expression?)),
        };
        let name = &feature.name;
        let mut not_yet = |what: String| not_ready.push(format!("view `{}`: feature `{name}` {what}", view.name));
        if feature.flag("include_request") {
            not_yet("includes the request, which cannot run yet".to_string());
        }
        let (cell, data_type) = match meaning(&call, feature.flag("distinct"), self.id_type.as_ref()) {
            Err((place, message, near)) => {
                let (line, column) = place.unwrap_or((1, 1));
                files.report_fault("E0010", aggregate, Fault { line, column, message, near });
                return None;
            }
            Ok(Meaning::Later(data_type)) => {
                not_yet(format!("uses {}, which cannot be computed yet", call.name));
                // Stands in so that the rest of the graph can be checked; a registry with it is never served.
                let count =
                    crate::aggregates::Aggregate { kind: crate::aggregates::Kind::Count, input: None, id_type: None };
                (CellPlan { aggregate: count, input: None, filter }, data_type)
            }
            Ok(Meaning::Ready(aggregate)) => {
                let input = call.arguments.into_iter().next().map(|a| shared(&mut self.inputs, a.expression));
                let data_type = aggregate.output();
                (CellPlan { aggregate, input, filter }, data_type)
            }
        };
        let default = check_default(files, &feature, &data_type);
        let cell = self.cell(cell);
        for Windowed { name, window, place } in windows? {
            if matches!(window, Window::Session(_)) {
                not_yet("has a session window, which cannot run yet".to_string());
            }
            if name.len() > 63 && is_name(feature.name) {
                files.report("E0005", place, format!("`{name}` is longer than 63 characters"), None);
            }
            if self.features.iter().any(|f| f.name == name) {
                files.report("E0013", place, format!("feature `{name}` is there already"), None);
            }
            let offset = feature.duration("offset").unwrap_or(0);
            self.features.push(FeaturePlan { name, cell, window, offset, default: default.clone() });
            self.types.push(data_type.clone());
        }
        Some(())
    }

    fn cell(&mut self, cell: CellPlan) -> usize {
        self.cells.iter().position(|known| *known == cell).unwrap_or_else(|| {
            self.cells.push(cell);
            self.cells.len() - 1
        })
    }

    fn finish(&self, definition: &Definition<'_>, source: Option<&Arc<Source>>, keys: &[String]) -> Plan {
        let reach = self.features.iter().map(|f| f.window.reach().saturating_add(f.offset)).max().unwrap_or(0);
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
        let order_kept = !last_n.is_empty() || self.cells.iter().any(|cell| cell.aggregate.order_matters());
        let dedup = source.and_then(|s| s.event_id.map(|at| (s, at))).map(|(s, at)| Dedup {
            id_type: s.fields[at].1.data_type.clone(),
            horizon: s.dedup_horizon,
            // Only the server's own clock never goes back.
            arrivals_ascend: s.arrival_time.is_none() && matches!(s.connector, super::Connector::Push),
        });
        let plan = Plan {
            hash: 0,
            inputs: self.inputs.iter().map(|e| e.data_type.clone().unwrap_or(DataType::Text)).collect(),
            filters: self.filters.len(),
            cells: self.cells.clone(),
            features: self.features.clone(),
            order_kept,
            id_type: self.id_type.clone(),
            dedup,
            reach,
            slack: MIN_SLACK.max(source.map_or(0, |s| s.max_future_skew)),
            lifetime_cells,
            last_n,
            never_late: self.features.iter().any(|f| f.window.is_unbounded()),
            leaf_max: LEAF_MAX,
        };
        Plan { hash: self.hash(definition, source, keys, &plan), ..plan }
    }

    /// Hash of everything that decides what a record of the view holds and how it is read.
    fn hash(&self, definition: &Definition<'_>, source: Option<&Arc<Source>>, keys: &[String], plan: &Plan) -> u64 {
        let texts = |list: &[Expression]| list.iter().map(|e| e.text.clone()).collect::<Vec<_>>();
        let table = |name: &str| -> Vec<(String, Option<String>)> {
            definition.table(name).iter().map(|(k, v)| (k.name.clone(), v.text().map(str::to_string))).collect()
        };
        let stream = source.map(|s| (&s.name, &s.fields, s.event_time, s.event_id, s.arrival_time, s.max_future_skew));
        let parts = format!(
            "{FUNCTIONS_VERSION} {keys:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {plan:?}",
            definition.name,
            stream,
            definition.text("entity"),
            definition.text("where"),
            table("select"),
            table("derived"),
            table("request"),
            texts(&self.inputs),
            texts(&self.filters),
        );
        hash_bytes(parts.as_bytes())
    }
}

fn shared(list: &mut Vec<Expression>, expression: Expression) -> usize {
    let known = |e: &Expression| e.text == expression.text && e.data_type == expression.data_type;
    list.iter().position(known).unwrap_or_else(|| {
        list.push(expression);
        list.len() - 1
    })
}
