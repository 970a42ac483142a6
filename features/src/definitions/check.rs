//! The check: from files to a `Registry`, or to all problems at once.
//!
//! First the shape of every file (keys, kinds of values), then each kind of definition in the order in which they refer to one
//! another: sources, entities, views with their features, derived features across views, services, sinks, embeddings.

use std::sync::Arc;

use super::DefinitionFile;
use super::derived::check_derived;
use super::document::{Files, Item, Key, Place};
use super::embeddings::{Namable, OwnView, check_embedding};
use super::features::check_view;
use super::grammar::{SECTIONS, check_table};
use super::model::{Entity, Registry, Service, Source, View, resolve_reference};
use super::sinks::{Known, check_sinks};
use super::sources::check_source;
use super::vectors::{Embedding, VectorColumn, VectorsFrom};
use crate::hash::hash_bytes;
use crate::problem::{Problem, nearest};

/// Definitions of one project: more is a mistake, or an attack.
const DEFINITIONS_MAX: usize = 10_000;

/// A named definition and its keys.
pub(super) struct Definition<'d> {
    pub name: &'d str,
    pub place: &'d Place,
    pub entries: &'d [(Key, Item)],
}

impl<'d> Definition<'d> {
    pub(super) fn get(&self, name: &str) -> Option<&'d Item> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, item)| item)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'d str> {
        self.get(name).and_then(Item::text)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name).map(|item| &item.value), Some(super::document::ItemValue::Bool(true)))
    }

    pub(super) fn table(&self, name: &str) -> &'d [(Key, Item)] {
        self.get(name).and_then(Item::table).unwrap_or(&[])
    }

    pub(super) fn duration(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| crate::time::parse_duration(text).ok())
    }

    pub(super) fn key_place(&self, name: &str) -> &'d Place {
        self.entries.iter().find(|(key, _)| key.name == name).map_or(self.place, |(key, _)| &key.place)
    }

    pub(super) fn of(key: &'d Key, item: &'d Item) -> Option<Self> {
        item.table().map(|entries| Definition { name: &key.name, place: &key.place, entries })
    }
}

/// What was reported where it is declared, so that its uses need not be reported too.
#[derive(Default)]
pub(super) struct Broken {
    pub views: Vec<String>,
    /// view and key; windows are expanded out of the key
    pub features: Vec<(String, String)>,
}

impl Broken {
    pub(super) fn has(&self, view: &str, feature: &str) -> bool {
        let expanded =
            |key: &str| feature.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        self.views.iter().any(|v| v == view) || self.features.iter().any(|(v, key)| v == view && expanded(key))
    }
}

/// What is accepted but cannot run yet.
pub(super) type NotReady = Vec<String>;

/// Checks all definition files of a project together.
pub fn check(files: &[DefinitionFile]) -> Result<Registry, Vec<Problem>> {
    let context = Files::new(files);
    let trees: Vec<Vec<(Key, Item)>> = (0..files.len()).map(|file| context.parse(file)).collect();
    let sections = SECTIONS.map(|(section, _)| definitions(&context, &trees, section));
    check_shapes(&context, &trees);
    let [sources, entities, views, embeddings, services, sinks] = &sections;
    let mut not_ready = NotReady::new();

    let mut sources: Vec<Arc<Source>> =
        sources.iter().map(|d| Arc::new(check_source(&context, d, &mut not_ready))).collect();
    let entities: Vec<Entity> = entities.iter().map(|d| check_entity(&context, d)).collect();
    let mut checked_views = Vec::new();
    let (mut hidden_views, mut broken) = (Vec::new(), Broken::default());
    for definition in views {
        match check_view(&context, definition, &sources, &entities, &mut hidden_views, &mut broken) {
            Some(view) => checked_views.push(view),
            None => broken.views.push(definition.name.to_string()),
        }
    }
    check_derived(&context, views, &mut checked_views, &mut broken);
    let outputs: Vec<(&str, Vec<&str>)> =
        checked_views.iter().map(|v| (v.name.as_str(), v.outputs().map(|(name, _)| name).collect())).collect();
    let service_names = services.iter().map(|d| d.name).collect();
    let services: Vec<Service> =
        services.iter().filter_map(|d| check_service(&context, d, &outputs, &broken)).collect();
    let known = Known { sources: &sources, views: &checked_views, services: &services, service_names, broken: &broken };
    let sinks = check_sinks(&context, sinks, &known);
    let known = Namable { sources: &sources, entities: &entities, views: &checked_views, broken: &broken };
    let embeddings: Vec<(Embedding, Option<OwnView>)> =
        embeddings.iter().filter_map(|d| check_embedding(&context, d, &known)).collect();

    if context.any_problems() {
        return Err(context.into_problems());
    }
    let mut views: Vec<Arc<View>> = checked_views.into_iter().chain(hidden_views).map(Arc::new).collect();
    let embeddings: Vec<Embedding> =
        embeddings.into_iter().map(|found| placed(found, &mut views, &mut sources)).collect();
    let hash = project_hash(&views, &services, &embeddings);
    Ok(Registry { sources, entities, views, embeddings, services, sinks, hash, not_ready })
}

/// An embedding that knows its view, and is known to its source.
fn placed(
    (mut embedding, own): (Embedding, Option<OwnView>),
    views: &mut Vec<Arc<View>>,
    sources: &mut [Arc<Source>],
) -> Embedding {
    if let (Some(OwnView { column, view }), VectorsFrom::Rows { source }) = (own, embedding.from) {
        embedding.view = views.len();
        views.push(Arc::new(view));
        let source = Arc::get_mut(&mut sources[source]).expect("views know their source by its place");
        source.vectors.push(VectorColumn { column, rule: embedding.vector.clone() });
    }
    embedding
}

/// The hash of everything that decides an answer: files may be moved and reformatted freely.
fn project_hash(views: &[Arc<View>], services: &[Service], embeddings: &[Embedding]) -> u64 {
    let mut text = String::new();
    for view in views {
        text.push_str(&format!("view {} {:x}\n", view.name, view.plan.hash));
    }
    for service in services {
        text.push_str(&format!("service {} {:?}\n", service.name, service.features));
    }
    // The others are views of their own.
    for Embedding { name, view, from, vector, .. } in embeddings {
        if let VectorsFrom::Feature { feature, .. } = from {
            let view = &views[*view];
            let feature = &view.plan.features[*feature].name;
            text.push_str(&format!("embedding {name} {}:{feature} {vector:?}\n", view.name));
        }
    }
    hash_bytes(text.as_bytes())
}

/// All definitions of a section over all files: one flat namespace a kind.
fn definitions<'d>(files: &Files<'_>, trees: &'d [Vec<(Key, Item)>], section: &str) -> Vec<Definition<'d>> {
    let mut found: Vec<Definition<'d>> = Vec::new();
    let tables = trees.iter().flatten().filter(|(key, _)| key.name == section);
    let tables = tables.flat_map(|(_, item)| item.table().unwrap_or(&[]));
    for (key, item) in tables.take_while(|_| !files.is_full()) {
        if found.len() >= DEFINITIONS_MAX {
            files.report("E0017", &key.place, format!("more than {DEFINITIONS_MAX} definitions of {section}"), None);
            break;
        }
        check_name(files, key);
        let Some(definition) = Definition::of(key, item) else { continue };
        if let Some(other) = found.iter().find(|d| d.name == key.name) {
            let place = &files.files[other.place.file].path;
            files.report("E0006", &key.place, format!("{section} `{}` is defined in {place} already", key.name), None);
            continue;
        }
        found.push(definition);
    }
    found
}

pub(super) fn check_name(files: &Files<'_>, key: &Key) {
    let name = &key.name;
    if !is_name(name) {
        let message =
            format!("`{}` is not a name: small letters, digits and _, a letter first, at most 63", shortened(name));
        files.report("E0005", &key.place, message, None);
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(tail)
}

pub(super) fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

fn check_shapes(files: &Files<'_>, trees: &[Vec<(Key, Item)>]) {
    for (key, item) in trees.iter().flatten().take_while(|_| !files.is_full()) {
        let Some((section, fields)) = SECTIONS.iter().find(|(section, _)| *section == key.name) else {
            let near = nearest(&key.name, SECTIONS.iter().map(|(section, _)| *section));
            files.report("E0002", &key.place, format!("unknown section `{}`", shortened(&key.name)), near);
            continue;
        };
        let Some(entries) = item.table() else {
            files.report("E0003", &item.place, format!("`{section}` holds tables: [{section}.NAME]"), None);
            continue;
        };
        for (name, item) in entries {
            match item.table() {
                Some(entries) => check_table(files, fields, &name.place, &format!("{section}.{}", name.name), entries),
                None => files.report("E0003", &item.place, format!("[{section}.{}] is a table", name.name), None),
            }
        }
    }
}

fn check_entity(files: &Files<'_>, definition: &Definition<'_>) -> Entity {
    let keys = check_entity_keys(files, definition).unwrap_or_default();
    Entity { name: definition.name.to_string(), keys }
}

fn check_entity_keys(files: &Files<'_>, definition: &Definition<'_>) -> Option<Vec<String>> {
    let keys: Vec<(String, Place)> = match (definition.get("key"), definition.get("keys")) {
        (Some(key), None) => vec![(key.text()?.to_string(), key.place.clone())],
        (None, Some(keys)) => match &keys.value {
            super::document::ItemValue::Array(list) => {
                list.iter().filter_map(|item| Some((item.text()?.to_string(), item.place.clone()))).collect()
            }
            _ => return None,
        },
        (None, None) => {
            files.report(
                "E0004",
                definition.place,
                format!("entity `{}` needs `key` or `keys`", definition.name),
                None,
            );
            return None;
        }
        (Some(_), Some(keys)) => {
            files.report("E0011", &keys.place, "`key` and `keys` exclude one another", None);
            return None;
        }
    };
    if keys.is_empty() || keys.len() > 16 {
        files.report("E0012", definition.place, "an entity has 1 to 16 key columns", None);
        return None;
    }
    for (i, (key, place)) in keys.iter().enumerate() {
        if keys[..i].iter().any(|(other, _)| other == key) {
            files.report("E0012", place, format!("key column `{key}` twice"), None);
        }
    }
    Some(keys.into_iter().map(|(key, _)| key).collect())
}

/// Features that one service may have: an answer has a column for each.
const SERVICE_FEATURES_MAX: usize = 5_000;

fn check_service(
    files: &Files<'_>,
    definition: &Definition<'_>,
    outputs: &[(&str, Vec<&str>)],
    broken: &Broken,
) -> Option<Service> {
    let item = definition.get("features")?;
    let super::document::ItemValue::Array(list) = &item.value else { return None };
    let mut features = Vec::new();
    for item in list {
        let Some(text) = item.text() else { continue };
        match resolve_reference(text, outputs) {
            Ok(found) => {
                for id in found {
                    if features.contains(&id) {
                        files.report(
                            "E0013",
                            &item.place,
                            format!("`{text}` gives a feature that is there already"),
                            None,
                        );
                        break;
                    }
                    features.push(id);
                }
            }
            Err(_) if text.split_once(':').is_some_and(|(view, feature)| broken.has(view, feature)) => {}
            Err((message, near)) => files.report("E0007", &item.place, message, near),
        }
    }
    if list.is_empty() || features.len() > SERVICE_FEATURES_MAX {
        files.report("E0017", &item.place, format!("a service has 1 to {SERVICE_FEATURES_MAX} features"), None);
    }
    let owner = definition.text("owner").map(str::to_string);
    Some(Service { name: definition.name.to_string(), owner, features })
}
