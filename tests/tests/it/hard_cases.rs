//! The hard cases, each by name: what must come out is written by hand, so that engine and oracle cannot be wrong together.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_features::definitions::{DefinitionFile, Registry, check};
use tidemill_features::expression::Column;
use tidemill_features::read::{Answer, Context, History, ReadError, Status, Stored, read_view};
use tidemill_features::record::{Fate, NodeId, Nodes, apply};
use tidemill_features::stream::{EventBatch, Prepared, encode_key};
use tidemill_features::time::{DAY, HOUR, SECOND};
use tidemill_features::value::Value;

/// An event: time, id, key, value.
type Event = (i64, i64, &'static str, f64);

/// A view over one source, its records, and its log.
struct View {
    registry: Registry,
    records: HashMap<Vec<u8>, Vec<u8>>,
    chunks: HashMap<(Vec<u8>, NodeId), Arc<[u8]>>,
    log: Vec<EventBatch>,
    next: u64,
}

struct Of<'v>(&'v View, Vec<u8>);

impl Nodes for Of<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        self.0.chunks.get(&(self.1.clone(), id)).cloned()
    }
}

impl View {
    fn new(features: &str) -> View {
        View::with("", features)
    }

    fn with(source: &str, features: &str) -> View {
        let text = format!(
            "[source.s]\nconnector = 'push'\nevent_time = 'at'\n{source}\nfields = {{ at = 'timestamp[us]', id = 'int64', k = 'string', x = 'float64' }}\n[entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\n{features}\n"
        );
        let registry = check(&[DefinitionFile { path: "t".into(), text }]).unwrap_or_else(|p| panic!("{}", p[0]));
        View { registry, records: HashMap::new(), chunks: HashMap::new(), log: Vec::new(), next: 0 }
    }

    /// Events that arrive one after the other; arrival is the event time unless `arrivals` says otherwise.
    fn push(&mut self, events: &[Event]) -> Vec<Fate> {
        let arrivals: Vec<i64> = events.iter().map(|e| e.0).collect();
        self.push_at(events, &arrivals)
    }

    fn push_at(&mut self, events: &[Event], arrivals: &[i64]) -> Vec<Fate> {
        let column = |make: fn(&Event) -> Value<'static>| Column::Values(events.iter().map(make).collect());
        let batch = EventBatch {
            columns: vec![
                column(|e| Value::Timestamp(e.0)),
                column(|e| Value::Int64(e.1)),
                column(|e| Value::text(e.2)),
                column(|e| Value::Float64(e.3).settled()),
            ],
            times: events.iter().map(|e| e.0).collect(),
            arrivals: arrivals.to_vec(),
            partition: 0,
            offsets: (self.next..self.next + events.len() as u64).collect(),
        };
        self.next += events.len() as u64;
        let (view, source) = (self.registry.views[0].clone(), self.registry.sources[0].clone());
        let prepared = Prepared::new(&view, view.stream.as_ref().unwrap(), &source, &batch);
        let mut fates = Vec::new();
        for row in 0..batch.len() {
            let key = prepared.key(row).unwrap().to_vec();
            let record = self.records.get(&key).map(Vec::as_slice);
            let applied = apply(&view.plan, record, &[prepared.incoming(row)], &Of(self, key.clone())).unwrap();
            fates.extend(applied.fates);
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
        drop(prepared);
        self.log.push(batch);
        fates
    }

    /// The value of the only feature, from the record or else from the log.
    fn read(&self, key: &str, time: i64) -> Answer {
        let view = &self.registry.views[0];
        let key = encode_key([Value::text(key)]).unwrap();
        let mut answers = Vec::new();
        let record = self.records.get(&key).map(Vec::as_slice);
        let nodes = Of(self, key.clone());
        let stored = Stored { record, nodes: &nodes };
        match read_view(&view.plan, stored, &Context::default(), &[0], time, &mut answers) {
            Ok(()) => answers.remove(0),
            Err(ReadError::BeyondRecord) => self.answer_from_log(&key, time),
            Err(error) => panic!("{error}"),
        }
    }

    fn answer_from_log(&self, key: &[u8], time: i64) -> Answer {
        let view = &self.registry.views[0];
        let (stream, source) = (view.stream.as_ref().unwrap(), &self.registry.sources[0]);
        let prepared: Vec<_> = self.log.iter().map(|batch| Prepared::new(view, stream, source, batch)).collect();
        let mut history = History::new(&view.plan);
        for (prepared, batch) in prepared.iter().zip(&self.log) {
            for row in (0..batch.len()).filter(|row| prepared.key(*row) == Some(key)) {
                history.push(&prepared.incoming(row)).unwrap();
            }
        }
        history.read(&Context::default(), &[0], time).unwrap().remove(0)
    }

    #[track_caller]
    fn is(&self, time: i64, expected: impl Into<Option<f64>>) {
        let answer = self.read("k", time);
        let value = match answer.value {
            Value::Int64(v) => Some(v as f64),
            Value::Float64(v) => Some(v),
            Value::Null => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(value, expected.into(), "{:?} at {time}", answer.status);
    }
}

const T: i64 = 1_700_000_000 * SECOND;

#[test]
fn one_event_at_both_edges_and_a_microsecond_beside() {
    let mut view = View::new("n = { agg = 'count()', windows = ['1h'] }");
    view.push(&[(T, 0, "k", 1.0)]);
    for (time, count) in [(T, 0.0), (T + 1, 1.0), (T + HOUR - 1, 1.0), (T + HOUR, 1.0), (T + HOUR + 1, 0.0)] {
        view.is(time, count);
    }
}

#[test]
fn a_value_decays_without_a_new_event() {
    let mut view = View::new("n = { agg = 'count()', windows = ['1s'] }");
    view.push(&[(T, 0, "k", 1.0)]);
    view.is(T + SECOND, 1.0);
    view.is(T + 1000 * DAY, 0.0);
    assert_eq!(view.read("k", T + 1000 * DAY).status, Status::Empty);
    assert_eq!(view.read("k", T).status, Status::NotFound);
    assert_eq!(view.read("nobody", T).status, Status::NotFound);
}

#[test]
fn negative_times_and_the_epoch() {
    let mut view = View::new("n = { agg = 'count()', windows = ['10s'], hop = '10s' }");
    view.push(&[(-SECOND, 0, "k", 1.0), (0, 1, "k", 1.0)]);
    view.is(1, 2.0);
    view.is(9 * SECOND, 2.0);
    view.is(10 * SECOND, 1.0);
    view.is(-SECOND, 0.0);
}

#[test]
fn ten_events_at_one_time_in_any_order() {
    let events: Vec<Event> = (0..10).map(|i| (T, 0, "k", f64::from(i))).collect();
    for start in 0..10 {
        let mut view = View::with("event_id = 'id'", "last = { agg = 'last(x)', window = 'lifetime' }");
        let rotated: Vec<Event> =
            (0..10).map(|i| events[(start + i * 7) % 10]).map(|e| (e.0, e.3 as i64, e.2, e.3)).collect();
        view.push(&rotated);
        view.is(T + 1, 9.0);
    }
}

#[test]
fn disorder_by_a_microsecond_a_tile_and_89_days() {
    for back in [1, 5 * 60 * SECOND, 89 * DAY] {
        let mut view = View::new("total = { agg = 'sum(x)', windows = ['90d'] }");
        assert_eq!(view.push(&[(T, 0, "k", 1.0), (T - back, 1, "k", 2.0)]), [Fate::Applied; 2]);
        view.is(T + 1, 3.0);
    }
    let mut view = View::new("total = { agg = 'sum(x)', windows = ['90d'] }");
    let late = T - 90 * DAY - HOUR;
    assert_eq!(
        view.push(&[(T, 0, "k", 1.0), (late, 1, "k", 2.0), (late - 1, 2, "k", 4.0)]),
        [Fate::Applied, Fate::Applied, Fate::Late]
    );
    view.is(T - 80 * DAY, 6.0);
}

#[test]
fn duplicates_at_the_edge_of_the_horizon() {
    let mut view = View::with("event_id = 'id'\ndedup_horizon = '1h'", "n = { agg = 'count()', window = 'lifetime' }");
    let event = (T, 7, "k", 1.0);
    let fates = view.push_at(&[event, event, event, event], &[T, T + HOUR, T - 5, T + HOUR + 1]);
    assert_eq!(fates, [Fate::Applied, Fate::Duplicate, Fate::Duplicate, Fate::Applied]);
    view.is(T + 1, 2.0);
}

#[test]
fn everything_delivered_again_changes_nothing() {
    let mut view = View::with("event_id = 'id'", "total = { agg = 'sum(x)', window = 'lifetime' }");
    let events: Vec<Event> = (0..500).map(|i| (T + i * SECOND, i, "k", 0.1)).collect();
    view.push(&events);
    let before = view.records.clone();
    assert!(view.push(&events).iter().all(|fate| *fate == Fate::Duplicate));
    assert!(view.records == before);
    view.is(T + DAY, 50.0);
}

#[test]
fn one_event_dated_2099_spoils_its_own_entity_only() {
    let mut view = View::new("n = { agg = 'count()', windows = ['1h'] }");
    let far = 4_070_908_800 * SECOND;
    assert_eq!(view.push(&[(T, 0, "k", 1.0), (far, 1, "other", 1.0), (T + 1, 2, "k", 1.0)]), [Fate::Applied; 3]);
    view.is(T + 2, 2.0);
}

#[test]
fn numbers_that_break_plain_sums() {
    let sum = |values: &[f64]| {
        let mut view = View::new("total = { agg = 'sum(x)', window = 'lifetime' }");
        view.push(&values.iter().enumerate().map(|(i, v)| (T + i as i64, 0, "k", *v)).collect::<Vec<_>>());
        view
    };
    sum(&[0.1; 10]).is(T + 100, 1.0);
    sum(&[1e308, -1e308, 1.0]).is(T + 100, 1.0);
    sum(&[5e-324, 5e-324]).is(T + 100, 1e-323);
    sum(&[-0.0]).is(T + 100, 0.0);
    sum(&[f64::INFINITY, 1.0]).is(T + 100, f64::INFINITY);
    let undefined = sum(&[f64::INFINITY, f64::NEG_INFINITY]).read("k", T + 100);
    assert!(undefined.value.is_null() && undefined.status == Status::Error);
    let overflow = sum(&[1e308, 1e308]).read("k", T + 100);
    assert!(overflow.value.is_null() && overflow.status == Status::Error);
    let mut ints = View::new("total = { agg = 'sum(id)', window = 'lifetime' }");
    ints.push(&[(T, i64::MAX, "k", 0.0), (T + 1, 1, "k", 0.0)]);
    assert_eq!(ints.read("k", T + 2).status, Status::Error);
}

#[test]
fn variance_of_a_billion_plus_noise_and_of_one() {
    let mut view = View::new("v = { agg = 'variance(x)', window = 'lifetime' }");
    view.push(&[(T, 0, "k", 1e9)]);
    let one = view.read("k", T + 1);
    assert!(one.value.is_null() && one.status == Status::Present);
    view.push(&[(T + 1, 1, "k", 1e9 + 1.0), (T + 2, 2, "k", 1e9 + 2.0)]);
    view.is(T + 9, 1.0);
}

#[test]
fn the_maximum_leaves_the_window() {
    let mut view = View::new("m = { agg = 'max(x)', windows = ['1h'] }");
    view.push(&[(T, 0, "k", 9.0), (T + 1, 1, "k", 4.0)]);
    view.is(T + HOUR, 9.0);
    view.is(T + HOUR + 1, 4.0);
    view.is(T + HOUR + 2, None);
}

#[test]
fn one_hot_key_with_fifty_thousand_events() {
    let mut view = View::new("total = { agg = 'sum(id)', windows = ['1h'] }");
    for part in 0..100 {
        let events: Vec<Event> = (0..500).map(|i| (T + (part * 500 + i) * 1000, 1, "k", 0.0)).collect();
        view.push(&events);
    }
    view.is(T + 50_000 * 1000, 50_000.0);
    view.is(T + HOUR, 50_000.0);
    view.is(T + HOUR + 1000, 49_999.0);
    view.is(T + HOUR + 49_999_000, 1.0);
    view.is(T + 12_345_001, 12_346.0);
    let record = view.records.values().next().unwrap();
    assert!(record.len() < 4096, "the record of a hot key has {} bytes", record.len());
}

#[test]
fn keys_with_nul_emoji_braces_and_64_kb() {
    let long: &'static str = Box::leak("k".repeat(65_000).into_boxed_str());
    let keys = ["", "\0", "a\0b", "🦀", "{s1}:x", "../../x", long];
    let mut view = View::new("n = { agg = 'count()', window = 'lifetime' }");
    view.push(&keys.map(|key| (T, 0, key, 1.0)));
    for key in keys {
        assert!(view.read(key, T + 1).value.same(&Value::Int64(1)));
    }
    let composite = |a: &str, b: &str| encode_key([Value::text(a), Value::text(b)].into_iter().map(Value::into_owned));
    assert_ne!(composite("ab", "c"), composite("a", "bc"));
    assert_ne!(composite("a", ""), composite("", "a"));
}
