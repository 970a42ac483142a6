//! The HTTP twins: the same requests in JSON, on the same port.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as JsonAnswer, Router};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::time::{parse_rfc3339, rfc3339};
use tidemill_features::value::DataType;
use tidemill_proto::v1::{self, push_request::Rows};

use super::get::Answers;
use super::json_columns::column_of;
use super::status::to_http;
use super::{answer, api, row_json, search as searching};
use crate::components::Server;
use crate::failure::Failure;
use crate::json;
use crate::limits::MESSAGE_BYTES_MAX;

/// All HTTP routes.
pub fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/get", post(get_features))
        .route("/v1/events/{source}", post(push))
        .route("/v1/explain", post(explain))
        .route("/v1/search", post(search))
        .route("/v1/catalog", get(list))
        .route("/v1/catalog/{kind}/{name}", get(show))
        .route("/v1/check", post(check))
        .route("/v1/sources/{source}/resume", post(resume_source))
        .route("/v1/status", get(status))
        .route("/health", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .with_state(server)
}

/// A path that nobody serves: said in the words of the door that was used.
pub async fn unknown(headers: HeaderMap, uri: axum::http::Uri) -> Response {
    let grpc = headers.get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        return tonic::Status::unimplemented(format!("no method {}", uri.path())).into_http();
    }
    to_http(&Failure::unknown("E2024", format!("nothing is served at {}", crate::failure::shortened(uri.path())), None))
}

fn answered(result: Result<Json, Failure>) -> Response {
    match result {
        Ok(json) => JsonAnswer(json).into_response(),
        Err(failure) => to_http(&failure),
    }
}

pub(super) fn parsed<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::invalid("E2016", format!("the body is not what was expected: {e}")))
}

/// `{"service": …, "keys": {"card_id": ["c1", "c2"]}, "request": {…}, "as_of": …}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetBody {
    #[serde(default)]
    service: String,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    keys: Map<String, Json>,
    #[serde(default)]
    request: Map<String, Json>,
    as_of: Option<String>,
}

pub(super) fn time_of(text: Option<&str>) -> Result<Option<i64>, Failure> {
    let parse = |text: &str| {
        parse_rfc3339(text).ok_or_else(|| {
            Failure::field("E2015", "as_of", format!("`{text}` is not an RFC 3339 time with its offset"))
        })
    };
    text.map(parse).transpose()
}

async fn get_features(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let result = api::blocking(move || {
        let body: GetBody = parsed(&body)?;
        let plan = server.reader.plan(&body.service, &body.features)?;
        let keys = json_keys(&plan, &body.keys, &body.request)?;
        let answers = server.reader.get(plan, &keys, time_of(body.as_of.as_deref())?)?;
        Ok(answers_json(&server, &answers, &keys))
    });
    answered(result.await)
}

/// Keys and request values, each a list of equal length, or one value for a single row.
fn json_keys(plan: &ReadPlan, keys: &Map<String, Json>, request: &Map<String, Json>) -> Result<Keys, Failure> {
    let mut rows = None;
    let mut columns = |given: &Map<String, Json>, wanted: &[(String, DataType)], what: &str| {
        let wire = given.iter().map(|(name, json)| Ok((name.clone(), column_of(name, json)?)));
        let wire = wire.collect::<Result<_, Failure>>()?;
        super::wire::request_columns(&wire, wanted, what, false, &mut rows)
    };
    let columns_of_keys = columns(keys, &plan.keys, "key")?;
    let request = columns(request, &plan.request, "request value")?;
    Ok(Keys { columns: columns_of_keys, request, rows: rows.unwrap_or(0) })
}

/// int64 beyond 2^53 as text, since many JSON readers would round it.
pub(super) fn safe(json: Json) -> Json {
    match json {
        Json::Number(n) if n.as_i64().is_some_and(|v| v.unsigned_abs() > 1 << 53) => Json::String(n.to_string()),
        Json::Array(list) => Json::Array(list.into_iter().map(safe).collect()),
        other => other,
    }
}

fn answers_json(server: &Server, answers: &Answers, keys: &Keys) -> Json {
    let rows: Vec<Json> = (0..keys.rows).map(|row| row_json::row(answers, keys, row, safe).into()).collect();
    let positions = row_json::positions(&server.registry, &answers.positions, |_| true);
    let mut json = json!({ "rows": rows, "as_of": rfc3339(answers.read_time), "positions": positions,
            "stale": answers.stale, "definition_hash": format!("{:016x}", server.registry.hash) });
    if let Some(why) = answer::unanswered(server, answers) {
        json["unanswered"] = json!([{ "code": why.code, "message": why.message, "features": why.features }]);
    }
    json
}

#[derive(Deserialize)]
struct PushQuery {
    wait: Option<String>,
}

async fn push(
    State(server): State<Arc<Server>>,
    Path(source): Path<String>,
    Query(query): Query<PushQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let wait = match query.wait.as_deref() {
        None | Some("durable") => v1::Wait::Durable,
        Some("none") => v1::Wait::None,
        Some("readable") => v1::Wait::Readable,
        Some(other) => {
            let message = format!("wait is none, durable or readable, not `{}`", crate::failure::shortened(other));
            return to_http(&Failure::field("E1009", "wait", message));
        }
    };
    let is_csv = headers.get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"text/csv"));
    let rows = if is_csv { Rows::Csv(body) } else { Rows::Ndjson(body) };
    let request = v1::PushRequest { source, rows: Some(rows), wait: wait as i32 };
    answered(api::push(server, request).await.map(|response| {
        let positions: Map<String, Json> =
            response.positions.iter().map(|p| (p.partition.to_string(), json!(p.next_offset))).collect();
        let letters: Vec<Json> = response
            .dead_letters
            .iter()
            .map(|letter| json!({ "offset": letter.offset, "code": letter.code, "reason": letter.reason }))
            .collect();
        json!({ "accepted": response.accepted, "dead_lettered": response.dead_lettered, "positions": positions, "dead_letters": letters })
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainBody {
    feature: String,
    keys: Map<String, Json>,
    as_of: Option<String>,
}

async fn explain(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let result = api::blocking(move || {
        let body: ExplainBody = parsed(&body)?;
        let plan = server.reader.plan("", std::slice::from_ref(&body.feature))?;
        let keys = json_keys(&plan, &body.keys, &Map::new())?;
        let found = super::explain::explain(&server.reader, &body.feature, &keys, time_of(body.as_of.as_deref())?)?;
        Ok(explanation_json(&server, &found))
    });
    answered(result.await)
}

fn explanation_json(server: &Server, found: &super::explain::Explanation) -> Json {
    let event = |event: &super::explain::Explained, with_reason: bool| {
        let position = json!({ "source": server.registry.sources[event.source].name, "partition": event.partition, "offset": event.offset });
        let value = event.value.as_ref().map(|v| safe(json::value(v, event.data_type.as_ref())));
        let mut json = json!({ "event_time": rfc3339(event.event_time), "position": position, "value": value });
        if with_reason {
            json["reason"] = json!(event.reason);
        }
        json
    };
    json!({
        "value": safe(json::value(&found.answer.value, Some(&found.data_type))), "status": found.answer.status.name(),
        "from": found.from.map(rfc3339), "to": rfc3339(found.to), "merged_tiles": found.merged_tiles,
        "counted": found.counted.iter().map(|e| event(e, false)).collect::<Vec<_>>(),
        "excluded": found.excluded.iter().map(|e| event(e, true)).collect::<Vec<_>>(),
        "bit_identical": found.bit_identical, "arithmetic": found.arithmetic,
    })
}

async fn search(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let result = api::blocking(move || {
        let request = searching::json::request(&body)?;
        searching::json::answer(&searching::search(&server, &request, &AtomicBool::new(false))?)
    });
    answered(result.await)
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    kind: String,
}

async fn list(State(server): State<Arc<Server>>, Query(query): Query<ListQuery>) -> Response {
    answered(crate::catalog::list(&server.registry, &query.kind).map(|entries| {
        let entry = |e: &crate::catalog::Entry| json!({ "kind": e.kind, "name": e.name, "summary": e.summary });
        Json::Array(entries.iter().map(entry).collect())
    }))
}

async fn show(State(server): State<Arc<Server>>, Path((kind, name)): Path<(String, String)>) -> Response {
    answered(crate::catalog::show(&server.registry, &kind, &name).map(|(_, json)| json))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckFile {
    path: String,
    text: String,
}

async fn check(body: Bytes) -> Response {
    let result = api::blocking(move || {
        let files: Vec<CheckFile> = parsed(&body)?;
        let files = files.into_iter().map(|f| v1::DefinitionFile { path: f.path, text: f.text }).collect();
        answer::check(v1::CheckRequest { files })
    });
    answered(result.await.map(|response| {
        let problem = |p: &v1::Problem| {
            let near = Some(&p.near).filter(|near| !near.is_empty());
            json!({ "code": p.code, "file": p.file, "line": p.line, "column": p.column, "message": p.message, "near": near })
        };
        json!({ "ok": response.problems.is_empty(), "problems": response.problems.iter().map(problem).collect::<Vec<_>>() })
    }))
}

/// `{"accept_loss": true}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeBody {
    accept_loss: bool,
}

async fn resume_source(State(server): State<Arc<Server>>, Path(source): Path<String>, body: Bytes) -> Response {
    let resumed = async {
        let ResumeBody { accept_loss } = parsed(&body)?;
        let request = v1::ResumeSourceRequest { source, accept_loss };
        let given_up = api::resume_source(&server, request).await?.given_up;
        Ok(json!({ "given_up": given_up.iter().map(given_up_json).collect::<Vec<_>>() }))
    };
    answered(resumed.await)
}

/// What a source has lost, as the command line shows it too.
pub fn given_up_json(lost: &v1::GivenUp) -> Json {
    json!({ "topic": lost.topic, "partition": lost.partition, "from": lost.from, "to": lost.to, "reason": lost.reason,
            "time": rfc3339(lost.time) })
}

async fn status(State(server): State<Arc<Server>>) -> Response {
    JsonAnswer(status_json(&answer::status(&server))).into_response()
}

fn embedding_json(of: &v1::EmbeddingStatus) -> Json {
    json!({ "vectors": of.vectors, "dead": of.dead, "fresh": of.fresh, "applied": of.applied,
            "filtered": of.filtered, "keyless": of.keyless, "late": of.late, "duplicate": of.duplicate, "codes": of.codes,
            "bytes": of.bytes, "bytes_per_vector": of.bytes_per_vector, "disk_bytes": of.disk_bytes, "state": of.state, "sampled": of.sampled,
            "sampled_neighbours": of.sampled_neighbours, "sampled_found": of.sampled_found,
            "building": of.building, "built": of.built, "indexed": of.indexed })
}

/// The JSON shape of a status, which the command line shows too.
pub fn status_json(status: &v1::StatusResponse) -> Json {
    let time = |time: i64| Some(time).filter(|t| *t != super::wire::NO_TIME).map(rfc3339);
    let mut sources = Map::new();
    for (name, source) in &status.sources {
        let positions: Map<String, Json> =
            source.positions.iter().map(|(p, next)| (p.to_string(), json!(next))).collect();
        let mut json = json!({ "consumed": source.consumed, "accepted": source.accepted,
            "dead_lettered": source.dead_lettered, "lag": source.lag, "positions": positions, "state": source.state,
            "newest_event": time(source.newest_event) });
        if let Some(history) = &source.history {
            json["history"] = json!({ "state": history.state, "files_done": history.files_done,
                "files": history.files, "rows": history.rows });
        }
        if let Some(kafka) = &source.kafka {
            let partition = |(number, of): (&u32, &v1::TopicPartition)| {
                (number.to_string(), json!({ "topic": of.topic, "partition": of.partition }))
            };
            let behind = Some(kafka.behind).filter(|behind| *behind >= 0).map(|behind| behind as f64 / 1e6);
            json["kafka"] = json!({ "cluster": kafka.cluster, "behind_seconds": behind,
                "partitions": kafka.partitions.iter().map(partition).collect::<Map<String, Json>>(),
                "given_up": kafka.given_up.iter().map(given_up_json).collect::<Vec<_>>() });
        }
        sources.insert(name.clone(), json);
    }
    let embeddings: Map<String, Json> =
        status.embeddings.iter().map(|(name, of)| (name.clone(), embedding_json(of))).collect();
    let mut views = Map::new();
    for (name, view) in &status.views {
        views.insert(
            name.clone(),
            json!({ "applied": view.applied, "filtered": view.filtered, "keyless": view.keyless,
            "late": view.late, "duplicate": view.duplicate, "entities": view.entities,
            "newest_event": time(view.newest_event), "bytes": view.bytes, "state": view.state, "built": view.built }),
        );
    }
    let log = status.log.as_ref().map(|log| {
        let held = log.held_back.as_ref().map(
            |held| json!({ "view": held.view, "reason": held.reason, "pieces": held.pieces, "bytes": held.bytes }),
        );
        json!({ "segments": log.segments, "pieces": log.pieces, "files": log.files, "bytes": log.bytes,
                "events": log.events, "oldest_event": time(log.oldest_event), "cut_events": log.cut_events,
                "cut_to": time(log.cut_to), "held_back": held })
    });
    let verify = status.verify.as_ref().map(|verify| {
        json!({ "answers": verify.answers, "differences": verify.differences, "outdated": verify.outdated,
                "newest": time(verify.newest), "state": verify.state })
    });
    let member = |member: &v1::MemberStatus| {
        let mut partitions: Map<String, Json> = Map::new();
        for owned in &member.partitions {
            let of_source = partitions.entry(owned.source.clone()).or_insert_with(|| json!([]));
            of_source.as_array_mut().into_iter().for_each(|all| all.push(json!(owned.partition)));
        }
        json!({ "role": member.role, "address": member.address, "partitions": partitions })
    };
    let members: Map<String, Json> = status.members.iter().map(|(name, of)| (name.clone(), member(of))).collect();
    let sink = |sink: &v1::SinkStatus| {
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        json!({ "topic": sink.topic, "state": sink.state, "lag": sink.lag, "messages": sink.messages,
                "tombstones": sink.tombstones, "sent_at": time(sink.sent_at), "last_error": told(&sink.last_error),
                "warning": told(&sink.warning) })
    };
    let sinks: Map<String, Json> = status.sinks.iter().map(|(name, of)| (name.clone(), sink(of))).collect();
    json!({ "ready": status.ready, "members": members, "sources": sources, "views": views, "embeddings": embeddings,
            "sinks": sinks, "definition_hash": status.definition_hash, "version": status.version,
            "row_errors": status.row_errors, "log": log, "verify": verify })
}
