//! What the tests of faults share: a project whose state lies in Redis, its server, and the comparison with what was written.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_client::{Client, texts, v1};
use tidemill_tests::server::{self, Server};

use super::writer::{Random, Writer};

/// Values that do not depend on the order in which events come, so that a writer who knows its events knows them too.
pub const DEFINITIONS: &str = r#"
[source.s]
connector = "push"
event_time = "at"
event_id = "id"
fields = { id = "int64", key = "string", x = "int64", at = "timestamp[us]" }
[entity.e]
key = "key"
[view.v]
entity = "e"
source = "s"
where = "x >= 0"
[view.v.features]
n = { agg = "count()", window = "lifetime" }
total = { agg = "sum(x)", window = "lifetime" }
month = { agg = "count()", windows = ["30d"] }
[view.w]
entity = "e"
source = "s"
[view.w.features]
greatest = { agg = "max(x)", windows = ["30d"] }
[service.all]
features = ["v:*", "w:*"]
"#;

/// A project on the Redis of an address, with more lines under `[redis]`.
pub fn project(address: &str, more: &str) -> tempfile::TempDir {
    let project = server::project(DEFINITIONS);
    configure(project.path(), address, more);
    project
}

/// Says where the project's Redis is.
pub fn configure(project: &Path, address: &str, more: &str) {
    let settings = format!("store = \"redis\"\n[redis]\naddress = \"{address}\"\n{more}\n");
    std::fs::write(project.join("tidemill.toml"), settings).unwrap();
}

/// How many times as much as in CI: 10 is what a release is tried with.
pub fn scale() -> usize {
    std::env::var("TIDEMILL_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// A seed that is printed.
pub fn random(what: &str) -> Random {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("{what}: TIDEMILL_SEED={seed} TIDEMILL_FAULTS={}", scale());
    Random(seed)
}

/// A server, its writer, and what the writer knows.
pub struct World {
    pub project: tempfile::TempDir,
    pub server: Option<Server>,
    writer: Option<Writer>,
    /// where the server is now: the writer follows it
    address: Arc<Mutex<String>>,
}

impl World {
    /// A server on a project, and a writer that has not begun.
    pub async fn start(project: tempfile::TempDir, random: &mut Random) -> World {
        let server = Server::start(project.path()).await;
        let address = Arc::new(Mutex::new(server.address.clone()));
        let writer = Writer::new(random.below(u64::MAX), address.clone());
        World { project, server: Some(server), writer: Some(writer), address }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub async fn client(&self) -> Client {
        self.server().client().await
    }

    /// Writes while something happens.
    pub async fn while_writing(&mut self, happens: impl AsyncFnOnce(&mut World)) {
        let writer = self.writer.take().expect("one writer at a time");
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(writer.run(stop.clone()));
        happens(self).await;
        stop.store(true, Ordering::SeqCst);
        self.writer = Some(writing.await.expect("the writer does not panic"));
    }

    /// kill -9 and a start, while a writer goes on.
    pub async fn kill(&mut self) {
        self.server.take().into_iter().for_each(|server| drop(server.kill()));
        self.restart().await;
    }

    /// Starts the server, again where a connection was lost just then.
    pub async fn restart(&mut self) {
        for _ in 0..20 {
            match Server::try_start(self.project.path()).await {
                Ok(server) => {
                    *self.address.lock().unwrap() = server.address.clone();
                    self.server = Some(server);
                    return;
                }
                Err(said) => assert!(said.contains("E5050"), "the server does not start: {said}"),
            }
        }
        panic!("the server does not start, twenty times over");
    }

    /// Waits until the server says that all is well, and everything is as the writer knows it.
    pub async fn settle(&mut self) {
        let mut writer = self.writer.take().expect("nobody writes");
        let client = self.client().await;
        let mut wrong = "the last push is not taken".to_string();
        let well = tokio::time::timeout(Duration::from_secs(120), async {
            writer.finish().await;
            while let Err(why) = compare(&client, &writer).await {
                wrong = why;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if well.await.is_err() {
            let status = client.status().await;
            let said = self.server.take().map(Server::kill).unwrap_or_default();
            panic!("two minutes later: {wrong}\n{status:?}\n{said}");
        }
        explained(&client, &writer).await;
        self.writer = Some(writer);
    }

    pub fn writer(&self) -> &Writer {
        self.writer.as_ref().expect("nobody writes")
    }
}

/// Values of all keys, by output and then key.
pub async fn values(client: &Client, keys: &[String]) -> Result<v1::GetResponse, String> {
    let keys = [("key".to_string(), texts(keys))].into();
    let request = v1::GetRequest { service: "all".into(), keys, ..v1::GetRequest::default() };
    client.get(request).await.map_err(|error| format!("{}: {error}", error.code))
}

pub fn ints(column: &v1::Column) -> &[i64] {
    match &column.values {
        Some(v1::column::Values::Int64s(v)) => &v.values,
        other => panic!("{}: {other:?}", column.name),
    }
}

/// Whether a server says of everything what its writer knows. Err: what is different.
pub async fn compare(client: &Client, writer: &Writer) -> Result<(), String> {
    let status = client.status().await.map_err(|error| error.to_string())?;
    let source = &status.sources["s"];
    if !status.ready || source.state != "running" || source.lag > 0 {
        return Err(format!("ready {}, {}, lag {}", status.ready, source.state, source.lag));
    }
    let keys: Vec<String> = writer.known.keys().cloned().collect();
    let found = values(client, &keys).await?;
    for (row, (key, of)) in writer.known.iter().enumerate() {
        let wanted = [of.n, of.total, of.n, of.greatest];
        let answered: Vec<i64> = found.columns.iter().map(|column| ints(column)[row]).collect();
        if answered != wanted {
            return Err(format!("{key}: {answered:?}, not {wanted:?}"));
        }
    }
    let numbers = (source.consumed, source.accepted, source.dead_lettered);
    if source.consumed != source.accepted + source.dead_lettered
        || source.positions.values().sum::<u64>() != source.consumed
    {
        return Err(format!("ledger of s: {numbers:?}, positions {:?}", source.positions));
    }
    for (name, of) in &status.views {
        let sum = of.applied + of.filtered + of.keyless + of.late + of.duplicate;
        let applied: i64 = writer.known.values().map(|known| if name == "v" { known.n } else { known.all }).sum();
        if sum != source.accepted || of.applied as i64 != applied || of.late > 0 {
            return Err(format!("ledger of {name}: {of:?}, not {applied} of {numbers:?}"));
        }
        if of.entities != writer.known.len() as u64 {
            return Err(format!("{name} has {} entities, not {}", of.entities, writer.known.len()));
        }
    }
    Ok(())
}

async fn explained(client: &Client, writer: &Writer) {
    for key in writer.known.keys() {
        for feature in ["v:n", "v:total", "v:month_30d", "w:greatest_30d"] {
            let keys = [("key".to_string(), texts([key]))].into();
            let request = v1::ExplainRequest { feature: feature.into(), keys, ..v1::ExplainRequest::default() };
            let explanation = client.explain(request).await.unwrap_or_else(|e| panic!("{feature} of {key}: {e}"));
            assert!(explanation.bit_identical, "{feature} of {key}");
        }
    }
}
