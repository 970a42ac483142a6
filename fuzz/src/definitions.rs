//! Definitions that use everything: a column of every type, every aggregate, every kind of window.

use std::fmt::Write;
use std::sync::Arc;

use tidemill_features::definitions::{AGGREGATES, DefinitionFile, Registry, check};

/// The columns of the sources: those of the examples of `AGGREGATES`, and one of every other type.
pub const FIELDS: &str = r#"{ id = "string", key = "string", other_key = "int64", amount = "float64", country = "string",
 foreign = "bool", fraud = "int64", seen = "int64", taste = "vector<3>", price = "decimal(10,2)", huge = "decimal(38,20)",
 blob = "bytes", tags = "list<string>", singles = "list<float32>", at = "timestamp", at_s = "timestamp[s]",
 at_ms = "timestamp[ms]", at_us = "timestamp[us]", at_ns = "timestamp[ns]" }"#;

/// Aggregates of other types than those of the examples.
const MORE: [&str; 22] = [
    "sum(seen)",
    "sum(price)",
    "sum(huge)",
    "avg(price)",
    "min(country)",
    "max(price)",
    "min(at_ms)",
    "variance(seen)",
    "quantile(huge, 0.01)",
    "histogram(price, ARRAY[-1.5, 0, 3])",
    "first(blob)",
    "last(tags)",
    "last(taste)",
    "arg_max(tags, price)",
    "distinct(at_s)",
    "count_distinct(price)",
    "top_k(foreign, 3)",
    "count_by(at_us)",
    "sum_by(price, foreign)",
    "avg_by(seen, other_key)",
    "rate(price, amount, 0.5, 2)",
    "decayed_sum(price, '10m')",
];

/// Windows of three views: with a left edge; without one; sessions.
const WINDOWS: [&[&str]; 3] = [
    &[
        r#"windows = ["1s", "1h"]"#,
        r#"windows = ["10m"], hop = "7m""#,
        r#"ttl = "2h", offset = "5m""#,
        r#"window = "tumbling(1h)""#,
        r#"window = "calendar(day, 'Europe/Berlin')""#,
        r#"window = "calendar(month, 'Asia/Kathmandu')", offset = "1h""#,
    ],
    &[
        r#"window = "lifetime""#,
        "last_n = 3",
        r#"windows = ["1h"], where = "foreign""#,
        r#"last_n = 1, where = "foreign""#,
    ],
    &[r#"window = "session(30m)""#, r#"window = "session(1s)", where = "amount > 0""#],
];

/// A project with push sources `s` (with event ids) and `plain` (without), and one view of each for every group of windows.
pub fn project() -> String {
    let mut text = String::new();
    let mut add = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let source = "connector = \"push\"\nevent_time = \"at\"\n";
    add(format!("[source.s]\n{source}event_id = \"id\"\ndedup_horizon = \"10m\"\nfields = {FIELDS}"));
    add(format!("[source.plain]\n{source}fields = {FIELDS}"));
    add("[entity.e]\nkey = \"key\"\n[entity.pair]\nkeys = [\"key\", \"other_key\"]".to_string());
    let calls: Vec<&str> = AGGREGATES.iter().map(|aggregate| aggregate.example).chain(MORE).collect();
    for (group, windows) in WINDOWS.iter().enumerate() {
        for (source, entity, name) in [("s", "e", "ids"), ("plain", "pair", "plain")] {
            add(format!("[view.{name}_{group}]\nentity = \"{entity}\"\nsource = \"{source}\"\nwhere = \"seen <> 13\""));
            add(format!("[view.{name}_{group}.features]"));
            for (at, (call, window)) in calls.iter().flat_map(|c| windows.iter().map(move |w| (c, w))).enumerate() {
                // Lifetime features of runs of events keep every event: then nothing would ever leave a record.
                if group == 1 && window.contains("lifetime") && call.contains("_gap") {
                    continue;
                }
                let distinct = if call.contains("_k(country, 2)") && call.starts_with(['f', 'l']) {
                    ", distinct = true"
                } else {
                    ""
                };
                let default = if *call == "count()" { ", default = 7" } else { "" };
                add(format!("f{at} = {{ agg = \"{call}\", {window}{distinct}{default} }}"));
            }
        }
    }
    add("[view.ids_0.derived]\nratio = \"f0_1s / nullif(f0_1h, 0)\"".to_string());
    add(r#"[view.asked]
entity = "e"
request = { amount = "float64", country = "string", price = "decimal(10,2)", at = "timestamp", tags = "list<string>" }
[view.asked.derived]
over = "request.amount - ids_0.f2"
far = "extract('hour', request.at, 'Asia/Tokyo') + length(request.tags)"
near = "upper(request.country) = ids_1.f48"
[service.all]
features = ["ids_0:*", "asked:*"]
[service.few]
features = ["ids_1:f0", "ids_2:f0"]"#
        .to_string());
    text
}

/// The registry of `project`; records become ladders of small leaves where `leaf_max` is small.
pub fn registry(leaf_max: Option<usize>) -> Registry {
    let files = [DefinitionFile { path: "fuzz.toml".into(), text: project() }];
    let mut registry = check(&files).unwrap_or_else(|problems| {
        let mut all = String::new();
        for problem in &problems {
            let _ = writeln!(all, "{problem}");
        }
        panic!("the definitions of the fuzz targets are wrong:\n{all}")
    });
    let Some(leaf_max) = leaf_max else { return registry };
    for view in &mut registry.views {
        let view = Arc::get_mut(view).expect("nobody else has the view yet");
        Arc::get_mut(&mut view.plan).expect("nobody else has the plan yet").leaf_max = leaf_max;
    }
    registry
}
