//! demo: the shipped project on real data, from an empty folder to an explained value, over gRPC as any client would.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidemill_client::{Client, ClientError, texts};
use tidemill_features::time::{parse_rfc3339, rfc3339};
use tidemill_proto::v1;

use super::output::{age, cell_text, status, table};
use super::push::send;
use super::serve::Running;
use super::{Ended, Style, ask};
use crate::failure::Failure;
use crate::serving::wire::NO_TIME;
use crate::settings;

macro_rules! shipped {
    ($path:literal) => {
        include_bytes!(concat!("../../../features/definitions/flights/", $path))
    };
}

/// The project as it lies in the program.
const FILES: [(&str, &[u8]); 5] = [
    ("tidemill.toml", shipped!("tidemill.toml")),
    ("features/flights.toml", shipped!("features/flights.toml")),
    ("data/departures.parquet", shipped!("data/departures.parquet")),
    ("data/arrivals.parquet", shipped!("data/arrivals.parquet")),
    ("data/LICENSE.md", shipped!("data/LICENSE.md")),
];

/// Reads that the latencies are taken from.
const READS: usize = 2_000;

pub(super) async fn run(dir: Option<PathBuf>, style: Style) -> Result<(), Ended> {
    // A temporary folder is kept: the demo ends by telling how to go on in it.
    let dir = match dir {
        Some(dir) => dir,
        None => {
            tempfile::Builder::new().prefix("tidemill-demo-").tempdir().map(|t| t.keep()).map_err(|e| failed(&e))?
        }
    };
    unpack(&dir)?;
    let flags = [("listen", Some("127.0.0.1:0".to_string())), ("metrics_listen", Some(String::new()))];
    let running = Running::start(&dir, settings::load(&dir, &flags)?).await?;
    let result = tour(&running, &dir, style).await;
    running.stop().await;
    result
}

fn failed(error: &std::io::Error) -> Ended {
    Failure::invalid("E5019", format!("the demo's folder cannot be written: {error}")).into()
}

fn unpack(dir: &Path) -> Result<(), Ended> {
    if dir.join("data-dir").exists() {
        let message = format!("{} holds an earlier demo; choose another folder, or `tidemill serve` it", dir.display());
        return Err(Failure::invalid("E5019", message).into());
    }
    for (path, bytes) in FILES {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(dir)).map_err(|e| failed(&e))?;
        std::fs::write(path, bytes).map_err(|e| failed(&e))?;
    }
    Ok(())
}

async fn tour(running: &Running, dir: &Path, style: Style) -> Result<(), Ended> {
    let client = Client::connect(&running.address.to_string()).await?;
    println!("1. A server on an empty folder: {} on {}\n", dir.display(), running.address);
    stream(&client, dir, style).await?;
    let key = [("origin", "JFK"), ("dest", "LAX"), ("carrier", "AA"), ("tailnum", "N338AA")];
    let at = parse_rfc3339("2014-01-01T04:30:00Z").unwrap_or_default();
    println!("3. A flight is leaving: {}. Its feature vector, read over gRPC as of {}:", shown(&key), rfc3339(at));
    let request = get_request(&key, at);
    let answer = client.get(request.clone()).await?;
    print_vector(&answer);
    latencies(&client, &request).await?;
    println!("4. Why? One of its values, recomputed from the event log:");
    let explain = v1::ExplainRequest {
        feature: "aircraft_arrivals:late_7d".into(),
        keys: [("tailnum".to_string(), texts(["N338AA"]))].into(),
        as_of: Some(at),
        ..v1::ExplainRequest::default()
    };
    ask::print_explanation("aircraft_arrivals:late_7d", &client.explain(explain).await?);
    let earlier = parse_rfc3339("2013-07-04T22:00:00Z").unwrap_or_default();
    println!("\n5. The same question half a year earlier, as of {}, answered from the event log:", rfc3339(earlier));
    print_vector(&client.get(get_request(&key, earlier)).await?);
    training_set(&client, dir).await?;
    println!("How to go on, in {}:", dir.display());
    println!("  tidemill serve {}", dir.display());
    println!(
        "  tidemill get late_arrival_v1 origin=JFK dest=LAX carrier=AA tailnum=N338AA request.dep_delay=12 --as-of {}",
        rfc3339(at)
    );
    println!("  tidemill explain carrier_departures:delay_mean_24h carrier=UA --as-of 2013-12-31T12:00:00Z");
    println!("  tidemill status; tidemill show late_arrival_v1");
    Ok(())
}

#[allow(clippy::disallowed_methods)]
async fn stream(client: &Client, dir: &Path, style: Style) -> Result<(), Ended> {
    println!(
        "2. The flights of 2013 that left New York, at full speed: departures, and arrivals that are known hours later."
    );
    let started = Instant::now();
    let quiet = Style { quiet: true, ..style };
    let file = |name: &str| vec![dir.join("data").join(name)];
    let (departures, arrivals) = tokio::join!(
        send(client, "departures", file("departures.parquet"), v1::Wait::Readable, None, style),
        send(client, "arrivals", file("arrivals.parquet"), v1::Wait::Readable, None, quiet),
    );
    let took = started.elapsed().as_secs_f64();
    let (departures, arrivals) = (departures?, arrivals?);
    let rows = [("departures", &departures), ("arrivals", &arrivals)]
        .map(|(name, p)| vec![name.to_string(), p.accepted.to_string(), p.dead_lettered.to_string()]);
    println!("{}", table(&["source", "accepted", "dead letters"], rows.to_vec()));
    let events = departures.accepted + arrivals.accepted;
    println!("{events} events durable and readable in {took:.1} s: {:.0} a second.\n", events as f64 / took);
    let now = client.status().await?;
    let mut views: Vec<_> = now.views.iter().collect();
    views.sort_by_key(|(name, _)| name.as_str());
    let row = |(name, v): (&String, &v1::ViewStatus)| {
        vec![
            name.clone(),
            v.entities.to_string(),
            v.applied.to_string(),
            v.keyless.to_string(),
            v.late.to_string(),
            v.bytes.to_string(),
        ]
    };
    let headers = ["view", "entities", "applied", "keyless", "late", "bytes"];
    println!("{}\n", table(&headers, views.into_iter().map(row).collect()));
    Ok(())
}

/// A training set out of the demo's own flights, and the proof of all answers so far.
async fn training_set(client: &Client, dir: &Path) -> Result<(), Ended> {
    println!("6. A training set: the vector of every hundredth flight, as serving would have answered when it left:");
    let out = dir.join("training-set");
    let request = v1::ExportRequest {
        service: "late_arrival_v1".into(),
        spine_source: "departures".into(),
        r#where: "tailnum IS NOT NULL AND flight_id % 100 = 0".into(),
        out: std::path::absolute(&out).unwrap_or(out).display().to_string(),
        ..v1::ExportRequest::default()
    };
    let mut steps = client.export(request).await?;
    let mut result = v1::JobResult::default();
    while let Some(step) = steps.message().await.map_err(ClientError::from)? {
        result = step.result.unwrap_or(result);
    }
    println!("{} rows in {} file, which {} describes.\n", result.rows, result.files.len(), result.manifest);
    println!("7. Every answer that this server gave was kept. Are they what the event log says?");
    let verified = client.verify(v1::VerifyRequest::default()).await?;
    println!("{} answers recomputed from the event log: {} values differ.\n", verified.sampled, verified.differences);
    Ok(())
}

fn get_request(key: &[(&str, &str)], at: i64) -> v1::GetRequest {
    let delay = tidemill_client::int64s([12]);
    v1::GetRequest {
        service: "late_arrival_v1".into(),
        keys: key.iter().map(|(name, value)| (name.to_string(), texts([value]))).collect(),
        request: [("dep_delay".to_string(), delay)].into(),
        as_of: Some(at),
        value_times: true,
        ..v1::GetRequest::default()
    }
}

fn shown(key: &[(&str, &str)]) -> String {
    key.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn print_vector(answer: &v1::GetResponse) {
    let line = |column: &v1::Column| {
        let newest = column.newest.first().copied().unwrap_or(NO_TIME);
        let status = Some(status(column, 0)).filter(|s| *s != "PRESENT").unwrap_or("");
        vec![column.name.clone(), cell_text(column, 0), age(newest, answer.read_time), status.to_string()]
    };
    println!("{}\n", table(&["feature", "value", "age", "status"], answer.columns.iter().map(line).collect()));
}

#[allow(clippy::disallowed_methods)]
async fn latencies(client: &Client, request: &v1::GetRequest) -> Result<(), Ended> {
    let mut took: Vec<Duration> = Vec::with_capacity(READS);
    for i in 0..READS {
        let request = v1::GetRequest { as_of: request.as_of.map(|at| at + i as i64), ..request.clone() };
        let started = Instant::now();
        client.get(request).await?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let micros = |share: f64| took[((READS - 1) as f64 * share) as usize].as_micros();
    println!("{READS} such reads, one after the other: p50 {} us, p99 {} us.\n", micros(0.5), micros(0.99));
    Ok(())
}
