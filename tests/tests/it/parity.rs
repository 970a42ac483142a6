//! Engine = oracle, bit for bit: random definitions, logs, batch sizes, layouts and reads.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_tests::bridge::same;
use tidemill_tests::oracle::accept::{self, Ledger};
use tidemill_tests::oracle::generate::{Case, Question, case};
use tidemill_tests::oracle::model::Datum;
use tidemill_tests::oracle::read::read;

use crate::engine::{Ingested, Log, answers, ingest, laid_out};

fn check(case: &Case, size: usize, leaf_max: usize) -> Result<(), TestCaseError> {
    let registry = laid_out(case, leaf_max);
    let log = Log::new(case, size);
    let ingested: Vec<Ingested<'_>> = (0..case.views.len()).map(|view| ingest(&log, &registry, view)).collect();
    for (view, Ingested { ledger, .. }) in case.views.iter().zip(&ingested) {
        let expected = accept::ledger(view, case.source_of(view), &case.rows_of(&view.source));
        let all = |l: &Ledger| (l.applied, l.filtered, l.keyless, l.late, l.duplicate);
        prop_assert_eq!(all(ledger), all(&expected), "ledger of {}", view.name);
    }
    for question in &case.reads {
        let Question { view, key, t: time, request, .. } = question;
        let definition = &case.views[*view];
        let source = case.source_of(definition);
        let expected = read(definition, source, &case.rows_of(&definition.source), key, *time, Some(request));
        if key.iter().any(Datum::is_null) {
            continue;
        }
        let found = answers(case, &registry, &ingested[*view], question).map_err(TestCaseError::fail)?;
        for (feature, answer) in registry.views[*view].plan.features.iter().zip(&found) {
            let (_, wanted) = expected.iter().find(|(name, _)| *name == feature.name).unwrap();
            prop_assert!(
                same(answer, wanted),
                "{}.{} at {time}: {answer:?}, not {wanted:?}",
                definition.name,
                feature.name
            );
        }
    }
    Ok(())
}

/// As many cases as `TIDEMILL_CASES` says; 10,000 by default.
pub fn cases() -> u32 {
    std::env::var("TIDEMILL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

pub fn run<S: Strategy>(name: &str, strategy: S, cases: u32, test: impl Fn(&S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig::default();
    let max_shrink_iters = config.max_shrink_iters.min(20_000);
    // Cases of whole servers take a second each: what is small enough after some minutes is small enough.
    let max_shrink_time = 180_000;
    let config = ProptestConfig { cases, max_shrink_iters, max_shrink_time, failure_persistence: None, ..config };
    let mut seed = [0u8; 32];
    match std::env::var("TIDEMILL_SEED") {
        Ok(given) => seed[..8].copy_from_slice(&given.parse::<u64>().expect("TIDEMILL_SEED is a number").to_le_bytes()),
        Err(_) => seed[..8].copy_from_slice(&rand::random::<u64>().to_le_bytes()),
    }
    let shown = u64::from_le_bytes(seed[..8].try_into().unwrap());
    println!("{name}: {cases} cases, TIDEMILL_SEED={shown}");
    let rng = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, rng);
    if let Err(error) = runner.run(&strategy, |case| test(&case)) {
        panic!("TIDEMILL_SEED={shown}: {error}");
    }
}

#[test]
fn engine_equals_oracle() {
    let layouts = [(1, 256), (7, 1), (50, 4), (1000, 16), (3, 256), (1000, 256)];
    run("engine = oracle", (case(), 0..layouts.len()), cases(), |(case, layout)| {
        let (batch_size, leaf_max) = layouts[*layout];
        check(case, batch_size, leaf_max)
    });
}

/// Batch sizes group events in other ways, and each group enters a record at once: the bytes must not tell.
#[test]
fn equal_sets_of_events_have_equal_bytes() {
    run("equal bytes", (case(), 0..4usize), cases() / 10, |(case, leaf)| {
        let registry = laid_out(case, [1, 3, 16, 256][*leaf]);
        let (single, whole) = (Log::new(case, 1), Log::new(case, 1000));
        for view in 0..case.views.len() {
            let one = ingest(&single, &registry, view).records;
            let all = ingest(&whole, &registry, view).records;
            prop_assert!(one == all, "view {view}: batches of 1 and of 1000 differ");
        }
        Ok(())
    });
}
