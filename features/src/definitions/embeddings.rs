//! Checking embeddings: collections of vectors whose neighbours can be searched.
//!
//! Vectors out of a source are kept by a view of their own, as the rows of a table are: the newest row of an entity counts, and one
//! without a vector that fits says "nothing here". So they share records, commits and positions with features, and a read as of a
//! past moment is the read of any feature. Where the vector is a feature, the records are those of its view.

use std::sync::Arc;

use super::builder::{Builder, ViewName};
use super::check::{Broken, Definition, shortened};
use super::document::{Files, Item, ItemValue};
use super::model::{Entity, Source, Stream, View};
use super::sources::{key_type_fits, reference};
use super::types::parse_type;
use super::vectors::{Embedding, GraphShape, Metric, RowsIn, VectorRule, VectorsFrom};
use crate::aggregates::{Aggregate, Edge, Kind};
use crate::expression::Expression;
use crate::plan::Window;
use crate::problem::nearest;
use crate::value::DataType;

/// Attributes of a collection: each is in memory once for every vector.
const ATTRIBUTES_MAX: usize = 64;
/// Length of a vector, as the shape of files has it.
const DIMS_MAX: usize = 8_192;

/// What an embedding can name.
pub(super) struct Namable<'n> {
    pub sources: &'n [Arc<Source>],
    pub entities: &'n [Entity],
    pub views: &'n [View],
    pub broken: &'n Broken,
}

/// The view that keeps the vectors of an embedding out of a source, and the column that they are in there.
pub(super) struct OwnView {
    pub column: usize,
    pub view: View,
}

/// An embedding, and its own view where no declared one keeps its vectors, if both are right.
pub(super) fn check_embedding(
    files: &Files<'_>,
    definition: &Definition<'_>,
    known: &Namable<'_>,
) -> Option<(Embedding, Option<OwnView>)> {
    let entity = reference(files, definition, "entity", known.entities, |e| &e.name);
    let metric = match definition.text("metric") {
        Some("dot") => Metric::Dot,
        Some("l2") => Metric::L2,
        _ => Metric::Cosine,
    };
    let index = check_index(files, definition);
    // Other numbers were reported with the shape of the file.
    let dims = integer(definition, "dims").and_then(|dims| usize::try_from(dims).ok());
    let dims = dims.filter(|dims| (1..=DIMS_MAX).contains(dims));
    let name = definition.name.to_string();
    let vector = dims.map(|dims| VectorRule { of: name.clone(), dims, metric });
    match (definition.get("source"), definition.get("view")) {
        (Some(_), None) => {
            let at = reference(files, definition, "source", known.sources, |s| &s.name)?;
            let source = &known.sources[at];
            let column = check_vector(files, definition, source, vector.as_ref());
            let attributes = check_attributes(files, definition, source);
            let (entity, vector, column, attributes, index) = (entity?, vector?, column?, attributes?, index?);
            let keys = check_keys(files, definition, source, &known.entities[entity])?;
            let view = view_of(&vector, column, (at, source), &keys, &attributes);
            let attributes = attributes.into_iter().map(|(name, _, data_type)| (name, data_type)).collect();
            let from = VectorsFrom::Rows { source: at };
            let own = OwnView { column, view };
            Some((Embedding { name, entity, view: usize::MAX, from, vector, attributes, index }, Some(own)))
        }
        (None, Some(item)) => {
            let at = check_view_name(files, item, known)?;
            let view = &known.views[at];
            let is_right = check_entity(files, definition, (entity, view), known);
            let from = check_feature(files, definition, view, vector.as_ref(), known.broken);
            let (entity, index, vector, from) = (entity?, index?, vector?, from?);
            let attributes = Vec::new();
            is_right.then_some((Embedding { name, entity, view: at, from, vector, attributes, index }, None))
        }
        (Some(_), Some(item)) => {
            files.report("E0011", &item.place, "`source` and `view` exclude one another", None);
            None
        }
        (None, None) => {
            let message = format!("embedding `{name}` needs `source` or `view`: where its vectors come from");
            files.report("E0004", definition.place, message, None);
            None
        }
    }
}

fn check_view_name(files: &Files<'_>, item: &Item, known: &Namable<'_>) -> Option<usize> {
    let name = item.text()?;
    let found = known.views.iter().position(|view| view.name == name);
    // What is broken is told where it is declared.
    if found.is_none() && !known.broken.views.iter().any(|broken| broken == name) {
        let near = nearest(name, known.views.iter().map(|view| view.name.as_str()));
        files.report("E0007", &item.place, format!("unknown view `{}`", shortened(name)), near);
    }
    found
}

/// Whether the embedding is of its view's entity, and says nothing that only an embedding of a source can say.
fn check_entity(
    files: &Files<'_>,
    definition: &Definition<'_>,
    (entity, view): (Option<usize>, &View),
    known: &Namable<'_>,
) -> bool {
    let mut is_right = true;
    if let (Some(entity), Some(own)) = (entity, view.entity)
        && entity != own
    {
        let message = format!("view `{}` is of entity `{}`", view.name, known.entities[own].name);
        let place = definition.get("entity").map_or(definition.place, |item| &item.place);
        files.report("E0012", place, message, None);
        is_right = false;
    }
    if !definition.table("attributes").is_empty() {
        let message = "an embedding of a view has no attributes of its own: conditions name features of the entity";
        files.report("E0018", definition.key_place("attributes"), message, None);
        is_right = false;
    }
    is_right
}

/// A feature that is the vector.
fn check_feature(
    files: &Files<'_>,
    definition: &Definition<'_>,
    view: &View,
    vector: Option<&VectorRule>,
    broken: &Broken,
) -> Option<VectorsFrom> {
    let item = definition.get("vector")?;
    let (of, name) = (&view.name, item.text()?);
    let Some(feature) = view.plan.features.iter().position(|feature| feature.name == name) else {
        if view.derived.iter().any(|derived| derived.name == name) {
            let message = format!("`{name}` is derived; the vector is a feature with an aggregate");
            files.report("E0015", &item.place, message, None);
        } else if !broken.has(of, name) {
            let outputs = || view.outputs().map(|(name, _)| name);
            // A window may have been left out.
            let near = nearest(name, outputs()).or_else(|| outputs().find(|o| o.starts_with(name)).map(String::from));
            files.report("E0007", &item.place, format!("view `{of}` has no feature `{}`", shortened(name)), near);
        }
        return None;
    };
    let data_type = &view.feature_types[feature];
    if let Err(expected) = vector?.check_type(data_type) {
        files.report("E0015", &item.place, format!("{expected}, but `{name}` is {data_type}"), None);
        return None;
    }
    let plan = &view.plan.features[feature];
    if plan.include_request {
        let message = format!("`{name}` counts the row of a request, which a search does not have");
        files.report("E0015", &item.place, message, None);
        return None;
    }
    let is_joined = view.plan.cells[plan.cell].joined.is_some();
    let is_indexed = !is_joined && !matches!(plan.window, Window::Session(_));
    if !is_indexed && definition.get("index").is_some() {
        let why = if is_joined { "rows of tables go into it" } else { "a session is looked at event by event" };
        let message = format!("there is no index of `{name}`, since {why}; each search reads all records");
        files.report("E0018", definition.key_place("index"), message, None);
        return None;
    }
    Some(VectorsFrom::Feature { feature, is_indexed })
}

fn integer(definition: &Definition<'_>, key: &str) -> Option<i64> {
    match definition.get(key).map(|item| &item.value) {
        Some(ItemValue::Int(value)) => Some(*value),
        _ => None,
    }
}

fn check_vector(
    files: &Files<'_>,
    definition: &Definition<'_>,
    source: &Source,
    vector: Option<&VectorRule>,
) -> Option<usize> {
    let item = definition.get("vector")?;
    let name = item.text()?;
    let Some(column) = source.fields.iter().position(|(field, _)| field == name) else {
        let near = nearest(name, source.fields.iter().map(|(field, _)| field.as_str()));
        files.report("E0007", &item.place, format!("source `{}` has no column `{name}`", source.name), near);
        return None;
    };
    let (vector, data_type) = (vector?, &source.fields[column].1.data_type);
    match (vector.check_type(data_type), data_type) {
        (Ok(()), _) => Some(column),
        (Err(_), DataType::Vector(declared)) => {
            let message = format!("`dims` is {}, but column `{name}` is vector<{declared}>", vector.dims);
            files.report("E0012", &definition.get("dims")?.place, message, None);
            None
        }
        (Err(expected), other) => {
            files.report("E0015", &item.place, format!("{expected}, but `{name}` is {other}"), None);
            None
        }
    }
}

/// Names, columns and types of what may be filtered on.
type Attributes = Vec<(String, usize, DataType)>;

fn check_attributes(files: &Files<'_>, definition: &Definition<'_>, source: &Source) -> Option<Attributes> {
    let declared = definition.table("attributes");
    if declared.len() > ATTRIBUTES_MAX {
        let message = format!("more than {ATTRIBUTES_MAX} attributes");
        files.report("E0017", definition.key_place("attributes"), message, None);
        return None;
    }
    let mut attributes = Some(Vec::with_capacity(declared.len()));
    for (key, item) in declared {
        let name = &key.name;
        let Some(of) = item.text().and_then(parse_type) else {
            files.report("E0015", &item.place, format!("attribute `{name}` is of no known type"), None);
            attributes = None;
            continue;
        };
        let found = source.fields.iter().position(|(field, _)| field == name);
        let problem = match found.map(|at| &source.fields[at].1.data_type) {
            None => {
                let near = nearest(name, source.fields.iter().map(|(field, _)| field.as_str()));
                files.report("E0007", &key.place, format!("source `{}` has no column `{name}`", source.name), near);
                attributes = None;
                continue;
            }
            Some(data_type) if *data_type != of.data_type => {
                Some(format!("attribute `{name}` is {data_type} in source `{}`, not {}", source.name, of.data_type))
            }
            Some(DataType::List(_) | DataType::Vector(_) | DataType::Map(..)) => {
                Some(format!("attribute `{name}` is {}; attributes are single values", of.data_type))
            }
            Some(_) => None,
        };
        match (problem, &mut attributes) {
            (Some(message), _) => {
                files.report("E0015", &item.place, message, None);
                attributes = None;
            }
            (None, Some(list)) => list.push((name.clone(), found.unwrap_or(0), of.data_type)),
            (None, None) => {}
        }
    }
    attributes
}

fn check_index(files: &Files<'_>, definition: &Definition<'_>) -> Option<GraphShape> {
    let options = Definition { name: "index", place: definition.place, entries: definition.table("index") };
    let number = |key: &str| integer(&options, key).and_then(|value| usize::try_from(value).ok());
    let shape = GraphShape {
        m: number("m"),
        ef_construction: number("ef_construction"),
        ef_search: number("ef_search"),
        exact_below: number("exact_below"),
        rows: options.text("rows").map(|rows| if rows == "disk" { RowsIn::Disk } else { RowsIn::Memory }),
    };
    if let (Some(m), Some(ef)) = (shape.m, shape.ef_construction)
        && ef < m
    {
        let message = format!("`ef_construction` is {ef}; it is at least `m`, which is {m}");
        files.report("E0003", &options.get("ef_construction")?.place, message, None);
        return None;
    }
    Some(shape)
}

fn check_keys(
    files: &Files<'_>,
    definition: &Definition<'_>,
    source: &Source,
    entity: &Entity,
) -> Option<Vec<(String, usize, DataType)>> {
    let mut keys = Some(Vec::with_capacity(entity.keys.len()));
    for key in &entity.keys {
        let Some(at) = source.fields.iter().position(|(name, _)| name == key) else {
            let near = nearest(key, source.fields.iter().map(|(name, _)| name.as_str()));
            let message = format!("source `{}` has no column `{key}`, the key of the entity", source.name);
            files.report("E0012", definition.key_place("source"), message, near);
            keys = None;
            continue;
        };
        let data_type = source.fields[at].1.data_type.clone();
        if !key_type_fits(&data_type) {
            files.report("E0012", definition.key_place("entity"), format!("key `{key}` cannot be {data_type}"), None);
            keys = None;
        }
        if let Some(keys) = &mut keys {
            keys.push((key.clone(), at, data_type));
        }
    }
    keys
}

/// The view that keeps the vectors: the newest of each entity, with its attributes.
fn view_of(
    vector: &VectorRule,
    column: usize,
    (at, source): (usize, &Arc<Source>),
    keys: &[(String, usize, DataType)],
    attributes: &Attributes,
) -> View {
    let mut builder = Builder::of_table(Vec::new());
    let (name, field) = &source.fields[column];
    let columns = std::iter::once((Embedding::VECTOR, name.as_str(), column, &field.data_type));
    let attributes = attributes.iter().map(|(name, at, data_type)| (name.as_str(), name.as_str(), *at, data_type));
    for (number, (name, column, at, data_type)) in columns.chain(attributes).enumerate() {
        // An attribute may have the name of the vector.
        let name = if number == 0 { name.to_string() } else { format!("{name}@") };
        let newest = Edge { newest: true, k: 1, distinct: false };
        let id_type = source.event_id.map(|at| source.fields[at].1.data_type.clone());
        let aggregate = Aggregate { kind: Kind::One(newest), input: Some(data_type.clone()), second: None, id_type };
        builder.add_newest(name, Expression::column(column, at, data_type.clone()), aggregate, data_type.clone());
    }
    let name = Embedding::view_name(&vector.of);
    let names: Vec<String> = keys.iter().map(|(name, ..)| name.clone()).collect();
    let rule = vector.clone();
    let filter =
        Expression::test(&format!("{column} {vector:?}"), column, move |value| matches!(rule.read(value), Ok(Some(_))));
    let plan = builder.finish(ViewName::Vectors(&name, &filter.text), Some(source), &names);
    View {
        name,
        entity: None,
        keys: keys.iter().map(|(name, _, data_type)| (name.clone(), data_type.clone())).collect(),
        stream: Some(Stream {
            source: at,
            key_columns: keys.iter().map(|(_, at, _)| *at).collect(),
            joined_columns: 0,
            select: Vec::new(),
            filter: Some(filter),
            inputs: std::mem::take(&mut builder.inputs),
            filters: Vec::new(),
        }),
        plan: Arc::new(plan),
        feature_types: std::mem::take(&mut builder.types),
        derived: Vec::new(),
        request: Vec::new(),
        request_fields: builder.request_fields.iter().map(|_| Vec::new()).collect(),
    }
}
