//! Recovery: state and log brought together at start.
//!
//! The store says up to which place of the log each view is applied. What stands behind is replayed before the server answers
//! anything, where it is short; a view that misses more of the log, because it is new or its build was interrupted, is left to
//! the builder. A store that is damaged is set aside and derived anew.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_features::definitions::{Registry, View};

use super::begun::Begun;
use super::fold::Growing;
use super::replay::{Replay, Replayed};
use super::versions::settle;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::limits::BUILD_AT_START_SHARE;
use crate::log::{
    Archiving, CommitLog, Cut, LogError, LogPlace, LogWriter, attach_archive, bytes_behind, cut_of, read_commits,
    remove_leftovers,
};
use crate::online::{Embedded, Memory, Meta, SourceLedger, Sources, StoreError, ViewMeta, ViewState};

/// What ingest starts from.
pub struct Recovered {
    pub(super) log: LogWriter,
    pub(super) store: Embedded,
    pub(super) meta: Meta,
    pub(super) next_offsets: HashMap<(usize, u32), u64>,
    pub(super) rebuild_mark: PathBuf,
    pub(super) commits: CommitLog,
    /// by place in the registry: id of the version in the store
    pub(super) view_ids: Vec<u32>,
    /// views that are to be built while the rest serves
    pub(super) growing: Vec<Growing>,
    /// views that were built after some of the log had gone
    pub begun: Arc<Begun>,
}

/// Definitions without their views: what recovery has to know where the state lies elsewhere.
pub fn without_views(registry: &Registry) -> Registry {
    let sources = registry.sources.clone();
    Registry {
        sources,
        entities: Vec::new(),
        views: Vec::new(),
        embeddings: Vec::new(),
        services: Vec::new(),
        sinks: Vec::new(),
        hash: registry.hash,
        not_ready: Vec::new(),
    }
}

/// Brings what the data directory holds into memory, but for views that miss much of the log. The log starts a new segment
/// after so many bytes. With `force`, views are also built from a log that no longer has what they need.
pub fn recover(
    data_dir: &Path,
    parts: (&Registry, &Memory, &Clock),
    options: (u64, bool),
    archiving: Option<&Archiving>,
) -> Result<Recovered, Failure> {
    match recover_once(data_dir, parts, options, archiving) {
        // A record that passed its checksum is broken inside: all of the state is derived anew, once.
        Err(failure) if failure.code == "E1016" => {
            let _ = std::fs::write(data_dir.join(REBUILD_MARK), &failure.message);
            recover_once(data_dir, parts, options, archiving)
        }
        other => other,
    }
}

fn recover_once(
    data_dir: &Path,
    (registry, memory, clock): (&Registry, &Memory, &Clock),
    (segment_bytes, force): (u64, bool),
    archiving: Option<&Archiving>,
) -> Result<Recovered, Failure> {
    let folder = data_dir.join("log");
    let broken = |e: LogError| e.failure("E1018");
    let Opened { store, mut meta, mut states } = match open_store(data_dir, registry) {
        Err(StoreError::Damaged(what)) => {
            let aside = set_aside(data_dir)
                .map_err(|e| Failure::internal("E1017", format!("the damaged state cannot be moved: {e}")))?;
            tracing::warn!(what, aside, "the state store is damaged: deriving the state anew from the event log");
            open_store(data_dir, registry)
        }
        other => other,
    }
    .map_err(|error| match error {
        StoreError::InUse(_) => Failure::invalid("E5010", format!("{} is used by another process", data_dir.display())),
        other => Failure::internal("E1017", other.to_string()),
    })?;
    clock.advance(meta.clock);
    // The store is locked: no other process seals this log.
    attach_archive(&folder, archiving.cloned()).map_err(broken)?;
    remove_leftovers(&folder).map_err(broken)?;
    let cut = cut_of(&folder).map_err(broken)?;
    count_cut(&mut meta, &cut);
    let mut begun = Begun::load(data_dir)?;
    begun.begin(registry, &meta, &cut, (clock.now(), force))?;
    let (now, later) = divided(registry, &mut meta, &mut states, |view, from| {
        // What a cut log leaves in doubt is found by one walk over all of it.
        let is_short = || Ok(bytes_behind(&folder, from).map_err(broken)? < segment_bytes / BUILD_AT_START_SHARE);
        if begun.of(view).is_some() { Ok(true) } else { is_short() }
    })?;
    let sources = sources(registry, &meta);
    let replay = Replay { folder: &folder, registry, clock, store: &store };
    let Replayed { end, sources, whole } = replay.run(&mut meta, sources, now, &mut begun)?;
    let next_offsets =
        sources.positions.iter().map(|((source, partition), next)| ((*source as usize, *partition), *next)).collect();
    let mut log = LogWriter::open(&folder, end).map_err(broken)?;
    log.set_segment_bytes(segment_bytes);
    let commits = noted(&folder, registry, &next_offsets, clock)?;
    memory.restore(sources);
    memory.replace(whole);
    let id = |hash: &u64| meta.views.get(hash).map_or(0, |version| version.id);
    let view_ids = registry.views.iter().map(|view| id(&view.plan.hash)).collect();
    let (rebuild_mark, begun) = (data_dir.join(REBUILD_MARK), Arc::new(begun));
    Ok(Recovered { log, store, meta, next_offsets, rebuild_mark, commits, view_ids, growing: later, begun })
}

/// The views that are brought up to date before anything is answered, and those that are left to the builder. `is_short` tells
/// whether a view may wait for what stands behind a place of the log.
fn divided(
    registry: &Registry,
    meta: &mut Meta,
    states: &mut BTreeMap<u32, ViewState>,
    is_short: impl Fn(&View, LogPlace) -> Result<bool, Failure>,
) -> Result<(Vec<Growing>, Vec<Growing>), Failure> {
    let (mut now, mut later) = (Vec::new(), Vec::new());
    let mut growing = |at: usize, hash: u64, version: &ViewMeta| {
        let state = states.remove(&version.id).unwrap_or_default();
        Growing::new(at, hash, version.id, version.applied_to, ViewState { ledger: version.ledger, ..state })
    };
    for (at, view) in registry.views.iter().enumerate().filter(|(_, view)| view.stream.is_some()) {
        let hash = view.plan.hash;
        let Some(version) = meta.views.get(&hash) else { continue };
        // What was whole at the last commit misses little; what is new in an empty store is derived with everything else.
        let is_whole = version.applied_to >= meta.applied_to || is_short(view, version.applied_to)?;
        if !is_whole {
            tracing::info!(view = view.name, "to be built from the event log, while everything else serves");
        }
        let list = if is_whole { &mut now } else { &mut later };
        list.push(growing(at, hash, version));
        match meta.rebuilds.get(&hash) {
            Some(version) if is_whole => {
                tracing::info!(view = view.name, "its back-fill goes on");
                later.push(growing(at, hash, version).anew());
            }
            // The first build comes out as the back-fill would.
            Some(version) => {
                meta.dropped.insert(version.id);
                meta.rebuilds.remove(&hash);
            }
            None => {}
        }
    }
    Ok((now, later))
}

fn sources(registry: &Registry, meta: &Meta) -> Sources {
    let source_at = |name: &str| registry.source(name).map(|at| at as u32);
    Sources {
        positions: meta.positions.iter().filter_map(|((s, p), next)| Some(((source_at(s)?, *p), *next))).collect(),
        ledgers: registry.sources.iter().map(|s| meta.sources.get(&s.name).copied().unwrap_or_default()).collect(),
        row_errors: 0,
    }
}

/// The notes of commits. What a crash kept from being published can be read from now on.
fn noted(
    folder: &Path,
    registry: &Registry,
    next_offsets: &HashMap<(usize, u32), u64>,
    clock: &Clock,
) -> Result<CommitLog, Failure> {
    let broken = |e: crate::log::LogError| Failure::internal("E1018", e.to_string());
    let sources: Vec<&str> =
        registry.sources.iter().filter(|source| source.is_stream_live()).map(|source| source.name.as_str()).collect();
    let mut commits = CommitLog::open(folder, &sources).map_err(broken)?;
    for (at, source) in registry.sources.iter().enumerate().filter(|(_, source)| source.is_stream_live()) {
        let notes = read_commits(folder, &source.name).map_err(broken)?;
        for ((_, partition), next) in
            next_offsets.iter().filter(|((of, number), _)| *of == at && source.is_live(*number))
        {
            let last = notes.get(partition).and_then(|notes| notes.last()).map(|(next, _)| *next);
            if last.is_none_or(|last| last < *next) {
                // Of a time without notes nobody knows: its events count from their arrival on.
                let time = if commits.is_new(&source.name) { i64::MIN } else { clock.tick() };
                commits.note(&source.name, *partition, *next, time).map_err(broken)?;
            }
        }
    }
    Ok(commits)
}

/// Present where a running server found its state damaged.
const REBUILD_MARK: &str = "state.rebuild";

fn set_aside(data_dir: &Path) -> std::io::Result<String> {
    let state = data_dir.join("state");
    match std::fs::remove_file(data_dir.join(REBUILD_MARK)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if !state.exists() {
        return Ok(String::new());
    }
    for n in 1.. {
        let aside = data_dir.join(format!("state.damaged-{n}"));
        if !aside.exists() {
            std::fs::rename(&state, &aside)?;
            return Ok(aside.display().to_string());
        }
    }
    Ok(String::new())
}

/// A store and what it holds for the definitions of now.
struct Opened {
    store: Embedded,
    meta: Meta,
    /// by id of the version
    states: BTreeMap<u32, ViewState>,
}

fn open_store(data_dir: &Path, registry: &Registry) -> Result<Opened, StoreError> {
    if let Ok(why) = std::fs::read_to_string(data_dir.join(REBUILD_MARK)) {
        return Err(StoreError::Damaged(why));
    }
    let store = Embedded::open(&data_dir.join("state"))?;
    let mut meta = store.meta()?;
    settle(registry, &mut meta);
    let declared = registry.views.iter().filter(|view| view.stream.is_some()).map(|view| view.plan.hash);
    let versions = |hash: u64| [meta.views.get(&hash), meta.rebuilds.get(&hash)].into_iter().flatten();
    let wanted = declared.flat_map(|hash| versions(hash).map(move |version| (version.id, hash))).collect();
    let states = store.load(&wanted, meta.sequence)?;
    Ok(Opened { store, meta, states })
}

/// Counts what is gone of the log as consumed, where the state does not know of it: offsets must not be given out twice.
fn count_cut(meta: &mut Meta, cut: &Cut) {
    if meta.applied_to >= cut.to() {
        return;
    }
    for (source, gone) in &cut.sources {
        for (partition, next) in &gone.positions {
            let known = meta.positions.entry((source.clone(), *partition)).or_default();
            *known = (*known).max(*next);
        }
        let ledger = SourceLedger {
            consumed: gone.consumed,
            accepted: gone.events,
            dead_lettered: gone.consumed - gone.events,
            newest_event: gone.times.max(gone.ahead).map(|(_, newest)| newest),
        };
        meta.sources.insert(source.clone(), ledger);
    }
}
