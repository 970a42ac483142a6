//! Snapshots as other engines read them: DuckDB, pyarrow, pandas and Polars find what a read of each entity answers.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value as Json};
use tidemill_client::v1;
use tidemill_features::time::rfc3339;
use tidemill_tests::server::{Server, binary, ndjson, project};

use crate::sql::python;

const DEFINITIONS: &str = r#"
[source.payments]
connector = "push"
event_time = "at"
[source.payments.fields]
card = "int64"
shop = "string"
amount = "float64"
price = "decimal(12,2)"
ok = "bool"
place = "vector<2>"
raw = "bytes"
at = "timestamp"
[entity.card]
key = "card"
[view.cards]
entity = "card"
source = "payments"
[view.cards.features]
n = { agg = "count()", windows = ["1h", "30d"] }
spent = { agg = "sum(amount)", windows = ["1h"] }
cost = { agg = "sum(price)" }
last_shop = { agg = "last(shop)", default = "none" }
last_raw = { agg = "last(raw)" }
any_ok = { agg = "any(ok)" }
shops = { agg = "last_k(shop, 3)" }
by_shop = { agg = "sum_by(amount, shop)" }
place = { agg = "vector_avg(place)" }
first_at = { agg = "first(at)" }
spread = { agg = "stddev(amount)" }
[view.cards.derived]
mean = "spent_1h / nullif(n_1h, 0)"
"#;

/// A Tuesday.
const START: i64 = 1_767_685_500_123_456;

fn run(server: &Server, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", &server.address).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The rows of a view, as all four engines read them.
fn read(folder: &Path, view: &str) -> Vec<Map<String, Json>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_snapshot.py");
    let output = Command::new(python()).arg(script).arg(folder).arg(view).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_engines_read_a_snapshot() {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    let row = |i: i64| {
        let (card, shop) = (i * 7 % 23, ["é\"x", "b", ""][(i % 3) as usize]);
        let shop = if i % 11 == 0 { "null".to_string() } else { format!("{}", Json::from(shop)) };
        format!(
            "{{\"card\":{card},\"shop\":{shop},\"amount\":{i}.25,\"price\":\"{}.05\",\"ok\":{},\"place\":[{i},0.5],\"raw\":\"AAH/\",\"at\":\"{}\"}}\n",
            i - 50,
            i % 2 == 0,
            rfc3339(START + i * 61_000_001)
        )
    };
    let client = server.client().await;
    client.push(ndjson("payments", (0..200).map(row).collect(), v1::Wait::Readable)).await.unwrap();
    let out = folder.path().join("snapshot");
    for minutes in [90, 210] {
        let at = rfc3339(START + minutes * 60_000_000);
        let made = run(&server, &["snapshot", "--at", &at, "--out", out.to_str().unwrap(), "--json"]);
        let made: Json = serde_json::from_slice(&made).unwrap();
        let rows = read(&out, "cards");
        assert_eq!((rows.len(), &made["rows"]), (23, &23.into()));
        let keys: String = rows.iter().map(|row| format!("{{\"card\":{}}}\n", row["card"])).collect();
        let path = folder.path().join("keys.ndjson");
        std::fs::write(&path, keys).unwrap();
        let answers = run(&server, &["get", "cards:*", "--keys", path.to_str().unwrap(), "--as-of", &at, "--json"]);
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.lines().count(), rows.len());
        for (line, row) in answers.lines().zip(&rows) {
            let line: Json = serde_json::from_str(line).unwrap();
            let values = line["values"].as_object().unwrap();
            assert_eq!(values.len() + 1, row.len());
            for (name, value) in values {
                assert_eq!(row[&name.replace(':', "__")], *value, "{name} of {}", row["card"]);
            }
        }
    }
}
