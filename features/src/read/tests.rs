//! Reads by hand: which rows count, how many tiles stand for rows, what the worst of two statuses is.

use std::collections::HashMap;

use super::*;
use crate::definitions::{DefinitionFile, Registry, check};
use crate::expression::Column;
use crate::plan::Range;
use crate::record::{NodeId, apply};
use crate::stream::{EventBatch, Prepared};

#[test]
fn statuses_by_badness() {
    use Status::{Defaulted, Empty, Error, NotFound, Present};
    let worst_first = [Error, NotFound, Defaulted, Empty, Present];
    let names = ["ERROR", "NOT_FOUND", "DEFAULTED", "EMPTY", "PRESENT"];
    for (i, (a, name)) in worst_first.into_iter().zip(names).enumerate() {
        assert_eq!((a.name(), usize::from(a.severity())), (name, 4 - i));
        for (j, b) in worst_first.into_iter().enumerate() {
            assert_eq!(a.worse(b), worst_first[i.min(j)], "{a:?} {b:?}");
        }
    }
}

fn registry(features: &str) -> Registry {
    let text = format!(
        "[source.s]\nconnector = 'push'\nevent_time = 't'\nfields = {{ k = 'string', x = 'int64', t = 'timestamp' }}\n\
         [entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\nwhere = 'x <> 99'\n[view.v.features]\n{features}"
    );
    check(&[DefinitionFile { path: "v.toml".into(), text }]).unwrap_or_else(|problems| panic!("{}", problems[0]))
}

/// Events of one key: time and x.
fn batch(events: &[(i64, Option<i64>)]) -> EventBatch {
    let times: Vec<i64> = events.iter().map(|(time, _)| *time).collect();
    let whole = |x: &Option<i64>| x.map_or(Value::Null, Value::Int64);
    let columns = vec![
        Column::Values(events.iter().map(|_| Value::text("c")).collect()),
        Column::Values(events.iter().map(|(_, x)| whole(x)).collect()),
        Column::Values(times.iter().map(|time| Value::Timestamp(*time)).collect()),
    ];
    EventBatch { columns, arrivals: times.clone(), times, partition: 0, offsets: (0..events.len() as u64).collect() }
}

/// Events count by their numbers in the order in which they came, whatever the order in which they happened.
#[test]
fn what_counts_is_numbered_as_it_came() {
    let registry = registry(
        "a = { agg = 'sum(x)', windows = ['10us'] }\nb = { agg = 'sum(x)', last_n = 2 }\nc = { agg = 'count()', where = 'x > 3', windows = ['1h'] }\n\
         d = { agg = 'sum(x)', window = 'session(4us)' }\ne = { agg = 'count()', window = 'lifetime' }\n",
    );
    let view = &registry.views[0];
    let batch = batch(&[(30, Some(5)), (20, Some(3)), (25, None), (31, Some(99)), (29, Some(4)), (40, Some(7))]);
    let prepared = Prepared::new(view, view.stream.as_ref().unwrap(), &registry.sources[0], &batch);
    let mut history = History::new(&view.plan);
    let fates: Vec<_> = (0..batch.len()).map(|row| history.push(&prepared.incoming(row)).unwrap()).collect();
    use crate::record::Fate::{Applied, Filtered};
    assert_eq!(fates, [Applied, Applied, Filtered, Filtered, Applied, Applied]);
    assert!(history.keeps(Applied) && history.keeps(crate::record::Fate::Late) && !history.keeps(Filtered));
    let counted = |feature: &str, time: i64| {
        let at = view.plan.features.iter().position(|f| f.name == feature).unwrap();
        let kept = [0, 1, 4, 5];
        let numbers = history.counted(&Context::default(), at, time).unwrap();
        numbers.into_iter().map(|number| kept[number]).collect::<Vec<_>>()
    };
    assert_eq!(
        (counted("a_10us", 35), counted("a_10us", 30), counted("a_10us", 31)),
        (vec![4, 0], vec![1, 4], vec![4, 0])
    );
    assert_eq!((counted("b", 41), counted("b", 40)), (vec![5, 0], vec![0, 4]));
    assert_eq!(counted("c_1h", 41), [4, 0, 5]);
    assert_eq!((counted("d", 33), counted("d", 34)), (vec![0, 4], vec![]));
    assert_eq!(counted("e", 100), [1, 4, 0, 5]);
    let event = prepared.incoming(5);
    assert!(history.value(&event, 0).unwrap().same(&Value::Int64(7)));
    assert!(history.passes(&event, Some(0)).unwrap() && !history.passes(&prepared.incoming(1), Some(0)).unwrap());
    assert!(history.passes(&prepared.incoming(1), None).unwrap());
    let (answers, nothing) = (history.read(&Context::default(), &[4], 20), History::new(&view.plan));
    assert_eq!(answers.unwrap()[0].status, Status::NotFound);
    assert_eq!(nothing.read(&Context::default(), &[4], i64::MAX).unwrap()[0].status, Status::NotFound);
    assert_eq!(history.read(&Context::default(), &[4], 21).unwrap()[0].status, Status::Present);
}

/// Events that come one by one, in any order and many at one time, make the record that they make together.
#[test]
fn a_row_goes_to_its_place_among_the_others() {
    let mut registry =
        registry("a = { agg = 'sum(x)', windows = ['1h'] }\nb = { agg = 'last(x)', windows = ['1h'] }\n");
    let view = Arc::get_mut(&mut registry.views[0]).unwrap();
    let order_kept = [false, true];
    for (leaf_max, order_kept) in [256, 6].into_iter().flat_map(|leaf_max| order_kept.map(|kept| (leaf_max, kept))) {
        let plan = Arc::get_mut(&mut view.plan).unwrap();
        (plan.leaf_max, plan.order_kept) = (leaf_max, order_kept);
        let events: Vec<(i64, Option<i64>)> =
            (0..60).map(|i| (i * 37 % 41 * 1_000, (i % 5 > 0).then_some(i))).collect();
        let batch = batch(&events);
        let prepared = Prepared::new(view, view.stream.as_ref().unwrap(), &registry.sources[0], &batch);
        let incoming: Vec<_> = (0..batch.len()).map(|row| prepared.incoming(row)).collect();
        let record_by = |size: usize| {
            let (mut record, mut chunks) = (None, Chunks(HashMap::new()));
            for events in incoming.chunks(size) {
                let applied = apply(&view.plan, record.as_deref(), events, &chunks).unwrap();
                record = applied.record.or(record);
                for (id, chunk) in applied.chunks {
                    match chunk {
                        Some(chunk) => chunks.0.insert(id, chunk),
                        None => chunks.0.remove(&id),
                    };
                }
            }
            (record.unwrap(), chunks.0)
        };
        let whole = record_by(events.len());
        for size in [1, 2, 3, 7, 59] {
            assert!(record_by(size) == whole, "{size} at once, leaves of {leaf_max}, {order_kept}");
        }
    }
}

struct Chunks(HashMap<NodeId, Arc<[u8]>>);

impl Nodes for Chunks {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        self.0.get(&id).cloned()
    }
}

/// Whole spans are read from their tiles; only those that an edge cuts are looked into.
#[test]
fn tiles_stand_for_whole_spans() {
    let mut registry = registry("a = { agg = 'sum(x)', windows = ['1h'] }\n");
    let view = Arc::get_mut(&mut registry.views[0]).unwrap();
    Arc::get_mut(&mut view.plan).unwrap().leaf_max = 4;
    let view = &registry.views[0];
    // Spans of 16 us from 0 to 128, four events in each, in the first half of it.
    let events: Vec<(i64, Option<i64>)> =
        (0..8).flat_map(|span| (0..4).map(move |i| (span * 16 + i * 2, Some(1 << (2 * span))))).collect();
    let batch = batch(&events);
    let prepared = Prepared::new(view, view.stream.as_ref().unwrap(), &registry.sources[0], &batch);
    let incoming: Vec<_> = (0..batch.len()).map(|row| prepared.incoming(row)).collect();
    let applied = apply(&view.plan, None, &incoming, &NoNodes).unwrap();
    let record = applied.record.unwrap();
    let chunks = Chunks(applied.chunks.into_iter().filter_map(|(id, chunk)| Some((id, chunk?))).collect());
    let outline = Outline::parse(&record).unwrap();
    assert_eq!((outline.oldest, outline.newest, chunks.0.len()), (0, 118, 8));
    let sum = |from: Option<i64>, to: i64| {
        let set = EventSet::of_record(&view.plan, outline.node, &chunks).unwrap();
        let mut cell = Cell::new(&view.plan.cells[0].aggregate);
        set.fold(&view.plan, Range { from, to }, 0, &mut cell).unwrap();
        let mut ascending = Vec::new();
        let visit = &mut |rows: &Rows<'_>, row: usize| {
            ascending.push(rows.times[row]);
            Ok(())
        };
        set.ascend(&view.plan, Range { from, to }, visit).unwrap();
        let expected: Vec<i64> = events
            .iter()
            .map(|(time, _)| *time)
            .filter(|time| from.is_none_or(|from| *time >= from) && *time < to)
            .collect();
        assert_eq!(ascending, expected);
        let total = match cell.finish(&view.plan.cells[0].aggregate, to) {
            Ok(Value::Int64(total)) => total,
            _ => 0,
        };
        (total, set.merged_tiles())
    };
    let quad = |spans: std::ops::Range<u32>| spans.map(|span| 4 << (2 * span)).sum::<i64>();
    assert_eq!(sum(None, 128), (quad(0..8), 8));
    assert_eq!(sum(Some(16), 48), (quad(1..3), 2));
    assert_eq!(sum(Some(16), 49), (quad(1..3) + (1 << 6), 2));
    assert_eq!(sum(Some(15), 47), (quad(1..3), 1));
    assert_eq!(sum(Some(17), 48), (quad(1..3) - 4, 1));
    assert_eq!(sum(Some(20), 22), (4, 0));
    assert_eq!(sum(Some(128), 500), (0, 0));
}

/// Time is walked through microsecond by microsecond, over records that are a leaf and such that are a ladder: as long as a value
/// is said to stand it is the same, and it is said anew at most as often as events come and go.
#[test]
fn values_stand_for_as_long_as_is_said() {
    let mut registry = registry(
        "a = { agg = 'sum(x)', windows = ['10us', '40us'] }\nb = { agg = 'sum(x)', windows = ['20us'], hop = '7us' }\n\
         c = { agg = 'last(x)', window = 'tumbling(9us)' }\nd = { agg = 'count()', window = 'session(6us)' }\n\
         e = { agg = 'sum(x)', last_n = 2 }\nf = { agg = 'count()', window = 'lifetime' }\n\
         g = { agg = 'max(x)', windows = ['15us'], offset = '11us', where = 'x > 2' }\n",
    );
    for (leaf_max, events) in [(4, 40), (256, 40), (4, 1), (256, 3)] {
        let view = Arc::get_mut(&mut registry.views[0]).unwrap();
        Arc::get_mut(&mut view.plan).unwrap().leaf_max = leaf_max;
        let view = &registry.views[0];
        let events: Vec<(i64, Option<i64>)> = (0..events).map(|i| ((i * 37 + i * i) % 150, Some(i % 7))).collect();
        let batch = batch(&events);
        let prepared = Prepared::new(view, view.stream.as_ref().unwrap(), &registry.sources[0], &batch);
        let incoming: Vec<_> = (0..batch.len()).map(|row| prepared.incoming(row)).collect();
        let applied = apply(&view.plan, None, &incoming, &NoNodes).unwrap();
        let record = applied.record.unwrap();
        let chunks = Chunks(applied.chunks.into_iter().filter_map(|(id, chunk)| Some((id, chunk?))).collect());
        let stored = Stored { record: Some(&record), nodes: &chunks };
        for feature in 0..view.plan.features.len() {
            let value = |time: i64| {
                let mut out = Vec::new();
                read_view(&view.plan, stored, &Context::default(), &[feature], time, &mut out).unwrap();
                out.remove(0).value
            };
            let (mut until, mut before, mut said) = (Some(-60), Value::Null, 0);
            for time in -60..300 {
                let now = value(time);
                if until.is_some_and(|until| until < time) || time == -60 {
                    until = stands_until(&view.plan, stored, feature, time).unwrap();
                    assert!(until.is_none_or(|until| until >= time));
                    said += 1;
                } else {
                    assert!(now.same(&before), "{} changes at {time}", view.plan.features[feature].name);
                }
                before = now;
            }
            assert_eq!(until, None, "in the end nothing changes any more");
            assert!(said <= 1 + 3 * events.len() + 2 * chunks.0.len(), "{said} looks at {} events", events.len());
        }
    }
}
