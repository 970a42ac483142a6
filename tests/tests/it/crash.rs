//! kill -9 at random instants under load, torn and flipped files: nothing acknowledged is lost, nothing counts twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tidemill_client::{Client, texts, v1};
use tidemill_tests::server::{Server, ndjson, project};

const DEFINITIONS: &str = r#"
[source.named]
connector = "push"
event_time = "at"
event_id = "id"
fields = { id = "int64", key = "string", x = "float64", at = "timestamp[us]" }

[source.plain]
connector = "push"
event_time = "at"
fields = { key = "string", x = "int64", at = "timestamp[us]" }

[entity.e]
key = "key"

[view.v]
entity = "e"
source = "named"
[view.v.features]
n = { agg = "count()", window = "lifetime" }
total = { agg = "sum(x)", window = "lifetime" }
month = { agg = "count()", windows = ["30d"] }

[view.p]
entity = "e"
source = "plain"
[view.p.features]
n = { agg = "count()", window = "lifetime" }
latest = { agg = "last(x)", window = "lifetime" }

[service.all]
features = ["v:*", "p:*"]
"#;

const START: i64 = 1_700_000_000_000_000;

/// Small random numbers from a printed seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

async fn values(client: &Client, keys: &[String]) -> Vec<v1::Column> {
    let request = v1::GetRequest {
        service: "all".into(),
        keys: [("key".to_string(), texts(keys))].into(),
        as_of: Some(START + 3_600_000_000),
        ..v1::GetRequest::default()
    };
    client.get(request).await.unwrap().columns
}

fn ints(column: &v1::Column) -> &[i64] {
    match &column.values {
        Some(v1::column::Values::Int64s(v)) => &v.values,
        other => panic!("{}: {other:?}", column.name),
    }
}

fn floats(column: &v1::Column) -> &[f64] {
    match &column.values {
        Some(v1::column::Values::Doubles(v)) => &v.values,
        other => panic!("{}: {other:?}", column.name),
    }
}

fn balanced(status: &v1::StatusResponse) {
    for (name, source) in &status.sources {
        assert_eq!(source.consumed, source.accepted + source.dead_lettered, "ledger of {name}");
        assert_eq!(source.positions.values().sum::<u64>(), source.consumed, "positions of {name}");
    }
    for (view, source) in [("v", "named"), ("p", "plain")] {
        let v = &status.views[view];
        let sum = v.applied + v.filtered + v.keyless + v.late + v.duplicate;
        assert_eq!(sum, status.sources[source].accepted, "ledger of {view}");
    }
}

/// What the client knows: events sent with ids count once; of events without ids, those acknowledged at least.
#[derive(Default)]
struct Expected {
    named: BTreeMap<String, (i64, f64)>,
    plain_acknowledged: i64,
    plain_sent: i64,
}

/// Pushes until the server is gone. Returns the first event id that may not have been kept.
async fn load(address: &str, mut next: i64, random: &mut Random, expected: &mut Expected) -> i64 {
    let Ok(client) = Client::connect(address).await else { return next };
    loop {
        let count = 1 + random.below(50) as i64;
        let keys: Vec<String> = (0..count).map(|i| format!("k{}", (next + i) % 7)).collect();
        let x = |id: i64| (id % 1000) as f64 / 10.0;
        let at = |id: i64| START + (id * 7919) % 3_000_000_000;
        let line = |(i, key): (usize, &String)| {
            let id = next + i as i64;
            format!("{{\"id\":{id},\"key\":\"{key}\",\"x\":{},\"at\":{}}}\n", x(id), at(id))
        };
        let lines: String = keys.iter().enumerate().map(line).collect();
        let wait = if random.below(2) == 0 { v1::Wait::Durable } else { v1::Wait::Readable };
        if client.push(ndjson("named", lines, wait)).await.is_err() {
            return next;
        }
        for (i, key) in keys.iter().enumerate() {
            let (n, total) = expected.named.entry(key.clone()).or_default();
            *n += 1;
            // Tenths of whole numbers: kept as tenths, summed as whole numbers, exact in the end.
            *total += ((next + i as i64) % 1000) as f64;
        }
        next += count;
        let plain: String = (0..5).map(|i| format!("{{\"key\":\"p\",\"x\":{i},\"at\":{}}}\n", at(next + i))).collect();
        expected.plain_sent += 5;
        if client.push(ndjson("plain", plain, v1::Wait::Durable)).await.is_err() {
            return next;
        }
        expected.plain_acknowledged += 5;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_nothing_and_count_nothing_twice() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("kill storm: TIDEMILL_SEED={seed}");
    let mut random = Random(seed);
    let folder = project(DEFINITIONS);
    let mut expected = Expected::default();
    let mut next = 0;
    for round in 0..50 {
        let server = Server::start(folder.path()).await;
        if round % 10 == 9 {
            balanced(&server.client().await.status().await.unwrap());
        }
        let address = server.address.clone();
        let wait = Duration::from_micros(500 + random.below(60_000));
        let killer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            server.kill();
        });
        next = load(&address, next, &mut random, &mut expected).await;
        killer.await.unwrap();
    }
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let status = client.status().await.unwrap();
    balanced(&status);
    // The last push may have been kept without an answer.
    let keys: Vec<String> = expected.named.keys().cloned().collect();
    assert!(!keys.is_empty(), "the storm left no time for a single push");
    let kept: i64 = ints(&values(&client, &keys).await[0]).iter().sum();
    let acknowledged: i64 = expected.named.values().map(|(n, _)| n).sum();
    assert!(kept >= acknowledged && kept < acknowledged + 51, "{kept} kept, {acknowledged} acknowledged");
    assert_eq!(status.views["v"].applied as i64, kept);
    let plain = ints(&values(&client, &["p".to_string()]).await[3])[0];
    let (least, most) = (expected.plain_acknowledged, expected.plain_sent);
    assert!((least..=most).contains(&plain), "{plain} plain events, {least} acknowledged, {most} sent");
    explained(&client, &keys).await;
    println!("{kept} named and {plain} plain events over 50 kills");
    sent_again(&client, next).await;
}

/// Whatever the last kill left open, sending it again makes every event up to there count exactly once.
async fn sent_again(client: &Client, next: i64) {
    let end = next + 50;
    let line = |id: i64| {
        let (x, at) = ((id % 1000) as f64 / 10.0, START + (id * 7919) % 3_000_000_000);
        format!("{{\"id\":{id},\"key\":\"k{}\",\"x\":{x},\"at\":{at}}}\n", id % 7)
    };
    client.push(ndjson("named", (next..end).map(line).collect(), v1::Wait::Readable)).await.unwrap();
    let keys: Vec<String> = (0..7).map(|key| format!("k{key}")).collect();
    let columns = values(client, &keys).await;
    for key in 0..7 {
        let ids = || (0..end).filter(|id| id % 7 == key);
        let tenths: i64 = ids().map(|id| id % 1000).sum();
        assert_eq!(ints(&columns[0])[key as usize], ids().count() as i64, "count of k{key}");
        assert_eq!(ints(&columns[2])[key as usize], ids().count() as i64, "count of k{key} in 30 days");
        assert_eq!((floats(&columns[1])[key as usize] * 10.0).round(), tenths as f64, "sum of k{key}");
    }
}

async fn explained(client: &Client, keys: &[String]) {
    for key in keys {
        for feature in ["v:total", "v:month_30d"] {
            let request = v1::ExplainRequest {
                feature: feature.into(),
                keys: [("key".to_string(), texts([key]))].into(),
                as_of: Some(START + 3_600_000_000),
                ..v1::ExplainRequest::default()
            };
            assert!(client.explain(request).await.unwrap().bit_identical, "{feature} of {key}");
        }
    }
}

async fn filled(folder: &Path) -> Vec<v1::Column> {
    let server = Server::start(folder).await;
    let client = server.client().await;
    for batch in 0..20 {
        let line = |i: i64| {
            let id = batch * 100 + i;
            format!("{{\"id\":{id},\"key\":\"k{}\",\"x\":{},\"at\":{}}}\n", id % 5, id % 17, START + id * 1000)
        };
        let lines: String = (0..100).map(line).collect();
        let answer = client.push(ndjson("named", lines, v1::Wait::Readable)).await.unwrap();
        assert_eq!((answer.accepted, answer.dead_lettered), (100, 0));
    }
    let values = values(&client, &keys()).await;
    assert_eq!(server.terminate(), Some(0), "SIGTERM ends a server in order");
    values
}

fn keys() -> Vec<String> {
    (0..5).map(|i| format!("k{i}")).collect()
}

async fn read_again(folder: &Path) -> Vec<v1::Column> {
    let server = Server::start(folder).await;
    let client = server.client().await;
    balanced(&client.status().await.unwrap());
    values(&client, &keys()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_derived_anew_where_it_is_gone_or_damaged() {
    let folder = project(DEFINITIONS);
    let before = filled(folder.path()).await;
    assert_eq!(read_again(folder.path()).await, before, "after a restart");
    let state = folder.path().join("data/state");
    std::fs::remove_dir_all(&state).unwrap();
    assert_eq!(read_again(folder.path()).await, before, "without a state folder");
    let mut flipped = 0;
    for file in walk(&state) {
        // The store renames and replaces its files as it likes: what is gone cannot be flipped.
        let Ok(mut bytes) = std::fs::read(&file) else { continue };
        if bytes.is_empty() {
            continue;
        }
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::write(&file, bytes).unwrap();
        flipped += 1;
        match Server::try_start(folder.path()).await {
            Ok(server) => assert_eq!(values(&server.client().await, &keys()).await, before, "{}", file.display()),
            Err(said) => assert!(said.contains('E'), "{}: {said}", file.display()),
        }
    }
    assert!(flipped > 0);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_refused_by_name_and_a_torn_end_is_cut() {
    let folder = project(DEFINITIONS);
    let before = filled(folder.path()).await;
    let segment = folder.path().join("data/log/00000000000000000000.log");
    let whole = std::fs::read(&segment).unwrap();
    for at in [0, 4, 9, 40, whole.len() / 2] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&segment, &flipped).unwrap();
        std::fs::remove_dir_all(folder.path().join("data/state")).unwrap_or(());
        let said = Server::try_start(folder.path()).await.err().unwrap_or_else(|| panic!("byte {at} was not missed"));
        assert!(said.contains("E1018") && said.contains("00000000000000000000.log"), "{said}");
    }
    let torn = [&whole[..], &whole[..whole.len() / 40]].concat();
    std::fs::write(&segment, &torn).unwrap();
    // A whole frame that was never acknowledged may come back; half of one must not.
    let after = read_again(folder.path()).await;
    assert_eq!(after, before, "events of a torn frame count nothing, and those of a repeated one are duplicates");
    std::fs::write(&segment, &whole[..whole.len() / 2]).unwrap();
    let said = Server::try_start(folder.path()).await.err().expect("a cut log is noticed");
    assert!(said.contains("E1021") || said.contains("E1018"), "{said}");
}
