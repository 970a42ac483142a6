//! The one place where settings become parts, and parts a server.

mod shared;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_features::definitions::{Connector, Registry};

use crate::catalog::project;
use crate::clock::Clock;
use crate::collections::{Collections, Upkeep};
use crate::failure::Failure;
use crate::ingest::{
    Feed, Follower, Group, GroupSource, HistoryFeed, Ingest, IngestThreads, KafkaFeed, Member, OldestAnswer,
    SharedParts, Teller, feed, recover, start, without_views,
};
use crate::limits::{JOBS_MAX, SEARCH_SCANS_MAX, SEGMENT_BYTES};
use crate::log::Archiving;
use crate::objects::{ObjectUrl, Objects};
use crate::online::Memory;
use crate::serving::SharedReads;
use crate::serving::get::Reader;
use crate::serving::past::Past;
use crate::serving::sample::{Sampler, oldest};
use crate::serving::search::quality::Quality;
use crate::serving::sink::{self, SinkProgress};
use crate::serving::trickle::Verification;
use crate::settings::{KafkaSettings, Keeping, RedisSettings, Role, S3Settings, Settings};
use crate::source::kafka;
use crate::source::message::{MessageReader, without_schemas};

/// A running engine: what the doors (gRPC, HTTP) stand on.
pub struct Server {
    /// the definitions
    pub registry: Arc<Registry>,
    /// the state
    pub memory: Arc<Memory>,
    /// the clock
    pub clock: Arc<Clock>,
    /// where pushes go in
    pub ingest: Ingest,
    /// where reads come out
    pub reader: Reader,
    /// indexes of vectors, by embedding
    pub collections: Arc<Collections>,
    /// what walks over graphs have missed
    pub quality: Quality,
    /// searches that read the records of whole collections
    pub scans: tokio::sync::Semaphore,
    _upkeep: Upkeep,
    /// by source: key columns of the entities that it feeds
    pub keys: Vec<Arc<Vec<Vec<usize>>>>,
    /// where the log is
    pub log_folder: PathBuf,
    /// files by URL
    pub objects: Arc<Objects>,
    /// set when the server stops
    pub stopping: Arc<AtomicBool>,
    /// places for exports and snapshots
    pub jobs: Arc<tokio::sync::Semaphore>,
    /// how far the verification in the background is
    pub verification: parking_lot::Mutex<Verification>,
    /// by sink: how it is doing
    pub sinks: Vec<SinkProgress>,
    closing: tokio::sync::watch::Sender<bool>,
    /// by source: why it reads no more
    pub stopped: parking_lot::Mutex<std::collections::HashMap<usize, String>>,
    /// the shared store
    shared: Option<SharedParts>,
    /// what the process does
    pub role: Role,
    /// where it listens
    address: String,
}

/// Checks a project for serving: no problems, and nothing that this version cannot run.
pub fn load_project(folder: &Path) -> Result<Registry, Failure> {
    let registry = project::load(folder)?.map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::invalid("E5008", format!("{} problems in the definitions\n{}", problems.len(), all.join("\n")))
    })?;
    if registry.not_ready.is_empty() {
        return Ok(registry);
    }
    let reasons = registry.not_ready.join("\n  ");
    Err(Failure::invalid("E5009", format!("the project is right, but this version cannot run all of it:\n  {reasons}")))
}

/// Checks that the settings have what the sources of a project need.
pub fn check_kafka(registry: &Registry, settings: &KafkaSettings) -> Result<(), Failure> {
    let mut of_kafka = registry.sources.iter().filter(|source| matches!(source.connector, Connector::Kafka(_)));
    let what = match (of_kafka.next(), registry.sinks.first()) {
        (Some(source), _) => format!("source `{}` reads from Kafka", source.name),
        (None, Some(sink)) => format!("sink `{}` writes to Kafka", sink.name),
        (None, None) => return Ok(()),
    };
    if !settings.is_set() {
        let message =
            format!("{what}, but no brokers are named: set kafka.brokers in tidemill.toml, such as \"127.0.0.1:9092\"");
        return Err(Failure::invalid("E5040", message));
    }
    let mut of_registry = registry.sources.iter().filter(|source| MessageReader::needs_registry(source));
    if let Some(source) = of_registry.next().filter(|_| settings.registry.urls.is_empty()) {
        return Err(without_schemas(source));
    }
    kafka::check(settings)
        .map_err(|what| Failure::invalid("E5041", format!("the settings of Kafka cannot be used: {what}")))
}

/// How an engine runs, besides its clock and its folder.
#[derive(Clone, Debug)]
pub struct Options {
    /// share of all keys whose answers are kept for verification
    pub verify_share: f64,
    /// bytes after which the event log starts a new segment
    pub segment_bytes: u64,
    /// how much of the event log is kept
    pub keeping: Keeping,
    /// where the sealed files of the event log are kept besides, and how many bytes of them stay here
    pub archive: Option<(ObjectUrl, u64)>,
    /// object stores
    pub s3: S3Settings,
    /// the shared store; None: the state lives in this process
    pub redis: Option<RedisSettings>,
    /// what the process does
    pub role: Role,
    /// where it listens, for others to see
    pub address: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            verify_share: 0.0,
            segment_bytes: SEGMENT_BYTES,
            keeping: Keeping::default(),
            archive: None,
            s3: S3Settings::default(),
            redis: None,
            role: Role::All,
            address: String::new(),
        }
    }
}

impl Options {
    /// As the settings have them.
    pub fn of(settings: &Settings) -> Self {
        Options {
            verify_share: settings.verify_share,
            segment_bytes: settings.segment_bytes,
            keeping: settings.keeping,
            archive: settings.archive.clone().map(|url| (url, settings.archive_cache_bytes)),
            s3: settings.s3.clone(),
            redis: settings.redis.clone(),
            role: settings.role,
            address: settings.listen.to_string(),
        }
    }
}

impl Server {
    /// Recovers what the data directory holds and starts ingest.
    pub fn open(registry: Registry, data_dir: &Path) -> Result<(Arc<Server>, IngestThreads), Failure> {
        Server::open_at(registry, data_dir, Clock::default(), Options::default())
    }

    /// The same with a clock of one's own, and other options.
    pub fn open_at(
        registry: Registry,
        data_dir: &Path,
        clock: Clock,
        options: Options,
    ) -> Result<(Arc<Server>, IngestThreads), Failure> {
        let named = |e: std::io::Error| Failure::invalid("E5011", format!("{}: {e}", data_dir.display()));
        std::fs::create_dir_all(data_dir).map_err(named)?;
        let registry = Arc::new(registry);
        let memory = Arc::new(Memory::new(registry.sources.len(), registry.views.len()));
        let clock = Arc::new(clock);
        let objects = Arc::new(Objects::new(options.s3));
        let log_folder = data_dir.join("log");
        let beside = data_dir.join("files");
        let archiving = |(url, cache_bytes)| Archiving { objects: objects.clone(), url, cache_bytes, beside };
        let archiving = options.archive.map(archiving);
        let (keeping, role) = (options.keeping, options.role);
        let sizes = (options.segment_bytes, keeping.force);
        let stopping = Arc::new(AtomicBool::new(false));
        let answers = data_dir.join("answers");
        // Only who has the whole log can recompute answers.
        let verify_share = if role == Role::All { options.verify_share } else { 0.0 };
        let sampler = Sampler::start(&answers, verify_share);
        let collections = Arc::new(Collections::open(&registry, &data_dir.join("neighbours"))?);
        let parts = (registry.clone(), clock.clone(), memory.clone(), collections.clone());
        let shared = options.redis.map(|redis| shared::open(&redis, role, &parts, &stopping)).transpose()?;
        let (past, ingest, threads) = match &shared {
            Some(_) if role == Role::Serve => {
                let past = Past::new(registry.clone(), memory.clone(), Arc::default(), log_folder.clone());
                (past.beside_shared(false), Ingest::closed(&registry), IngestThreads::default())
            }
            shared => {
                let bare = shared.as_ref().map(|_| without_views(&registry));
                let known = (bare.as_ref().unwrap_or(&registry), &*memory, &*clock);
                let recovered = recover(data_dir, known, sizes, archiving.as_ref())?;
                remove_temporary(&data_dir.join("tmp"));
                shared.is_none().then(|| collections.fill(&memory.read(), clock.now())).transpose()?;
                let past = Past::new(registry.clone(), memory.clone(), recovered.begun.clone(), log_folder.clone());
                let past = if shared.is_some() { past.beside_shared(role == Role::All) } else { past };
                if let Some(shared) = shared.as_ref().filter(|_| role == Role::All) {
                    shared::check_positions(shared, &memory)?;
                }
                let oldest_answer: OldestAnswer = Box::new(move || oldest(&answers));
                let shared = shared.clone().map(|shared| (shared, role));
                let (ingest, threads) = start(parts, recovered, (keeping, oldest_answer), shared);
                (past, ingest, threads)
            }
        };
        let mut reader = Reader::new((registry.clone(), memory.clone()), clock.clone(), past, &ingest, sampler);
        reader.shared = shared.as_ref().map(shared_reads);
        let keys = (0..registry.sources.len()).map(|source| Arc::new(key_columns(&registry, source))).collect();
        let sinks = registry.sinks.iter().map(|_| SinkProgress::default()).collect();
        let records = (shared.is_none().then(|| memory.clone()), clock.clone());
        let server = Server {
            registry,
            memory,
            clock,
            ingest,
            reader,
            _upkeep: Upkeep::start(collections.clone(), records, data_dir.join("neighbours"), stopping.clone()),
            collections,
            quality: Quality::default(),
            scans: tokio::sync::Semaphore::new(SEARCH_SCANS_MAX),
            keys,
            log_folder,
            objects,
            stopping,
            jobs: Arc::new(tokio::sync::Semaphore::new(JOBS_MAX)),
            verification: Default::default(),
            sinks,
            closing: tokio::sync::watch::channel(false).0,
            stopped: Default::default(),
            shared,
            role,
            address: options.address,
        };
        Ok((Arc::new(server), threads))
    }

    /// Starts reading the file sources, the histories and the topics; each goes on by itself.
    pub fn feed(
        self: &Arc<Self>,
        project: &Path,
        data_dir: &Path,
        kafka: &KafkaSettings,
    ) -> Result<Vec<tokio::task::JoinHandle<()>>, Failure> {
        let new_feed = |source: usize| Feed {
            registry: self.registry.clone(),
            source,
            keys: self.keys[source].clone(),
            project: project.to_path_buf(),
            data_dir: data_dir.to_path_buf(),
            ingest: self.ingest.clone(),
            clock: self.clock.clone(),
            memory: self.memory.clone(),
            stop: self.stopping.clone(),
            objects: self.objects.clone(),
        };
        let followed = self.follow();
        match self.role {
            Role::All => {}
            Role::Serve => return Ok(followed),
            Role::Ingest => {
                let member = self.group(new_feed, kafka)?;
                let member = tokio::task::spawn_blocking(move || member.run());
                return Ok(followed.into_iter().chain([member]).collect());
            }
        }
        let run = |file_feed: Feed| {
            let server = self.clone();
            tokio::spawn(async move {
                let source = file_feed.source;
                let name = file_feed.registry.sources[source].name.clone();
                match feed(file_feed).await {
                    Ok(()) => tracing::info!(source = name, "all files are read"),
                    Err(failure) => {
                        tracing::error!(source = name, %failure, "the file source has stopped");
                        server.stopped.lock().insert(source, failure.to_string());
                    }
                }
            })
        };
        let files = |at: &usize| matches!(self.registry.sources[*at].connector, Connector::File { .. });
        let of_files = (0..self.registry.sources.len()).filter(files).map(|source| run(new_feed(source)));
        // Reads know from the start what is still to come.
        let histories = (0..self.registry.sources.len()).filter_map(|source| HistoryFeed::new(new_feed(source)));
        let runtime = tokio::runtime::Handle::current();
        let topics = (0..self.registry.sources.len())
            .filter_map(|source| KafkaFeed::new(new_feed(source), kafka.clone(), runtime.clone()))
            .map(|topics| tokio::task::spawn_blocking(move || topics.run()));
        let histories = histories.map(|history| tokio::spawn(history.run()));
        let sinks = sink::start(self, data_dir, kafka)?;
        Ok(of_files.chain(histories).chain(topics).chain(followed).chain(sinks).collect())
    }

    /// Follows a shared store: its vectors, and what all processes do; where this one does everything, tells the others.
    fn follow(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let Some(parts) = self.shared.clone() else { return Vec::new() };
        let name = format!("{}#{:08x}", self.address, rand::random::<u32>());
        let stopping = self.stopping.clone();
        let vectors = parts.neighbours.clone().map(|neighbours| move || neighbours.run(&stopping));
        let mut followed: Vec<_> = vectors.map(tokio::task::spawn_blocking).into_iter().collect();
        let (memory, ingest, clock) = (self.memory.clone(), self.ingest.clone(), self.clock.clone());
        let address = self.address.clone();
        if self.role == Role::All {
            let teller = Teller { parts, memory, ingest, clock, name, address };
            followed.push(tokio::task::spawn_blocking(move || teller.run()));
            return followed;
        }
        let own = Member { role: "serve".into(), address, ..Member::default() };
        let own = (self.role == Role::Serve).then_some((name, own));
        let follower = Follower { parts, memory, ingest, clock, own };
        followed.push(tokio::task::spawn_blocking(move || follower.run()));
        followed
    }

    /// A member of the group that reads all topics.
    fn group(&self, new_feed: impl Fn(usize) -> Feed, kafka: &KafkaSettings) -> Result<Group, Failure> {
        let topics = |at: usize| GroupSource::new(new_feed(at), kafka);
        let sources = (0..self.registry.sources.len()).filter_map(topics).collect::<Result<_, Failure>>()?;
        let shared = self.shared.clone().ok_or_else(|| Failure::internal("E5053", "a group needs a shared store"))?;
        Group::new(shared, kafka, sources, self.address.clone())
    }

    /// Where served answers are kept for verification.
    pub fn answers_folder(&self) -> PathBuf {
        self.log_folder.with_file_name("answers")
    }

    /// Asks everything that runs by itself to stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.ingest.builds.list.stop();
        self.closing.send_replace(true);
    }

    /// Is done when the server stops: for what would wait for a client forever.
    pub async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

fn shared_reads(shared: &SharedParts) -> SharedReads {
    let SharedParts { store, runtime, neighbours, .. } = shared.clone();
    SharedReads { store, runtime, neighbours }
}

/// What jobs of a process that was killed have left; the state's lock says that no other process uses it.
fn remove_temporary(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "temporary files stay in {}", folder.display());
        }
        _ => {}
    }
}

fn key_columns(registry: &Registry, source: usize) -> Vec<Vec<usize>> {
    let mut keys: Vec<Vec<usize>> = Vec::new();
    for view in &registry.views {
        let stream = view.stream.as_ref().filter(|stream| stream.source == source);
        keys.extend(
            stream.filter(|stream| !keys.contains(&stream.key_columns)).map(|stream| stream.key_columns.clone()),
        );
    }
    keys
}

/// What the parts of a process share.
type Shared = (Arc<Registry>, Arc<Clock>, Arc<Memory>, Arc<Collections>);
