//! Whatever happens to the processes of a group, to the broker and to the store: once all is quiet again, every value and every
//! ledger is the oracle's.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use tidemill_tests::services::{Kafka, KafkaOptions, Proxy, Redis, RedisCluster, RedisKind, RedisOptions};

use super::group::{Group, Process, SESSION_MS};
use super::load::{Load, exact_from};
use super::paths::ask_all;
use super::{random, size};

const PATIENCE: Duration = Duration::from_secs(180);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// kill -9 of a process that takes events in
    Kill,
    /// kill -9 of the broker
    Broker,
    /// the store loses writes that it has acknowledged
    Failover,
    /// SIGSTOP of a process for longer than its session, then SIGCONT
    Pause,
    /// answers of the store are lost, though it has done what was asked
    LostAnswers,
    /// the store loses everything
    FlushAll,
    /// the store forgets the scripts
    FlushScripts,
}

enum Store {
    Cluster(RedisCluster),
    /// and the proxy through which the processes reach it
    Single(Box<(Redis, Proxy)>),
}

impl Store {
    fn addresses(&self) -> Vec<String> {
        match self {
            Store::Cluster(cluster) => cluster.addresses(),
            Store::Single(single) => vec![single.1.address()],
        }
    }

    /// Has the command run by every master.
    fn everywhere(&self, command: &[&str]) {
        match self {
            Store::Cluster(cluster) => (0..3).for_each(|part| drop(cluster.master(part).cli(command))),
            Store::Single(single) => drop(single.0.cli(command)),
        }
    }
}

struct Storm {
    kafka: Kafka,
    store: Store,
    load: Load,
    members: Vec<Process>,
}

impl Storm {
    /// Lets it happen, in any order; gives how many answers were lost.
    async fn run(mut self, mut faults: Vec<Fault>) {
        faults.shuffle(&mut self.load.random);
        println!("{faults:?}");
        let each = 100;
        let group = Group::new(&self.load.definitions(), &self.kafka.address(), &self.store.addresses());
        for _ in 0..2 {
            self.members.push(group.start("ingest").await);
        }
        let serving = group.start("serve").await;
        let client = serving.client().await;
        self.load.more(&self.kafka, each);
        let table = self.load.table_rows(100);
        self.load.write(&self.kafka, 1, table);
        self.quiet(&client, &"the beginning").await;
        for (at, fault) in faults.iter().enumerate() {
            self.load.more(&self.kafka, each);
            let moment = self.load.random.random_range(0..200);
            tokio::time::sleep(Duration::from_millis(moment)).await;
            self.happen(*fault).await;
            // Now and then all is quiet, so that the next one finds everything at work again.
            if at % 4 == 3 {
                self.quiet(&client, fault).await;
            }
        }
        self.load.more(&self.kafka, each);
        self.quiet(&client, &"the end").await;
        let mut times = self.load.times();
        times.extend((0..10).map(|_| exact_from() + self.load.random.random_range(0..10_000_000_000)));
        let questions = self.load.world.questions(&client, &self.load.rows, &times, &mut self.load.random).await;
        let tally = ask_all(&client, &questions, exact_from()).await;
        let mut counts: Vec<(Fault, usize)> = Vec::new();
        faults.sort_unstable();
        faults.chunk_by(|a, b| a == b).for_each(|same| counts.push((same[0], same.len())));
        println!("{counts:?}, {} events: {tally:?}", self.load.rows.len());
    }

    async fn happen(&mut self, fault: Fault) {
        let victim = self.load.random.random_range(0..self.members.len());
        match fault {
            Fault::Kill => {
                self.members[victim].kill();
                self.load.more(&self.kafka, 20);
                self.members[victim].start().await;
            }
            Fault::Broker => {
                self.kafka.kill();
                self.kafka.restart();
            }
            Fault::Failover => match &self.store {
                Store::Cluster(cluster) => {
                    let part = self.load.random.random_range(0..3);
                    cluster.cut(part);
                    self.load.more(&self.kafka, 100);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    cluster.failover(part);
                }
                Store::Single(single) => {
                    let redis = &single.0;
                    let mark = redis.mark();
                    self.load.more(&self.kafka, 100);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    redis.rewind(&mark);
                }
            },
            Fault::Pause => {
                self.members[victim].server().signal("STOP");
                self.load.more(&self.kafka, 100);
                tokio::time::sleep(Duration::from_millis(SESSION_MS * 2)).await;
                self.members[victim].server().signal("CONT");
            }
            Fault::LostAnswers => {
                let Store::Single(single) = &self.store else { panic!("nothing stands before a cluster") };
                let proxy = &single.1;
                let (before, count) = (proxy.lost(), self.load.random.random_range(1..6));
                proxy.lose_answers(b"EVALSHA", count);
                self.load.more(&self.kafka, 50);
                for _ in 0..600 {
                    if proxy.lost() >= before + count {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    self.load.more(&self.kafka, 1);
                }
                panic!("{} of {count} answers were lost", proxy.lost() - before);
            }
            Fault::FlushAll => self.store.everywhere(&["flushall"]),
            Fault::FlushScripts => self.store.everywhere(&["script", "flush"]),
        }
    }

    /// Waits until everything that was written has been taken in, once.
    async fn quiet(&self, client: &tidemill_client::Client, after: &impl std::fmt::Debug) {
        if let Err(said) = self.load.ledgers().wait(client, PATIENCE).await {
            let logs: Vec<String> = self.members.iter().map(Process::log).collect();
            panic!("after {after:?}: {said}\n{}", logs.join("\n-----\n"));
        }
    }
}

/// CI does a tenth of what is asked of a release.
fn faults(of: &[(Fault, usize)]) -> Vec<Fault> {
    let times = size("TIDEMILL_STORM", 1);
    of.iter().flat_map(|(fault, count)| std::iter::repeat_n(*fault, count * times)).collect()
}

fn broker() -> Kafka {
    Kafka::start(&KafkaOptions::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_a_cluster_changes_nothing() {
    let faults = faults(&[(Fault::Kill, 6), (Fault::Broker, 1), (Fault::Failover, 2)]);
    let (kafka, random) = (broker(), random("a storm over a cluster"));
    let load = Load::new(&kafka, faults.len() * 250 + 1_000, 4, random);
    let store = Store::Cluster(RedisCluster::start());
    Storm { kafka, store, load, members: Vec::new() }.run(faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_one_redis_changes_nothing() {
    let faults = faults(&[
        (Fault::Kill, 4),
        (Fault::Broker, 1),
        (Fault::Failover, 1),
        (Fault::Pause, 2),
        (Fault::LostAnswers, 2),
        (Fault::FlushAll, 1),
        (Fault::FlushScripts, 1),
    ]);
    let (kafka, random) = (broker(), random("a storm over one Redis"));
    let load = Load::new(&kafka, faults.len() * 250 + 1_000, 4, random);
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let proxy = Proxy::start(&redis.address());
    Storm { kafka, store: Store::Single(Box::new((redis, proxy))), load, members: Vec::new() }.run(faults).await;
}
