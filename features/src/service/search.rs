//! The condition of a search: SQL over the attributes of a collection and over live features of the entity.

use std::cell::{Cell, RefCell};

use crate::definitions::{Embedding, OutputId, Registry};
use crate::expression::{Column, Expression, Fault, Frame, Scope, compile};
use crate::problem::nearest;
use crate::value::{DataType, Value};

/// A condition, ready to be asked of one entity after the other.
#[derive(Debug)]
pub struct Condition {
    expression: Expression,
    attributes: usize,
    /// the features that it names, in the order of their columns
    pub features: Vec<OutputId>,
}

/// What the names of a condition mean: attributes by their names, features as `view.feature`, or by their names alone where
/// only one view of the entity has such a feature.
struct Names<'r> {
    registry: &'r Registry,
    embedding: &'r Embedding,
    features: RefCell<Vec<OutputId>>,
}

impl Condition {
    /// Compiles a condition.
    pub fn compile(registry: &Registry, embedding: &Embedding, text: &str) -> Result<Condition, Fault> {
        let names = Names { registry, embedding, features: RefCell::default() };
        let expression = compile(text, &names)?;
        match &expression.data_type {
            None | Some(DataType::Bool) => {}
            Some(other) => {
                let message = format!("this is a condition, so bool, not {other}");
                return Err(Fault { line: 1, column: 1, message, near: None });
            }
        }
        Ok(Condition { expression, attributes: embedding.attributes.len(), features: names.features.into_inner() })
    }

    /// Whether it is true of an entity with these attributes and features, at a time.
    pub fn holds(&self, attributes: &[Value<'_>], features: &[Value<'_>], time: i64) -> bool {
        let one = |value: &Value<'_>| Column::Values(vec![value.clone().into_owned()]);
        // What nobody knows is null.
        let null = std::iter::repeat(&Value::Null);
        let attributes = attributes.iter().chain(null.clone()).take(self.attributes);
        let features = features.iter().chain(null).take(self.features.len());
        let columns: Vec<Column> = attributes.chain(features).map(one).collect();
        let errors = Cell::new(0);
        self.expression.is_true(&Frame { columns: &columns, row: 0, now: time, errors: &errors })
    }
}

impl Names<'_> {
    fn column_of(&self, id: OutputId) -> (usize, DataType) {
        let mut features = self.features.borrow_mut();
        let at = features.iter().position(|known| *known == id).unwrap_or_else(|| {
            features.push(id);
            features.len() - 1
        });
        let data_type = self.registry.data_type(id).cloned().unwrap_or(DataType::Text);
        (self.embedding.attributes.len() + at, data_type)
    }

    /// Features of that name over all views of the entity.
    fn of_name(&self, name: &str) -> Vec<OutputId> {
        let of_entity =
            |(_, view): &(usize, &std::sync::Arc<crate::definitions::View>)| view.entity == Some(self.embedding.entity);
        let views = self.registry.views.iter().enumerate().filter(of_entity);
        views
            .filter_map(|(at, view)| {
                let output = view.outputs().position(|(known, _)| known == name)?;
                Some(OutputId { view: at, output })
            })
            .collect()
    }

    fn near(&self, name: &str) -> Option<String> {
        let attributes = self.embedding.attributes.iter().map(|(name, _)| name.as_str());
        let views = self.registry.views.iter().filter(|view| view.entity == Some(self.embedding.entity));
        nearest(name, attributes.chain(views.flat_map(|view| view.outputs().map(|(name, _)| name))))
    }
}

impl Scope for Names<'_> {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        match path {
            [name] => {
                if let Some(at) = self.embedding.attributes.iter().position(|(known, _)| known == name) {
                    return Ok((at, self.embedding.attributes[at].1.clone()));
                }
                match self.of_name(name).as_slice() {
                    [id] => Ok(self.column_of(*id)),
                    [] => {
                        let message = format!(
                            "embedding `{}` has no attribute `{name}`, nor its entity a feature",
                            self.embedding.name
                        );
                        Err((message, self.near(name)))
                    }
                    [first, ..] => {
                        let view = &self.registry.views[first.view].name;
                        Err((format!("several views have a feature `{name}`"), Some(format!("{view}.{name}"))))
                    }
                }
            }
            [view, feature] => {
                let found = self.registry.resolve(&format!("{view}:{feature}"));
                match found
                    .map_err(|(message, near)| (message, near.map(|near| near.replacen(':', ".", 1))))?
                    .as_slice()
                {
                    [id] => Ok(self.column_of(*id)),
                    _ => Err((format!("`{view}.{feature}` is not one feature"), None)),
                }
            }
            _ => Err((format!("unknown name `{}`", path.join(".")), None)),
        }
    }

    fn at_read(&self) -> bool {
        true
    }
}
