//! Protobuf: the fields of a message straight into the slots of a row.
//!
//! `descriptors` is what the schema says, `layout` binds columns to fields, `wire` and `value` read the bytes; here a message is
//! walked. A field counts as Protobuf has it: the last one on the wire, of a oneof the last member, messages merged; one that is
//! missing is its default where the schema knows no presence, and else null.

mod descriptors;
mod layout;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use std::borrow::Cow;

use tidemill_features::definitions::{FieldType, Source};
use tidemill_features::value::Value;

pub(super) use self::descriptors::Descriptors;
pub(super) use self::layout::ProtobufLayout;
use self::layout::{Late, Target, To, UNFIT};
use self::value::Type;
use self::wire::{Wire, counted, skip, tag};
use super::Fault;
use super::bytes::Bytes;
use super::kind::Kind;
use crate::source::decode::{Bad, wrong_value};

/// What is wrong, with the column that it is about.
type Found<T> = Result<T, (Fault, usize)>;

impl ProtobufLayout {
    /// Reads a message into the slots of a row.
    pub(super) fn fill<'m>(&'m self, message: &'m [u8], source: &Source, row: &mut [Value<'m>]) -> Result<(), Bad> {
        let filled = self.walk(0, message, source, row).and_then(|()| self.settle(source, row));
        filled.map_err(|(fault, at)| match fault {
            Fault::Broken(reason) => ("E1001", format!("not a message of its Protobuf schema: {reason}")),
            Fault::Value(reason) => wrong_value(&source.fields[at].0, &reason),
        })
    }

    fn walk<'m>(&'m self, level: usize, message: &'m [u8], source: &Source, row: &mut [Value<'m>]) -> Found<()> {
        let level = &self.levels[level];
        for (at, value) in &level.absent {
            // A message that stands there twice is one: what its first part has said stays.
            if row[*at].is_null() {
                row[*at] = value.borrowed();
            }
        }
        let mut input = Bytes::new(message);
        while !input.is_empty() {
            let (number, wire) = tag(&mut input).map_err(broken)?;
            let Some(target) = level.target(number) else {
                skip(&mut input, number, wire).map_err(broken)?;
                continue;
            };
            for column in &target.clears {
                row[*column] = Value::Null;
            }
            match &target.to {
                To::Nothing => skip(&mut input, number, wire).map_err(broken)?,
                To::Level(next) => {
                    expect(target, wire, Wire::Counted)?;
                    let inner = counted(&mut input).map_err(broken)?;
                    self.walk(*next, inner, source, row)?;
                }
                To::Column { at, of: Type::Other(what), .. } => {
                    let reason = format!("{what} is not {}", source.fields[*at].1.data_type);
                    return Err((Fault::Value(reason), *at));
                }
                To::Column { at, of, items: None } => {
                    expect(target, wire, of.wire())?;
                    row[*at] = if of.is_message() {
                        joined(std::mem::take(&mut row[*at]), counted(&mut input).map_err(broken)?)
                    } else {
                        of.read(&mut input, &source.fields[*at].1).map_err(|fault| (fault, *at))?
                    };
                }
                To::Column { at, of, items: Some(items) } => {
                    let mut list = match std::mem::take(&mut row[*at]) {
                        Value::List(list) => list,
                        _ => Vec::new(),
                    };
                    repeated(target, of, wire, (&mut input, items), &mut list).map_err(|fault| (fault, *at))?;
                    row[*at] = Value::List(list);
                }
            }
        }
        Ok(())
    }

    /// What can be told only when the whole message has been read.
    fn settle<'m>(&'m self, source: &Source, row: &mut [Value<'m>]) -> Found<()> {
        for late in &self.late {
            match late {
                Late::Message { at, of } => {
                    let field = &source.fields[*at].1;
                    row[*at] = match std::mem::take(&mut row[*at]) {
                        Value::Bytes(Cow::Borrowed(bytes)) => of.read_message(bytes, field),
                        Value::Bytes(Cow::Owned(bytes)) => of.read_message(&bytes, field).map(Value::into_owned),
                        other => Ok(other),
                    }
                    .map_err(|fault| (fault, *at))?;
                }
                Late::Unfit { at, reason } if row[*at].same(&UNFIT) => {
                    return Err((Fault::Value(format!("it is missing, and {reason}")), *at));
                }
                Late::Unfit { .. } => {}
            }
        }
        Ok(())
    }
}

fn broken(reason: String) -> (Fault, usize) {
    (Fault::Broken(reason), 0)
}

fn expect(target: &Target, wire: Wire, own: Wire) -> Found<()> {
    if wire == own {
        return Ok(());
    }
    Err(broken(format!("field `{}` has the wire type of another type", target.name)))
}

/// The bytes of a message behind those that came before.
fn joined<'m>(before: Value<'m>, bytes: &'m [u8]) -> Value<'m> {
    match before {
        Value::Bytes(before) => {
            let mut all = before.into_owned();
            all.extend_from_slice(bytes);
            Value::Bytes(Cow::Owned(all))
        }
        _ => Value::Bytes(bytes.into()),
    }
}

/// One item, or many behind their length; writers may do either.
fn repeated<'m>(
    target: &Target,
    of: &'m Type,
    wire: Wire,
    (input, items): (&mut Bytes<'m>, &FieldType),
    list: &mut Vec<Value<'m>>,
) -> Result<(), Fault> {
    if wire == of.wire() {
        list.push(of.read(input, items)?);
        return Ok(());
    }
    expect(target, wire, Wire::Counted).map_err(|(fault, _)| fault)?;
    let mut packed = Bytes::new(counted(input)?);
    while !packed.is_empty() {
        list.push(of.read(&mut packed, items)?);
    }
    Ok(())
}
