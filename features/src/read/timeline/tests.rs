//! Tiles change no bit: every aggregate over a long history, at many moments, some events visible long after they happened.

use super::*;
use crate::definitions::{AGGREGATES, DefinitionFile, Registry, check};
use crate::expression::Column;
use crate::hash::hash_bytes;
use crate::stream::{EventBatch, Prepared};
use crate::time::SECOND;

const EVENTS: u64 = 3_000;
const SPAN: u64 = 400_000;

/// Every aggregate of the language over three windows.
fn registry() -> Registry {
    let mut text = String::from(
        "[source.s]\nconnector = 'push'\nevent_time = 'at'\nfields = { card = 'string', amount = 'float64', country = 'string', \
         fraud = 'int64', seen = 'int64', taste = 'vector<2>', at = 'timestamp' }\n[entity.card]\nkey = 'card'\n[view.v]\n\
         entity = 'card'\nsource = 's'\n[view.v.select]\nforeign = \"country <> 'DE'\"\n[view.v.features]\n",
    );
    for (i, aggregate) in AGGREGATES.iter().enumerate() {
        for (window, keys) in [("windows = ['3h']", "a"), ("window = 'lifetime'", "b"), ("last_n = 500", "c")] {
            text += &format!("{keys}{i} = {{ agg = \"{}\", {window} }}\n", aggregate.example);
        }
    }
    let files = [DefinitionFile { path: "all.toml".into(), text }];
    check(&files).unwrap_or_else(|problems| panic!("{}", problems[0]))
}

fn random(i: u64, of: u64, salt: u64) -> u64 {
    hash_bytes(&[i.to_le_bytes(), salt.to_le_bytes()].concat()) % of
}

fn events() -> EventBatch {
    let values = |of: &dyn Fn(u64) -> Value<'static>| Column::Values((0..EVENTS).map(of).collect());
    let times: Vec<i64> = (0..EVENTS).map(|i| random(i, SPAN, 1) as i64 * SECOND).collect();
    let columns = vec![
        values(&|_| Value::text("c")),
        values(&|i| Value::Float64(random(i, 1_000_000, 2) as f64 / 128.0 - 1000.0)),
        values(&|i| Value::text(["DE", "FR", "AT", "PL"][random(i, 4, 3) as usize])),
        values(&|i| Value::Int64(random(i, 2, 4) as i64)),
        values(&|_| Value::Int64(1)),
        values(&|i| Value::List(vec![Value::Float64(random(i, 64, 5) as f64 / 64.0), Value::Float64(1.0)])),
        Column::Values(times.iter().map(|time| Value::Timestamp(*time)).collect()),
    ];
    EventBatch { columns, arrivals: times.clone(), times, partition: 0, offsets: (0..EVENTS).collect() }
}

#[test]
fn tiles_change_no_bit() {
    let (registry, batch) = (registry(), events());
    let view = &registry.views[0];
    let prepared = Prepared::new(view, view.stream.as_ref().unwrap(), &registry.sources[0], &batch);
    let timeline = |moments: usize| {
        let mut builder = TimelineBuilder::new(&view.plan);
        for row in 0..batch.len() {
            // Most events are visible a minute later, one in fifty much later.
            let late = if random(row as u64, 50, 6) == 0 { random(row as u64, SPAN, 7) } else { 60 };
            builder.push(&prepared.incoming(row), batch.times[row] + late as i64 * SECOND).unwrap();
        }
        builder.finish(moments).unwrap()
    };
    let (plain, tiled) = (timeline(1), timeline(1000));
    assert!(plain.tiles.is_none() && tiled.tiles_visible_from.len() == 2);
    let features: Vec<usize> = (0..view.plan.features.len()).collect();
    for i in 0..24 {
        let time = random(i, SPAN + 10_000, 8) as i64 * SECOND;
        let until = if i % 3 == 0 { i64::MAX } else { time };
        let read = |timeline: &Timeline<'_>| {
            let mut out = Vec::new();
            timeline.read(&Context::default(), &features, time, until, &mut out).unwrap();
            out
        };
        for (feature, (a, b)) in read(&plain).iter().zip(&read(&tiled)).enumerate() {
            let same = a.value.same(&b.value) && a.status == b.status && a.newest == b.newest && a.capped == b.capped;
            assert!(same, "{} at {time}: {a:?} {b:?}", view.plan.features[feature].name);
        }
    }
    // They were made as they were needed, and not for everything.
    let made = tiled.tiles.iter().flatten().filter(|tiles| tiles.get().is_some()).count();
    assert!(made > 0, "no tile was read");
}

/// Tiles are made for many moments and many events only.
#[test]
fn tiles_have_to_pay() {
    let (registry, batch) = (registry(), events());
    let view = &registry.views[0];
    let prepared = Prepared::new(view, view.stream.as_ref().unwrap(), &registry.sources[0], &batch);
    let levels = |events: usize, moments: usize| {
        let mut builder = TimelineBuilder::new(&view.plan);
        for row in 0..events {
            builder.push(&prepared.incoming(row), 0).unwrap();
        }
        let timeline = builder.finish(moments).unwrap();
        assert_eq!(timeline.tiles.is_some(), !timeline.tiles_visible_from.is_empty());
        timeline.tiles_visible_from.len()
    };
    let (few, many) = (2 * FANOUT - 1, 2 * FANOUT);
    assert_eq!((levels(few, 1000), levels(many, MOMENTS_FOR_TILES - 1), levels(many, MOMENTS_FOR_TILES)), (0, 0, 1));
    assert_eq!((levels(FANOUT * FANOUT - 1, 1000), levels(FANOUT * FANOUT, 1000)), (1, 2));
}
