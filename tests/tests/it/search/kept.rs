//! A graph outlives the process that built it; and a file of one is never believed.

use std::path::PathBuf;
use std::time::Duration;

use super::model::{Metric, Random};
use super::world::{Shape, World};

/// Flips and cuts, each with a start of its own; `TIDEMILL_SEARCH_FLIPS=2000` is what a release is tried with.
fn flips() -> u64 {
    std::env::var("TIDEMILL_SEARCH_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

async fn searches(world: &mut World, random: &mut Random) {
    for _ in 0..15 {
        world.search_now(random).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_kept_and_damaged_ones_are_not_believed() {
    let index = "index = { m = 12, ef_construction = 100, ef_search = 24, exact_below = 100, rows = \"disk\" }";
    let shape = Shape { metric: Metric::L2, items: 6_000, index, settings: String::new() };
    let mut world = World::start_as(shape).await;
    let mut random = Random::seeded();
    world.fill(&mut random, 24_000).await;
    world.walks(&mut random).await;
    let path: PathBuf = world.folder.path().join("data/neighbours/items.index");
    let written = async {
        while !path.is_file() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("the graph is kept");
    let on_disk = world.client.status().await.unwrap().embeddings["items"].disk_bytes;
    assert!(on_disk > 0, "vectors lie on the disk: {on_disk} bytes");
    let file = std::fs::read(&path).unwrap();
    // The file is older than what comes now: replaced and deleted vectors are in it, and new ones are not.
    for _ in 0..20 {
        world.write(&mut random).await;
    }
    let walked = world.walked.searches;
    world.restart(true).await;
    // There are too few vectors for a graph to be built at the start.
    world.walks_from(walked, &mut random).await;
    searches(&mut world, &mut random).await;
    for number in 0..flips() {
        world.write(&mut random).await;
        world.stop();
        let mut damaged = file.clone();
        let at = random.below(if number % 2 == 0 { 300 } else { file.len() as u64 }) as usize;
        match random.below(4) {
            0 => damaged.truncate(at),
            _ => damaged[at] ^= 1 << random.below(8),
        }
        std::fs::write(&path, damaged).unwrap();
        world.begin().await;
        let walked = world.walked.searches;
        searches(&mut world, &mut random).await;
        assert_eq!(world.walked.searches, walked, "a damaged graph is walked: byte {at}");
    }
    world.ledger_holds().await;
}
