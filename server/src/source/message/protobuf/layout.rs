//! Which fields of a Protobuf message are columns of a source: one table of fields for each message on the way to them.

use prost_reflect::{FieldDescriptor, MessageDescriptor};
use tidemill_features::definitions::{FieldType, Source, TimeUnit};
use tidemill_features::value::{DataType, Value};

use super::value::Type;

/// How messages of one type become rows of one source.
pub(in crate::source::message) struct ProtobufLayout {
    /// the message itself, and those inside it that hold columns
    pub(super) levels: Vec<Level>,
    /// by column: what it is once the message is read; only those that are not settled before
    pub(super) late: Vec<Late>,
    /// by column: whether the message has it
    found: Vec<bool>,
    /// columns that the message has and that can never be of their type
    misfits: Vec<(usize, String)>,
    names: Vec<String>,
}

/// One message on the way to columns.
#[derive(Default)]
pub(super) struct Level {
    /// by field number, ascending
    pub fields: Vec<(u32, Target)>,
    /// what its columns are where the message does not say
    pub absent: Vec<(usize, Value<'static>)>,
}

/// What becomes of a field.
pub(super) struct Target {
    pub name: String,
    pub to: To,
    /// columns of the other members of its oneof
    pub clears: Vec<usize>,
}

pub(super) enum To {
    /// it only clears others
    Nothing,
    Column {
        at: usize,
        of: Type,
        items: Option<FieldType>,
    },
    /// another level
    Level(usize),
}

/// A column that is settled when the message has been read.
pub(super) enum Late {
    /// a message of its own: its bytes stand in the row until then
    Message { at: usize, of: Type },
    /// its default does not fit: bad if nothing else came
    Unfit { at: usize, reason: String },
}

/// What stands in a row for a default that does not fit. No field gives a map.
pub(super) const UNFIT: Value<'static> = Value::Map(Vec::new());

impl ProtobufLayout {
    /// Binds the columns of a source, but those that are `given` from elsewhere.
    pub(in crate::source::message) fn new(message: &MessageDescriptor, source: &Source, given: &[usize]) -> Self {
        let mut layout = ProtobufLayout {
            levels: Vec::new(),
            late: Vec::new(),
            found: vec![false; source.fields.len()],
            misfits: Vec::new(),
            names: message.fields().map(|field| field.name().to_string()).collect(),
        };
        let columns = source.fields.iter().enumerate().filter(|(at, _)| !given.contains(at));
        layout.level(message, columns.map(|(at, (name, _))| (at, name.as_str())).collect(), source);
        layout
    }

    /// Whether the message has a column.
    pub(in crate::source::message) fn has(&self, column: usize) -> bool {
        self.found[column]
    }

    /// Columns whose fields can never be of their type, and why.
    pub(in crate::source::message) fn misfits(&self) -> &[(usize, String)] {
        &self.misfits
    }

    /// Names of the message's fields.
    pub(in crate::source::message) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Adds a level with the columns that are looked for there: their numbers, and what is left of their names.
    fn level(&mut self, message: &MessageDescriptor, wanted: Vec<(usize, &str)>, source: &Source) -> usize {
        let own = self.levels.len();
        self.levels.push(Level::default());
        let mut level = Level::default();
        let mut oneofs: Vec<(String, Vec<usize>, Vec<u32>)> = Vec::new();
        let mut fields: Vec<FieldDescriptor> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        for field in fields {
            let whole = wanted.iter().find(|(_, name)| *name == field.name());
            let inside: Vec<(usize, &str)> = wanted
                .iter()
                .filter_map(|(at, name)| {
                    let (first, rest) = name.split_once('.')?;
                    (first == field.name()).then_some((*at, rest))
                })
                .collect();
            let mut columns = Vec::new();
            let to = if let Some((at, _)) = whole {
                columns.push(*at);
                self.column(&field, *at, source, &mut level)
            } else if let (false, false, Some(inner)) = (inside.is_empty(), field.is_list(), plain_message(&field)) {
                let next = self.level(&inner, inside, source);
                columns.extend(self.columns_below(next));
                To::Level(next)
            } else {
                To::Nothing
            };
            if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                match oneofs.iter_mut().find(|(name, ..)| name == oneof.full_name()) {
                    Some((_, all, numbers)) => {
                        all.extend(columns);
                        numbers.push(field.number());
                    }
                    None => oneofs.push((oneof.full_name().to_string(), columns, vec![field.number()])),
                }
            }
            level.fields.push((field.number(), Target { name: field.name().to_string(), to, clears: Vec::new() }));
        }
        for (number, target) in &mut level.fields {
            let oneof = oneofs.iter().find(|(_, _, numbers)| numbers.contains(number));
            let own = match &target.to {
                To::Column { at, .. } => vec![*at],
                To::Level(next) => self.columns_below(*next),
                To::Nothing => Vec::new(),
            };
            target.clears = oneof.map(|(_, all, _)| all.clone()).unwrap_or_default();
            target.clears.retain(|column| !own.contains(column));
        }
        level.fields.retain(|(_, target)| !matches!(target.to, To::Nothing) || !target.clears.is_empty());
        self.levels[own] = level;
        own
    }

    fn columns_below(&self, level: usize) -> Vec<usize> {
        let level = &self.levels[level];
        let mut columns: Vec<usize> = level.columns().collect();
        for (_, target) in &level.fields {
            if let To::Level(next) = target.to {
                columns.extend(self.columns_below(next));
            }
        }
        columns
    }

    fn column(&mut self, field: &FieldDescriptor, at: usize, source: &Source, level: &mut Level) -> To {
        self.found[at] = true;
        let own = &source.fields[at].1;
        let of = Type::of(field);
        let kind = if field.is_list() { super::Kind::List(Box::new(of.kind())) } else { of.kind() };
        if let Some(misfit) = kind.misfit(own) {
            self.misfits.push((at, misfit));
        }
        if field.is_list() {
            let items = match &own.data_type {
                DataType::List(items) => (**items).clone(),
                DataType::Vector(_) => DataType::Float32,
                _ => return To::Column { at, of: Type::Other("a list"), items: None },
            };
            level.absent.push((at, Value::List(Vec::new())));
            return To::Column { at, of, items: Some(FieldType { data_type: items, unit: TimeUnit::Text }) };
        }
        if !field.supports_presence() && !field.is_map() {
            match of.default(own) {
                Ok(value) => level.absent.push((at, value)),
                Err(reason) => {
                    level.absent.push((at, UNFIT));
                    self.late.push(Late::Unfit { at, reason });
                }
            }
        }
        if of.is_message() {
            self.late.push(Late::Message { at, of: of.clone() });
        }
        To::Column { at, of, items: None }
    }
}

impl Level {
    pub(super) fn target(&self, number: u32) -> Option<&Target> {
        // Numbers mostly count from one without a gap.
        let near = self.fields.get((number as usize).wrapping_sub(1)).filter(|(own, _)| *own == number);
        let found = near.or_else(|| {
            let at = self.fields.binary_search_by_key(&number, |(own, _)| *own).ok()?;
            self.fields.get(at)
        });
        found.map(|(_, target)| target)
    }

    fn columns(&self) -> impl Iterator<Item = usize> {
        self.fields.iter().filter_map(|(_, target)| match target.to {
            To::Column { at, .. } => Some(at),
            _ => None,
        })
    }
}

/// The message that a field holds, where it is not one that stands for a value.
fn plain_message(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let is_plain = matches!(Type::of(field), Type::Other("a message"));
    field.kind().as_message().filter(|_| is_plain).cloned()
}
