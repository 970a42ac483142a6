//! Search: the nearest neighbours of vectors, those that pass a condition, joined with features of the same moment.
//!
//! `asked` is a request, checked; `live` answers it from the index, with the gate to the records open, so that vectors,
//! attributes, conditions and features are of one T and one state; `scan` answers it from records alone: as of a past T, and
//! where the records lie in a shared store. `common` is what both do, `answered` the message that comes out, `json` the same for HTTP.

mod answered;
mod asked;
mod common;
pub mod json;
mod live;
mod scan;

use std::sync::atomic::AtomicBool;

use tidemill_proto::v1;

use self::asked::{Asked, Queries};
use super::answer::checked_time;
use crate::components::Server;
use crate::failure::Failure;

/// Serving.Search. Once `stop` is set nobody waits for the answer any more.
pub fn search(server: &Server, request: &v1::SearchRequest, stop: &AtomicBool) -> Result<v1::SearchResponse, Failure> {
    let asked = Asked::of(server, request)?;
    match (checked_time(request.as_of)?, &server.reader.shared) {
        (None, None) if request.recall > 0 => recall(server, asked, stop),
        _ if request.recall > 0 => {
            let message =
                "recall is measured on the index of this process, as it is now: without `as_of`, on the embedded store";
            Err(Failure::field("E4028", "recall", message))
        }
        (None, None) => Ok(answered::message(server, &asked, live::search(server, &asked, stop)?)),
        (time, _) => Ok(answered::message(server, &asked, scan::search(server, &asked, time, stop)?)),
    }
}

/// Looks for vectors of the collection both ways.
fn recall(server: &Server, mut asked: Asked, stop: &AtomicBool) -> Result<v1::SearchResponse, Failure> {
    asked.queries = Queries::Vectors(live::sample(server, &asked)?);
    asked.is_exact = true;
    let exact = live::search(server, &asked, stop)?;
    asked.is_exact = false;
    let planned = live::search(server, &asked, stop)?;
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
