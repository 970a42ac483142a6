//! Sinks over a store in Redis: the same messages, and no last value is lost with what the store forgets.

use rand::Rng;
use tidemill_tests::server::Server;
use tidemill_tests::services::{Kafka, Redis, RedisKind, RedisOptions};

use super::world::{Published, random, scale};
use crate::kafka::world::project;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_forgets_is_sent_again() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let each = 60;
    let faults = 3 * scale();
    let mut published =
        Published::new(kafka, (faults + 4) * each, &["cards", "shop_table"], false, random("sinks over Redis"));
    let folder = project(&kafka.address(), &published.definitions());
    let settings = std::fs::read_to_string(folder.path().join("tidemill.toml")).unwrap();
    let store = format!("store = \"redis\"\n[redis]\naddress = \"{}\"\n{settings}", redis.address());
    std::fs::write(folder.path().join("tidemill.toml"), store).unwrap();
    published.table_rows(kafka, 60);
    let mut server = Server::start(folder.path()).await;
    for _ in 0..3 {
        published.events(kafka, each);
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    published.quiet(&server.client().await).await;
    let compared = published.check_all(kafka);
    let (entities, _) = published.check_last(kafka);
    println!("{compared} values of messages, {entities} entities");
    assert!(compared > 1_000);

    for fault in 0..faults {
        let mark = redis.mark();
        published.events(kafka, each);
        tokio::time::sleep(std::time::Duration::from_millis(published.random.random_range(0..400))).await;
        match fault % 3 {
            0 => drop(redis.cli(&["flushall"])),
            // It loses what it has acknowledged since.
            1 => redis.rewind(&mark),
            _ => {
                server.kill();
                redis.cli(&["flushall"]);
                server = Server::start(folder.path()).await;
            }
        }
        published.events(kafka, each / 4);
        published.quiet(&server.client().await).await;
        // What was read of a store that has just lost something may have been sent; it is sent again when that is found.
        settled(&published, kafka).await;
    }
}

/// Waits until the last messages are right: the loss is found within a second or two.
async fn settled(published: &Published, kafka: &Kafka) {
    for _ in 0..100 {
        if published.try_last(kafka).is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    published.check_last(kafka);
}
