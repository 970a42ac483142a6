//! Training sets beside DuckDB and Polars: ten million events, a million labels, on the same machine in the same run.
//!
//! `… -- training [EVENTS LABELS KEYS]`. The peers read Parquet and write Parquet (`benches/peers/training.py`); the server
//! reads its log, which is sealed by then, and writes a training set with its manifest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tidemill_client::{Client, v1};

use crate::processes::{Process, project, tidemill};
use crate::row;

const DEFINITIONS: &str = "[source.events]\nconnector = 'file'\npath = 'events.parquet'\nevent_time = 'at'\nfields = { key = 'string', at = 'timestamp', x = 'float64' }\n[entity.e]\nkey = 'key'\n[view.v]\nentity = 'e'\nsource = 'events'\n[view.v.features]\nn = { agg = 'count()', windows = ['1h'] }\ntotal = { agg = 'sum(x)', windows = ['1h'] }\nlast = { agg = 'last(x)' }\n[service.window]\nfeatures = ['v:n_1h', 'v:total_1h']\n[service.last]\nfeatures = ['v:last']\n";
const ENGINES: [&str; 2] = ["duckdb", "polars"];

/// What one engine needed for one job.
struct Needed {
    wall: f64,
    cpu: f64,
    resident: f64,
}

impl Needed {
    fn text(&self) -> String {
        format!("{:.2} s, {:.2} CPU s, {:.0} MB", self.wall, self.cpu, self.resident / 1e6)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn python(arguments: &[&str]) -> Result<String> {
    let interpreter = Command::new(root().join("scripts/python")).output().context("scripts/python")?;
    ensure!(interpreter.status.success(), "{}", String::from_utf8_lossy(&interpreter.stderr));
    let interpreter = String::from_utf8(interpreter.stdout)?;
    let output =
        Command::new(interpreter.trim()).arg(root().join("benches/peers/training.py")).args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn peer(engine: &str, job: &str, folder: &str) -> Result<(Needed, Json)> {
    let said: Json = serde_json::from_str(&python(&[engine, job, folder])?)?;
    let number = |name: &str| said[name].as_f64().context("a number");
    Ok((Needed { wall: number("wall")?, cpu: number("cpu")?, resident: number("resident")? }, said))
}

/// Waits until all events are readable, and all of the log but its last segment is sealed.
async fn loaded(client: &Client, folder: &Path, events: u64) -> Result<()> {
    let raw = || -> Result<usize> {
        let names = std::fs::read_dir(folder.join("data/log"))?;
        Ok(names.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "log")).count())
    };
    loop {
        let status = client.status().await?;
        let consumed =
            status.sources.get("events").map_or(0, |source| source.consumed - source.lag.min(source.consumed));
        if consumed >= events && raw()? <= 1 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[allow(clippy::disallowed_methods)]
async fn export(server: &Process, client: &Client, folder: &Path, job: &str) -> Result<(Needed, u64)> {
    let (before, started) = (server.cpu()?, Instant::now());
    server.forget_peak()?;
    let mut steps = client
        .export(v1::ExportRequest {
            service: job.to_string(),
            spine: folder.join("labels.parquet").display().to_string(),
            time_column: "at".to_string(),
            out: folder.join(format!("export-{job}")).display().to_string(),
            ..Default::default()
        })
        .await?;
    let mut rows = 0;
    while let Some(step) = steps.message().await? {
        rows = step.rows;
    }
    let wall = started.elapsed().as_secs_f64();
    Ok((Needed { wall, cpu: server.cpu()? - before, resident: server.peak_resident()? as f64 }, rows))
}

/// Runs the jobs everywhere and prints the ratios.
pub async fn run(sizes: &[String]) -> Result<()> {
    let size = |at: usize, usual: &str| sizes.get(at).cloned().unwrap_or_else(|| usual.to_string());
    let (events, labels, keys) = (size(0, "10000000"), size(1, "1000000"), size(2, "100000"));
    let folder = project(DEFINITIONS)?;
    let path = folder.path().to_str().context("a path in UTF-8")?;
    python(&["make", path, &events, &labels, &keys])?;
    let (server, client) = tidemill(folder.path()).await?;
    loaded(&client, folder.path(), events.parse()?).await?;
    for (job, question, bar) in [
        ("window", "count and sum of the hour before each label", 1.0),
        ("last", "the newest value before each label", 1.5),
    ] {
        let (ours, rows) = export(&server, &client, folder.path(), job).await?;
        ensure!(rows == labels.parse::<u64>()?, "{rows} rows");
        row(&format!("{question}, {labels} of {events} events"), &ours.text(), "-");
        let mut peers = Vec::new();
        for engine in ENGINES {
            let (needed, said) = peer(engine, job, path)?;
            ensure!(said["rows"].as_u64() == Some(rows), "{engine}: {}", said["rows"]);
            row(&format!("the same in {engine}"), &needed.text(), "-");
            peers.push(needed);
        }
        // The bar of the newest value is set against DuckDB's as-of join.
        let bars = if job == "window" { &peers[..] } else { &peers[..1] };
        let least = |of: fn(&Needed) -> f64| bars.iter().map(of).fold(f64::INFINITY, f64::min);
        row(
            &format!("{question}, against the better peer"),
            &format!("{:.2} x wall, {:.2} x CPU", ours.wall / least(|n| n.wall), ours.cpu / least(|n| n.cpu)),
            &format!("at most {bar} x"),
        );
    }
    Ok(())
}
