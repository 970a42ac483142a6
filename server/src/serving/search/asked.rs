//! A search as it was asked for, checked against the definitions.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_features::definitions::{Embedding, OutputId};
use tidemill_features::expression::Column;
use tidemill_features::problem::nearest;
use tidemill_features::service::{Condition, Keys, ReadPlan};
use tidemill_features::stream::encode_key;
use tidemill_features::value::DataType;
use tidemill_proto::v1;

use super::super::wire;
use crate::components::Server;
use crate::failure::{Failure, shortened};
use crate::limits::{
    GET_CELLS_MAX, SEARCH_EF_MAX, SEARCH_EXCLUDED_MAX, SEARCH_HITS_MAX, SEARCH_K_MAX, SEARCH_QUERIES_MAX,
};

/// See above.
pub(super) struct Asked {
    /// place of the embedding in the registry
    pub embedding: usize,
    /// reads the vector and the attributes of an entity
    pub vectors: Arc<ReadPlan>,
    pub queries: Queries,
    pub k: usize,
    pub ef: Option<usize>,
    pub is_exact: bool,
    pub min_score: Option<f32>,
    /// the condition, and what reads its features
    pub condition: Option<(Arc<Condition>, Option<Arc<ReadPlan>>)>,
    /// encoded keys
    pub exclude: Vec<Vec<u8>>,
    /// what comes with each neighbour
    pub features: Option<Joined>,
    pub samples: usize,
}

/// What is looked for.
pub(super) enum Queries {
    Vectors(Vec<Vec<f32>>),
    /// encoded keys of the collection, and their vectors
    Sample(Vec<(Vec<u8>, Vec<f32>)>),
    /// entities of the collection
    Keys(Keys),
    /// a feature that is a vector, of other entities
    Feature(Arc<ReadPlan>, Keys),
}

/// Features that come with each neighbour.
pub(super) struct Joined {
    pub plan: Arc<ReadPlan>,
    /// where each of the plan's keys comes from
    pub origins: Vec<Origin>,
}

/// Where a key of the joined features comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// the neighbour
    Neighbour(usize),
    /// the entity whose feature is looked for
    Query(usize),
}

impl Queries {
    pub(super) fn len(&self) -> usize {
        match self {
            Queries::Vectors(vectors) => vectors.len(),
            Queries::Sample(sample) => sample.len(),
            Queries::Keys(keys) | Queries::Feature(_, keys) => keys.rows,
        }
    }
}

impl Asked {
    pub(super) fn of(server: &Server, request: &v1::SearchRequest) -> Result<Asked, Failure> {
        let registry = &server.registry;
        let at = registry.embedding(&request.embedding).ok_or_else(|| {
            let near = nearest(&request.embedding, registry.embeddings.iter().map(|e| e.name.as_str()));
            Failure::unknown("E4020", format!("unknown embedding `{}`", shortened(&request.embedding)), near)
        })?;
        let embedding = &registry.embeddings[at];
        let outputs = embedding.features().into_iter().map(|output| OutputId { view: embedding.view, output });
        let vectors = Arc::new(ReadPlan::of(registry, outputs.collect())?);
        let k = within("k", request.k, SEARCH_K_MAX)?;
        let ef = request.ef.map(|ef| within("ef", ef, SEARCH_EF_MAX)).transpose()?;
        let samples = if request.recall == 0 { 0 } else { within("recall", request.recall, SEARCH_QUERIES_MAX)? };
        let min_score = request.min_score.map(|score| score as f32);
        if min_score.is_some_and(f32::is_nan) {
            return Err(Failure::field("E4009", "min_score", "`min_score` is not a number"));
        }
        let queries = queries(server, request, embedding, &vectors)?;
        let count = queries.len().max(samples);
        if count == 0 && samples == 0 {
            let message = "nothing to look for: give a vector, or the key of an entity";
            return Err(Failure::field("E4021", "vectors", message));
        }
        if count > SEARCH_QUERIES_MAX || count * k > SEARCH_HITS_MAX {
            let message = format!(
                "{count} queries of {k} neighbours; at most {SEARCH_QUERIES_MAX} queries and {SEARCH_HITS_MAX} neighbours"
            );
            return Err(Failure::field("E4027", "vectors", message));
        }
        let condition = condition(server, embedding, &request.r#where)?;
        let features = joined(server, request, &vectors, &queries)?;
        if let Some(joined) = features.as_ref().filter(|joined| count * k * joined.plan.width > GET_CELLS_MAX) {
            let message = format!("{} values are more than {GET_CELLS_MAX}", count * k * joined.plan.width);
            return Err(Failure::field("E2011", "with_features", message));
        }
        let exclude = excluded(request, &vectors)?;
        Ok(Asked {
            embedding: at,
            vectors,
            queries,
            k,
            ef,
            is_exact: request.exact,
            min_score,
            condition,
            exclude,
            features,
            samples,
        })
    }
}

fn within(name: &str, value: u64, most: usize) -> Result<usize, Failure> {
    match usize::try_from(value).ok().filter(|value| (1..=most).contains(value)) {
        Some(value) => Ok(value),
        None => Err(Failure::field("E4007", name, format!("`{name}` is {value}; it is at least 1, at most {most}"))),
    }
}

fn queries(
    server: &Server,
    request: &v1::SearchRequest,
    embedding: &Embedding,
    vectors: &Arc<ReadPlan>,
) -> Result<Queries, Failure> {
    let given = !request.vectors.is_empty();
    if given && !request.keys.is_empty() {
        return Err(Failure::field("E4021", "keys", "give either vectors or keys of entities to look for"));
    }
    if request.keys.is_empty() {
        if !request.vector_from.is_empty() {
            let message = "`vector_from` names a feature: give the key of the entity that has it";
            return Err(Failure::field("E4021", "vector_from", message));
        }
        if request.vectors.len() > SEARCH_QUERIES_MAX {
            let message = format!("{} queries; at most {SEARCH_QUERIES_MAX}", request.vectors.len());
            return Err(Failure::field("E4027", "vectors", message));
        }
        let metric = crate::collections::metric_of(embedding.vector.metric);
        let vectors: Vec<Vec<f32>> = request.vectors.iter().map(|vector| vector.values.clone()).collect();
        vectors.iter().try_for_each(|vector| metric.check(embedding.vector.dims, vector))?;
        return Ok(Queries::Vectors(vectors));
    }
    if request.vector_from.is_empty() {
        return Ok(Queries::Keys(keys_of(vectors, &request.keys, request.text_values)?));
    }
    let plan = server.reader.plan("", std::slice::from_ref(&request.vector_from))?;
    let dims = embedding.vector.dims;
    let fits = |data_type: &DataType| match data_type {
        DataType::Vector(own) => *own as usize == dims,
        DataType::List(items) => matches!(**items, DataType::Float32 | DataType::Float64),
        _ => false,
    };
    match plan.columns.as_slice() {
        [(_, data_type)] if fits(data_type) => {}
        [(name, data_type)] => {
            let message =
                format!("`{name}` is {data_type}; embedding `{}` takes vectors of {dims} numbers", embedding.name);
            return Err(Failure::field("E4024", "vector_from", message));
        }
        _ => return Err(Failure::field("E4024", "vector_from", "name one feature, such as user_taste:recent_mean")),
    }
    let keys = keys_of(&plan, &request.keys, request.text_values)?;
    Ok(Queries::Feature(plan, keys))
}

fn keys_of(plan: &ReadPlan, given: &HashMap<String, v1::Column>, as_text: bool) -> Result<Keys, Failure> {
    let keys = wire::keys(plan, given, &HashMap::new(), as_text)?;
    super::super::get::encoded_keys(plan, &keys)?;
    Ok(keys)
}

/// The condition, and what reads its features.
type Conditioned = Option<(Arc<Condition>, Option<Arc<ReadPlan>>)>;

fn condition(server: &Server, embedding: &Embedding, text: &str) -> Result<Conditioned, Failure> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let condition = Condition::compile(&server.registry, embedding, text).map_err(|fault| {
        let message = format!("`where`, line {}, column {}: {}", fault.line, fault.column, fault.message);
        Failure { near: fault.near.into_iter().collect(), ..Failure::field("E4022", "where", message) }
    })?;
    if condition.features.is_empty() {
        return Ok(Some((Arc::new(condition), None)));
    }
    let plan = ReadPlan::of(&server.registry, condition.features.clone())?;
    let keys = &server.registry.views[embedding.view].keys;
    check_needs(&plan, "where", |key| keys.contains(key))?;
    Ok(Some((Arc::new(condition), Some(Arc::new(plan)))))
}

/// Refuses features that need what the search does not know.
fn check_needs(plan: &ReadPlan, field: &str, has: impl Fn(&(String, DataType)) -> bool) -> Result<(), Failure> {
    if let Some((name, data_type)) = plan.keys.iter().find(|key| !has(key)) {
        let message = format!("its features need key `{name}` ({data_type}), which the search does not have");
        return Err(Failure::field("E4025", field, message));
    }
    if let Some((name, _)) = plan.request.first() {
        let message = format!("its features need the request value `{name}`, which a search does not have");
        return Err(Failure::field("E4025", field, message));
    }
    Ok(())
}

fn joined(
    server: &Server,
    request: &v1::SearchRequest,
    vectors: &ReadPlan,
    queries: &Queries,
) -> Result<Option<Joined>, Failure> {
    if request.with_features.is_empty() && request.features.is_empty() {
        return Ok(None);
    }
    let plan = server.reader.plan(&request.with_features, &request.features)?;
    let of_queries = match queries {
        Queries::Feature(of, _) => of.keys.as_slice(),
        _ => &[],
    };
    let origin = |key: &(String, DataType)| {
        let neighbour = vectors.keys.iter().position(|own| own == key).map(Origin::Neighbour);
        neighbour.or_else(|| of_queries.iter().position(|own| own == key).map(Origin::Query))
    };
    check_needs(&plan, "with_features", |key| origin(key).is_some())?;
    let origins = plan.keys.iter().filter_map(origin).collect();
    Ok(Some(Joined { plan, origins }))
}

fn excluded(request: &v1::SearchRequest, vectors: &ReadPlan) -> Result<Vec<Vec<u8>>, Failure> {
    if request.exclude.is_empty() {
        return Ok(Vec::new());
    }
    let keys = wire::keys(vectors, &request.exclude, &HashMap::new(), request.text_values)?;
    if keys.rows > SEARCH_EXCLUDED_MAX {
        let message = format!("{} keys are excluded; at most {SEARCH_EXCLUDED_MAX}", keys.rows);
        return Err(Failure::field("E4008", "exclude", message));
    }
    // A key that is null excludes nobody.
    let encoded = |row: usize| encode_key(keys.columns.iter().map(|column: &Column| column.value(row)));
    Ok((0..keys.rows).filter_map(encoded).collect())
}
