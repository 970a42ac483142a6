//! Verbs that ask a server: get, explain, ls, show, dead-letters.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value as Json, json};
use tidemill_client::Client;
use tidemill_features::time::{parse_rfc3339, rfc3339};
use tidemill_proto::v1;

use super::keys::{self, Given};
use super::output::{Cells, age, cell_json, cell_text, is_capped, positions, status as status_of, table, time};
use super::{DeadLettersAction, Ended, Style};
use crate::failure::Failure;
use crate::serving::wire::NO_TIME;

/// Rows of one request when keys come from a file.
const ROWS_PER_REQUEST: usize = 1_000;
/// The same when each row has its own time: what records no longer hold takes a walk over the log for each request. Of a wide
/// service so many rows would be too many values.
const PAST_ROWS_PER_REQUEST: usize = 10_000;
/// Values of such a request, a fifth of what a server takes: lookups read values that the answer does not show.
const PAST_CELLS_PER_REQUEST: usize = 1_000_000;

/// Options of `get`.
#[derive(Args)]
pub struct GetArguments {
    /// a feature service, or VIEW:FEATURE, or VIEW:*
    service: String,
    /// KEY=VALUE, and request.NAME=VALUE
    pairs: Vec<String>,
    /// reads keys (and request values) from a file: ndjson, csv or parquet
    #[arg(long, conflicts_with = "pairs")]
    keys: Option<PathBuf>,
    /// reads as of a past moment (RFC 3339)
    #[arg(long)]
    as_of: Option<String>,
    /// reads each row of the file as of the time in this column
    #[arg(long, requires = "keys", conflicts_with = "as_of")]
    time: Option<String>,
}

/// Options of `explain`.
#[derive(Args)]
pub struct ExplainArguments {
    /// VIEW:FEATURE
    feature: String,
    /// KEY=VALUE
    pairs: Vec<String>,
    /// as of a past moment (RFC 3339)
    #[arg(long)]
    as_of: Option<String>,
}

pub(super) fn moment(text: Option<&String>) -> Result<Option<i64>, Failure> {
    let parse = |text: &String| {
        let wrong = || {
            Failure::invalid(
                "E2015",
                format!("`{text}` is not an RFC 3339 time with its offset, such as 2026-11-22T20:41:07Z"),
            )
        };
        parse_rfc3339(text).ok_or_else(wrong)
    };
    text.map(parse).transpose()
}

/// Names of the keys and request values that a service takes, and how many values it gives.
async fn wanted(client: &Client, service: &str) -> Result<(Vec<String>, Vec<String>, usize), Ended> {
    let names = |json: &Json| json.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
    let kind = if service.contains(':') { "feature" } else { "service" };
    let shown = client.show(kind, service).await?;
    let json: Json = serde_json::from_str(&shown.json).unwrap_or_default();
    // A service lists its features, a reference names them with their types.
    let features = &json["features"];
    let width = features.as_array().map(Vec::len).or_else(|| features.as_object().map(Map::len));
    Ok((names(&json["keys"]), names(&json["request"]), width.unwrap_or(1)))
}

pub(super) async fn get(server: &str, arguments: GetArguments, style: Style) -> Result<(), Ended> {
    let as_of = moment(arguments.as_of.as_ref())?;
    let client = Client::connect(server).await?;
    let from_file = arguments.keys.is_some();
    let given = match &arguments.keys {
        Some(path) => keys::from_file(path)?,
        None => keys::from_arguments(&arguments.pairs)?,
    };
    let (keys, request, width) = wanted(&client, &arguments.service).await?;
    let times = arguments.time.as_ref().map(|column| given.times(column)).transpose()?;
    let step = match &times {
        Some(_) => (PAST_CELLS_PER_REQUEST / width.max(1)).clamp(1, PAST_ROWS_PER_REQUEST),
        None => ROWS_PER_REQUEST,
    };
    let mut from = 0;
    while from < given.rows {
        let to = (from + step).min(given.rows);
        let part = part_of(&given, from, to)?;
        let (keys, request) = part.split(&keys, &request, !from_file);
        let mut message =
            v1::GetRequest { keys, request, value_times: true, text_values: part.as_text, ..v1::GetRequest::default() };
        match &times {
            Some(times) => message.times = times[from..to].to_vec(),
            None => message.as_of = as_of,
        }
        match arguments.service.contains(':') {
            true => message.features = vec![arguments.service.clone()],
            false => message.service = arguments.service.clone(),
        }
        let keys = message.keys.iter().map(|(name, column)| (name.clone(), Cells::of(column))).collect();
        let answer = client.get(message).await?;
        let shown = Shown { keys, cells: answer.columns.iter().map(Cells::of).collect(), answer };
        for row in 0..to - from {
            let time = times.as_ref().map_or(shown.answer.read_time, |times| times[from + row]);
            if style.json {
                println!("{}", shown.json(row, time));
            } else {
                shown.print(row, time);
            }
        }
        from = to;
    }
    Ok(())
}

fn part_of(given: &Given, from: usize, to: usize) -> Result<Given, Failure> {
    if from == 0 && to == given.rows {
        return Ok(Given { columns: given.columns.clone(), rows: given.rows, as_text: given.as_text });
    }
    let part = |(name, column): &(String, v1::Column)| Ok((name.clone(), keys::slice(column, from, to)?));
    let columns = given.columns.iter().map(part).collect::<Result<_, Failure>>()?;
    Ok(Given { columns, rows: to - from, as_text: given.as_text })
}

/// An answer, ready to be shown row by row.
struct Shown {
    keys: Vec<(String, Cells)>,
    cells: Vec<Cells>,
    answer: v1::GetResponse,
}

impl Shown {
    fn json(&self, row: usize, read_time: i64) -> Json {
        let answer = &self.answer;
        let (mut values, mut statuses, mut newest) = (Map::new(), Map::new(), Map::new());
        for (column, cells) in answer.columns.iter().zip(&self.cells) {
            values.insert(column.name.clone(), cells.json(row));
            if status_of(column, row) != "PRESENT" {
                statuses.insert(column.name.clone(), json!(status_of(column, row)));
            }
            if let Some(time) = column.newest.get(row).and_then(|t| time(*t)) {
                newest.insert(column.name.clone(), json!(time));
            }
        }
        let keys: Map<String, Json> = self.keys.iter().map(|(name, cells)| (name.clone(), cells.json(row))).collect();
        let capped: Vec<&str> =
            answer.columns.iter().filter(|column| is_capped(column, row)).map(|column| column.name.as_str()).collect();
        let mut json = json!({ "keys": keys, "values": values, "statuses": statuses, "newest": newest,
                "capped": capped, "stale": answer.stale, "as_of": rfc3339(read_time),
                "positions": positions(&answer.positions), "definition_hash": answer.definition_hash });
        let unanswered: Vec<Json> = self.unanswered(row).collect();
        if !unanswered.is_empty() {
            json["unanswered"] = unanswered.into();
        }
        json
    }

    /// Why values of this row cannot be known; the answer tells of all rows together.
    fn unanswered(&self, row: usize) -> impl Iterator<Item = Json> + '_ {
        let is_error = move |name: &&String| {
            self.answer.columns.iter().any(|column| column.name == **name && status_of(column, row) == "ERROR")
        };
        self.answer.unanswered.iter().filter_map(move |why| {
            let features: Vec<&String> = why.features.iter().filter(is_error).collect();
            let shown = json!({ "code": why.code, "message": why.message, "features": features });
            (!features.is_empty()).then_some(shown)
        })
    }

    fn print(&self, row: usize, read_time: i64) {
        let answer = &self.answer;
        let named: Vec<String> = self.keys.iter().map(|(name, cells)| format!("{name}={}", cells.text(row))).collect();
        let stale =
            if answer.stale.is_empty() { String::new() } else { format!("  stale: {}", answer.stale.join(", ")) };
        println!("{}  as of {}{stale}", named.join(" "), rfc3339(read_time));
        let line = |(column, cells): (&v1::Column, &Cells)| {
            let newest = column.newest.get(row).copied().unwrap_or(NO_TIME);
            let status = match status_of(column, row) {
                "PRESENT" => String::new(),
                other => other.to_string(),
            };
            vec![column.name.clone(), cells.text(row), age(newest, read_time), status]
        };
        let lines = answer.columns.iter().zip(&self.cells).map(line).collect();
        println!("{}", table(&["feature", "value", "age", "status"], lines));
        let said = |why: &Json, name: &str| why[name].as_str().unwrap_or_default().to_string();
        self.unanswered(row).for_each(|why| println!("{}: {}", said(&why, "code"), said(&why, "message")));
    }
}

pub(super) async fn explain(server: &str, arguments: ExplainArguments, style: Style) -> Result<(), Ended> {
    let as_of = moment(arguments.as_of.as_ref())?;
    let client = Client::connect(server).await?;
    let given = keys::from_arguments(&arguments.pairs)?;
    let (keys, request) = given.split(&[], &[], true);
    let message = v1::ExplainRequest { feature: arguments.feature.clone(), keys, as_of, request, text_values: true };
    let answer = client.explain(message).await?;
    if style.json {
        println!("{}", explanation_json(&answer));
    } else {
        print_explanation(&arguments.feature, &answer);
    }
    Ok(())
}

fn event_json(event: &v1::ExplainedEvent) -> Json {
    let position = json!({ "source": event.source, "partition": event.partition, "offset": event.offset });
    let value = event.value.as_ref().map_or(Json::Null, |column| cell_json(column, 0));
    json!({ "event_time": rfc3339(event.event_time), "position": position, "value": value })
}

pub(super) fn explanation_json(answer: &v1::ExplainResponse) -> Json {
    let excluded = |event: &v1::ExplainedEvent| {
        let mut json = event_json(event);
        json["reason"] = json!(event.reason);
        json
    };
    let value = answer.value.as_ref();
    json!({
        "value": value.map_or(Json::Null, |column| cell_json(column, 0)), "status": value.map(|c| status_of(c, 0)),
        "from": answer.from.map(rfc3339), "to": rfc3339(answer.to),
        "counted": answer.counted.iter().map(event_json).collect::<Vec<_>>(),
        "excluded": answer.excluded.iter().map(excluded).collect::<Vec<_>>(),
        "counted_total": answer.counted_total, "excluded_total": answer.excluded_total,
        "merged_tiles": answer.merged_tiles, "bit_identical": answer.bit_identical,
        "as_of": rfc3339(answer.read_time), "positions": positions(&answer.positions), "arithmetic": answer.arithmetic,
    })
}

/// Events that an explanation prints.
const SHOWN_EVENTS: usize = 20;

pub(super) fn print_explanation(feature: &str, answer: &v1::ExplainResponse) {
    let value = answer.value.as_ref().map_or("-".to_string(), |column| cell_text(column, 0));
    let status = answer.value.as_ref().map_or("", |column| status_of(column, 0));
    println!("{feature} = {value}  ({status})");
    print_events(answer);
    let same = if answer.bit_identical { "the same bits" } else { "OTHER BITS: this is a bug" };
    println!("merged {} tiles; recomputed from the event log: {same}", answer.merged_tiles);
}

/// The window, and which events count in it.
pub(super) fn print_events(answer: &v1::ExplainResponse) {
    let from = answer.from.map_or("the first event".to_string(), rfc3339);
    println!("{} over events from {from} up to (not at) {}", answer.arithmetic, rfc3339(answer.to));
    let row = |event: &v1::ExplainedEvent| {
        let value = event.value.as_ref().map_or("-".to_string(), |column| cell_text(column, 0));
        let position = format!("{}/{}/{}", event.source, event.partition, event.offset);
        vec![rfc3339(event.event_time), value, position, event.reason.clone()]
    };
    let newest = |list: &[v1::ExplainedEvent]| list.iter().rev().take(SHOWN_EVENTS).map(row).collect::<Vec<_>>();
    println!("counted {} events{}", answer.counted_total, shown(answer.counted.len()));
    println!("{}", table(&["event time", "value", "position", ""], newest(&answer.counted)));
    if answer.excluded_total > 0 {
        println!("left out {} events{}", answer.excluded_total, shown(answer.excluded.len()));
        println!("{}", table(&["event time", "value", "position", "why"], newest(&answer.excluded)));
    }
}

fn shown(count: usize) -> String {
    if count > SHOWN_EVENTS { format!(", the newest {SHOWN_EVENTS}:") } else { ":".to_string() }
}

pub(super) async fn list(server: &str, kind: &str, style: Style) -> Result<(), Ended> {
    let answer = Client::connect(server).await?.list(kind).await?;
    if style.json {
        for entry in &answer.entries {
            println!("{}", json!({ "kind": entry.kind, "name": entry.name, "summary": entry.summary }));
        }
        return Ok(());
    }
    let row = |e: &v1::CatalogEntry| vec![e.kind.clone(), e.name.clone(), e.summary.clone()];
    println!("{}", table(&["kind", "name", ""], answer.entries.iter().map(row).collect()));
    Ok(())
}

pub(super) async fn show(server: &str, name: &str, style: Style) -> Result<(), Ended> {
    let (kind, name) = name.split_once('/').unwrap_or(("", name));
    let answer = Client::connect(server).await?.show(kind, name).await?;
    if style.json {
        println!("{}", answer.json);
        return Ok(());
    }
    let json: Json = serde_json::from_str(&answer.json).unwrap_or_default();
    println!("{}", serde_json::to_string_pretty(&json).unwrap_or(answer.json));
    Ok(())
}

pub(super) async fn dead_letters(server: &str, action: DeadLettersAction, style: Style) -> Result<(), Ended> {
    let client = Client::connect(server).await?;
    match action {
        DeadLettersAction::List { source, from_offset, limit } => {
            let message = v1::DeadLettersRequest { source, from_offset, limit, partition: 0 };
            let letters = client.dead_letters(message).await?.letters;
            if style.json {
                for letter in &letters {
                    println!(
                        "{}",
                        json!({ "source": letter.source, "partition": letter.partition, "offset": letter.offset,
                        "code": letter.code, "reason": letter.reason, "arrival_time": rfc3339(letter.arrival_time),
                        "payload": String::from_utf8_lossy(&letter.payload) })
                    );
                }
                return Ok(());
            }
            let row = |letter: &v1::DeadLetter| {
                let payload: String = String::from_utf8_lossy(&letter.payload).chars().take(60).collect();
                let position = format!("{}/{}/{}", letter.source, letter.partition, letter.offset);
                vec![position, letter.code.clone(), letter.reason.clone(), payload]
            };
            println!("{}", table(&["position", "code", "reason", "event"], letters.iter().map(row).collect()));
        }
        DeadLettersAction::Replay { source, from_offset, limit } => {
            let message = v1::DeadLettersRequest { source, from_offset, limit, partition: 0 };
            let answer = client.replay_dead_letters(message).await?;
            super::push::print_result(answer.accepted, answer.dead_lettered, &answer.positions, style);
        }
    }
    Ok(())
}
