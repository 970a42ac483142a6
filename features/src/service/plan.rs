//! What a service names, resolved: which views to read, which derived features to compute, in which order.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Refused;
use crate::definitions::{Input, OutputId, Registry, View};
use crate::expression::Expression;
use crate::problem::nearest;
use crate::value::DataType;

/// How to answer a service or a list of features.
#[derive(Debug)]
pub struct ReadPlan {
    /// views whose records are read
    pub views: Vec<ViewRead>,
    /// derived features, each behind what it depends on
    pub derived: Vec<DerivedRead>,
    /// slots of the answer's columns, in the declared order
    pub outputs: Vec<usize>,
    /// what the columns are
    pub ids: Vec<OutputId>,
    /// their names (`view:feature`) and types
    pub columns: Vec<(String, DataType)>,
    /// key columns that the request must give
    pub keys: Vec<(String, DataType)>,
    /// request values that are used
    pub request: Vec<(String, DataType)>,
    /// number of slots
    pub slots: usize,
    /// reads of other entities, by keys that are computed
    pub lookups: Vec<LookupRead>,
    /// slots of this plan and of those that it looks up: values to compute for one row
    pub width: usize,
    /// sources (by place in the registry) that the values come from
    pub sources: BTreeSet<usize>,
}

/// One feature of another entity.
#[derive(Debug)]
pub struct LookupRead {
    /// reads the feature by its one key
    pub plan: Arc<ReadPlan>,
    /// computes the key from the inputs of the derived feature
    pub key: Arc<Expression>,
}

/// Features of one view.
#[derive(Debug)]
pub struct ViewRead {
    /// place in the registry
    pub view: usize,
    /// where the view's key columns stand among the request's
    pub keys: Vec<usize>,
    /// indexes of features in the view's plan
    pub features: Vec<usize>,
    /// slot of each
    pub slots: Vec<usize>,
    /// where the columns of the request's row come from: columns of the source with their origin; None where no feature
    /// counts that row
    pub request: Option<Vec<(usize, Origin)>>,
}

/// Where a column of the request's row comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// a key of the request
    Key(usize),
    /// a value of the request
    Request(usize),
}

/// A derived feature.
#[derive(Debug)]
pub struct DerivedRead {
    /// what it is
    pub id: OutputId,
    /// where its value goes
    pub slot: usize,
    /// where its inputs come from
    pub inputs: Vec<InputSlot>,
}

/// Where an input of a derived feature comes from.
#[derive(Clone, Copy, Debug)]
pub enum InputSlot {
    /// another feature
    Slot(usize),
    /// a value of the request
    Request(usize),
    /// a feature of another entity
    Lookup(usize),
}

impl ReadPlan {
    /// The plan of a service.
    pub fn of_service(registry: &Registry, name: &str) -> Result<ReadPlan, Refused> {
        let Some(service) = registry.services.iter().find(|service| service.name == name) else {
            // The name of a view stands for no service, but all of its features are one reference.
            let near = registry.view(name).map(|_| format!("{name}:*"));
            let near = near.or_else(|| nearest(name, registry.services.iter().map(|service| service.name.as_str())));
            return Err(Refused::unknown("E2001", format!("unknown feature service `{}`", shortened(name)), near));
        };
        ReadPlan::of(registry, service.features.clone())
    }

    /// The plan of a list of references.
    pub fn of_references(registry: &Registry, references: &[String]) -> Result<ReadPlan, Refused> {
        let mut ids = Vec::new();
        for reference in references {
            let found = registry.resolve(&shortened(reference));
            let found = found.map_err(|(message, near)| Refused::unknown("E2002", message, near))?;
            ids.extend(found.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
        }
        ReadPlan::of(registry, ids)
    }

    /// The plan of some features.
    pub fn of(registry: &Registry, ids: Vec<OutputId>) -> Result<ReadPlan, Refused> {
        let mut builder = Builder { registry, plan: ReadPlan::empty(), slots: HashMap::new() };
        for id in &ids {
            let slot = builder.slot(*id)?;
            builder.plan.outputs.push(slot);
            // A view of derived features only is still one of its entity.
            builder.keys_of(id.view)?;
        }
        let column =
            |id: &OutputId| (registry.reference(*id), registry.data_type(*id).cloned().unwrap_or(DataType::Text));
        let width = builder.plan.slots + builder.plan.lookups.iter().map(|lookup| lookup.plan.width).sum::<usize>();
        Ok(ReadPlan { columns: ids.iter().map(column).collect(), ids, width, ..builder.plan })
    }

    fn empty() -> ReadPlan {
        ReadPlan {
            views: Vec::new(),
            derived: Vec::new(),
            outputs: Vec::new(),
            ids: Vec::new(),
            columns: Vec::new(),
            keys: Vec::new(),
            request: Vec::new(),
            slots: 0,
            lookups: Vec::new(),
            width: 0,
            sources: BTreeSet::new(),
        }
    }
}

struct Builder<'r> {
    registry: &'r Registry,
    plan: ReadPlan,
    slots: HashMap<OutputId, usize>,
}

impl Builder<'_> {
    fn slot(&mut self, id: OutputId) -> Result<usize, Refused> {
        if let Some(slot) = self.slots.get(&id) {
            return Ok(*slot);
        }
        let view = self.registry.views[id.view].clone();
        let Some(derived) = view.derived(id.output) else {
            let slot = self.next_slot(id);
            let keys = self.keys_of(id.view)?;
            let known = self.plan.views.iter().position(|read| read.view == id.view);
            let at = match known {
                Some(at) => at,
                None => {
                    self.add_sources(&view);
                    let (features, slots) = (Vec::new(), Vec::new());
                    self.plan.views.push(ViewRead { view: id.view, keys, features, slots, request: None });
                    self.plan.views.len() - 1
                }
            };
            self.plan.views[at].features.push(id.output);
            self.plan.views[at].slots.push(slot);
            if view.plan.features[id.output].include_request {
                let origins = self.request_row(&view, id.output)?;
                let known = self.plan.views[at].request.get_or_insert_default();
                let new = origins.into_iter().filter(|(at, _)| !known.iter().any(|(other, _)| other == at));
                known.extend(new.collect::<Vec<_>>());
            }
            return Ok(slot);
        };
        let mut inputs = Vec::with_capacity(derived.inputs.len());
        for input in &derived.inputs {
            inputs.push(match input {
                Input::Output(id) => InputSlot::Slot(self.slot(*id)?),
                Input::Request(name) => {
                    let declared = view.request.iter().find(|(known, _)| known == name);
                    let data_type = declared.map_or(DataType::Text, |(_, data_type)| data_type.clone());
                    InputSlot::Request(named(&mut self.plan.request, name, data_type)?)
                }
                Input::Lookup(id, key) => {
                    let plan = Arc::new(ReadPlan::of(self.registry, vec![*id])?);
                    self.plan.sources.extend(&plan.sources);
                    self.plan.lookups.push(LookupRead { plan, key: key.clone() });
                    InputSlot::Lookup(self.plan.lookups.len() - 1)
                }
            });
        }
        let slot = self.next_slot(id);
        self.plan.derived.push(DerivedRead { id, slot, inputs });
        Ok(slot)
    }

    /// The view's source, and those of the tables that its events see.
    fn add_sources(&mut self, view: &View) {
        self.plan.sources.extend(view.stream.as_ref().map(|stream| stream.source));
        for table in view.plan.joins.iter().flat_map(|joins| &joins.tables) {
            let rows = self.registry.view(&table.view).and_then(|at| self.registry.views[at].stream.as_ref());
            self.plan.sources.extend(rows.map(|stream| stream.source));
        }
    }

    /// Where each column of the request's row comes from that a feature needs: keys by their names, the rest from the
    /// request's values.
    fn request_row(&mut self, view: &View, feature: usize) -> Result<Vec<(usize, Origin)>, Refused> {
        let Some(stream) = &view.stream else { return Ok(Vec::new()) };
        let source = &self.registry.sources[stream.source];
        let mut origins = Vec::new();
        for (at, (name, data_type)) in stream.key_columns.iter().zip(&view.keys) {
            origins.push((*at, Origin::Key(named(&mut self.plan.keys, name, data_type.clone())?)));
        }
        for at in &view.request_fields[feature] {
            let (name, field) = &source.fields[*at];
            origins.push((*at, Origin::Request(named(&mut self.plan.request, name, field.data_type.clone())?)));
        }
        Ok(origins)
    }

    fn next_slot(&mut self, id: OutputId) -> usize {
        let slot = self.plan.slots;
        self.slots.insert(id, slot);
        self.plan.slots += 1;
        slot
    }

    fn keys_of(&mut self, view: usize) -> Result<Vec<usize>, Refused> {
        let view = self.registry.views[view].clone();
        if view.stream.is_none() {
            return Ok(Vec::new());
        }
        view.keys.iter().map(|(name, data_type)| named(&mut self.plan.keys, name, data_type.clone())).collect()
    }
}

/// The place of a name; two meanings of one name cannot share a request.
fn named(list: &mut Vec<(String, DataType)>, name: &str, data_type: DataType) -> Result<usize, Refused> {
    match list.iter().position(|(known, _)| known == name) {
        Some(at) if list[at].1 == data_type => Ok(at),
        Some(at) => {
            let message = format!("`{name}` is {} in one view and {data_type} in another", list[at].1);
            Err(Refused::invalid("E2003", message))
        }
        None => {
            list.push((name.to_string(), data_type));
            Ok(list.len() - 1)
        }
    }
}

/// Names in messages: enough to recognise them.
fn shortened(name: &str) -> String {
    name.chars().take(200).collect()
}
