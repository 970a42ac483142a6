//! Redis as the store: what does a Get over it cost beside an embedded Get and a bare MGET of the same keys, and how many records a
//! second go in through the script?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidemill::online::{Outcome, PartitionStep, Progress, RecordStep, RedisStore, ShardCommit, SourcePartition};
use tidemill::settings::RedisSettings;
use tidemill_client::{Client, texts, v1};
use tokio_stream::StreamExt;

use crate::processes::{Process, free_address, project, tidemill};
use crate::reads::{ENTITIES, cost, definitions, fill};
use crate::row;

/// Gets whose latency is taken, one after the other: some embedded, some bare, some over Redis, and again, since other work on the
/// machine comes and goes. In a hundred MGETs one behind the other Redis never rests; where they come one by one it has to be woken,
/// as it has for each Get.
const GETS: usize = 10_000;
/// How many of a kind come together, and whether cores are kept awake: one that has nothing to do goes to sleep, and what wakes it
/// costs a Get over Redis twice as often as any other.
const CASES: [(usize, bool, &str); 4] = [
    (1, true, "one by one"),
    (100, true, "in turns of a hundred"),
    (1, false, "one by one, cores that sleep"),
    (100, false, "in turns of a hundred, cores that sleep"),
];
const REQUESTS: usize = 20_000;
/// Commits of as many records as one may have.
const COMMITS: usize = 8_000;
const RECORDS: usize = 32;
/// Under way at once, as ingest has them.
const IN_FLIGHT: usize = 64;

/// Where `tests/services` has put a program.
fn installed(name: &str) -> Result<String> {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/services");
    let asked = Command::new(script).args(["path", name]).output()?;
    ensure!(asked.status.success(), "run `tests/services install` first: {}", String::from_utf8_lossy(&asked.stderr));
    Ok(String::from_utf8(asked.stdout)?.lines().next().unwrap_or_default().to_string())
}

/// An empty Redis that keeps nothing.
fn redis() -> Result<Process> {
    let address = free_address()?;
    let port = address.rsplit(':').next().unwrap_or_default().to_string();
    let mut command = Command::new(installed("redis")?);
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let process = Process::start(&mut command, address)?;
    for _ in 0..500 {
        if TcpStream::connect(&process.address).is_ok() {
            return Ok(process);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("Redis did not start")
}

/// Keeps every core awake until it is dropped, by work that gives way to all other.
fn awake() -> Result<Vec<Process>> {
    let spin = || {
        let mut command = Command::new("chrt");
        Process::start(command.args(["--idle", "0", "sh", "-c", "while :; do :; done"]), String::new())
    };
    (0..std::thread::available_parallelism()?.get()).map(|_| spin()).collect()
}

/// The least that speaks to Redis: a command out, an answer in.
struct Wire(BufReader<TcpStream>);

enum Answer {
    Bytes(Vec<u8>),
    Array(Vec<Answer>),
}

impl Wire {
    fn connect(address: &str) -> Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Wire(BufReader::new(stream)))
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<Answer> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let (kind, rest) = line.trim_end().split_at_checked(1).context("Redis has closed the connection")?;
        match kind {
            "*" => (0..rest.parse::<usize>()?).map(|_| self.answer()).collect::<Result<_>>().map(Answer::Array),
            "$" if rest == "-1" => Ok(Answer::Bytes(Vec::new())),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Answer::Bytes(bytes))
            }
            _ => Ok(Answer::Bytes(rest.as_bytes().to_vec())),
        }
    }

    /// Names of all records of the prefix.
    fn records(&mut self) -> Result<Vec<Vec<u8>>> {
        let Answer::Array(names) = self.ask(&[b"KEYS", b"{tidemill:s*}:r:*"])? else { anyhow::bail!("no list") };
        Ok(names
            .into_iter()
            .filter_map(|name| if let Answer::Bytes(name) = name { Some(name) } else { None })
            .collect())
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Times of some Gets, one after the other.
#[allow(clippy::disallowed_methods)]
async fn gets(client: &Client, service: &str, turn: Range<usize>, times: &mut Vec<f64>) -> Result<()> {
    for i in turn {
        let keys = [("key".to_string(), texts([format!("entity-{}", i * 31 % ENTITIES)]))].into();
        let request = v1::GetRequest { service: service.into(), keys, ..v1::GetRequest::default() };
        let begin = Instant::now();
        client.get(request).await?;
        times.push(begin.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Times of bare MGETs of `views` keys of one entity.
#[allow(clippy::disallowed_methods)]
fn mgets(wire: &mut Wire, names: &[Vec<u8>], views: usize, turn: Range<usize>, times: &mut Vec<f64>) -> Result<()> {
    for i in turn {
        let first = i * 31 * views % (names.len() - views);
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        words.extend(names[first..first + views].iter().map(Vec::as_slice));
        let begin = Instant::now();
        wire.ask(&words)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn settings(address: &str, prefix: &str) -> RedisSettings {
    RedisSettings {
        addresses: vec![address.to_string()],
        cluster: false,
        prefix: prefix.to_string(),
        username: None,
        password: None,
        tls: false,
        ca_file: None,
        timeout: Duration::from_secs(10),
    }
}

/// Records a second through the script, with as many commits under way as ingest has, each in a shard of its own.
#[allow(clippy::disallowed_methods)]
async fn commits(redis: &Process) -> Result<()> {
    let store = RedisStore::open(&settings(&redis.address, "commits")).await?;
    let partition = SourcePartition { source: "s".into(), partition: 0 };
    let token = rand::random();
    store.claim(&partition, token, None).await?;
    let body: Box<[u8]> = vec![7; 150].into();
    let (begin, cpu) = (Instant::now(), redis.cpu()?);
    let mut workers = Vec::new();
    for shard in 0..IN_FLIGHT {
        let (store, partition, body) = (store.clone(), partition.clone(), body.clone());
        workers.push(tokio::spawn(async move {
            let mut stored = Progress { token, ..Progress::default() };
            for n in 0..COMMITS / IN_FLIGHT {
                let batch = rand::random();
                let to = Progress { batch, next: stored.next + 1, sequence: stored.sequence + 1, ..stored.clone() };
                let partitions =
                    vec![PartitionStep { partition: partition.clone(), from: stored.state(), to: to.clone() }];
                let key = |record: usize| {
                    // The store trusts its callers to know the shard of a key; any key of it will do.
                    let mut candidates = (0u64..).map(|i| ((n * RECORDS + record) as u64, i));
                    let bytes = |(a, b): (u64, u64)| [a.to_le_bytes(), b.to_le_bytes()].concat();
                    candidates.find_map(|pair| Some(bytes(pair)).filter(|k| tidemill::place::shard_of(k) == shard))
                };
                let records = (0..RECORDS).filter_map(|record| {
                    let key = key(record)?.into_boxed_slice();
                    Some(RecordStep {
                        key: (1, key),
                        from: None,
                        body: Some(body.clone()),
                        chunks: Vec::new(),
                        is_followed: false,
                    })
                });
                let commit = ShardCommit { shard, batch, partitions, records: records.collect(), at_home: false };
                ensure!(store.commit(&commit).await? == Outcome::Done, "a commit of the one owner is done");
                stored = to;
            }
            Ok(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    let records = (COMMITS * RECORDS) as f64;
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), redis.cpu()? - cpu);
    let figure = format!("{:.0} k a second, {:.0} k a CPU-second of Redis", records / wall / 1e3, records / cpu / 1e3);
    row("new records of 150 bytes through the script, 32 a commit", &figure, "at least 40 k");
    Ok(())
}

/// Events through log, apply and commit: CPU of our process.
async fn ingest(server: &Process, client: &Client) -> Result<()> {
    let events = 400_000u64;
    let batch = 5_000;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_micros() as i64;
    let lines = move |number: u64| {
        let line = |id: u64| {
            format!("{{\"key\":\"user-{}\",\"x\":{},\"at\":{}}}\n", id * 7919 % 100_000, id % 977, now - id as i64)
        };
        let text: String = (number * batch..(number + 1) * batch).map(line).collect();
        let rows = Some(v1::push_request::Rows::Ndjson(text.into_bytes().into()));
        v1::PushRequest { source: "s".into(), rows, wait: v1::Wait::Readable as i32 }
    };
    let before = server.cpu()?;
    let mut answers = client.push_stream(tokio_stream::iter((0..events / batch).map(lines))).await?;
    while let Some(answer) = answers.next().await {
        ensure!(answer?.dead_lettered == 0, "dead letters");
    }
    let rate = events as f64 / (server.cpu()? - before);
    row("pushed events over 11 views into Redis", &format!("{:.1} k a CPU-second of ours", rate / 1e3), "-");
    Ok(())
}

pub async fn run() -> Result<()> {
    let redis = redis()?;
    commits(&redis).await?;
    let (embedded, shared) = (project(&definitions())?, project(&definitions())?);
    let address = &redis.address;
    std::fs::write(
        shared.path().join("tidemill.toml"),
        format!("store = \"redis\"\n[redis]\naddress = \"{address}\"\n"),
    )?;
    let (here, here_client) = tidemill(embedded.path()).await?;
    let (there, there_client) = tidemill(shared.path()).await?;
    fill(&here_client).await?;
    fill(&there_client).await?;
    let mut wire = Wire::connect(address)?;
    let names = wire.records()?;
    for (service, views, what) in [("one", 1, "one view"), ("ten", 10, "ten views")] {
        for (together, is_awake, case) in CASES {
            let _awake = if is_awake { awake()? } else { Vec::new() };
            let (mut own, mut bare, mut over) = (Vec::new(), Vec::new(), Vec::new());
            for first in (0..GETS).step_by(together) {
                let turn = first..first + together;
                gets(&here_client, service, turn.clone(), &mut own).await?;
                mgets(&mut wire, &names, views, turn.clone(), &mut bare)?;
                gets(&there_client, service, turn, &mut over).await?;
            }
            let [own, bare, over] = [own, bare, over].map(|times| median(times) * 1e6);
            let more = over - own - bare;
            let figure = format!("{over:.0} us; embedded {own:.0} us, bare MGET {bare:.0} us: {more:+.0} us");
            row(&format!("p50 of a Get of 1 x 10 features, {what}, over Redis, {case}"), &figure, "at most +30 us");
        }
        let own = cost(&here, &here_client, service, 1, REQUESTS).await?;
        let over = cost(&there, &there_client, service, 1, REQUESTS).await?;
        let figure = format!("{:.1} us against {:.1} us embedded: {:.2}", over * 1e6, own * 1e6, over / own);
        row(&format!("server CPU of a Get of 1 x 10 features, {what}, over Redis"), &figure, "at most 2");
    }
    ingest(&there, &there_client).await
}
