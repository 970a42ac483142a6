//! The vocabulary: what does each aggregate cost to apply and to read, as a multiple of `sum`? And do features that share
//! columns and windows share their cost?
//!
//! Keys are busy enough that their records grow ladders, so cells are updated and merged, not only rows appended.

use anyhow::{Result, anyhow};
use hashbrown::HashMap;
use std::sync::Arc;
use tidemill_features::definitions::{AGGREGATES, DefinitionFile, Registry, check};
use tidemill_features::expression::Column;
use tidemill_features::read::{Context, Stored, read_view};
use tidemill_features::record::{NodeId, Nodes, apply};
use tidemill_features::stream::{EventBatch, Prepared};
use tidemill_features::value::Value;

use crate::processes::own_cpu_seconds;
use crate::row;

const KEYS: u64 = 64;
const BATCHES: usize = 160;
const ROWS: usize = 1_000;
const READ_ROUNDS: usize = 60;
const START: i64 = 1_700_000_000_000_000;
/// Between two events, microseconds: a key has one a second, 3,600 in a window of an hour.
const STEP: i64 = 1_000_000 / KEYS as i64;
const COUNTRIES: [&str; 8] = ["DE", "FR", "AT", "IT", "ES", "PL", "SE", "NL"];

fn project(features: &str) -> Result<Registry> {
    let text = format!(
        "[source.s]\nconnector = 'push'\nevent_time = 'at'\n[source.s.fields]\nkey = 'int64'\namount = 'float64'\ncountry = 'string'\nfraud = 'int64'\nseen = 'int64'\nforeign = 'bool'\ntaste = 'vector<8>'\nat = 'timestamp[us]'\n[entity.e]\nkey = 'key'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\n{features}"
    );
    check(&[DefinitionFile { path: "bench.toml".into(), text }]).map_err(|problems| anyhow!("{}", problems[0]))
}

fn batch(number: usize) -> EventBatch {
    let id = |row: usize| (number * ROWS + row) as u64;
    let mixed = |row: usize| id(row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let time = |row: usize| START + id(row) as i64 * STEP;
    let column = |value: &dyn Fn(usize) -> Value<'static>| Column::Values((0..ROWS).map(value).collect());
    let taste = |row: usize| (0..8).map(|i| Value::Float64(((mixed(row) >> i) % 100) as f64 / 128.0)).collect();
    EventBatch {
        columns: vec![
            column(&|row| Value::Int64((mixed(row) % KEYS) as i64)),
            column(&|row| Value::Float64((mixed(row) % 10_000) as f64 / 100.0)),
            column(&|row| Value::text(COUNTRIES[(mixed(row) >> 3) as usize % 8])),
            column(&|row| Value::Int64(i64::from(mixed(row) % 50 == 0))),
            column(&|_| Value::Int64(1)),
            column(&|row| Value::Bool(mixed(row) % 3 == 0)),
            column(&|row| Value::List(taste(row))),
            column(&|row| Value::Timestamp(time(row))),
        ],
        times: (0..ROWS).map(time).collect(),
        arrivals: (0..ROWS).map(time).collect(),
        partition: 0,
        offsets: (0..ROWS).map(id).collect(),
    }
}

/// Records and chunks as a store would hold them.
#[derive(Default)]
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

/// CPU seconds to apply all events and to read every key some times.
fn costs(features: &str, batches: &[EventBatch]) -> Result<(f64, f64)> {
    let registry = project(features)?;
    let (view, source) = (&registry.views[0], &registry.sources[0]);
    let stream = view.stream.as_ref().ok_or_else(|| anyhow!("the view has a source"))?;
    let mut kept = Records::default();
    let started = own_cpu_seconds()?;
    for batch in batches {
        let prepared = Prepared::new(view, stream, source, batch);
        let mut by_key: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(KEYS as usize);
        for row in 0..batch.len() {
            by_key.entry(prepared.key(row).unwrap_or_default()).or_default().push(row);
        }
        for (key, rows) in by_key {
            let events: Vec<_> = rows.iter().map(|row| prepared.incoming(*row)).collect();
            let applied = apply(&view.plan, kept.records.get(key).map(Vec::as_slice), &events, &Of(&kept, key))?;
            if let Some(record) = applied.record {
                kept.records.insert(key.to_vec(), record);
            }
            for (id, chunk) in applied.chunks {
                match chunk {
                    Some(chunk) => kept.chunks.insert((key.to_vec(), id), chunk),
                    None => kept.chunks.remove(&(key.to_vec(), id)),
                };
            }
        }
    }
    let applied = own_cpu_seconds()?;
    let wanted: Vec<usize> = (0..view.plan.features.len()).collect();
    let now = START + (BATCHES * ROWS) as i64 * STEP;
    let mut answers = Vec::new();
    for _ in 0..READ_ROUNDS {
        for (key, record) in &kept.records {
            answers.clear();
            let nodes = Of(&kept, key);
            let stored = Stored { record: Some(record), nodes: &nodes };
            read_view(&view.plan, stored, &Context::default(), &wanted, now, &mut answers)?;
        }
    }
    Ok((applied - started, own_cpu_seconds()? - applied))
}

pub fn run() -> Result<()> {
    let batches: Vec<EventBatch> = (0..BATCHES).map(batch).collect();
    let one = |call: &str| costs(&format!("f = {{ agg = \"{call}\", window = '1h' }}\n"), &batches);
    let events = (BATCHES * ROWS) as f64;
    let reads = (READ_ROUNDS as u64 * KEYS) as f64;
    let sum = one("sum(amount)")?;
    let figure = format!("apply {:.2} us an event, read {:.1} us", sum.0 / events * 1e6, sum.1 / reads * 1e6);
    row("sum over 1 h, keys with an event a second", &figure, "the unit below");
    for aggregate in AGGREGATES.iter().filter(|aggregate| aggregate.name != "sum") {
        let (apply, read) = one(aggregate.example)?;
        let figure = format!("apply {:.1} x, read {:.1} x", apply / sum.0, read / sum.1);
        row(&format!("`{}`", aggregate.example), &figure, "apply at most 5 x sum");
    }
    let few = ["count()", "sum(amount)", "max(amount)", "stddev(amount)", "last(amount)"];
    let more = [
        "avg(amount)",
        "min(amount)",
        "variance(amount)",
        "first(amount)",
        "count(amount)",
        "last_k(amount, 3)",
        "any(foreign)",
        "sum(seen)",
        "rate(fraud, seen, 1, 100)",
        "mean_gap()",
    ];
    let features = |calls: &[&str]| -> String {
        let line = |(i, call): (usize, &&str)| {
            format!("f{i} = {{ agg = \"{call}\", windows = ['5m', '10m', '30m', '1h'] }}\n")
        };
        calls.iter().enumerate().map(line).collect()
    };
    let twenty = costs(&features(&few), &batches)?;
    let sixty = costs(&features(&[&few[..], &more[..]].concat()), &batches)?;
    let figure = format!("apply {:.2} x, read {:.2} x", sixty.0 / twenty.0, sixty.1 / twenty.1);
    row("60 features beside 20, the same four windows", &figure, "apply at most 2 x");
    Ok(())
}
