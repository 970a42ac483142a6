//! Embeddings whose vectors are features: neighbours by what windows hold at T, with events that come late, come early, leave their
//! windows and never come; beside brute force over the pushed events. On both stores, over kills, as of now and as of the past.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tidemill_client::{Client, v1};
use tidemill_tests::server::{Server, ndjson, project};
use tidemill_tests::services::{Redis, RedisKind, RedisOptions};

use super::model::{DIMS, Random};
use super::world::{ask, found};

const MS: i64 = 1_000;
const USERS: u64 = 12;
const ITEMS: u64 = 5;

const SOURCES: &str = r#"
[source.tastes]
connector = "push"
event_time = "at"
fields = { user = "string", taste = "vector<4>", good = "bool", at = "timestamp[us]" }

[source.items]
kind = "table"
connector = "push"
event_time = "at"
fields = { item = "string", vec = "vector<4>", at = "timestamp[us]" }

[source.clicks]
connector = "push"
event_time = "at"
fields = { user = "string", item = "string", at = "timestamp[us]" }

[entity.user]
key = "user"

[view.taste]
entity = "user"
source = "tastes"
[view.taste.features]
sum = { agg = "vector_sum(taste)", windows = ["900ms", "4s"] }
good = { agg = "vector_sum(taste)", windows = ["1s"], where = "good" }
hop = { agg = "vector_sum(taste)", windows = ["700ms"], hop = "300ms" }
ago = { agg = "vector_sum(taste)", windows = ["1s"], offset = "600ms" }
whole = { agg = "vector_sum(taste)", window = "tumbling(500ms)" }
visit = { agg = "vector_sum(taste)", window = "session(250ms)" }
two = { agg = "vector_sum(taste)", last_n = 2 }
all = { agg = "vector_sum(taste)", window = "lifetime" }

[view.touched]
entity = "user"
source = "clicks"
[view.touched.join.items]
source = "items"
on = "item"
[view.touched.features]
sum = { agg = "vector_sum(items.vec)", windows = ["2s"] }
"#;

/// Embeddings of this test: view and feature.
const EMBEDDINGS: [(&str, &str); 10] = [
    ("taste", "sum_900ms"),
    ("taste", "sum_4s"),
    ("taste", "good_1s"),
    ("taste", "hop_700ms"),
    ("taste", "ago_1s"),
    ("taste", "whole"),
    ("taste", "visit"),
    ("taste", "two"),
    ("taste", "all"),
    ("touched", "sum_2s"),
];

fn embeddings() -> String {
    let one = |(view, feature): &(&str, &str)| {
        format!(
            "[embedding.{view}_{feature}]\nentity = \"user\"\nview = \"{view}\"\nvector = \"{feature}\"\ndims = 4\nmetric = \"l2\"\n"
        )
    };
    EMBEDDINGS.iter().map(one).collect()
}

type Vector = [f32; DIMS];

/// Everything that was pushed.
#[derive(Default)]
struct Told {
    /// by user, in no order of time
    tastes: BTreeMap<String, Vec<(i64, Vector, bool)>>,
    clicks: BTreeMap<String, Vec<(i64, String)>>,
    /// by item
    rows: BTreeMap<String, Vec<(i64, Vector)>>,
}

fn sum<'v>(vectors: impl Iterator<Item = &'v Vector>) -> Option<Vector> {
    vectors.copied().reduce(|a, b| std::array::from_fn(|at| a[at] + b[at]))
}

impl Told {
    /// The vector of a user in an embedding at a time. Small whole numbers: sums of floats are exact.
    fn vector(&self, feature: &str, user: &str, time: i64) -> Option<Vector> {
        let none = Vec::new();
        if feature == "sum_2s" {
            let clicks = self.clicks.get(user).unwrap_or(&Vec::new()).clone();
            let held = clicks.iter().filter(|(at, _)| (time - 2_000 * MS..time).contains(at));
            let vectors: Vec<Vector> = held.filter_map(|(at, item)| self.row(item, *at)).collect();
            return sum(vectors.iter());
        }
        let mut events = self.tastes.get(user).unwrap_or(&none).clone();
        events.sort_by_key(|(at, ..)| *at);
        let within = |from: i64, to: i64| sum(events.iter().filter(|e| (from..to).contains(&e.0)).map(|e| &e.1));
        let floored = |time: i64, unit: i64| time.div_euclid(unit) * unit;
        match feature {
            "sum_900ms" => within(time - 900 * MS, time),
            "sum_4s" => within(time - 4_000 * MS, time),
            "good_1s" => {
                let held = events.iter().filter(|e| e.2 && (time - 1_000 * MS..time).contains(&e.0));
                sum(held.map(|e| &e.1))
            }
            "hop_700ms" => within(floored(time - 700 * MS, 300 * MS), time),
            "ago_1s" => within(time - 1_600 * MS, time - 600 * MS),
            "whole" => within(floored(time, 500 * MS) - 500 * MS, floored(time, 500 * MS)),
            "visit" => {
                let mut edge = time;
                let before = events.iter().rev().filter(|e| e.0 < time);
                let run: Vec<&Vector> = before
                    .take_while(|e| {
                        let joins = edge - e.0 < 250 * MS;
                        edge = e.0;
                        joins
                    })
                    .map(|e| &e.1)
                    .collect();
                sum(run.into_iter())
            }
            "two" => sum(events.iter().rev().filter(|e| e.0 < time).take(2).map(|e| &e.1)),
            "all" => within(i64::MIN, time),
            other => panic!("{other}"),
        }
    }

    /// The row of an item as of an event.
    fn row(&self, item: &str, time: i64) -> Option<Vector> {
        let before = self.rows.get(item)?.iter().filter(|(at, _)| *at <= time);
        before.max_by_key(|(at, _)| *at).map(|(_, vector)| *vector)
    }

    fn neighbours(&self, feature: &str, query: Vector, k: usize, time: i64) -> Vec<(String, f32)> {
        let users = (0..USERS).map(|user| format!("u{user}"));
        let score = |a: Vector| {
            let apart = a.iter().zip(query).map(|(x, y)| f64::from(*x) - f64::from(y));
            -apart.map(|x| x * x).sum::<f64>().sqrt() as f32
        };
        let mut all: Vec<(String, f32)> =
            users.filter_map(|user| Some((user.clone(), score(self.vector(feature, &user, time)?)))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(k);
        all
    }
}

struct Views {
    folder: tempfile::TempDir,
    server: Option<Server>,
    client: Client,
    told: Told,
}

impl Views {
    async fn start(definitions: &str, settings: &str) -> Views {
        let folder = project(definitions);
        if !settings.is_empty() {
            std::fs::write(folder.path().join("tidemill.toml"), settings).unwrap();
        }
        let server = Server::start(folder.path()).await;
        let client = server.client().await;
        Views { folder, server: Some(server), client, told: Told::default() }
    }

    async fn again(&mut self) {
        self.server.take().unwrap().kill();
        let server = Server::start(self.folder.path()).await;
        self.client = server.client().await;
        self.server = Some(server);
    }

    async fn now(&self) -> i64 {
        let probe = search("taste_all", [0.0; DIMS], 1);
        ask(&self.client, probe).await.read_time
    }

    async fn send(&self, source: &str, lines: Vec<String>) {
        let count = lines.len() as u64;
        let answer = self.client.push(ndjson(source, lines.concat(), v1::Wait::Readable)).await.unwrap();
        assert_eq!((answer.accepted, answer.dead_lettered), (count, 0), "{:?}", answer.dead_letters);
    }

    /// Events of the last seconds and of the next one.
    async fn push(&mut self, random: &mut Random) {
        let now = self.now().await;
        let mut lines = Vec::new();
        for _ in 0..4 {
            let (user, vector) = (format!("u{}", random.below(USERS)), random.vector());
            let (at, good) = (time(now, random), random.below(2) == 0);
            // Of two events with one time the log would say which is the newer one.
            if self.told.tastes.entry(user.clone()).or_default().iter().any(|e| e.0 == at) {
                continue;
            }
            lines.push(format!("{{\"user\":\"{user}\",\"taste\":{vector:?},\"good\":{good},\"at\":{at}}}\n"));
            self.told.tastes.entry(user).or_default().push((at, vector, good));
        }
        self.send("tastes", lines).await;
        let mut lines = Vec::new();
        for _ in 0..4 {
            let at = time(now, random);
            let (user, item) = (format!("u{}", random.below(USERS)), format!("i{}", random.below(ITEMS)));
            lines.push(format!("{{\"user\":\"{user}\",\"item\":\"{item}\",\"at\":{at}}}\n"));
            self.told.clicks.entry(user).or_default().push((at, item));
        }
        self.send("clicks", lines).await;
        // A row that comes late changes what events before it saw.
        let (item, vector) = (format!("i{}", random.below(ITEMS)), random.vector());
        let at = time(now, random);
        if !self.told.rows.entry(item.clone()).or_default().iter().any(|row| row.0 == at) {
            self.told.rows.entry(item.clone()).or_default().push((at, vector));
            self.send("items", vec![format!("{{\"item\":\"{item}\",\"vec\":{vector:?},\"at\":{at}}}\n")]).await;
        }
    }

    /// A search, compared with brute force at its T.
    async fn check(&self, client: &Client, random: &mut Random, as_of: Option<i64>) -> String {
        let (view, feature) = EMBEDDINGS[random.below(EMBEDDINGS.len() as u64) as usize];
        let (query, k) = (random.vector(), 1 + random.below(5) as usize);
        let request = v1::SearchRequest { as_of, ..search(&format!("{view}_{feature}"), query, k as u64) };
        let answer = ask(client, request).await;
        let expected = self.told.neighbours(feature, query, k, answer.read_time);
        assert_eq!(found(&answer), expected, "{view}:{feature} at {}, {:?}", answer.read_time, answer.plans);
        let plan = answer.plans[0].plan.clone();
        let is_indexed = view != "touched" && feature != "visit";
        if !is_indexed || as_of.is_some() {
            assert_eq!(plan, "records");
        }
        if is_indexed { plan } else { "no index".to_string() }
    }
}

/// Within the last seconds, or a little ahead.
fn time(now: i64, random: &mut Random) -> i64 {
    now - 2_500 * MS + random.below(3_300_000) as i64
}

fn search(embedding: &str, query: Vector, k: u64) -> v1::SearchRequest {
    let vectors = vec![v1::Vector { values: query.to_vec() }];
    v1::SearchRequest { embedding: embedding.into(), vectors, k, ..v1::SearchRequest::default() }
}

async fn operate(views: &mut Views, rounds: usize, random: &mut Random) {
    for round in 0..rounds {
        views.push(random).await;
        for _ in 0..8 {
            let plan = views.check(&views.client, random, None).await;
            assert!(plan == "scan" || plan == "no index", "the index answers, not {plan}");
            // Events leave their windows, and come into them, while nothing is pushed.
            tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        }
        let past = views.now().await - random.below(3_000_000) as i64;
        views.check(&views.client, random, Some(past)).await;
        if round % 12 == 11 {
            views.again().await;
        }
    }
    // Until all windows but those without an edge are empty.
    for _ in 0..60 {
        views.check(&views.client, random, None).await;
        tokio::time::sleep(Duration::from_millis(90)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_by_features_as_windows_move() {
    let mut random = Random::seeded();
    let mut views = Views::start(&format!("{SOURCES}{}", embeddings()), "").await;
    operate(&mut views, 24, &mut random).await;
    let status = views.client.status().await.unwrap();
    let told = views.told.tastes.len() as u64;
    assert_eq!((status.embeddings["taste_all"].vectors, status.embeddings["taste_sum_4s"].vectors), (told, 0));
    let own = v1::SearchRequest {
        vectors: Vec::new(),
        keys: [("user".to_string(), tidemill_client::texts(["nobody"]))].into(),
        ..search("taste_all", [0.0; DIMS], 1)
    };
    let refused = views.client.search(own).await.unwrap_err();
    assert_eq!(refused.code, "E4023", "{refused:?}");
}

const DATED: &str = r#"
[source.seen]
connector = "push"
event_time = "at"
arrival_time = "known"
fields = { user = "string", taste = "vector<4>", at = "timestamp[us]", known = "timestamp[us]" }
[entity.user]
key = "user"
[view.taste]
entity = "user"
source = "seen"
features = { sum = { agg = "vector_sum(taste)", windows = ["1h"] }, n = { agg = "count()", windows = ["1h"] } }
[embedding.tastes]
entity = "user"
view = "taste"
vector = "sum_1h"
dims = 4
metric = "l2"
"#;

/// An event that is dated 2099, and came then, as its source says, takes the past out of its entity's record. The log has it, and
/// nobody else is touched: the index goes on. Of many such entities each search reads all records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_date_spoils_no_search() {
    let mut views = Views::start(DATED, "").await;
    let probe = |k: u64| search("tastes", [0.0; DIMS], k);
    let now = ask(&views.client, probe(1)).await.read_time;
    let line = |user: &str, x: f32, at: i64| {
        format!("{{\"user\":\"{user}\",\"taste\":[{x:?},0,0,0],\"at\":{at},\"known\":{at}}}\n")
    };
    let (then, before) = (4_080_000_000_000_000, now - 10_000_000);
    let lines = [("a", 1.0, before), ("b", 2.0, before), ("c", 3.0, before), ("c", 9.0, then), ("d", 4.0, before)];
    views.send("seen", lines.map(|(user, x, at)| line(user, x, at)).to_vec()).await;
    let pairs = |expected: &[(&str, f32)]| -> Vec<(String, f32)> {
        expected.iter().map(|(user, score)| (user.to_string(), *score)).collect()
    };
    for round in 0..2 {
        let answer = ask(&views.client, probe(9)).await;
        assert_eq!(found(&answer), pairs(&[("a", -1.0), ("b", -2.0), ("c", -3.0), ("d", -4.0)]), "round {round}");
        assert_eq!(answer.plans[0].plan, "scan", "the index answers");
        let of = |change: &dyn Fn(&mut v1::SearchRequest)| {
            let mut request = probe(2);
            change(&mut request);
            request
        };
        let cases = [
            (of(&|_| {}), pairs(&[("a", -1.0), ("b", -2.0)])),
            (of(&|r| r.r#where = "n_1h = 1 AND n_1h < 5".into()), pairs(&[("a", -1.0), ("b", -2.0)])),
            (of(&|r| r.r#where = "n_1h > 1".into()), pairs(&[])),
            (of(&|r| r.vectors[0].values = vec![3.0, 0.0, 0.0, 0.0]), pairs(&[("c", 0.0), ("b", -1.0)])),
            (of(&|r| (r.k, r.min_score) = (9, Some(-3.0))), pairs(&[("a", -1.0), ("b", -2.0), ("c", -3.0)])),
        ];
        for (request, expected) in cases {
            assert_eq!(found(&ask(&views.client, request).await), expected);
        }
        views.again().await;
    }
    let many = (0..70).map(|user| format!("m{user}"));
    let many = many.flat_map(|user| [line(&user, 5.0, before), line(&user, 50.0, then)]);
    views.send("seen", many.collect()).await;
    let answer = ask(&views.client, probe(5)).await;
    assert_eq!(found(&answer), pairs(&[("a", -1.0), ("b", -2.0), ("c", -3.0), ("d", -4.0), ("m0", -5.0)]));
    assert_eq!(answer.plans[0].plan, "records");
}

/// The same in Redis, with a serving process that follows. A process without the embeddings is none of theirs: it would not say which
/// records have changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_by_features_out_of_redis() {
    let mut random = Random::seeded();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let settings = format!("store = \"redis\"\n[redis]\naddress = \"{}\"\n", redis.address());
    let mut views = Views::start(&format!("{SOURCES}{}", embeddings()), &settings).await;
    filled(&views.client).await;
    operate_shared(&mut views, &mut random).await;
    let definitions = views.folder.path().join("features/test.toml");
    std::fs::write(&definitions, SOURCES).unwrap();
    let begun = Server::try_start_as(views.folder.path(), &["--role", "serve"], ("error", Stdio::piped())).await;
    let said = begun.err().expect("it is refused");
    assert!(said.contains("E5051") && said.contains("different: taste)"), "{said}");
}

async fn operate_shared(views: &mut Views, random: &mut Random) {
    let begun = Server::try_start_as(views.folder.path(), &["--role", "serve"], ("error", Stdio::null())).await;
    let serving = begun.unwrap_or_else(|said| panic!("--role serve: {said}"));
    let follower = serving.client().await;
    for _ in 0..6 {
        views.push(random).await;
        for _ in 0..6 {
            views.check(&views.client, random, None).await;
            tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        }
    }
    // What was pushed is followed within a second; then time alone moves the windows.
    filled(&follower).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut plans = BTreeMap::new();
    for _ in 0..60 {
        *plans.entry(views.check(&follower, random, None).await).or_insert(0) += 1;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(plans.get("scan").is_some_and(|count| *count > 30), "the follower searches its index: {plans:?}");
}

/// Waits until a process answers from its index.
async fn filled(client: &Client) {
    let waiting = async {
        while ask(client, search("taste_all", [0.0; DIMS], 1)).await.plans[0].plan == "records" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the index is filled");
}
