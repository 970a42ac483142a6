//! The contract of a shared store, on every kind of server: records and positions change in one step or not at all.

use std::collections::BTreeSet;

use tidemill::online::{
    Outcome, PartitionStep, Progress, ReadChunks, RecordStep, RedisStore, ShardCommit, SharedKey, SourcePartition,
    StoreError, Token,
};
use tidemill::place::shard_of;
use tidemill_features::record::NodeId;
use tidemill_tests::services::{Redis, RedisCluster, RedisKind, RedisOptions};

use crate::shared_store::settings;

/// A store, a partition that is owned, and what is known of it.
struct Owner<'s> {
    store: &'s RedisStore,
    partition: SourcePartition,
    token: Token,
    shard: usize,
    stored: Progress,
}

const VIEW: u64 = 0xfeed;

fn key(shard: usize, number: usize) -> SharedKey {
    let mut keys = (0u64..).map(|n| n.to_le_bytes()).filter(|key| shard_of(key) == shard);
    (VIEW, Box::from(&keys.nth(number).unwrap()[..]))
}

impl<'s> Owner<'s> {
    async fn claim(store: &'s RedisStore, partition: u32, shard: usize) -> Owner<'s> {
        let (partition, token) = (SourcePartition { source: "s".into(), partition }, rand::random());
        let claimed = store.claim(&partition, token, None).await.unwrap().unwrap();
        let stored = claimed.shards[shard].clone().unwrap_or_default();
        Owner { store, partition, token, shard, stored: Progress { token, ..stored } }
    }

    /// A commit that goes `events` on and writes these records.
    fn step(&self, events: u64, records: Vec<RecordStep>) -> ShardCommit {
        let batch = rand::random();
        let (next, sequence) = (self.stored.next + events, self.stored.sequence + 1);
        let to = Progress { token: self.token, batch, next, sequence, ..self.stored.clone() };
        let partitions = vec![PartitionStep { partition: self.partition.clone(), from: self.stored.state(), to }];
        ShardCommit { shard: self.shard, batch, partitions, records, at_home: false }
    }

    async fn commit(&mut self, events: u64, records: Vec<RecordStep>) -> Token {
        let commit = self.step(events, records);
        assert_eq!(self.store.commit(&commit).await.unwrap(), Outcome::Done);
        self.stored = commit.partitions[0].to.clone();
        commit.batch
    }

    /// What the store says of the partition in the shard, and where reads see it.
    async fn seen(&self) -> (Option<Progress>, Option<u64>) {
        let looked = self.store.look(std::slice::from_ref(&self.partition)).await.unwrap();
        let positions = self.store.positions(self.shard).await.unwrap();
        (looked[0].shards[self.shard].clone(), positions.get(&self.partition).copied())
    }

    async fn body(&self, number: usize) -> Option<Vec<u8>> {
        let records = self.store.records(&[key(self.shard, number)]).await.unwrap();
        records[0].as_ref().map(|record| record.body.to_vec())
    }
}

fn record(shard: usize, number: usize, from: Option<Token>, body: &str) -> RecordStep {
    RecordStep {
        key: key(shard, number),
        from,
        body: Some(body.as_bytes().into()),
        chunks: Vec::new(),
        is_followed: false,
    }
}

const CHUNK: NodeId = NodeId { level: 3, slot: 77 };

async fn records_and_positions_appear_together_and_once(store: &RedisStore) {
    let mut owner = Owner::claim(store, 0, 5).await;
    assert_eq!(owner.body(0).await, None);
    let mut steps = vec![record(5, 0, None, "a"), record(5, 1, None, "b")];
    steps[0].chunks = vec![(CHUNK, Some(b"chunk"[..].into()))];
    let commit = owner.step(10, steps);
    for _ in 0..3 {
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
        assert_eq!(owner.seen().await, (Some(commit.partitions[0].to.clone()), Some(10)));
    }
    owner.stored = commit.partitions[0].to.clone();
    assert_eq!((owner.body(0).await, owner.body(1).await), (Some(b"a".to_vec()), Some(b"b".to_vec())));
    let other = NodeId { level: 0, slot: 0 };
    for (all_up_to, are_few) in [(0, false), (1, true)] {
        let read = store.chunks(&key(5, 0), commit.batch, &[CHUNK, other], all_up_to).await.unwrap();
        let ReadChunks::Same { found, are_all } = read else { panic!("the record is the same") };
        assert_eq!((found[0].0, found[0].1.as_deref(), are_all), (CHUNK, Some(&b"chunk"[..]), are_few));
        assert_eq!(found.get(1), (!are_few).then_some(&(other, None)));
    }
    // Chunks of another version are not given out.
    let mut gone = record(5, 0, Some(commit.batch), "c");
    gone.chunks = vec![(CHUNK, None)];
    let second = owner.commit(1, vec![gone]).await;
    let read = store.chunks(&key(5, 0), commit.batch, &[CHUNK], 0).await.unwrap();
    assert!(matches!(read, ReadChunks::Changed(Some(record)) if record.stamp == second && *record.body == *b"c"));
    let ReadChunks::Same { found, .. } = store.chunks(&key(5, 0), second, &[CHUNK], 0).await.unwrap() else {
        panic!("it is")
    };
    assert_eq!(found, [(CHUNK, None)]);
    // A commit that comes late, after another one, does nothing.
    let late = store.commit(&commit).await.unwrap();
    assert_eq!(late, Outcome::Moved { step: 0, stored: Some(owner.stored.clone()) });
    assert_eq!(owner.body(0).await, Some(b"c".to_vec()));
}

async fn a_stale_owner_and_an_older_position_are_refused(store: &RedisStore) {
    let mut older = Owner::claim(store, 1, 9).await;
    let first = older.commit(3, vec![record(9, 0, None, "a")]).await;
    let behind = older.step(1, vec![record(9, 0, Some(first), "behind")]);
    let second = older.commit(4, vec![record(9, 0, Some(first), "b")]).await;
    let answer = store.commit(&behind).await.unwrap();
    assert_eq!(answer, Outcome::Moved { step: 0, stored: Some(older.stored.clone()) });
    let younger = Owner::claim(store, 1, 9).await;
    assert_eq!((younger.stored.next, younger.stored.sequence), (7, 2));
    let stale = older.step(1, vec![record(9, 0, Some(second), "stale")]);
    let answer = store.commit(&stale).await.unwrap();
    assert_eq!(answer, Outcome::Moved { step: 0, stored: Some(younger.stored.clone()) });
    assert_eq!(older.body(0).await, Some(b"b".to_vec()));
    assert_eq!(younger.seen().await, (Some(younger.stored.clone()), Some(7)));
}

/// Two owners of two partitions meet in one record: whoever comes second reads again.
async fn a_record_that_was_changed_by_others_is_a_conflict(store: &RedisStore) {
    let mut one = Owner::claim(store, 2, 11).await;
    let two = Owner::claim(store, 3, 11).await;
    let stamp = one.commit(1, vec![record(11, 0, None, "one")]).await;
    let commit = two.step(1, vec![record(11, 1, None, "new"), record(11, 0, None, "two")]);
    let Outcome::Conflict(changed) = store.commit(&commit).await.unwrap() else { panic!("it was changed") };
    assert_eq!(changed.len(), 1);
    // What stays is looked at all the same: a decision by a record that is another one now does not hold.
    let stays = RecordStep { body: None, ..record(11, 0, None, "") };
    let answer = store.commit(&two.step(1, vec![stays])).await.unwrap();
    assert!(matches!(answer, Outcome::Conflict(changed) if changed.len() == 1));
    let (place, found) = &changed[0];
    assert_eq!((*place, found.as_ref().map(|found| found.stamp)), (1, Some(stamp)));
    assert_eq!(two.body(1).await, None, "nothing of a conflict is written");
    assert_eq!(two.seen().await.0.map(|stored| stored.next), Some(0));
}

async fn what_has_another_kind_leaves_nothing_half_written(
    store: &RedisStore,
    cli: &dyn Fn(&[&str]) -> String,
    prefix: &str,
) {
    let owner = Owner::claim(store, 4, 13).await;
    let before = owner.seen().await;
    let named = |kind: &str, number: usize| {
        // Keys have bytes that a command line cannot carry: the script is given them as numbers.
        let bytes: Vec<String> = key(13, number).1.iter().map(|byte| byte.to_string()).collect();
        format!("'{{{prefix}:s13}}:{kind}:{VIEW:016x}:' .. string.char({})", bytes.join(","))
    };
    let put = |kind: &str, number: usize, verb: &str, arguments: &str| {
        let script =
            format!("local k = {} redis.call('DEL', k) return redis.call('{verb}', k{arguments})", named(kind, number));
        cli(&["eval", &script, "1", &format!("{{{prefix}:s13}}:progress")]);
    };
    // The second record is a hash; then the chunks of the second are a string.
    put("r", 1, "HSET", ", 'a', 'b'");
    let commit = owner.step(1, vec![record(13, 0, None, "a"), record(13, 1, None, "b")]);
    let error = store.commit(&commit).await.expect_err("it is a hash");
    assert!(matches!(&error, StoreError::Damaged(why) if why.contains("another kind")), "{error}");
    assert_eq!((owner.body(0).await, owner.seen().await), (None, before.clone()));
    put("r", 1, "UNLINK", "");
    put("c", 1, "SET", ", 'a'");
    let mut with_chunks = record(13, 1, None, "b");
    with_chunks.chunks = vec![(CHUNK, Some(b"chunk"[..].into()))];
    let commit = owner.step(1, vec![record(13, 0, None, "a"), with_chunks]);
    let error = store.commit(&commit).await.expect_err("it is a string");
    assert!(matches!(&error, StoreError::Damaged(why) if why.contains("another kind")), "{error}");
    assert_eq!((owner.body(0).await, owner.seen().await), (None, before));
    put("c", 1, "UNLINK", "");
    // What is damaged is named: somebody has to find it.
    put("r", 2, "SET", ", string.rep('x', 40)");
    let error = store.records(&[key(13, 2)]).await.expect_err("it is damaged");
    assert!(matches!(&error, StoreError::Damaged(why) if why.contains(&format!(":s13}}:r:{VIEW:016x}:"))), "{error}");
    put("r", 2, "UNLINK", "");
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
}

/// Somebody has deleted them: the next commit writes those of its partitions, each to a place of its own.
async fn positions_that_are_gone_come_back(store: &RedisStore, cli: &dyn Fn(&[&str]) -> String, prefix: &str) {
    let (mut one, mut two) = (Owner::claim(store, 10, 27).await, Owner::claim(store, 11, 27).await);
    one.commit(3, Vec::new()).await;
    two.commit(4, Vec::new()).await;
    assert_eq!((one.seen().await.1, two.seen().await.1), (Some(3), Some(4)));
    let [positions, places] = ["positions", "places"].map(|kind| format!("{{{prefix}:s27}}:{kind}"));
    cli(&["del", &positions]);
    let mut commit = one.step(1, vec![record(27, 0, None, "a")]);
    let mut of_two = two.step(1, Vec::new()).partitions.remove(0);
    of_two.to.batch = commit.batch;
    commit.partitions.push(of_two);
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    assert_eq!((one.seen().await.1, two.seen().await.1), (Some(4), Some(5)));
    (one.stored, two.stored) = (commit.partitions[0].to.clone(), commit.partitions[1].to.clone());
    two.commit(1, Vec::new()).await;
    assert_eq!((one.seen().await.1, two.seen().await.1), (Some(4), Some(6)));
    // What is of another kind is seen before anything is written.
    cli(&["set", &places, "a"]);
    let error = store.commit(&one.step(1, vec![record(27, 1, None, "b")])).await.expect_err("it is a string");
    assert!(matches!(&error, StoreError::Damaged(why) if why.contains("another kind")), "{error}");
    assert_eq!((one.body(1).await, one.seen().await), (None, (Some(one.stored.clone()), Some(4))));
    cli(&["del", &places, &positions]);
    one.commit(1, Vec::new()).await;
    assert_eq!(one.seen().await.1, Some(5));
}

async fn what_has_no_room_leaves_nothing_half_written(store: &RedisStore, configure: &dyn Fn(&str, &str)) {
    let owner = Owner::claim(store, 5, 17).await;
    let before = owner.seen().await;
    let large = "x".repeat(100_000);
    let commit = owner.step(1, (0..20).map(|n| record(17, n, None, &large)).collect());
    configure("maxmemory", "1");
    let error = store.commit(&commit).await.expect_err("there is no room");
    assert!(matches!(&error, StoreError::Away(why) if why.contains("raise maxmemory")), "{error}");
    assert_eq!((owner.body(0).await, owner.body(19).await, owner.seen().await), (None, None, before));
    configure("maxmemory", "0");
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    assert_eq!(owner.seen().await, (Some(commit.partitions[0].to.clone()), Some(1)));
    // Room that runs out within a commit does not stop it halfway.
    let next = owner.body(19).await;
    assert_eq!(next.map(|body| body.len()), Some(100_000));
}

async fn leftovers_go_and_what_has_progress_stays(store: &RedisStore, cli: &dyn Fn(&[&str]) -> String, prefix: &str) {
    let mut owner = Owner::claim(store, 6, 19).await;
    owner.commit(1, vec![record(19, 0, None, "a")]).await;
    let mut other = Owner::claim(store, 6, 21).await;
    other.commit(1, vec![record(21, 0, None, "b")]).await;
    assert_eq!(store.forget_leftovers().await.unwrap(), 0);
    cli(&["del", &format!("{{{prefix}:s19}}:progress")]);
    // The record, the positions of the shard, and their places.
    assert_eq!(store.forget_leftovers().await.unwrap(), 3);
    assert_eq!((owner.body(0).await, other.body(0).await), (None, Some(b"b".to_vec())));
    let keys: BTreeSet<Box<[u8]>> = store.keys_of(VIEW).await.unwrap().into_iter().collect();
    assert_eq!(keys.iter().filter(|key| shard_of(key) == 21).count(), 1);
    // Progress that goes between the look and a claim: whoever claims has the shard emptied first.
    let mut owner = Owner::claim(store, 6, 25).await;
    owner.commit(1, vec![record(25, 0, None, "a")]).await;
    cli(&["del", &format!("{{{prefix}:s25}}:progress")]);
    let newcomer = Owner::claim(store, 8, 25).await;
    assert_eq!((newcomer.body(0).await, newcomer.seen().await.1), (None, None));
    let answer = store.commit(&owner.step(1, vec![record(25, 0, None, "b")])).await.unwrap();
    assert_eq!(answer, Outcome::Moved { step: 0, stored: None });
    // Users choose keys: one that looks like the name of another view's record is none.
    let odd: SharedKey = (VIEW + 1, format!("}}:r:{VIEW:016x}:odd").into_bytes().into());
    let shard = shard_of(&odd.1);
    let mut owner = Owner::claim(store, 9, shard).await;
    owner.commit(1, vec![RecordStep { key: odd.clone(), ..record(shard, 0, None, "a") }]).await;
    assert!(store.keys_of(VIEW).await.unwrap().iter().all(|key| **key != b"odd"[..]));
    assert_eq!(store.keys_of(VIEW + 1).await.unwrap(), [odd.1]);
}

async fn everything(store: &RedisStore, prefix: &str, cli: &dyn Fn(&[&str]) -> String, configure: &dyn Fn(&str, &str)) {
    store.try_writes().await.unwrap();
    records_and_positions_appear_together_and_once(store).await;
    a_stale_owner_and_an_older_position_are_refused(store).await;
    a_record_that_was_changed_by_others_is_a_conflict(store).await;
    what_has_another_kind_leaves_nothing_half_written(store, cli, prefix).await;
    positions_that_are_gone_come_back(store, cli, prefix).await;
    what_has_no_room_leaves_nothing_half_written(store, configure).await;
    leftovers_go_and_what_has_progress_stays(store, cli, prefix).await;
    cli(&["script", "flush"]);
    records_and_positions_appear_together_and_once_again(store).await;
    assert_eq!(store.agree("these").await.unwrap(), "these");
    assert_eq!(store.agree("those").await.unwrap(), "these");
}

/// The same with scripts that the server does not know any more.
async fn records_and_positions_appear_together_and_once_again(store: &RedisStore) {
    let mut owner = Owner::claim(store, 7, 23).await;
    owner.commit(2, vec![record(23, 0, None, "a")]).await;
    assert_eq!((owner.body(0).await, owner.seen().await.1), (Some(b"a".to_vec()), Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_redis_keeps_the_contract_of_a_shared_store() {
    for kind in [RedisKind::Debian, RedisKind::Valkey] {
        let redis = Redis::start(kind, &RedisOptions::default());
        let settings = settings(vec![redis.address()]);
        let store = RedisStore::open(&settings).await.unwrap();
        let configure = |name: &str, value: &str| redis.configure(name, value);
        everything(&store, &settings.prefix, &|command| redis.cli(command), &configure).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_keeps_the_contract_of_a_shared_store() {
    let cluster = RedisCluster::start();
    let settings = settings(cluster.addresses());
    let store = RedisStore::open(&settings).await.unwrap();
    let configure = |name: &str, value: &str| (0..6).for_each(|node| cluster.node(node).configure(name, value));
    everything(&store, &settings.prefix, &|command| cluster.cli(command), &configure).await;
}
