//! Checking views: which events count, what is kept of them, features and their windows; the plan comes out.

use std::sync::Arc;

use super::builder::{Builder, ViewName};
use super::check::{Broken, Definition, check_name};
use super::columns::{EventColumns, check_select, compile_filter};
use super::document::Files;
use super::joins::check_joins;
use super::model::{Entity, Source, Stream, View};
use super::sources::{key_type_fits, reference};
use super::types::parse_type;
use crate::problem::nearest;
use crate::value::DataType;

/// Features of one view, windows expanded: an entity's record is read as a whole.
const FEATURES_MAX: usize = 2_000;

/// A view whose features and stream are checked, and the views that keep the tables which it joins; derived features come
/// later, when all views are known.
pub(super) fn check_view(
    files: &Files<'_>,
    definition: &Definition<'_>,
    sources: &[Arc<Source>],
    entities: &[Entity],
    hidden: &mut Vec<View>,
    broken: &mut Broken,
) -> Option<View> {
    let entity = reference(files, definition, "entity", entities, |e| &e.name);
    let has_source = definition.get("source").is_some();
    let source = reference(files, definition, "source", sources, |s| &s.name);
    let request = check_request(files, definition);
    let key_names = entity.map_or(&[][..], |at| entities[at].keys.as_slice());
    let mut keys: Vec<(String, DataType)> = key_names.iter().map(|key| (key.clone(), DataType::Text)).collect();
    if !has_source {
        return Some(view_of_requests(files, definition, entity, keys, request));
    }
    let source_index = source?;
    let source = &sources[source_index];
    let key_columns = check_keys(files, definition, source, &mut keys);
    let joins = check_joins(files, definition, source, sources);
    let mut columns = EventColumns::new(source, &joins);
    let select = check_select(files, definition, &mut columns);
    let (filter, needs) =
        columns.needs(|| definition.get("where").map(|item| (item, compile_filter(files, item, &columns))));
    if let (Some((item, _)), true) = (&filter, needs.joined) {
        let message = "a `where` over a joined column belongs to a feature: the row may come after the event";
        files.report("E0008", &item.place, message, None);
    }
    let mut builder = Builder::of_stream(source, needs.fields);
    for (key, item) in definition.table("features") {
        if builder.add(files, key, item, &columns, source).is_none() {
            broken.features.push((definition.name.to_string(), key.name.clone()));
        }
        if builder.features.len() > FEATURES_MAX || files.is_full() {
            break;
        }
    }
    if builder.features.len() > FEATURES_MAX {
        files.report("E0017", definition.key_place("features"), format!("more than {FEATURES_MAX} features"), None);
    }
    let select = builder.place_joins(&joins, select, &columns);
    joins.iter().for_each(|join| join.add_view(hidden));
    let plan = Arc::new(builder.finish(ViewName::Declared(definition), Some(source), key_names));
    let key_columns = key_columns?;
    let known = |field: &usize| *field != source.event_time && !key_columns.contains(field);
    Some(View {
        name: definition.name.to_string(),
        entity,
        keys,
        plan,
        feature_types: builder.types,
        derived: Vec::new(),
        request,
        request_fields: builder
            .request_fields
            .into_iter()
            .map(|fields| fields.into_iter().filter(known).collect())
            .collect(),
        stream: Some(Stream {
            source: source_index,
            key_columns,
            joined_columns: joins.iter().map(|join| join.table.fields.len()).sum(),
            select,
            filter: filter.and_then(|(_, filter)| filter),
            inputs: builder.inputs,
            filters: builder.filters,
        }),
    })
}

/// A view without events: derived features only.
fn view_of_requests(
    files: &Files<'_>,
    definition: &Definition<'_>,
    entity: Option<usize>,
    keys: Vec<(String, DataType)>,
    request: Vec<(String, DataType)>,
) -> View {
    let names: Vec<String> = keys.iter().map(|(name, _)| name.clone()).collect();
    for key in ["where", "select", "features", "join"] {
        if definition.get(key).is_some() {
            files.report("E0004", definition.key_place(key), format!("`{key}` needs a `source`"), None);
        }
    }
    View {
        name: definition.name.to_string(),
        entity,
        keys,
        stream: None,
        plan: Arc::new(Builder::default().finish(ViewName::Declared(definition), None, &names)),
        feature_types: Vec::new(),
        derived: Vec::new(),
        request,
        request_fields: Vec::new(),
    }
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
        if !key_type_fits(data_type) {
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
