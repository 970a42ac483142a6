//! A shared store in Redis against the oracle: whole servers on random logs, and a store that forgets.

use std::sync::Arc;
use std::time::Duration;

use proptest::test_runner::TestCaseError;
use tidemill::clock::Clock;
use tidemill::components::{Options, Server};
use tidemill::ingest::IngestThreads;
use tidemill::settings::RedisSettings;
use tidemill_tests::bridge::registry;
use tidemill_tests::oracle::generate::{Case, service_case};
use tidemill_tests::services::{Redis, RedisCluster, RedisKind, RedisOptions};

use crate::across::{equals_oracle, write_log};
use crate::parity::{cases, run};

/// A store under a prefix that nobody else has.
pub fn settings(addresses: Vec<String>) -> RedisSettings {
    let cluster = addresses.len() > 1;
    let prefix = format!("t{:016x}", rand::random::<u64>());
    let timeout = Duration::from_secs(5);
    RedisSettings { addresses, cluster, prefix, username: None, password: None, tls: false, ca_file: None, timeout }
}

/// Opens a server on the log in a folder, and waits until the store has everything.
pub fn opened(case: &Case, folder: &std::path::Path, redis: &RedisSettings) -> (Arc<Server>, IngestThreads) {
    let options = Options { redis: Some(redis.clone()), ..Options::default() };
    let registry = registry(&case.sources, &case.views);
    let opened = Server::open_at(registry, folder, Clock::default(), options);
    let (server, threads) = opened.unwrap_or_else(|e| panic!("{e}"));
    while !server.ingest.ready.load(std::sync::atomic::Ordering::Acquire) {
        let halted = server.ingest.pending.iter().find_map(|pending| pending.halted.lock().clone());
        assert_eq!(halted, None);
        std::thread::sleep(Duration::from_micros(200));
    }
    (server, threads)
}

/// A case is read from a store that was filled at once, and again by a process that finds some of it there.
fn check(case: &Case, size: usize, redis: &RedisSettings) -> Result<(), TestCaseError> {
    let redis = RedisSettings { prefix: format!("t{:016x}", rand::random::<u64>()), ..redis.clone() };
    let folder = tempfile::tempdir().unwrap();
    write_log(case, &registry(&case.sources, &case.views), &folder.path().join("log"), size);
    for _ in 0..2 {
        let (server, threads) = opened(case, folder.path(), &redis);
        equals_oracle(case, &server)?;
        drop(server);
        threads.join();
    }
    Ok(())
}

fn run_on(what: &str, redis: &RedisSettings, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let strategy = (service_case(), proptest::sample::select(vec![1usize, 7, 1000]));
    run(what, strategy, cases, |(case, size)| check(case, *size, redis));
}

#[test]
fn a_server_on_redis_equals_the_oracle() {
    for kind in [RedisKind::Debian, RedisKind::Valkey] {
        let redis = Redis::start(kind, &RedisOptions::default());
        run_on("redis = oracle", &settings(vec![redis.address()]), cases() / 100);
    }
}

#[test]
fn a_server_on_a_cluster_equals_the_oracle() {
    let cluster = RedisCluster::start();
    run_on("redis cluster = oracle", &settings(cluster.addresses()), cases() / 200);
}
