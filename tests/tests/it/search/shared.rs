//! Collections whose vectors lie in Redis: random operations as anywhere, two serving processes that follow, and a store that forgets.

use std::process::Stdio;
use std::time::Duration;

use tidemill_client::{Client, v1};
use tidemill_tests::server::Server;
use tidemill_tests::services::{Redis, RedisCluster, RedisKind, RedisOptions};

use super::model::{Asked, Metric, Random};
use super::world::{Shape, World, ask, found, indexed};

fn shape(metric: Metric, addresses: &[String]) -> Shape {
    let (address, cluster) = (addresses.join(","), addresses.len() > 1);
    let settings = format!("store = \"redis\"\n[redis]\naddress = \"{address}\"\ncluster = {cluster}\n");
    Shape { metric, items: 60, index: "", settings }
}

/// Another process on the same store.
async fn serving(world: &World) -> Server {
    let begun = Server::try_start_as(world.folder.path(), &["--role", "serve"], ("error", Stdio::null())).await;
    begun.unwrap_or_else(|said| panic!("--role serve: {said}"))
}

fn probe(vector: [f32; 4]) -> v1::SearchRequest {
    Asked { vector, k: 1, ..Asked::default() }.request()
}

/// Waits until a process finds an item by its vector, and says how long that took.
async fn finds(client: &Client, item: &str, vector: [f32; 4]) -> Duration {
    let begun = tokio::time::Instant::now();
    let waiting = async {
        while found(&ask(client, probe(vector)).await).first().is_none_or(|(found, _)| found != item) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("{item} is not found"));
    begun.elapsed()
}

/// Whoever pushes finds at once, out of an index that is filled at each start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_on_redis() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start_as(shape(Metric::L2, &[redis.address()])).await;
    super::operate(&mut world, super::operations() / 2).await;
    indexed(&world.client).await;
    let mut random = Random::seeded();
    for _ in 0..40 {
        world.write(&mut random).await;
        world.click(&mut random).await;
        let answer = world.search_at(&world.client.clone(), &mut random).await;
        assert_ne!(answer.plans[0].plan, "records");
    }
}

/// Two serving processes find what a third one pushes; and when the store forgets, they forget and find again with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_serving_processes_follow() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start_as(shape(Metric::L2, &[redis.address()])).await;
    let mut random = Random::seeded();
    for _ in 0..20 {
        world.write(&mut random).await;
    }
    let serving = [serving(&world).await, serving(&world).await];
    let clients = [serving[0].client().await, serving[1].client().await];
    for client in &clients {
        indexed(client).await;
    }
    let mut longest = Duration::ZERO;
    for round in 0..15_u8 {
        let vector = [20.0 + f32::from(round), -9.0, 7.0, 3.0];
        let now = world.now().await;
        world.push(&format!("new{round}"), Some(vector), "red", 1.0, now - 1_000).await;
        for client in &clients {
            longest = longest.max(finds(client, &format!("new{round}"), vector).await);
        }
    }
    println!("found by both serving processes within {longest:?}");
    everybody_agrees(&mut world, &clients, &mut random).await;
    let mark = redis.mark();
    for _ in 0..10 {
        world.write(&mut random).await;
    }
    everybody_agrees(&mut world, &clients, &mut random).await;
    redis.rewind(&mark);
    everybody_agrees(&mut world, &clients, &mut random).await;
    redis.cli(&["flushall"]);
    everybody_agrees(&mut world, &clients, &mut random).await;
}

/// The same on a cluster that loses what it has acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serving_processes_follow_a_cluster_that_fails_over() {
    let cluster = RedisCluster::start();
    let mut world = World::start_as(shape(Metric::Dot, &cluster.addresses())).await;
    let mut random = Random::seeded();
    let serving = serving(&world).await;
    let clients = [serving.client().await];
    for _ in 0..15 {
        world.write(&mut random).await;
    }
    everybody_agrees(&mut world, &clients, &mut random).await;
    cluster.cut(0);
    for _ in 0..15 {
        world.write(&mut random).await;
    }
    cluster.failover(0);
    everybody_agrees(&mut world, &clients, &mut random).await;
}

/// Waits until all processes have everything, then compares each with brute force, out of its index.
async fn everybody_agrees(world: &mut World, clients: &[Client], random: &mut Random) {
    // The writer goes on only when the store has everything before what was pushed last. Whoever follows takes in one shard after
    // the other, and names the new position when it has all of them.
    let now = world.now().await;
    let vector = [random.below(1_000_000) as f32, 50.0, 50.0, 50.0];
    let item = format!("last{}", random.below(u64::MAX));
    world.push(&item, Some(vector), "red", 1.0, now - 1_000).await;
    let own = world.client.clone();
    let sources = own.status().await.unwrap().sources;
    let has_all = |of: &v1::Position| sources[&of.source].positions.get(&of.partition) <= Some(&of.next_offset);
    for client in std::iter::once(&own).chain(clients) {
        // By their dot product, longer vectors are nearer than its own.
        let asked = Asked { vector, k: 15, ..Asked::default() };
        let mut lacks = String::new();
        let agrees = async {
            loop {
                let answer = ask(client, asked.request()).await;
                let status = client.status().await.unwrap();
                let is_there = found(&answer).iter().any(|(found, _)| *found == item);
                let standing = world.model.rows.keys().filter(|item| world.model.standing(item, i64::MAX).is_some());
                let (vectors, plan) = (status.embeddings["items"].vectors, &answer.plans[0].plan);
                if is_there
                    && vectors == standing.clone().count() as u64
                    && plan != "records"
                    && answer.positions.iter().all(has_all)
                {
                    return;
                }
                lacks = format!("{is_there}, {vectors} of {}, {plan}, {:?}", standing.count(), status.sources);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let agreed = tokio::time::timeout(Duration::from_secs(120), agrees).await;
        assert!(agreed.is_ok(), "the process does not have everything: {lacks}");
        for _ in 0..20 {
            world.search_at(client, random).await;
        }
    }
}
