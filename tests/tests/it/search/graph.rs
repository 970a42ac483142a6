//! The random test where a graph is walked: what is exact equals brute force, what is walked is bounded in what it misses, and
//! neither ever finds what was deleted or replaced.

use super::model::Metric;
use super::world::{Shape, World};

/// Operations with a graph, which is sealed from 8,192 writes on: `TIDEMILL_SEARCH_OPERATIONS=100000` is what a release is tried with.
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
    super::operate(&mut world, operations()).await;
    let walked = world.walked;
    let recall = walked.found as f64 / walked.wanted.max(1) as f64;
    println!("{} operations, {walked:?}: recall {recall:.4}", operations());
    assert!(walked.searches > 0, "no graph was walked");
    assert!(recall > 0.95, "{walked:?}");
}
