//! Functions of text: characters are counted, bytes are compared.

use std::borrow::Cow;

use regex::RegexBuilder;
use sqlparser::tokenizer::Location;

use super::cast::text_of;
use super::compile::fault;
use super::{Evaluate, Fault, Typed};
use crate::value::{DataType, Value};

/// Memory that one compiled pattern may take; a larger one is refused when the definition is checked.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A function of one text.
pub(super) fn map(a: Typed, apply: for<'a> fn(Cow<'a, str>) -> Cow<'a, str>) -> Typed {
    let a = a.evaluate;
    Typed::new(DataType::Text, move |frame| match a(frame) {
        Value::Text(v) => Value::Text(apply(v)),
        _ => Value::Null,
    })
}

pub(super) fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    Cow::Owned(text.to_lowercase())
}

pub(super) fn upper(text: Cow<'_, str>) -> Cow<'_, str> {
    Cow::Owned(text.to_uppercase())
}

pub(super) fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(v) => Cow::Borrowed(v.trim_matches(' ')),
        Cow::Owned(v) => Cow::Owned(v.trim_matches(' ').to_string()),
    }
}

/// A function of two texts that gives a bool.
pub(super) fn test(a: Typed, b: Typed, apply: fn(&str, &str) -> bool) -> Typed {
    let (a, b) = (a.evaluate, b.evaluate);
    Typed::new(DataType::Bool, move |frame| match (a(frame), b(frame)) {
        (Value::Text(a), Value::Text(b)) => Value::Bool(apply(&a, &b)),
        _ => Value::Null,
    })
}

/// substr(text, start [, count]): positions count from 1, as in SQL: what lies before the text counts too.
pub(super) fn substr(mut arguments: Vec<Typed>) -> Typed {
    let count = (arguments.len() == 3).then(|| arguments.remove(2).evaluate);
    let start = arguments.remove(1).evaluate;
    let text = arguments.remove(0).evaluate;
    Typed::new(DataType::Text, move |frame| {
        let (Value::Text(text), Value::Int64(start)) = (text(frame), start(frame)) else { return Value::Null };
        let end = match &count {
            None => i64::MAX,
            Some(count) => match count(frame) {
                Value::Int64(count) if count < 0 => return frame.error(),
                Value::Int64(count) => start.saturating_add(count),
                _ => return Value::Null,
            },
        };
        let skip = start.max(1) - 1;
        let take = end.saturating_sub(start.max(1)).max(0);
        let part: String = text.chars().skip(skip as usize).take(take as usize).collect();
        Value::Text(part.into())
    })
}

/// split_part(text, separator, n): the n-th part, counting from 1; the empty text where there is none.
pub(super) fn split_part(mut arguments: Vec<Typed>) -> Typed {
    let at = arguments.remove(2).evaluate;
    let separator = arguments.remove(1).evaluate;
    let text = arguments.remove(0).evaluate;
    Typed::new(DataType::Text, move |frame| {
        let (Value::Text(text), Value::Text(separator), Value::Int64(at)) = (text(frame), separator(frame), at(frame))
        else {
            return Value::Null;
        };
        if at < 1 {
            return frame.error();
        }
        let index = at as usize - 1;
        let part = if separator.is_empty() {
            if index == 0 { Some(&*text) } else { None }
        } else {
            text.split(&*separator).nth(index)
        };
        Value::Text(part.unwrap_or("").to_string().into())
    })
}

/// concat: nulls are skipped; other scalars are written as CAST writes them.
pub(super) fn concat(arguments: Vec<Typed>, at: Location) -> Result<Typed, Fault> {
    let mut parts: Vec<(Evaluate, DataType)> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        if matches!(argument.data_type, Some(DataType::List(_) | DataType::Vector(_) | DataType::Bytes)) {
            return Err(fault(at, format!("concat takes scalars, not {}", argument.type_name())));
        }
        let data_type = argument.data_type.clone().unwrap_or(DataType::Text);
        parts.push((argument.evaluate, data_type));
    }
    Ok(Typed::new(DataType::Text, move |frame| {
        let mut whole = String::new();
        for (part, data_type) in &parts {
            whole.push_str(&text_of(&part(frame), data_type));
        }
        Value::Text(whole.into())
    }))
}

/// `a || b`: null if either is.
pub(super) fn join(a: Typed, b: Typed, at: Location) -> Result<Typed, Fault> {
    if !a.is(&DataType::Text) || !b.is(&DataType::Text) {
        return Err(fault(at, format!("`||` takes text, not {} and {}", a.type_name(), b.type_name())));
    }
    let (a, b) = (a.evaluate, b.evaluate);
    Ok(Typed::new(DataType::Text, move |frame| match (a(frame), b(frame)) {
        (Value::Text(a), Value::Text(b)) => Value::Text(format!("{a}{b}").into()),
        _ => Value::Null,
    }))
}

/// LIKE: `%` is any text, `_` any character, everything else itself; case matters; there is no escape.
pub(super) fn like(a: Typed, pattern: Typed, at: Location) -> Result<Typed, Fault> {
    if !a.is(&DataType::Text) || !pattern.is(&DataType::Text) {
        return Err(fault(at, format!("LIKE takes text, not {} and {}", a.type_name(), pattern.type_name())));
    }
    Ok(test(a, pattern, matches_like))
}

/// Greedy with one point to fall back to: the last `%`. Linear but for that, and never recursive.
fn matches_like(text: &str, pattern: &str) -> bool {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    let mut fallback = None;
    loop {
        let mut rest = pattern.clone();
        match rest.next() {
            Some('%') => {
                pattern = rest;
                fallback = Some((text.clone(), pattern.clone()));
                continue;
            }
            Some(wanted) => {
                let mut left = text.clone();
                if left.next().is_some_and(|c| wanted == '_' || wanted == c) {
                    (text, pattern) = (left, rest);
                    continue;
                }
            }
            None if text.as_str().is_empty() => return true,
            None => {}
        }
        let Some((mut retry_text, retry_pattern)) = fallback.take() else { return false };
        if retry_text.next().is_none() {
            return false;
        }
        (text, pattern) = (retry_text.clone(), retry_pattern.clone());
        fallback = Some((retry_text, retry_pattern));
    }
}

/// regexp_like(text, 'pattern'): the pattern is a literal, compiled once; matching is linear (the `regex` crate).
pub(super) fn regexp_like(a: Typed, pattern: Typed, at: Location) -> Result<Typed, Fault> {
    let Some(Value::Text(pattern)) = pattern.literal else {
        return Err(fault(at, "regexp_like takes its pattern as a literal"));
    };
    let regex = RegexBuilder::new(&pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|e| fault(at, format!("'{pattern}' is not a regular expression: {}", last_line(&e.to_string()))))?;
    let a = a.evaluate;
    Ok(Typed::new(DataType::Bool, move |frame| match a(frame) {
        Value::Text(v) => Value::Bool(regex.is_match(&v)),
        _ => Value::Null,
    }))
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim()
}
