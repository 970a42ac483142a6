//! What becomes of each event (§4, §5, §10): a walk over the log in its order, once per view.
//! The state is two maps: the newest applied time of a key, and the arrival of the latest event per id and partition.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::expression::Expr;
use super::model::{Datum, HISTORY, Period, Row, Source, Type, View, Window};

const HOUR: i64 = 3_600_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A row of the history's files that the time fence leaves to the stream: of no view and no ledger.
    NotOfHistory,
    /// Undecodable, from the future, or from the stream and before the time fence; of no view.
    DeadLetter,
    Keyless,
    Duplicate,
    Filtered,
    Late,
    Applied,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceLedger {
    pub consumed: u64,
    pub accepted: u64,
    pub dead_lettered: u64,
}

/// Of one view; the five add up to `accepted` of its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub applied: u64,
    pub filtered: u64,
    pub keyless: u64,
    pub late: u64,
    pub duplicate: u64,
}

/// An accepted row, with its times and its place in the total order read from the columns.
#[derive(Clone, Debug)]
pub struct Event {
    pub event_time: i64,
    pub event_id: Option<Datum>,
    pub arrival: i64,
    pub partition: u32,
    pub offset: u64,
    /// By field order, NaN as null and -0.0 as 0.0.
    pub columns: Vec<Datum>,
    /// What `joins` adds, by full name.
    pub joined: Vec<(String, Datum)>,
}

/// Whether a row at rest is on the stream's side of the time fence. Where its time cannot be read, it is not.
pub fn is_beyond_fence(source: &Source, row: &Row) -> bool {
    let event_time = &row.columns[source.field_index(&source.event_time).expect("a declared field")];
    match (source.history_until, event_time) {
        (Some(until), Datum::Time(time)) => row.is_at_rest() && *time >= until,
        _ => false,
    }
}

/// The event of a row, or `None` for a dead letter and for what is beyond the fence.
pub fn accept(source: &Source, row: &Row) -> Option<Event> {
    let columns: Vec<Datum> = row.columns.iter().cloned().map(Datum::normalised).collect();
    let column = |name: &String| columns[source.field_index(name).expect("a declared field")].clone();
    let event_time = time(column(&source.event_time))?;
    if is_beyond_fence(source, row) {
        return None;
    }
    if !row.is_at_rest() && source.history_until.is_some_and(|until| event_time < until) {
        return None;
    }
    let arrival = match &source.arrival_time {
        Some(name) => time(column(name))?,
        None if row.is_at_rest() => event_time + source.assumed_delay,
        None => row.arrival,
    };
    // Of a row at rest that says nothing of its arrival it is known only that it was there when it was loaded.
    let known = if source.arrival_time.is_none() { row.arrival } else { arrival };
    if !source.fields.iter().zip(&columns).all(|((_, of), value)| is_whole(*of, value)) {
        return None;
    }
    let event_id = source.event_id.as_ref().map(column);
    if event_id.as_ref().is_some_and(Datum::is_null) {
        return None;
    }
    let ahead = i128::from(event_time) - i128::from(known);
    if ahead > i128::from(source.max_future_skew) {
        return None;
    }
    Some(Event {
        event_time,
        event_id,
        arrival,
        partition: row.partition,
        offset: row.offset,
        columns,
        joined: Vec::new(),
    })
}

/// A vector that is missing, of a wrong length or with a null or NaN element makes its row a dead letter.
fn is_whole(of: Type, value: &Datum) -> bool {
    match (of, value) {
        (Type::Vector(length), Datum::Vector(elements)) => {
            elements.len() == length && !elements.iter().any(|x| x.is_nan())
        }
        (Type::Vector(_), _) => false,
        _ => true,
    }
}

/// By event time, then event id if declared, then position.
pub fn total_order(a: &Event, b: &Event) -> Ordering {
    let ids = match (&a.event_id, &b.event_id) {
        (Some(a), Some(b)) => a.order(b),
        _ => Ordering::Equal,
    };
    let positions = (a.partition, a.offset).cmp(&(b.partition, b.offset));
    a.event_time.cmp(&b.event_time).then(ids).then(positions)
}

/// `rows` are all rows of this source, in log order.
pub fn source_ledger(source: &Source, rows: &[Row]) -> SourceLedger {
    let consumed = rows.iter().filter(|row| !is_beyond_fence(source, row)).count() as u64;
    let accepted = rows.iter().filter(|row| accept(source, row).is_some()).count() as u64;
    SourceLedger { consumed, accepted, dead_lettered: consumed - accepted }
}

pub fn ledger(view: &View, source: &Source, rows: &[Row]) -> Ledger {
    let fates = fates(view, source, rows);
    let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count() as u64;
    Ledger {
        applied: count(Fate::Applied),
        filtered: count(Fate::Filtered),
        keyless: count(Fate::Keyless),
        late: count(Fate::Late),
        duplicate: count(Fate::Duplicate),
    }
}

/// One fate per row of the view's source, in the order of `rows`.
pub fn fates(view: &View, source: &Source, rows: &[Row]) -> Vec<Fate> {
    let mut newest_applied: BTreeMap<String, i64> = BTreeMap::new();
    let mut known_arrivals: BTreeMap<(String, String), BTreeMap<u32, i64>> = BTreeMap::new();
    let mut fates = Vec::new();
    for row in rows {
        let Some(event) = accept(source, row) else {
            fates.push(if is_beyond_fence(source, row) { Fate::NotOfHistory } else { Fate::DeadLetter });
            continue;
        };
        let key = key_of(view, source, &event);
        if key.iter().any(Datum::is_null) {
            fates.push(Fate::Keyless);
            continue;
        }
        // The debug text tells any two keys apart: it quotes text and names the type.
        let key = format!("{key:?}");
        let identity = event.event_id.as_ref().map(|id| (key.clone(), format!("{id:?}")));
        let known = identity.as_ref().and_then(|identity| known_arrivals.get(identity));
        let repeats = |(partition, known): (&u32, &i64)| {
            share_ids(source, *partition, event.partition) && is_within(event.arrival, *known, source.dedup_horizon)
        };
        if known.is_some_and(|known| known.iter().any(repeats)) {
            fates.push(Fate::Duplicate);
            continue;
        }
        if !is_delete(source, &event) && !passes(&view.filter, view, source, &event) {
            fates.push(Fate::Filtered);
            continue;
        }
        if let Some(identity) = identity {
            known_arrivals.entry(identity).or_default().insert(event.partition, event.arrival);
        }
        let newest = newest_applied.get(&key).copied();
        if newest.is_some_and(|newest| is_late(view, source, event.event_time, newest)) {
            fates.push(Fate::Late);
            continue;
        }
        newest_applied.insert(key, newest.map_or(event.event_time, |newest| newest.max(event.event_time)));
        fates.push(Fate::Applied);
    }
    fates
}

pub fn key_of(view: &View, source: &Source, event: &Event) -> Vec<Datum> {
    view.entity_keys.iter().map(|name| column(view, source, event, name).normalised()).collect()
}

/// A column of the view's events: the `select` columns come first, then joined ones and fields.
pub fn column(view: &View, source: &Source, event: &Event, name: &str) -> Datum {
    let field = |name: &str| match event.joined.iter().find(|(joined, _)| joined == name) {
        Some((_, value)) => value.clone(),
        None => field(source, event, name),
    };
    match view.select.iter().find(|(selected, _)| selected == name) {
        Some((_, expression)) => expression.eval(&field),
        None => field(name),
    }
}

pub fn field(source: &Source, event: &Event, name: &str) -> Datum {
    let index = source.field_index(name).unwrap_or_else(|| panic!("no column {name}"));
    event.columns[index].clone()
}

/// Whether a row of a table says that its key is no more.
pub fn is_delete(source: &Source, event: &Event) -> bool {
    let says_so = |when: &Expr| matches!(when.eval(&|name| field(source, event, name)), Datum::Bool(true));
    source.table && source.delete_when.as_ref().is_some_and(says_so)
}

/// A `where`: only true passes, neither false nor null.
pub fn passes(filter: &Option<Expr>, view: &View, source: &Source, event: &Event) -> bool {
    match filter {
        None => true,
        Some(filter) => matches!(filter.eval(&|name| column(view, source, event, name)), Datum::Bool(true)),
    }
}

/// The longest window + hop + offset of the view; `None` for a view that is never late.
pub fn reach(view: &View) -> Option<i128> {
    let mut longest = 0;
    for feature in &view.features {
        let window = match &feature.window {
            Window::Sliding { width, hop } => i128::from(*width) + i128::from(hop.unwrap_or(0)),
            Window::Ttl(width) => i128::from(*width),
            Window::Tumbling(width) => 2 * i128::from(*width),
            // One hour more than the clocks show, for a day, week or month in which they go back.
            Window::Calendar(Period::Day, _) => i128::from(25 * HOUR),
            Window::Calendar(Period::Week, _) => i128::from(7 * 24 * HOUR + HOUR),
            Window::Calendar(Period::Month, _) => i128::from(31 * 24 * HOUR + HOUR),
            Window::Lifetime | Window::LastN(_) | Window::Session(_) => return None,
        };
        longest = longest.max(window + i128::from(feature.offset));
    }
    Some(longest)
}

pub fn slack(source: &Source) -> i64 {
    HOUR.max(source.max_future_skew)
}

fn is_late(view: &View, source: &Source, event_time: i64, newest: i64) -> bool {
    match reach(view) {
        None => false,
        Some(reach) => i128::from(event_time) < i128::from(newest) - reach - i128::from(slack(source)),
    }
}

/// Ids are looked for within one partition. All files of a history are one, and one with each partition of the stream.
fn share_ids(source: &Source, known: u32, of_event: u32) -> bool {
    known == of_event || source.history && (known >= HISTORY || of_event >= HISTORY)
}

/// Also when the second arrival is before the first.
fn is_within(arrival: i64, known: i64, horizon: i64) -> bool {
    i128::from(arrival) - i128::from(known) <= i128::from(horizon)
}

fn time(value: Datum) -> Option<i64> {
    match value {
        Datum::Time(time) => Some(time),
        Datum::Null => None,
        other => panic!("ill-typed: {other:?} is not a time"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Aggregate, Type};
    use super::super::sample::{SECOND, feature, row, source, view};
    use super::*;

    /// Rows are (key, event time, id, arrival) of one partition.
    fn check(view: &View, rows: &[(&str, i64, i64, i64)], expected: &[Fate]) {
        let rows: Vec<Row> = rows.iter().enumerate().map(|(i, r)| row(0, i as u64, r.0, r.1, r.2, r.3, 0.0)).collect();
        assert_eq!(fates(view, &source(), &rows), expected);
    }

    fn sliding(width: i64) -> View {
        view(vec![feature("n", Aggregate::Count, Window::Sliding { width, hop: None })])
    }

    #[test]
    fn future_is_strict() {
        let skew = source().max_future_skew;
        check(&sliding(1), &[("a", skew, 1, 0), ("a", skew + 1, 2, 0)], &[Fate::Applied, Fate::DeadLetter]);
    }

    #[test]
    fn late_is_strict_and_counts_hop_and_offset() {
        let mut with_offset = view(vec![feature("n", Aggregate::Count, Window::Sliding { width: 10, hop: Some(5) })]);
        with_offset.features[0].offset = 7;
        let edge = 2 * HOUR - 22 - HOUR;
        let rows = [("a", 2 * HOUR, 1, 3 * HOUR), ("a", edge, 2, 3 * HOUR), ("a", edge - 1, 3, 3 * HOUR)];
        check(&with_offset, &rows, &[Fate::Applied, Fate::Applied, Fate::Late]);
        let lifetime = view(vec![feature("n", Aggregate::Count, Window::Lifetime)]);
        check(&lifetime, &rows, &[Fate::Applied; 3]);
        let tumbling = view(vec![feature("n", Aggregate::Count, Window::Tumbling(11))]);
        check(&tumbling, &rows, &[Fate::Applied, Fate::Applied, Fate::Late]);
    }

    #[test]
    fn the_future_of_one_key_is_not_late_for_another() {
        let rows = [("a", 9 * HOUR, 1, 9 * HOUR), ("b", 0, 2, 9 * HOUR), ("a", 0, 3, 9 * HOUR)];
        check(&sliding(SECOND), &rows, &[Fate::Applied, Fate::Applied, Fate::Late]);
    }

    #[test]
    fn horizon_starts_at_the_latest_applied() {
        let horizon = source().dedup_horizon;
        let rows = [("a", 0, 1, 0), ("a", 1, 1, horizon), ("a", 2, 1, horizon + 1), ("a", 3, 1, 2), ("b", 4, 1, 4)];
        let expected = [Fate::Applied, Fate::Duplicate, Fate::Applied, Fate::Duplicate, Fate::Applied];
        check(&sliding(SECOND), &rows, &expected);
    }

    #[test]
    fn late_leaves_its_id_and_filtered_does_not() {
        let late = [("a", 9 * HOUR, 1, 9 * HOUR), ("a", 0, 2, 9 * HOUR), ("a", 9 * HOUR, 2, 9 * HOUR)];
        check(&sliding(SECOND), &late, &[Fate::Applied, Fate::Late, Fate::Duplicate]);
        let mut filtered = sliding(SECOND);
        filtered.filter =
            Some(Expr::binary(super::super::expression::Operator::Greater, Expr::column("event"), Expr::int(0)));
        check(&filtered, &[("a", 0, 0, 0), ("a", 0, 0, 0)], &[Fate::Filtered; 2]);
    }

    #[test]
    fn partitions_do_not_share_ids_and_ledgers_add_up() {
        let mut rows = vec![row(0, 0, "a", 0, 1, 0, 0.0), row(1, 0, "a", 0, 1, 0, 0.0), row(1, 1, "a", 0, 1, 0, 0.0)];
        rows.push(row(0, 1, "a", 0, 1, 0, 0.0));
        rows[3].columns[1] = Datum::Null;
        rows.push(row(0, 2, "a", 0, 1, 0, 0.0));
        rows[4].columns[0] = Datum::Null;
        let found = ledger(&sliding(1), &source(), &rows);
        assert_eq!(found, Ledger { applied: 2, filtered: 0, keyless: 1, late: 0, duplicate: 1 });
        let found = source_ledger(&source(), &rows);
        assert_eq!(found, SourceLedger { consumed: 5, accepted: 4, dead_lettered: 1 });
        assert_eq!(source().fields[1].1, Type::Time);
    }

    /// Rows are (partition, id, event time, clock); those at rest arrive 10 s after they happened.
    fn check_history(source: &Source, rows: &[(u32, i64, i64, i64)], expected: &[Fate]) {
        let rows: Vec<Row> =
            rows.iter().enumerate().map(|(i, r)| row(r.0, i as u64, "a", r.2, r.1, r.3, 0.0)).collect();
        let view = view(vec![feature("n", Aggregate::Count, Window::Lifetime)]);
        assert_eq!(fates(&view, source, &rows), expected);
    }

    #[test]
    fn a_history_shares_its_ids_with_every_partition_of_the_stream() {
        let source = Source { history: true, assumed_delay: 10 * SECOND, ..source() };
        let (applied, duplicate) = (Fate::Applied, Fate::Duplicate);
        let seen_in_files = [(HISTORY, 1, 0, HOUR), (0, 1, 0, 5), (1, 1, 0, 5), (HISTORY + 1, 1, 0, HOUR)];
        check_history(&source, &seen_in_files, &[applied, duplicate, duplicate, duplicate]);
        let seen_in_the_stream = [(0, 1, 0, 5), (1, 1, 0, 5), (HISTORY, 1, 0, HOUR), (0, 1, 0, 6)];
        check_history(&source, &seen_in_the_stream, &[applied, applied, duplicate, duplicate]);
        let horizon = source.dedup_horizon + 10 * SECOND;
        let later = [(HISTORY, 1, 0, HOUR), (0, 1, 0, horizon), (0, 1, 0, horizon + 1), (HISTORY, 1, 0, 2 * HOUR)];
        check_history(&source, &later, &[applied, duplicate, applied, duplicate]);
        let without = Source { history: false, ..source };
        check_history(&without, &seen_in_files, &[applied; 4]);
    }

    #[test]
    fn the_fence_parts_files_from_stream() {
        let source = Source { history: true, history_until: Some(100), ..source() };
        let rows = [(HISTORY, 1, 99, HOUR), (HISTORY, 2, 100, HOUR), (0, 3, 99, 99), (0, 4, 100, 100)];
        let expected = [Fate::Applied, Fate::NotOfHistory, Fate::DeadLetter, Fate::Applied];
        check_history(&source, &rows, &expected);
        let rows: Vec<Row> = rows.iter().map(|r| row(r.0, 0, "a", r.2, r.1, r.3, 0.0)).collect();
        assert_eq!(source_ledger(&source, &rows), SourceLedger { consumed: 3, accepted: 2, dead_lettered: 1 });
    }

    #[test]
    fn the_future_of_files_begins_at_the_clock_of_the_load() {
        let source = Source { history: true, assumed_delay: 10 * SECOND, ..source() };
        let skew = source.max_future_skew;
        let rows = [(HISTORY, 1, HOUR + skew, HOUR), (HISTORY, 2, HOUR + skew + 1, HOUR)];
        check_history(&source, &rows, &[Fate::Applied, Fate::DeadLetter]);
        let found = accept(&source, &row(HISTORY, 0, "a", 7, 1, HOUR, 0.0)).expect("a good row");
        assert_eq!(found.arrival, 7 + 10 * SECOND);
    }

    #[test]
    fn calendars_reach_an_hour_further_and_sessions_are_never_late() {
        let rows = |distance: i64| {
            [("a", 90 * 24 * HOUR, 1, 90 * 24 * HOUR), ("a", 90 * 24 * HOUR - distance, 2, 90 * 24 * HOUR)]
        };
        for (period, hours) in [(Period::Day, 25), (Period::Week, 169), (Period::Month, 745)] {
            let mut view = view(vec![feature("n", Aggregate::Count, Window::Calendar(period, "UTC".into()))]);
            view.features[0].offset = 5;
            check(&view, &rows((hours + 1) * HOUR + 5), &[Fate::Applied; 2]);
            check(&view, &rows((hours + 1) * HOUR + 6), &[Fate::Applied, Fate::Late]);
        }
        let session = view(vec![feature("n", Aggregate::Count, Window::Session(1))]);
        check(&session, &rows(90 * 24 * HOUR), &[Fate::Applied; 2]);
    }

    #[test]
    fn a_broken_vector_is_a_dead_letter() {
        let mut source = source();
        source.fields.push(("v".into(), Type::Vector(2)));
        let is_accepted = |v: Datum| {
            let mut row = row(0, 0, "a", 0, 0, 0, 0.0);
            row.columns.push(v);
            accept(&source, &row).is_some()
        };
        assert!(is_accepted(Datum::Vector(vec![1.0, f32::INFINITY])));
        assert!(!is_accepted(Datum::Vector(vec![1.0, f32::NAN])));
        assert!(!is_accepted(Datum::Vector(vec![1.0])) && !is_accepted(Datum::Null));
    }
}
