//! Training = serving = oracle: replays of random services from random logs, under every visibility.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill::failure::Failure;
use tidemill::offline::{CommitTimes, EventLog, FileRange, Located, Positions, Replay, Visibility};
use tidemill::place::{LogPlace, shard_of};
use tidemill_features::definitions::Registry;
use tidemill_features::expression::Column;
use tidemill_features::read::Missing;
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::stream::{EventBatch, encode_key};
use tidemill_features::value::Value;
use tidemill_tests::bridge::{batch, registry, same, value};
use tidemill_tests::oracle::accept::Event;
use tidemill_tests::oracle::generate::{Case, Question, service_case};
use tidemill_tests::oracle::model::{HISTORY, Row, Source};
use tidemill_tests::oracle::service::{read_seen, read_service};

use crate::parity::{cases, run};

/// The log of a case as batches of one partition, in log order.
pub fn batches(case: &Case, size: usize) -> Vec<(usize, EventBatch)> {
    let together = |a: &(usize, Row), b: &(usize, Row)| a.0 == b.0 && a.1.partition == b.1.partition;
    let chunks = case.rows.chunk_by(together).flat_map(|rows| rows.chunks(size));
    chunks
        .map(|rows| (rows[0].0, batch(&case.sources[rows[0].0], &rows.iter().map(|r| &r.1).collect::<Vec<_>>())))
        .collect()
}

/// A log of which the first batches lie in files, sorted by the key of the first view of their source.
pub struct Log<'l> {
    pub registry: &'l Registry,
    pub batches: &'l [(usize, EventBatch)],
    pub in_files: usize,
    /// where events may be missing, by view and key
    pub missing: &'l (dyn Fn(usize, &[u8]) -> Option<Missing> + Sync),
}

impl Log<'_> {
    fn place(&self, batch: usize) -> LogPlace {
        LogPlace { segment: batch as u64 / 3, offset: batch as u64 % 3 }
    }

    fn sort_key(&self, source: usize) -> &[usize] {
        let streams = self.registry.views.iter().filter_map(|view| view.stream.as_ref());
        streams.filter(|stream| stream.source == source).map(|stream| &stream.key_columns[..]).next().unwrap_or(&[])
    }
}

fn key_of(batch: &EventBatch, columns: &[usize], row: usize) -> Vec<u8> {
    encode_key(columns.iter().map(|at| batch.columns[*at].value(row))).unwrap_or_default()
}

/// Some rows of a batch, with values in some of its columns.
fn picked(batch: &EventBatch, rows: &[usize], columns: &[usize]) -> EventBatch {
    let column = |(at, column): (usize, &Column)| {
        let rows = if columns.contains(&at) { rows } else { &[] };
        Column::Values(rows.iter().map(|row| column.value(*row).into_owned()).collect())
    };
    EventBatch {
        columns: batch.columns.iter().enumerate().map(column).collect(),
        times: rows.iter().map(|row| batch.times[*row]).collect(),
        arrivals: rows.iter().map(|row| batch.arrivals[*row]).collect(),
        partition: batch.partition,
        offsets: rows.iter().map(|row| batch.offsets[*row]).collect(),
    }
}

impl EventLog for Log<'_> {
    fn sorted_by(&self, source: usize, key: &[usize]) -> Option<u64> {
        let of_source = self.batches[..self.in_files].iter().filter(|(of, _)| *of == source);
        let events = of_source.map(|(_, batch)| batch.len() as u64).sum();
        (events == 0 || self.sort_key(source) == key).then_some(events)
    }

    fn read_files(
        &self,
        range: &FileRange<'_>,
        visit: &mut dyn FnMut(Located) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let in_files = self.batches[..self.in_files].iter().enumerate();
        let mut rows: Vec<(Vec<u8>, i64, usize, usize)> = Vec::new();
        for (at, (_, batch)) in in_files.filter(|(_, (source, _))| *source == range.source) {
            for row in 0..batch.len() {
                let key = key_of(batch, range.key, row);
                let bucket = if key.is_empty() { 0 } else { shard_of(&key) as u8 };
                if range.buckets.contains(&bucket) {
                    rows.push((key_of(batch, self.sort_key(range.source), row), batch.times[row], at, row));
                }
            }
        }
        rows.sort();
        for rows in rows.chunk_by(|a, b| a.2 == b.2) {
            let batch = &self.batches[rows[0].2].1;
            let numbers: Vec<usize> = rows.iter().map(|row| row.3).collect();
            let places = vec![self.place(rows[0].2); rows.len()];
            visit(Located { batch: picked(batch, &numbers, range.columns), places })?;
        }
        Ok(())
    }

    fn missing(&self, view: usize, key: &[u8]) -> Option<Missing> {
        (self.missing)(view, key)
    }

    fn read_rest(
        &self,
        sources: &[usize],
        visit: &mut dyn FnMut(usize, Located) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let rest = self.batches.iter().enumerate().skip(self.in_files);
        for (at, (source, batch)) in rest.filter(|(_, (source, _))| sources.contains(source)) {
            let places = vec![self.place(at); batch.len()];
            visit(*source, Located { batch: batch.clone(), places })?;
        }
        Ok(())
    }
}

/// When events of sources without an arrival column could be read: some time after the last of a group had come.
pub fn commit_times(case: &Case, group: usize, delay: i64) -> CommitTimes {
    let mut commits = CommitTimes::new();
    let mut of_partition: BTreeMap<(u32, u32), Vec<&Row>> = BTreeMap::new();
    for (source, row) in &case.rows {
        of_partition.entry((*source as u32, row.partition)).or_default().push(row);
    }
    for (partition, rows) in of_partition {
        let mut latest = i64::MIN;
        for group in rows.chunks(group) {
            latest = group.iter().map(|row| row.arrival + delay).fold(latest, i64::max);
            let last = group.last().expect("chunks are not empty");
            commits.entry(partition).or_default().push((last.offset + 1, latest));
        }
    }
    commits
}

/// The oracle's word for the same.
pub fn visible_from(case: &Case, visibility: &Visibility, source: &Source, event: &Event) -> i64 {
    match visibility {
        Visibility::EventTime => i64::MIN,
        Visibility::AssumedDelay(delay) => event.event_time + delay,
        Visibility::Prefixes(_) => unreachable!("asked row by row"),
        Visibility::Served(_) if source.arrival_time.is_some() || event.partition >= HISTORY => event.arrival,
        Visibility::Served(commits) => {
            let at = case.sources.iter().position(|other| other.name == source.name).expect("a declared source");
            let of_partition = &commits[&(at as u32, event.partition)];
            of_partition.iter().find(|(next, _)| event.offset < *next).expect("every event is in a commit").1
        }
    }
}

/// The questions as a spine; those with a null key cannot be asked.
pub fn spine<'c>(case: &'c Case, plan: &ReadPlan) -> (Vec<&'c Question>, Keys, Vec<i64>) {
    let askable = |question: &&Question| {
        plan.keys.iter().all(|(name, _)| question.keys.get(name).is_some_and(|key| !key.is_null()))
    };
    let questions: Vec<&Question> = case.reads.iter().filter(askable).collect();
    let column = |values: Vec<Value<'static>>| Column::Values(values);
    let key = |name: &String| questions.iter().map(|q| value(&q.keys[name]).settled()).collect();
    let request = |name: &String| {
        questions.iter().map(|q| q.request.get(name).map(value).unwrap_or_default().settled()).collect()
    };
    let keys = Keys {
        columns: plan.keys.iter().map(|(name, _)| column(key(name))).collect(),
        request: plan.request.iter().map(|(name, _)| column(request(name))).collect(),
        rows: questions.len(),
    };
    let times = questions.iter().map(|q| q.t).collect();
    (questions, keys, times)
}

/// A prefix of the log for each question that can be asked.
fn prefixes(case: &Case, registry: &Registry, salt: i64) -> Vec<Positions> {
    let plan = ReadPlan::of_service(registry, "all").expect("the service of a case");
    let questions = spine(case, &plan).0.len();
    let prefix = |question: usize| {
        let length = (salt as usize).wrapping_mul(question + 1) % (case.rows.len() + 1);
        let mut positions = Positions::new();
        for (source, row) in &case.rows[..length] {
            positions.insert((*source as u32, row.partition), row.offset + 1);
        }
        positions
    };
    (0..questions).map(prefix).collect()
}

fn check(
    case: &Case,
    registry: &Registry,
    (size, in_files): (usize, usize),
    visibility: &Visibility,
) -> Result<(), TestCaseError> {
    let batches = batches(case, size);
    let in_files = batches.len() * in_files / 4;
    let log = Log { registry, batches: &batches, in_files, missing: &|_, _| None };
    let plan = ReadPlan::of_service(registry, "all").expect("the service of a case");
    let (questions, keys, times) = spine(case, &plan);
    let folder = std::env::temp_dir();
    let stop = AtomicBool::new(false);
    let replay = Replay { registry, log: &log, folder: &folder, stop: &stop };
    let columns = replay.read(&plan, &keys, &times, visibility).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let visible = |source: &Source, event: &Event| visible_from(case, visibility, source, event);
    for (row, question) in questions.iter().enumerate() {
        let expected = match visibility {
            Visibility::Prefixes(prefixes) => {
                let inside = |source: &Source, event: &Event| {
                    let at =
                        case.sources.iter().position(|other| other.name == source.name).expect("a declared source");
                    let next = prefixes[row].get(&(at as u32, event.partition)).copied().unwrap_or(0);
                    if event.offset < next { i64::MIN } else { i64::MAX }
                };
                read_seen(case.project(), &question.keys, Some(&question.request), question.t, &inside)
            }
            Visibility::EventTime => read_service(case.project(), &question.keys, Some(&question.request), question.t),
            _ => read_seen(case.project(), &question.keys, Some(&question.request), question.t, &visible),
        };
        for (column, (name, wanted)) in columns.iter().zip(&expected) {
            prop_assert!(same(&column[row], wanted), "{name} at {}: {:?}, not {wanted:?}", question.t, column[row]);
        }
    }
    Ok(())
}

#[test]
fn replays_equal_the_oracle_under_every_visibility() {
    let visibilities = (0..4usize, 1..5usize, 0..100_000_000i64);
    let layout = (proptest::sample::select(vec![1usize, 7, 1000]), 0..5usize);
    let strategy = (service_case(), layout, visibilities);
    run("replay = oracle", strategy, cases() / 10, |(case, layout, (which, group, delay))| {
        let registry = registry(&case.sources, &case.views);
        let visibility = match which {
            0 => Visibility::EventTime,
            1 => Visibility::AssumedDelay(*delay),
            2 => Visibility::Prefixes(prefixes(case, &registry, *delay)),
            _ => Visibility::Served(commit_times(case, *group, *delay)),
        };
        check(case, &registry, *layout, &visibility)
    });
}
