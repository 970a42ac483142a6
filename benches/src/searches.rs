//! What a search costs over gRPC, beside the same search in this process and a bare echo: `… -- searches`.
//!
//! 100,000 real vectors of 100 numbers (benches/data/vectors fetches them), ten neighbours, one question after the other. The index
//! in this process has the same vectors and options, and is asked in the same run.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidemill::vectors::{Builder, Change, Index, IndexOptions, Metric, Query};
use tidemill_client::{Client, v1};

use crate::processes::{Process, free_address, project, tidemill};
use crate::row;

const ROWS: usize = 100_000;
const DIMS: usize = 100;
const K: usize = 10;
/// Questions whose time is taken, after as many that warm up.
const ASKED: usize = 3_000;

const DEFINITIONS: &str = r#"
[source.items]
connector = "push"
event_time = "at"
fields = { item = "string", vec = "vector<100>", at = "timestamp[us]" }
[entity.item]
key = "item"
[embedding.items]
entity = "item"
source = "items"
vector = "vec"
dims = 100
metric = "cosine"
"#;

/// The table.
pub async fn run() -> Result<()> {
    let vectors = crate::vectors::words(ROWS + ASKED, DIMS)?;
    let (rows, queries) = vectors.split_at(ROWS * DIMS);
    let queries: Vec<&[f32]> = queries.chunks(DIMS).collect();
    let folder = project(DEFINITIONS)?;
    let (server, client) = tidemill(folder.path()).await?;
    fill(&client, rows).await?;
    let fresh = sealed(&client, queries[0]).await?;
    let index = in_process(rows, fresh)?;
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    let echo = Process::start(command.args(["echo-server", &address]), address)?;
    let floor = connected(&echo.address).await?;
    // Taken in turns, so that what else the machine does meets all of them.
    let (mut served, mut bare, mut own) = (Vec::new(), Vec::new(), Vec::new());
    let before = server.cpu()?;
    for round in 0..2 {
        for query in &queries {
            let took = timed(client.search(request(query))).await?;
            let bare_took = timed(floor.search(request(query))).await?;
            let begun = Instant::now();
            index.search(Query::new(query, K))?;
            let own_took = begun.elapsed().as_secs_f64();
            if round > 0 {
                served.push(took);
                bare.push(bare_took);
                own.push(own_took);
            }
        }
    }
    let cpu = (server.cpu()? - before) / (2 * queries.len()) as f64 * 1e6;
    let [served, bare, own] = [served, bare, own].map(|times| median(times) * 1e6);
    let over = (served - bare) / own;
    let figure = format!(
        "p50 {served:.0} us ({cpu:.0} us of CPU); the index alone {own:.0} us, a bare echo {bare:.0} us: {over:.2} x"
    );
    row("a search of 100 k x 100 over gRPC, less the echo, against the same in process", &figure, "at most 1.3 x");
    Ok(())
}

fn request(query: &[f32]) -> v1::SearchRequest {
    let vectors = vec![v1::Vector { values: query.to_vec() }];
    v1::SearchRequest { embedding: "items".into(), vectors, k: K as u64, ..v1::SearchRequest::default() }
}

async fn timed<T, E: std::error::Error + Send + Sync + 'static>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<f64> {
    let begun = Instant::now();
    answer.await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn connected(address: &str) -> Result<Client> {
    for _ in 0..500 {
        if let Ok(client) = Client::connect(address).await {
            return Ok(client);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the echo did not start")
}

async fn fill(client: &Client, rows: &[f32]) -> Result<()> {
    let keys: Vec<String> = (0..ROWS).map(|row| format!("item-{row}")).collect();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_micros() as i64;
    for (part, keys) in keys.chunks(2_000).enumerate() {
        let mut lines = String::new();
        for (at, key) in keys.iter().enumerate() {
            let row = part * 2_000 + at;
            let vector = &rows[row * DIMS..][..DIMS];
            lines += &format!("{{\"item\":\"{key}\",\"vec\":{vector:?},\"at\":{}}}\n", now - 1_000_000);
        }
        let rows = Some(v1::push_request::Rows::Ndjson(lines.into_bytes().into()));
        client.push(v1::PushRequest { source: "items".into(), rows, wait: v1::Wait::Readable as i32 }).await?;
    }
    Ok(())
}

/// Waits until all vectors are in the graph but those that came last, and tells how many these are.
async fn sealed(client: &Client, query: &[f32]) -> Result<usize> {
    for _ in 0..1_200 {
        let plan = client.search(request(query)).await?.plans[0].plan.clone();
        let status = client.status().await?;
        let items = status.embeddings.get("items").context("the embedding")?;
        // Fresh ones are left until there are many.
        if plan == "traverse" && items.fresh < 8_192 {
            return Ok(usize::try_from(items.fresh)?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("no graph was built")
}

/// The same vectors, as many of them in front of the graph as the server has.
fn in_process(rows: &[f32], fresh: usize) -> Result<Index> {
    let index = Index::new(DIMS, Metric::Cosine, IndexOptions::default())?;
    let keys: Vec<String> = (0..ROWS).map(|row| format!("item-{row}")).collect();
    let changes: Vec<Change<'_>> = keys
        .iter()
        .zip(rows.chunks(DIMS))
        .map(|(key, vector)| Change::Upsert { key: key.as_bytes(), vector })
        .collect();
    let (first, last) = changes.split_at(ROWS - fresh);
    first.chunks(1_024).try_for_each(|changes| index.write(changes).map(drop))?;
    index.rebuild(Builder::Flat, 2)?;
    last.chunks(1_024).try_for_each(|changes| index.write(changes).map(drop))?;
    let stats = index.stats();
    ensure!(stats.codes.is_some() && stats.fresh == fresh, "a graph, and as many fresh vectors");
    Ok(index)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
