//! A real broker: how many events a CPU-second from a topic to the state, beside reading and parsing alone; and how long it takes
//! from producing an event to reading it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidemill_client::{Client, v1};

use crate::formats::{FORMATS, Format, Txn, write_schemas};
use crate::processes::{project, tidemill};
use crate::row;

const PARTITIONS: i32 = 2;
const KEYS: u64 = 100_000;

/// A source that reads a topic, and three features.
pub fn definitions(topic: &str) -> String {
    format!(
        "[source.s]\nconnector = 'kafka'\ntopic = '{topic}'\nevent_time = 'at'\nmax_lag = '2s'\n\
         fields = {{ id = 'string', key = 'string', merchant = 'string', country = 'string', x = 'float64', n = 'int64', at = 'timestamp[us]' }}\n\
         [entity.e]\nkey = 'key'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\n\
         n = {{ agg = 'count()', windows = ['30d'] }}\ntotal = {{ agg = 'sum(x)', windows = ['30d'] }}\nmost = {{ agg = 'max(x)', windows = ['30d'] }}\n"
    )
}

fn event(id: u64, key: &str, at: i64) -> String {
    format!(
        "{{\"id\":\"t{id}\",\"key\":\"{key}\",\"merchant\":\"m{}\",\"country\":\"DE\",\"x\":{},\"n\":{id},\"at\":{at}}}",
        id % 1_000,
        (id * 31 % 10_000) as f64 / 100.0
    )
}

/// A broker of `tests/services`, and a Redis beside it where one is asked for; they end when dropped.
pub struct Broker {
    script: Child,
    /// of the broker
    pub address: String,
    /// of Redis
    pub redis: Option<String>,
}

impl Broker {
    /// Starts it, and waits until it is ready.
    pub fn start(with_redis: bool) -> Result<Broker> {
        let services = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/services");
        let wanted = if with_redis { &["up", "kafka", "redis"][..] } else { &["up", "kafka"] };
        let mut script = Command::new(services);
        script.args(wanted).stdout(Stdio::piped());
        // A broker has a disk of its own. On one disk a sync of the log waits for what the broker has not written yet.
        let memory = std::path::Path::new("/dev/shm");
        if memory.is_dir() {
            script.env("TMPDIR", memory);
        }
        let mut script = script.spawn()?;
        let lines = BufReader::new(script.stdout.take().context("it is piped")?).lines();
        let (mut kafka, mut redis) = (None, None);
        for line in lines {
            let line = line?;
            kafka = line.strip_prefix("KAFKA=").map(str::to_string).or(kafka);
            redis = line.strip_prefix("REDIS=").map(str::to_string).or(redis);
            if let Some(address) = kafka.clone().filter(|_| redis.is_some() || !with_redis) {
                return Ok(Broker { script, address, redis });
            }
        }
        anyhow::bail!("{services} up: not all are ready")
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.address);
        client
    }

    /// Makes a topic.
    pub async fn create(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        for made in admin.create_topics([&new], &AdminOptions::new()).await? {
            made.map_err(|(topic, error)| anyhow::anyhow!("{topic}: {error}"))?;
        }
        Ok(())
    }

    fn producer(&self) -> Result<BaseProducer> {
        Ok(self.client().set("linger.ms", "0").set("queue.buffering.max.messages", "1000000").create()?)
    }

    /// Fills a topic; a key's events are in one partition.
    pub fn fill(&self, topic: &str, events: u64) -> Result<()> {
        let start = 1_700_000_000_000_000i64;
        self.fill_with(topic, events, |id| {
            let key = format!("user-{:07}", id % KEYS);
            let payload = event(id, &key, start + id as i64 * 1_000);
            (key, payload.into_bytes())
        })
    }

    /// The same with other events: key and message by number.
    fn fill_with(&self, topic: &str, events: u64, event: impl Fn(u64) -> (String, Vec<u8>)) -> Result<()> {
        let producer: BaseProducer =
            self.client().set("linger.ms", "20").set("batch.num.messages", "10000").create()?;
        for id in 0..events {
            let (key, payload) = event(id);
            let mut record = BaseRecord::to(topic).key(&key).payload(&payload);
            while let Err((_, back)) = producer.send(record) {
                producer.poll(Duration::from_millis(10));
                record = back;
            }
        }
        producer.flush(Duration::from_secs(300))?;
        Ok(())
    }

    /// Reads and parses all of it, and nothing else: CPU seconds of this process.
    fn read_and_parse(&self, topic: &str, events: u64) -> Result<f64> {
        let mut client = self.client();
        client.set("group.id", "bare").set("enable.auto.commit", "false").set("check.crcs", "true");
        client.set("isolation.level", "read_committed").set("fetch.max.bytes", "16777216");
        let consumer: BaseConsumer = client.create()?;
        let mut list = TopicPartitionList::new();
        (0..PARTITIONS).try_for_each(|p| list.add_partition_offset(topic, p, Offset::Beginning))?;
        let before = process_cpu()?;
        consumer.assign(&list)?;
        let (mut left, mut sum) = (events, 0.0);
        while left > 0 {
            let Some(message) = consumer.poll(Duration::from_secs(10)) else { continue };
            let message = message?;
            let parsed: Parsed<'_> = serde_json::from_slice(message.payload().unwrap_or_default())?;
            sum += parsed.x + parsed.key.len() as f64 + parsed.at as f64 + parsed.n as f64;
            sum += (parsed.id.len() + parsed.merchant.len() + parsed.country.len()) as f64;
            left -= 1;
        }
        std::hint::black_box(sum);
        Ok(process_cpu()? - before)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.script.id().to_string()).status();
        let _ = self.script.wait();
    }
}

#[derive(serde::Deserialize)]
struct Parsed<'a> {
    id: &'a str,
    key: &'a str,
    merchant: &'a str,
    country: &'a str,
    x: f64,
    n: i64,
    at: i64,
}

/// CPU seconds of this process, user and system.
fn process_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

async fn consumed(client: &Client, count: u64) -> Result<()> {
    while client.status().await?.sources.get("s").map_or(0, |source| source.consumed) < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// `arguments`: how many events.
pub async fn run(arguments: &[String]) -> Result<()> {
    let events: u64 = arguments.first().map_or(Ok(2_000_000), |count| count.parse())?;
    let broker = Broker::start(false)?;
    broker.create("bench").await?;
    tokio::task::block_in_place(|| broker.fill("bench", events))?;
    let bare = tokio::task::block_in_place(|| broker.read_and_parse("bench", events))?;
    let folder = project(&definitions("bench"))?;
    std::fs::write(folder.path().join("tidemill.toml"), format!("[kafka]\nbrokers = '{}'\n", broker.address))?;
    let (server, client) = tidemill(folder.path()).await?;
    consumed(&client, events).await?;
    let ours = server.cpu()?;
    let rate = |cpu: f64| events as f64 / cpu / 1e3;
    row("JSON from a broker: reading and parsing alone", &format!("{:.0} k events per CPU-second", rate(bare)), "-");
    let figure = format!("{:.0} k events per CPU-second, {:.1} x the CPU", rate(ours), ours / bare);
    row("JSON from a broker: log, apply, commit", &figure, "at least 200 k");
    latency(&broker, &client).await?;
    server.terminate()?;
    for format in FORMATS {
        whole(&broker, &format, events).await?;
    }
    Ok(())
}

/// From a topic of a format to the state.
async fn whole(broker: &Broker, format: &Format, events: u64) -> Result<()> {
    let topic = format!("bench-{}", format.name);
    broker.create(&topic).await?;
    tokio::task::block_in_place(|| {
        broker.fill_with(&topic, events, |id| {
            let txn = Txn::new(id as usize);
            let message = (format.encode)(&txn);
            (txn.card, message)
        })
    })?;
    let features = "[entity.e]\nkey = 'card_id'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\n\
         n = { agg = 'count()', windows = ['30d'] }\ntotal = { agg = 'sum(amount)', windows = ['30d'] }\n\
         most = { agg = 'max(amount)', windows = ['30d'] }\n";
    let folder = project(&format!("{}{features}", format.source(&topic)))?;
    write_schemas(folder.path())?;
    std::fs::write(folder.path().join("tidemill.toml"), format!("[kafka]\nbrokers = '{}'\n", broker.address))?;
    let (server, client) = tidemill(folder.path()).await?;
    consumed(&client, events).await?;
    let figure = format!("{:.0} k events per CPU-second", events as f64 / server.cpu()? / 1e3);
    row(&format!("{} of 7 columns from a broker: log, apply, commit", format.name), &figure, format.bar);
    Ok(())
}

/// Produced to readable while 5,000 events a second come in.
#[allow(clippy::disallowed_methods)]
async fn latency(broker: &Broker, client: &Client) -> Result<()> {
    let producer = broker.producer()?;
    let noise = broker.producer()?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let started = Instant::now();
    let busy = std::thread::spawn(move || {
        let mut sent = 0u64;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let due = started.elapsed().as_micros() as u64 / 200;
            for id in sent..due {
                let key = format!("user-{:07}", id % KEYS);
                let payload = event(id, &key, 1_700_000_000_000_000);
                let _ = noise.send(BaseRecord::to("bench").key(&key).payload(&payload));
            }
            sent = due;
            noise.poll(Duration::from_millis(1));
        }
        sent
    });
    let mut took = Vec::new();
    for sample in 0..300 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let key = format!("sample-{sample}");
        let now = std::time::UNIX_EPOCH.elapsed()?.as_micros() as i64 - 1_000_000;
        let payload = event(sample, &key, now);
        let at = Instant::now();
        let sent = producer.send(BaseRecord::to("bench").key(&key).payload(&payload));
        sent.map_err(|(error, _)| error)?;
        loop {
            producer.poll(Duration::ZERO);
            let mut request = v1::GetRequest { features: vec!["v:n_30d".into()], ..v1::GetRequest::default() };
            request.keys.insert("key".into(), tidemill_client::texts([&key]));
            let answer = client.get(request).await?;
            if answer.columns[0].statuses.is_empty() {
                break;
            }
        }
        took.push(at.elapsed());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let sent = busy.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
    let rate = sent as f64 / started.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| took[(took.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    let question = format!("produced to readable, at {rate:.0} events a second");
    row(&question, &format!("p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99)), "p50 20 ms, p99 100 ms");
    Ok(())
}
