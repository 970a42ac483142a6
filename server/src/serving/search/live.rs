//! A search of now: vectors and attributes as one moment has them, live features and the joined ones of the same T.
//!
//! The gate is open only while that moment is taken, and then for each read of features. So a search, however long it takes, holds
//! up nobody; its answer names the log prefix that its vectors have, and features may have seen more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidemill_features::service::{Condition, ReadPlan};

use super::super::get::Positions;
use super::asked::{Asked, Queries};
use super::beyond::Beyond;
use super::common::{Found, Hit, asked_of, features, keys_for, left_out, of_ordered, wanted};
use super::quality::Sample;
use super::reads::Reads;
use crate::collections::Opened;
use crate::components::Server;
use crate::failure::Failure;
use crate::ingest::may_miss;
use crate::limits::{SEARCH_K_MAX, SEARCH_READ_ROWS};
use crate::vectors::{self, Bitmap, Filter, Query, Way};

/// How many more neighbours each round looks at, and how many the first one does at least: reading the features of a hundred
/// takes hardly longer than reading those of one.
const ROUND_FACTOR: usize = 4;
const ROUND_LEAST: usize = 100;

/// A search of one moment.
pub(super) struct Live<'s> {
    pub server: &'s Server,
    pub asked: &'s Asked,
    pub opened: Opened,
    positions: Positions,
    stop: &'s AtomicBool,
}

impl<'s> Live<'s> {
    /// Takes the moment; None: the index does not have everything that the records have.
    pub(super) fn open(
        server: &'s Server,
        asked: &'s Asked,
        stop: &'s AtomicBool,
    ) -> Result<Option<Live<'s>>, Failure> {
        if let Some(shared) = &server.reader.shared {
            let opened = shared.neighbours.as_ref().map(|neighbours| neighbours.open(asked.embedding)).transpose()?;
            let opened = opened.flatten().filter(|(opened, _)| !may_lack(server, asked, opened.time));
            return Ok(opened.map(|(opened, positions)| Live { server, asked, opened, positions, stop }));
        }
        let (reader, collection) = (&server.reader, server.collections.get(asked.embedding));
        collection.settle(&server.memory, &server.clock)?;
        let state = server.memory.read();
        reader.check_complete(&state, &asked.vectors)?;
        let plans = asked.condition.iter().filter_map(|(_, plan)| plan.as_ref());
        let mut plans = plans.chain(asked.features.iter().map(|joined| &joined.plan));
        plans.try_for_each(|plan| reader.check_complete(&state, plan))?;
        let opened = collection.open(&state, &server.clock)?;
        let opened = opened.filter(|opened| !may_lack(server, asked, opened.time));
        Ok(opened.map(|opened| Live { server, asked, opened, positions: state.positions.clone(), stop }))
    }

    /// Answers from the index.
    pub(super) fn search(&self, is_exact: bool) -> Result<Found, Failure> {
        let Live { server, asked, opened, .. } = self;
        let reads = Reads::new(server, opened.time, Some(self.positions.clone()), self.stop);
        let wanted = wanted(server, asked, &|plan, keys| reads.read(plan, keys))?;
        let beyond = Beyond::read(self, &reads)?;
        let test = Test { live: self, reads: &reads, known: RefCell::default(), failed: Cell::default() };
        let (mut hits, mut explained) = (Vec::new(), Vec::with_capacity(wanted.len()));
        for (query, (vector, own)) in wanted.iter().enumerate() {
            reads.check_wanted()?;
            let left_out = left_out(server, asked, own.as_ref())?;
            let exclude: Vec<&[u8]> = left_out.iter().map(Vec::as_slice).collect();
            let (ef, min_score) = (asked.ef, asked.min_score);
            let way = if is_exact { Way::Exact } else { Way::Planned };
            let query_of = Query { ef, exclude: &exclude, min_score, way, ..Query::new(vector, asked.k) };
            let mut found = test.neighbours(query_of)?;
            if !matches!(asked.condition, Some((_, Some(_)))) {
                server.quality.offer(&found.explained, || Sample {
                    embedding: asked.embedding,
                    view: opened.view.clone(),
                    attributes: opened.attributes.clone(),
                    condition: asked.condition.as_ref().map(|(condition, _)| condition.clone()),
                    time: opened.time,
                    vector: vector.clone(),
                    k: asked.k,
                    exclude: left_out.clone(),
                    min_score: asked.min_score,
                    hits: found.hits.clone(),
                });
            }
            explained.push(Some(found.explained));
            beyond.join(&opened.view, &query_of, asked, &mut found.hits);
            for hit in found.hits {
                let attributes = opened.attributes.get(hit.slot).to_vec();
                hits.push(Hit { query, key: of_ordered(server, asked, &hit.key)?, score: hit.score, attributes });
            }
        }
        let columns = features(server, asked, &hits, &|plan, keys| reads.read(plan, keys))?;
        Ok(Found { hits, explained, columns, time: opened.time, positions: reads.positions(), is_now: true })
    }

    /// Vectors of the collection, spread evenly over its keys.
    pub(super) fn sample(&self) -> Result<Queries, Failure> {
        let index = self.server.collections.get(self.asked.embedding).index();
        let mut keys: Vec<&[u8]> = self.opened.view.keys().map(|(_, key)| key).collect();
        keys.sort_unstable();
        let step = (keys.len() / self.asked.samples.max(1)).max(1);
        // One that has just been deleted is nothing to look for.
        let vectors = keys.iter().step_by(step).filter_map(|key| Some((key, index.vector(key).transpose()?)));
        let sample = vectors.take(self.asked.samples).map(|(key, vector)| {
            let key = of_ordered(self.server, self.asked, key)?;
            Ok((key, vector?))
        });
        let sample: Vec<(Vec<u8>, Vec<f32>)> = sample.collect::<Result<_, Failure>>()?;
        match sample.is_empty() {
            true => Err(Failure::field("E4028", "recall", "the collection has no vectors to look for")),
            false => Ok(Queries::Sample(sample)),
        }
    }
}

/// Whether vectors may depend on events that their view never saw, since the log had been cut before it was built.
fn may_lack(server: &Server, asked: &Asked, time: i64) -> bool {
    let embedding = &server.registry.embeddings[asked.embedding];
    let view = &server.registry.views[embedding.view];
    let missing = server.reader.past.begun.of(view);
    let lacks = |feature: usize| {
        missing.as_ref().is_some_and(|missing| may_miss(view, &view.plan.features[feature], time, missing))
    };
    embedding.features().into_iter().any(lacks)
}

/// Asks the condition of one vector after the other; live features are read for those only that a search looks at.
struct Test<'t> {
    live: &'t Live<'t>,
    reads: &'t Reads<'t>,
    /// by slot: answers that took a read
    known: RefCell<HashMap<u32, bool>>,
    failed: Cell<Option<Failure>>,
}

impl Test<'_> {
    /// The neighbours that pass.
    fn neighbours(&self, query: Query<'_>) -> Result<vectors::Answer, Failure> {
        if let (Some((_, Some(plan))), Some(_)) = (&self.live.asked.condition, &self.live.server.reader.shared) {
            return self.in_rounds(query, plan);
        }
        let passes = |slot: u32, key: &[u8]| self.passes(slot, key);
        let filter = self.live.asked.condition.as_ref().map(|_| Filter::Keys(&passes));
        let found = self.live.opened.view.search(Query { filter, ..query })?;
        self.failed.take().map_or(Ok(found), Err)
    }

    /// The same where a read of features is a round trip: the features of many neighbours are read at once, and of more and
    /// more of them, until enough of them pass.
    fn in_rounds(&self, query: Query<'_>, plan: &Arc<ReadPlan>) -> Result<vectors::Answer, Failure> {
        let view = &self.live.opened.view;
        let mut k = (ROUND_FACTOR * query.k).clamp(ROUND_LEAST, SEARCH_K_MAX);
        loop {
            let mut found = view.search(Query { k, ..query })?;
            let are_all = found.hits.len() < k;
            self.learn(plan, found.hits.iter().map(|hit| (hit.slot, hit.key.as_slice())))?;
            let known = self.known.borrow();
            found.hits.retain(|hit| known.get(&hit.slot) == Some(&true));
            if found.hits.len() >= query.k || are_all {
                found.hits.truncate(query.k);
                return Ok(found);
            }
            drop(known);
            if k == SEARCH_K_MAX {
                break;
            }
            k = (ROUND_FACTOR * k).min(SEARCH_K_MAX);
        }
        self.learn(plan, view.keys())?;
        let known = self.known.borrow();
        let passing: Bitmap = known.iter().filter(|(_, passes)| **passes).map(|(slot, _)| *slot).collect();
        view.search(Query { filter: Some(Filter::Slots(&passing)), ..query })
    }

    /// Asks the condition of vectors, many at a time.
    fn learn<'k>(&self, plan: &Arc<ReadPlan>, keys: impl Iterator<Item = (u32, &'k [u8])>) -> Result<(), Failure> {
        let Live { server, asked, opened, .. } = self.live;
        let Some((condition, _)) = &asked.condition else { return Ok(()) };
        let unknown: Vec<(u32, &[u8])> = keys.filter(|(slot, _)| !self.known.borrow().contains_key(slot)).collect();
        for part in unknown.chunks(SEARCH_READ_ROWS) {
            let keys = part.iter().map(|(_, key)| of_ordered(server, asked, key));
            let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
            let columns = self.reads.read(plan, &keys_for(server, asked, plan, keys.iter().map(Vec::as_slice))?)?;
            for (row, (slot, _)) in part.iter().enumerate() {
                let passes = condition.holds(opened.attributes.get(*slot), &asked_of(&columns, row)?, opened.time);
                self.known.borrow_mut().insert(*slot, passes);
            }
        }
        Ok(())
    }

    fn passes(&self, slot: u32, key: &[u8]) -> bool {
        let Live { asked, opened, .. } = self.live;
        let Some((condition, plan)) = &asked.condition else { return true };
        let Some(plan) = plan else { return condition.holds(opened.attributes.get(slot), &[], opened.time) };
        if let Some(known) = self.known.borrow().get(&slot) {
            return *known;
        }
        let passes = self.read_and_ask(condition, plan, slot, key).unwrap_or_else(|failure| {
            self.failed.set(Some(failure));
            false
        });
        self.known.borrow_mut().insert(slot, passes);
        passes
    }

    fn read_and_ask(
        &self,
        condition: &Condition,
        plan: &Arc<ReadPlan>,
        slot: u32,
        key: &[u8],
    ) -> Result<bool, Failure> {
        let Live { server, asked, opened, .. } = self.live;
        let key = of_ordered(server, asked, key)?;
        let columns = self.reads.look(plan, &keys_for(server, asked, plan, std::iter::once(key.as_slice()))?)?;
        Ok(condition.holds(opened.attributes.get(slot), &asked_of(&columns, 0)?, opened.time))
    }
}
