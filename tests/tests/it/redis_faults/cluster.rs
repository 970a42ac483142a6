//! A real Redis Cluster that loses what it has acknowledged, and that moves slots, while a writer goes on.

use std::time::Duration;

use tidemill_tests::services::RedisCluster;

use super::world::{World, project, random, scale};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers_that_lose_writes_and_moving_slots_leave_everything_exact() {
    let mut random = random("storm over a cluster");
    let cluster = RedisCluster::start();
    let settings = "cluster = true\ntimeout = \"500ms\"";
    let mut world = World::start(project(&cluster.addresses().join(","), settings), &mut random).await;
    for round in 0..2 * scale() {
        let part = random.below(3) as usize;
        let (before, moves) = (random.below(200), random.below(3) as usize);
        world
            .while_writing(async |world| {
                tokio::time::sleep(Duration::from_millis(50 + before)).await;
                // From here on the master acknowledges what nobody else will have.
                cluster.cut(part);
                tokio::time::sleep(Duration::from_millis(200)).await;
                cluster.failover(part);
                if round % 2 == 0 {
                    cluster.reshard(moves, (moves + 1) % 3, 200);
                } else {
                    world.kill().await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            })
            .await;
        world.settle().await;
    }
    // All that one master has is gone.
    world
        .while_writing(async |_| {
            cluster.master(1).cli(&["flushall"]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        })
        .await;
    world.settle().await;
    let events: i64 = world.writer().known.values().map(|known| known.all).sum();
    println!("{events} events over {} failovers", 2 * scale());
}
