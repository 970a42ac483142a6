//! The verb `search`: nearest neighbours, joined with features.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value as Json, json};
use tidemill_client::Client;
use tidemill_features::time::rfc3339;
use tidemill_features::value::Value;
use tidemill_proto::v1;

use super::ask::moment;
use super::keys::{self, Given};
use super::output::{Cells, status as status_of, table};
use super::{Ended, Style};
use crate::failure::Failure;
use crate::serving::wire::from_wire;

/// Options of `search`.
#[derive(Args)]
pub struct SearchArguments {
    /// the embedding whose vectors are searched
    embedding: String,
    /// the vector to look for: numbers between commas, or a JSON array
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["like", "queries", "recall"])]
    vector: Option<String>,
    /// KEY=VALUE: an entity of the collection, whose neighbours are looked for; with --vector-from, of any
    #[arg(long, conflicts_with_all = ["queries", "recall"])]
    like: Vec<String>,
    /// VIEW:FEATURE: looks for this vector of the entity that --like names
    #[arg(long)]
    vector_from: Option<String>,
    /// a query a row: keys, or a column `vector`; ndjson, csv or parquet
    #[arg(long, conflicts_with = "recall")]
    queries: Option<PathBuf>,
    /// how many neighbours
    #[arg(short, default_value_t = 10)]
    k: u64,
    /// SQL over attributes and over features of the entity
    #[arg(long = "where", default_value = "")]
    condition: String,
    /// a feature service (or VIEW:FEATURE, VIEW:*) whose values come with each neighbour
    #[arg(long)]
    features: Option<String>,
    /// KEY=VALUE: an entity that is left out
    #[arg(long)]
    exclude: Vec<String>,
    /// least score of a neighbour
    #[arg(long, allow_hyphen_values = true)]
    min_score: Option<f64>,
    /// compares every vector
    #[arg(long)]
    exact: bool,
    /// candidates that a walk over the graph keeps; more find more
    #[arg(long)]
    ef: Option<u64>,
    /// neighbours as they were at a past moment (RFC 3339)
    #[arg(long)]
    as_of: Option<String>,
    /// looks for so many vectors of the collection, by the index and by comparing all, and tells the recall
    #[arg(long)]
    recall: Option<u64>,
}

pub(super) async fn search(server: &str, arguments: SearchArguments, style: Style) -> Result<(), Ended> {
    let message = message(&arguments)?;
    let answer = Client::connect(server).await?.search(message).await?;
    if let Some(recall) = &answer.recall {
        show_recall(recall, arguments.k, &answer.plans, style);
        return Ok(());
    }
    let shown = Shown::of(&answer);
    let many = arguments.queries.is_some();
    if style.json {
        (0..answer.scores.len()).for_each(|hit| println!("{}", shown.json(hit, many)));
    } else {
        shown.print(many, style);
    }
    Ok(())
}

fn message(arguments: &SearchArguments) -> Result<v1::SearchRequest, Failure> {
    let mut message = v1::SearchRequest {
        embedding: arguments.embedding.clone(),
        vector_from: arguments.vector_from.clone().unwrap_or_default(),
        k: arguments.k,
        r#where: arguments.condition.clone(),
        ef: arguments.ef,
        exact: arguments.exact,
        min_score: arguments.min_score,
        as_of: moment(arguments.as_of.as_ref())?,
        recall: arguments.recall.unwrap_or(0),
        text_values: true,
        ..v1::SearchRequest::default()
    };
    if let Some(features) = &arguments.features {
        match features.contains(':') {
            true => message.features = vec![features.clone()],
            false => message.with_features = features.clone(),
        }
    }
    if let Some(text) = &arguments.vector {
        message.vectors = vec![v1::Vector { values: numbers(text)? }];
    }
    if !arguments.like.is_empty() {
        message.keys = keys::from_arguments(&arguments.like)?.columns.into_iter().collect();
    }
    if let Some(path) = &arguments.queries {
        let given = keys::from_file(path)?;
        message.text_values = given.as_text;
        (message.vectors, message.keys) = queries(given)?;
    }
    message.exclude = excluded(&arguments.exclude)?;
    Ok(message)
}

/// `0.1, -2, 3e-4`, with or without brackets.
fn numbers(text: &str) -> Result<Vec<f32>, Failure> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let number = |part: &str| {
        let wrong = || Failure::invalid("E4002", format!("`{}` is not a number of a vector", part.trim()));
        part.trim().parse::<f32>().map_err(|_| wrong())
    };
    inner.split(',').map(number).collect()
}

type Queries = (Vec<v1::Vector>, HashMap<String, v1::Column>);

fn queries(given: Given) -> Result<Queries, Failure> {
    let Some((_, column)) = given.columns.iter().find(|(name, _)| name == "vector") else {
        return Ok((Vec::new(), given.columns.into_iter().collect()));
    };
    let column = from_wire("vector", column)?;
    let vector = |row: usize| match column.value(row) {
        Value::List(items) => {
            let number = |item: &Value<'_>| match item {
                Value::Float64(x) => *x as f32,
                Value::Int64(x) => *x as f32,
                _ => f32::NAN,
            };
            Ok(v1::Vector { values: items.iter().map(number).collect() })
        }
        Value::Text(text) => Ok(v1::Vector { values: numbers(&text)? }),
        _ => Err(Failure::invalid("E4021", format!("row {}: `vector` is not a list of numbers", row + 1))),
    };
    Ok(((0..given.rows).map(vector).collect::<Result<_, _>>()?, HashMap::new()))
}

/// Entities that are left out: as many as each key is given.
fn excluded(pairs: &[String]) -> Result<HashMap<String, v1::Column>, Failure> {
    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Failure::invalid("E2017", format!("`{pair}` is not KEY=VALUE")));
        };
        values.entry(name.to_string()).or_default().push(value.to_string());
    }
    Ok(values.into_iter().map(|(name, values)| (name, tidemill_client::texts(&values))).collect())
}

fn show_recall(recall: &v1::Recall, k: u64, plans: &[v1::SearchPlan], style: Style) {
    let share = recall.found as f64 / recall.neighbours.max(1) as f64;
    let mut ways: HashMap<&str, u64> = HashMap::new();
    plans.iter().for_each(|plan| *ways.entry(plan.plan.as_str()).or_default() += 1);
    if style.json {
        let json = json!({ "queries": recall.queries, "k": k, "neighbours": recall.neighbours, "found": recall.found,
            "recall": share, "plans": ways });
        println!("{json}");
    } else {
        println!(
            "recall@{k} {share:.4}: {} of {} neighbours of {} vectors",
            recall.found, recall.neighbours, recall.queries
        );
    }
}

/// An answer, ready to be shown.
struct Shown<'a> {
    answer: &'a v1::SearchResponse,
    keys: Vec<Cells>,
    attributes: Vec<Cells>,
    values: Vec<Cells>,
    /// by neighbour
    queries: Vec<usize>,
}

impl<'a> Shown<'a> {
    fn of(answer: &'a v1::SearchResponse) -> Self {
        let cells = |columns: &[v1::Column]| columns.iter().map(Cells::of).collect();
        let queries = answer.counts.iter().enumerate();
        let queries = queries.flat_map(|(query, count)| std::iter::repeat_n(query, *count as usize)).collect();
        let (keys, attributes) = (cells(&answer.keys), cells(&answer.attributes));
        Shown { answer, keys, attributes, values: cells(&answer.columns), queries }
    }

    fn json(&self, hit: usize, many: bool) -> Json {
        let object = |columns: &[v1::Column], cells: &[Cells]| -> Map<String, Json> {
            columns.iter().zip(cells).map(|(column, cells)| (column.name.clone(), cells.json(hit))).collect()
        };
        let answer = self.answer;
        let query = self.queries[hit];
        let mut json = json!({ "keys": object(&answer.keys, &self.keys), "score": score(answer.scores[hit]),
            "attributes": object(&answer.attributes, &self.attributes), "values": object(&answer.columns, &self.values),
            "as_of": rfc3339(answer.read_time), "plan": answer.plans.get(query).map(|plan| plan.plan.as_str()) });
        let statuses: Map<String, Json> = answer
            .columns
            .iter()
            .filter(|column| status_of(column, hit) != "PRESENT")
            .map(|column| (column.name.clone(), json!(status_of(column, hit))))
            .collect();
        if !statuses.is_empty() {
            json["statuses"] = statuses.into();
        }
        if many {
            json["query"] = json!(query);
        }
        json
    }

    fn print(&self, many: bool, style: Style) {
        let answer = self.answer;
        let names = |columns: &'a [v1::Column]| columns.iter().map(|column| column.name.as_str());
        let mut headers: Vec<&str> = if many { vec!["query"] } else { Vec::new() };
        headers.extend(
            names(&answer.keys).chain(["score"]).chain(names(&answer.attributes)).chain(names(&answer.columns)),
        );
        let row = |hit: usize| -> Vec<String> {
            let query = many.then(|| self.queries[hit].to_string());
            let cells = |cells: &'_ [Cells]| cells.iter().map(|cells| cells.text(hit)).collect::<Vec<_>>();
            let score = score(answer.scores[hit]).to_string();
            query
                .into_iter()
                .chain(cells(&self.keys))
                .chain([score])
                .chain(cells(&self.attributes))
                .chain(cells(&self.values))
                .collect()
        };
        println!("{}", table(&headers, (0..answer.scores.len()).map(row).collect()));
        if style.quiet {
            return;
        }
        for (query, plan) in answer.plans.iter().enumerate() {
            let of = if many { format!("query {query}: ") } else { String::new() };
            let v1::SearchPlan { plan, estimated, candidates, distances } = plan;
            match plan.as_str() {
                "records" => println!("{of}every vector as of {} was compared", rfc3339(answer.read_time)),
                _ => println!("{of}{plan}: some {estimated} pass, {distances} compared, {candidates} scored"),
            }
        }
    }
}

/// A score as its shortest digits; f64 would show how f32 rounds.
fn score(score: f32) -> Json {
    score.to_string().parse::<f64>().map_or(Json::Null, |score| json!(score))
}
