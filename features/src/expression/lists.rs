//! Lists: ARRAY[...], length, element, contains.

use sqlparser::tokenizer::Location;

use super::arithmetic::unify;
use super::compile::fault;
use super::logic::typed;
use super::{Fault, Typed};
use crate::value::{DataType, Value};

pub(super) fn array(items: Vec<Typed>, at: Location) -> Result<Typed, Fault> {
    let literals: Option<Vec<Value<'static>>> = items.iter().map(|item| item.literal.clone()).collect();
    let (data_type, items) = unify(items, "ARRAY", at)?;
    let list_type = DataType::List(Box::new(data_type.unwrap_or(DataType::Text)));
    let built = Typed::new(list_type, move |frame| Value::List(items.iter().map(|item| item(frame)).collect()));
    Ok(Typed { literal: literals.map(Value::List), ..built })
}

/// The type of a list's elements.
pub(super) fn items_of(list: &Typed, what: &str, at: Location) -> Result<DataType, Fault> {
    match &list.data_type {
        Some(DataType::List(items)) => Ok((**items).clone()),
        Some(DataType::Vector(_)) => Ok(DataType::Float64),
        _ => Err(fault(at, format!("{what} takes a list, not {}", list.type_name()))),
    }
}

pub(super) fn length(list: Typed) -> Typed {
    let list = list.evaluate;
    Typed::new(DataType::Int64, move |frame| match list(frame) {
        Value::List(items) => Value::Int64(items.len() as i64),
        Value::Text(text) => Value::Int64(text.chars().count() as i64),
        _ => Value::Null,
    })
}

/// element(list, i): counts from 1; null outside.
pub(super) fn element(list: Typed, index: Typed, at: Location) -> Result<Typed, Fault> {
    let items = match items_of(&list, "element", at)? {
        DataType::Float32 => DataType::Float64,
        other => other,
    };
    let (list, index) = (list.evaluate, index.evaluate);
    Ok(typed(Some(items), move |frame| match (list(frame), index(frame)) {
        (Value::List(mut items), Value::Int64(i)) if i >= 1 && i as u64 <= items.len() as u64 => {
            items.swap_remove(i as usize - 1)
        }
        _ => Value::Null,
    }))
}

/// contains(list, x): null only if the list or x is.
pub(super) fn contains(list: Typed, wanted: Typed, at: Location) -> Result<Typed, Fault> {
    let items = items_of(&list, "contains", at)?;
    if !wanted.is(&items) {
        return Err(fault(at, format!("a list of {items} cannot contain {}", wanted.type_name())));
    }
    let (list, wanted) = (list.evaluate, wanted.evaluate);
    Ok(Typed::new(DataType::Bool, move |frame| match (list(frame), wanted(frame)) {
        (_, Value::Null) => Value::Null,
        (Value::List(items), wanted) => Value::Bool(items.iter().any(|item| item.order(&wanted).is_eq())),
        _ => Value::Null,
    }))
}
