//! Replays of a log whose front was cut: each answer is what the whole log gives, or none; and there is one wherever nothing
//! that is gone can matter.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill::offline::{Replay, Visibility};
use tidemill_features::definitions::Registry;
use tidemill_features::read::{Answer, Missing, Status};
use tidemill_features::service::ReadPlan;
use tidemill_features::stream::encode_key;
use tidemill_tests::bridge::{registry, same, value};
use tidemill_tests::oracle::accept::{self, Event, Fate};
use tidemill_tests::oracle::generate::{Case, service_case};
use tidemill_tests::oracle::model::{self, Row, Source};
use tidemill_tests::oracle::service::{read_seen, read_service};

use crate::parity::{cases, run};
use crate::replay::{Log, batches, commit_times, spine, visible_from};

/// What is gone of one source.
struct Gone {
    ranges: Vec<(i64, i64)>,
    arrival: i64,
}

/// The first rows of a log, by source: the times and arrivals of the good ones.
fn gone(case: &Case, cut: usize) -> Vec<Option<Gone>> {
    let of_source = |at: usize| {
        let rows = case.rows[..cut].iter().filter(|(source, _)| *source == at);
        let events: Vec<Event> = rows.filter_map(|(_, row)| accept::accept(&case.sources[at], row)).collect();
        let times = || events.iter().map(|event| event.event_time);
        let ranges = vec![(times().min()?, times().max()?)];
        Some(Gone { ranges, arrival: events.iter().map(|event| event.arrival).max()? })
    };
    (0..case.sources.len()).map(of_source).collect()
}

/// The time of a key's first event of a view, applied or late, in the whole log. None: it never had one.
fn oldest(case: &Case, view: &model::View, key: &[u8]) -> Option<i64> {
    let source = case.source_of(view);
    let rows: Vec<Row> = case.rows_of(&view.source);
    let fates = accept::fates(view, source, &rows);
    let counted = rows.iter().zip(fates).filter(|(_, fate)| matches!(fate, Fate::Applied | Fate::Late));
    let events = counted.filter_map(|(row, _)| accept::accept(source, row));
    let of_key = |event: &Event| {
        let values = accept::key_of(view, source, event);
        encode_key(values.iter().map(value)).is_some_and(|own| own == key)
    };
    events.filter(of_key).map(|event| event.event_time).min()
}

/// What the server would know of a key: what was cut of its source, and when the key was first seen.
fn missing(case: &Case, registry: &Registry, gone: &[Option<Gone>], view: usize, key: &[u8]) -> Option<Missing> {
    let source = registry.views[view].stream.as_ref()?.source;
    let gone = gone[source].as_ref()?;
    let of = |oldest| Missing::new(gone.ranges.clone(), gone.arrival, oldest);
    match case.views.get(view) {
        Some(declared) if !case.sources[source].table => of(Some(oldest(case, declared, key)?)).of_entity(),
        Some(declared) => Some(of(oldest(case, declared, key))),
        // It keeps the rows of a joined table.
        None => Some(of(None)),
    }
}

fn check(case: &Case, cut: usize, visibility: &Visibility) -> Result<(u32, u32), TestCaseError> {
    let registry = registry(&case.sources, &case.views);
    let gone = gone(case, cut);
    let mut left = case.clone();
    left.rows.drain(..cut);
    let batches = batches(&left, 7);
    let plan = ReadPlan::of_service(&registry, "all").expect("the service of a case");
    let (questions, keys, times) = spine(case, &plan);
    let (folder, stop) = (std::env::temp_dir(), AtomicBool::new(false));
    let known = |view: usize, key: &[u8]| missing(case, &registry, &gone, view, key);
    let log = Log { registry: &registry, batches: &batches, in_files: batches.len() / 2, missing: &known };
    let replay = Replay { registry: &registry, log: &log, folder: &folder, stop: &stop };
    let columns = replay.read(&plan, &keys, &times, visibility).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let visible = |source: &Source, event: &Event| visible_from(case, visibility, source, event);
    let (mut answered, mut unanswered) = (0, 0);
    for (row, question) in questions.iter().enumerate() {
        let expected = match visibility {
            Visibility::EventTime => read_service(case.project(), &question.keys, Some(&question.request), question.t),
            _ => read_seen(case.project(), &question.keys, Some(&question.request), question.t, &visible),
        };
        for (column, (name, wanted)) in columns.iter().zip(&expected) {
            let found = &column[row];
            if found.is_unanswered() {
                prop_assert!(found.value.is_null());
                prop_assert!(cut > 0 && gone.iter().any(Option::is_some), "{name} has no answer, and nothing is gone");
                unanswered += 1;
                continue;
            }
            answered += 1;
            let fits = same(found, wanted) || same(&seen_later(found, wanted, visibility), wanted);
            prop_assert!(fits, "{name} at {} without {cut} rows: {found:?}, not {wanted:?}", question.t);
        }
    }
    Ok((answered, unanswered))
}

/// Whether a key was known already, or only became so later in the part of the log that is gone, cannot be told for what was
/// visible at a time. The value is the same.
fn seen_later(found: &Answer, wanted: &model::Answer, visibility: &Visibility) -> Answer {
    let open = matches!(found.status, Status::Empty | Status::Defaulted | Status::Present);
    let unknown = wanted.status == model::Status::NotFound && !matches!(visibility, Visibility::EventTime);
    let status = if open && unknown { Status::NotFound } else { found.status };
    Answer { status, ..found.clone() }
}

#[test]
fn replays_of_a_cut_log_never_answer_wrongly() {
    let counts = std::cell::Cell::new((0, 0));
    let strategy = (service_case(), 0..=100usize, (0..3usize, 1..5usize, 0..100_000_000i64));
    run("replay of a cut log", strategy, cases() / 40, |(case, share, (which, group, delay))| {
        let cut = case.rows.len() * share / 100;
        let visibility = match which {
            0 => Visibility::EventTime,
            1 => Visibility::AssumedDelay(*delay),
            _ => Visibility::Served(commit_times(case, *group, *delay)),
        };
        let (answered, unanswered) = check(case, cut, &visibility)?;
        counts.set((counts.get().0 + answered, counts.get().1 + unanswered));
        Ok(())
    });
    let (answered, unanswered) = counts.get();
    println!("{answered} values known, {unanswered} not");
    assert!(answered > unanswered / 4 && unanswered > 0, "{answered} known, {unanswered} not");
}
