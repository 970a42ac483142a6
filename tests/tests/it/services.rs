//! Whole services without a server: plans, timelines, request rows, joins, derived features and lookups against the oracle.
//!
//! The core is driven as serving and training drive it, in three ways: from timelines that show each read what was visible
//! then, from the log's whole past, and from records.

use std::cell::Cell;
use std::convert::Infallible;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_features::definitions::{Registry, View};
use tidemill_features::expression::Column;
use tidemill_features::plan::JoinedTable;
use tidemill_features::read::{
    Answer, Context, History, ReadError, Stored, Tables, Timeline, TimelineBuilder, read_view, table_row,
};
use tidemill_features::service::{Derivation, Keys, ReadPlan, RequestRows, ViewRead, encode_keys};
use tidemill_features::stream::{EventBatch, Prepared, encode_key};
use tidemill_features::value::Value;
use tidemill_tests::bridge::{batch, same, value};
use tidemill_tests::oracle::accept::{Event, Ledger};
use tidemill_tests::oracle::generate::{Case, Question, service_case};
use tidemill_tests::oracle::model::{Row, Source};
use tidemill_tests::oracle::service::read_seen;

use crate::engine::{Of, Records, by_key, laid_out};
use crate::parity::{cases, run};

/// What a read looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Timelines,
    Histories,
    Records,
}

/// Every other event is visible so much later than it happened; the others at once.
type Delay = i64;

fn visible_from(time: i64, offset: u64, delay: Delay) -> i64 {
    if offset.is_multiple_of(2) { time + delay } else { i64::MIN }
}

/// The log of a case, and the records of all views where they are read.
struct Core<'c> {
    registry: &'c Registry,
    log: &'c [(usize, EventBatch)],
    records: Vec<Records>,
    from: From,
    delay: Delay,
    /// moments that a timeline is made for: from some on it has tiles
    moments: usize,
}

/// The batches of a view's source as the view sees them.
type Seen<'s> = Vec<(&'s EventBatch, Prepared<'s>)>;

impl Core<'_> {
    fn seen<'s>(&'s self, view: &View, is_wanted: &dyn Fn(&[u8]) -> bool) -> Seen<'s> {
        let stream = view.stream.as_ref().unwrap();
        let source = &self.registry.sources[stream.source];
        let batches = self.log.iter().filter(|(at, _)| *at == stream.source);
        batches.map(|(_, batch)| (batch, Prepared::of_keys(view, stream, source, batch, is_wanted))).collect()
    }

    fn ingest(&self, view: &View) -> Records {
        let (mut records, mut ledger) = (Records::default(), Ledger::default());
        if view.stream.is_some() {
            for (batch, prepared) in &self.seen(view, &|_| true) {
                records.apply(view, &by_key(prepared, batch, &mut ledger), &mut ledger);
            }
        }
        records
    }

    fn timeline<T>(&self, view: &View, key: &[u8], read: impl FnOnce(&Timeline<'_>) -> T) -> T {
        let seen = self.seen(view, &|other| other == key);
        let mut builder = TimelineBuilder::new(&view.plan);
        for (batch, prepared) in &seen {
            for row in (0..batch.len()).filter(|row| prepared.key(*row).is_some()) {
                let visible_from = visible_from(batch.times[row], batch.offsets[row], self.delay);
                builder.push(&prepared.incoming(row), visible_from).unwrap();
            }
        }
        read(&builder.finish(self.moments).unwrap())
    }

    fn history<T>(&self, view: &View, key: &[u8], read: impl FnOnce(&History<'_>) -> T) -> T {
        let seen = self.seen(view, &|other| other == key);
        let mut history = History::new(&view.plan);
        for (batch, prepared) in &seen {
            for row in (0..batch.len()).filter(|row| prepared.key(*row).is_some()) {
                history.push(&prepared.incoming(row)).unwrap();
            }
        }
        read(&history)
    }

    /// The features of one view for one key.
    fn features(
        &self,
        read: &ViewRead,
        key: &[u8],
        context: &Context<'_>,
        time: i64,
    ) -> Result<Vec<Answer>, ReadError> {
        let view = &self.registry.views[read.view];
        let mut answers = Vec::new();
        if self.from == From::Timelines {
            self.timeline(view, key, |timeline| timeline.read(context, &read.features, time, time, &mut answers))?;
            return Ok(answers);
        }
        if self.from == From::Records {
            let records = &self.records[read.view];
            let stored = Stored { record: records.records.get(key).map(Vec::as_slice), nodes: &Of(records, key) };
            match read_view(&view.plan, stored, context, &read.features, time, &mut answers) {
                Err(ReadError::BeyondRecord) => {}
                other => return other.map(|()| answers),
            }
        }
        self.history(view, key, |history| history.read(context, &read.features, time))
    }

    /// What a plan's outputs are, by output and then row.
    fn read(&self, plan: &ReadPlan, keys: &Keys, times: &[i64]) -> Vec<Vec<Answer>> {
        let encoded = encode_keys(plan, keys).unwrap();
        let mut slots: Vec<Vec<Answer>> = vec![Vec::new(); plan.slots];
        for (read, of_view) in plan.views.iter().zip(&encoded) {
            let request = RequestRows::of(self.registry, read, keys, times);
            let prepared = request.as_ref().and_then(|rows| rows.prepare(self.registry));
            for (row, key) in of_view.iter().enumerate() {
                let time = times[row];
                let body = prepared.as_ref().and_then(|prepared| RequestRows::body(prepared, row));
                let tables = TablesUntil { core: self, until: time };
                let context = Context { tables: &tables, request: body.map(|body| (time, body)) };
                let answers = self.features(read, key, &context, time).unwrap();
                read.slots.iter().zip(answers).for_each(|(slot, answer)| slots[*slot].push(answer));
            }
        }
        let errors = Cell::new(0);
        let derivation = Derivation { registry: self.registry, plan, keys, times, errors: &errors };
        let derived = derivation.compute(&mut slots, &mut |plan, keys, rows| {
            let times: Vec<i64> = rows.iter().map(|row| times[*row]).collect();
            Ok::<_, Infallible>(self.read(plan, keys, &times).into_iter().flatten().collect())
        });
        derived.unwrap();
        plan.outputs.iter().map(|slot| slots[*slot].clone()).collect()
    }
}

/// Rows of joined tables that were visible at a time.
struct TablesUntil<'c> {
    core: &'c Core<'c>,
    until: i64,
}

impl Tables for TablesUntil<'_> {
    fn row(&self, table: &JoinedTable, key: &Value<'_>, time: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
        let at = self.core.registry.view(&table.view).unwrap();
        let view = &self.core.registry.views[at];
        let Some(key) = encode_key([key.borrowed()]) else { return Ok(None) };
        match self.core.from {
            From::Timelines => self.core.timeline(view, &key, |timeline| timeline.row_before(time, self.until)),
            From::Histories => self.core.history(view, &key, |history| history.table_rows()?.before(time)),
            From::Records => {
                let records = &self.core.records[at];
                let stored = Stored { record: records.records.get(&key).map(Vec::as_slice), nodes: &Of(records, &key) };
                table_row(&view.plan, stored, time)
            }
        }
    }
}

/// The log of a case as batches of one partition, in log order.
fn batches(case: &Case, size: usize) -> Vec<(usize, EventBatch)> {
    let together = |a: &(usize, Row), b: &(usize, Row)| a.0 == b.0 && a.1.partition == b.1.partition;
    let chunks = case.rows.chunk_by(together).flat_map(|rows| rows.chunks(size));
    let of_rows = |rows: &[(usize, Row)]| {
        let only: Vec<&Row> = rows.iter().map(|(_, row)| row).collect();
        (rows[0].0, batch(&case.sources[rows[0].0], &only))
    };
    chunks.map(of_rows).collect()
}

/// The questions whose keys are all there, as a request of many rows.
fn request<'c>(case: &'c Case, plan: &ReadPlan) -> (Vec<&'c Question>, Keys, Vec<i64>) {
    let has_keys = |question: &&Question| plan.keys.iter().all(|(name, _)| !question.keys[name].is_null());
    let questions: Vec<&Question> = case.reads.iter().filter(has_keys).collect();
    let key = |name: &String| questions.iter().map(|q| value(&q.keys[name]).settled()).collect();
    let given = |name: &String| {
        questions.iter().map(|q| q.request.get(name).map(value).unwrap_or_default().settled()).collect()
    };
    let keys = Keys {
        columns: plan.keys.iter().map(|(name, _)| Column::Values(key(name))).collect(),
        request: plan.request.iter().map(|(name, _)| Column::Values(given(name))).collect(),
        rows: questions.len(),
    };
    let times = questions.iter().map(|q| q.t).collect();
    (questions, keys, times)
}

fn check(case: &Case, size: usize, leaf_max: usize, from: From, delay: Delay) -> Result<(), TestCaseError> {
    let registry = laid_out(case, leaf_max);
    let log = batches(case, size);
    // Records and the log show everything that was accepted.
    let delay = if from == From::Timelines { delay } else { 0 };
    let mut core = Core { registry: &registry, log: &log, records: Vec::new(), from, delay, moments: size };
    if from == From::Records {
        core.records = registry.views.iter().map(|view| core.ingest(view)).collect();
    }
    let plan = ReadPlan::of_service(&registry, "all").expect("the service of a case");
    let (questions, keys, times) = request(case, &plan);
    let found = core.read(&plan, &keys, &times);
    let visible = |_: &Source, event: &Event| visible_from(event.event_time, event.offset, delay);
    let names: Vec<&String> = plan.columns.iter().map(|(name, _)| name).collect();
    for (row, question) in questions.iter().enumerate() {
        let expected = read_seen(case.project(), &question.keys, Some(&question.request), question.t, &visible);
        prop_assert_eq!(&names, &expected.iter().map(|(name, _)| name).collect::<Vec<_>>());
        for (column, (name, wanted)) in found.iter().zip(&expected) {
            prop_assert!(same(&column[row], wanted), "{name} at {}: {:?}, not {wanted:?}", question.t, column[row]);
        }
    }
    Ok(())
}

#[test]
fn services_equal_the_oracle_from_timelines_histories_and_records() {
    let from = proptest::sample::select(vec![From::Timelines, From::Histories, From::Records]);
    let shape = proptest::sample::select(vec![(1usize, 256usize), (7, 4), (1000, 16), (50, 256)]);
    run(
        "core = oracle",
        (service_case(), shape, from, 0..100_000_000i64),
        (cases() / 20).max(50),
        |(case, shape, from, delay)| check(case, shape.0, shape.1, *from, *delay),
    );
}
