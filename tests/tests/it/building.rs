//! Views that are built while everything else serves: one that is added to a running project, one that is derived anew, one that
//! is changed and changed back. Real processes, under load and kills; the values are those of a naive count over what was sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use tidemill_client::{Client, texts, v1};
use tidemill_tests::server::{Server, binary, ndjson, project};
use tokio::sync::OnceCell;

const DEFINITIONS: &str = r#"
[source.s]
connector = "push"
event_time = "at"
event_id = "id"
fields = { id = "int64", key = "string", shop = "string", x = "int64", at = "timestamp[us]" }

[source.shops]
connector = "push"
kind = "table"
event_time = "at"
fields = { shop = "string", grade = "int64", at = "timestamp[us]" }

[entity.e]
key = "key"

[view.v]
entity = "e"
source = "s"
[view.v.features]
n = { agg = "count()", window = "lifetime" }
total = { agg = "sum(x)", window = "lifetime" }

[service.first]
features = ["v:*"]
"#;

/// The view that is added: a join, features without a left edge, a window, a filter.
const MORE: &str = r#"
[view.w]
entity = "e"
source = "s"
where = "x > 2"
[view.w.join.shops]
source = "shops"
on = "shop"
[view.w.features]
n = { agg = "count()", window = "lifetime" }
good = { agg = "sum(x)", where = "shops.grade > 1", window = "lifetime" }
hour = { agg = "count()", windows = ["1h"] }

[service.second]
features = ["w:*"]
"#;

const START: i64 = 1_700_000_000_000_000;
const KEYS: i64 = 500;
const SHOPS: i64 = 7;
/// Events of the log before a test begins.
const LOADED: i64 = 300_000;
const BATCH: i64 = 2_500;

/// An event: key, shop, x, time.
fn event(id: i64) -> (i64, i64, i64, i64) {
    ((id * 7919) % KEYS, id % SHOPS, (id / 3) % 10, START + id * 1_000)
}

fn lines(ids: std::ops::Range<i64>) -> String {
    let line = |id| {
        let (key, shop, x, at) = event(id);
        format!("{{\"id\":{id},\"key\":\"k{key}\",\"shop\":\"s{shop}\",\"x\":{x},\"at\":{at}}}\n")
    };
    ids.map(line).collect()
}

/// Rows of the table: each shop changes its grade now and then, at times that no event has.
fn grades() -> Vec<(i64, i64, i64)> {
    (0..40).map(|row| (row % SHOPS, row % 3, START + row * 5_000_000 + 1)).collect()
}

/// The grade that an event sees.
fn grade(shop: i64, at: i64) -> Option<i64> {
    grades().into_iter().filter(|row| row.0 == shop && row.2 < at).max_by_key(|row| row.2).map(|row| row.1)
}

/// By key: what view `w` has to say of the events below `end`, live and in the hour before a time.
fn expected(end: i64, at: i64) -> BTreeMap<String, (i64, i64, i64)> {
    let mut values: BTreeMap<String, (i64, i64, i64)> = (0..KEYS).map(|key| (format!("k{key}"), (0, 0, 0))).collect();
    for id in 0..end {
        let (key, shop, x, time) = event(id);
        if x <= 2 {
            continue;
        }
        let of_key = values.get_mut(&format!("k{key}")).unwrap();
        of_key.0 += 1;
        of_key.1 += if grade(shop, time).is_some_and(|grade| grade > 1) { x } else { 0 };
        of_key.2 += i64::from((at - 3_600_000_000..at).contains(&time));
    }
    values
}

fn keys() -> Vec<String> {
    (0..KEYS).map(|key| format!("k{key}")).collect()
}

async fn values(
    client: &Client,
    service: &str,
    as_of: Option<i64>,
) -> Result<Vec<Vec<i64>>, tidemill_client::ClientError> {
    let keys = [("key".to_string(), texts(keys()))].into();
    let request = v1::GetRequest { service: service.into(), keys, as_of, ..v1::GetRequest::default() };
    let of_column = |column: &v1::Column| match &column.values {
        Some(v1::column::Values::Int64s(list)) => list.values.clone(),
        other => panic!("{}: {other:?}", column.name),
    };
    Ok(client.get(request).await?.columns.iter().map(of_column).collect())
}

/// Every key of view `w`, now and as of a time, over the events below `end`; and the ledger.
async fn check_whole(client: &Client, end: i64) {
    let at = START + 3_600_000_000 + 100_000_000;
    let wanted = expected(end, at);
    let live = values(client, "second", None).await.unwrap();
    let past = values(client, "second", Some(at)).await.unwrap();
    for (at, key) in keys().iter().enumerate() {
        let (n, good, hour) = wanted[key];
        assert_eq!((live[0][at], live[1][at]), (n, good), "{key} now");
        assert_eq!((past[0][at], past[1][at], past[2][at]), (n, good, hour), "{key} in the past");
    }
    balanced(&client.status().await.unwrap());
}

fn balanced(status: &v1::StatusResponse) {
    for (name, view) in status.views.iter().filter(|(_, view)| view.state != "building") {
        let sum = view.applied + view.filtered + view.keyless + view.late + view.duplicate;
        assert_eq!(sum, status.sources["s"].accepted, "ledger of {name}: {view:?}");
    }
}

async fn view(client: &Client, name: &str) -> v1::ViewStatus {
    client.status().await.unwrap().views[name].clone()
}

async fn wait_until_serving(client: &Client, name: &str) {
    for _ in 0..6_000 {
        let state = view(client, name).await.state;
        assert!(!state.starts_with("failed"), "{state}");
        if state == "serving" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("view {name} is not built within a minute");
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copied(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// A project of its own with the first view and the events that all tests begin with. Segments are small: what is missing in a
/// new view is much more than a server applies before it answers.
async fn loaded() -> tempfile::TempDir {
    static LOADED_ONCE: OnceCell<tempfile::TempDir> = OnceCell::const_new();
    let first = LOADED_ONCE
        .get_or_init(|| async {
            let folder = project(DEFINITIONS);
            std::fs::write(folder.path().join("tidemill.toml"), "verify_share = 0\n[log]\nsegment_mb = 0.25\n")
                .unwrap();
            let server = Server::start(folder.path()).await;
            let client = server.client().await;
            let row = |(shop, grade, at)| format!("{{\"shop\":\"s{shop}\",\"grade\":{grade},\"at\":{at}}}\n");
            let rows = grades().into_iter().map(row).collect();
            client.push(ndjson("shops", rows, v1::Wait::Readable)).await.unwrap();
            for first in (0..LOADED).step_by(BATCH as usize) {
                client.push(ndjson("s", lines(first..first + BATCH), v1::Wait::Durable)).await.unwrap();
            }
            assert_eq!(server.terminate(), Some(0));
            folder
        })
        .await;
    let own = tempfile::tempdir().unwrap();
    copied(first.path(), own.path());
    own
}

fn add(folder: &Path, definitions: &str) {
    std::fs::write(folder.join("features/more.toml"), definitions).unwrap();
}

fn seed() -> u64 {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("TIDEMILL_SEED={seed}");
    seed
}

fn pause(random: &mut u64, most_ms: u64) -> Duration {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    Duration::from_millis(1 + (*random >> 33) % most_ms)
}

/// Pushes on and on, each batch twice, until it is told to stop or the server is gone. What comes back is the first id that may
/// be missing.
struct Load {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicI64>,
    pushing: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(address: &str, first: i64) -> Load {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(first)));
        let (stopped, sent, address) = (stop.clone(), next.clone(), address.to_string());
        let pushing = tokio::spawn(async move {
            let Ok(client) = Client::connect(&address).await else { return };
            while !stopped.load(Ordering::Relaxed) {
                let from = sent.load(Ordering::Relaxed);
                let ids = from..from + 100;
                for wait in [v1::Wait::Durable, v1::Wait::Readable] {
                    if client.push(ndjson("s", lines(ids.clone()), wait)).await.is_err() {
                        return;
                    }
                }
                sent.store(ids.end, Ordering::Relaxed);
            }
        });
        Load { stop, next, pushing }
    }

    async fn end(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.pushing.await.unwrap();
        self.next.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_added_is_built_while_the_others_serve() {
    let folder = loaded().await;
    add(folder.path(), MORE);
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let load = Load::start(&server.address, LOADED);
    let building = view(&client, "w").await;
    assert_eq!((building.state.as_str(), building.applied), ("building", 0), "{building:?}");
    assert!(building.built < 1.0);
    let refused = values(&client, "second", None).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status), ("E2042", tonic::Code::Unavailable), "{refused:?}");
    assert!(refused.message.contains("`w`") && refused.message.contains('%'), "{}", refused.message);
    // The other view serves, and what comes from the log can be asked.
    let first = values(&client, "first", None).await.unwrap();
    assert!(first[0].iter().sum::<i64>() >= LOADED);
    assert_eq!(view(&client, "v").await.state, "serving");
    let snapshot = run(&server, &["snapshot", "w", "--out", folder.path().join("out").to_str().unwrap(), "--json"]);
    assert!(String::from_utf8_lossy(&snapshot.stderr).contains("E2042") || snapshot.status.success());
    let request = v1::ExplainRequest {
        feature: "w:good".into(),
        keys: [("key".to_string(), texts(["k7"]))].into(),
        ..v1::ExplainRequest::default()
    };
    assert!(client.explain(request).await.unwrap().bit_identical);
    wait_until_serving(&client, "w").await;
    let end = load.end().await;
    assert!(end > LOADED, "nothing was pushed during the build");
    check_whole(&client, end).await;
    // What was switched in stays: nothing is built at the next start.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    assert_eq!(view(&client, "w").await.state, "serving");
    check_whole(&client, end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_survives_kills() {
    let mut random = seed();
    let folder = loaded().await;
    add(folder.path(), MORE);
    // One that is stopped in order goes on where it was.
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let mut built = 0.0;
    while built == 0.0 {
        let w = view(&client, "w").await;
        assert_eq!(w.state, "building");
        built = w.built;
    }
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(folder.path()).await;
    let again = view(&server.client().await, "w").await.built;
    assert!(again >= built, "{again} after {built}");
    server.kill();
    let (mut next, mut kills, mut seen) = (LOADED, 0, Vec::new());
    while kills < 10 {
        let server = Server::start(folder.path()).await;
        seen.push(view(&server.client().await, "w").await.built);
        let load = Load::start(&server.address, next);
        tokio::time::sleep(pause(&mut random, 400)).await;
        server.kill();
        next = load.end().await;
        kills += 1;
    }
    println!("built at each start: {seen:.2?}");
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    wait_until_serving(&client, "w").await;
    // Whatever the last kill left open is sent again: ids count once.
    client.push(ndjson("s", lines(next..next + 100), v1::Wait::Readable)).await.unwrap();
    check_whole(&client, next + 100).await;
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", &server.address).output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_under_load_and_kills_changes_no_value() {
    let mut random = seed();
    let folder = loaded().await;
    add(folder.path(), MORE);
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    wait_until_serving(&client, "w").await;
    let wrong = run(&server, &["backfill", "ww", "--json"]);
    let error: Json = serde_json::from_slice(&wrong.stderr).unwrap();
    assert_eq!((wrong.status.code(), &error["error"]["near"][0]), (Some(2), &Json::from("w")), "{error}");
    // The mark of a back-fill outlives its caller and the server.
    let mut steps = client.backfill("w").await.unwrap();
    steps.message().await.unwrap().unwrap();
    drop(steps);
    wait_for(&client, "rebuilding").await;
    server.kill();
    let (mut next, mut went_on, mut rounds) = (LOADED, 0, 0);
    while rounds < 6 || (went_on == 0 && rounds < 60) {
        rounds += 1;
        let server = Server::start(folder.path()).await;
        let client = server.client().await;
        let load = Load::start(&server.address, next);
        // The old state serves: as of a time before the load nothing changes.
        let wanted = expected(LOADED, START + LOADED * 1_000);
        let served = values(&client, "second", Some(START + LOADED * 1_000)).await.unwrap();
        for (at, key) in keys().iter().enumerate() {
            assert_eq!((served[0][at], served[1][at], served[2][at]), wanted[key], "{key}");
        }
        if went_on == 0 && view(&client, "w").await.state == "serving" {
            // It was done before the kill: once more, and sooner.
            let mut steps = client.backfill("w").await.unwrap();
            steps.message().await.unwrap().unwrap();
            tokio::time::sleep(pause(&mut random, 15)).await;
        } else {
            tokio::time::sleep(pause(&mut random, 100)).await;
        }
        went_on += u32::from(server.kill().contains("a build goes on"));
        next = load.end().await;
    }
    assert!(went_on > 0, "the back-fill did not go on after a kill");
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let load = Load::start(&server.address, next);
    // Two ask at once: both are told of one back-fill, and of its end.
    let (one, other) = tokio::join!(backfilled(&server), backfilled(&server));
    let end = load.end().await;
    for told in [one, other] {
        assert_eq!((&told["view"], &told["entities"]), (&"w".into(), &KEYS.into()), "{told}");
        assert!(told["events"].as_i64().unwrap() >= 2 * (next - LOADED) + LOADED, "{told}");
    }
    assert_eq!(view(&client, "w").await.state, "serving");
    check_whole(&client, end).await;
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(folder.path()).await;
    assert_eq!(view(&server.client().await, "w").await.state, "serving");
    check_whole(&server.client().await, end).await;
}

async fn wait_for(client: &Client, state: &str) {
    while view(client, "w").await.state != state {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn backfilled(server: &Server) -> Json {
    let address = server.address.clone();
    let run = move || Command::new(binary()).args(["backfill", "w", "--json"]).env("TIDEMILL_SERVER", address).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_is_changed_back_finds_its_state() {
    let folder = loaded().await;
    add(folder.path(), MORE);
    let server = Server::start(folder.path()).await;
    wait_until_serving(&server.client().await, "w").await;
    assert_eq!(server.terminate(), Some(0));
    add(folder.path(), &MORE.replace("x > 2", "x > 3"));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    assert_eq!(view(&client, "w").await.state, "building", "a changed definition has no state yet");
    wait_until_serving(&client, "w").await;
    let few = LOADED + 200;
    client.push(ndjson("s", lines(LOADED..few), v1::Wait::Readable)).await.unwrap();
    assert_eq!(server.terminate(), Some(0));
    // Little is missing: it serves at once.
    add(folder.path(), MORE);
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    assert_eq!(view(&client, "w").await.state, "serving");
    check_whole(&client, few).await;
    assert_eq!(server.terminate(), Some(0));
    // Much is missing: only that is built.
    add(folder.path(), &MORE.replace("x > 2", "x > 3"));
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let many = few + 40_000;
    for first in (few..many).step_by(BATCH as usize) {
        client.push(ndjson("s", lines(first..first + BATCH), v1::Wait::Readable)).await.unwrap();
    }
    assert_eq!(server.terminate(), Some(0));
    add(folder.path(), MORE);
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    let w = view(&client, "w").await;
    assert!(w.state == "building" && w.built > 0.8, "{w:?}");
    wait_until_serving(&client, "w").await;
    check_whole(&client, many).await;
}
