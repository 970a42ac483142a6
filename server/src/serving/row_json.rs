//! One row of an answer as JSON: what HTTP answers with, and what sinks publish.

use serde_json::{Map, Value as Json, json};
use tidemill_features::definitions::Registry;
use tidemill_features::read::Status;
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::time::rfc3339;

use super::get::{Answers, Positions};
use crate::json;

/// How numbers are written: as they are, or so that every reader gets them.
pub type Numbers = fn(Json) -> Json;

/// The key of a row, in the order of its columns.
pub fn key(plan: &ReadPlan, keys: &Keys, row: usize, numbers: Numbers) -> Map<String, Json> {
    let named = plan.keys.iter().zip(&keys.columns);
    named
        .map(|((name, data_type), column)| (name.clone(), numbers(json::value(&column.value(row), Some(data_type)))))
        .collect()
}

/// Key, values, statuses, newest events, and which values a cap has made smaller.
pub fn row(answers: &Answers, keys: &Keys, row: usize, numbers: Numbers) -> Map<String, Json> {
    let (mut values, mut statuses, mut newest) = (Map::new(), Map::new(), Map::new());
    let mut capped = Vec::new();
    for ((name, data_type), column) in answers.plan.columns.iter().zip(&answers.columns) {
        let answer = &column[row];
        values.insert(name.clone(), numbers(json::value(&answer.value, Some(data_type))));
        if answer.status != Status::Present {
            statuses.insert(name.clone(), json!(answer.status.name()));
        }
        if answer.capped {
            capped.push(name.clone());
        }
        if let Some(time) = answer.newest {
            newest.insert(name.clone(), json!(rfc3339(time)));
        }
    }
    let mut json = Map::new();
    json.insert("keys".into(), key(&answers.plan, keys, row, numbers).into());
    json.insert("values".into(), values.into());
    json.insert("statuses".into(), statuses.into());
    json.insert("newest".into(), newest.into());
    json.insert("capped".into(), capped.into());
    json
}

/// Positions by source and partition, of those sources that are asked for.
pub fn positions(registry: &Registry, positions: &Positions, used: impl Fn(usize) -> bool) -> Map<String, Json> {
    let mut json: Map<String, Json> = Map::new();
    for ((source, partition), next) in positions.iter().filter(|((source, _), _)| used(*source as usize)) {
        let of_source = json.entry(registry.sources[*source as usize].name.clone()).or_insert_with(|| json!({}));
        of_source[partition.to_string()] = json!(next);
    }
    json
}
