//! One test: a server on an empty folder whose clock stands still, the events, the reads, and what differs.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tidemill_features::definitions::Registry;
use tidemill_features::problem::nearest;
use tidemill_features::read::Answer;
use tidemill_features::time::{parse_rfc3339, rfc3339};
use tidemill_features::value::DataType;
use tidemill_proto::v1::{self, push_request::Rows};

use super::fixture::{Expect, FixtureFile, Test, json_of, row_json};
use crate::clock::Clock;
use crate::components::{Options, Server};
use crate::failure::Failure;
use crate::serving::explain::{Explained, explain};
use crate::serving::json_columns::column_of_one;
use crate::serving::{api, wire};
use tidemill_features::service::Keys;

/// Events of an explanation that a difference shows.
const EVENTS_SHOWN: usize = 12;

/// A value that is not the expected one.
pub(super) struct Difference {
    /// which read of the test
    pub expect: usize,
    /// line of the read in the file
    pub line: usize,
    pub feature: String,
    pub expected: Option<Json>,
    pub actual: Json,
    pub expected_status: Option<String>,
    pub actual_status: &'static str,
    keys: String,
    at: i64,
    arithmetic: String,
    events: Vec<String>,
}

/// Runs a test; with `all`, values of a service that the file does not name count as different too.
pub(super) async fn run_test(
    registry: Registry,
    file: &FixtureFile,
    test: &Test,
    all: bool,
) -> Result<Vec<Difference>, Failure> {
    let now = file.time(&test.at)?;
    let folder = tempfile::Builder::new().prefix("tidemill-test-").tempdir();
    let folder = folder.map_err(|e| Failure::internal("E5019", format!("no folder for the test: {e}")))?;
    let path = folder.path().to_path_buf();
    let options = Options::default();
    let opened =
        tokio::task::spawn_blocking(move || Server::open_at(registry, &path, Clock::standing_at(now), options)).await;
    let (server, threads) = opened.map_err(|e| Failure::internal("E5014", e.to_string()))??;
    let found = send_and_read(&server, file, test, all, now).await;
    server.stop();
    drop(server);
    let _ = tokio::task::spawn_blocking(move || threads.join()).await;
    found
}

async fn send_and_read(
    server: &Arc<Server>,
    file: &FixtureFile,
    test: &Test,
    all: bool,
    now: i64,
) -> Result<Vec<Difference>, Failure> {
    let place = |line: usize| format!("{}:{line}", file.path);
    let declared = |name: &str| server.registry.source(name).map(|at| &server.registry.sources[at]);
    if let Some(source) = test.dead_letters.keys().find(|source| !test.events.contains_key(*source)) {
        let message = format!("test `{}`: `dead_letters.{source}` has no events", test.name.get_ref());
        return Err(Failure::invalid("E5021", message));
    }
    for (source, rows) in test.rows()? {
        let fields = declared(source).map(|source| source.fields.as_slice()).unwrap_or_default();
        let unknown =
            rows.iter().flat_map(|row| row.keys()).find(|name| !fields.iter().any(|(known, _)| known == *name));
        if let (Some(unknown), Some(_)) = (unknown, declared(source)) {
            // A stream ignores columns that it does not know; in a test such a column is a mistake.
            let near = nearest(unknown, fields.iter().map(|(known, _)| known.as_str()));
            let message = format!("test `{}`: source `{source}` has no column `{unknown}`", test.name.get_ref());
            return Err(Failure { near: near.into_iter().collect(), ..Failure::invalid("E5021", message) });
        }
        let lines: Vec<String> = rows.into_iter().map(|row| json!(row_json(row)).to_string()).collect();
        let body = Rows::Ndjson(lines.join("\n").into_bytes().into());
        let receipt = api::feed(server.clone(), source, body).await?;
        let wanted = test.dead_letters.get(source).copied().unwrap_or(0);
        if receipt.dead_lettered != wanted {
            let first = receipt.dead_letters.first();
            let why = first.map(|dead| format!(": row {}: {}", dead.offset + 1, dead.reason)).unwrap_or_default();
            let line = file.line(test.name.span().start);
            let message = format!(
                "{}: test `{}`: {} events of `{source}` are bad, not {wanted}{why}",
                place(line),
                test.name.get_ref(),
                receipt.dead_lettered
            );
            return Err(Failure::invalid("E5021", message));
        }
    }
    let mut differences = Vec::new();
    for (at, expect) in test.expect.iter().enumerate() {
        let time = expect.at.as_ref().map_or(Ok(now), |at| file.time(at))?;
        let line = file.line(expect.keys.span().start);
        let read = tokio::task::block_in_place(|| read(server, expect, time, all));
        let found = read.map_err(|e| Failure { message: format!("{}: {}", place(line), e.message), ..e })?;
        differences.extend(found.into_iter().map(|difference| Difference { expect: at, line, ..difference }));
    }
    Ok(differences)
}

/// The differences of one read.
fn read(server: &Server, expect: &Expect, time: i64, all: bool) -> Result<Vec<Difference>, Failure> {
    let named: Vec<String> = expect.values.keys().chain(expect.statuses.keys()).cloned().collect();
    let plan = match &expect.service {
        Some(service) => server.reader.plan(service, &[])?,
        None => server.reader.plan("", &named)?,
    };
    const STATUSES: [&str; 5] = ["PRESENT", "DEFAULTED", "EMPTY", "NOT_FOUND", "ERROR"];
    if let Some(wrong) = expect.statuses.values().find(|status| !STATUSES.contains(&status.as_str())) {
        let near = nearest(&wrong.to_uppercase(), STATUSES);
        let message = format!("`{wrong}` is not a status; those are {}", STATUSES.join(", "));
        return Err(Failure { near: near.into_iter().collect(), ..Failure::invalid("E5021", message) });
    }
    for name in &named {
        if !plan.columns.iter().any(|(known, _)| known == name) {
            let near = nearest(name, plan.columns.iter().map(|(known, _)| known.as_str()));
            return Err(Failure::unknown("E2002", format!("`{name}` is not among the features that are read"), near));
        }
    }
    let keys = keys_of(&plan, expect)?;
    let answers = server.reader.get(plan.clone(), &keys, Some(time))?;
    let mut differences = Vec::new();
    for ((name, data_type), column) in plan.columns.iter().zip(&answers.columns) {
        let answer = &column[0];
        let actual = crate::json::value(&answer.value, Some(data_type));
        let expected = expect.values.get(name).map(json_of);
        let status = expect.statuses.get(name);
        let value_fits = match &expected {
            Some(expected) => same(expected, &actual, data_type),
            None => !all || expect.service.is_none(),
        };
        let status_fits = status.is_none_or(|status| status == answer.status.name());
        if !(value_fits && status_fits) {
            let mut difference = difference(server, name, expect, time, answer)?;
            (difference.expected, difference.actual) = (expected, actual);
            (difference.expected_status, difference.actual_status) = (status.cloned(), answer.status.name());
            differences.push(difference);
        }
    }
    Ok(differences)
}

fn columns(table: &toml::Table) -> Result<HashMap<String, v1::Column>, Failure> {
    table.iter().map(|(name, value)| Ok((name.clone(), column_of_one(name, &json_of(value))?))).collect()
}

/// The keys and request values that a plan wants, out of those that the read names.
fn keys_of(plan: &tidemill_features::service::ReadPlan, expect: &Expect) -> Result<Keys, Failure> {
    wire::keys(plan, &columns(expect.keys.get_ref())?, &columns(&expect.request)?, false)
}

/// A difference with the events behind the value.
fn difference(server: &Server, name: &str, expect: &Expect, time: i64, answer: &Answer) -> Result<Difference, Failure> {
    let plan = server.reader.plan("", &[name.to_string()])?;
    let only = |given: &toml::Table, wanted: &[(String, DataType)]| {
        let kept = given.iter().filter(|(name, _)| wanted.iter().any(|(known, _)| known == *name));
        columns(&kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    let keys =
        wire::keys(&plan, &only(expect.keys.get_ref(), &plan.keys)?, &only(&expect.request, &plan.request)?, false)?;
    let explanation = explain(&server.reader, name, &keys, Some(time))?;
    let left_out = explanation.excluded.iter().map(|event| shown(server, event));
    let events = explanation.counted.iter().map(|event| shown(server, event)).chain(left_out);
    let keys: BTreeMap<&String, String> =
        expect.keys.get_ref().iter().map(|(name, value)| (name, value.to_string())).collect();
    Ok(Difference {
        expect: 0,
        line: 0,
        feature: name.to_string(),
        expected: None,
        actual: Json::Null,
        expected_status: None,
        actual_status: answer.status.name(),
        keys: keys.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
        at: time,
        arithmetic: explanation.arithmetic,
        events: events.collect(),
    })
}

fn shown(server: &Server, event: &Explained) -> String {
    let source = &server.registry.sources[event.source].name;
    let value = event.value.as_ref().map(|value| crate::json::value(value, event.data_type.as_ref()).to_string());
    let value = value.map(|value| format!("  {value}")).unwrap_or_default();
    let fate = if event.reason.is_empty() { "counts" } else { event.reason };
    format!("{source} row {}  {}{value}  {fate}", event.offset + 1, rfc3339(event.event_time))
}

/// Whether a value of the file and one of an answer are the same: numbers by their value, times by their moment.
fn same(expected: &Json, actual: &Json, data_type: &DataType) -> bool {
    match (expected, actual) {
        (Json::Number(a), Json::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (Json::String(a), Json::String(b)) if *data_type == DataType::Timestamp => {
            a == b || parse_rfc3339(a).is_some_and(|time| Some(time) == parse_rfc3339(b))
        }
        (Json::Array(a), Json::Array(b)) => {
            let of = if let DataType::List(of) = data_type { of } else { &DataType::Float64 };
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, of))
        }
        (Json::Object(a), Json::Object(b)) => {
            let of = if let DataType::Map(_, of) = data_type { of } else { &DataType::Float64 };
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b, of)))
        }
        _ => expected == actual,
    }
}

impl Difference {
    pub(super) fn json(&self) -> Json {
        json!({ "keys": self.keys, "at": rfc3339(self.at), "line": self.line, "feature": self.feature,
                "expected": self.expected, "actual": self.actual, "expected_status": self.expected_status,
                "actual_status": self.actual_status, "arithmetic": self.arithmetic, "events": self.events })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {} at {}, line {}", self.keys, rfc3339(self.at), self.line)?;
        writeln!(f, "    {}", self.feature)?;
        if let Some(expected) = &self.expected {
            writeln!(f, "      expected {expected}")?;
        }
        writeln!(f, "      found    {}", self.actual)?;
        if let Some(expected) = self.expected_status.as_ref().filter(|status| *status != self.actual_status) {
            writeln!(f, "      status {}, expected {expected}", self.actual_status)?;
        }
        writeln!(f, "      is {}", self.arithmetic)?;
        self.events.iter().take(EVENTS_SHOWN).try_for_each(|event| writeln!(f, "        {event}"))?;
        let more = self.events.len().saturating_sub(EVENTS_SHOWN);
        if more > 0 { writeln!(f, "        and {more} more events") } else { Ok(()) }
    }
}
