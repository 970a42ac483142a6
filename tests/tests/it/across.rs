//! The whole server against the oracle: tables, joins, derived features across views and entities, lookups, request rows.
//!
//! Each case's log is written as the server would have written it; then a real server recovers it and reads.

use std::sync::Arc;

use proptest::test_runner::TestCaseError;
use tidemill::components::Server;
use tidemill::log::{DeadEvent, Frame, LogPlace, LogWriter, SourceSchema};
use tidemill_features::definitions::Registry;
use tidemill_features::expression::Column;
use tidemill_features::read::Answer;
use tidemill_features::service::Keys;
use tidemill_features::service::ReadPlan;
use tidemill_features::value::Value;
use tidemill_tests::bridge::{batch, registry, same, value};
use tidemill_tests::oracle::accept;
use tidemill_tests::oracle::generate::{Case, Question, service_case};
use tidemill_tests::oracle::model::Row;
use tidemill_tests::oracle::service::read_service;

use crate::parity::{cases, run};

/// Whether two rows that follow each other may be in one frame.
pub fn together(a: &(usize, Row), b: &(usize, Row)) -> bool {
    a.0 == b.0 && a.1.partition == b.1.partition
}

/// Writes the rows of a case as an event log: frames of one partition, in log order, of at most `size` rows.
pub fn write_log(case: &Case, registry: &Registry, folder: &std::path::Path, size: usize) {
    let mut writer = LogWriter::open(folder, LogPlace::default()).unwrap();
    for rows in case.rows.chunk_by(together).flat_map(|rows| rows.chunks(size)) {
        let source = &case.sources[rows[0].0];
        let of_frame: Vec<&Row> = rows.iter().map(|(_, row)| row).collect();
        let batch = batch(source, &of_frame);
        let is_dead = |row: &&&Row| accept::accept(source, row).is_none() && !accept::is_beyond_fence(source, row);
        let dead = of_frame.iter().filter(is_dead).map(|row| DeadEvent {
            offset: row.offset,
            code: "E1003".to_string(),
            reason: "bad".to_string(),
            payload: Vec::new(),
        });
        writer.add(&Frame {
            source: source.name.clone(),
            partition: of_frame[0].partition,
            first_offset: of_frame[0].offset,
            consumed: of_frame.len() as u64,
            accepted_at: of_frame.iter().map(|row| row.arrival).max().unwrap(),
            schema: SourceSchema::of(&registry.sources[rows[0].0]),
            batches: if batch.is_empty() { Vec::new() } else { vec![batch] },
            dead: dead.collect(),
        });
    }
    writer.write().unwrap();
    writer.sync().unwrap();
}

fn one(value: Value<'static>) -> Column {
    Column::Values(vec![value])
}

/// All outputs of the case's service at one question.
fn ask(server: &Server, plan: &Arc<ReadPlan>, question: &Question) -> Vec<Answer> {
    let key = |name: &String| value(question.keys.get(name).unwrap_or_else(|| panic!("no key {name}")));
    let request = |name: &String| question.request.get(name).map(value).unwrap_or_default().settled();
    let keys = Keys {
        columns: plan.keys.iter().map(|(name, _)| one(key(name).settled())).collect(),
        request: plan.request.iter().map(|(name, _)| one(request(name))).collect(),
        rows: 1,
    };
    let answers = server.reader.get(plan.clone(), &keys, Some(question.t)).unwrap_or_else(|e| panic!("{e}"));
    answers.columns.into_iter().map(|mut column| column.remove(0)).collect()
}

/// Has all views derived anew, one after the other, by the builder.
fn backfill_all(server: &Server) {
    for at in (0..server.registry.views.len()).filter(|at| server.registry.views[*at].stream.is_some()) {
        let build = server.ingest.builds.rebuild(&server.registry, at).unwrap_or_else(|e| panic!("{e}"));
        let outcome = loop {
            match build.outcome() {
                Some(outcome) => break outcome,
                None => std::thread::sleep(std::time::Duration::from_micros(100)),
            }
        };
        outcome.unwrap_or_else(|e| panic!("{e}"));
    }
}

fn check(case: &Case, size: usize, anew: bool) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&case.sources, &case.views);
    write_log(case, &registry, &folder.path().join("log"), size);
    let (server, threads) = Server::open(registry, folder.path()).unwrap_or_else(|e| panic!("{e}"));
    if anew {
        backfill_all(&server);
    }
    equals_oracle(case, &server)?;
    drop(server);
    threads.join();
    Ok(())
}

/// Whether a server that has the rows of a case says what the oracle says: values, and what became of the events.
pub fn equals_oracle(case: &Case, server: &Server) -> Result<(), TestCaseError> {
    let plan = server.reader.plan("all", &[]).unwrap_or_else(|e| panic!("{e}"));
    for question in &case.reads {
        let names_null = plan.keys.iter().any(|(name, _)| question.keys.get(name).is_none_or(|key| key.is_null()));
        if names_null {
            continue;
        }
        let expected = read_service(case.project(), &question.keys, Some(&question.request), question.t);
        let found = ask(server, &plan, question);
        proptest::prop_assert_eq!(found.len(), expected.len());
        for ((answer, (name, wanted)), (own, _)) in found.iter().zip(&expected).zip(&plan.columns) {
            proptest::prop_assert_eq!(own, name);
            proptest::prop_assert!(same(answer, wanted), "{} at {}: {:?}, not {:?}", name, question.t, answer, wanted);
        }
    }
    let state = server.memory.read();
    for (at, view) in case.views.iter().enumerate() {
        let expected = accept::ledger(view, case.source_of(view), &case.rows_of(&view.source));
        let found = state.views[at];
        let all = (found.applied, found.filtered, found.keyless, found.late, found.duplicate);
        let wanted = (expected.applied, expected.filtered, expected.keyless, expected.late, expected.duplicate);
        proptest::prop_assert_eq!(all, wanted, "ledger of {}", view.name);
    }
    for (at, source) in case.sources.iter().enumerate() {
        let found = state.sources[at];
        let expected = accept::source_ledger(source, &case.rows_of(&source.name));
        let wanted = (expected.consumed, expected.accepted, expected.dead_lettered);
        proptest::prop_assert_eq!((found.consumed, found.accepted, found.dead_lettered), wanted, "of {}", source.name);
    }
    Ok(())
}

#[test]
fn a_real_server_equals_the_oracle_across_views() {
    let strategy = (service_case(), proptest::sample::select(vec![1usize, 7, 1000]));
    run("server = oracle", strategy, cases() / 20, |(case, size)| check(case, *size, false));
}

#[test]
fn views_that_are_derived_anew_equal_the_oracle() {
    let strategy = (service_case(), proptest::sample::select(vec![1usize, 7, 1000]));
    run("back-fill = oracle", strategy, cases() / 100, |(case, size)| check(case, *size, true));
}
