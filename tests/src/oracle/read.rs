//! From a key and a time T to the answers of a view: pick events, aggregate, then the derived features.
//! Applied and late events count alike: a late one lies outside every window of a live read, and is
//! still seen by a read in the past. Duplicates, filtered and keyless events and dead letters never count.

use std::collections::HashMap;

use super::accept::{self, Event, Fate};
use super::aggregate::{self, Input};
use super::expression::Expr;
use super::model::{Answer, Datum, Feature, Row, Source, Status, View};
use super::{derived, window};

/// The values that a request gives for columns of the source.
pub type Request = HashMap<String, Datum>;

/// Of a view without joins whose derived features name no other view: `service` reads the others.
/// `rows` are all rows of the view's source, in log order. Features in order, then derived ones.
/// Without a request no row is included, whatever a feature declares.
pub fn read(
    view: &View,
    source: &Source,
    rows: &[Row],
    key: &[Datum],
    t: i64,
    request: Option<&Request>,
) -> Vec<(String, Answer)> {
    let row = request.map(|request| request_row(view, source, key, request, t));
    answer(view, source, &events_of(view, source, rows, key), t, row.as_ref())
}

/// The applied and late events of a key, in the total order. Of a table the filtered ones too: what they say does
/// not count, but nor does what they replace.
pub fn events_of(view: &View, source: &Source, rows: &[Row], key: &[Datum]) -> Vec<Event> {
    let fates = accept::fates(view, source, rows);
    let mut events = Vec::new();
    for (row, fate) in rows.iter().zip(fates) {
        let counts = match fate {
            Fate::Applied | Fate::Late => true,
            Fate::Filtered => source.table,
            Fate::NotOfHistory | Fate::DeadLetter | Fate::Keyless | Fate::Duplicate => false,
        };
        if !counts {
            continue;
        }
        let event = accept::accept(source, row).expect("an accepted row");
        if same_key(&accept::key_of(view, source, &event), key) {
            events.push(event);
        }
    }
    events.sort_by(accept::total_order);
    events
}

/// The request's own row: at T, its key from the read, the rest from the request or null.
pub fn request_row(view: &View, source: &Source, key: &[Datum], request: &Request, t: i64) -> Event {
    let column = |name: &String| {
        let of_key = view.entity_keys.iter().position(|other| other == name).map(|index| key[index].clone());
        match of_key.or_else(|| request.get(name).cloned()) {
            _ if *name == source.event_time => Datum::Time(t),
            value => value.unwrap_or(Datum::Null).normalised(),
        }
    };
    let columns = source.fields.iter().map(|(name, _)| column(name)).collect();
    Event { event_time: t, event_id: None, arrival: t, partition: 0, offset: 0, columns, joined: Vec::new() }
}

/// The answers at `t` over the events that `events_of` gave and the row that `request_row` gave.
pub fn answer(view: &View, source: &Source, events: &[Event], t: i64, row: Option<&Event>) -> Vec<(String, Answer)> {
    let mut answers = features(view, source, events, t, row);
    for (name, expression) in &view.derived {
        let find = |input: &str| {
            let found = answers.iter().find(|(name, _)| name == input);
            found.unwrap_or_else(|| panic!("no feature {input}")).1.clone()
        };
        let no_lookup = |view: &str, feature: &str, _: &Datum| panic!("{view}:{feature} is of another view");
        let answer = derived::answer(expression, &find, &no_lookup);
        answers.push((name.clone(), answer));
    }
    answers
}

/// The same without the derived ones.
pub fn features(view: &View, source: &Source, events: &[Event], t: i64, row: Option<&Event>) -> Vec<(String, Answer)> {
    let makes_known = |event: &Event| {
        let is_filtered =
            source.table && !accept::is_delete(source, event) && !accept::passes(&view.filter, view, source, event);
        event.event_time < t && !is_filtered
    };
    let is_known = events.iter().any(makes_known);
    let mut answers = Vec::new();
    for feature in &view.features {
        let seen = seen(view, source, events, t - feature.offset);
        let inputs = inputs_of(feature, view, source, &seen, t, row);
        answers.push((feature.name.clone(), feature_answer(feature, &inputs, t, is_known)));
    }
    answers
}

/// All events of a stream; of a table the newest row before `t`, if it is no delete and passes.
fn seen<'a>(view: &View, source: &Source, events: &'a [Event], t: i64) -> Vec<&'a Event> {
    if !source.table {
        return events.iter().collect();
    }
    let newest = events.iter().rev().find(|event| event.event_time < t);
    let counts =
        |event: &&Event| !accept::is_delete(source, event) && accept::passes(&view.filter, view, source, event);
    newest.filter(counts).into_iter().collect()
}

fn feature_answer(feature: &Feature, inputs: &[Input], t: i64, is_known: bool) -> Answer {
    let newest = inputs.iter().map(|input| input.event_time).max();
    if inputs.is_empty() {
        let status = match (is_known, &feature.default) {
            (false, _) => Status::NotFound,
            (true, Some(_)) => Status::Defaulted,
            (true, None) => Status::Empty,
        };
        let value = feature.default.clone().unwrap_or(feature.aggregate.of_nothing());
        return Answer::exact(value, status, newest);
    }
    // A row of the request counts for a key that no event has, but does not make it known.
    let status = if is_known { Status::Present } else { Status::NotFound };
    match aggregate::aggregate(&feature.aggregate, inputs, t - feature.offset) {
        Ok(found) => Answer { value: found.value, accuracy: found.accuracy, status, newest },
        Err(_) => Answer::exact(Datum::Null, Status::Error, newest),
    }
}

/// What each contributing event gives, oldest first: `where`, then window, then nulls.
fn inputs_of(
    feature: &Feature,
    view: &View,
    source: &Source,
    events: &[&Event],
    t: i64,
    row: Option<&Event>,
) -> Vec<Input> {
    let passes = |event: &&Event| accept::passes(&feature.filter, view, source, event);
    let passing: Vec<&Event> = events.iter().copied().filter(passes).collect();
    let is_included = feature.include_request && feature.offset == 0;
    let row = row.filter(|row| is_included && accept::passes(&view.filter, view, source, row)).filter(passes);
    let mut inputs = Vec::new();
    for event in window::pick(&feature.window, &passing, t - feature.offset, row) {
        let value = |x: &Expr| x.eval(&|name| accept::column(view, source, event, name)).normalised();
        let values: Vec<Datum> = feature.aggregate.arguments().into_iter().map(value).collect();
        // An aggregate without arguments counts events, whatever they hold.
        if !values.iter().any(Datum::is_null) {
            inputs.push(Input { event_time: event.event_time, values });
        }
    }
    inputs
}

/// By type and value.
fn same_key(a: &[Datum], b: &[Datum]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(&b.clone().normalised()))
}

#[cfg(test)]
mod tests;
