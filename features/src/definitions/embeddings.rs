//! Checking embeddings: collections of vectors, the newest of each entity, whose neighbours can be searched.
//!
//! The vectors are kept by a view of their own, as the rows of a table are: the newest row of an entity counts, and one without
//! a vector that fits says "nothing here". So they share records, commits and positions with features, and a read as of a past
//! moment is the read of any feature.

use std::sync::Arc;

use super::builder::{Builder, ViewName};
use super::check::Definition;
use super::document::{Files, ItemValue};
use super::model::{Embedding, Entity, GraphShape, Metric, RowsIn, Source, Stream, VectorColumn, View};
use super::sources::{key_type_fits, reference};
use super::types::parse_type;
use crate::aggregates::{Aggregate, Edge, Kind};
use crate::expression::Expression;
use crate::problem::nearest;
use crate::value::{DataType, Value};

/// Attributes of a collection: each is in memory once for every vector.
const ATTRIBUTES_MAX: usize = 64;
/// Length of a vector, as the shape of files has it.
const DIMS_MAX: usize = 8_192;
/// Size of a component: squares of it, summed over all components, stay within 32-bit floats.
const COMPONENT_MAX: f64 = 1e15;

impl Embedding {
    /// The name of the feature that is the vector.
    pub const VECTOR: &'static str = "vector";

    /// The name of the view that keeps the vectors of an embedding. No user's view has an `@`, and no table has an empty name.
    fn view_name(name: &str) -> String {
        format!("@{name}")
    }

    /// Of a view that keeps vectors, the name of the embedding.
    pub fn of_view(view: &str) -> Option<&str> {
        view.strip_prefix('@')
    }
}

impl VectorColumn {
    /// Whether a value is a vector of the collection; None: there is none. The error says what is wrong.
    ///
    /// A list is as it is; text is a JSON array of numbers; bytes are 32-bit floats, little-endian (in JSON they stand as base64).
    pub fn read(&self, value: &Value<'_>) -> Result<Option<Vec<f32>>, String> {
        match value {
            Value::Null => Ok(None),
            Value::List(items) => {
                let number = |item: &Value<'_>| if let Value::Float64(x) = item { Some(*x) } else { None };
                self.checked(items.len(), items.iter().map(number)).map(Some)
            }
            Value::Text(text) => {
                let numbers: Vec<Option<f64>> =
                    serde_json::from_str(text).map_err(|_| "text that is no JSON array of numbers".to_string())?;
                self.checked(numbers.len(), numbers.into_iter()).map(Some)
            }
            Value::Bytes(bytes) => match bytes.as_chunks::<4>() {
                (numbers, []) => {
                    let number = |bytes: &[u8; 4]| Some(f64::from(f32::from_le_bytes(*bytes)));
                    self.checked(numbers.len(), numbers.iter().map(number)).map(Some)
                }
                _ => Err(format!("{} bytes, which are no 32-bit floats", bytes.len())),
            },
            _ => Err("not a vector".to_string()),
        }
    }

    fn checked(&self, length: usize, numbers: impl Iterator<Item = Option<f64>>) -> Result<Vec<f32>, String> {
        if length != self.dims {
            return Err(format!("a vector of {length} numbers, and embedding `{}` takes {}", self.of, self.dims));
        }
        let mut vector = Vec::with_capacity(length);
        for (at, number) in numbers.enumerate() {
            match number {
                Some(x) if x.abs() <= COMPONENT_MAX => vector.push(x as f32),
                Some(x) if x.is_finite() => {
                    return Err(format!("component {at} of the vector is {x}; at most {COMPONENT_MAX:e}"));
                }
                Some(x) => return Err(format!("component {at} of the vector is {x}, not a finite number")),
                None => return Err(format!("component {at} of the vector is null")),
            }
        }
        if self.metric == Metric::Cosine && vector.iter().all(|x| *x == 0.0) {
            return Err(format!("the vector has length zero, and embedding `{}` compares by cosine", self.of));
        }
        Ok(vector)
    }
}

/// An embedding, and the view that keeps its vectors, if both are right.
pub(super) fn check_embedding(
    files: &Files<'_>,
    definition: &Definition<'_>,
    sources: &[Arc<Source>],
    entities: &[Entity],
) -> Option<(Embedding, View)> {
    let entity = reference(files, definition, "entity", entities, |e| &e.name);
    let at = reference(files, definition, "source", sources, |s| &s.name);
    let metric = match definition.text("metric") {
        Some("dot") => Metric::Dot,
        Some("l2") => Metric::L2,
        _ => Metric::Cosine,
    };
    let index = check_index(files, definition);
    let source = &sources[at?];
    // Other numbers were reported with the shape of the file.
    let dims = usize::try_from(integer(definition, "dims")?).ok().filter(|dims| (1..=DIMS_MAX).contains(dims))?;
    let column = check_vector(files, definition, source, dims);
    let attributes = check_attributes(files, definition, source);
    let (entity, column, attributes, index) = (entity?, column?, attributes?, index?);
    let keys = check_keys(files, definition, source, &entities[entity])?;
    let vector = VectorColumn { of: definition.name.to_string(), column, dims, metric };
    let view = view_of(&vector, (at?, source), &keys, &attributes);
    let attributes = attributes.into_iter().map(|(name, _, data_type)| (name, data_type)).collect();
    let name = definition.name.to_string();
    Some((Embedding { name, entity, source: at?, view: usize::MAX, vector, attributes, index }, view))
}

fn integer(definition: &Definition<'_>, key: &str) -> Option<i64> {
    match definition.get(key).map(|item| &item.value) {
        Some(ItemValue::Int(value)) => Some(*value),
        _ => None,
    }
}

fn check_vector(files: &Files<'_>, definition: &Definition<'_>, source: &Source, dims: usize) -> Option<usize> {
    let item = definition.get("vector")?;
    let name = item.text()?;
    let Some(column) = source.fields.iter().position(|(field, _)| field == name) else {
        let near = nearest(name, source.fields.iter().map(|(field, _)| field.as_str()));
        files.report("E0007", &item.place, format!("source `{}` has no column `{name}`", source.name), near);
        return None;
    };
    match &source.fields[column].1.data_type {
        DataType::Vector(declared) if *declared as usize == dims => Some(column),
        DataType::Vector(declared) => {
            let message = format!("`dims` is {dims}, but column `{name}` is vector<{declared}>");
            files.report("E0012", &definition.get("dims")?.place, message, None);
            None
        }
        DataType::List(items) if matches!(**items, DataType::Float32 | DataType::Float64) => Some(column),
        DataType::Text | DataType::Bytes => Some(column),
        other => {
            let message = format!(
                "the vector is a column of type vector<{dims}> or list<float32>, a string (a JSON array) or bytes (32-bit floats, little-endian), but `{name}` is {other}"
            );
            files.report("E0015", &item.place, message, None);
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
    vector: &VectorColumn,
    (at, source): (usize, &Arc<Source>),
    keys: &[(String, usize, DataType)],
    attributes: &Attributes,
) -> View {
    let mut builder = Builder::of_table(Vec::new());
    let (column, of_vector) = (&source.fields[vector.column].0, &source.fields[vector.column].1.data_type);
    let columns = std::iter::once((Embedding::VECTOR, column.as_str(), vector.column, of_vector));
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
        Expression::test(&format!("{vector:?}"), vector.column, move |value| matches!(rule.read(value), Ok(Some(_))));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_text_and_bytes_are_the_same_vectors() {
        let rule = VectorColumn { of: "m".to_string(), column: 0, dims: 3, metric: Metric::Cosine };
        let bytes =
            |numbers: &[f32]| Value::Bytes(numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into());
        let list = |numbers: &[f64]| Value::List(numbers.iter().copied().map(Value::Float64).collect());
        let same = [list(&[1.5, -2.0, 1e-3]), Value::text(" [1.5, -2, 0.001]\n"), bytes(&[1.5, -2.0, 1e-3])];
        for value in same {
            assert_eq!(rule.read(&value), Ok(Some(vec![1.5, -2.0, 1e-3])));
        }
        assert_eq!(rule.read(&Value::Null), Ok(None));
        for (value, reason) in [
            (Value::text("[1, 2]"), "a vector of 2 numbers, and embedding `m` takes 3"),
            (Value::text("[1, null, 3]"), "component 1 of the vector is null"),
            (Value::text("[1, 1e16, 3]"), "component 1 of the vector is 10000000000000000; at most 1e15"),
            (Value::text("[0, 0, 0]"), "length zero"),
            (Value::text("[1, 1e400, 3]"), "no JSON array of numbers"),
            (Value::text("[1, NaN, 3]"), "no JSON array of numbers"),
            (Value::text("1, 2, 3"), "no JSON array of numbers"),
            (Value::text(""), "no JSON array of numbers"),
            (bytes(&[1.0, 2.0]), "a vector of 2 numbers"),
            (bytes(&[1.0, f32::NAN, 2.0]), "component 1 of the vector is NaN, not a finite number"),
            (bytes(&[1.0, 2.0, f32::INFINITY]), "component 2 of the vector is inf"),
            (Value::Bytes(vec![0; 13].into()), "13 bytes, which are no 32-bit floats"),
            (Value::Int64(3), "not a vector"),
        ] {
            let said = rule.read(&value).unwrap_err();
            assert!(said.contains(reason), "{value:?}: {said}");
        }
    }
}
