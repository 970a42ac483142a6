//! Requests that change something: pushes and dead letters. Both doors call these.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_features::definitions::Connector;
use tidemill_features::problem::nearest;
use tidemill_proto::v1::{self, push_request::Rows};

use super::answer::given_up_to_wire;
use super::wire::from_wire;
use crate::components::Server;
use crate::failure::Failure;
use crate::failure::shortened;
use crate::ingest::{Receipt, Wait};
use crate::limits::PUSH_ROWS_MAX;
use crate::log::{LogPlace, LogReader};
use crate::settings::Role;
use crate::source::{Decoded, Decoder, columns, csv, json};

/// Dead letters that a push's answer shows.
const SHOWN_DEAD_LETTERS: usize = 10;
/// Dead letters of one listing.
const LETTERS_MAX: u32 = 1_000;

/// Runs work that takes long off the threads that answer requests.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::internal("E2023", "the request panicked: this is a bug of Tidemill")))
}

fn source_of(server: &Server, name: &str) -> Result<usize, Failure> {
    server.registry.source(name).ok_or_else(|| {
        let near = nearest(name, server.registry.sources.iter().map(|source| source.name.as_str()));
        Failure::unknown("E1010", format!("unknown source `{}`", shortened(name)), near)
    })
}

fn decode(server: &Server, source: usize, rows: &Rows, now: i64) -> Result<Decoded, Failure> {
    let definition = server.registry.sources[source].clone();
    let mut decoder =
        Decoder::new(definition.clone(), server.keys[source].clone(), now).with_rows_max(PUSH_ROWS_MAX as u64);
    match rows {
        Rows::Ndjson(body) => json::decode(body, &mut decoder),
        Rows::Csv(body) => csv::decode(body, &mut decoder).map_err(|e| Failure::field("E1008", "csv", e))?,
        Rows::Columns(list) => {
            let mut named = Vec::with_capacity(list.columns.len());
            // What the source does not declare is not even looked at.
            let declared = |name: &str| definition.fields.iter().any(|(field, _)| field == name);
            for column in list.columns.iter().filter(|column| declared(&column.name)) {
                if named.iter().any(|(name, _)| *name == column.name) {
                    return Err(Failure::field("E1009", "columns", format!("column `{}` twice", column.name)));
                }
                named.push((column.name.clone(), from_wire(&column.name, column)?));
            }
            let lengths: BTreeSet<usize> = named.iter().map(|(_, column)| column.len()).collect();
            if lengths.len() > 1 {
                return Err(Failure::field("E1009", "columns", format!("columns of different lengths: {lengths:?}")));
            }
            columns::decode(&named, lengths.first().copied().unwrap_or(0), &mut decoder);
        }
    }
    let decoded = decoder.finish();
    if decoded.consumed as usize > PUSH_ROWS_MAX {
        let message = format!("a push of more than {PUSH_ROWS_MAX} events; send fewer at once");
        return Err(Failure::field("E1009", "rows", message));
    }
    Ok(decoded)
}

/// Decodes a push and gives it its place in the queue; what comes back waits for the acknowledgement.
pub async fn enqueue(
    server: Arc<Server>,
    request: v1::PushRequest,
) -> Result<impl Future<Output = Result<v1::PushResponse, Failure>> + Send, Failure> {
    let source = source_of(&server, &request.source)?;
    if server.role == Role::Serve {
        let message = "this process only answers reads (--role serve); send events to one that runs with --role all";
        return Err(Failure::invalid("E1066", message));
    }
    if !matches!(server.registry.sources[source].connector, Connector::Push) {
        let message = match &server.registry.sources[source].connector {
            Connector::Kafka(kafka) => format!(
                "source `{}` is not fed by pushes: write to its topic `{}`",
                request.source,
                kafka.topics.join("`, `")
            ),
            _ => format!("source `{}` is not fed by pushes: its connector is another", request.source),
        };
        return Err(Failure::field("E1010", "source", message));
    }
    let wait = match request.wait() {
        v1::Wait::None => Wait::None,
        v1::Wait::Durable => Wait::Durable,
        v1::Wait::Readable => Wait::Readable,
    };
    let now = server.clock.now();
    let decoded = match &request.rows {
        Some(rows) => tokio::task::block_in_place(|| decode(&server, source, rows, now))?,
        None => Decoded::default(),
    };
    let submitted = server.ingest.enqueue(source, 0, now, decoded, wait).await?;
    Ok(async move { submitted.await.map(|receipt| push_response(&server, source, receipt, now)) })
}

/// Catalog.ResumeSource
pub async fn resume_source(
    server: &Server,
    request: v1::ResumeSourceRequest,
) -> Result<v1::ResumeSourceResponse, Failure> {
    let source = source_of(server, &request.source)?;
    if !matches!(server.registry.sources[source].connector, Connector::Kafka(_)) {
        let message = format!("source `{}` does not read from Kafka: there is nothing to resume", request.source);
        return Err(Failure::field("E1055", "source", message));
    }
    if !request.accept_loss {
        let message = "going on gives up what `tidemill status` shows as lost: say so by --accept-loss";
        return Err(Failure::field("E1055", "accept_loss", message));
    }
    let given_up = server.ingest.pending[source].kafka.resume().await?;
    Ok(v1::ResumeSourceResponse { given_up: given_up.into_iter().map(given_up_to_wire).collect() })
}

/// Ingest.Push
pub async fn push(server: Arc<Server>, request: v1::PushRequest) -> Result<v1::PushResponse, Failure> {
    enqueue(server, request).await?.await
}

/// Events of a fixture into a source of any connector, readable when this returns.
pub async fn feed(server: Arc<Server>, source: &str, rows: Rows) -> Result<v1::PushResponse, Failure> {
    let source = source_of(&server, source)?;
    let now = server.clock.now();
    let decoded = tokio::task::block_in_place(|| decode(&server, source, &rows, now))?;
    let receipt = server.ingest.enqueue(source, 0, now, decoded, Wait::Readable).await?.await?;
    Ok(push_response(&server, source, receipt, now))
}

fn push_response(server: &Server, source: usize, receipt: Receipt, now: i64) -> v1::PushResponse {
    let name = &server.registry.sources[source].name;
    let letters = receipt.dead.iter().take(SHOWN_DEAD_LETTERS).map(|dead| v1::DeadLetter {
        source: name.clone(),
        partition: receipt.partition,
        offset: dead.offset,
        code: dead.code.clone(),
        reason: dead.reason.clone(),
        payload: dead.payload[..dead.payload.len().min(1024)].to_vec().into(),
        arrival_time: now,
    });
    v1::PushResponse {
        accepted: receipt.accepted,
        dead_lettered: receipt.dead.len() as u64,
        dead_letters: letters.collect(),
        positions: vec![v1::Position {
            source: name.clone(),
            partition: receipt.partition,
            next_offset: receipt.next_offset,
        }],
    }
}

/// Ingest.DeadLetters: read off the event log.
pub fn dead_letters(server: &Server, request: &v1::DeadLettersRequest) -> Result<Vec<v1::DeadLetter>, Failure> {
    if !request.source.is_empty() {
        source_of(server, &request.source)?;
    }
    if request.limit > LETTERS_MAX {
        return Err(Failure::field("E1009", "limit", format!("at most {LETTERS_MAX} letters at once")));
    }
    let limit = if request.limit == 0 { 100 } else { request.limit as usize };
    let broken = |e: crate::log::LogError| e.failure("E2021");
    let mut reader = LogReader::open(&server.log_folder, LogPlace::default()).map_err(broken)?.without_events();
    let mut letters = Vec::new();
    while let Some(read) = reader.next_frame().map_err(broken)? {
        let frame = read.frame;
        if !request.source.is_empty() && frame.source != request.source {
            continue;
        }
        for dead in frame.dead {
            if frame.partition < request.partition
                || (frame.partition == request.partition && dead.offset < request.from_offset)
            {
                continue;
            }
            letters.push(v1::DeadLetter {
                source: frame.source.clone(),
                partition: frame.partition,
                offset: dead.offset,
                code: dead.code,
                reason: dead.reason,
                payload: dead.payload.into(),
                arrival_time: frame.accepted_at,
            });
            if letters.len() >= limit {
                return Ok(letters);
            }
        }
    }
    Ok(letters)
}

/// Ingest.ReplayDeadLetters: pushes the letters again, as new events of their source.
pub async fn replay_dead_letters(
    server: Arc<Server>,
    request: v1::DeadLettersRequest,
) -> Result<v1::PushResponse, Failure> {
    let source = source_of(&server, &request.source)?;
    if let Connector::Kafka(kafka) = &server.registry.sources[source].connector {
        let message = format!(
            "events of `{}` have the places of their topic, and none is left for them: write them to `{}` again, mended \
             (`tidemill dead-letters list` has topic, partition and offset of each)",
            request.source,
            kafka.topics.join("`, `")
        );
        return Err(Failure::field("E1010", "source", message));
    }
    let listing = server.clone();
    let asked = request.clone();
    let letters = blocking(move || dead_letters(&listing, &asked)).await?;
    let mut body = Vec::new();
    for letter in &letters {
        // A letter is one event; a line break inside it would make two.
        body.extend(letter.payload.iter().filter(|byte| **byte != b'\n'));
        body.push(b'\n');
    }
    let again = v1::PushRequest {
        source: request.source,
        rows: Some(Rows::Ndjson(body.into())),
        wait: v1::Wait::Readable as i32,
    };
    push(server, again).await
}
