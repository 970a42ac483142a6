//! What the tests of Kafka share: a project whose source reads a topic, its twin that is pushed to, and waiting for both.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill_client::{Client, v1};
use tidemill_tests::server::{self, Server};
use tidemill_tests::services::Message;

/// The source and what is computed from it; `CONNECTOR` stands for where its events come from.
const DEFINITIONS: &str = r#"
[source.tx]
CONNECTOR
event_time = "at"
event_id = "id"
max_lag = "1s"
[source.tx.fields]
id = "string"
card = "string"
amount = "float64"
at = "timestamp[ms]"
[entity.card]
key = "card"
[view.v]
entity = "card"
source = "tx"
where = "amount >= 0"
[view.v.features]
n = { agg = "count()", windows = ["1h", "3650d"] }
total = { agg = "sum(amount)", window = "lifetime" }
last = { agg = "last(amount)", ttl = "3650d" }
few = { agg = "last_k(id, 3)", window = "lifetime" }
[service.s]
features = ["v:*"]
"#;

/// Beginning of the events of tests, milliseconds: long ago, so that windows do not move while a test runs.
pub const BEGIN: i64 = 1_700_000_000_000;

/// A project whose source reads these topics.
pub fn reading(brokers: &str, topics: &str, more: &str) -> tempfile::TempDir {
    project(brokers, &definitions(&format!("connector = \"kafka\"\n{topics}\n{more}")))
}

/// The same definitions for pushed events.
pub fn pushed() -> tempfile::TempDir {
    server::project(&definitions("connector = \"push\""))
}

/// The definitions, with where events come from.
pub fn definitions(connector: &str) -> String {
    DEFINITIONS.replace("CONNECTOR", connector)
}

/// A project that reaches brokers.
pub fn project(brokers: &str, definitions: &str) -> tempfile::TempDir {
    let project = server::project(definitions);
    let settings = format!("[kafka]\nbrokers = \"{brokers}\"\n");
    std::fs::write(project.path().join("tidemill.toml"), settings).unwrap();
    project
}

/// An event as all of these tests have it.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: u64,
    pub card: u32,
    pub partition: i32,
}

impl Event {
    pub fn new(id: u64, card: u32, partition: i32) -> Event {
        Event { id, card, partition }
    }

    pub fn key(&self) -> String {
        format!("c{}", self.card)
    }

    pub fn amount(&self) -> f64 {
        (self.id * 37 % 1_000) as f64 / 10.0 - 5.0
    }

    /// Its time in milliseconds.
    pub fn at(&self) -> i64 {
        BEGIN + (self.id * 7_919 % 5_000_000) as i64
    }

    pub fn json(&self) -> String {
        json!({"id": format!("e{}", self.id), "card": self.key(), "amount": self.amount(), "at": self.at()}).to_string()
    }

    pub fn message(&self) -> Message {
        Message::new(self.json()).key(self.key()).partition(self.partition)
    }
}

/// How a server is doing, as `status --json` has it.
pub async fn status(client: &Client) -> Json {
    let status = client.status().await.unwrap();
    tidemill::serving::http::status_json(&status)
}

/// Waits until the status is as wanted.
pub async fn wait_for(client: &Client, what: &str, ready: impl Fn(&Json) -> bool) -> Json {
    for _ in 0..30_000 {
        // A server that is overloaded is asked again.
        if let Ok(now) = client.status().await {
            let now = tidemill::serving::http::status_json(&now);
            if ready(&now) {
                return now;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after five minutes still not {what}: {}", status(client).await["sources"]);
}

/// Waits until the source `tx` has taken so many records.
pub async fn consumed(client: &Client, count: u64) -> Json {
    wait_for(client, &format!("{count} consumed"), |status| status["sources"]["tx"]["consumed"] == count).await
}

/// Waits until the state of the source `tx` has a text in it.
pub async fn state_says(client: &Client, text: &str) -> Json {
    let says = |status: &Json| status["sources"]["tx"]["state"].as_str().is_some_and(|state| state.contains(text));
    wait_for(client, &format!("saying `{text}`"), says).await
}

/// The answer of the service for these cards.
pub async fn get(client: &Client, cards: u32) -> v1::GetResponse {
    let mut request = v1::GetRequest { service: "s".into(), ..v1::GetRequest::default() };
    request.keys.insert("card".into(), tidemill_client::texts((0..cards).map(|card| format!("c{card}"))));
    client.get(request).await.unwrap()
}

/// Values of the service for these cards, bit for bit.
pub async fn values(client: &Client, cards: u32) -> String {
    format!("{:?}", get(client, cards).await.columns)
}

/// What a server says to these events where they are pushed to it, and its ledgers.
pub async fn twin(events: &[String], cards: u32) -> (String, String) {
    let project = pushed();
    let (_server, client) = start(project.path()).await;
    for lines in events.chunks(1_000) {
        client.push(server::ndjson("tx", lines.join("\n"), v1::Wait::Readable)).await.unwrap();
    }
    (values(&client, cards).await, ledger(&status(&client).await))
}

/// A server, and a client of it.
pub async fn start(project: &Path) -> (Server, Client) {
    let server = Server::start(project).await;
    let client = server.client().await;
    (server, client)
}

/// The ledgers of the source and its view, without what depends on when an event came.
pub fn ledger(status: &Json) -> String {
    let source = &status["sources"]["tx"];
    let view = &status["views"]["v"];
    let of = |of: &Json, names: &[&str]| names.iter().map(|name| format!("{name} {} ", of[*name])).collect::<String>();
    of(source, &["consumed", "accepted", "dead_lettered"])
        + &of(view, &["applied", "filtered", "keyless", "late", "duplicate", "entities"])
}
