//! Avro: a record's bytes straight into the slots of a row, by the schema that they were written with.
//!
//! `schema` is what the JSON says, `read` the values in the bytes; here columns are bound to fields. Evolution needs nothing
//! more: whatever the writer's schema is, columns are found by name, and what it does not have is null. A field can be called
//! by an alias, and one inside a record by a dotted name.

mod read;
mod schema;
#[cfg(test)]
mod tests;

use tidemill_features::definitions::{FieldType, Source};
use tidemill_features::value::Value;

use self::read::Input;
use self::schema::{Id, Node, Schema};
use super::kind::Kind;
use super::{Fault, SchemaProblem};
use crate::source::decode::{Bad, wrong_value};

/// How records of one schema become rows of one source.
pub(super) struct AvroLayout {
    schema: Schema,
    root: Step,
    /// by column: whether the schema has it
    found: Vec<bool>,
    /// columns that the schema has and that can never be of their type
    misfits: Vec<(usize, String)>,
}

/// What becomes of a value.
enum Step {
    Skip,
    Column(usize),
    /// one for each field
    Record(Vec<Step>),
    /// one for each branch
    Union(Vec<Step>),
}

/// Columns that are looked for at one place: their numbers, and what is left of their names.
type Wanted<'s> = Vec<(usize, &'s str)>;

impl AvroLayout {
    /// Binds the columns of a source, but those that are `given` from elsewhere.
    pub(super) fn new<'t>(
        text: &str,
        others: impl IntoIterator<Item = &'t str>,
        source: &Source,
        given: &[usize],
    ) -> Result<AvroLayout, SchemaProblem> {
        let schema = Schema::parse(text, others).map_err(|wrong| {
            // JSON says where it is broken; for the rest it is where the text stands first.
            let at = wrong.near.and_then(|near| text.find(&format!("\"{near}\"")));
            SchemaProblem { line: at.map(|at| text[..at].matches('\n').count() + 1), message: wrong.message }
        })?;
        let is_record = match &schema.nodes[schema.root] {
            Node::Record(_) => true,
            Node::Union(branches) => branches.iter().any(|branch| matches!(schema.nodes[*branch], Node::Record(_))),
            _ => false,
        };
        if !is_record {
            let message = "the schema is not that of a record: an event has named fields".to_string();
            return Err(SchemaProblem { line: None, message });
        }
        let columns = source.fields.iter().enumerate().filter(|(at, _)| !given.contains(at));
        let wanted = columns.map(|(at, (name, _))| (at, name.as_str())).collect();
        let mut binding = Binding { schema: &schema, source, found: vec![false; source.fields.len()], misfits: vec![] };
        let root = binding.step(schema.root, wanted);
        let Binding { found, misfits, .. } = binding;
        Ok(AvroLayout { schema, root, found, misfits })
    }

    /// Whether the schema has a column.
    pub(super) fn has(&self, column: usize) -> bool {
        self.found[column]
    }

    /// Columns whose fields can never be of their type, and why.
    pub(super) fn misfits(&self) -> &[(usize, String)] {
        &self.misfits
    }

    /// Names of the record's fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let records = match &self.schema.nodes[self.schema.root] {
            Node::Union(branches) => branches.clone(),
            _ => vec![self.schema.root],
        };
        let fields = records.into_iter().filter_map(|record| match &self.schema.nodes[record] {
            Node::Record(fields) => Some(fields),
            _ => None,
        });
        fields.flatten().map(|field| field.name.as_str())
    }

    /// Reads a message into the slots of a row.
    pub(super) fn fill<'m>(&'m self, message: &'m [u8], source: &Source, row: &mut [Value<'m>]) -> Result<(), Bad> {
        let mut input = Input::new(message);
        let walked = self.walk(&self.root, self.schema.root, &mut input, (source, row));
        let left = input.bytes.left();
        match walked {
            Ok(()) if left == 0 => Ok(()),
            Ok(()) => Err(broken(&format!("{left} bytes are left behind the record"), &input)),
            Err((Fault::Broken(reason), _)) => Err(broken(&reason, &input)),
            Err((Fault::Value(reason), at)) => Err(wrong_value(&source.fields[at].0, &reason)),
        }
    }

    /// The error has the column that it is about.
    fn walk<'m>(
        &'m self,
        step: &Step,
        node: Id,
        input: &mut Input<'m>,
        (source, row): (&Source, &mut [Value<'m>]),
    ) -> Result<(), (Fault, usize)> {
        let plain = |broken: String| (Fault::Broken(broken), 0);
        match (step, &self.schema.nodes[node]) {
            (Step::Column(at), _) => {
                row[*at] = self.schema.value(node, input, &source.fields[*at].1).map_err(|fault| (fault, *at))?;
            }
            (Step::Record(steps), Node::Record(fields)) => {
                for (step, field) in steps.iter().zip(fields) {
                    self.walk(step, field.node, input, (source, row))?;
                }
            }
            (Step::Union(steps), Node::Union(branches)) => {
                let branch = input.branch(branches.len()).map_err(plain)?;
                self.walk(&steps[branch], branches[branch], input, (source, row))?;
            }
            _ => self.schema.skip(node, input, 0).map_err(plain)?,
        }
        Ok(())
    }
}

fn broken(reason: &str, input: &Input<'_>) -> Bad {
    ("E1001", format!("not a record of its Avro schema: {reason}, at byte {}", input.bytes.position()))
}

struct Binding<'s> {
    schema: &'s Schema,
    source: &'s Source,
    found: Vec<bool>,
    misfits: Vec<(usize, String)>,
}

impl Binding<'_> {
    fn step(&mut self, node: Id, wanted: Wanted<'_>) -> Step {
        if wanted.is_empty() {
            return Step::Skip;
        }
        match &self.schema.nodes[node] {
            Node::Union(branches) => {
                Step::Union(branches.iter().map(|branch| self.step(*branch, wanted.clone())).collect())
            }
            Node::Record(fields) => {
                // A name counts before an alias: of two fields that could be meant it is the one that is called so.
                let named = |name: &str| fields.iter().position(|field| field.name == name);
                let aliased = |name: &str| fields.iter().position(|field| field.aliases.iter().any(|own| own == name));
                let mut inside: Vec<(Option<usize>, Wanted<'_>)> = vec![(None, Vec::new()); fields.len()];
                for (column, name) in wanted {
                    if let Some(at) = named(name).or_else(|| aliased(name)) {
                        inside[at].0 = Some(column);
                    } else if let Some((first, rest)) = name.split_once('.')
                        && let Some(at) = named(first).or_else(|| aliased(first))
                    {
                        inside[at].1.push((column, rest));
                    }
                }
                let steps = fields.iter().zip(inside).map(|(field, (column, inside))| match column {
                    Some(column) => self.column(column, field.node),
                    None => self.step(field.node, inside),
                });
                Step::Record(steps.collect())
            }
            _ => Step::Skip,
        }
    }

    fn column(&mut self, column: usize, node: Id) -> Step {
        self.found[column] = true;
        let field: &FieldType = &self.source.fields[column].1;
        if let Some(misfit) = self.schema.kind(node).misfit(field) {
            self.misfits.push((column, misfit));
        }
        Step::Column(column)
    }
}

impl Schema {
    /// What the values of a node are, as far as columns can hold them.
    fn kind(&self, node: Id) -> Kind {
        match &self.nodes[node] {
            Node::Null | Node::Unknown(_) => Kind::Null,
            Node::Boolean => Kind::Bool,
            Node::Int | Node::Long => Kind::Int,
            Node::Float | Node::Double => Kind::Float,
            Node::Bytes | Node::Fixed(_) => Kind::Bytes,
            Node::Text | Node::Enum(_) | Node::Uuid => Kind::Text,
            Node::Instant(_) | Node::Date => Kind::Time,
            Node::LocalTime => Kind::Other("a local time, which has no offset from UTC,"),
            Node::TimeOfDay => Kind::Other("a time of the day"),
            Node::Decimal { .. } => Kind::Decimal,
            // No column holds lists of lists: one look inside is enough, and a list of itself has no end.
            Node::Array(items) => match &self.nodes[*items] {
                Node::Array(_) => Kind::List(Box::new(Kind::Other("a list"))),
                Node::Union(branches) => {
                    Kind::List(Box::new(Kind::Any(branches.iter().map(|branch| self.plain_kind(*branch)).collect())))
                }
                _ => Kind::List(Box::new(self.plain_kind(*items))),
            },
            Node::Union(branches) => Kind::Any(branches.iter().map(|branch| self.kind(*branch)).collect()),
            Node::Map(_) => Kind::Other("a map"),
            Node::Record(_) => Kind::Other("a record"),
        }
    }

    /// The same of an item of a list.
    fn plain_kind(&self, node: Id) -> Kind {
        match &self.nodes[node] {
            Node::Array(_) => Kind::Other("a list"),
            _ => self.kind(node),
        }
    }
}
