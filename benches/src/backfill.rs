//! Back-fill: how many events a second go from the log into the state of a view, while nothing else runs?
//!
//! The floor is what cannot be saved: reading and decoding the log, on one thread. Once over segments as they are written, once
//! over the Parquet files that they become.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use tidemill::components::Server;
use tidemill::log::{Frame, KeyColumns, LogPlace, LogReader, LogWriter, Sealer, SourceSchema};
use tidemill_features::definitions::{DefinitionFile, Registry, check};
use tidemill_features::expression::Column;
use tidemill_features::stream::EventBatch;
use tidemill_features::value::Value;

use crate::row;

const EVENTS: u64 = 10_000_000;
const KEYS: u64 = 100_000;
const ROWS: u64 = 1_000;
/// Bytes of a segment, as `serve` has it.
const SEGMENT_BYTES: u64 = 64 << 20;

const DEFINITIONS: &str = "[source.s]\nconnector = 'push'\nevent_time = 'at'\nfields = { key = 'int64', x = 'float64', y = 'int64', at = 'timestamp[us]' }\n[entity.e]\nkey = 'key'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\nn = { agg = 'count()', windows = ['1h'] }\ntotal = { agg = 'sum(x)', windows = ['1h'] }\n";

fn registry() -> Result<Registry> {
    let file = DefinitionFile { path: "bench.toml".into(), text: DEFINITIONS.into() };
    check(&[file]).map_err(|problems| anyhow::anyhow!("{}", problems[0]))
}

/// Ten hours of events, each key's some six minutes apart.
fn batch(first: u64) -> EventBatch {
    let key = |id: u64| (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % KEYS;
    let time = |id: u64| 1_700_000_000_000_000 + id as i64 * 3_600;
    let ids = first..first + ROWS;
    EventBatch {
        columns: vec![
            Column::Values(ids.clone().map(|id| Value::Int64(key(id) as i64)).collect()),
            Column::Values(ids.clone().map(|id| Value::Float64((id % 10_000) as f64 / 100.0)).collect()),
            Column::Values(ids.clone().map(|id| Value::Int64((id % 1_000) as i64)).collect()),
            Column::Values(ids.clone().map(|id| Value::Timestamp(time(id))).collect()),
        ],
        times: ids.clone().map(time).collect(),
        arrivals: ids.clone().map(time).collect(),
        partition: 0,
        offsets: ids.collect(),
    }
}

fn write_log(folder: &Path, registry: &Registry, events: u64) -> Result<()> {
    let mut writer = LogWriter::open(folder, LogPlace::default())?;
    writer.set_segment_bytes(SEGMENT_BYTES);
    let schema = SourceSchema::of(&registry.sources[0]);
    let failed = |what: tidemill::log::AppendError| anyhow::anyhow!("{what:?}");
    for first in (0..events).step_by(ROWS as usize) {
        let batch = batch(first);
        writer.add(&Frame {
            source: "s".into(),
            partition: 0,
            first_offset: first,
            consumed: ROWS,
            accepted_at: batch.times[ROWS as usize - 1],
            schema: schema.clone(),
            batches: vec![batch],
            dead: Vec::new(),
        });
        writer.write().map_err(failed)?;
        writer.rotate().map_err(failed)?;
    }
    writer.sync().map_err(failed)
}

/// Wall and CPU seconds of some work, all threads.
#[allow(clippy::disallowed_methods)]
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let cpu = || -> Result<f64> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    };
    let (started, before) = (Instant::now(), cpu()?);
    work()?;
    Ok((started.elapsed().as_secs_f64(), cpu()? - before))
}

fn figure(events: u64, (wall, cpu): (f64, f64)) -> String {
    let millions = events as f64 / 1e6;
    format!("{:.2} M events/s, {:.2} M a CPU-second", millions / wall, millions / cpu)
}

fn read_all(log: &Path) -> Result<()> {
    let mut reader = LogReader::open(log, LogPlace::default())?;
    while reader.next_frame()?.is_some() {}
    Ok(())
}

/// A first start: the state of a view out of a log that the store knows nothing of.
fn first_start(folder: &Path, events: u64) -> Result<()> {
    let _ = std::fs::remove_dir_all(folder.join("state"));
    let (server, threads) = Server::open(registry()?, folder)?;
    let applied = server.memory.read().views[0].applied;
    anyhow::ensure!(applied == events, "{applied} of {events} events are in the state");
    server.stop();
    drop(server);
    threads.join();
    Ok(())
}

/// What `tidemill backfill` asks for, in a server that has nothing else to do.
fn backfill(server: &Server) -> Result<()> {
    let build = server.ingest.builds.rebuild(&server.registry, 0)?;
    loop {
        match build.outcome() {
            Some(outcome) => return Ok(outcome?),
            None => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    }
}

pub fn run() -> Result<()> {
    let given = std::env::args().nth(2).map(|events| events.parse()).transpose();
    let events: u64 = given.context("a number of events")?.unwrap_or(EVENTS) / ROWS * ROWS;
    let folder = tempfile::tempdir()?;
    let (path, log) = (folder.path(), folder.path().join("log"));
    write_log(&log, &registry()?, events)?;
    for form in ["segments", "Parquet"] {
        if form == "Parquet" {
            let sealer = Sealer::new(log.clone(), KeyColumns::from([("s".to_string(), vec!["key".to_string()])]));
            while sealer.seal_next(&mut || true)?.is_some() {}
        }
        let floor = timed(|| read_all(&log))?;
        row(&format!("back-fill: floor, decoding the log as {form} on one thread"), &figure(events, floor), "");
        let start = timed(|| first_start(path, events))?;
        let of_floor = start.1 / floor.1;
        let shown = format!("{}, CPU {of_floor:.1} x the floor", figure(events, start));
        row(&format!("back-fill: a first start, from {form}, 100 k keys, count and sum"), &shown, "at least 1 M");
        let (server, threads) = Server::open(registry()?, path)?;
        let rebuilt = timed(|| backfill(&server))?;
        server.stop();
        drop(server);
        threads.join();
        row(&format!("back-fill: `tidemill backfill`, from {form}"), &figure(events, rebuilt), "at least 1 M");
    }
    Ok(())
}
