//! Checking sinks: the values of a service or a view that are sent to a topic as they change.
//!
//! A message has the key of one entity and is sent when an event changes a record of that entity. So what is published must be of
//! one entity, know everything without a request, and come from events.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::check::{Broken, Definition, shortened};
use super::document::{Files, Item};
use super::kafka::topic;
use super::model::{Connector, Input, OutputId, Service, Source, View};
use crate::hash::hash_bytes;
use crate::problem::nearest;
use crate::time::{HOUR, SECOND};

/// Where values go as they change.
#[derive(Debug)]
pub struct Sink {
    /// as declared
    pub name: String,
    /// a topic, which should be compacted
    pub topic: String,
    /// changes of an entity within so many microseconds are one message
    pub every: i64,
    /// what is published
    pub of: Published,
    /// in order
    pub features: Vec<OutputId>,
    /// places of the views whose records the values come from, ascending: a change of one is a change of the entity
    pub views: Vec<usize>,
    /// hash of everything that decides a value: where it changes, all that was published before is of the past
    pub hash: u64,
}

/// What a sink publishes, as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// the features of a service
    Service(String),
    /// all features of a view
    View(String),
}

/// Sinks of a project: each has a thread and connections to all brokers.
const SINKS_MAX: usize = 64;
const MILLISECOND: i64 = SECOND / 1_000;
/// Changes of an entity within this are one message, where nothing is declared: few messages for a busy entity, and still soon.
const EVERY: i64 = 100 * MILLISECOND;
/// The longest time that may be declared; what changes more seldom is a snapshot.
const EVERY_MAX: i64 = HOUR;

/// What sinks are checked against.
pub(super) struct Known<'k> {
    pub sources: &'k [Arc<Source>],
    pub views: &'k [View],
    pub services: &'k [Service],
    /// names of services as they are declared, broken or not
    pub service_names: Vec<&'k str>,
    pub broken: &'k Broken,
}

pub(super) fn check_sinks(files: &Files<'_>, definitions: &[Definition<'_>], known: &Known<'_>) -> Vec<Sink> {
    let mut sinks: Vec<Sink> = Vec::new();
    if let Some(first) = definitions.get(SINKS_MAX) {
        files.report("E0017", first.place, format!("more than {SINKS_MAX} sinks"), None);
    }
    for definition in definitions.iter().take(SINKS_MAX) {
        let name = definition.get("topic").and_then(|item| topic(files, item));
        if let (Some(item), Some(name)) = (definition.get("topic"), &name) {
            check_topic_is_free(files, item, name, (&sinks, known.sources));
        }
        let every = check_every(files, definition);
        let published = check_published(files, definition, known);
        let (Some(topic), Some((of, features, reach))) = (name, published) else { continue };
        let views = reach.read.into_iter().collect();
        let hash = hash_of(&features, &reach.touched, known.views);
        sinks.push(Sink { name: definition.name.to_string(), topic, every, of, features, views, hash });
    }
    sinks
}

/// What else goes into the topic or comes out of it.
fn check_topic_is_free(files: &Files<'_>, item: &Item, name: &str, (sinks, sources): (&[Sink], &[Arc<Source>])) {
    if let Some(other) = sinks.iter().find(|other| other.topic == name) {
        let message =
            format!("topic `{name}` is that of sink `{}`, and their keys would mix: name another", other.name);
        files.report("E0012", &item.place, message, None);
    }
    for source in sources {
        let Connector::Kafka(kafka) = &source.connector else { continue };
        if kafka.topics.iter().any(|topic| topic == name) {
            let message = format!("source `{}` reads topic `{name}`, and would read what is published", source.name);
            files.report("E0012", &item.place, message, None);
        }
        if kafka.dead_letter_topic.as_deref() == Some(name) {
            let message = format!("bad events of source `{}` go into topic `{name}`: name another", source.name);
            files.report("E0012", &item.place, message, None);
        }
    }
}

fn check_every(files: &Files<'_>, definition: &Definition<'_>) -> i64 {
    let Some(every) = definition.duration("every") else { return EVERY };
    if let Some(item) = definition.get("every").filter(|_| !(MILLISECOND..=EVERY_MAX).contains(&every)) {
        files.report("E0011", &item.place, "`every` is from 1ms to 1h", None);
    }
    every
}

/// What a sink publishes, its features, and what they come from.
fn check_published(
    files: &Files<'_>,
    definition: &Definition<'_>,
    known: &Known<'_>,
) -> Option<(Published, Vec<OutputId>, Reach)> {
    let (item, of, features) = match (definition.get("service"), definition.get("view")) {
        (Some(item), None) => {
            let name = item.text()?;
            if !known.service_names.contains(&name) {
                let near = nearest(name, known.service_names.iter().copied());
                files.report("E0007", &item.place, format!("unknown service `{}`", shortened(name)), near);
            }
            let service = known.services.iter().find(|service| service.name == name)?;
            (item, Published::Service(name.to_string()), service.features.clone())
        }
        (None, Some(item)) => {
            let name = item.text()?;
            let Some(view) = known.views.iter().position(|view| view.name == name) else {
                if !known.broken.views.iter().any(|broken| broken == name) {
                    let near = nearest(name, known.views.iter().map(|view| view.name.as_str()));
                    files.report("E0007", &item.place, format!("unknown view `{}`", shortened(name)), near);
                }
                return None;
            };
            let outputs = (0..known.views[view].outputs().count()).map(|output| OutputId { view, output });
            (item, Published::View(name.to_string()), outputs.collect())
        }
        (Some(_), Some(item)) => {
            files.report("E0011", &item.place, "`service` and `view` exclude one another", None);
            return None;
        }
        (None, None) => {
            let message = format!("sink `{}` needs `service` or `view`: what is published", definition.name);
            files.report("E0004", definition.place, message, None);
            return None;
        }
    };
    let reach = Reach::of(&features, known.views);
    if let Some(why) = reach.refusal(known.views) {
        let what = match &of {
            Published::Service(name) => format!("service `{name}`"),
            Published::View(name) => format!("view `{name}`"),
        };
        // What is broken elsewhere is told there, and may be all that is missing here.
        if !reach.read.is_empty() || !files.any_problems() {
            files.report("E0023", &item.place, format!("{what} cannot be published: {why}"), None);
        }
    }
    Some((of, features, reach))
}

/// What features come from, by way of everything that they are derived from.
#[derive(Default)]
struct Reach {
    /// views with events, whose records are read by the key of the message
    read: BTreeSet<usize>,
    /// all views, also those of other entities that are looked up
    touched: BTreeSet<usize>,
    /// entities of the key
    entities: BTreeSet<usize>,
    /// what only a request knows: the feature and what it needs
    request: Option<(OutputId, String)>,
}

impl Reach {
    fn of(features: &[OutputId], views: &[View]) -> Reach {
        let mut reach = Reach::default();
        let mut seen: BTreeSet<(OutputId, bool)> = BTreeSet::new();
        // Whether it is looked up by another key.
        let mut open: Vec<(OutputId, bool)> = features.iter().rev().map(|id| (*id, false)).collect();
        while let Some((id, is_elsewhere)) = open.pop() {
            if !seen.insert((id, is_elsewhere)) {
                continue;
            }
            let view = &views[id.view];
            reach.touched.insert(id.view);
            if !is_elsewhere {
                reach.entities.extend(view.entity);
            }
            let Some(derived) = view.derived(id.output) else {
                if !is_elsewhere {
                    reach.read.insert(id.view);
                }
                if view.plan.features[id.output].include_request {
                    reach.request.get_or_insert((id, "the row of the request".to_string()));
                }
                continue;
            };
            for input in &derived.inputs {
                match input {
                    Input::Output(input) => open.push((*input, is_elsewhere)),
                    Input::Lookup(input, _) => open.push((*input, true)),
                    Input::Request(name) => drop(reach.request.get_or_insert((id, format!("`request.{name}`")))),
                }
            }
        }
        reach
    }

    /// Why this cannot be published, if it cannot.
    fn refusal(&self, views: &[View]) -> Option<String> {
        if let Some((id, what)) = &self.request {
            let view = &views[id.view];
            let name = view.outputs().nth(id.output).map_or("?", |(name, _)| name);
            return Some(format!("`{}:{name}` needs {what}, and nobody asks here", view.name));
        }
        let of_entity = |entity: &usize| {
            let view = self.touched.iter().map(|at| &views[*at]).find(|view| view.entity == Some(*entity));
            view.map_or("?", |view| view.name.as_str()).to_string()
        };
        if self.entities.len() > 1 {
            let named: Vec<String> = self.entities.iter().map(of_entity).collect();
            let message = format!(
                "views `{}` are of several entities, and a message has the key of one; `lookup` reads another entity",
                named.join("`, `")
            );
            return Some(message);
        }
        let mut read = self.read.iter().map(|at| &views[*at]);
        let Some(first) = read.next() else { return Some("it reads no events, so nothing changes it".to_string()) };
        let other = read.find(|view| view.keys != first.keys)?;
        Some(format!("the keys of views `{}` and `{}` are of different types", first.name, other.name))
    }
}

fn hash_of(features: &[OutputId], touched: &BTreeSet<usize>, views: &[View]) -> u64 {
    let mut text = String::new();
    for id in features {
        let name = views[id.view].outputs().nth(id.output).map_or("?", |(name, _)| name);
        text.push_str(&format!("{}:{name}\n", views[id.view].name));
    }
    touched.iter().for_each(|at| text.push_str(&format!("{:x}\n", views[*at].plan.hash)));
    hash_bytes(text.as_bytes())
}

#[cfg(test)]
mod tests;
