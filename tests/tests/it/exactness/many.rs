//! More partitions than one sweep looks at: what a store forgets of one of them is found once it is that one's turn.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_client::{Client, texts, v1};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Message, Redis, RedisKind, RedisOptions};

use super::group::{Group, Process};

const PARTITIONS: i32 = 150;
/// Of the first sweep, of the second, of the last.
const FORGOTTEN: [i32; 3] = [0, 77, 149];

const DEFINITIONS: &str = r#"
[source.s]
connector = "kafka"
topic = "TOPIC"
event_time = "at"
fields = { key = "string", x = "int64", at = "timestamp[ms]" }
[entity.e]
key = "key"
[view.v]
entity = "e"
source = "s"
features = { n = { agg = "count()", window = "lifetime" }, total = { agg = "sum(x)", window = "lifetime" } }
"#;

/// Copies what the shard of a record has. ARGV: the record's pattern.
const REMEMBER: &str = "local record = redis.call('KEYS', ARGV[1])[1]
  local tag = string.match(record, '^{.-}:')
  for _, key in ipairs({record, tag .. 'progress', tag .. 'positions'}) do redis.call('COPY', key, 'older:' .. key, 'REPLACE') end
  return tag";
/// Notes the progress in the shard that has changed since. ARGV: the tag, what ends the names of one partition.
const COMPARE: &str = "local count = 0
  redis.call('DEL', 'changed')
  for _, field in ipairs(redis.call('HKEYS', ARGV[1] .. 'progress')) do
    local older = redis.call('HGET', 'older:' .. ARGV[1] .. 'progress', field)
    local is_its = string.sub(field, -#ARGV[2]) == ARGV[2] and string.sub(field, 1, 2) ~= 'h:'
    if is_its and older ~= redis.call('HGET', ARGV[1] .. 'progress', field) then
      redis.call('HSET', 'changed', field, older)
      count = count + 1
    end
  end
  return count";
/// Puts that, its positions and the record back, in one step. ARGV: the record's pattern, the tag.
const GO_BACK: &str = "local record = redis.call('KEYS', ARGV[1])[1]
  redis.call('COPY', 'older:' .. record, record, 'REPLACE')
  local changed = redis.call('HGETALL', 'changed')
  for at = 1, #changed, 2 do
    redis.call('HSET', ARGV[2] .. 'progress', changed[at], changed[at + 1])
    local place = redis.call('HGET', ARGV[2] .. 'places', string.sub(changed[at], 3))
    local older = redis.call('GETRANGE', 'older:' .. ARGV[2] .. 'positions', place, place + 19)
    redis.call('SETRANGE', ARGV[2] .. 'positions', place, older)
  end";

/// What was written: count and sum by key.
type Written = BTreeMap<String, (i64, i64)>;

fn write(kafka: &Kafka, topic: &str, written: &mut Written, events: impl IntoIterator<Item = (String, i32)>) {
    let message = |(key, partition): (String, i32)| {
        let own = written.entry(key.clone()).or_default();
        *own = (own.0 + 1, own.1 + own.0);
        let text = format!("{{\"key\":\"{key}\",\"x\":{},\"at\":1700000000000}}", own.0 - 1);
        Message::new(text).partition(partition)
    };
    let messages: Vec<Message> = events.into_iter().map(message).collect();
    kafka.produce(topic, &messages);
}

async fn read(client: &Client, written: &Written) -> Written {
    let keys = [("key".to_string(), texts(written.keys().map(String::as_str)))].into();
    let request = v1::GetRequest { features: vec!["v:n".into(), "v:total".into()], keys, ..v1::GetRequest::default() };
    let answer = client.get(request).await.unwrap();
    let ints = |at: usize| match &answer.columns[at].values {
        Some(v1::column::Values::Int64s(column)) => column.values.clone(),
        other => panic!("{other:?}"),
    };
    written.keys().cloned().zip(ints(0).into_iter().zip(ints(1))).collect()
}

async fn right(server: &Process, client: &Client, written: &Written) {
    let mut found = Written::new();
    for _ in 0..600 {
        found = read(client, written).await;
        if found == *written {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let wrong = written.iter().filter(|(key, value)| found.get(*key) != Some(value)).take(10);
    let wrong: Vec<_> = wrong.map(|(key, value)| (key, found.get(key), value)).collect();
    panic!("a minute later still found and expected are {wrong:?}: {}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_of_one_partition_is_found() {
    let (kafka, redis) = (Kafka::shared(), Redis::start(RedisKind::Debian, &RedisOptions::default()));
    let topic = topic_name("many");
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let group = Group::new(&DEFINITIONS.replace("TOPIC", &topic), &kafka.address(), &[redis.address()]);
    let server = group.start("all").await;
    let client = server.client().await;
    let mut written = Written::new();
    let everywhere = || (0..10 * PARTITIONS).map(|number| (format!("k{number}"), number % PARTITIONS));
    let alone = |partition: i32| (0..5).map(move |_| (format!("alone-{partition}-"), partition));
    write(kafka, &topic, &mut written, everywhere().chain(FORGOTTEN.into_iter().flat_map(alone)));
    right(&server, &client, &written).await;
    for partition in FORGOTTEN {
        let pattern = format!("{{*:r:*alone-{partition}-*");
        let tag = redis.cli(&["eval", REMEMBER, "0", &pattern]);
        write(kafka, &topic, &mut written, alone(partition));
        right(&server, &client, &written).await;
        let changed = redis.cli(&["eval", COMPARE, "0", &tag, &format!(":{partition}")]);
        assert_eq!(changed, "1", "progress of one partition");
        // What this process has written last is of other partitions, in this shard as in others; of this one it has nothing to say.
        write(kafka, &topic, &mut written, everywhere().filter(|(_, of)| *of != partition));
        right(&server, &client, &written).await;
        redis.cli(&["eval", GO_BACK, "0", &pattern, &tag]);
        right(&server, &client, &written).await;
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
