//! The apply kernel: how many events a second does one core fold into the records of a view of three aggregates?

use std::time::Instant;

use anyhow::Result;
use hashbrown::HashMap;
use tidemill_features::definitions::{DefinitionFile, check};
use tidemill_features::expression::Column;
use tidemill_features::read::NoNodes;
use tidemill_features::record::apply;
use tidemill_features::stream::{EventBatch, Prepared};
use tidemill_features::value::Value;

use crate::row;

const KEYS: u64 = 100_000;
const BATCHES: usize = 1_000;
const ROWS: usize = 1_000;

const DEFINITIONS: &str = "[source.s]\nconnector = 'push'\nevent_time = 'at'\nfields = { key = 'int64', x = 'float64', at = 'timestamp[us]' }\n[entity.e]\nkey = 'key'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\nn = { agg = 'count()', windows = ['1h'] }\ntotal = { agg = 'sum(x)', windows = ['1h'] }\nmost = { agg = 'max(x)', windows = ['1h'] }\n";

fn batch(number: usize) -> EventBatch {
    let id = |row: usize| (number * ROWS + row) as u64;
    let key = |row: usize| (id(row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % KEYS;
    let time = |row: usize| 1_700_000_000_000_000 + id(row) as i64 * 3_600;
    let rows = 0..ROWS;
    EventBatch {
        columns: vec![
            Column::Values(rows.clone().map(|r| Value::Int64(key(r) as i64)).collect()),
            Column::Values(rows.clone().map(|r| Value::Float64((id(r) % 10_000) as f64 / 100.0)).collect()),
            Column::Values(rows.clone().map(|r| Value::Timestamp(time(r))).collect()),
        ],
        times: rows.clone().map(time).collect(),
        arrivals: rows.clone().map(time).collect(),
        partition: 0,
        offsets: rows.map(id).collect(),
    }
}

#[allow(clippy::disallowed_methods)]
pub fn run() -> Result<()> {
    let file = DefinitionFile { path: "bench.toml".into(), text: DEFINITIONS.into() };
    let registry = check(&[file]).map_err(|problems| anyhow::anyhow!("{}", problems[0]))?;
    let (view, source) = (&registry.views[0], &registry.sources[0]);
    let stream = view.stream.as_ref().ok_or_else(|| anyhow::anyhow!("the view has a source"))?;
    let batches: Vec<EventBatch> = (0..BATCHES).map(batch).collect();
    let mut records: HashMap<Box<[u8]>, Vec<u8>> = HashMap::new();
    let started = Instant::now();
    for batch in &batches {
        let prepared = Prepared::new(view, stream, source, batch);
        let mut by_key: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(ROWS);
        for row in 0..batch.len() {
            by_key.entry(prepared.key(row).unwrap_or_default()).or_default().push(row);
        }
        for (key, rows) in by_key {
            let events: Vec<_> = rows.iter().map(|row| prepared.incoming(*row)).collect();
            let applied = apply(&view.plan, records.get(key).map(Vec::as_slice), &events, &NoNodes)?;
            if let Some(record) = applied.record {
                records.insert(key.into(), record);
            }
        }
    }
    let events = (BATCHES * ROWS) as f64;
    let figure = format!("{:.2} M events/s", events / started.elapsed().as_secs_f64() / 1e6);
    row("apply: expressions and records, three aggregates, 100 k keys, one core", &figure, "at least 1 M");
    Ok(())
}
