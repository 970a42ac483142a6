//! What a search does whether it asks the index or records: vectors to look for, features of neighbours.

use std::sync::Arc;

use tidemill_features::codec::Cursor;
use tidemill_features::expression::Column;
use tidemill_features::read::Answer;
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::stream::encode_key;
use tidemill_features::value::Value;

use super::super::get::Positions;
use super::asked::{Asked, Joined, Origin, Queries};
use crate::collections::{KeyColumns, encoded, ordered};
use crate::components::Server;
use crate::failure::Failure;
use crate::vectors::Explained;

/// A neighbour.
pub(super) struct Hit {
    pub query: usize,
    /// encoded
    pub key: Vec<u8>,
    pub score: f32,
    pub attributes: Vec<Value<'static>>,
}

/// An answer.
pub(super) struct Found {
    /// by query, best first
    pub hits: Vec<Hit>,
    /// by query: how; None: from records
    pub explained: Vec<Option<Explained>>,
    /// of the joined features, by neighbour
    pub columns: Vec<Vec<Answer>>,
    pub time: i64,
    pub positions: Positions,
    pub is_now: bool,
}

/// Reads a plan for keys at the T of the search.
pub(super) type Read<'r> = &'r dyn Fn(&Arc<ReadPlan>, &Keys) -> Result<Vec<Vec<Answer>>, Failure>;

/// A vector to look for, and the key that is not among its own neighbours.
pub(super) type Wanted = (Vec<f32>, Option<Vec<u8>>);

/// The vectors that a search looks for.
pub(super) fn wanted(server: &Server, asked: &Asked, read: Read<'_>) -> Result<Vec<Wanted>, Failure> {
    let embedding = &server.registry.embeddings[asked.embedding];
    let (plan, keys, own) = match &asked.queries {
        Queries::Vectors(vectors) => return Ok(vectors.iter().map(|vector| (vector.clone(), None)).collect()),
        Queries::Sample(sample) => {
            return Ok(sample.iter().map(|(key, vector)| (vector.clone(), Some(key.clone()))).collect());
        }
        Queries::Keys(keys) => (&asked.vectors, keys, true),
        Queries::Feature(plan, keys) => (plan, keys, false),
    };
    let columns = read(plan, keys)?;
    let metric = crate::collections::metric_of(embedding.vector.metric);
    let mut found = Vec::with_capacity(keys.rows);
    for (row, answer) in columns[0].iter().enumerate() {
        let key = encode_key(keys.columns.iter().map(|column| column.value(row)));
        let vector = match (&answer.value, own) {
            (value, true) => embedding.vector.read(value).ok().flatten(),
            (Value::List(items), false) => {
                let number = |item: &Value<'_>| if let Value::Float64(x) = item { *x as f32 } else { f32::NAN };
                Some(items.iter().map(number).collect::<Vec<f32>>())
            }
            _ => None,
        };
        let Some(vector) = vector else {
            let what = if own { format!("embedding `{}`", embedding.name) } else { plan.columns[0].0.clone() };
            let message = format!("the entity of query {} has no vector in {what} ({})", row + 1, answer.status.name());
            return Err(Failure::field("E4023", "keys", message));
        };
        metric.check(embedding.vector.dims, &vector)?;
        found.push((vector, key.filter(|_| own)));
    }
    Ok(found)
}

/// The key of a record as the index has it, and back.
pub(super) fn to_ordered(server: &Server, asked: &Asked, key: &[u8]) -> Result<Vec<u8>, Failure> {
    ordered(key_columns(server, asked), key).map_err(|_| undecoded())
}

pub(super) fn of_ordered(server: &Server, asked: &Asked, key: &[u8]) -> Result<Vec<u8>, Failure> {
    encoded(key_columns(server, asked), key).map_err(|_| undecoded())
}

fn key_columns<'s>(server: &'s Server, asked: &Asked) -> &'s KeyColumns {
    &server.registry.views[server.registry.embeddings[asked.embedding].view].keys
}

fn undecoded() -> Failure {
    Failure::internal("E2020", "the key cannot be decoded")
}

/// Keys that a query may not find, as the index has them.
pub(super) fn left_out(server: &Server, asked: &Asked, own: Option<&Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
    asked.exclude.iter().chain(own).map(|key| to_ordered(server, asked, key)).collect()
}

/// The columns of an encoded key of the collection.
pub(super) fn key_values(server: &Server, asked: &Asked, key: &[u8]) -> Result<Vec<Value<'static>>, Failure> {
    let mut cursor = Cursor::new(key);
    let value = |(_, data_type): &(String, _)| cursor.value(data_type).map(Value::into_owned);
    let values = key_columns(server, asked).iter().map(value);
    values.collect::<Result<_, _>>().map_err(|_| undecoded())
}

/// Keys of the collection as columns, in the order of a plan that takes them by name.
pub(super) fn keys_for<'k>(
    server: &Server,
    asked: &Asked,
    plan: &ReadPlan,
    keys: impl Iterator<Item = &'k [u8]>,
) -> Result<Keys, Failure> {
    let own = key_columns(server, asked);
    let places: Vec<usize> = plan.keys.iter().filter_map(|key| own.iter().position(|known| known == key)).collect();
    let mut columns: Vec<Vec<Value<'static>>> = places.iter().map(|_| Vec::new()).collect();
    let mut rows = 0;
    for key in keys {
        let values = key_values(server, asked, key)?;
        places.iter().zip(&mut columns).for_each(|(at, column)| column.push(values[*at].clone()));
        rows += 1;
    }
    Ok(Keys { columns: columns.into_iter().map(Column::Values).collect(), request: Vec::new(), rows })
}

/// What a condition is asked with, of one entity. Err: it cannot be told.
pub(super) fn asked_of(columns: &[Vec<Answer>], row: usize) -> Result<Vec<Value<'static>>, Failure> {
    let known = |column: &Vec<Answer>| match column[row].is_unanswered() {
        false => Ok(column[row].value.clone()),
        true => {
            let message = "features of the condition cannot be told as of that time: their events are gone from the log, or from the store";
            Err(Failure::field("E4030", "where", message))
        }
    };
    columns.iter().map(known).collect()
}

/// The features that come with the neighbours.
pub(super) fn features(
    server: &Server,
    asked: &Asked,
    hits: &[Hit],
    read: Read<'_>,
) -> Result<Vec<Vec<Answer>>, Failure> {
    let Some(Joined { plan, origins }) = &asked.features else { return Ok(Vec::new()) };
    let mut columns: Vec<Vec<Value<'static>>> = origins.iter().map(|_| Vec::with_capacity(hits.len())).collect();
    for hit in hits {
        let values = key_values(server, asked, &hit.key)?;
        for (origin, column) in origins.iter().zip(&mut columns) {
            column.push(match (origin, &asked.queries) {
                (Origin::Neighbour(at), _) => values[*at].clone(),
                (Origin::Query(at), Queries::Feature(_, keys)) => keys.columns[*at].value(hit.query).into_owned(),
                (Origin::Query(_), _) => Value::Null,
            });
        }
    }
    let columns = columns.into_iter().map(Column::Values).collect();
    read(plan, &Keys { columns, request: Vec::new(), rows: hits.len() })
}
