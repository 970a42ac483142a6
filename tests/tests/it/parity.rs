//! Engine = oracle, bit for bit: random definitions, logs, batch sizes, layouts and reads.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_features::definitions::{Registry, View};
use tidemill_features::read::{Answer, Context, History, ReadError, Stored, read_view};
use tidemill_features::record::{Fate, Incoming, NodeId, Nodes, apply};
use tidemill_features::stream::{EventBatch, Prepared, encode_key};
use tidemill_tests::bridge::{batch, registry, request_batch, same, value};
use tidemill_tests::oracle::accept::{self, Ledger};
use tidemill_tests::oracle::generate::{Case, Question, case};
use tidemill_tests::oracle::model::Row;
use tidemill_tests::oracle::read::read;

/// Records and chunks of one view, as a store would hold them.
#[derive(Default, Clone, PartialEq)]
struct Records {
    records: HashMap<Vec<u8>, Vec<u8>>,
    chunks: HashMap<(Vec<u8>, NodeId), Arc<[u8]>>,
}

struct Of<'r>(&'r Records, &'r [u8]);

impl Nodes for Of<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        self.0.chunks.get(&(self.1.to_vec(), id)).cloned()
    }
}

impl Records {
    fn apply(&mut self, view: &View, events: &HashMap<Vec<u8>, Vec<Incoming<'_>>>, ledger: &mut Ledger) {
        for (key, events) in events {
            let applied = apply(&view.plan, self.records.get(key).map(Vec::as_slice), events, &Of(self, key)).unwrap();
            for fate in applied.fates {
                match fate {
                    Fate::Applied => ledger.applied += 1,
                    Fate::Filtered => ledger.filtered += 1,
                    Fate::Late => ledger.late += 1,
                    Fate::Duplicate => ledger.duplicate += 1,
                    Fate::Keyless => ledger.keyless += 1,
                }
            }
            if let Some(record) = applied.record {
                self.records.insert(key.clone(), record);
            }
            for (id, chunk) in applied.chunks {
                match chunk {
                    Some(chunk) => self.chunks.insert((key.clone(), id), chunk),
                    None => self.chunks.remove(&(key.clone(), id)),
                };
            }
        }
    }
}

/// The log in batches of one partition each, `size` rows at most.
fn batches(case: &Case, source: usize, size: usize) -> Vec<Vec<&Row>> {
    let rows: Vec<&Row> = case.rows.iter().filter(|(s, _)| *s == source).map(|(_, row)| row).collect();
    let of_partition = rows.chunk_by(|a, b| a.partition == b.partition);
    of_partition.flat_map(|rows| rows.chunks(size)).map(<[&Row]>::to_vec).collect()
}

fn by_key<'p>(
    prepared: &'p Prepared<'_>,
    batch: &EventBatch,
    ledger: &mut Ledger,
) -> HashMap<Vec<u8>, Vec<Incoming<'p>>> {
    let mut events: HashMap<Vec<u8>, Vec<Incoming<'_>>> = HashMap::new();
    for row in 0..batch.len() {
        match prepared.key(row) {
            Some(key) => events.entry(key.to_vec()).or_default().push(prepared.incoming(row)),
            None => ledger.keyless += 1,
        }
    }
    events
}

fn ingest(case: &Case, registry: &Registry, view: usize, size: usize) -> (Records, Ledger) {
    let view = &registry.views[view];
    let stream = view.stream.as_ref().unwrap();
    let source = &case.sources[stream.source];
    let (mut records, mut ledger) = (Records::default(), Ledger::default());
    for rows in batches(case, stream.source, size) {
        let batch = batch(source, &rows);
        let prepared = Prepared::new(view, stream, &registry.sources[stream.source], &batch);
        let events = by_key(&prepared, &batch, &mut ledger);
        records.apply(view, &events, &mut ledger);
    }
    (records, ledger)
}

/// What the log says, for reads that the record cannot answer.
fn from_log(
    case: &Case,
    registry: &Registry,
    view: usize,
    key: &[u8],
    context: &Context<'_>,
    features: &[usize],
    time: i64,
) -> Vec<Answer> {
    let view = &registry.views[view];
    let stream = view.stream.as_ref().unwrap();
    let batches: Vec<EventBatch> =
        batches(case, stream.source, 1000).iter().map(|rows| batch(&case.sources[stream.source], rows)).collect();
    let prepared: Vec<Prepared<'_>> =
        batches.iter().map(|b| Prepared::new(view, stream, &registry.sources[stream.source], b)).collect();
    let mut history = History::new(&view.plan);
    for (prepared, batch) in prepared.iter().zip(&batches) {
        for row in (0..batch.len()).filter(|row| prepared.key(*row) == Some(key)) {
            history.push(&prepared.incoming(row)).unwrap();
        }
    }
    history.read(context, features, time).unwrap()
}

/// The registry of a case, its records laid out as ladders of small leaves where `leaf_max` says so.
fn laid_out(case: &Case, leaf_max: usize) -> Registry {
    let mut registry = registry(&case.sources, &case.views);
    for view in &mut registry.views {
        let plan = Arc::get_mut(view).and_then(|view| Arc::get_mut(&mut view.plan)).expect("nobody else has the plan");
        plan.leaf_max = leaf_max;
    }
    registry
}

fn check(case: &Case, size: usize, leaf_max: usize) -> Result<(), TestCaseError> {
    let registry = laid_out(case, leaf_max);
    let ingested: Vec<(Records, Ledger)> =
        (0..case.views.len()).map(|view| ingest(case, &registry, view, size)).collect();
    for (view, (_, ledger)) in case.views.iter().zip(&ingested) {
        let expected = accept::ledger(view, case.source_of(view), &case.rows_of(&view.source));
        let all = |l: &Ledger| (l.applied, l.filtered, l.keyless, l.late, l.duplicate);
        prop_assert_eq!(all(ledger), all(&expected), "ledger of {}", view.name);
    }
    for Question { view, key, t: time, request, .. } in &case.reads {
        let definition = &case.views[*view];
        let source = case.source_of(definition);
        let expected = read(definition, source, &case.rows_of(&definition.source), key, *time, Some(request));
        let row = request_batch(definition, source, key, request, *time);
        let (checked, stream) = (&registry.views[*view], registry.views[*view].stream.as_ref().unwrap());
        let prepared = Prepared::new(checked, stream, &registry.sources[stream.source], &row);
        let incoming = prepared.incoming(0);
        let context = Context { request: incoming.passes.then_some((*time, incoming.body)), ..Context::default() };
        let records = &ingested[*view].0;
        let plan = &registry.views[*view].plan;
        let features: Vec<usize> = (0..plan.features.len()).collect();
        let Some(key) = encode_key(key.iter().map(value)) else { continue };
        let record = records.records.get(&key).map(Vec::as_slice);
        let mut answers = Vec::new();
        let nodes = Of(records, &key);
        let stored = Stored { record, nodes: &nodes };
        match read_view(plan, stored, &context, &features, *time, &mut answers) {
            Ok(()) => {}
            Err(ReadError::BeyondRecord) => {
                answers = from_log(case, &registry, *view, &key, &context, &features, *time)
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        for (feature, answer) in plan.features.iter().zip(&answers) {
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
    let config =
        ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() };
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
        for view in 0..case.views.len() {
            let one = ingest(case, &registry, view, 1).0;
            let all = ingest(case, &registry, view, 1000).0;
            prop_assert!(one == all, "view {view}: batches of 1 and of 1000 differ");
        }
        Ok(())
    });
}
