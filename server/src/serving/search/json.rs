//! Searches in JSON, for the HTTP door.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tidemill_features::time::rfc3339;
use tidemill_features::value::DataType;
use tidemill_proto::v1;

use super::super::http::{parsed, safe, time_of};
use super::super::json_columns::column_of;
use super::super::wire::from_wire;
use crate::failure::Failure;

/// `{"embedding": …, "vector": […] or "vectors": [[…], …] or "like": {"item_id": ["i7"]}, "k": 10, "where": …}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    embedding: String,
    vector: Option<Vec<f32>>,
    #[serde(default)]
    vectors: Vec<Vec<f32>>,
    #[serde(default)]
    like: Map<String, Json>,
    #[serde(default)]
    vector_from: String,
    k: u64,
    #[serde(default, rename = "where")]
    condition: String,
    ef: Option<u64>,
    #[serde(default)]
    exact: bool,
    /// a feature service
    #[serde(default)]
    with_features: String,
    #[serde(default)]
    features: Vec<String>,
    min_score: Option<f64>,
    #[serde(default)]
    exclude: Map<String, Json>,
    as_of: Option<String>,
}

/// The request that a body is.
pub fn request(body: &[u8]) -> Result<v1::SearchRequest, Failure> {
    let body: Body = parsed(body)?;
    let columns = |given: &Map<String, Json>| -> Result<HashMap<String, v1::Column>, Failure> {
        given.iter().map(|(name, json)| Ok((name.clone(), column_of(name, json)?))).collect()
    };
    Ok(v1::SearchRequest {
        keys: columns(&body.like)?,
        exclude: columns(&body.exclude)?,
        embedding: body.embedding,
        vectors: body.vector.into_iter().chain(body.vectors).map(|values| v1::Vector { values }).collect(),
        vector_from: body.vector_from,
        k: body.k,
        r#where: body.condition,
        ef: body.ef,
        exact: body.exact,
        with_features: body.with_features,
        features: body.features,
        min_score: body.min_score,
        as_of: time_of(body.as_of.as_deref())?,
        ..v1::SearchRequest::default()
    })
}

/// An answer: the neighbours of each query, best first.
pub fn answer(answer: &v1::SearchResponse) -> Result<Json, Failure> {
    let keys = columns(&answer.keys)?;
    let attributes = columns(&answer.attributes)?;
    let values = columns(&answer.columns)?;
    let mut next = 0;
    let mut queries = Vec::with_capacity(answer.counts.len());
    for (count, plan) in answer.counts.iter().zip(&answer.plans) {
        let hits = (next..next + *count as usize).map(|hit| {
            json!({ "keys": object(&keys, hit), "score": answer.scores[hit], "attributes": object(&attributes, hit),
                    "values": object(&values, hit) })
        });
        queries.push(json!({ "hits": hits.collect::<Vec<_>>(), "plan": plan.plan }));
        next += *count as usize;
    }
    let mut positions = Map::new();
    for position in &answer.positions {
        let of_source = positions.entry(position.source.clone()).or_insert_with(|| json!({}));
        of_source[position.partition.to_string()] = json!(position.next_offset);
    }
    Ok(json!({ "queries": queries, "as_of": rfc3339(answer.read_time), "positions": positions, "stale": answer.stale,
               "definition_hash": answer.definition_hash }))
}

/// A column's name, values and, for decimals, type.
type Named = (String, tidemill_features::expression::Column, Option<DataType>);

fn columns(columns: &[v1::Column]) -> Result<Vec<Named>, Failure> {
    let named = |column: &v1::Column| {
        let data_type = match &column.values {
            Some(v1::column::Values::Decimals(v)) => Some(DataType::Decimal { precision: 38, scale: v.scale as u8 }),
            _ => None,
        };
        Ok((column.name.clone(), from_wire(&column.name, column)?, data_type))
    };
    columns.iter().map(named).collect()
}

fn object(columns: &[Named], row: usize) -> Map<String, Json> {
    let cell = |(name, column, data_type): &Named| {
        (name.clone(), safe(crate::json::value(&column.value(row), data_type.as_ref())))
    };
    columns.iter().map(cell).collect()
}
