//! A search of now: the index, attributes, live features and the joined ones, all of one T and one state.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidemill_features::read::Answer;
use tidemill_features::service::{Condition, Keys, ReadPlan};
use tidemill_features::value::Value;

use super::super::moment::{Moment, Times};
use super::asked::Asked;
use super::common::{Found, Hit, Read, features, keys_for, left_out, of_ordered, to_ordered, wanted};
use crate::collections::Opened;
use crate::components::Server;
use crate::failure::Failure;
use crate::vectors::{Filter, Query, Way};

/// Answers from the index. The gate stays open meanwhile: what is published waits, so nothing in the answer is of another state.
pub(super) fn search(server: &Server, asked: &Asked, stop: &AtomicBool) -> Result<Found, Failure> {
    let reader = &server.reader;
    let state = server.memory.read();
    reader.check_complete(&state, &asked.vectors)?;
    let plans = asked.condition.iter().filter_map(|(_, plan)| plan.as_ref());
    let plans = plans.chain(asked.features.iter().map(|joined| &joined.plan));
    plans.into_iter().try_for_each(|plan| reader.check_complete(&state, plan))?;
    let collection = server.collections.get(asked.embedding);
    let opened = collection.open(&server.registry, &state, &server.clock)?;
    let positions = state.positions.clone();
    let moment = Moment::new(reader, Times::One(opened.time), &positions, stop);
    let read = |plan: &Arc<ReadPlan>, keys: &Keys| -> Result<Vec<Vec<Answer>>, Failure> {
        moment.columns(&*state, plan, keys)
    };
    let wanted = wanted(server, asked, &read)?;
    let test =
        Test { server, asked, opened: &opened, read: &read, known: RefCell::default(), failed: RefCell::default() };
    let passes = |slot: u32, key: &[u8]| test.passes(slot, key);
    let (mut hits, mut explained) = (Vec::new(), Vec::with_capacity(wanted.len()));
    for (query, (vector, own)) in wanted.iter().enumerate() {
        let left_out = left_out(server, asked, own.as_ref())?;
        let exclude: Vec<&[u8]> = left_out.iter().map(Vec::as_slice).collect();
        let found = opened.view.search(Query {
            ef: asked.ef,
            filter: asked.condition.as_ref().map(|_| Filter::Keys(&passes)),
            exclude: &exclude,
            min_score: asked.min_score,
            way: if asked.is_exact { Way::Exact } else { Way::Planned },
            ..Query::new(vector, asked.k)
        })?;
        if let Some(failure) = test.failed.take() {
            return Err(failure);
        }
        explained.push(Some(found.explained));
        for hit in found.hits {
            let attributes = opened.attributes(hit.slot).to_vec();
            hits.push(Hit { query, key: of_ordered(server, asked, &hit.key)?, score: hit.score, attributes });
        }
    }
    let columns = features(server, asked, &hits, &read)?;
    let time = opened.time;
    Ok(Found { hits, explained, columns, time, positions: positions.clone(), is_now: true })
}

/// Asks the condition of one vector after the other; live features are read for those only that a search looks at.
struct Test<'t> {
    server: &'t Server,
    asked: &'t Asked,
    opened: &'t Opened<'t>,
    read: Read<'t>,
    /// by slot: answers that took a read
    known: RefCell<HashMap<u32, bool>>,
    failed: RefCell<Option<Failure>>,
}

impl Test<'_> {
    fn passes(&self, slot: u32, key: &[u8]) -> bool {
        let Some((condition, plan)) = &self.asked.condition else { return true };
        let Some(plan) = plan else { return condition.holds(self.opened.attributes(slot), &[], self.opened.time) };
        if let Some(known) = self.known.borrow().get(&slot) {
            return *known;
        }
        let passes = self.read_and_ask(condition, plan, slot, key).unwrap_or_else(|failure| {
            self.failed.borrow_mut().get_or_insert(failure);
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
        let key = of_ordered(self.server, self.asked, key)?;
        let keys = keys_for(self.server, self.asked, plan, std::iter::once(key.as_slice()))?;
        let columns = (self.read)(plan, &keys)?;
        let features: Vec<Value<'static>> =
            columns.into_iter().filter_map(|column| column.into_iter().next()).map(|answer| answer.value).collect();
        Ok(condition.holds(self.opened.attributes(slot), &features, self.opened.time))
    }
}

/// Vectors of the collection, spread evenly over its entities.
pub(super) fn sample(server: &Server, asked: &Asked) -> Result<Vec<Vec<f32>>, Failure> {
    let view = server.registry.embeddings[asked.embedding].view;
    let index = server.collections.get(asked.embedding).index();
    let mut keys: Vec<Box<[u8]>> = server.memory.read().keys(view).map(Box::from).collect();
    keys.sort_unstable();
    let step = (keys.len() / asked.samples.max(1)).max(1);
    let vectors: Vec<Vec<f32>> = keys
        .iter()
        .step_by(step)
        .filter_map(|key| index.vector(&to_ordered(server, asked, key).ok()?))
        .take(asked.samples)
        .collect();
    match vectors.is_empty() {
        true => Err(Failure::field("E4028", "recall", "the collection has no vectors to look for")),
        false => Ok(vectors),
    }
}
