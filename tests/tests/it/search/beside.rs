//! Searches and writes at once: nobody waits for the other.

use tidemill_client::v1;
use tidemill_tests::server::ndjson;

use super::model::{Metric, Random};
use super::world::{World, ask};

/// A long search of everything, and pushes that are readable before it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_search_does_not_stop_the_applier() {
    let mut world = World::start(Metric::L2).await;
    let mut random = Random::seeded();
    let now = world.now().await;
    let mut lines = String::new();
    for item in 0..20_000 {
        let vector = random.vector();
        lines.push_str(&format!("{{\"item\":\"n{item}\",\"vec\":{vector:?},\"at\":{}}}\n", now - 1_000_000));
    }
    world.client.push(ndjson("items", lines, v1::Wait::Readable)).await.unwrap();
    // A thousand queries, each of which asks a live feature of many items.
    let vectors = (0..1_000).map(|_| v1::Vector { values: random.vector().to_vec() }).collect();
    let request = v1::SearchRequest {
        embedding: "items".into(),
        vectors,
        k: 10,
        r#where: "clicks_1h > 0 OR price IS NULL".into(),
        exact: true,
        features: vec!["pop:*".into()],
        ..v1::SearchRequest::default()
    };
    let client = world.client.clone();
    let searching = tokio::spawn(async move { ask(&client, request).await });
    let mut readable = 0;
    while !searching.is_finished() {
        world.push(&format!("late{readable}"), Some([1.0; 4]), "red", 1.0, now - 500_000).await;
        readable += usize::from(!searching.is_finished());
    }
    let answer = searching.await.unwrap();
    assert_eq!(answer.counts, vec![10; 1_000]);
    // With the gate closed to writers, one push would be readable: the one that came before the search.
    assert!(readable > 3, "{readable} pushes were readable before the search had ended");
}
