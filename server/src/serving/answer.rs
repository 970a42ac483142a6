//! Answers as messages: what the engine says, in the words of the protocol.

use std::sync::atomic::AtomicBool;

use tidemill_features::definitions::{DefinitionFile, Sink};
use tidemill_features::value::DataType;
use tidemill_proto::v1;

use super::cut;
use super::explain::{Explained, Explanation, explain as explain_value};
use super::get::{Answers, At, Positions};
use super::sink::SinkProgress;
use super::wire::{self, NO_TIME};
use crate::catalog;
use crate::components::Server;
use crate::failure::Failure;
use crate::ingest::{GivenUp, KafkaState, Unfinished, history_rows};
use crate::limits::{DEFINITION_BYTES_MAX, DEFINITION_FILES_MAX};
use crate::online::{MemberShown, State};

pub(super) fn checked_time(as_of: Option<i64>) -> Result<Option<i64>, Failure> {
    match as_of {
        Some(time) if !is_time(&time) => {
            Err(Failure::field("E2015", "as_of", "the time lies outside the years 1 to 9999"))
        }
        other => Ok(other),
    }
}

fn is_time(time: &i64) -> bool {
    (tidemill_features::time::MIN_TIME..=tidemill_features::time::MAX_TIME).contains(time)
}

/// The moment that a request asks for.
fn moment(request: &v1::GetRequest) -> Result<At<'_>, Failure> {
    match (request.times.as_slice(), checked_time(request.as_of)?) {
        ([], None) => Ok(At::Now),
        ([], Some(time)) => Ok(At::Time(time)),
        (_, Some(_)) => Err(Failure::field("E2015", "times", "give one time for all rows or one for each, not both")),
        (times, None) => match times.iter().position(|time| !is_time(time)) {
            Some(row) => {
                let message = format!("the time of row {} lies outside the years 1 to 9999", row + 1);
                Err(Failure::field("E2015", "times", message))
            }
            None => Ok(At::Times(times)),
        },
    }
}

/// Serving.Get. Once `stop` is set nobody waits for the answer any more.
pub fn get(server: &Server, request: &v1::GetRequest, stop: &AtomicBool) -> Result<v1::GetResponse, Failure> {
    let plan = server.reader.plan(&request.service, &request.features)?;
    let keys = wire::keys(&plan, &request.keys, &request.request, request.text_values)?;
    let at = moment(request)?;
    let answers = server.reader.read(plan, &keys, at, !matches!(at, At::Now), stop)?;
    answered(server, request, &answers)
}

/// Serving.Get of now, on a thread that must not wait for the shared store.
pub async fn get_now(server: &Server, request: &v1::GetRequest) -> Result<v1::GetResponse, Failure> {
    let stop = AtomicBool::new(false);
    let Some(shared) = &server.reader.shared else { return get(server, request, &stop) };
    let plan = server.reader.plan(&request.service, &request.features)?;
    let keys = wire::keys(&plan, &request.keys, &request.request, request.text_values)?;
    let answers = server.reader.read_shared(shared, plan, &keys, At::Now, &stop).await?;
    answered(server, request, &answers)
}

fn answered(server: &Server, request: &v1::GetRequest, answers: &Answers) -> Result<v1::GetResponse, Failure> {
    let mut response = v1::GetResponse {
        columns: columns(answers, request.value_times),
        views: view_times(server, answers),
        read_time: answers.read_time,
        positions: positions(server, answers),
        definition_hash: format!("{:016x}", server.registry.hash),
        stale: answers.stale.clone(),
        unanswered: unanswered(server, answers).into_iter().collect(),
        arrow: Default::default(),
    };
    if request.encoding() == v1::Encoding::Arrow {
        response.arrow = super::arrow::stream(server, answers)?.into();
        response.columns.clear();
    }
    Ok(response)
}

/// Which features have values that nobody can know, and why.
pub(super) fn unanswered(server: &Server, answers: &Answers) -> Option<v1::Unanswered> {
    let columns = cut::unanswered(&answers.columns);
    if columns.is_empty() {
        return None;
    }
    let sources: Vec<usize> = answers.plan.sources.iter().copied().collect();
    let message = cut::why(&server.reader, &sources).unwrap_or_else(|failure| failure.to_string());
    let features = columns.iter().map(|at| answers.plan.columns[*at].0.clone()).collect();
    Some(v1::Unanswered { code: cut::CODE.to_string(), message, features })
}

fn columns(answers: &Answers, value_times: bool) -> Vec<v1::Column> {
    let column = |((name, data_type), column): (&(String, DataType), &Vec<_>)| {
        wire::to_wire(name.clone(), data_type, column, value_times)
    };
    answers.plan.columns.iter().zip(&answers.columns).map(column).collect()
}

fn view_times(server: &Server, answers: &Answers) -> Vec<v1::ViewTimes> {
    let mut views: Vec<(usize, Vec<i64>)> = Vec::new();
    for (id, column) in answers.plan.ids.iter().zip(&answers.columns) {
        let at = views.iter().position(|(view, _)| *view == id.view).unwrap_or_else(|| {
            views.push((id.view, vec![NO_TIME; column.len()]));
            views.len() - 1
        });
        for (newest, answer) in views[at].1.iter_mut().zip(column) {
            *newest = (*newest).max(answer.newest.unwrap_or(NO_TIME));
        }
    }
    let named =
        |(view, newest): (usize, Vec<i64>)| v1::ViewTimes { view: server.registry.views[view].name.clone(), newest };
    views.into_iter().map(named).collect()
}

/// The positions of the sources that an answer depends on.
fn positions(server: &Server, answers: &Answers) -> Vec<v1::Position> {
    positions_where(server, &answers.positions, |source| answers.plan.sources.contains(&(source as usize)))
}

pub(super) fn positions_where(server: &Server, positions: &Positions, used: impl Fn(u32) -> bool) -> Vec<v1::Position> {
    let position = |((source, partition), next): (&(u32, u32), &u64)| v1::Position {
        source: server.registry.sources[*source as usize].name.clone(),
        partition: *partition,
        next_offset: *next,
    };
    positions.iter().filter(|((source, _), _)| used(*source)).map(position).collect()
}

/// Serving.Explain
pub fn explain(server: &Server, request: &v1::ExplainRequest) -> Result<v1::ExplainResponse, Failure> {
    let plan = server.reader.plan("", std::slice::from_ref(&request.feature))?;
    let keys = wire::keys(&plan, &request.keys, &request.request, request.text_values)?;
    let explanation = explain_value(&server.reader, &request.feature, &keys, checked_time(request.as_of)?)?;
    Ok(explanation_to_wire(server, &request.feature, &explanation))
}

/// An explanation as a message.
pub(super) fn explanation_to_wire(server: &Server, feature: &str, explanation: &Explanation) -> v1::ExplainResponse {
    let events = |list: &[Explained]| list.iter().map(|event| explained(server, event)).collect();
    let Explanation { answer, data_type, .. } = explanation;
    v1::ExplainResponse {
        value: Some(wire::to_wire(feature.to_string(), data_type, std::slice::from_ref(answer), true)),
        from: explanation.from,
        to: explanation.to,
        counted: events(&explanation.counted),
        excluded: events(&explanation.excluded),
        merged_tiles: explanation.merged_tiles,
        bit_identical: explanation.bit_identical,
        read_time: explanation.read_time,
        positions: positions_where(server, &explanation.positions, |_| true),
        arithmetic: explanation.arithmetic.clone(),
        counted_total: explanation.counted_total,
        excluded_total: explanation.excluded_total,
    }
}

fn explained(server: &Server, event: &Explained) -> v1::ExplainedEvent {
    let value = event.value.as_ref().zip(event.data_type.as_ref());
    v1::ExplainedEvent {
        event_time: event.event_time,
        source: server.registry.sources[event.source].name.clone(),
        partition: event.partition,
        offset: event.offset,
        value: value.map(|(value, data_type)| wire::values_to_wire(data_type, std::iter::once(value), 1)),
        reason: event.reason.to_string(),
    }
}

fn entry(entry: catalog::Entry) -> v1::CatalogEntry {
    v1::CatalogEntry { kind: entry.kind.to_string(), name: entry.name, summary: entry.summary }
}

/// Catalog.List
pub fn list(server: &Server, kind: &str) -> Result<v1::ListResponse, Failure> {
    let entries = catalog::list(&server.registry, kind)?;
    Ok(v1::ListResponse { entries: entries.into_iter().map(entry).collect() })
}

/// Catalog.Get
pub fn show(server: &Server, kind: &str, name: &str) -> Result<v1::CatalogGetResponse, Failure> {
    let (found, json) = catalog::show(&server.registry, kind, name)?;
    Ok(v1::CatalogGetResponse { entry: Some(entry(found)), json: json.to_string() })
}

/// Catalog.Check
pub fn check(request: v1::CheckRequest) -> Result<v1::CheckResponse, Failure> {
    if request.files.len() > DEFINITION_FILES_MAX {
        return Err(Failure::field("E5007", "files", format!("more than {DEFINITION_FILES_MAX} files")));
    }
    if request.files.iter().any(|file| file.text.len() as u64 > DEFINITION_BYTES_MAX) {
        return Err(Failure::field("E5007", "files", format!("a file is larger than {DEFINITION_BYTES_MAX} bytes")));
    }
    let file = |file: v1::DefinitionFile| DefinitionFile { path: file.path, text: file.text };
    let files: Vec<DefinitionFile> = request.files.into_iter().map(file).collect();
    let problems = tidemill_features::definitions::check(&files).err().unwrap_or_default();
    let problem = |problem: tidemill_features::problem::Problem| v1::Problem {
        code: problem.code.to_string(),
        file: problem.file,
        line: problem.line as u32,
        column: problem.column as u32,
        message: problem.message,
        near: problem.near.unwrap_or_default(),
    };
    Ok(v1::CheckResponse { problems: problems.into_iter().map(problem).collect() })
}

fn history_status(server: &Server, at: usize, positions: &Positions) -> v1::HistoryStatus {
    let progress = &server.ingest.pending[at].history;
    let (files_done, files) = progress.files();
    let state = match progress.stopped() {
        Some(why) => format!("stopped: {why}"),
        None if progress.is_incomplete() => "loading".to_string(),
        None => "loaded".to_string(),
    };
    v1::HistoryStatus { state, files_done, files, rows: history_rows(positions, at) }
}

fn source_state(server: &Server, at: usize) -> String {
    let pending = &server.ingest.pending[at];
    let KafkaState { waiting, halted, .. } = pending.kafka.state();
    let of_store = pending.halted.lock().clone();
    if let Some(why) = server.stopped.lock().get(&at).or(halted.as_ref()).or(of_store.as_ref()) {
        return format!("stopped: {why}");
    }
    if server.ingest.disk_full.load(std::sync::atomic::Ordering::Relaxed) {
        return "disk full".to_string();
    }
    match (server.ingest.trouble.why().or(waiting), pending.history.stopped()) {
        (Some(why), _) => format!("waiting: {why}"),
        (None, Some(why)) => format!("history stopped: {why}"),
        (None, None) => "running".to_string(),
    }
}

fn kafka_status(server: &Server, at: usize) -> Option<v1::KafkaStatus> {
    let progress = &server.ingest.pending[at].kafka;
    if !progress.is_read() {
        return None;
    }
    let state = progress.state();
    let behind = progress.behind(server.clock.now());
    Some(v1::KafkaStatus {
        cluster: state.cluster.unwrap_or_default(),
        behind: Some(behind).filter(|behind| *behind < i64::MAX / 2).unwrap_or(-1),
        partitions: state
            .partitions
            .into_iter()
            .map(|(number, (topic, partition))| (number, v1::TopicPartition { topic, partition: partition as u32 }))
            .collect(),
        given_up: state.given_up.into_iter().map(given_up_to_wire).collect(),
    })
}

/// What was lost, for the wire.
pub(super) fn given_up_to_wire(lost: GivenUp) -> v1::GivenUp {
    v1::GivenUp {
        topic: lost.topic,
        partition: lost.partition as u32,
        from: lost.from,
        to: lost.to,
        reason: lost.reason,
        time: lost.time,
    }
}

fn view_state(unfinished: Option<&Unfinished>) -> String {
    match unfinished {
        None => "serving".to_string(),
        Some(Unfinished { failed: Some(failed), .. }) => format!("failed: {failed}"),
        Some(Unfinished { is_rebuild: true, .. }) => "rebuilding".to_string(),
        Some(_) => "building".to_string(),
    }
}

/// The status of an embedding from that of the view that keeps its vectors.
fn embedding_status(server: &Server, at: usize, kept: v1::ViewStatus) -> v1::EmbeddingStatus {
    let collection = server.collections.get(at);
    let (stats, recall) = (collection.index().stats(), server.quality.recall(at));
    let bytes = stats.bytes + collection.attribute_bytes();
    let (built, building) = collection.index().building();
    v1::EmbeddingStatus {
        vectors: stats.live as u64,
        dead: stats.dead as u64,
        fresh: stats.fresh as u64,
        applied: kept.applied,
        filtered: kept.filtered,
        keyless: kept.keyless,
        late: kept.late,
        duplicate: kept.duplicate,
        codes: stats.codes.unwrap_or_default().to_string(),
        bytes: bytes as u64,
        bytes_per_vector: (bytes / stats.live.max(1)) as u64,
        disk_bytes: stats.disk_bytes as u64,
        state: kept.state,
        sampled: recall.searches,
        sampled_neighbours: recall.neighbours,
        sampled_found: recall.found,
        building: building as u64,
        built: built as u64,
        indexed: collection.is_indexed(),
    }
}

fn member((name, shown): (&String, &MemberShown)) -> (String, v1::MemberStatus) {
    let partition = |(source, partitions): (&String, &Vec<u32>)| {
        let source = source.clone();
        let owned = partitions.iter().map(move |partition| (source.clone(), *partition));
        owned.map(|(source, partition)| v1::OwnedPartition { source, partition }).collect::<Vec<_>>()
    };
    let MemberShown { role, address, partitions } = shown.clone();
    let partitions = partitions.iter().flat_map(partition).collect();
    (name.clone(), v1::MemberStatus { role, address, partitions })
}

fn sink_statuses(server: &Server, state: &State) -> std::collections::HashMap<String, v1::SinkStatus> {
    let sinks = server.registry.sinks.iter().zip(&server.sinks).enumerate();
    let status = |(at, (sink, progress)): (usize, (&Sink, &SinkProgress))| {
        let now = progress.state();
        let status = v1::SinkStatus {
            topic: sink.topic.clone(),
            state: now.shown(),
            lag: if now.runs { now.lag(&server.registry, at, state) } else { 0 },
            messages: now.messages,
            tombstones: now.tombstones,
            sent_at: now.sent_at.unwrap_or(NO_TIME),
            last_error: now.last_error.unwrap_or_default(),
            warning: now.warning.unwrap_or_default(),
        };
        (sink.name.clone(), status)
    };
    sinks.map(status).collect()
}

/// Catalog.Status
pub fn status(server: &Server) -> v1::StatusResponse {
    let state = server.memory.read();
    let source = |(at, source): (usize, &std::sync::Arc<tidemill_features::definitions::Source>)| {
        let ledger = &state.sources[at];
        let of_source = state.positions.iter().filter(|((source, _), _)| *source == at as u32);
        let status = v1::SourceStatus {
            consumed: ledger.consumed,
            accepted: ledger.accepted,
            dead_lettered: ledger.dead_lettered,
            lag: server.ingest.pending[at].events().max(server.ingest.pending[at].kafka.lag()),
            positions: of_source.map(|((_, partition), next)| (*partition, *next)).collect(),
            state: source_state(server, at),
            kafka: kafka_status(server, at),
            history: source.history.as_ref().map(|_| history_status(server, at, &state.positions)),
            newest_event: ledger.newest_event.unwrap_or(NO_TIME),
        };
        (source.name.clone(), status)
    };
    let view = |(at, view): (usize, &std::sync::Arc<tidemill_features::definitions::View>)| {
        let ledger = &state.views[at];
        let shared = server.reader.shared.is_some();
        let unfinished = server.reader.builds.unfinished(&server.registry, &state, at).filter(|_| !shared);
        let status = v1::ViewStatus {
            state: view_state(unfinished.as_ref()),
            built: unfinished.map_or(1.0, |unfinished| unfinished.built),
            applied: ledger.applied,
            filtered: ledger.filtered,
            keyless: ledger.keyless,
            late: ledger.late,
            duplicate: ledger.duplicate,
            entities: state.entities(at) as u64,
            newest_event: ledger.newest_event.unwrap_or(NO_TIME),
            bytes: state.bytes(at),
        };
        (view.name.clone(), status)
    };
    let embedding = |(at, embedding): (usize, &tidemill_features::definitions::Embedding)| {
        let (_, kept) = view((embedding.view, &server.registry.views[embedding.view]));
        (embedding.name.clone(), embedding_status(server, at, kept))
    };
    let mut response = v1::StatusResponse {
        ready: server.ingest.ready.load(std::sync::atomic::Ordering::Acquire),
        sources: server.registry.sources.iter().enumerate().map(source).collect(),
        views: server
            .registry
            .views
            .iter()
            .enumerate()
            .filter(|(_, v)| v.stream.is_some() && v.is_declared())
            .map(view)
            .collect(),
        definition_hash: format!("{:016x}", server.registry.hash),
        version: env!("CARGO_PKG_VERSION").to_string(),
        row_errors: state.row_errors,
        log: None,
        embeddings: server.registry.embeddings.iter().enumerate().map(embedding).collect(),
        members: state.members.iter().map(member).collect(),
        sinks: sink_statuses(server, &state),
        verify: Some(server.verification.lock().to_wire()),
    };
    // Sources that are not declared now count where they are sealed.
    let taken: u64 = state.sources.iter().map(|ledger| ledger.accepted).sum();
    // The manifest is a file: nobody shall wait for it.
    drop(state);
    response.log = log_status(server, taken);
    response
}

/// The log in numbers, of which declared sources have taken so many events in; None where it cannot be looked at just now.
fn log_status(server: &Server, taken: u64) -> Option<v1::LogStatus> {
    let log = crate::log::summary(&server.log_folder).ok()?;
    let gone = log.cut.sources.values();
    let cut_events: u64 = gone.clone().map(|gone| gone.events).sum();
    let held_back = server.ingest.held_back.lock().clone();
    Some(v1::LogStatus {
        segments: log.segments,
        pieces: log.pieces.len() as u64,
        files: log.pieces.iter().map(|piece| piece.files).sum(),
        bytes: log.bytes(),
        events: taken.saturating_sub(cut_events).max(log.sealed_events()),
        oldest_event: log.oldest_event().unwrap_or(NO_TIME),
        cut_events,
        cut_to: gone.filter_map(|gone| gone.times).map(|(_, newest)| newest).max().unwrap_or(NO_TIME),
        held_back: held_back.map(|held| v1::HeldBack {
            view: held.view,
            reason: held.reason,
            pieces: held.pieces,
            bytes: held.bytes,
        }),
    })
}
