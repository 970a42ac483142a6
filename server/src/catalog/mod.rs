//! The catalog: what is declared, shown to people and programs.
//!
//! `project` finds and reads definition files; the rest turns a `Registry` into summaries, JSON and lineage.

pub mod project;

use serde_json::{Value as Json, json};
use tidemill_features::definitions::{
    Connector, Input, OutputId, Published, Registry, Sink, Source, VectorRule, VectorsFrom, View,
};
use tidemill_features::plan::Window;
use tidemill_features::problem::nearest;
use tidemill_features::time::{duration_text, rfc3339};
use tidemill_features::value::DataType;

use crate::failure::Failure;
use tidemill_features::service::ReadPlan;

/// Kinds of definitions, in the order in which they are listed.
pub const KINDS: [&str; 6] = ["source", "entity", "view", "embedding", "service", "sink"];

/// A definition in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// one of `KINDS`
    pub kind: &'static str,
    /// as declared
    pub name: String,
    /// for people
    pub summary: String,
}

/// All definitions, or those of one kind.
pub fn list(registry: &Registry, kind: &str) -> Result<Vec<Entry>, Failure> {
    if !kind.is_empty() && !KINDS.contains(&kind) {
        let near = nearest(kind, KINDS);
        return Err(Failure::unknown("E2030", format!("unknown kind `{kind}`; kinds are {}", KINDS.join(", ")), near));
    }
    let entry = |kind, name: &str, summary| Entry { kind, name: name.to_string(), summary };
    let mut entries = Vec::new();
    for source in &registry.sources {
        entries.push(entry("source", &source.name, format!("{}, {} columns", connector(source), source.fields.len())));
    }
    for e in &registry.entities {
        entries.push(entry("entity", &e.name, format!("key {}", e.keys.join(", "))));
    }
    for view in registry.views.iter().filter(|view| view.is_declared()) {
        let (features, derived) = (view.plan.features.len(), view.derived.len());
        let of = view.stream.as_ref().map_or("request".to_string(), |s| registry.sources[s.source].name.clone());
        let entity = entity_name(registry, view);
        entries.push(entry(
            "view",
            &view.name,
            format!("{features} features and {derived} derived of {entity} from {of}"),
        ));
    }
    for embedding in &registry.embeddings {
        let VectorRule { dims, metric, .. } = &embedding.vector;
        let (entity, metric) = (&registry.entities[embedding.entity].name, metric.name());
        entries.push(entry("embedding", &embedding.name, format!("vectors of {entity}, {dims} numbers, {metric}")));
    }
    for service in &registry.services {
        let owner = service.owner.as_ref().map(|o| format!(", owner {o}")).unwrap_or_default();
        entries.push(entry("service", &service.name, format!("{} features{owner}", service.features.len())));
    }
    for sink in &registry.sinks {
        let (kind, name) = published(sink);
        entries.push(entry("sink", &sink.name, format!("{kind} {name} to topic {}", sink.topic)));
    }
    entries.retain(|e| kind.is_empty() || e.kind == kind);
    Ok(entries)
}

/// What a sink publishes: kind and name.
fn published(sink: &Sink) -> (&'static str, &str) {
    match &sink.of {
        Published::Service(name) => ("service", name),
        Published::View(name) => ("view", name),
    }
}

fn sink_json(registry: &Registry, sink: &Sink) -> Json {
    let (kind, name) = published(sink);
    let features: Vec<String> = sink.features.iter().map(|id| registry.reference(*id)).collect();
    let read: Vec<&str> = sink.views.iter().map(|view| registry.views[*view].name.as_str()).collect();
    let keys: Vec<&str> = registry.views[sink.views[0]].keys.iter().map(|(key, _)| key.as_str()).collect();
    json!({ "publishes": { "kind": kind, "name": name }, "connector": "kafka", "topic": sink.topic,
            "every": duration_text(sink.every), "keys": keys, "features": features, "changed_by": read })
}

fn connector(source: &Source) -> &'static str {
    match source.connector {
        Connector::Push => "push",
        Connector::File { .. } => "file",
        Connector::Kafka(_) => "kafka",
    }
}

/// One definition with its lineage. An empty kind takes the first definition of that name.
pub fn show(registry: &Registry, kind: &str, name: &str) -> Result<(Entry, Json), Failure> {
    if kind == "feature" || (kind.is_empty() && name.contains(':')) {
        return feature(registry, name);
    }
    let entries = list(registry, kind)?;
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        let view = Some(name).filter(|name| kind == "service" && registry.view(name).is_some());
        let near = view.map(|name| format!("{name}:*"));
        let near = near.or_else(|| nearest(name, entries.iter().map(|entry| entry.name.as_str())));
        let what = if kind.is_empty() { "definition" } else { kind };
        return Err(Failure::unknown("E2031", format!("unknown {what} `{}`", crate::failure::shortened(name)), near));
    };
    let json = match entry.kind {
        "source" => registry.source(name).map(|at| source_json(registry, at)),
        "view" => registry.view(name).map(|at| view_json(registry, at)),
        "service" => registry.services.iter().find(|s| s.name == name).map(|service| {
            let features: Vec<String> = service.features.iter().map(|id| registry.reference(*id)).collect();
            let (keys, request) = ReadPlan::of_service(registry, name).map(|plan| needs(&plan)).unwrap_or_default();
            let is_of = |sink: &&Sink| published(sink) == ("service", name);
            let sinks: Vec<&str> = registry.sinks.iter().filter(is_of).map(|sink| sink.name.as_str()).collect();
            json!({ "owner": service.owner, "features": features, "keys": keys, "request": request, "sinks": sinks })
        }),
        "sink" => registry.sinks.iter().find(|sink| sink.name == name).map(|sink| sink_json(registry, sink)),
        "entity" => registry.entities.iter().position(|e| e.name == name).map(|at| {
            let views: Vec<&str> =
                registry.views.iter().filter(|v| v.entity == Some(at)).map(|v| v.name.as_str()).collect();
            json!({ "keys": registry.entities[at].keys, "views": views })
        }),
        "embedding" => registry.embedding(name).map(|at| embedding_json(registry, at)),
        _ => Some(json!({})),
    };
    let mut json = json.unwrap_or_default();
    (json["kind"], json["name"]) = (json!(entry.kind), json!(name));
    Ok((entry.clone(), json))
}

/// What a read of these features needs: keys and request values with their types.
fn needs(plan: &ReadPlan) -> (Json, Json) {
    let names = |list: &[(String, DataType)]| -> Json {
        list.iter().map(|(name, data_type)| (name.clone(), json!(data_type.to_string()))).collect()
    };
    (names(&plan.keys), names(&plan.request))
}

/// One feature, or all of a view: `view:feature`, `view:*`.
fn feature(registry: &Registry, reference: &str) -> Result<(Entry, Json), Failure> {
    let plan = ReadPlan::of_references(registry, &[reference.to_string()])?;
    let (keys, request) = needs(&plan);
    let features: serde_json::Map<String, Json> =
        plan.columns.iter().map(|(name, data_type)| (name.clone(), json!(data_type.to_string()))).collect();
    let summary = plan.columns.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect::<Vec<_>>();
    let entry = Entry { kind: "feature", name: reference.to_string(), summary: summary.join(", ") };
    let json = json!({ "kind": "feature", "name": reference, "features": features, "keys": keys, "request": request });
    Ok((entry, json))
}

fn embedding_json(registry: &Registry, at: usize) -> Json {
    let embedding = &registry.embeddings[at];
    let view = &registry.views[embedding.view];
    let types = |list: &[(String, DataType)]| -> serde_json::Map<String, Json> {
        list.iter().map(|(name, data_type)| (name.clone(), json!(data_type.to_string()))).collect()
    };
    let (from, of, vector) = match embedding.from {
        VectorsFrom::Rows { source } => {
            let source = &registry.sources[source];
            let column = source.vectors.iter().find(|vector| vector.rule.of == embedding.name);
            ("source", &source.name, column.map(|vector| &source.fields[vector.column].0))
        }
        VectorsFrom::Feature { feature, .. } => ("view", &view.name, Some(&view.plan.features[feature].name)),
    };
    let mut json = json!({
        "entity": registry.entities[embedding.entity].name, "keys": types(&view.keys), "vector": vector,
        "dims": embedding.vector.dims, "metric": embedding.vector.metric.name(),
        "attributes": types(&embedding.attributes), "indexed": embedding.is_indexed(),
    });
    json[from] = json!(of);
    json
}

fn source_json(registry: &Registry, at: usize) -> Json {
    let source = &registry.sources[at];
    let fields: serde_json::Map<String, Json> =
        source.fields.iter().map(|(name, field)| (name.clone(), json!(field.data_type.to_string()))).collect();
    let feeds =
        |view: &&std::sync::Arc<View>| view.is_declared() && view.stream.as_ref().is_some_and(|s| s.source == at);
    let views: Vec<&str> = registry.views.iter().filter(feeds).map(|v| v.name.as_str()).collect();
    json!({
        "connector": connector(source), "kind": if source.is_table { "table" } else { "stream" }, "fields": fields, "event_time": source.fields[source.event_time].0,
        "event_id": source.event_id.map(|at| &source.fields[at].0), "max_future_skew": duration_text(source.max_future_skew),
        "dedup_horizon": duration_text(source.dedup_horizon), "views": views, "assumed_delay": duration_text(source.assumed_delay),
        "topics": match &source.connector { Connector::Kafka(kafka) => json!(kafka.topics), _ => Json::Null },
        "history": source.history.as_ref().map(|history| json!({ "path": history.path, "until": history.until.map(rfc3339) })),
    })
}

fn view_json(registry: &Registry, at: usize) -> Json {
    let view = &registry.views[at];
    let features: Vec<Json> = view
        .plan
        .features
        .iter()
        .zip(&view.feature_types)
        .map(|(feature, data_type)| {
            json!({ "name": feature.name, "type": data_type.to_string(), "window": window(&feature.window),
                    "aggregate": format!("{:?}", view.plan.cells[feature.cell].aggregate.kind) })
        })
        .collect();
    let derived: Vec<Json> = view
        .derived
        .iter()
        .map(|derived| {
            let inputs: Vec<String> = derived
                .inputs
                .iter()
                .map(|input| match input {
                    Input::Output(id) => registry.reference(*id),
                    Input::Request(name) => format!("request.{name}"),
                    Input::Lookup(id, key) => format!("lookup('{}', {})", registry.reference(*id), key.text),
                })
                .collect();
            json!({ "name": derived.name, "type": derived.data_type.to_string(),
                    "expression": derived.expression.text, "inputs": inputs })
        })
        .collect();
    let used: Vec<&str> = registry
        .services
        .iter()
        .filter(|s| s.features.iter().any(|OutputId { view, .. }| *view == at))
        .map(|s| s.name.as_str())
        .collect();
    json!({
        "entity": entity_name(registry, view), "keys": view.keys.iter().map(|(k, _)| k).collect::<Vec<_>>(),
        "source": view.stream.as_ref().map(|s| &registry.sources[s.source].name), "features": features,
        "derived": derived, "services": used, "hash": format!("{:016x}", view.plan.hash),
    })
}

fn entity_name<'r>(registry: &'r Registry, view: &View) -> &'r str {
    view.entity.map_or("", |at| &registry.entities[at].name)
}

fn window(window: &Window) -> String {
    match window {
        Window::Sliding { width, hop: None } => duration_text(*width),
        Window::Sliding { width, hop: Some(hop) } => format!("{} by {}", duration_text(*width), duration_text(*hop)),
        Window::Lifetime => "lifetime".to_string(),
        Window::LastN(n) => format!("last {n}"),
        Window::Tumbling(width) => format!("tumbling({})", duration_text(*width)),
        Window::Calendar(unit, zone) => {
            format!("calendar({unit:?}, {})", zone.iana_name().unwrap_or("?")).to_lowercase()
        }
        Window::Session(gap) => format!("session({})", duration_text(*gap)),
    }
}
