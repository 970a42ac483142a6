//! Relations between two runs of the engine: a change of the input that must leave the answers alone, or change them in
//! a known way. No oracle says what is right here, so a misreading that engine and oracle share can still be found.
//!
//! That batches may be split and merged is in `parity`: there even the bytes are compared.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tidemill_features::read::Answer;
use tidemill_features::value::Value;
use tidemill_tests::oracle::calendar;
use tidemill_tests::oracle::expression::Expr;
use tidemill_tests::oracle::generate::{Case, case};
use tidemill_tests::oracle::model::{Aggregate, Datum, Feature, Period, Row, Type, View, Window};
use tidemill_tests::oracle::number;

use crate::engine::{Ingested, Log, Records, answers, ingest, laid_out};
use crate::parity::{cases, run};

const DAY: i64 = 86_400_000_000;
const YEAR: i64 = 365 * DAY;
/// After these many days the calendar repeats, weekdays and leap years and all.
const GREGORIAN_DAYS: i64 = 146_097;
/// The columns of every source that are keys, and where they stand.
const KEY_COLUMNS: [(&str, usize); 3] = [("key_text", 4), ("key_int", 5), ("key_more", 6)];

/// What one run of the engine says.
struct Told {
    /// by question, then by feature in order
    answers: Vec<Vec<(String, Answer)>>,
    /// by view
    records: Vec<Records>,
    /// by view: applied, filtered, keyless, late
    kept: Vec<[u64; 4]>,
    /// by view
    duplicates: Vec<u64>,
}

/// A case without what nobody computes here, and how its records are made: events of a batch, events of a leaf.
fn cases_and_layouts() -> impl Strategy<Value = (Case, (usize, usize))> {
    let layouts = vec![(1, 256), (7, 1), (50, 4), (1000, 16), (3, 256), (1000, 256)];
    let without_derived = case().prop_map(|mut case| {
        case.views.iter_mut().for_each(|view| view.derived.clear());
        case
    });
    (without_derived, prop::sample::select(layouts))
}

fn tell(case: &Case, (size, leaf_max): (usize, usize)) -> Result<Told, TestCaseError> {
    let registry = laid_out(case, leaf_max);
    let log = Log::new(case, size);
    let views: Vec<Ingested<'_>> = (0..case.views.len()).map(|view| ingest(&log, &registry, view)).collect();
    let mut told = Told { answers: Vec::new(), records: Vec::new(), kept: Vec::new(), duplicates: Vec::new() };
    for question in &case.reads {
        let found = answers(case, &registry, &views[question.view], question).map_err(TestCaseError::fail)?;
        let names = registry.views[question.view].plan.features.iter().map(|feature| feature.name.clone());
        told.answers.push(names.zip(found).collect());
    }
    for Ingested { records, ledger, .. } in views {
        told.records.push(records);
        told.kept.push([ledger.applied, ledger.filtered, ledger.keyless, ledger.late]);
        told.duplicates.push(ledger.duplicate);
    }
    Ok(told)
}

/// To the bit, or within the bound that the contract gives to what depends on the distance of times; `cancelled` is what may be
/// lost where signs differ.
fn is_same_value(a: &Value<'_>, b: &Value<'_>, cancelled: Option<f64>) -> bool {
    match (a, b, cancelled) {
        (Value::Float64(a), Value::Float64(b), Some(cancelled)) if a.is_finite() => {
            (a - b).abs() <= 2e-9 * a.abs().max(b.abs()) + cancelled
        }
        _ => a.same(b),
    }
}

/// Of a feature that depends on the distance of times: 2e-12 of the magnitudes of all its terms. What an expression makes of
/// columns is not known here, and may be anything.
fn cancelled(case: &Case, view: usize, name: &str) -> Option<f64> {
    let view = &case.views[view];
    let feature = view.features.iter().find(|feature| feature.name == name)?;
    let column = match &feature.aggregate {
        Aggregate::DecayedCount { .. } => return Some(0.0),
        Aggregate::DecayedSum { x: Expr::Column(column), .. } => column,
        Aggregate::DecayedSum { .. } => return Some(f64::INFINITY),
        _ => return None,
    };
    let source = case.source_of(view);
    let Some(at) = source.fields.iter().position(|(field, _)| field == column) else { return Some(f64::INFINITY) };
    let magnitude = |row: &Row| match &row.columns[at] {
        Datum::Float(x) if !x.is_finite() => 0.0,
        x @ (Datum::Float(_) | Datum::Int(_) | Datum::Decimal(..)) => {
            number::to_f64(&number::exact(x)).map_or(0.0, f64::abs)
        }
        _ => 0.0,
    };
    Some(case.rows_of(&view.source).iter().map(|row| 2e-12 * magnitude(row)).sum())
}

/// All answers of `before` are there after the change, their newest events later by `shift`.
fn expect_same(case: &Case, before: &Told, after: &Told, shift: i64) -> Result<(), TestCaseError> {
    for ((question, before), after) in case.reads.iter().zip(&before.answers).zip(&after.answers) {
        for (name, answer) in before {
            let cancelled = if shift == 0 { None } else { cancelled(case, question.view, name) };
            let (_, changed) = after.iter().find(|(other, _)| other == name).expect("the feature is still there");
            let same = is_same_value(&answer.value, &changed.value, cancelled)
                && answer.status == changed.status
                && answer.newest.map(|time| time + shift) == changed.newest
                && answer.capped == changed.capped;
            let view = &case.views[question.view].name;
            prop_assert!(same, "{view}.{name} at {}: {answer:?}, then {changed:?}", question.t);
        }
    }
    Ok(())
}

/// Offsets by place in the log.
fn renumber(case: &mut Case) {
    let mut next: HashMap<(usize, u32), u64> = HashMap::new();
    for (source, row) in &mut case.rows {
        let offset = next.entry((*source, row.partition)).or_default();
        row.offset = *offset;
        *offset += 1;
    }
}

fn counter(name: &str) -> Feature {
    let (name, aggregate, window) = (name.to_string(), Aggregate::Count, Window::Lifetime);
    Feature { name, aggregate, filter: None, window, offset: 0, default: None, include_request: false }
}

fn move_time(datum: &mut Datum, by: i64) {
    if let Datum::Time(time) = datum {
        *time += by;
    }
}

/// Microseconds after which a window's edges repeat; None where they never do.
fn cycle(window: &Window) -> Option<i64> {
    match window {
        Window::Sliding { hop: Some(hop), .. } => Some(*hop),
        Window::Tumbling(width) => Some(*width),
        Window::Calendar(_, zone) if zone != "UTC" => None,
        Window::Calendar(Period::Day, _) => Some(DAY),
        Window::Calendar(Period::Week, _) => Some(7 * DAY),
        Window::Calendar(Period::Month, _) => Some(GREGORIAN_DAYS * DAY),
        _ => Some(1),
    }
}

fn common_multiple(a: i64, b: i64) -> i128 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    i128::from(a) / i128::from(x) * i128::from(b)
}

/// Drops features until the edges of all windows repeat within the years that there are; gives that time.
fn common_cycle(case: &mut Case) -> i64 {
    let mut common = 1;
    for view in &mut case.views {
        view.features.retain(|feature| {
            let wider = cycle(&feature.window).map(|cycle| common_multiple(common, cycle));
            let fits = wider.and_then(|wider| i64::try_from(wider).ok()).filter(|wider| *wider <= 4200 * YEAR);
            common = fits.unwrap_or(common);
            fits.is_some()
        });
        if view.features.is_empty() {
            view.features.push(counter("all"));
        }
    }
    common
}

#[test]
fn time_can_be_shifted() {
    run("shifted time", (cases_and_layouts(), any::<u32>()), cases() / 10, |((case, layout), pick)| {
        let mut case = case.clone();
        let cycle = common_cycle(&mut case);
        let (earliest, latest) = (-1500 * YEAR / cycle, 4200 * YEAR / cycle);
        let times = earliest + i64::from(*pick) % (latest - earliest + 1);
        let shift = if times == 0 { cycle } else { times * cycle };
        let mut shifted = case.clone();
        for (_, row) in &mut shifted.rows {
            row.columns[..2].iter_mut().for_each(|time| move_time(time, shift));
            row.arrival += shift;
        }
        shifted.reads.iter_mut().for_each(|question| question.t += shift);
        shifted.sources.iter_mut().filter_map(|source| source.history_until.as_mut()).for_each(|until| *until += shift);
        let (before, after) = (tell(&case, *layout)?, tell(&shifted, *layout)?);
        prop_assert_eq!((&before.kept, &before.duplicates), (&after.kept, &after.duplicates));
        expect_same(&case, &before, &after, shift)
    });
}

/// The log in another order; only events of one partition and time keep theirs, since it is part of the total order.
fn shuffle(case: &mut Case, random: &mut StdRng) {
    case.rows.shuffle(random);
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, (source, row)) in case.rows.iter().enumerate() {
        places.entry(format!("{source} {} {:?}", row.partition, row.columns[0])).or_default().push(at);
    }
    for places in places.values() {
        let mut rows: Vec<(usize, Row)> = places.iter().map(|at| case.rows[*at].clone()).collect();
        rows.sort_by_key(|(_, row)| row.offset);
        places.iter().zip(rows).for_each(|(at, row)| case.rows[*at] = row);
    }
    renumber(case);
}

#[test]
fn arrival_order_does_not_matter() {
    run("shuffled log", (cases_and_layouts(), any::<u64>()), cases() / 10, |((case, layout), seed)| {
        let mut case = case.clone();
        // Nothing is a duplicate or late, which depends on the order by contract.
        case.sources.iter_mut().for_each(|source| source.event_id = None);
        case.views.iter_mut().for_each(|view| view.features.push(counter("all")));
        let mut shuffled = case.clone();
        shuffle(&mut shuffled, &mut StdRng::seed_from_u64(*seed));
        let (before, after) = (tell(&case, *layout)?, tell(&shuffled, *layout)?);
        prop_assert_eq!(&before.kept, &after.kept);
        let registry = laid_out(&case, layout.1);
        for (at, view) in registry.views.iter().enumerate().filter(|(_, view)| !view.plan.order_kept) {
            prop_assert!(before.records[at] == after.records[at], "the bytes of {} differ", view.name);
        }
        expect_same(&case, &before, &after, 0)
    });
}

/// Another key of the same type for each key, null for null.
fn renamed(key: &Datum, how: u8) -> Datum {
    match (key, how % 3) {
        (Datum::Text(text), 0) => Datum::Text(format!("key {text}")),
        (Datum::Text(text), 1) => Datum::Text(text.chars().rev().chain("\0😀".chars()).collect()),
        (Datum::Text(text), _) => Datum::Text(text.repeat(3) + "."),
        (Datum::Int(number), 0) => Datum::Int(!number),
        (Datum::Int(number), 1) => Datum::Int(number.wrapping_add(i64::MAX)),
        (Datum::Int(number), _) => Datum::Int(number.wrapping_mul(0x5851_f42d_4c95_7f2d)),
        (other, _) => other.clone(),
    }
}

/// Keys move to columns of their own, which no expression names, and are renamed there.
fn with_own_keys(case: &Case, rename: impl Fn(&Datum) -> Datum) -> Case {
    let mut case = case.clone();
    for source in &mut case.sources {
        let own = KEY_COLUMNS.map(|(name, at)| (format!("own_{name}"), source.fields[at].1));
        source.fields.extend(own);
    }
    for (_, row) in &mut case.rows {
        let own = KEY_COLUMNS.map(|(_, at)| rename(&row.columns[at]));
        row.columns.extend(own);
    }
    case.views.iter_mut().flat_map(|view| &mut view.entity_keys).for_each(|name| *name = format!("own_{name}"));
    case.reads.iter_mut().flat_map(|question| &mut question.key).for_each(|key| *key = rename(key));
    case
}

#[test]
fn keys_can_be_renamed() {
    run("renamed keys", (cases_and_layouts(), any::<u8>()), cases() / 10, |((case, layout), how)| {
        let case_before = with_own_keys(case, Datum::clone);
        let case_after = with_own_keys(case, |key| renamed(key, *how));
        let (before, after) = (tell(&case_before, *layout)?, tell(&case_after, *layout)?);
        prop_assert_eq!((&before.kept, &before.duplicates), (&after.kept, &after.duplicates));
        expect_same(case, &before, &after, 0)
    });
}

/// Adds the views of another case, and its features where their columns are known, before or behind one's own.
fn add_definitions(case: &mut Case, other: &Case, in_front: bool) {
    let of_other = other.views.iter().filter(|view| view.select.is_empty());
    let mut strangers: Vec<Feature> = of_other.flat_map(|view| view.features.clone()).collect();
    strangers.push(counter("stranger"));
    let views = case.views.len();
    for (i, mut stranger) in strangers.into_iter().enumerate() {
        stranger.name = format!("stranger_{i}_{}", stranger.name);
        let features = &mut case.views[i % views].features;
        features.insert(if in_front { 0 } else { features.len() }, stranger);
    }
    for (i, view) in other.views.iter().enumerate() {
        let source = case.sources[i % case.sources.len()].name.clone();
        case.views.push(View { name: format!("stranger_{i}"), source, ..view.clone() });
    }
}

#[test]
fn definitions_leave_one_another_alone() {
    let strategy = (cases_and_layouts(), cases_and_layouts(), any::<bool>());
    run("more definitions", strategy, cases() / 10, |((case, layout), (other, _), in_front)| {
        let mut more = case.clone();
        add_definitions(&mut more, other, *in_front);
        expect_same(case, &tell(case, *layout)?, &tell(&more, *layout)?, 0)
    });
}

#[test]
fn entities_leave_one_another_alone() {
    run("more entities", (cases_and_layouts(), any::<u64>()), cases() / 10, |((case, layout), seed)| {
        let mut random = StdRng::seed_from_u64(*seed);
        let mut more = case.clone();
        more.rows.clear();
        for row in &case.rows {
            for _ in 0..random.random_range(0..3) {
                let (source, mut stranger) = case.rows[random.random_range(0..case.rows.len())].clone();
                let name = ["somebody", "ab", ""][random.random_range(0..3)];
                for ((_, at), key) in KEY_COLUMNS.iter().zip([
                    Datum::Text(format!("other {name}")),
                    Datum::Int(424_242),
                    Datum::Text(format!("other {name}")),
                ]) {
                    stranger.columns[*at] = key;
                }
                more.rows.push((source, stranger));
            }
            more.rows.push(row.clone());
        }
        renumber(&mut more);
        expect_same(case, &tell(case, *layout)?, &tell(&more, *layout)?, 0)
    });
}

/// The first moments at which a feature can see an event at `time`, and can see it no more.
fn moments(window: &Window, offset: i64, time: i64) -> Vec<i64> {
    let of_window = match window {
        Window::Sliding { width, hop: None } | Window::Ttl(width) => vec![time + 1, time + width + 1],
        Window::Sliding { width, hop: Some(hop) } => vec![time + 1, (time.div_euclid(*hop) + 1) * hop + width],
        Window::Tumbling(width) => {
            let end = (time.div_euclid(*width) + 1) * width;
            vec![end, end + width]
        }
        Window::Session(gap) => vec![time + 1, time + gap],
        Window::Calendar(period, zone) => vec![time + 1, calendar::next_start(*period, zone, time)],
        Window::Lifetime | Window::LastN(_) => vec![time + 1],
    };
    // Whether the entity is known does not depend on the offset.
    of_window.into_iter().map(|moment| moment + offset).chain([time + 1]).collect()
}

/// The last moment, in ten years at most, up to which nothing of a question's view can change.
fn unchanged_until(case: &Case, view: usize, key: &[Datum], time: i64) -> i64 {
    let definition = &case.views[view];
    let source = case.source_of(definition);
    let keys: Vec<usize> = definition.entity_keys.iter().filter_map(|name| source.field_index(name)).collect();
    let mut until = time + 10 * YEAR;
    for row in case.rows_of(&definition.source) {
        let of_key = keys.iter().zip(key).all(|(at, key)| row.columns[*at].same(key));
        let Datum::Time(event) = row.columns[0] else { continue };
        for feature in definition.features.iter().filter(|_| of_key) {
            let coming = moments(&feature.window, feature.offset, event).into_iter().filter(|moment| *moment > time);
            until = coming.fold(until, |until, moment| until.min(moment - 1));
        }
    }
    until
}

#[test]
fn nothing_changes_between_edges() {
    run("quiet time", cases_and_layouts(), cases() / 10, |(case, layout)| {
        let mut case = case.clone();
        for view in &mut case.views {
            // What counts from the read itself changes all the time.
            view.features.retain(|feature| {
                use Aggregate::{DecayedCount, DecayedSum, TimeSinceLast};
                !matches!(feature.aggregate, DecayedCount { .. } | DecayedSum { .. } | TimeSinceLast)
            });
            view.features.iter_mut().for_each(|feature| feature.include_request = false);
            view.features.push(counter("all"));
        }
        let mut later = case.clone();
        for question in &mut later.reads {
            question.t = unchanged_until(&case, question.view, &question.key, question.t);
        }
        expect_same(&case, &tell(&case, *layout)?, &tell(&later, *layout)?, 0)
    });
}

/// Everything once more: at the end, or each row at once where its arrival is the server's clock.
fn deliver_twice(case: &mut Case) {
    let once = std::mem::take(&mut case.rows);
    let has_arrival = |source: usize| case.sources[source].arrival_time.is_some();
    for (source, row) in &once {
        let copies = if has_arrival(*source) { 1 } else { 2 };
        case.rows.extend(std::iter::repeat_n((*source, row.clone()), copies));
    }
    case.rows.extend(once.iter().filter(|(source, _)| has_arrival(*source)).cloned());
    renumber(case);
}

#[test]
fn a_second_delivery_changes_nothing() {
    run("everything twice", (cases_and_layouts(), any::<bool>()), cases() / 10, |((case, layout), by_text)| {
        let mut case = case.clone();
        for source in &mut case.sources {
            source.event_id = Some(if *by_text { "id_text" } else { "id_int" }.to_string());
            source.dedup_horizon = 300 * YEAR;
            assert!(
                matches!(source.fields[KEY_COLUMNS[0].1].1, Type::Text),
                "the columns are where they are said to be"
            );
        }
        let mut twice = case.clone();
        deliver_twice(&mut twice);
        let (before, after) = (tell(&case, *layout)?, tell(&twice, *layout)?);
        let applied = |told: &Told| -> Vec<(u64, u64)> { told.kept.iter().map(|kept| (kept[0], kept[3])).collect() };
        prop_assert_eq!(applied(&before), applied(&after), "applied and late");
        expect_same(&case, &before, &after, 0)
    });
}
