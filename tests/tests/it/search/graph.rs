//! The random test where a graph is walked: what is exact equals brute force, what is walked is bounded in what it misses, and
//! neither ever finds what was deleted or replaced.

use tidemill_client::v1;

use super::model::{Asked, Metric};
use super::world::{Shape, World};

/// Operations with a graph, which is sealed from some hundred writes on: `TIDEMILL_SEARCH_OPERATIONS=100000` is what a release is tried with.
fn operations() -> usize {
    std::env::var("TIDEMILL_SEARCH_OPERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_over_a_graph() {
    let index = "index = { m = 12, ef_construction = 100, ef_search = 24, exact_below = 100 }";
    let shape = Shape { metric: Metric::L2, items: 6_000, index, settings: String::new() };
    let mut world = World::start_as(shape).await;
    let mut random = super::Random::seeded();
    world.fill(&mut random, 24_000).await;
    world.walks(&mut random).await;
    let wanted = Asked { k: 10, ..Asked::default() };
    let wanted = v1::SearchRequest { vectors: Vec::new(), recall: 100, ef: Some(10), ..wanted.request() };
    let measured = world.ask(wanted, None).await.recall.unwrap();
    println!("{measured:?}");
    assert_eq!((measured.queries, measured.neighbours), (100, 1_000));
    assert!(
        (500..1_000).contains(&measured.found),
        "with so few candidates a walk misses some, not many: {measured:?}"
    );
    super::operate(&mut world, operations()).await;
    let walked = world.walked;
    let recall = walked.found as f64 / walked.wanted.max(1) as f64;
    println!("{} operations, {walked:?}: recall {recall:.4}", operations());
    assert!(walked.searches > 0, "no graph was walked");
    assert!(recall > 0.95, "{walked:?}");
}
