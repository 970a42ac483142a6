//! The answer of a search as a message.

use std::collections::BTreeSet;

use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1;

use super::super::answer::positions_where;
use super::super::wire;
use super::asked::{Asked, Queries};
use super::common::{Found, key_values};
use crate::components::Server;

pub(super) fn message(server: &Server, asked: &Asked, found: Found) -> v1::SearchResponse {
    let embedding = &server.registry.embeddings[asked.embedding];
    let mut counts = vec![0; asked.queries.len()];
    found.hits.iter().for_each(|hit| counts[hit.query] += 1);
    let keys: Vec<Vec<Value<'static>>> =
        found.hits.iter().map(|hit| key_values(server, asked, &hit.key).unwrap_or_default()).collect();
    let own_keys = &server.registry.views[embedding.view].keys;
    let null = &Value::Null;
    let column = |(name, data_type): &(String, DataType), values: Vec<&Value<'static>>| v1::Column {
        name: name.clone(),
        ..wire::values_to_wire(data_type, values.iter().copied(), values.len())
    };
    let of_keys = own_keys
        .iter()
        .enumerate()
        .map(|(at, key)| column(key, keys.iter().map(|values| values.get(at).unwrap_or(null)).collect()));
    let attributes = embedding.attributes.iter().enumerate().map(|(at, attribute)| {
        column(attribute, found.hits.iter().map(|hit| hit.attributes.get(at).unwrap_or(null)).collect())
    });
    let features = asked.features.iter().flat_map(|joined| &joined.plan.columns).zip(&found.columns);
    let sources = sources(asked);
    let stale = if found.is_now { stale(server, asked, found.time) } else { BTreeSet::new() };
    v1::SearchResponse {
        counts,
        keys: of_keys.collect(),
        scores: found.hits.iter().map(|hit| hit.score).collect(),
        attributes: attributes.collect(),
        columns: features
            .map(|((name, data_type), answers)| wire::to_wire(name.clone(), data_type, answers, true))
            .collect(),
        read_time: found.time,
        positions: positions_where(server, &found.positions, |source| sources.contains(&(source as usize))),
        definition_hash: format!("{:016x}", server.registry.hash),
        stale: stale.into_iter().collect(),
        plans: plans(&found),
        recall: None,
    }
}

/// How the neighbours of each query were found.
pub(super) fn plans(found: &Found) -> Vec<v1::SearchPlan> {
    let plan = |explained: &Option<crate::vectors::Explained>| match explained {
        Some(explained) => v1::SearchPlan {
            plan: explained.plan.name().to_string(),
            estimated: explained.estimated as u64,
            candidates: explained.candidates as u64,
            distances: explained.distances as u64,
        },
        None => v1::SearchPlan { plan: "records".to_string(), ..v1::SearchPlan::default() },
    };
    found.explained.iter().map(plan).collect()
}

/// Everything that is read for a search.
fn plans_of(asked: &Asked) -> impl Iterator<Item = &tidemill_features::service::ReadPlan> {
    let of_query = match &asked.queries {
        Queries::Feature(plan, _) => Some(&**plan),
        _ => None,
    };
    let of_condition = asked.condition.iter().filter_map(|(_, plan)| plan.as_deref());
    let joined = asked.features.iter().map(|joined| &*joined.plan);
    std::iter::once(&*asked.vectors).chain(of_query).chain(of_condition).chain(joined)
}

fn sources(asked: &Asked) -> BTreeSet<usize> {
    plans_of(asked).flat_map(|plan| plan.sources.iter().copied()).collect()
}

fn stale(server: &Server, asked: &Asked, now: i64) -> BTreeSet<String> {
    plans_of(asked).flat_map(|plan| server.reader.stale(plan, now)).collect()
}
