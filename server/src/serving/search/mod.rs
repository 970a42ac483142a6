//! Search: the nearest neighbours of vectors, those that pass a condition, joined with features of the same T.
//!
//! `asked` is a request, checked; `live` answers it from the index as it is at one moment, without holding up those who write;
//! `scan` answers it from records alone: as of a past T, and where an index is not there yet. `reads` are the reads of features
//! on the way, `beyond` are entities that an index cannot know, `quality` counts what walks over a graph miss. `common` is what both do, `answered` the message that comes out, `json` the same for HTTP.

mod answered;
mod asked;
mod beyond;
mod common;
pub mod json;
mod live;
pub mod quality;
mod reads;
mod scan;

use std::sync::atomic::AtomicBool;

use tidemill_proto::v1;

use self::asked::Asked;
use self::live::Live;
use super::answer::checked_time;
use crate::components::Server;
use crate::failure::Failure;

/// Serving.Search. Once `stop` is set nobody waits for the answer any more.
pub fn search(server: &Server, request: &v1::SearchRequest, stop: &AtomicBool) -> Result<v1::SearchResponse, Failure> {
    let mut asked = Asked::of(server, request)?;
    let time = checked_time(request.as_of)?;
    let live = if time.is_none() { Live::open(server, &asked, stop)? } else { None };
    match live {
        Some(live) if request.recall > 0 => {
            let sample = live.sample()?;
            asked.queries = sample;
            asked.features = None;
            recall(server, &asked, stop)
        }
        Some(live) => {
            let found = live.search(asked.is_exact)?;
            Ok(answered::message(server, &asked, found))
        }
        None if request.recall > 0 => Err(no_index(server, &asked)),
        None => Ok(answered::message(server, &asked, scan::search(server, &asked, time, stop)?)),
    }
}

fn no_index(server: &Server, asked: &Asked) -> Failure {
    let message = match server.registry.embeddings[asked.embedding].is_indexed() {
        true => "recall is measured on the index as it is now: without `as_of`, and once the index is filled",
        false => {
            "recall is measured on an index, and this embedding has none: searches read all records, and miss nothing"
        }
    };
    Failure::field("E4028", "recall", message)
}

/// Looks for vectors of the collection both ways, in one state of the index.
fn recall(server: &Server, asked: &Asked, stop: &AtomicBool) -> Result<v1::SearchResponse, Failure> {
    let live = Live::open(server, asked, stop)?.ok_or_else(|| no_index(server, asked))?;
    let (exact, planned) = (live.search(true)?, live.search(false)?);
    let mut recall = v1::Recall { queries: asked.queries.len() as u64, ..v1::Recall::default() };
    for query in 0..asked.queries.len() {
        let keys = |found: &common::Found| -> std::collections::HashSet<Vec<u8>> {
            found.hits.iter().filter(|hit| hit.query == query).map(|hit| hit.key.clone()).collect()
        };
        let truth = keys(&exact);
        recall.neighbours += truth.len() as u64;
        recall.found += keys(&planned).intersection(&truth).count() as u64;
    }
    let plans = answered::plans(&planned);
    Ok(v1::SearchResponse { recall: Some(recall), plans, read_time: planned.time, ..v1::SearchResponse::default() })
}
