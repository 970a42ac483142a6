//! Training sets and snapshots: jobs that replay the event log and write Parquet files.
//!
//! A job sees the log up to the positions that reads saw when it began. Nothing that it writes has its final name before all
//! of it is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value as Json, json};
use tidemill_features::expression::Column;
use tidemill_features::read::Answer;
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::value::DataType;
use tidemill_proto::v1;

use super::get::Positions;
use crate::components::Server;
use crate::failure::{Failure, Remedy};
use crate::limits::{REPLAY_CELLS, REPLAY_KEY_BYTES, REPLAY_ROWS_MAX, SPINE_ROWS_MAX};
use crate::offline::training_set::{FeatureColumn, HiveKey, Layout, Split, TrainingSet};
use crate::offline::{CommitTimes, Spine, SpineRows, Visibility, Wanted};

/// Told how many rows are done, and of how many (0: nobody knows).
pub type Progress<'p> = dyn FnMut(u64, u64) + 'p;

/// Takes rows of a spine with their features.
pub(super) type TakeRows<'t> = dyn FnMut(&SpineRows, &[FeatureColumn<'_>]) -> Result<(), Failure> + 't;

/// What a job runs on: the log up to some positions, and a way to be stopped.
pub struct Job<'j> {
    /// the engine
    pub server: &'j Server,
    /// set when nobody waits any more
    pub stop: &'j AtomicBool,
}

/// How a training set is read.
pub(super) struct Reading {
    pub(super) plan: Arc<ReadPlan>,
    positions: Positions,
    visibility: Visibility,
}

impl Job<'_> {
    /// Offline.Export
    pub fn export(&self, request: &v1::ExportRequest, progress: &mut Progress<'_>) -> Result<v1::JobResult, Failure> {
        let reading = self.reading(&request.service, &request.features, request.visibility(), request.assumed_delay)?;
        let events = match request.spine_source.as_str() {
            "" => None,
            source => Some(self.spine_of_events(source, &request.r#where, &reading.positions)?),
        };
        let (path, fetched, event_time) = match &events {
            Some((file, event_time)) => (file.path().to_path_buf(), None, event_time.as_str()),
            None => {
                let (path, fetched) = self.spine_file(&request.spine)?;
                (path, fetched, "")
            }
        };
        let time = Some(request.time_column.as_str()).filter(|time| !time.is_empty()).unwrap_or(event_time);
        if time.is_empty() {
            return Err(Failure::field("E3040", "time_column", "name the spine's column with the time of each row"));
        }
        // What was fetched is known by its URL.
        let renamed = |failure: Failure| match &fetched {
            Some(_) => {
                Failure { message: failure.message.replace(&path.display().to_string(), &request.spine), ..failure }
            }
            None => failure,
        };
        self.export_rows(request, &reading, (&path, time), progress).map_err(renamed)
    }

    /// Exports the rows of a file.
    fn export_rows(
        &self,
        request: &v1::ExportRequest,
        reading: &Reading,
        (path, time): (&Path, &str),
        progress: &mut Progress<'_>,
    ) -> Result<v1::JobResult, Failure> {
        let names = feature_names(&reading.plan);
        let wanted = wanted(&reading.plan, time);
        let out = self.destination(&request.out)?;
        out.refuse_used()?;
        let layout = self.layout(request, path, time)?;
        let mut spine = Spine::open(path, &wanted)?;
        let mut set = TrainingSet::create(&out.local(""), spine.schema(), &names, layout)?;
        let (mut done, mut unanswered) = (0, vec![0; names.len()]);
        self.each_part(reading, &mut spine, &names, &mut |rows, features| {
            set.write(rows, features)?;
            count_unanswered(features.iter().map(|feature| feature.answers), &mut unanswered);
            done += rows.times.len() as u64;
            progress(done, 0);
            Ok(())
        })?;
        let mut head = self.manifest(reading, (&request.service, &request.spine, &request.time_column));
        let mut notes = self.notes(&reading.plan, &unanswered, &mut head)?;
        if let Some(gone) = self.server.reader.past.cut()?.of(&request.spine_source) {
            let (events, source) = (gone.events, &request.spine_source);
            notes.push(format!(
                "E3051: {events} events of `{source}` are no rows: retention has cut them off the event log"
            ));
        }
        let written = set.finish(head)?;
        out.put(&written, &mut || self.go_on())?;
        Ok(v1::JobResult {
            rows: written.rows,
            files: written.files.iter().map(|file| out.shown(&out.name(file))).collect(),
            manifest: out.shown(&out.name(&written.manifest)),
            notes,
        })
    }

    /// Reads a spine from front to back; its rows come with their features, in the parts that the file has.
    pub(super) fn each_part(
        &self,
        reading: &Reading,
        spine: &mut Spine,
        names: &[(String, DataType)],
        take: &mut TakeRows<'_>,
    ) -> Result<(), Failure> {
        loop {
            let parts = next_parts(spine, rows_at_once(&reading.plan))?;
            if parts.is_empty() {
                return Ok(());
            }
            let columns = self.read(reading, &parts)?;
            let mut from = 0;
            for rows in &parts {
                let to = from + rows.times.len();
                let of_rows = |((name, data_type), answers)| FeatureColumn {
                    name: String::clone(name),
                    data_type,
                    answers: &Vec::as_slice(answers)[from..to],
                };
                let features: Vec<FeatureColumn<'_>> =
                    names.iter().map(|(a, b)| (a, b)).zip(&columns).map(of_rows).collect();
                self.go_on()?;
                take(rows, &features)?;
                from = to;
            }
        }
    }

    /// What is said of values that nobody can know, in the manifest and to the caller. `unanswered` counts them by column.
    pub(super) fn notes(
        &self,
        plan: &ReadPlan,
        unanswered: &[u64],
        head: &mut Map<String, Json>,
    ) -> Result<Vec<String>, Failure> {
        let counts = plan.columns.iter().zip(unanswered).filter(|(_, count)| **count > 0);
        let counts: Map<String, Json> = counts.map(|((name, _), count)| (name.clone(), json!(count))).collect();
        if counts.is_empty() {
            return Ok(Vec::new());
        }
        let sources: Vec<usize> = plan.sources.iter().copied().collect();
        let values: u64 = unanswered.iter().sum();
        let why = super::cut::why(&self.server.reader, &sources)?;
        let note = format!("E3050: {values} values are null because nobody can know them: {why}");
        head.insert("unanswered".into(), json!({ "code": "E3050", "why": why, "values": counts }));
        Ok(vec![note])
    }

    pub(super) fn reading(
        &self,
        service: &str,
        features: &[String],
        visibility: v1::Visibility,
        assumed_delay: Option<i64>,
    ) -> Result<Reading, Failure> {
        let plan = self.server.reader.plan(service, features)?;
        let positions = self.server.memory.read().positions.clone();
        let visibility = match (visibility, assumed_delay) {
            (v1::Visibility::EventTime, Some(_)) => {
                let message = "an assumed delay says when events could be read; with event_time all of them can";
                return Err(Failure::field("E3041", "assumed_delay", message));
            }
            (v1::Visibility::EventTime, None) => Visibility::EventTime,
            (v1::Visibility::Served, Some(delay)) if delay < 0 => {
                return Err(Failure::field("E3041", "assumed_delay", "a delay is not negative"));
            }
            (v1::Visibility::Served, Some(delay)) => Visibility::AssumedDelay(delay),
            (v1::Visibility::Served, None) => Visibility::Served(self.commit_times(&plan)?),
        };
        Ok(Reading { plan, positions, visibility })
    }

    /// When the events of the sources that a plan reads could first be read.
    fn commit_times(&self, plan: &ReadPlan) -> Result<CommitTimes, Failure> {
        let mut times = CommitTimes::new();
        for at in &plan.sources {
            let source = &self.server.registry.sources[*at];
            if source.is_stream_live() {
                let notes = crate::log::read_commits(&self.server.log_folder, &source.name);
                let notes = notes.map_err(|e| Failure::internal("E2021", e.to_string()))?;
                times.extend(notes.into_iter().map(|(partition, notes)| ((*at as u32, partition), notes)));
            }
        }
        Ok(times)
    }

    fn layout(&self, request: &v1::ExportRequest, spine: &Path, time: &str) -> Result<Layout, Failure> {
        let split = match request.split.as_str() {
            "" => None,
            text => {
                let mut times = Spine::open_times(spine, time)?;
                let next = || Ok(times.next_rows(SPINE_ROWS_MAX)?.map(|rows| rows.times));
                Some(Split::parse(text)?.resolved(next, &self.temporary()?)?)
            }
        };
        let hive = match request.hive.join(",").as_str() {
            "" => Vec::new(),
            list => HiveKey::parse_list(list)?,
        };
        let definition_hash = format!("{:016x}", self.server.registry.hash);
        Ok(Layout { service: request.service.clone(), definition_hash, split, hive })
    }

    fn read(&self, reading: &Reading, parts: &[SpineRows]) -> Result<Vec<Vec<Answer>>, Failure> {
        let times: Vec<i64> = parts.iter().flat_map(|part| part.times.iter().copied()).collect();
        let joined = |columns: usize, of: &dyn Fn(&SpineRows) -> &[Column]| -> Vec<Column> {
            (0..columns).map(|at| together(parts.iter().map(|part| (&of(part)[at], part.times.len())))).collect()
        };
        let keys = Keys {
            columns: joined(reading.plan.keys.len(), &|part| &part.keys),
            request: joined(reading.plan.request.len(), &|part| &part.request),
            rows: times.len(),
        };
        self.replay(&reading.plan, (&keys, &times), &reading.visibility, &reading.positions)
    }

    /// An error once nobody waits any more.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Failure::new(Remedy::Unavailable, "E3023", "the job was stopped")),
            false => Ok(()),
        }
    }

    /// The folder of temporary files.
    pub(super) fn temporary(&self) -> Result<PathBuf, Failure> {
        self.server.reader.past.temporary()
    }

    /// Reads a plan from all of the log.
    pub(super) fn replay_all(
        &self,
        plan: &ReadPlan,
        keys: &Keys,
        times: &[i64],
        visibility: &Visibility,
    ) -> Result<Vec<Vec<Answer>>, Failure> {
        let positions = self.server.memory.read().positions.clone();
        self.replay(plan, (keys, times), visibility, &positions)
    }

    pub(super) fn replay(
        &self,
        plan: &ReadPlan,
        (keys, times): (&Keys, &[i64]),
        visibility: &Visibility,
        positions: &Positions,
    ) -> Result<Vec<Vec<Answer>>, Failure> {
        self.server.reader.past.replay_as(plan, (keys, times), visibility, positions, self.stop)
    }

    pub(super) fn manifest(&self, reading: &Reading, (service, spine, time): (&str, &str, &str)) -> Map<String, Json> {
        let visibility = match &reading.visibility {
            Visibility::EventTime => "event_time".to_string(),
            Visibility::Served(_) => "served".to_string(),
            Visibility::AssumedDelay(delay) => format!("served, {delay} us after the event time"),
            Visibility::Prefixes(_) => "log prefixes".to_string(),
        };
        let object = json!({
            "service": service,
            "features": reading.plan.columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            "definition_hash": format!("{:016x}", self.server.registry.hash),
            "functions_version": tidemill_features::expression::FUNCTIONS_VERSION,
            "visibility": visibility,
            "spine": spine,
            "time_column": time,
            "positions": self.log_ranges(&reading.plan, &reading.positions),
        });
        match object {
            Json::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// The next offsets of the log prefix that was seen, by source and partition.
    pub(super) fn log_ranges(&self, plan: &ReadPlan, positions: &Positions) -> Json {
        let mut by_source: Map<String, Json> = Map::new();
        for ((source, partition), next) in positions {
            if plan.sources.contains(&(*source as usize)) {
                let name = self.server.registry.sources[*source as usize].name.clone();
                by_source.entry(name).or_insert_with(|| json!({}))[partition.to_string()] = json!(next);
            }
        }
        Json::Object(by_source)
    }
}

/// What a plan needs of each row of a spine.
pub(super) fn wanted(plan: &ReadPlan, time: &str) -> Wanted {
    Wanted { time: time.to_string(), keys: plan.keys.clone(), request: plan.request.clone() }
}

/// Features as columns of files are named, and their types.
pub(super) fn feature_names(plan: &ReadPlan) -> Vec<(String, DataType)> {
    plan.columns.iter().map(|(name, data_type)| (name.replace(':', "__"), data_type.clone())).collect()
}

/// The next rows of a spine, in the parts that its file has.
fn next_parts(spine: &mut Spine, rows_max: usize) -> Result<Vec<SpineRows>, Failure> {
    let (mut parts, mut left, mut bytes) = (Vec::new(), rows_max, 0);
    while left > 0
        && bytes < REPLAY_KEY_BYTES
        && let Some(rows) = spine.next_rows(left)?
    {
        left -= rows.times.len().min(left);
        bytes += rows.keys.iter().chain(&rows.request).map(Column::bytes).sum::<usize>();
        parts.push(rows);
    }
    Ok(parts)
}

/// Columns one behind the other, each with its number of rows.
fn together<'c>(mut columns: impl ExactSizeIterator<Item = (&'c Column, usize)>) -> Column {
    if columns.len() == 1
        && let Some((column, _)) = columns.next()
    {
        return column.clone();
    }
    Column::Values(columns.flat_map(|(column, rows)| (0..rows).map(|row| column.value(row).into_owned())).collect())
}

/// Adds up, by column, how many values nobody can know.
pub(super) fn count_unanswered<'a>(columns: impl Iterator<Item = &'a [Answer]>, counts: &mut [u64]) {
    for (column, count) in columns.zip(counts) {
        *count += column.iter().filter(|answer| answer.is_unanswered()).count() as u64;
    }
}

/// How many rows of a plan are read at once: their answers are in memory together.
pub(super) fn rows_at_once(plan: &ReadPlan) -> usize {
    (REPLAY_CELLS / plan.width.max(1)).clamp(1, REPLAY_ROWS_MAX)
}

/// Paths of another process mean nothing unless they are whole.
pub(super) fn absolute(field: &str, path: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(path);
    if path.as_os_str().is_empty() || !path.is_absolute() {
        let message = format!("`{}` is not an absolute path on the server's machine", path.display());
        return Err(Failure::field("E3042", field, message));
    }
    Ok(path.to_path_buf())
}
