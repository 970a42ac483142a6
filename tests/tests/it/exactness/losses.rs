//! What a topic has lost halts its partitions in a group too, with the range, and somebody has to give it up before they go on.

use serde_json::json;
use tidemill_client::Client;
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Redis, RedisKind, RedisOptions};

use super::group::Group;
use crate::kafka::world::{self, Event, consumed, definitions, ledger, state_says, status, twin, wait_for};

const CARDS: u32 = 10;

/// A topic of two partitions, and what of it must be counted.
struct Topic {
    name: String,
    lines: Vec<String>,
}

impl Topic {
    fn new(kafka: &Kafka, what: &str) -> Topic {
        let name = topic_name(what);
        kafka.create_topic(&name, 2, &[]);
        Topic { name, lines: Vec::new() }
    }

    fn group(&self, kafka: &Kafka, redis: &Redis) -> Group {
        let definitions = definitions(&format!("connector = \"kafka\"\ntopic = \"{}\"", self.name));
        Group::new(&definitions, &kafka.address(), &[redis.address()])
    }

    /// Writes events into a partition; those that are kept must be counted.
    fn write(&mut self, kafka: &Kafka, partition: i32, ids: std::ops::Range<u64>, is_kept: impl Fn(u64) -> bool) {
        let events: Vec<Event> = ids.clone().map(|id| Event::new(id, id as u32 % CARDS, partition)).collect();
        kafka.produce(&self.name, &events.iter().map(Event::message).collect::<Vec<_>>());
        self.lines.extend(events.iter().filter(|event| is_kept(event.id)).map(Event::json));
    }

    /// Values and ledgers are those of the events that were kept.
    async fn right(&self, client: &Client) {
        consumed(client, self.lines.len() as u64).await;
        let (values, wanted) = twin(&self.lines, CARDS).await;
        wait_for(client, "the ledgers of the twin", |status| ledger(status) == wanted).await;
        assert_eq!(world::values(client, CARDS).await, values);
    }
}

/// Refused without the word, then resumed; what was given up comes back.
async fn resume(client: &Client) -> serde_json::Value {
    let refused = client.resume_source("tx", false).await.unwrap_err();
    assert_eq!(refused.code, "E1055", "{refused:?}");
    let mut given_up = client.resume_source("tx", true).await.unwrap().given_up;
    given_up.sort_by_key(|lost| lost.partition);
    json!(given_up.iter().map(|lost| json!([lost.partition, lost.from, lost.to])).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_that_passes_a_group_halts_it() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut topic = Topic::new(kafka, "group-retained");
    let group = topic.group(kafka, &redis);
    let (mut member, serving) = (group.start("ingest").await, group.start("serve").await);
    let client = serving.client().await;
    topic.write(kafka, 0, 0..20, |_| true);
    topic.write(kafka, 1, 100..110, |_| true);
    topic.right(&client).await;
    assert_eq!(member.terminate(), Some(0));

    topic.write(kafka, 0, 20..40, |id| id >= 33);
    kafka.delete_records(&topic.name, 0, 33);
    topic.write(kafka, 1, 110..115, |_| true);
    member.start().await;
    let own = member.client().await;
    state_says(&own, "tidemill source resume tx --accept-loss").await;
    state_says(&client, "E1052: offsets 20 to 32").await;
    // The other partition goes on; of this one nothing is taken.
    consumed(&client, 35).await;
    assert_eq!(world::get(&client, 1).await.stale, ["tx"], "what is there is served, as stale");
    // Another start forgets nothing of it.
    member.kill();
    member.start().await;
    let own = member.client().await;
    state_says(&own, "stopped: E1052: offsets 20 to 32").await;
    assert_eq!(status(&client).await["sources"]["tx"]["consumed"], 35);
    assert_eq!(resume(&own).await, json!([[0, 20, 33]]));
    topic.right(&client).await;
    assert_eq!(own.resume_source("tx", true).await.unwrap_err().code, "E1056");
    // And another process goes on behind it.
    member.terminate();
    topic.write(kafka, 0, 40..45, |_| true);
    let _other = group.start("ingest").await;
    topic.right(&client).await;
}

/// What a partition ends with may be markers of transactions: they are passed over, and nothing is lost when retention removes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markers_that_retention_removes_are_no_loss_of_a_group() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut topic = Topic::new(kafka, "group-markers");
    let group = topic.group(kafka, &redis);
    let (mut member, serving) = (group.start("ingest").await, group.start("serve").await);
    let client = serving.client().await;
    let producer = kafka.transactional(&topic.name);
    let events: Vec<Event> = (0..10).map(|id| Event::new(id, id as u32 % CARDS, 0)).collect();
    for is_kept in [true, false] {
        producer.begin();
        producer.send(&topic.name, &events.iter().map(Event::message).collect::<Vec<_>>());
        if is_kept { producer.commit() } else { producer.abort() }
    }
    topic.lines.extend(events.iter().map(Event::json));
    topic.right(&client).await;
    wait_for(&client, "behind all markers", |status| status["sources"]["tx"]["positions"]["0"] == 22).await;
    member.kill();
    kafka.delete_records(&topic.name, 0, 22);
    topic.write(kafka, 0, 20..25, |_| true);
    member.start().await;
    topic.right(&client).await;
    assert_eq!(status(&client).await["sources"]["tx"]["state"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_halts_a_group() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    // In the second case one partition had nothing that could be missed.
    for (what, old) in [("group-both", &[0, 1][..]), ("group-one", &[0])] {
        for is_live in [false, true] {
            let mut topic = Topic::new(kafka, what);
            let group = topic.group(kafka, &redis);
            let (mut member, serving) = (group.start("ingest").await, group.start("serve").await);
            let client = serving.client().await;
            old.iter().for_each(|at| topic.write(kafka, *at, *at as u64 * 100..*at as u64 * 100 + 20, |_| true));
            topic.right(&client).await;
            // One that is killed may leave shards behind that had no events lately; they would be counted as lost, too.
            if !is_live {
                member.terminate();
            }
            kafka.make_anew(&topic.name, 2);
            topic.write(kafka, 0, 1_000..1_040, |_| true);
            topic.write(kafka, 1, 2_000..2_040, |_| true);
            if !is_live {
                member.start().await;
            }
            let own = member.client().await;
            state_says(&client, "E1053").await;
            // Where one partition is another topic's, all are: also the one that had nothing to be recognised by.
            let lost = wait_for(&own, "stopped for all that is lost", |status| {
                let state = status["sources"]["tx"]["state"].as_str().unwrap_or_default().to_string();
                (0..2).all(|at| state.contains(&format!("partition {at}, is not")))
            });
            assert_eq!(lost.await["sources"]["tx"]["consumed"], 20 * old.len(), "{what}, live: {is_live}");
            let position = |at: i32| if old.contains(&at) { 20 } else { 0 };
            let given_up = json!([[0, position(0), null], [1, position(1), null]]);
            assert_eq!(resume(&own).await, given_up, "{what}, live: {is_live}");
            topic.right(&client).await;
            // From now on the new one is the topic, whoever reads it.
            member.kill();
            topic.write(kafka, 0, 3_000..3_003, |_| true);
            topic.write(kafka, 1, 4_000..4_003, |_| true);
            let _other = group.start("ingest").await;
            topic.right(&client).await;
        }
    }
}

/// The store has lost everything, and the topic has not what it would take to compute it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_filled_again_halts_the_group() {
    let kafka = Kafka::shared();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    for is_live in [true, false] {
        let mut topic = Topic::new(kafka, "group-flushed");
        let group = topic.group(kafka, &redis);
        let (mut member, serving) = (group.start("ingest").await, group.start("serve").await);
        let client = serving.client().await;
        topic.write(kafka, 0, 0..20, |_| true);
        topic.write(kafka, 1, 100..110, |_| true);
        topic.right(&client).await;
        kafka.delete_records(&topic.name, 0, 12);
        if is_live {
            redis.cli(&["flushall"]);
        } else {
            assert_eq!(member.terminate(), Some(0));
            redis.cli(&["flushall"]);
            member.start().await;
        }
        let own = member.client().await;
        state_says(&own, "stopped: E1052: offsets 0 to 11").await;
        consumed(&client, 10).await;
        assert_eq!(resume(&own).await, json!([[0, 0, 12]]), "live: {is_live}");
        topic.lines.drain(..12);
        topic.right(&client).await;
    }
}
