//! Random cases against the oracle, on a store that forgets in between: everything, some shards, their progress alone; or that
//! holds older copies of some shards. The sweep finds it, and values and ledgers are the oracle's again.

use std::time::Duration;

use proptest::test_runner::TestCaseError;
use tidemill::components::Server;
use tidemill::settings::RedisSettings;
use tidemill_tests::bridge::registry;
use tidemill_tests::oracle::generate::{Case, service_case};
use tidemill_tests::services::{Redis, RedisKind, RedisOptions};

use super::writer::Random;
use crate::across::{equals_oracle, together, write_log};
use crate::parity::{cases, run};
use crate::shared_store::{opened, settings};

/// What the store forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgets {
    Everything,
    Shards,
    ProgressOfShards,
    WhatCameLater,
}

/// Deletes what fits patterns. ARGV: patterns.
const DELETE: &str = "for _, pattern in ipairs(ARGV) do for _, key in ipairs(redis.call('KEYS', pattern)) do redis.call('DEL', key) end end";
/// Copies what fits patterns to names with `older:` before them. ARGV: patterns.
const REMEMBER: &str = "for _, pattern in ipairs(ARGV) do for _, key in ipairs(redis.call('KEYS', pattern)) do redis.call('COPY', key, 'older:' .. key) end end";
/// Puts such copies in the place of what fits patterns now, in one step: a store that goes back does not go there key by key.
const GO_BACK: &str = "for _, pattern in ipairs(ARGV) do
  for _, key in ipairs(redis.call('KEYS', pattern)) do redis.call('DEL', key) end
  for _, key in ipairs(redis.call('KEYS', 'older:' .. pattern)) do redis.call('COPY', key, string.sub(key, 7)) end
end";

struct Forgetful<'r> {
    redis: &'r Redis,
    settings: RedisSettings,
    shards: Vec<u64>,
}

impl Forgetful<'_> {
    fn each(&self, script: &str, patterns: &[String]) {
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        self.redis.cli(&[&["eval", script, "0"], &patterns[..]].concat());
    }

    fn patterns(&self, behind: &str) -> Vec<String> {
        self.shards.iter().map(|shard| format!("{{{}:s{shard}}}:{behind}", self.settings.prefix)).collect()
    }

    /// Keeps copies beside.
    fn remember(&self) {
        self.each(REMEMBER, &self.patterns("*"));
    }

    fn forget(&self, what: Forgets) {
        match what {
            Forgets::Everything => drop(self.redis.cli(&["flushall"])),
            Forgets::Shards => self.each(DELETE, &self.patterns("*")),
            Forgets::ProgressOfShards => self.each(DELETE, &self.patterns("progress")),
            Forgets::WhatCameLater => self.each(GO_BACK, &self.patterns("*")),
        }
    }

    /// Waits until the progress of all shards is there, which the sweep brings back before it feeds anything.
    fn wait_for_the_sweep(&self, server: &Server) {
        let pattern = format!("{{{}:s*}}:progress", self.settings.prefix);
        loop {
            let count = self.redis.cli(&["eval", "return #redis.call('KEYS', ARGV[1])", "0", &pattern]);
            if count == "256" && !server.ingest.trouble.is_feeding() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn check(case: &Case, size: usize, forgets: Forgets, seed: u64, redis: &Redis) -> Result<(), TestCaseError> {
    redis.cli(&["flushall"]);
    let mut random = Random(seed);
    let mut shards: Vec<u64> = (0..256).collect();
    random.shuffle(&mut shards);
    shards.truncate(1 + random.below(255) as usize);
    let store = Forgetful { redis, settings: settings(vec![redis.address()]), shards };
    let folder = tempfile::tempdir().unwrap();
    if forgets == Forgets::WhatCameLater {
        // A log of which this one is the continuation: it ends where a frame does.
        let is_end = |at: &usize| *at == 0 || case.rows.get(*at).is_none_or(|row| !together(&case.rows[*at - 1], row));
        let half = (case.rows.len() / 2..).find(is_end).unwrap();
        let half = Case { rows: case.rows[..half].to_vec(), ..case.clone() };
        let earlier = tempfile::tempdir().unwrap();
        write_log(&half, &registry(&half.sources, &half.views), &earlier.path().join("log"), size);
        let (server, threads) = opened(&half, earlier.path(), &store.settings);
        drop(server);
        threads.join();
        store.remember();
    }
    write_log(case, &registry(&case.sources, &case.views), &folder.path().join("log"), size);
    let (server, threads) = opened(case, folder.path(), &store.settings);
    equals_oracle(case, &server)?;
    store.forget(forgets);
    if !case.rows.is_empty() && forgets != Forgets::WhatCameLater {
        store.wait_for_the_sweep(&server);
    }
    let mut last = Ok(());
    for _ in 0..300 {
        last = equals_oracle(case, &server);
        if last.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let halted = server.ingest.pending.iter().find_map(|pending| pending.halted.lock().clone());
    assert_eq!(halted, None);
    drop(server);
    threads.join();
    last
}

fn run_with(name: &str, kinds: Vec<Forgets>) {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let strategy = (
        service_case(),
        proptest::sample::select(vec![1usize, 7, 1000]),
        proptest::sample::select(kinds),
        proptest::num::u64::ANY,
    );
    run(name, strategy, (cases() / 1000).max(4), |(case, size, forgets, seed)| {
        check(case, *size, *forgets, *seed, &redis)
    });
}

#[test]
fn what_a_store_forgets_is_fed_again() {
    let kinds = vec![Forgets::Everything, Forgets::Shards, Forgets::ProgressOfShards];
    run_with("a store that forgets = oracle", kinds);
}

#[test]
fn a_store_that_goes_back_is_fed_what_came_later() {
    run_with("a store that goes back = oracle", vec![Forgets::WhatCameLater]);
}
