//! Nearest neighbours through a real server, beside brute force over the pushed rows: random writes and searches, restarts and
//! kills, past moments, bad input. `graph` is the same where a graph is walked, `kept` are graphs in files, `beside` is searches
//! beside writes, `shared` are collections in Redis.

mod bad;
mod beside;
mod cut;
mod graph;
mod kept;
mod model;
mod of_views;
mod shared;
mod world;

use tidemill_client::{texts, v1};
use tidemill_tests::server::ndjson;

use self::model::{Asked, Metric, Random};
use self::world::{World, found, item_keys};

/// Operations of the random test; more with an environment variable.
fn operations() -> usize {
    std::env::var("TIDEMILL_SEARCH_OPERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(250)
}

async fn random_operations(metric: Metric) {
    let mut world = World::start(metric).await;
    operate(&mut world, operations()).await;
}

/// Random operations, each answer compared with brute force.
async fn operate(world: &mut World, operations: usize) {
    let mut random = Random::seeded();
    for operation in 0..operations {
        match random.below(100) {
            0..45 => world.write(&mut random).await,
            45..55 => world.click(&mut random).await,
            55..90 => world.search_now(&mut random).await,
            90..97 => world.search_past(&mut random).await,
            // At most a few: a start takes its time.
            _ if operation % 3 == 0 => world.restart(random.below(2) == 0).await,
            _ => world.search_now(&mut random).await,
        }
    }
    world.restart(true).await;
    for _ in 0..10 {
        world.search_now(&mut random).await;
    }
    world.ledger_holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_by_distance() {
    random_operations(Metric::L2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_by_dot_product() {
    random_operations(Metric::Dot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_by_angle() {
    random_operations(Metric::Cosine).await;
}

/// A row that is dated ahead of the clock is found from its time on, without another event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_the_future_stands_from_its_time_on() {
    let mut world = World::start(Metric::L2).await;
    let now = world.now().await;
    world.push("a", Some([1.0; 4]), "red", 1.0, now - 1_000_000).await;
    world.push("a", Some([5.0; 4]), "blue", 2.0, now + 60_000_000).await;
    world.push("b", Some([3.0; 4]), "red", 1.0, now + 1_500_000).await;
    let asked = Asked { vector: [5.0; 4], k: 2, ..Asked::default() };
    let answer = world.ask(asked.request(), None).await;
    assert_eq!(found(&answer)[0].0, "a");
    assert_eq!(found(&answer)[0].1, -8.0, "the first vector of `a` still stands");
    let later = world.ask(asked.request(), Some(now + 61_000_000)).await;
    assert_eq!(found(&later), [("a".to_string(), 0.0), ("b".to_string(), -4.0)]);
    let earlier = world.ask(asked.request(), Some(now - 1_000_000)).await;
    assert!(found(&earlier).is_empty(), "right open: at its own time a row is not seen");
    let mut seen = found(&answer).len();
    while seen < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let answer = world.ask(asked.request(), None).await;
        seen = found(&answer).len();
        assert_eq!(
            seen == 2,
            answer.read_time > now + 1_500_000,
            "found as soon as T is behind its time, and no sooner"
        );
    }
    // The same out of the disk.
    world.restart(true).await;
    let answer = world.ask(asked.request(), None).await;
    assert_eq!(found(&answer), [("b".to_string(), -4.0), ("a".to_string(), -8.0)]);
}

/// By key, by a feature of another entity, several at once, with features of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looked_for_by_key_and_by_feature() {
    let mut world = World::start(Metric::L2).await;
    let now = world.now().await;
    for (item, x) in [("a", 0.0), ("b", 1.0), ("c", 2.0), ("d", 9.0)] {
        world.push(item, Some([x; 4]), "red", f64::from(x), now - 1_000_000).await;
    }
    world.clicks("b", 3, now - 1_000_000).await;
    let by_key = v1::SearchRequest { k: 2, keys: item_keys(&["a", "d"]), ..Asked::default().request() };
    let by_key = v1::SearchRequest { vectors: Vec::new(), features: vec!["pop:*".into()], ..by_key };
    let answer = world.ask(by_key, None).await;
    assert_eq!(answer.counts, [2, 2]);
    let keys: Vec<String> = found(&answer).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["b", "c", "c", "b"], "nobody is a neighbour of its own");
    assert_eq!(world::ints(&answer.columns[0]), [3, 0, 0, 3]);
    let rows = |user: &str, x: i64| {
        format!("{{\"user\":\"{user}\",\"taste\":[{x},{x},{x},{x}],\"at\":{}}}\n", now - 1_000_000)
    };
    let lines = format!("{}{}{}", rows("u", 1), rows("u", 2), rows("v", 9));
    world.client.push(ndjson("tastes", lines, v1::Wait::Readable)).await.unwrap();
    let by_taste = v1::SearchRequest {
        vectors: Vec::new(),
        vector_from: "taste:mean_30d".into(),
        keys: [("user".to_string(), texts(["u", "v"]))].into(),
        k: 1,
        with_features: "both".into(),
        ..Asked::default().request()
    };
    let answer = world.ask(by_taste, None).await;
    assert_eq!(found(&answer), [("b".to_string(), -1.0), ("d".to_string(), 0.0)]);
    let columns: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["pop:clicks_1h", "taste:mean_30d"]);
    let filtered =
        v1::SearchRequest { r#where: "clicks_1h > 2 AND pop.clicks_1h < 4".into(), ..Asked::default().request() };
    assert_eq!(found(&world.ask(filtered, None).await), [("b".to_string(), 0.0)]);
}

/// The same question at the other door, and what `status` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_door_and_status() {
    let mut world = World::start(Metric::Dot).await;
    let now = world.now().await;
    world.push("a", Some([1.0; 4]), "red", 1.5, now - 1_000_000).await;
    world.push("b", Some([2.0; 4]), "blue", 2.5, now - 1_000_000).await;
    world.push("b", None, "blue", 2.5, now - 900_000).await;
    let body = r#"{"embedding":"items","vector":[1,1,1,1],"k":3,"where":"price > 1","features":["pop:clicks_1h"]}"#;
    let answer = world.http("/v1/search", body).await;
    let hits = &answer["queries"][0]["hits"];
    assert_eq!(hits.as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(hits[0]["keys"]["item"], "a");
    assert_eq!((&hits[0]["score"], &hits[0]["attributes"]["price"]), (&4.0.into(), &1.5.into()));
    assert_eq!(hits[0]["values"]["pop:clicks_1h"], 0);
    let refused = world.http("/v1/search", r#"{"embedding":"itms","vector":[1],"k":3}"#).await;
    assert_eq!(refused["error"]["code"], "E4020", "{refused}");
    let status = world.client.status().await.unwrap();
    let items = &status.embeddings["items"];
    assert_eq!((items.vectors, items.applied, items.filtered), (1, 2, 1));
    assert!(items.bytes_per_vector > 16 && items.disk_bytes == 0);
    assert_eq!((items.indexed, items.building), (true, 0));
    let address = world.server.as_ref().unwrap().address.clone();
    let mut shown = std::process::Command::new(tidemill_tests::server::binary());
    let shown = String::from_utf8(shown.args(["status", "--server", &address]).output().unwrap().stdout).unwrap();
    let row =
        shown.lines().find(|line| line.trim_start().starts_with("items ") && line.trim_end().ends_with("serving"));
    let row: Vec<&str> = row.unwrap_or_else(|| panic!("{shown}")).split_whitespace().collect();
    assert_eq!(row[..4], ["items", "1", "1", "2"], "vectors, dead, fresh: {shown}");
    let recall = v1::SearchRequest { vectors: Vec::new(), recall: 5, ..Asked::default().request() };
    let recall = world.ask(recall, None).await.recall.unwrap();
    assert_eq!((recall.queries, recall.neighbours, recall.found), (1, 0, 0), "nobody is a neighbour of its own");
}

/// Vectors as JSON text and as 32-bit floats in base64, which are the same vectors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_as_text_and_as_bytes() {
    let definitions = r#"
[source.pieces]
connector = "push"
event_time = "at"
fields = { piece = "string", text = "string", raw = "bytes", at = "timestamp[us]" }
[entity.piece]
key = "piece"
[embedding.of_text]
entity = "piece"
source = "pieces"
vector = "text"
dims = 3
metric = "l2"
[embedding.of_bytes]
entity = "piece"
source = "pieces"
vector = "raw"
dims = 3
metric = "l2"
"#;
    let folder = tidemill_tests::server::project(definitions);
    let server = tidemill_tests::server::Server::start(folder.path()).await;
    let client = server.client().await;
    // 1.5, -2, 0.25 and 0, 1, 2 as little-endian float32.
    let lines = concat!(
        r#"{"piece":"a","text":"[1.5, -2, 0.25]","raw":"AADAPwAAAMAAAIA+","at":1000}"#,
        "\n",
        r#"{"piece":"b","text":"[0,1,2]","raw":"AAAAAAAAgD8AAABA","at":1000}"#,
        "\n",
        r#"{"piece":"c","text":"[0,1]","raw":"AAAAAAAAgD8AAABA","at":1000}"#,
        "\n",
        r#"{"piece":"d","text":"[0,1,2]","raw":"AAAAAAAAgD8AAMB/","at":1000}"#,
        "\n",
    );
    let pushed = client.push(ndjson("pieces", lines.to_string(), v1::Wait::Readable)).await.unwrap();
    assert_eq!((pushed.accepted, pushed.dead_lettered), (2, 2), "{:?}", pushed.dead_letters);
    for embedding in ["of_text", "of_bytes"] {
        let base = || v1::SearchRequest { embedding: embedding.into(), k: 2, ..v1::SearchRequest::default() };
        let vectors = vec![v1::Vector { values: vec![1.5, -2.0, 0.25] }];
        let answer = world::ask(&client, v1::SearchRequest { vectors, ..base() }).await;
        let away = -(1.5_f32 * 1.5 + 9.0 + 1.75 * 1.75).sqrt();
        assert_eq!(found(&answer), [("a".to_string(), 0.0), ("b".to_string(), away)]);
        let keys = [("piece".to_string(), texts(["b"]))].into();
        let answer = world::ask(&client, v1::SearchRequest { keys, ..base() }).await;
        assert_eq!(found(&answer), [("a".to_string(), away)]);
        let past = v1::SearchRequest {
            as_of: Some(1_001),
            vectors: vec![v1::Vector { values: vec![0.0, 1.0, 2.0] }],
            ..base()
        };
        assert_eq!(found(&world::ask(&client, past).await)[0], ("b".to_string(), 0.0));
    }
}
