//! The whole path: PushStream of JSON through log, apply and commit; the size of what is kept; starting with a million entities.

use std::time::Instant;

use anyhow::Result;
use tidemill_client::{Client, v1};
use tokio_stream::StreamExt;

use crate::processes::{project, tidemill};
use crate::row;

const DEFINITIONS: &str = "[source.s]\nconnector = 'push'\nevent_time = 'at'\nfields = { key = 'string', x = 'float64', at = 'timestamp[us]' }\n[entity.e]\nkey = 'key'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\nn = { agg = 'count()', windows = ['30d'] }\ntotal = { agg = 'sum(x)', windows = ['30d'] }\nmost = { agg = 'max(x)', windows = ['30d'] }\n";
const START: i64 = 1_700_000_000_000_000;
const BATCH: u64 = 5_000;

/// Pushes `events` events over `keys` keys on one stream.
async fn stream(client: &Client, events: u64, keys: u64) -> Result<()> {
    let lines = move |batch: u64| {
        let mut text = String::with_capacity(BATCH as usize * 64);
        for id in batch * BATCH..(batch + 1) * BATCH {
            let key = id % keys;
            let at = START + id as i64 / keys as i64 * 3_600_000_000 + (key % 3600) as i64 * 1_000_000;
            text += &format!("{{\"key\":\"user-{key:07}\",\"x\":{},\"at\":{at}}}\n", (id * 31 % 10_000) as f64 / 100.0);
        }
        let rows = Some(v1::push_request::Rows::Ndjson(text.into_bytes().into()));
        v1::PushRequest { source: "s".into(), rows, wait: v1::Wait::Durable as i32 }
    };
    let requests = tokio_stream::iter((0..events / BATCH).map(lines));
    let mut answers = client.push_stream(requests).await?;
    while let Some(answer) = answers.next().await {
        anyhow::ensure!(answer?.dead_lettered == 0, "dead letters");
    }
    let last = v1::PushRequest { source: "s".into(), wait: v1::Wait::Readable as i32, rows: None };
    client.push(last).await?;
    Ok(())
}

fn folder_bytes(folder: &std::path::Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        bytes += if path.is_dir() { folder_bytes(&path)? } else { path.metadata()?.len() };
    }
    Ok(bytes)
}

#[allow(clippy::disallowed_methods)]
pub async fn run() -> Result<()> {
    let folder = project(DEFINITIONS)?;
    let (server, client) = tidemill(folder.path()).await?;
    let (keys, events) = (300_000, 6_000_000);
    let (before, empty) = (server.cpu()?, server.resident()?);
    stream(&client, events, keys).await?;
    let rate = events as f64 / (server.cpu()? - before);
    row(
        "PushStream of JSON, log, apply, commit",
        &format!("{:.0} k events per CPU-second", rate / 1e3),
        "at least 200 k",
    );
    let status = client.status().await?;
    let kept = status.views.get("v").map_or(0, |view| view.bytes) / keys;
    row("an entity with 20 events, key and record", &format!("{kept} bytes kept"), "at most 300");
    server.terminate()?;
    let (server, client) = tidemill(folder.path()).await?;
    client.status().await?;
    let held = server.resident()?.saturating_sub(empty) / keys;
    row("the same, resident after a start", &format!("{held} bytes"), "at most 450");
    drop(server);
    let log = folder_bytes(&folder.path().join("data/log"))? / events;
    row("an event in the log", &format!("{log} bytes"), "-");

    let folder = project(DEFINITIONS)?;
    let (server, client) = tidemill(folder.path()).await?;
    stream(&client, 1_000_000, 1_000_000).await?;
    server.terminate()?;
    let started = Instant::now();
    let (server, client) = tidemill(folder.path()).await?;
    let ready = started.elapsed().as_secs_f64();
    let entities = client.status().await?.views.get("v").map_or(0, |view| view.entities);
    anyhow::ensure!(entities == 1_000_000, "{entities} entities after the start");
    row("start with a million entities kept: ready", &format!("{ready:.2} s"), "within 2 s");
    drop(server);
    Ok(())
}
