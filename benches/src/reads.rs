//! Reads: what does a Get cost the server, next to a bare tonic echo of the same answer?

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tidemill_client::{Client, texts, v1};

use crate::processes::{Process, free_address, project, tidemill};
use crate::row;

pub const ENTITIES: usize = 10_000;
const REQUESTS: usize = 20_000;
/// Requests under way at once, on one connection.
const IN_FLIGHT: usize = 16;

/// One view with ten features, and ten views with one.
pub fn definitions() -> String {
    let mut text = String::from(
        "[source.s]\nconnector = 'push'\nevent_time = 'at'\nfields = { key = 'string', x = 'float64', at = 'timestamp[us]' }\n[entity.e]\nkey = 'key'\n",
    );
    let aggregates = ["count()", "sum(x)", "avg(x)", "min(x)", "max(x)"];
    text += "[view.one]\nentity = 'e'\nsource = 's'\n[view.one.features]\n";
    for (i, aggregate) in aggregates.iter().enumerate() {
        text += &format!("f{i} = {{ agg = '{aggregate}', windows = ['20h', '30d'] }}\n");
    }
    let each_alone = aggregates.iter().flat_map(|aggregate| [(aggregate, "20h"), (aggregate, "30d")]);
    for (i, (aggregate, width)) in each_alone.enumerate() {
        text += &format!("[view.v{i}]\nentity = 'e'\nsource = 's'\n[view.v{i}.features]\n");
        text += &format!("f = {{ agg = '{aggregate}', windows = ['{width}'] }}\n");
    }
    let ten: Vec<String> = (0..10).map(|i| format!("'v{i}:*'")).collect();
    text + &format!("[service.one]\nfeatures = ['one:*']\n[service.ten]\nfeatures = [{}]\n", ten.join(", "))
}

pub async fn run() -> Result<()> {
    let folder = project(&definitions())?;
    let (server, client) = tidemill(folder.path()).await?;
    fill(&client).await?;
    let echo = echo_server(false).await?;
    let echo_client = Client::connect(&echo.address).await?;
    for (rows, bar) in [(1, "at most 1.5"), (100, "at most 3")] {
        teach(&echo_client, rows).await?;
        let requests = if rows == 1 { REQUESTS } else { REQUESTS / 10 };
        let floor = cost(&echo, &echo_client, "one", rows, requests).await?;
        let ours = cost(&server, &client, "one", rows, requests).await?;
        let figure = format!("{:.1} us against {:.1} us: {:.2}", ours * 1e6, floor * 1e6, ours / floor);
        row(&format!("server CPU of a Get of {rows} x 10 features, against a tonic echo"), &figure, bar);
    }
    let shared = echo_server(true).await?;
    let shared_client = Client::connect(&shared.address).await?;
    teach(&echo_client, 1).await?;
    teach(&shared_client, 1).await?;
    let alone = cost(&echo, &echo_client, "one", 1, REQUESTS).await?;
    let together = cost(&shared, &shared_client, "one", 1, REQUESTS).await?;
    let figure = format!("{:+.1} %", (together / alone - 1.0) * 100.0);
    row("what HTTP on the same port costs a gRPC call, in an echo", &figure, "at most 5 %");
    let one = cost(&server, &client, "one", 1, REQUESTS).await?;
    let ten = cost(&server, &client, "ten", 1, REQUESTS).await?;
    row("ten views with one feature, against one view with ten", &format!("{:.2}", ten / one), "at most 1.5");
    Ok(())
}

async fn echo_server(with_http: bool) -> Result<Process> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["echo-server", &address]);
    if with_http {
        command.arg("with-http");
    }
    let echo = Process::start(&mut command, address)?;
    for _ in 0..500 {
        if Client::connect(&echo.address).await.is_ok() {
            return Ok(echo);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the echo did not start")
}

async fn teach(client: &Client, rows: usize) -> Result<()> {
    let lesson = v1::GetRequest { service: "teach".into(), as_of: Some(rows as i64), ..v1::GetRequest::default() };
    client.get(lesson).await?;
    Ok(())
}

/// Ten events an entity, all within the window.
pub async fn fill(client: &Client) -> Result<()> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_micros() as i64;
    for round in 0..10 {
        for part in 0..10 {
            let mut lines = String::new();
            for i in part * ENTITIES / 10..(part + 1) * ENTITIES / 10 {
                let at = now - 86_400_000_000 + (round * 1000 + i as i64 % 977) * 1_000_000;
                lines += &format!("{{\"key\":\"entity-{i}\",\"x\":{},\"at\":{at}}}\n", (i * 7 % 1000) as f64 / 8.0);
            }
            let rows = Some(v1::push_request::Rows::Ndjson(lines.into_bytes().into()));
            client.push(v1::PushRequest { source: "s".into(), rows, wait: v1::Wait::Readable as i32 }).await?;
        }
    }
    Ok(())
}

/// CPU seconds of the server for one request.
pub async fn cost(server: &Process, client: &Client, service: &str, rows: usize, requests: usize) -> Result<f64> {
    let mut best = f64::MAX;
    for _ in 0..3 {
        let before = server.cpu()?;
        let mut workers = Vec::new();
        for worker in 0..IN_FLIGHT {
            let (client, service) = (client.clone(), service.to_string());
            workers.push(tokio::spawn(async move {
                for i in 0..requests / IN_FLIGHT {
                    let first = (worker * 7919 + i * 31) % (ENTITIES - rows);
                    let keys = texts((first..first + rows).map(|i| format!("entity-{i}")));
                    let keys = [("key".to_string(), keys)].into();
                    client.get(v1::GetRequest { service: service.clone(), keys, ..v1::GetRequest::default() }).await?;
                }
                anyhow::Ok(())
            }));
        }
        for worker in workers {
            worker.await??;
        }
        best = best.min((server.cpu()? - before) / requests as f64);
    }
    Ok(best)
}
