//! What is refused: each with its number, and none by a panic or an exit. And what becomes a dead letter.

use tidemill_client::{texts, v1};
use tidemill_tests::server::ndjson;
use tonic::Code;

use super::model::{Asked, Metric};
use super::world::{World, item_keys};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_searches() {
    let mut world = World::start(Metric::Cosine).await;
    let now = world.now().await;
    world.push("a", Some([1.0; 4]), "red", 1.0, now - 1_000_000).await;
    let base = || Asked::default().request();
    let vector = |values: Vec<f32>| v1::SearchRequest { vectors: vec![v1::Vector { values }], ..base() };
    let filter = |text: &str| v1::SearchRequest { r#where: text.into(), ..base() };
    let by_key = |items: &[&str]| v1::SearchRequest { vectors: Vec::new(), keys: item_keys(items), ..base() };
    let user = || [("user".to_string(), texts(["u"]))].into();
    let from =
        |feature: &str| v1::SearchRequest { vectors: Vec::new(), vector_from: feature.into(), keys: user(), ..base() };
    let many = vec![v1::Vector { values: vec![1.0; 4] }; 1_001];
    let cases: Vec<(v1::SearchRequest, Code, &str, &str)> = vec![
        (vector(vec![1.0; 3]), Code::InvalidArgument, "E4001", "3 components, and the collection takes 4"),
        (vector(vec![1.0; 1_000_000]), Code::InvalidArgument, "E4001", "1000000 components"),
        (vector(vec![]), Code::InvalidArgument, "E4001", "0 components"),
        (vector(vec![1.0, f32::NAN, 1.0, 1.0]), Code::InvalidArgument, "E4002", "component 1"),
        (vector(vec![1.0, 1.0, 1.0, f32::INFINITY]), Code::InvalidArgument, "E4002", "component 3"),
        (vector(vec![1e16, 1.0, 1.0, 1.0]), Code::InvalidArgument, "E4003", "component 0"),
        (vector(vec![0.0; 4]), Code::InvalidArgument, "E4004", "length zero"),
        (v1::SearchRequest { k: 0, ..base() }, Code::InvalidArgument, "E4007", "`k` is 0"),
        (v1::SearchRequest { k: 1 << 63, ..base() }, Code::InvalidArgument, "E4007", "`k` is 9223372036854775808"),
        (v1::SearchRequest { ef: Some(1 << 40), ..base() }, Code::InvalidArgument, "E4007", "`ef`"),
        (v1::SearchRequest { min_score: Some(f64::NAN), ..base() }, Code::InvalidArgument, "E4009", "not a number"),
        (v1::SearchRequest { embedding: "itms".into(), ..base() }, Code::NotFound, "E4020", "unknown embedding"),
        (v1::SearchRequest { vectors: Vec::new(), ..base() }, Code::InvalidArgument, "E4021", "nothing to look for"),
        (v1::SearchRequest { keys: item_keys(&["a"]), ..base() }, Code::InvalidArgument, "E4021", "either"),
        (filter("price > 'red'"), Code::InvalidArgument, "E4022", "line 1, column"),
        (filter("price"), Code::InvalidArgument, "E4022", "so bool, not float64"),
        (filter("colour = 'red'"), Code::InvalidArgument, "E4022", "no attribute `colour`"),
        (filter("pop.cliks_1h > 3"), Code::InvalidArgument, "E4022", "has no feature"),
        (filter("((("), Code::InvalidArgument, "E4022", "`where`"),
        (filter("taste.mean_30d IS NULL"), Code::InvalidArgument, "E4025", "need key `user`"),
        (by_key(&["nobody"]), Code::InvalidArgument, "E4023", "NOT_FOUND"),
        (from("taste:mean_30d"), Code::InvalidArgument, "E4023", "NOT_FOUND"),
        (from("taste:men_30d"), Code::NotFound, "E2002", "men_30d"),
        (
            v1::SearchRequest { keys: item_keys(&["a"]), ..from("pop:clicks_1h") },
            Code::InvalidArgument,
            "E4024",
            "int64",
        ),
        (v1::SearchRequest { with_features: "both".into(), ..base() }, Code::InvalidArgument, "E4025", "key `user`"),
        (v1::SearchRequest { with_features: "bth".into(), ..base() }, Code::NotFound, "E2001", "bth"),
        (
            v1::SearchRequest { features: vec!["asking:hurried".into()], ..base() },
            Code::InvalidArgument,
            "E4025",
            "need",
        ),
        (v1::SearchRequest { vectors: many, ..base() }, Code::InvalidArgument, "E4027", "1001 queries"),
        (v1::SearchRequest { as_of: Some(i64::MAX), ..base() }, Code::InvalidArgument, "E2015", "years"),
        (
            v1::SearchRequest { recall: 1 << 40, vectors: Vec::new(), ..base() },
            Code::InvalidArgument,
            "E4007",
            "recall",
        ),
    ];
    for (request, code, number, part) in cases {
        let error = world.client.search(request).await.expect_err(number);
        let told = (error.status, error.code.as_str());
        assert_eq!(told, (code, number), "{}", error.message);
        assert!(error.message.contains(part), "{number}: {}", error.message);
    }
    assert_eq!(super::found(&world.ask(base(), None).await).len(), 1, "and it still answers");
}

/// What has no score never gets into a record; good rows beside it do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_vectors_are_dead_letters() {
    let mut world = World::start(Metric::Cosine).await;
    let now = world.now().await;
    world.push("good", Some([1.0; 4]), "red", 1.0, now - 1_000_000).await;
    let mut lines = String::new();
    let bad = [
        "[1,1,1]",
        "[1,1,1,1,1]",
        "[]",
        "[0,0,0,0]",
        "[1,1,null,1]",
        "[1,1,1e16,1]",
        "\"1,1,1,1\"",
        "[1,1,\"Infinity\",1]",
    ];
    for vector in bad {
        lines.push_str(&format!("{{\"item\":\"good\",\"vec\":{vector},\"at\":{}}}\n", now - 500_000));
    }
    let answer = world.client.push(ndjson("items", lines, v1::Wait::Readable)).await.unwrap();
    assert_eq!((answer.accepted, answer.dead_lettered), (0, bad.len() as u64), "{:?}", answer.dead_letters);
    let reasons: Vec<&str> = answer.dead_letters.iter().map(|letter| letter.reason.as_str()).collect();
    for part in ["a vector of 3 numbers, and embedding `items` takes 4", "length zero", "component 2 of the vector"] {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "{part}: {reasons:?}");
    }
    let answer = world.ask(Asked::default().request(), None).await;
    assert_eq!(super::found(&answer), [("good".to_string(), 1.0)]);
}
