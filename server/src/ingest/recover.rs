//! Recovery: state and log brought together at start.
//!
//! The store says up to which place of the log each view is applied; what stands behind is replayed through the same `apply`.
//! A view that is new here starts from the front of the log. A store that is damaged is set aside and derived anew.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_features::definitions::Registry;

use super::apply::{apply_batch, fitted};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::log::{
    Archiving, CommitLog, LogPlace, LogReader, LogWriter, attach_archive, read_commits, remove_leftovers,
};
use crate::online::{ChunkKey, Embedded, Flush, Memory, Meta, RecordKey, SourceLedger, StoreError, Updates, ViewMeta};

/// What ingest starts from.
pub struct Recovered {
    pub(super) log: LogWriter,
    pub(super) store: Embedded,
    pub(super) meta: Meta,
    pub(super) next_offsets: HashMap<(usize, u32), u64>,
    pub(super) rebuild_mark: PathBuf,
    pub(super) commits: CommitLog,
}

impl Recovered {
    /// The log starts a new segment after this many bytes.
    pub fn with_segments_of(mut self, bytes: u64) -> Recovered {
        self.log.set_segment_bytes(bytes);
        self
    }
}

/// Brings everything that the data directory holds into memory.
pub fn recover(
    data_dir: &Path,
    registry: &Registry,
    memory: &Memory,
    clock: &Clock,
    archiving: Option<&Archiving>,
) -> Result<Recovered, Failure> {
    let (store, mut meta) = match open_store(data_dir, registry, memory) {
        Err(StoreError::Damaged(what)) => {
            let aside = set_aside(data_dir)
                .map_err(|e| Failure::internal("E1017", format!("the damaged state cannot be moved: {e}")))?;
            tracing::warn!(what, aside, "the state store is damaged: deriving the state anew from the event log");
            // What was loaded before the damage was found must not stay.
            memory.clear();
            open_store(data_dir, registry, memory)
        }
        other => other,
    }
    .map_err(|error| match error {
        StoreError::InUse(_) => Failure::invalid("E5010", format!("{} is used by another process", data_dir.display())),
        other => Failure::internal("E1017", other.to_string()),
    })?;
    clock.advance(meta.clock);
    // The store is locked: no other process seals this log.
    attach_archive(&data_dir.join("log"), archiving.cloned()).map_err(|e| e.failure("E1018"))?;
    remove_leftovers(&data_dir.join("log")).map_err(|e| Failure::internal("E1018", e.to_string()))?;
    let replayed = match replay(data_dir, registry, memory, clock, &mut meta, &store) {
        Err(failure) if failure.code == "E1016" => {
            // A record that passed its checksum is broken inside: mark the state, so that the next start begins anew.
            let _ = std::fs::write(data_dir.join(REBUILD_MARK), &failure.message);
            drop(store);
            memory.clear();
            return recover(data_dir, registry, memory, clock, archiving);
        }
        other => other,
    };
    let end = replayed?;
    let state = memory.read();
    let next_offsets =
        state.positions.iter().map(|((source, partition), next)| ((*source as usize, *partition), *next)).collect();
    let log = LogWriter::open(&data_dir.join("log"), end).map_err(|e| Failure::internal("E1018", e.to_string()))?;
    let commits = noted(&data_dir.join("log"), registry, &next_offsets, clock)?;
    Ok(Recovered { log, store, meta, next_offsets, rebuild_mark: data_dir.join(REBUILD_MARK), commits })
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
        registry.sources.iter().filter(|source| source.is_clocked()).map(|source| source.name.as_str()).collect();
    let mut commits = CommitLog::open(folder, &sources).map_err(broken)?;
    for ((at, partition), next) in next_offsets {
        let source = &registry.sources[*at];
        if !source.is_clocked() {
            continue;
        }
        let notes = read_commits(folder, &source.name).map_err(broken)?;
        let last = notes.get(partition).and_then(|notes| notes.last()).map(|(next, _)| *next);
        if last.is_none_or(|last| last < *next) {
            // Of a time without notes nobody knows: its events count from their arrival on.
            let time = if commits.is_new(&source.name) { i64::MIN } else { clock.tick() };
            commits.note(&source.name, *partition, *next, time).map_err(broken)?;
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

fn open_store(data_dir: &Path, registry: &Registry, memory: &Memory) -> Result<(Embedded, Meta), StoreError> {
    if let Ok(why) = std::fs::read_to_string(data_dir.join(REBUILD_MARK)) {
        return Err(StoreError::Damaged(why));
    }
    let store = Embedded::open(&data_dir.join("state"))?;
    let mut meta = store.meta()?;
    for view in &registry.views {
        let next = meta.views.values().map(|v| v.id + 1).max().unwrap_or(0);
        meta.views.entry(view.plan.hash).or_insert_with(|| ViewMeta { id: next, ..ViewMeta::default() });
    }
    let place = |at: usize| (at as u32, registry.views[at].plan.hash);
    let places: BTreeMap<u32, (u32, u64)> = (0..registry.views.len())
        .filter_map(|at| meta.views.get(&registry.views[at].plan.hash).map(|view| (view.id, place(at))))
        .collect();
    store.load(&places, meta.sequence, memory)?;
    let source_at = |name: &str| registry.source(name).map(|at| at as u32);
    let positions = meta.positions.iter().filter_map(|((s, p), next)| Some(((source_at(s)?, *p), *next))).collect();
    let sources = registry.sources.iter().map(|s| meta.sources.get(&s.name).copied().unwrap_or_default()).collect();
    let views =
        registry.views.iter().map(|v| meta.views.get(&v.plan.hash).map(|v| v.ledger).unwrap_or_default()).collect();
    memory.restore(positions, sources, views);
    Ok((store, meta))
}

/// Applies what the log has beyond the store. Returns the end of the log.
fn replay(
    data_dir: &Path,
    registry: &Registry,
    memory: &Memory,
    clock: &Clock,
    meta: &mut Meta,
    store: &Embedded,
) -> Result<LogPlace, Failure> {
    let broken = |e: crate::log::LogError| e.failure("E1018");
    let applied_to: Vec<LogPlace> = registry
        .views
        .iter()
        .map(|view| meta.views.get(&view.plan.hash).map(|v| v.applied_to).unwrap_or_default())
        .collect();
    let views_of_source = registry.views_of_source();
    let fed = |at: &usize| registry.views[*at].stream.is_some();
    let from = (0..registry.views.len()).filter(fed).map(|at| applied_to[at]).min().unwrap_or(meta.applied_to);
    let mut reader = LogReader::open(&data_dir.join("log"), from.min(meta.applied_to)).map_err(broken)?;
    let mut changes = Changes::default();
    while let Some(read) = reader.next_frame().map_err(broken)? {
        let mut frame = read.frame;
        clock.advance(frame.accepted_at);
        let Some(source) = registry.source(&frame.source) else {
            // Not declared now, but it may be again: its offsets must not be given out twice.
            if read.place >= meta.applied_to {
                let ledger = consumed(0, &frame).sources.first().map(|(_, ledger)| *ledger).unwrap_or_default();
                meta.sources.entry(frame.source.clone()).or_default().add(&ledger);
                meta.positions.insert((frame.source.clone(), frame.partition), frame.first_offset + frame.consumed);
            }
            continue;
        };
        fitted(&mut frame, &registry.sources[source]);
        let views: Vec<usize> = views_of_source.get(&source).cloned().unwrap_or_default();
        let views: Vec<usize> = views.into_iter().filter(|view| read.place >= applied_to[*view]).collect();
        for batch in &frame.batches {
            let updates = apply_batch(registry, memory, source, &views, batch)
                .map_err(|e| Failure::internal("E1016", format!("a record cannot be read: {e}")))?;
            changes.remember(registry, meta, &updates);
            memory.publish(updates);
        }
        if read.place >= meta.applied_to {
            memory.publish(consumed(source as u32, &frame));
        }
    }
    let end = reader.place();
    if end < meta.applied_to {
        let message = format!(
            "the event log in {} ends before events that the state has: a segment is missing or cut; restore it from a copy",
            data_dir.join("log").display()
        );
        return Err(Failure::internal("E1021", message));
    }
    changes.commit(registry, memory, meta, store, end)?;
    Ok(end)
}

fn consumed(source: u32, frame: &crate::log::Frame) -> Updates {
    let accepted = frame.batches.iter().map(|b| b.len() as u64).sum();
    let newest_event = frame.batches.iter().flat_map(|b| b.times.iter().copied()).max();
    let ledger =
        SourceLedger { consumed: frame.consumed, accepted, dead_lettered: frame.consumed - accepted, newest_event };
    let position = ((source, frame.partition), frame.first_offset + frame.consumed);
    Updates { positions: vec![position], sources: vec![(source, ledger)], ..Updates::default() }
}

/// Changed bytes that the store does not have yet.
#[derive(Default)]
struct Changes {
    records: HashMap<RecordKey, Box<[u8]>>,
    chunks: HashMap<ChunkKey, Option<Arc<[u8]>>>,
}

impl Changes {
    fn remember(&mut self, registry: &Registry, meta: &Meta, updates: &Updates) {
        let id = |view: u32| meta.views.get(&registry.views[view as usize].plan.hash).map_or(0, |v| v.id);
        let records = updates.records.iter().map(|((view, key), record)| ((id(*view), key.clone()), record.clone()));
        self.records.extend(records);
        let chunks = updates.chunks.iter().map(|((view, key, node), c)| ((id(*view), key.clone(), *node), c.clone()));
        self.chunks.extend(chunks);
    }

    /// Writes what changed, with the end of the log as the place up to which everything is applied.
    fn commit(
        &mut self,
        registry: &Registry,
        memory: &Memory,
        meta: &mut Meta,
        store: &Embedded,
        end: LogPlace,
    ) -> Result<(), Failure> {
        if self.records.is_empty() && meta.applied_to == end && meta.sequence > 0 {
            return Ok(());
        }
        meta.sequence += 1;
        meta.applied_to = end;
        let state = memory.read();
        for (view, ledger) in registry.views.iter().zip(&state.views) {
            if let Some(view) = meta.views.get_mut(&view.plan.hash) {
                (view.ledger, view.applied_to) = (*ledger, end);
            }
        }
        for ((source, partition), next) in &state.positions {
            meta.positions.insert((registry.sources[*source as usize].name.clone(), *partition), *next);
        }
        for (source, ledger) in registry.sources.iter().zip(&state.sources) {
            meta.sources.insert(source.name.clone(), *ledger);
        }
        drop(state);
        let flush = Flush {
            records: self.records.drain().collect(),
            chunks: self.chunks.drain().collect(),
            meta: meta.clone(),
        };
        let definitions = meta.views.iter().map(|(hash, view)| (view.id, *hash)).collect();
        store.commit(&flush, &definitions).map_err(|e| Failure::internal("E1015", e.to_string()))
    }
}
