//! The past from the event log: what records no longer hold. Slow but exact: it walks over all events of the source.
//!
//! Decoded events of closed parts of the log stay in memory up to a limit, so that many questions about the past read the
//! files once.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tidemill_features::codec::Cursor;
use tidemill_features::definitions::Registry;
use tidemill_features::expression::Column;
use tidemill_features::read::{Answer, Context, History, ReadError, TableRows};
use tidemill_features::record::Fate;
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::stream::{EventBatch, Prepared};
use tidemill_features::value::Value;

use super::get::Positions;
use super::tables::LoggedTables;
use crate::failure::Failure;
use crate::ingest::fitted;
use crate::limits::HISTORY_CACHE_BYTES;
use crate::log::{LogPlace, LogReader};
use crate::offline::{Replay, Visibility};

/// Reads of the past.
pub struct Past {
    registry: Arc<Registry>,
    folder: PathBuf,
    cache: Mutex<Cache>,
    /// held by the one replay at a time: each takes memory and all cores
    replays: Mutex<()>,
}

/// Decoded batches from the front of the log on, in order.
#[derive(Default)]
struct Cache {
    batches: VecDeque<(usize, Arc<EventBatch>)>,
    bytes: usize,
    through: LogPlace,
}

impl Past {
    /// Of the log in this folder.
    pub fn new(registry: Arc<Registry>, folder: PathBuf) -> Self {
        Past { registry, folder, cache: Mutex::default(), replays: Mutex::default() }
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
        self.with_history(view, &batches, |history, _, _| history.read(&context, features, time))
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
        let walk = |sources: &[usize], visit: &mut dyn FnMut(usize, &EventBatch) -> Result<(), Failure>| {
            self.walk(sources, positions, visit)
        };
        let replay = Replay { registry: &self.registry, walk: &walk, folder: &temporary, stop };
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
        self.with_history(view, &batches, |history, _, _| history.table_rows())
    }

    /// Calls `then` with the history of an entity, its batches as the view sees them, and what became of their events.
    pub fn with_history<T>(
        &self,
        view: usize,
        batches: &[EventBatch],
        then: impl FnOnce(&History<'_>, &[Prepared<'_>], &[Vec<Fate>]) -> Result<T, ReadError>,
    ) -> Result<T, Failure> {
        let view = &self.registry.views[view];
        let mut prepared = Vec::with_capacity(batches.len());
        if let Some(stream) = &view.stream {
            let source = &self.registry.sources[stream.source];
            prepared.extend(batches.iter().map(|batch| Prepared::new(view, stream, source, batch)));
        }
        let mut history = History::new(&view.plan);
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

    /// Goes over the log from its front, once, for replays: calls back with the batches of some sources, those of their events
    /// that are before the positions.
    pub fn walk(
        &self,
        sources: &[usize],
        positions: &Positions,
        visit: &mut dyn FnMut(usize, &EventBatch) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let broken = |e: crate::log::LogError| Failure::internal("E2021", e.to_string());
        let names = sources.iter().map(|of| self.registry.sources[*of].name.clone()).collect();
        let mut reader = LogReader::open(&self.folder, LogPlace::default()).map_err(broken)?.of_sources(names);
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
                    visit(of, &batch)?;
                }
            }
            if !whole {
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
        let broken = |e: crate::log::LogError| Failure::internal("E2021", e.to_string());
        let mut cache = self.cache.lock();
        cache.batches.iter().filter(|(of, _)| *of == source).for_each(|(_, batch)| visit(batch));
        let mut reader = LogReader::open(&self.folder, cache.through).map_err(broken)?;
        let mut keep = true;
        while let Some(read) = reader.next_frame().map_err(broken)? {
            let mut frame = read.frame;
            if let Some(of) = self.registry.source(&frame.source) {
                let applied = positions.get(&(of as u32, frame.partition)).copied().unwrap_or(0);
                // Large frames are applied part by part.
                let whole = frame.first_offset + frame.consumed <= applied;
                if !whole && frame.first_offset >= applied {
                    break;
                }
                fitted(&mut frame, &self.registry.sources[of]);
                keep &= whole && cache.bytes < HISTORY_CACHE_BYTES;
                for batch in frame.batches {
                    if of == source {
                        visit(&batch);
                    }
                    if keep {
                        cache.bytes += batch.columns.iter().map(Column::bytes).sum::<usize>() + batch.len() * 24;
                        cache.batches.push_back((of, Arc::new(batch)));
                    }
                }
                if !whole {
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
