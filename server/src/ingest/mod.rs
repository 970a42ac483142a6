//! Ingest: from decoded events to published, durable state.
//!
//! Two threads in a row, so that waiting for the disk never waits for computing: the `sequencer` gives events their offsets,
//! appends them to the log and acknowledges what is durable; the `applier` folds durable events into records, publishes them
//! to readers and hands changes to the `flusher`, which writes the state store. `recover` brings state and log together at
//! start; `build` derives the state of views that are new, or of which somebody wants it anew (`builds`), while all this runs.
//! Both `walk` over the log and `fold` many events at once. `versions` tells which state to keep, `begun` which views were built
//! after some of the log had gone. `files` feeds file sources in, `history` the files of a source's past (from its `lake`)
//! and `kafka` topics, all by `feed`; where the state lies in a store that several processes share, `shared` is in the
//! applier's place. `changes` are the entities that events have changed, for sinks. `sealing` turns closed segments of the log into Parquet, and `retention` says what of it may go.

mod applier;
mod apply;
mod begun;
mod build;
mod builds;
mod changes;
mod feed;
mod files;
mod flusher;
mod fold;
mod history;
mod kafka;
mod keys;
mod lake;
mod recover;
mod replay;
mod retention;
mod sealing;
mod sequencer;
mod shared;
mod versions;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use tidemill_features::definitions::Registry;
use tokio::sync::{mpsc, oneshot};

pub use self::apply::fitted;
pub use self::begun::{Begun, may_miss};
pub use self::builds::{Build, BuildList, Builds, Unfinished, parts_of};
pub use self::changes::{ChangedKey, Changes, Look, Reached};
pub use self::feed::{Feed, write_durably};
pub use self::files::feed;
pub use self::history::{HistoryFeed, HistoryProgress, history_rows};
pub use self::kafka::{GivenUp, KafkaFeed, KafkaProgress, KafkaState};
pub use self::recover::{Recovered, recover, without_views};
pub use self::retention::{HeldBack, OldestAnswer};
pub use self::shared::{Follower, Group, GroupSource, Member, Parts as SharedParts, Teller, Trouble};

use crate::clock::Clock;
use crate::collections::Collections;
use crate::failure::{Failure, Remedy};
use crate::limits::{APPLY_QUEUE, BUILDS_WAITING, KEPT_PIECES, PUSH_QUEUE, PUSH_WAIT};
use crate::log::{CommitLog, LogPlace, Sealer};
use crate::online::Memory;
use crate::settings::{Keeping, Role};
use crate::source::Decoded;

/// What has been done with a push when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// it has its place in the log; a crash may lose it
    None,
    /// it is on the disk
    Durable,
    /// it is on the disk and visible to reads
    Readable,
}

/// A push that was taken in.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// good events
    pub accepted: u64,
    /// bad events: offset and what was wrong
    pub dead: Vec<crate::log::DeadEvent>,
    /// of the source
    pub partition: u32,
    /// next offset behind the push
    pub next_offset: u64,
}

/// Decoded events on their way to the log.
pub(crate) struct Submission {
    source: usize,
    partition: u32,
    /// where its offsets begin, if they are not given out here
    begins: Option<Begins>,
    accepted_at: i64,
    decoded: Decoded,
    wait: Wait,
    reply: oneshot::Sender<Result<Receipt, Failure>>,
}

/// Where the offsets of events begin that have them already.
#[derive(Clone, Copy, Debug)]
enum Begins {
    /// where the partition ends in the log
    At(u64),
    /// there or beyond: the log has only some events of the partition. What begins before is in it
    Beyond(u64),
}

/// Events of a source that are durable but not applied yet.
#[derive(Debug, Default)]
pub struct Pending {
    events: AtomicU64,
    since: AtomicI64,
    /// what of the source's past is still to come
    pub history: HistoryProgress,
    /// why nothing more of it is applied
    pub halted: parking_lot::Mutex<Option<String>>,
    /// how reading its topics goes
    pub kafka: KafkaProgress,
}

impl Pending {
    /// How many there are.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How far reads are behind at `now`, in microseconds.
    pub fn behind(&self, now: i64) -> i64 {
        if self.events() == 0 { 0 } else { now.saturating_sub(self.since.load(Ordering::Relaxed)) }
    }

    fn add(&self, events: u64, accepted_at: i64) {
        if self.events.fetch_add(events, Ordering::Relaxed) == 0 {
            self.since.store(accepted_at, Ordering::Relaxed);
        }
    }

    fn applied(&self, events: u64, accepted_at: i64) {
        self.since.store(accepted_at, Ordering::Relaxed);
        self.events.fetch_sub(events, Ordering::Relaxed);
    }
}

/// Where pushes go in.
#[derive(Clone)]
pub struct Ingest {
    queue: mpsc::Sender<Submission>,
    /// events that are durable but not applied yet, by source
    pub pending: Arc<Vec<Pending>>,
    /// set while the disk takes nothing
    pub disk_full: Arc<AtomicBool>,
    /// where back-fills are asked for
    pub builds: Arc<Builds>,
    /// what retention would cut and does not
    pub held_back: Arc<parking_lot::Mutex<Option<HeldBack>>>,
    /// whether the state has everything that was there when the process started
    pub ready: Arc<AtomicBool>,
    /// what is wrong with a shared store, while it is
    pub trouble: Arc<Trouble>,
    /// entities that have changed
    pub changes: Arc<Changes>,
}

/// The threads behind an `Ingest`; they end when every handle is gone.
#[derive(Default)]
pub struct IngestThreads {
    /// in the order in which they end
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl IngestThreads {
    /// Waits until everything accepted is applied and on the disk.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("an ingest thread panicked");
            }
        }
    }
}

/// Starts the threads on recovered state; with a shared store, what recovery found are positions in the log, and the state is
/// there.
pub fn start(
    (registry, clock, memory, collections): (Arc<Registry>, Arc<Clock>, Arc<Memory>, Arc<Collections>),
    recovered: Recovered,
    (keeping, oldest_answer): (Keeping, OldestAnswer),
    shared: Option<(SharedParts, Role)>,
) -> (Ingest, IngestThreads) {
    let (queue, submissions) = mpsc::channel(PUSH_QUEUE);
    let (to_apply, applied) = std::sync::mpsc::sync_channel(APPLY_QUEUE);
    let pending: Arc<Vec<Pending>> = Arc::new(registry.sources.iter().map(|_| Pending::default()).collect());
    let disk_full = Arc::new(AtomicBool::new(false));
    let Recovered { log, store, meta, next_offsets, rebuild_mark, commits, view_ids, growing, begun } = recovered;
    let applied_to = meta.applied_to;
    let frontier = Arc::new(build::Frontier::new(applied_to));
    // One message says as much as many: there may be something to seal.
    let (closed, rotated) = std::sync::mpsc::sync_channel(1);
    let log_folder = log.folder().to_path_buf();
    let (kept, held_back) = (Arc::new(retention::Kept::default()), Arc::default());
    let retention = keeping.is_limited().then(|| retention::Retention {
        keeping,
        registry: registry.clone(),
        clock: clock.clone(),
        kept: kept.clone(),
        oldest_answer,
        held_back: Arc::clone(&held_back),
        forced: false,
    });
    let largest = keeping.bytes.map_or(u64::MAX, |bytes| bytes / KEPT_PIECES);
    let sealer = Sealer::new(log_folder.clone(), sealing::key_columns(&registry)).with_compacted_bytes(largest);
    let sealing = sealing::Sealing { sealer, rotated, retention, folder: log_folder.clone() };
    let sequencer = sequencer::Sequencer {
        registry: registry.clone(),
        log,
        next_offsets,
        durable: to_apply.clone(),
        pending: pending.clone(),
        disk_full: disk_full.clone(),
        closed,
        latest_arrival: clock.now(),
    };
    // The applier waits for the flusher between two messages, and so does the builder.
    let (flushes, to_flush) = std::sync::mpsc::sync_channel(4);
    let idle = Arc::new(AtomicBool::new(true));
    let fed = registry.views.iter().filter(|view| view.stream.is_some()).map(|view| view.plan.hash).collect();
    let flusher = flusher::Flusher { store, meta, fed, idle: idle.clone(), rebuild_mark: rebuild_mark.clone(), kept };
    let list = Arc::new(BuildList::default());
    let builder = build::Builder {
        registry: registry.clone(),
        folder: log_folder.clone(),
        frontier: frontier.clone(),
        list: list.clone(),
        to_keep: flushes.clone(),
        to_apply,
        // Half of the machine is left to those who ask; one more thread reads.
        threads: (threads() / 2).max(1),
    };
    let (jobs, asked) = std::sync::mpsc::sync_channel(BUILDS_WAITING);
    first_build(growing, &list, &jobs);
    let builds = Arc::new(Builds { list, jobs });
    let ready = Arc::new(AtomicBool::new(shared.is_none()));
    let trouble = shared.as_ref().map(|(shared, _)| shared.trouble.clone()).unwrap_or_default();
    let left = (begun, keeping.force);
    let positions = memory.read().positions.clone();
    let changes = Arc::new(Changes::new(&registry, applied_to, positions));
    let of_log = LogEnd { commits, log_folder, flushes, idle, ready: ready.clone(), left, changes: changes.clone() };
    let of_views = (rebuild_mark, view_ids, frontier);
    let world = (registry, (memory, collections), clock, pending.clone());
    let applier = applies(shared, world, of_log, of_views, applied_to);
    let ingest = Ingest { queue, pending, disk_full, builds, held_back, ready, trouble, changes };
    let threads = spawn((sequencer, submissions), (applier, applied), (flusher, to_flush), sealing, (builder, asked));
    (ingest, threads)
}

/// What stands behind the log, whoever applies its events.
struct LogEnd {
    commits: CommitLog,
    log_folder: PathBuf,
    flushes: SyncSender<flusher::ToKeep>,
    idle: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
    /// what views never saw, and whether they begin without what they need
    left: (Arc<Begun>, bool),
    changes: Arc<Changes>,
}

/// What both of them need: definitions, the state with the indexes beside it, the clock, and what waits.
type World = (Arc<Registry>, (Arc<Memory>, Arc<Collections>), Arc<Clock>, Arc<Vec<Pending>>);

/// What runs on the applier's thread.
type Applies = Box<dyn FnOnce(&Receiver<applier::ToApply>) + Send>;

/// Who applies events: to memory, or to a shared store.
fn applies(
    shared: Option<(SharedParts, Role)>,
    (registry, (memory, collections), clock, pending): World,
    LogEnd { commits, log_folder, flushes, idle, ready, left: (begun, force), changes }: LogEnd,
    (rebuild_mark, view_ids, frontier): (PathBuf, Vec<u32>, Arc<build::Frontier>),
    applied_to: LogPlace,
) -> Applies {
    match shared {
        // Events of a group do not come through the log; what does are bad ones.
        Some((_, Role::Ingest)) => Box::new(move |letters| shared::take_letters(letters, &pending)),
        Some((shared, _)) => {
            let (folder, to_keep) = (log_folder, flushes);
            let neighbours = shared.neighbours.clone();
            let parts = shared::LogParts {
                registry,
                memory,
                clock,
                pending,
                commits,
                folder,
                begun,
                force,
                to_keep,
                idle,
                neighbours,
                ready,
                changes,
            };
            let driver = shared::FromLog::new(shared::Engine::new(shared), parts, applied_to);
            Box::new(move |to_apply| driver.run(to_apply))
        }
        None => {
            let parts = applier::Parts {
                registry,
                memory,
                collections,
                clock,
                pending,
                commits,
                idle,
                rebuild_mark,
                view_ids,
                log_folder,
                frontier,
                changes,
            };
            let applier = applier::Applier::new(parts, applied_to, flushes);
            Box::new(move |to_apply| applier.run(to_apply))
        }
    }
}

/// Starts each part on a thread of its own, with what it takes in.
fn spawn(
    (sequencer, submissions): (sequencer::Sequencer, mpsc::Receiver<Submission>),
    (applier, applied): (Applies, Receiver<applier::ToApply>),
    (flusher, to_flush): (flusher::Flusher, Receiver<flusher::ToKeep>),
    sealing: sealing::Sealing,
    (builder, asked): (build::Builder, Receiver<build::Job>),
) -> IngestThreads {
    let thread = |name: &str, run: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.to_string())
            .spawn(run)
            .expect("the system has room for a thread at start")
    };
    let sequencer = thread("sequencer", Box::new(move || sequencer.run(submissions)));
    let builder = thread("builder", Box::new(move || builder.run(&asked)));
    let applier = thread("applier", Box::new(move || applier(&applied)));
    let flusher = thread("flusher", Box::new(move || flusher.run(&to_flush)));
    let sealing = thread("sealing", Box::new(move || sealing.run()));
    IngestThreads { threads: vec![sequencer, builder, applier, flusher, sealing] }
}

/// Views that recovery has left to be built are built together, in one walk over the log.
fn first_build(mut growing: Vec<fold::Growing>, list: &BuildList, jobs: &std::sync::mpsc::SyncSender<build::Job>) {
    for is_rebuild in [false, true] {
        let growing: Vec<_> = growing.extract_if(.., |view| view.is_rebuild == is_rebuild).collect();
        if growing.is_empty() {
            continue;
        }
        let build = Arc::new(Build::new(growing.iter().map(|view| view.view).collect(), is_rebuild));
        build.tell(&growing);
        list.add(build.clone());
        // The queue is empty and has room for both.
        let _ = jobs.try_send(build::Job { build, growing });
    }
}

/// Threads that this machine runs side by side.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn stopping<E>(_: E) -> Failure {
    Failure::new(Remedy::Unavailable, "E1013", "the server is stopping")
}

impl Ingest {
    /// Takes decoded events in and waits as long as asked.
    pub async fn submit(
        &self,
        source: usize,
        partition: u32,
        accepted_at: i64,
        decoded: Decoded,
        wait: Wait,
    ) -> Result<Receipt, Failure> {
        self.enqueue(source, partition, accepted_at, decoded, wait).await?.await
    }

    /// Takes decoded events into the queue, in the order of the calls; what comes back waits as long as asked.
    pub async fn enqueue(
        &self,
        source: usize,
        partition: u32,
        accepted_at: i64,
        decoded: Decoded,
        wait: Wait,
    ) -> Result<impl Future<Output = Result<Receipt, Failure>> + Send + use<>, Failure> {
        let overloaded = || {
            Failure::new(
                Remedy::Exhausted,
                "E1012",
                "more events are coming in than the disk takes; send them again later",
            )
        };
        let place = tokio::time::timeout(PUSH_WAIT, self.queue.reserve()).await.map_err(|_| overloaded())?;
        let place = place.map_err(stopping)?;
        let (reply, answer) = oneshot::channel();
        place.send(Submission { source, partition, begins: None, accepted_at, decoded, wait, reply });
        Ok(async move { answer.await.map_err(stopping)? })
    }

    /// Takes events in that have their offsets already, however long the queue is full. Offsets of `decoded` count from `begins`
    /// on, where the partition ends in the log: what is no event in between (gaps of a topic) is spanned.
    pub async fn enqueue_at(
        &self,
        (source, partition, begins): (usize, u32, u64),
        accepted_at: i64,
        decoded: Decoded,
    ) -> Result<impl Future<Output = Result<Receipt, Failure>> + Send + use<>, Failure> {
        let place = self.queue.reserve().await.map_err(stopping)?;
        let (reply, answer) = oneshot::channel();
        let (begins, wait) = (Some(Begins::At(begins)), Wait::Durable);
        place.send(Submission { source, partition, begins, accepted_at, decoded, wait, reply });
        Ok(async move { answer.await.map_err(stopping)? })
    }

    /// Keeps bad events in a log that has no others of their partition. They are durable when this returns.
    pub(crate) async fn keep_letters(
        &self,
        (source, partition, begins): (usize, u32, u64),
        accepted_at: i64,
        decoded: Decoded,
    ) -> Result<Receipt, Failure> {
        let place = self.queue.reserve().await.map_err(stopping)?;
        let (reply, answer) = oneshot::channel();
        let (begins, wait) = (Some(Begins::Beyond(begins)), Wait::Durable);
        place.send(Submission { source, partition, begins, accepted_at, decoded, wait, reply });
        answer.await.map_err(stopping)?
    }

    /// Of a process that takes no events in.
    pub fn closed(registry: &Registry) -> Ingest {
        let (jobs, _) = std::sync::mpsc::sync_channel(1);
        Ingest {
            queue: mpsc::channel(1).0,
            pending: Arc::new(registry.sources.iter().map(|_| Pending::default()).collect()),
            disk_full: Arc::default(),
            builds: Arc::new(Builds { list: Arc::new(BuildList::default()), jobs }),
            held_back: Arc::default(),
            ready: Arc::default(),
            trouble: Arc::default(),
            changes: Arc::new(Changes::new(registry, LogPlace::default(), Default::default())),
        }
    }
}
