//! A search from records alone: every vector as it was at T is read and compared. It is exact, and takes as long as reading all
//! entities does. So past moments are searched, and collections whose records lie in a shared store.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidemill_features::read::Answer;
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::value::Value;

use super::asked::Asked;
use super::common::{Found, Hit, asked_of, features, keys_for, left_out, to_ordered, wanted};
use super::reads::Reads;
use crate::collections::metric_of;
use crate::components::Server;
use crate::failure::{Failure, Remedy};
use crate::limits::{SEARCH_READ_ROWS, SEARCH_SCANS_MAX, SHARDS};
use crate::vectors::{Bitmap, Change, Filter, Index, IndexOptions, Query, Way};

/// Everything that a collection was at T.
struct Past {
    index: Index,
    /// by slot
    keys: Vec<Vec<u8>>,
    attributes: Vec<Vec<Value<'static>>>,
}

/// Answers as of a time; now, where none is given.
pub(super) fn search(server: &Server, asked: &Asked, as_of: Option<i64>, stop: &AtomicBool) -> Result<Found, Failure> {
    let _permit = server.scans.try_acquire().map_err(|_| {
        let message = format!("{SEARCH_SCANS_MAX} searches read the records of whole collections already; try again");
        Failure::new(Remedy::Exhausted, "E4031", message)
    })?;
    let time = as_of.unwrap_or_else(|| server.clock.now());
    let reading = Reading(Reads::new(server, time, None, stop));
    let read = |plan: &Arc<ReadPlan>, keys: &Keys| reading.0.read(plan, keys);
    let wanted = wanted(server, asked, &read)?;
    let past = reading.collection(asked, as_of.is_none())?;
    let passing = reading.passing(asked, &past)?;
    let view = past.index.view();
    let mut hits = Vec::new();
    for (query, (vector, own)) in wanted.iter().enumerate() {
        let left_out = left_out(server, asked, own.as_ref())?;
        let exclude: Vec<&[u8]> = left_out.iter().map(Vec::as_slice).collect();
        let found = view.search(Query {
            filter: passing.as_ref().map(Filter::Slots),
            exclude: &exclude,
            min_score: asked.min_score,
            way: Way::Exact,
            ..Query::new(vector, asked.k)
        })?;
        hits.extend(found.hits.into_iter().map(|hit| Hit {
            query,
            attributes: past.attributes[hit.slot as usize].clone(),
            key: past.keys[hit.slot as usize].clone(),
            score: hit.score,
        }));
    }
    let columns = features(server, asked, &hits, &read)?;
    let explained = wanted.iter().map(|_| None).collect();
    Ok(Found { hits, explained, columns, time, positions: reading.0.positions(), is_now: as_of.is_none() })
}

/// Reads of one T, some entities at a time.
struct Reading<'r>(Reads<'r>);

impl Reading<'_> {
    /// Encoded keys of all entities that ever had a vector.
    fn keys(&self, asked: &Asked) -> Result<Vec<Vec<u8>>, Failure> {
        let view = self.0.server.registry.embeddings[asked.embedding].view;
        if let Some(keys) = self.0.server.reader.keys_of(view)? {
            return Ok(keys.into_iter().map(Vec::from).collect());
        }
        let memory = &self.0.server.memory;
        self.0.server.reader.check_complete(&memory.read(), &asked.vectors)?;
        // Shard after shard, so that nobody waits long.
        let keys =
            (0..SHARDS).flat_map(|shard| memory.read().keys_of_shard(view, shard).map(Vec::from).collect::<Vec<_>>());
        Ok(keys.collect())
    }

    fn collection(&self, asked: &Asked, is_now: bool) -> Result<Past, Failure> {
        let embedding = &self.0.server.registry.embeddings[asked.embedding];
        let rule = &embedding.vector;
        let options = IndexOptions { exact_below: usize::MAX, ..IndexOptions::default() };
        let index = Index::new(rule.dims, metric_of(rule.metric), options)?;
        let (mut keys, mut attributes) = (Vec::new(), Vec::new());
        for part in self.keys(asked)?.chunks(SEARCH_READ_ROWS) {
            let rows = keys_for(self.0.server, asked, &asked.vectors, part.iter().map(Vec::as_slice))?;
            let columns = self.0.read(&asked.vectors, &rows)?;
            if columns.iter().flatten().any(Answer::is_unanswered) {
                let (field, message) = match is_now {
                    true => (
                        "embedding",
                        "of some entities nobody can tell the vector: events that it depends on are gone from the log",
                    ),
                    false => {
                        ("as_of", "the event log no longer has what vectors were at that time; ask for a later one")
                    }
                };
                return Err(Failure::field("E4026", field, message));
            }
            let read = |row: usize| rule.read(&columns[0][row].value).ok().flatten();
            let vectors: Vec<(usize, Vec<f32>)> = (0..part.len()).filter_map(|row| Some((row, read(row)?))).collect();
            let ordered = vectors.iter().map(|(row, _)| to_ordered(self.0.server, asked, &part[*row]));
            let ordered = ordered.collect::<Result<Vec<_>, Failure>>()?;
            let changes: Vec<Change<'_>> =
                vectors.iter().zip(&ordered).map(|((_, vector), key)| Change::Upsert { key, vector }).collect();
            // Every key comes once, so slots ascend.
            index.write(&changes)?;
            for (row, _) in &vectors {
                keys.push(part[*row].clone());
                attributes.push(columns[1..].iter().map(|column| column[*row].value.clone()).collect());
            }
        }
        Ok(Past { index, keys, attributes })
    }

    /// The slots of those that pass the condition.
    fn passing(&self, asked: &Asked, past: &Past) -> Result<Option<Bitmap>, Failure> {
        let Some((condition, plan)) = &asked.condition else { return Ok(None) };
        let mut passing = Bitmap::new(past.keys.len());
        for (number, part) in past.keys.chunks(SEARCH_READ_ROWS).enumerate() {
            let columns = match plan {
                Some(plan) => {
                    let rows = keys_for(self.0.server, asked, plan, part.iter().map(Vec::as_slice))?;
                    self.0.read(plan, &rows)?
                }
                None => Vec::new(),
            };
            for row in 0..part.len() {
                let slot = number * SEARCH_READ_ROWS + row;
                if condition.holds(&past.attributes[slot], &asked_of(&columns, row)?, self.0.time) {
                    passing.set(slot as u32);
                }
            }
        }
        Ok(Some(passing))
    }
}
