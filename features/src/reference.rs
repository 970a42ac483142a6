//! The reference page: every window, aggregate and function with an example that the engine computes as the page is made.
//!
//! The page is generated from the tables that the check reads, so that it names what there is and nothing else; a test
//! compares the committed page with a fresh one.

use std::cell::Cell;
use std::fmt::Write;

use crate::definitions::{AGGREGATES, AggregateName, DefinitionFile, Registry, check};
use crate::expression::{Column, FUNCTIONS, Frame};
use crate::read::{Answer, Context, History};
use crate::stream::{EventBatch, Prepared};
use crate::time::{SECOND, parse_rfc3339, rfc3339};
use crate::value::Value;

/// The moment of all examples.
const AT: &str = "2026-03-29T12:00:00Z";
/// The events of all examples: minutes before `AT`, amount, country, fraud.
const EVENTS: [Example; 6] = [
    (2_000, 80.0, "DE", false),
    (600, 9.5, "DE", false),
    (170, 240.0, "FR", true),
    (50, 12.0, "DE", false),
    (20, 12.0, "AT", false),
    (5, 31.0, "DE", false),
];

/// A window with what it holds.
const WINDOWS: [(&str, &str); 13] = [
    (
        "windows = [\"1h\"]",
        "sliding: `T - 1h <= event_time < T`, exact to the microsecond; one feature for each duration, named NAME_1h",
    ),
    ("window = \"1h\"", "the same for one duration, without a suffix"),
    ("windows = [\"1h\"], hop = \"15m\"", "the left edge moves in steps: `floor((T - 1h) / 15m) * 15m`"),
    ("ttl = \"3h\"", "events younger than this; for `last`"),
    ("last_n = 2", "the newest n events, after `where`"),
    ("window = \"lifetime\"", "everything before T; the default"),
    ("window = \"tumbling(1h)\"", "the last complete bucket, aligned to the epoch"),
    ("window = \"session(45m)\"", "the run of events with gaps below this that is open at T"),
    (
        "window = \"calendar(day, 'Europe/Berlin')\"",
        "from the local start of the day to T, daylight saving included; '…' is an IANA zone",
    ),
    ("window = \"calendar(week, 'Europe/Berlin')\"", "from Monday"),
    ("window = \"calendar(month, 'UTC')\"", "from the first of the month"),
    ("windows = [\"3h\"], offset = \"2h\"", "the window as seen two hours ago; with every kind of window"),
    (
        "windows = [\"1h\"], include_request = true",
        "the request's row counts as one more event at T; it takes its columns from the request",
    ),
];

/// The page, in Markdown; the error is one of an example, and then of this program.
pub fn page() -> Result<String, String> {
    let mut page = String::new();
    let _ = write!(
        page,
        "# Reference\n\nEvery window, aggregate and function of the definition language. This page is made by `tidemill reference`; its \
         values are computed as it is made.\n\nAll examples read at `T = {AT}` over these events of one entity; `taste` is \
         `[amount / 100, 1]`, `seen` is 1, `foreign` is `country <> 'DE'`:\n\n| event_time | amount | country | fraud |\n|---|---|---|---|\n"
    );
    let at = parse_rfc3339(AT).ok_or("the moment of the examples")?;
    for (minutes, amount, country, fraud) in EVENTS {
        let _ =
            writeln!(page, "| {} | {amount} | {country} | {} |", rfc3339(at - minutes * 60 * SECOND), u8::from(fraud));
    }
    page.push_str("\n## Windows\n\nKeys of a feature: `{ agg = \"count()\", … }`. `count()` gives:\n\n");
    page.push_str("| keys | holds | count() |\n|---|---|---|\n");
    for (keys, says) in WINDOWS {
        let value = shown(&feature(&format!("agg = \"count()\", {keys}"), at)?.value);
        let _ = writeln!(page, "| `{keys}` | {} | {value} |", says.replace('|', "\\|"));
    }
    page.push_str("\n## Aggregates\n\nOver `window = \"3h\"`:\n\n");
    page.push_str("| aggregate | example | value | type |\n|---|---|---|---|\n");
    for aggregate in AGGREGATES {
        let (value, data_type) = example(aggregate, at)?;
        let _ = writeln!(page, "| {} | `{}` | {value} | {data_type} |", aggregate.says, aggregate.example);
    }
    page.push_str("\n## Functions\n\nIn `where`, `select`, arguments of aggregates and derived features; SQL's operators, CASE, CAST, IN, BETWEEN, LIKE, IS \
         NULL and three-valued logic stand beside them.\n\n| function | example | value |\n|---|---|---|\n");
    for function in FUNCTIONS {
        let value = derived(function.example, at)?;
        let _ = writeln!(
            page,
            "| {} | `{}` | {value} |",
            function.says.replace('|', "\\|"),
            function.example.replace('|', "\\|")
        );
    }
    page.push_str("\n`lookup('view:feature', key)` in derived features reads a feature of another entity at the same T; at most 4 behind one another.\n");
    Ok(page)
}

fn example(aggregate: &AggregateName, at: i64) -> Result<(String, String), String> {
    let keys = format!("agg = \"{}\", window = \"3h\"", aggregate.example);
    let registry = project(&keys)?;
    let data_type = registry.views[0].feature_types[0].to_string();
    Ok((shown(&feature(&keys, at)?.value), data_type))
}

fn project(feature: &str) -> Result<Registry, String> {
    let text = format!(
        "[source.payments]\nconnector = \"push\"\nevent_time = \"at\"\n[source.payments.fields]\ncard = \"string\"\namount = \"float64\"\n\
         country = \"string\"\nfraud = \"int64\"\nseen = \"int64\"\ntaste = \"vector<2>\"\nat = \"timestamp\"\n[entity.card]\nkey = \"card\"\n\
         [view.v]\nentity = \"card\"\nsource = \"payments\"\n[view.v.select]\nforeign = \"country <> 'DE'\"\n[view.v.features]\n\
         f = {{ {feature} }}\n[service.s]\nfeatures = [\"v:*\"]\n"
    );
    let files = [DefinitionFile { path: "example.toml".into(), text }];
    check(&files).map_err(|problems| format!("{feature}: {}", problems[0]))
}

/// An event of the examples.
type Example = (i64, f64, &'static str, bool);

/// The example's events, the last `newest` of them, as a batch of their source.
fn batch(at: i64, rows: &[Example]) -> EventBatch {
    let times: Vec<i64> = rows.iter().map(|(minutes, ..)| at - minutes * 60 * SECOND).collect();
    let values = |of: &dyn Fn(&Example) -> Value<'static>| Column::Values(rows.iter().map(of).collect());
    let columns = vec![
        values(&|_| Value::text("c1")),
        values(&|(_, amount, ..)| Value::Float64(*amount)),
        values(&|(_, _, country, _)| Value::Text(country.to_string().into())),
        values(&|(.., fraud)| Value::Int64(i64::from(*fraud))),
        values(&|_| Value::Int64(1)),
        values(&|(_, amount, ..)| {
            Value::List(vec![Value::Float64(f64::from((amount / 100.0) as f32)), Value::Float64(1.0)])
        }),
        values(&|(minutes, ..)| Value::Timestamp(at - minutes * 60 * SECOND)),
    ];
    let offsets = (0..rows.len() as u64).collect();
    EventBatch { columns, arrivals: times.clone(), times, partition: 0, offsets }
}

/// A feature over the example's events, with a request of 45.0 in DE where it includes one.
fn feature(keys: &str, at: i64) -> Result<Answer, String> {
    let registry = project(keys)?;
    let (view, source) = (&registry.views[0], &registry.sources[0]);
    let stream = view.stream.as_ref().ok_or("the example has no source")?;
    let events = batch(at, &EVENTS);
    let request = batch(at, &[(0, 45.0, "DE", false)]);
    let prepared = Prepared::new(view, stream, source, &events);
    let asked = Prepared::new(view, stream, source, &request);
    let mut history = History::new(&view.plan);
    let failed = |what: &dyn std::fmt::Display| format!("{keys}: {what}");
    for row in 0..events.len() {
        history.push(&prepared.incoming(row)).map_err(|e| failed(&e))?;
    }
    let body = asked.incoming(0).body;
    let context = Context { request: Some((at, body)), ..Context::default() };
    let mut answers = history.read(&context, &[0], at).map_err(|e| failed(&e))?;
    answers.pop().ok_or_else(|| failed(&"no answer"))
}

/// A derived feature without inputs.
fn derived(expression: &str, at: i64) -> Result<String, String> {
    let quoted = expression.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!(
        "[entity.card]\nkey = \"card\"\n[view.v]\nentity = \"card\"\n[view.v.derived]\nd = \"{quoted}\"\n[service.s]\nfeatures = [\"v:d\"]\n"
    );
    let files = [DefinitionFile { path: "example.toml".into(), text }];
    let registry = check(&files).map_err(|problems| format!("{expression}: {}", problems[0]))?;
    let errors = Cell::new(0);
    let frame = Frame { columns: &[], row: 0, now: at, errors: &errors };
    Ok(shown(&registry.views[0].derived[0].expression.evaluate(&frame)))
}

/// A value as the page shows it.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Int64(v) => v.to_string(),
        Value::Float64(v) => v.to_string(),
        Value::Text(v) => format!("'{v}'"),
        Value::Bytes(v) => format!("{} bytes", v.len()),
        Value::Timestamp(v) => rfc3339(*v),
        Value::Decimal(v) => v.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entry = |(key, value): &(Value<'_>, Value<'_>)| format!("{}: {}", shown(key), shown(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_the_generated_one() {
        let page = super::page().unwrap();
        let committed = include_str!("../../docs/reference.md");
        assert!(page == committed, "docs/reference.md is not what `tidemill reference` prints");
    }
}
