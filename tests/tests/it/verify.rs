//! Verify: served answers are what the log gives, bit for bit; and what is not is found: damage, a lost event, a changed
//! definition.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;
use tidemill_client::{texts, v1};
use tidemill_tests::server::{Server, binary, ndjson, project};

pub const DEFINITIONS: &str = r#"
[source.payments]
connector = "push"
event_time = "at"
event_id = "id"
[source.payments.fields]
id = "int64"
card = "string"
shop = "string"
amount = "float64"
at = "timestamp"

[source.shops]
kind = "table"
connector = "push"
event_time = "at"
[source.shops.fields]
shop = "string"
risk = "float64"
at = "timestamp"

[entity.card]
key = "card"
[entity.shop]
key = "shop"

[view.cards]
entity = "card"
source = "payments"
[view.cards.join.seller]
source = "shops"
on = "shop"
[view.cards.features]
small = { agg = "count()", where = "amount < 10", windows = ["1h"] }
spent = { agg = "sum(amount)", windows = ["1h", "1d"] }
with_this = { agg = "sum(amount)", windows = ["1h"], include_request = true }
risk = { agg = "avg(seller.risk)", windows = ["1d"] }
last_shop = { agg = "last(shop)" }
[view.cards.derived]
share = "spent_1h / nullif(spent_1d, 0)"
last_spent = "lookup('shops_of:spent', last_shop)"

[view.shops_of]
entity = "shop"
source = "payments"
[view.shops_of.features]
spent = { agg = "sum(amount)" }

[service.all]
features = ["cards:*"]
"#;

pub fn run(server: &Server, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", &server.address).output().unwrap()
}

fn verified(server: &Server) -> (Json, Option<i32>) {
    let output = run(server, &["verify", "--json"]);
    let json = serde_json::from_slice(&output.stdout);
    (json.unwrap_or_else(|_| serde_json::from_slice(&output.stderr).unwrap_or_default()), output.status.code())
}

/// Pushes events and reads between them, as a live system does.
pub async fn live(server: &Server) {
    let client = server.client().await;
    let now = tidemill::clock::Clock::default().now();
    for step in 0..40i64 {
        let mut rows = String::new();
        for i in 0..5 {
            let at = tidemill_features::time::rfc3339(now - 7_200_000_000 + (step * 5 + i) * 36_000_000);
            let id = step * 5 + i + 1 - i64::from(step % 7 == 0);
            let (card, shop, amount) = (id % 4, id % 3, [10.0, 0.1, 7.25, 9.999][(id % 4) as usize]);
            rows += &format!(
                "{{\"id\":{id},\"card\":\"c{card}\",\"shop\":\"s{shop}\",\"amount\":{amount},\"at\":\"{at}\"}}\n"
            );
        }
        client.push(ndjson("payments", rows, v1::Wait::None)).await.unwrap();
        let at = tidemill_features::time::rfc3339(now - 9_000_000_000 + step * 180_000_000);
        let row = format!("{{\"shop\":\"s{}\",\"risk\":{step}.1,\"at\":\"{at}\"}}\n", step % 3);
        client.push(ndjson("shops", row, v1::Wait::None)).await.unwrap();
        let keys = [("card".to_string(), texts(["c0", "c1", "c2", "c3", "unknown"]))].into();
        let requested = ("amount".to_string(), tidemill_client::doubles([3.0; 5]));
        let as_of = (step % 5 == 4).then_some(now - step * 60_000_000);
        let request =
            v1::GetRequest { service: "all".into(), keys, as_of, request: [requested].into(), ..Default::default() };
        client.get(request).await.unwrap();
    }
    // What was sent last is behind all others: once it can be read, nothing moves any more.
    for (source, row) in
        [("payments", "{\"id\":99999,\"card\":\"last\",\"amount\":1,"), ("shops", "{\"shop\":\"last\",")]
    {
        let row = format!("{row}\"at\":\"{}\"}}\n", tidemill_features::time::rfc3339(now));
        client.push(ndjson(source, row, v1::Wait::Readable)).await.unwrap();
    }
}

pub fn data(project: &Path) -> std::path::PathBuf {
    project.join("data")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_served_is_what_the_log_gives_and_what_is_not_is_found() {
    let folder = project(DEFINITIONS);
    std::fs::write(folder.path().join("tidemill.toml"), "verify_share = 1.0\n").unwrap();
    let server = Server::start(folder.path()).await;
    live(&server).await;
    assert_eq!(server.terminate(), Some(0));

    let server = Server::start(folder.path()).await;
    let (json, code) = verified(&server);
    assert_eq!((&json["sampled"], &json["differences"], code), (&200.into(), &0.into(), Some(0)), "{json}");
    let some = run(&server, &["verify", "--json", "--sample", "7"]);
    assert_eq!(serde_json::from_slice::<Json>(&some.stdout).unwrap()["sampled"], 7);
    assert_eq!(server.terminate(), Some(0));

    // `<` becomes `<=`: ten is small now.
    let definitions = folder.path().join("features/test.toml");
    std::fs::write(&definitions, DEFINITIONS.replace("amount < 10", "amount <= 10")).unwrap();
    let server = Server::start(folder.path()).await;
    let (json, code) = verified(&server);
    assert!(json["differences"].as_u64().unwrap() > 0 && code == Some(1), "{json}");
    let shown = &json["shown"][0];
    assert_eq!((&shown["feature"], &shown["redefined"]), (&"cards:small_1h".into(), &true.into()), "{json}");
    let text = String::from_utf8(run(&server, &["verify"]).stdout).unwrap();
    assert!(shown["explained"]["counted"].as_array().is_some_and(|events| !events.is_empty()), "{shown}");
    for expected in [
        "cards:small_1h of card=",
        "served",
        "from the log",
        "the definitions have changed",
        "it saw      {\"payments\":{\"0\":",
        "count() where amount <= 10 over events from",
        "left out",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(server.terminate(), Some(0));
    std::fs::write(&definitions, DEFINITIONS).unwrap();

    // Events are gone from the log, and the state that knew them.
    let segment = data(folder.path()).join("log");
    let log = std::fs::read_dir(&segment)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "log"))
        .unwrap();
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..half_of_the_frames(&whole)]).unwrap();
    std::fs::remove_dir_all(data(folder.path()).join("state")).unwrap();
    let server = Server::start(folder.path()).await;
    let (json, code) = verified(&server);
    assert!(json["differences"].as_u64().unwrap() > 0 && code == Some(1), "{json}");
    assert_eq!(server.terminate(), Some(0));
    std::fs::write(&log, &whole).unwrap();

    // One bit of the log: it is named, and nothing is said to be right.
    let server = Server::start(folder.path()).await;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    std::fs::write(&log, &flipped).unwrap();
    let (json, code) = verified(&server);
    let message = json["error"]["message"].as_str().unwrap_or_default();
    assert!(code == Some(1) && message.contains("damaged") && message.contains(".log"), "{json}");
}

/// Where the second half of the frames begins.
pub fn half_of_the_frames(log: &[u8]) -> usize {
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < log.len() {
        starts.push(at);
        at += 12 + u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
    }
    starts[starts.len() / 2]
}
