//! Checking derived features: names across all views, types in order of dependence, cycles, lookups of other entities.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::check::{Broken, Definition, check_name};
use super::document::{Files, Item, Key};
use super::model::{Derived, Input, OutputId, View};
use crate::expression::{Expression, Scope, compile};
use crate::problem::nearest;
use crate::value::DataType;

/// Lookups behind one another: each is one more trip through the store.
const LOOKUP_DEPTH_MAX: usize = 4;

/// How far the check of one derived feature is.
enum State {
    Waiting,
    Running,
    Failed,
    Done(Expression, DataType, Vec<Input>),
}

/// A derived feature as declared.
struct Declared<'d> {
    key: &'d Key,
    item: &'d Item,
    view: usize,
    state: RefCell<State>,
}

struct Graph<'g, 'd> {
    files: &'g Files<'g>,
    views: &'g [View],
    declared: Vec<Declared<'d>>,
    broken: &'g Broken,
}

pub(super) fn check_derived(
    files: &Files<'_>,
    definitions: &[Definition<'_>],
    views: &mut [View],
    broken: &mut Broken,
) {
    let mut declared = Vec::new();
    for (at, view) in views.iter().enumerate() {
        let Some(definition) = definitions.iter().find(|d| d.name == view.name) else { continue };
        for (key, item) in definition.table("derived") {
            check_name(files, key);
            let taken = view.plan.features.iter().any(|f| f.name == key.name);
            if taken {
                files.report("E0013", &key.place, format!("feature `{}` is there already", key.name), None);
            }
            declared.push(Declared { key, item, view: at, state: RefCell::new(State::Waiting) });
        }
    }
    let graph = Graph { files, views, declared, broken };
    (0..graph.declared.len()).for_each(|at| drop(graph.data_type(at)));
    let finished: Vec<(usize, String, State)> =
        graph.declared.into_iter().map(|d| (d.view, d.key.name.clone(), d.state.into_inner())).collect();
    for (view, name, state) in finished {
        match state {
            State::Done(expression, data_type, inputs) => {
                views[view].derived.push(Derived { name, expression, data_type, inputs });
            }
            _ => broken.features.push((views[view].name.clone(), name)),
        }
    }
}

impl Graph<'_, '_> {
    /// The inputs of a derived feature that was checked; an aggregate has none.
    fn inputs(&self, id: OutputId) -> Vec<Input> {
        let Some(place) = id.output.checked_sub(self.views[id.view].plan.features.len()) else { return Vec::new() };
        let mut of_view = self.declared.iter().filter(|d| d.view == id.view);
        match of_view.nth(place).map(|declared| declared.state.borrow()) {
            Some(state) => match &*state {
                State::Done(_, _, inputs) => inputs.clone(),
                _ => Vec::new(),
            },
            None => Vec::new(),
        }
    }

    /// How many lookups stand behind one another.
    fn depth(&self, id: OutputId) -> usize {
        let of_input = |input: &Input| match input {
            Input::Output(id) => self.depth(*id),
            Input::Lookup(id, _) => 1 + self.depth(*id),
            Input::Request(_) => 0,
        };
        self.inputs(id).iter().map(of_input).max().unwrap_or(0)
    }

    /// The key columns that a feature is read by, and whether it needs values of the request.
    fn reads_by(&self, id: OutputId, keys: &mut BTreeSet<(String, String)>, request: &mut bool) {
        let view = &self.views[id.view];
        if view.stream.is_some() {
            keys.extend(view.keys.iter().map(|(name, data_type)| (name.clone(), data_type.to_string())));
        }
        *request |= view.plan.features.get(id.output).is_some_and(|feature| feature.include_request);
        for input in self.inputs(id) {
            match input {
                Input::Output(id) => self.reads_by(id, keys, request),
                Input::Request(_) => *request = true,
                Input::Lookup(..) => {}
            }
        }
    }

    /// A feature that is looked up by `key`.
    fn looked_up(&self, reference: &str, key: &Expression) -> Result<(OutputId, DataType), (String, Option<String>)> {
        let wrong = |message: String| Err((message, None));
        let Some((view_name, name)) = reference.split_once(':') else {
            return wrong(format!("lookup takes a feature such as 'view:feature', not '{reference}'"));
        };
        let Some(view) = self.views.iter().position(|v| v.name == view_name) else {
            if self.broken.has(view_name, name) {
                return wrong(String::new());
            }
            let near = nearest(view_name, self.views.iter().map(|v| v.name.as_str()));
            return Err((format!("unknown view `{view_name}`"), near.map(|n| format!("{n}:{name}"))));
        };
        let (id, data_type) = match self.output(view, name) {
            Ok(Some(found)) => found,
            Ok(None) => return wrong(String::new()),
            Err(near) => {
                let near = near.map(|n| format!("{view_name}:{n}"));
                return Err((format!("unknown feature `{reference}`"), near));
            }
        };
        let (mut keys, mut request) = (BTreeSet::new(), false);
        self.reads_by(id, &mut keys, &mut request);
        if request {
            return wrong(format!("`{reference}` needs values of the request, which another entity has none of"));
        }
        let [(key_name, key_type)] = &keys.iter().collect::<Vec<_>>()[..] else {
            return wrong(format!("`{reference}` is read by {} key columns; a lookup has one key", keys.len()));
        };
        if key.data_type.as_ref().is_some_and(|own| own.to_string() != *key_type) {
            let own = key.data_type.as_ref().map(DataType::to_string).unwrap_or_default();
            return wrong(format!("`{reference}` is read by `{key_name}`, which is {key_type}, not {own}"));
        }
        if self.depth(id) >= LOOKUP_DEPTH_MAX {
            return wrong(format!("more than {LOOKUP_DEPTH_MAX} lookups stand behind one another"));
        }
        Ok((id, data_type))
    }

    /// The type of a derived feature, checking it if that has not been done. None: it is broken, and that was reported.
    fn data_type(&self, at: usize) -> Option<DataType> {
        let declared = &self.declared[at];
        match &*declared.state.borrow() {
            State::Done(_, data_type, _) => return Some(data_type.clone()),
            State::Failed => return None,
            State::Running => {
                let message = format!("`{}` depends on itself", declared.key.name);
                self.files.report("E0014", &declared.key.place, message, None);
                return None;
            }
            State::Waiting => {}
        }
        *declared.state.borrow_mut() = State::Running;
        let scope = Names { graph: self, view: declared.view, inputs: RefCell::new(Vec::new()) };
        let text = declared.item.text().unwrap_or_default();
        let state = match compile(text, &scope) {
            Ok(expression) => {
                let data_type = expression.data_type.clone().unwrap_or(DataType::Text);
                State::Done(expression, data_type, scope.inputs.into_inner())
            }
            Err(fault) => {
                // A name that stands for something broken was reported where it is broken.
                if !fault.message.is_empty() {
                    let code = if fault.message.starts_with("unknown") { "E0007" } else { "E0008" };
                    self.files.report_fault(code, declared.item, fault);
                }
                State::Failed
            }
        };
        *declared.state.borrow_mut() = state;
        self.data_type(at)
    }

    /// A feature by view and name: its place among the outputs and its type. None: it is broken.
    fn output(&self, view: usize, name: &str) -> Result<Option<(OutputId, DataType)>, Option<String>> {
        let features = &self.views[view].plan.features;
        if let Some(output) = features.iter().position(|f| f.name == name) {
            return Ok(Some((OutputId { view, output }, self.views[view].feature_types[output].clone())));
        }
        let of_view = self.declared.iter().enumerate().filter(|(_, d)| d.view == view);
        let derived: Vec<(usize, &str)> = of_view.map(|(at, d)| (at, d.key.name.as_str())).collect();
        match derived.iter().enumerate().find(|(_, (_, known))| *known == name) {
            Some((place, (at, _))) => {
                let output = features.len() + place;
                Ok(self.data_type(*at).map(|data_type| (OutputId { view, output }, data_type)))
            }
            None if self.broken.has(&self.views[view].name, name) => Ok(None),
            None => Err(nearest(name, features.iter().map(|f| f.name.as_str()).chain(derived.iter().map(|(_, n)| *n)))),
        }
    }
}

/// The names that a derived feature of a view sees.
struct Names<'n, 'g, 'd> {
    graph: &'n Graph<'g, 'd>,
    view: usize,
    inputs: RefCell<Vec<Input>>,
}

impl Names<'_, '_, '_> {
    fn input(&self, input: Input, data_type: DataType) -> (usize, DataType) {
        let mut inputs = self.inputs.borrow_mut();
        let at = inputs.iter().position(|known| known.same(&input)).unwrap_or_else(|| {
            inputs.push(input);
            inputs.len() - 1
        });
        (at, data_type)
    }
}

impl Scope for Names<'_, '_, '_> {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        let views = self.graph.views;
        let (view, name) = match path {
            ["request", name] => {
                let request = &views[self.view].request;
                return match request.iter().find(|(known, _)| known == name) {
                    Some((_, data_type)) => Ok(self.input(Input::Request(name.to_string()), data_type.clone())),
                    None => {
                        let near = nearest(name, request.iter().map(|(known, _)| known.as_str()));
                        Err((format!("unknown request value `{name}`"), near.map(|n| format!("request.{n}"))))
                    }
                };
            }
            [name] => (self.view, *name),
            [view, name] => match views.iter().position(|v| v.name == *view) {
                Some(at) => (at, *name),
                None if self.graph.broken.has(view, name) => return Err((String::new(), None)),
                None => {
                    let near = nearest(view, views.iter().map(|v| v.name.as_str()));
                    return Err((format!("unknown view `{view}`"), near.map(|n| format!("{n}.{name}"))));
                }
            },
            _ => return Err((format!("unknown feature `{}`", path.join(".")), None)),
        };
        match self.graph.output(view, name) {
            Ok(Some((id, data_type))) => Ok(self.input(Input::Output(id), data_type)),
            Ok(None) => Err((String::new(), None)),
            Err(near) => Err((format!("unknown feature `{}`", path.join(".")), near)),
        }
    }

    fn at_read(&self) -> bool {
        true
    }

    fn lookup(&self, reference: &str, key: Expression) -> Result<(usize, DataType), (String, Option<String>)> {
        let (id, data_type) = self.graph.looked_up(reference, &key)?;
        Ok(self.input(Input::Lookup(id, Arc::new(key)), data_type))
    }
}
