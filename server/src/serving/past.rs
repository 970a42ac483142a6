//! The past from the event log: what records no longer hold. Slow but exact: it walks over all events of the source.
//!
//! Decoded events of closed parts of the log stay in memory up to a limit, so that many questions about the past read the
//! files once. Where the log was cut, what is asked of an entity may depend on events that are gone; then there is no answer.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tidemill_features::codec::Cursor;
use tidemill_features::definitions::Registry;
use tidemill_features::expression::Column;
use tidemill_features::read::{Answer, Context, History, Missing, ReadError, TableRows};
use tidemill_features::record::{Fate, Outline};
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::stream::{EventBatch, Prepared};
use tidemill_features::value::Value;

use super::get::Positions;
use super::logged_events::LoggedEvents;
use super::tables::LoggedTables;
use crate::failure::Failure;
use crate::ingest::{Begun, fitted};
use crate::limits::HISTORY_CACHE_BYTES;
use crate::log::{Cut, LogError, LogPlace, LogReader, SealedLog, cut_of};
use crate::offline::{Replay, Visibility};
use crate::online::Memory;

/// Reads of the past.
pub struct Past {
    registry: Arc<Registry>,
    memory: Arc<Memory>,
    /// views that were built after some of the log had gone
    pub begun: Arc<Begun>,
    folder: PathBuf,
    /// whether the log has all events; that of a process which shares its work has not
    is_whole: bool,
    /// whether positions of answers are places in the log, so that what stands behind the first frame beyond them is not in
    is_prefix: bool,
    /// by source
    caches: Mutex<BTreeMap<usize, Cache>>,
    /// held by the one replay at a time: each takes memory and all cores
    replays: Mutex<()>,
}

/// Decoded batches of one source from the front of the log on, in order.
#[derive(Default)]
struct Cache {
    batches: VecDeque<Arc<EventBatch>>,
    bytes: usize,
    through: LogPlace,
}

impl Past {
    /// Of the log in this folder.
    pub fn new(registry: Arc<Registry>, memory: Arc<Memory>, begun: Arc<Begun>, folder: PathBuf) -> Self {
        let (caches, replays) = Default::default();
        Past { registry, memory, begun, folder, is_whole: true, is_prefix: true, caches, replays }
    }

    /// The same beside a shared store, whose shards have positions of their own. `is_whole`: the log has all of its events.
    pub fn beside_shared(self, is_whole: bool) -> Self {
        Past { is_whole, is_prefix: false, ..self }
    }

    /// Refuses what only the whole log can answer, where this process does not have it.
    pub fn check_whole(&self) -> Result<(), Failure> {
        if self.is_whole {
            return Ok(());
        }
        let message = "this process shares its work with others and has no event log of its own; ask one that runs with --role all and reads the same topics";
        Err(Failure::invalid("E3064", message))
    }

    /// What was cut off the log.
    pub fn cut(&self) -> Result<Arc<Cut>, Failure> {
        cut_of(&self.folder).map_err(|e| Failure::internal("E2021", e.to_string()))
    }

    /// Where events of an entity may be missing from the log. To be asked after the log was read: what is cut later is only
    /// more. The state knows when each entity was first seen, so that younger ones miss nothing.
    pub fn missing(&self, view: usize, key: &[u8]) -> Option<Missing> {
        let view_at = view;
        let view = &self.registry.views[view_at];
        let source = &self.registry.sources[view.stream.as_ref()?.source].name;
        let everything = || Some(Missing::new(vec![(i64::MIN, i64::MAX)], i64::MAX, None));
        if !self.is_whole {
            return everything();
        }
        let Ok(cut) = self.cut() else { return everything() };
        let gone = cut.of(source)?;
        // The gate may be open: lookups read the log with the state in hand.
        let state = self.memory.read_again();
        let outline = state.record(view_at, key).map(Outline::parse);
        let oldest = match &outline {
            None => None,
            Some(Ok(outline)) => Some(outline.oldest),
            Some(Err(_)) => Some(i64::MIN),
        };
        let missing = Missing::new(gone.ranges(), gone.arrival.unwrap_or(i64::MAX), oldest);
        if self.begun.of(view).is_some() || !state.complete[view_at] {
            // Its state does not know of what was gone before, or is not there yet.
            return Some(missing);
        }
        oldest?;
        // Rows of a table that say "nothing here" do not show in the oldest one.
        if view.plan.table.is_some() { Some(missing) } else { missing.of_entity() }
    }

    /// Features of one entity at T, from its events before the positions.
    pub fn read(
        &self,
        view: usize,
        key: &[u8],
        features: &[usize],
        time: i64,
        request: Option<(i64, &[u8])>,
        positions: &Positions,
    ) -> Result<Vec<Answer>, Failure> {
        let batches = self.events_of(view, key, positions)?;
        let tables = LoggedTables::new(self, positions);
        let context = Context { tables: &tables, request };
        self.with_history((view, key), &batches, |history, _, _| history.read(&context, features, time))
    }

    /// A plan for many rows, each at its own T, from all events before the positions: one walk over the log for all of them.
    pub(super) fn replay(
        &self,
        plan: &ReadPlan,
        (keys, times): (&Keys, &[i64]),
        positions: &Positions,
        stop: &AtomicBool,
    ) -> Result<Vec<Vec<Answer>>, Failure> {
        let _alone = self.replays.lock();
        self.replay_as(plan, (keys, times), &Visibility::EventTime, positions, stop)
    }

    /// The same for rows that see what a visibility lets them see, beside other replays.
    pub(super) fn replay_as(
        &self,
        plan: &ReadPlan,
        (keys, times): (&Keys, &[i64]),
        visibility: &Visibility,
        positions: &Positions,
        stop: &AtomicBool,
    ) -> Result<Vec<Vec<Answer>>, Failure> {
        let temporary = self.temporary()?;
        let log = LoggedEvents::open(&self.registry, self, positions)?;
        let replay = Replay { registry: &self.registry, log: &log, folder: &temporary, stop };
        replay.read(plan, keys, times, visibility)
    }

    /// The folder of temporary files.
    pub(super) fn temporary(&self) -> Result<PathBuf, Failure> {
        let folder = self.folder.with_file_name("tmp");
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failure::internal("E3020", format!("{}: {e}", folder.display())))?;
        Ok(folder)
    }

    /// The view that keeps the rows of a joined table.
    pub(super) fn table_place(&self, name: &str) -> Option<usize> {
        self.registry.view(name)
    }

    /// All rows of one key of a table, before the positions.
    pub(super) fn table_rows(&self, view: usize, key: &[u8], positions: &Positions) -> Result<TableRows, Failure> {
        let batches = self.events_of(view, key, positions)?;
        self.with_history((view, key), &batches, |history, _, _| history.table_rows())
    }

    /// Calls `then` with the history of an entity, its batches as the view sees them, and what became of their events.
    pub fn with_history<T>(
        &self,
        (view_at, key): (usize, &[u8]),
        batches: &[EventBatch],
        then: impl FnOnce(&History<'_>, &[Prepared<'_>], &[Vec<Fate>]) -> Result<T, ReadError>,
    ) -> Result<T, Failure> {
        let view = &self.registry.views[view_at];
        let mut prepared = Vec::with_capacity(batches.len());
        if let Some(stream) = &view.stream {
            let source = &self.registry.sources[stream.source];
            prepared.extend(batches.iter().map(|batch| Prepared::new(view, stream, source, batch)));
        }
        let mut history = History::without(&view.plan, self.missing(view_at, key));
        let mut fates = Vec::with_capacity(batches.len());
        let judged = || -> Result<T, ReadError> {
            for (prepared, batch) in prepared.iter().zip(batches) {
                let of_batch = (0..batch.len()).map(|row| history.push(&prepared.incoming(row)));
                fates.push(of_batch.collect::<Result<Vec<_>, _>>()?);
            }
            then(&history, &prepared, &fates)
        };
        judged().map_err(|_| Failure::internal("E2020", "the events of this entity cannot be decoded"))
    }

    /// All events of an entity before the positions, in log order.
    pub fn events_of(&self, view: usize, key: &[u8], positions: &Positions) -> Result<Vec<EventBatch>, Failure> {
        let definition = &self.registry.views[view];
        let Some(stream) = &definition.stream else { return Ok(Vec::new()) };
        let mut cursor = Cursor::new(key);
        let values =
            definition.keys.iter().map(|(_, data_type)| cursor.value(data_type)).collect::<Result<Vec<_>, _>>();
        let values = values.map_err(|_| Failure::internal("E2020", "the key cannot be decoded"))?;
        let mut found = Vec::new();
        self.each_batch(stream.source, positions, &mut |batch| {
            let next = positions.get(&(stream.source as u32, batch.partition)).copied().unwrap_or(0);
            let rows = matching_rows(batch, &stream.key_columns, &values, next);
            if !rows.is_empty() {
                found.push(take(batch, &rows));
            }
        })?;
        Ok(found)
    }

    /// The sealed part of the log, as it is now.
    pub fn sealed(&self) -> Result<SealedLog, Failure> {
        SealedLog::open(&self.folder).map_err(|e| Failure::internal("E2021", e.to_string()))
    }

    /// Goes over the log from a place on, once, for replays: calls back with the batches of some sources, those of their
    /// events that are before the positions, and the places of their frames.
    pub fn walk(
        &self,
        from: LogPlace,
        sources: &[usize],
        positions: &Positions,
        visit: &mut dyn FnMut(usize, EventBatch, LogPlace) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let broken = |e: LogError| e.failure("E2021");
        let names: Vec<&str> = sources.iter().map(|at| self.registry.sources[*at].name.as_str()).collect();
        // A damaged file of another source does not matter.
        let mut reader = LogReader::open(&self.folder, from).map_err(broken)?.of_sources(&names);
        // What was sealed and cut since would be missed.
        if from > LogPlace::default() && reader.place() > from {
            return Err(broken(LogError::CutMeanwhile));
        }
        while let Some(read) = reader.next_frame().map_err(broken)? {
            let mut frame = read.frame;
            let Some(of) = self.registry.source(&frame.source) else { continue };
            let applied = positions.get(&(of as u32, frame.partition)).copied().unwrap_or(0);
            // Frames are applied in the order of the log, so what stands behind the first one that is not is not either; part
            // of a frame may be.
            let whole = frame.first_offset + frame.consumed <= applied;
            if sources.contains(&of) {
                fitted(&mut frame, &self.registry.sources[of]);
                for mut batch in frame.batches {
                    let before = batch.offsets.partition_point(|offset| *offset < applied);
                    if before < batch.len() {
                        batch = take(&batch, &(0..before).collect::<Vec<_>>());
                    }
                    visit(of, batch, read.place)?;
                }
            }
            if !whole && self.is_prefix {
                break;
            }
        }
        Ok(())
    }

    /// Visits all batches of a source that have events within the positions. Frames are applied in the order of the log, so the
    /// first one that goes beyond its position ends the walk; what stands behind may not even be durable.
    fn each_batch(
        &self,
        source: usize,
        positions: &Positions,
        visit: &mut dyn FnMut(&EventBatch),
    ) -> Result<(), Failure> {
        let broken = |e: LogError| e.failure("E2021");
        let mut caches = self.caches.lock();
        let mut total: usize = caches.values().map(|cache| cache.bytes).sum();
        let cache = caches.entry(source).or_default();
        cache.batches.iter().for_each(|batch| visit(batch));
        let reader = LogReader::open(&self.folder, cache.through).map_err(broken)?;
        let mut reader = reader.of_sources(&[&self.registry.sources[source].name]);
        let mut keep = true;
        while let Some(read) = reader.next_frame().map_err(broken)? {
            let mut frame = read.frame;
            if let Some(of) = self.registry.source(&frame.source) {
                let applied = positions.get(&(of as u32, frame.partition)).copied().unwrap_or(0);
                // Large frames are applied part by part.
                let whole = frame.first_offset + frame.consumed <= applied;
                if !whole && frame.first_offset >= applied {
                    keep = false;
                    if self.is_prefix { break } else { continue }
                }
                if of == source {
                    fitted(&mut frame, &self.registry.sources[of]);
                    keep &= whole && total < HISTORY_CACHE_BYTES;
                    for batch in frame.batches {
                        visit(&batch);
                        if keep {
                            let bytes = batch.columns.iter().map(Column::bytes).sum::<usize>() + batch.len() * 24;
                            (cache.bytes, total) = (cache.bytes + bytes, total + bytes);
                            cache.batches.push_back(Arc::new(batch));
                        }
                    }
                }
                if !whole && self.is_prefix {
                    break;
                }
            }
            if keep {
                cache.through = read.end;
            }
        }
        Ok(())
    }
}

fn matching_rows(batch: &EventBatch, key_columns: &[usize], key: &[Value<'_>], next_offset: u64) -> Vec<usize> {
    let matches = |row: usize| {
        let mut columns = key_columns.iter().zip(key);
        columns.all(|(column, wanted)| batch.columns[*column].value(row).same(wanted))
    };
    (0..batch.len()).filter(|row| batch.offsets[*row] < next_offset && matches(*row)).collect()
}

fn take(batch: &EventBatch, rows: &[usize]) -> EventBatch {
    let column = |column: &Column| Column::Values(rows.iter().map(|row| column.value(*row).into_owned()).collect());
    EventBatch {
        columns: batch.columns.iter().map(column).collect(),
        times: rows.iter().map(|row| batch.times[*row]).collect(),
        arrivals: rows.iter().map(|row| batch.arrivals[*row]).collect(),
        partition: batch.partition,
        offsets: rows.iter().map(|row| batch.offsets[*row]).collect(),
    }
}
