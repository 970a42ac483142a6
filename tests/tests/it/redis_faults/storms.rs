//! One Redis and one server, and everything that happens to them while a writer goes on: kills, a store that is emptied or goes
//! back in time, a Redis that is away or slow, answers that are lost after a commit.

use std::time::Duration;

use tidemill_tests::services::redis::Mark;
use tidemill_tests::services::{Proxy, Redis, RedisKind, RedisOptions};

use super::world::{World, project, random, scale};
use super::writer::Random;

/// What happens, and how often in CI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillServer,
    Flush,
    FlushScripts,
    /// remembers the store, to which a later `Rewind` goes back
    Mark,
    Rewind,
    RestartRedis,
    /// longer than an answer may take
    Pause,
    /// commits are done, and nobody is told
    LoseAnswers,
    Cut,
}

const IN_CI: [(Fault, usize); 9] = [
    (Fault::KillServer, 10),
    (Fault::Flush, 2),
    (Fault::FlushScripts, 2),
    (Fault::Mark, 2),
    (Fault::Rewind, 3),
    (Fault::RestartRedis, 2),
    (Fault::Pause, 2),
    (Fault::LoseAnswers, 4),
    (Fault::Cut, 4),
];

async fn strike(fault: Fault, world: &mut World, redis: &Redis, proxy: &Proxy, mark: &mut Option<Mark>, chance: u64) {
    match fault {
        Fault::KillServer => world.kill().await,
        Fault::Flush => drop(redis.cli(&["flushall"])),
        Fault::FlushScripts => drop(redis.cli(&["script", "flush"])),
        Fault::Mark => *mark = Some(redis.mark()),
        Fault::Rewind => redis.rewind(mark.get_or_insert_with(|| redis.mark())),
        Fault::RestartRedis => {
            redis.kill();
            tokio::time::sleep(Duration::from_millis(chance % 200)).await;
            redis.restart();
        }
        Fault::Pause => {
            redis.pause();
            tokio::time::sleep(Duration::from_millis(500 + chance % 300)).await;
            redis.resume();
        }
        Fault::LoseAnswers => proxy.lose_answers(b"EVALSHA", 1 + chance % 4),
        Fault::Cut => proxy.cut(),
    }
}

async fn storm(kind: RedisKind, faults: &[Fault], random: &mut Random) {
    let redis = Redis::start(kind, &RedisOptions::default());
    let proxy = Proxy::start(&redis.address());
    let mut world = World::start(project(&proxy.address(), "timeout = \"300ms\""), random).await;
    let mut mark = None;
    for some in faults.chunks(7) {
        let pauses: Vec<u64> = some.iter().map(|_| random.below(1 << 32)).collect();
        world
            .while_writing(async |world| {
                for (fault, chance) in some.iter().zip(pauses) {
                    tokio::time::sleep(Duration::from_millis(20 + chance % 200)).await;
                    strike(*fault, world, &redis, &proxy, &mut mark, chance).await;
                }
                // What comes after the last fault is written, too.
                tokio::time::sleep(Duration::from_millis(100)).await;
            })
            .await;
        world.settle().await;
    }
    let events: i64 = world.writer().known.values().map(|known| known.all).sum();
    assert!(events > 0, "the storm left no time for a single push");
    println!("{kind:?}: {events} events over {} faults, {} answers lost", faults.len(), proxy.lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_redis_loses_nothing_and_counts_nothing_twice() {
    let mut random = random("storm over Redis");
    let mut faults: Vec<Fault> = IN_CI.iter().flat_map(|(fault, n)| vec![*fault; n * scale()]).collect();
    random.shuffle(&mut faults);
    storm(RedisKind::Debian, &faults, &mut random).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_valkey_loses_nothing_and_counts_nothing_twice() {
    let mut random = random("storm over Valkey");
    let some = [Fault::KillServer, Fault::Flush, Fault::Mark, Fault::Pause, Fault::LoseAnswers, Fault::Rewind];
    let mut faults: Vec<Fault> = some.iter().flat_map(|fault| vec![*fault; scale()]).collect();
    random.shuffle(&mut faults);
    storm(RedisKind::Valkey, &faults, &mut random).await;
}

/// The store goes back to before two starts of the server: what stands there is its own all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_back_over_several_starts_is_filled_again() {
    let mut random = random("back over several starts");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start(project(&redis.address(), ""), &mut random).await;
    let some_time = async |_: &mut World| tokio::time::sleep(Duration::from_millis(150)).await;
    world.while_writing(some_time).await;
    let mark = redis.mark();
    for _ in 0..3 {
        world.while_writing(some_time).await;
        world.kill().await;
    }
    world.settle().await;
    redis.rewind(&mark);
    world.while_writing(some_time).await;
    world.settle().await;
}

/// Progress that is gone while records stay: they must not be fed the same events once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_progress_are_computed_anew() {
    let mut random = random("records without progress");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start(project(&redis.address(), ""), &mut random).await;
    for round in 0..2 {
        world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(200)).await).await;
        world.settle().await;
        let forget = "local gone = 0 for _, k in ipairs(redis.call('KEYS', ARGV[1])) do gone = gone + redis.call('DEL', k) end return gone";
        if round == 0 {
            assert_eq!(redis.cli(&["eval", forget, "0", "{tidemill:s*}:progress"]), "256");
            // The sweep finds it; that it has is seen from the progress, which is there again.
            while redis.cli(&["eval", "return #redis.call('KEYS', ARGV[1])", "0", "{tidemill:s*}:progress"]) != "256" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else {
            world.server.take().into_iter().for_each(|server| drop(server.kill()));
            redis.cli(&["eval", forget, "0", "{tidemill:s1*}:progress"]);
            world.restart().await;
        }
        world.settle().await;
    }
}
