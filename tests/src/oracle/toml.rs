//! Writes a case's definitions in the TOML of `design/interfaces.md` §2, for the engine to load.
//! A sliding window is `window = "90s"` and the name stays; but a feature named STEM_90s is written as
//! STEM with `windows = ["90s"]`, which expands to the same name.

use super::model::{Aggregate, Datum, Feature, Period, Source, Type, View, Window};

const UNITS: [(&str, i64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];

/// Push sources, one entity per view, and the service `all` with every view.
pub fn project(sources: &[Source], views: &[View]) -> String {
    let mut text = String::new();
    for source in sources {
        text += &source_text(source);
    }
    for view in views {
        text += &format!("[entity.e_{}]\nkeys = {}\n\n", view.name, list(&view.entity_keys));
    }
    for view in views {
        text += &view_text(view);
    }
    let references: Vec<String> = views.iter().map(|view| format!("{}:*", view.name)).collect();
    text += &format!("[service.all]\nowner = \"oracle@tests.example\"\nfeatures = {}\n", list(&references));
    text
}

/// In the largest unit that divides it: `90s`, `1500us`, `36h`.
pub fn duration(microseconds: i64) -> String {
    if microseconds == 0 {
        return "0s".to_string();
    }
    let (unit, size) = UNITS.iter().find(|(_, size)| microseconds % size == 0).expect("us divides all");
    format!("{}{unit}", microseconds / size)
}

/// RFC 3339.
fn time(microseconds: i64) -> String {
    jiff::Timestamp::from_microsecond(microseconds).expect("times of tests are near").to_string()
}

fn source_text(source: &Source) -> String {
    let mut text = format!("[source.{}]\nconnector = \"push\"\n", source.name);
    if source.table {
        text += "kind = \"table\"\n";
    }
    if let Some(delete_when) = &source.delete_when {
        text += &format!("delete_when = {}\n", quoted(&delete_when.sql()));
    }
    text += &format!("event_time = {}\n", quoted(&source.event_time));
    if let Some(event_id) = &source.event_id {
        text += &format!("event_id = {}\n", quoted(event_id));
        text += &format!("dedup_horizon = {}\n", quoted(&duration(source.dedup_horizon)));
    }
    if let Some(arrival_time) = &source.arrival_time {
        text += &format!("arrival_time = {}\n", quoted(arrival_time));
    }
    text += &format!("max_future_skew = {}\n", quoted(&duration(source.max_future_skew)));
    if source.assumed_delay != 0 {
        text += &format!("assumed_delay = {}\n", quoted(&duration(source.assumed_delay)));
    }
    if source.history {
        text += "history = \"lake/*.parquet\"\n";
    }
    if let Some(until) = source.history_until {
        text += &format!("history_until = {}\n", quoted(&time(until)));
    }
    text += &format!("[source.{}.fields]\n", source.name);
    for (name, of) in &source.fields {
        text += &format!("{name} = {}\n", quoted(&type_name(*of)));
    }
    text + "\n"
}

fn type_name(of: Type) -> String {
    match of {
        Type::Bool => "bool".to_string(),
        Type::Int64 => "int64".to_string(),
        Type::Float64 => "float64".to_string(),
        Type::Text => "string".to_string(),
        Type::Bytes => "bytes".to_string(),
        Type::Time => "timestamp[us]".to_string(),
        Type::Decimal(precision, scale) => format!("decimal({precision},{scale})"),
        Type::Vector(length) => format!("vector<{length}>"),
    }
}

fn view_text(view: &View) -> String {
    let name = &view.name;
    let mut text = format!("[view.{name}]\nentity = \"e_{name}\"\nsource = {}\n", quoted(&view.source));
    if let Some(filter) = &view.filter {
        text += &format!("where = {}\n", quoted(&filter.sql()));
    }
    if !view.select.is_empty() {
        text += &format!("[view.{name}.select]\n");
        for (column, expression) in &view.select {
            text += &format!("{column} = {}\n", quoted(&expression.sql()));
        }
    }
    for join in &view.joins {
        let (source, on) = (quoted(&join.source), quoted(&join.on));
        text += &format!("[view.{name}.join.{}]\nsource = {source}\non = {on}\n", join.name);
    }
    text += &format!("[view.{name}.features]\n");
    for feature in &view.features {
        text += &feature_text(feature);
    }
    if !view.derived.is_empty() {
        text += &format!("[view.{name}.derived]\n");
        for (feature, expression) in &view.derived {
            text += &format!("{feature} = {}\n", quoted(&expression.sql()));
        }
    }
    text + "\n"
}

fn feature_text(feature: &Feature) -> String {
    let mut name = feature.name.as_str();
    let mut keys = vec![format!("agg = {}", quoted(&feature.aggregate.sql()))];
    match &feature.window {
        Window::Sliding { width, hop } => {
            let width = duration(*width);
            match feature.name.strip_suffix(&format!("_{width}")) {
                Some(stem) => {
                    name = stem;
                    keys.push(format!("windows = [{}]", quoted(&width)));
                }
                None => keys.push(format!("window = {}", quoted(&width))),
            }
            keys.extend(hop.map(|hop| format!("hop = {}", quoted(&duration(hop)))));
        }
        Window::Lifetime => keys.push("window = \"lifetime\"".to_string()),
        Window::LastN(n) => keys.push(format!("last_n = {n}")),
        Window::Ttl(width) => keys.push(format!("ttl = {}", quoted(&duration(*width)))),
        Window::Tumbling(width) => {
            keys.push(format!("window = {}", quoted(&format!("tumbling({})", duration(*width)))))
        }
        Window::Session(gap) => keys.push(format!("window = {}", quoted(&format!("session({})", duration(*gap))))),
        Window::Calendar(period, zone) => {
            keys.push(format!("window = {}", quoted(&format!("calendar({}, '{zone}')", period_name(*period)))))
        }
    }
    if feature.offset != 0 {
        keys.push(format!("offset = {}", quoted(&duration(feature.offset))));
    }
    if let Some(filter) = &feature.filter {
        keys.push(format!("where = {}", quoted(&filter.sql())));
    }
    if let Aggregate::FirstK { distinct: true, .. } | Aggregate::LastK { distinct: true, .. } = feature.aggregate {
        keys.push("distinct = true".to_string());
    }
    if feature.include_request {
        keys.push("include_request = true".to_string());
    }
    if let Some(default) = &feature.default {
        keys.push(format!("default = {}", default_text(default)));
    }
    format!("{name} = {{ {} }}\n", keys.join(", "))
}

fn period_name(period: Period) -> &'static str {
    match period {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
    }
}

fn default_text(value: &Datum) -> String {
    match value {
        Datum::Bool(b) => b.to_string(),
        Datum::Int(i) => i.to_string(),
        Datum::Float(f) if f.is_finite() => format!("{f:?}"),
        Datum::Text(text) => quoted(text),
        other => panic!("no default is generated like {other:?}"),
    }
}

fn list(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
}

/// A basic TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_string();
    for character in text.chars() {
        match character {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            control if control < ' ' || control == '\u{7f}' => quoted += &format!("\\u{:04X}", control as u32),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::super::expression::Expr;
    use super::super::model::Join;
    use super::super::sample::{feature, source, view};
    use super::*;

    #[test]
    fn durations() {
        let written = [1, 1500, 90_000_000, 36 * 3_600_000_000, 90 * 86_400_000_000, 0].map(duration);
        assert_eq!(written, ["1us", "1500us", "90s", "36h", "90d", "0s"]);
    }

    #[test]
    fn a_history_and_its_fence() {
        let with = Source { history: true, history_until: Some(1_700_000_000_000_001), ..source() };
        let expected = "history = \"lake/*.parquet\"\nhistory_until = \"2023-11-14T22:13:20.000001Z\"\n";
        assert!(source_text(&with).contains(expected), "{}", source_text(&with));
        assert!(!source_text(&source()).contains("history"));
    }

    #[test]
    fn features_with_every_key() {
        let last_k = Aggregate::LastK { x: Expr::column("x"), k: 2, distinct: true };
        let mut one = feature("f_90s", last_k, Window::Sliding { width: 90_000_000, hop: Some(1) });
        one.offset = 3;
        let expected =
            "f = { agg = \"last_k(x, 2)\", windows = [\"90s\"], hop = \"1us\", offset = \"3us\", distinct = true }\n";
        assert_eq!(feature_text(&one), expected);
        one.name = "f".into();
        assert!(feature_text(&one).contains(", window = \"90s\", "));
        let tumbling = feature("n", Aggregate::Count, Window::Tumbling(3_600_000_000));
        assert_eq!(feature_text(&tumbling), "n = { agg = \"count()\", window = \"tumbling(1h)\" }\n");
    }

    #[test]
    fn sessions_and_calendars() {
        let mut one = feature("n", Aggregate::Count, Window::Session(60_000_000));
        one.include_request = true;
        assert_eq!(feature_text(&one), "n = { agg = \"count()\", window = \"session(1m)\", include_request = true }\n");
        one.window = Window::Calendar(Period::Week, "Europe/Berlin".into());
        assert!(feature_text(&one).contains("window = \"calendar(week, 'Europe/Berlin')\""));
        assert_eq!(type_name(Type::Vector(3)), "vector<3>");
    }

    #[test]
    fn a_project_has_all_tables() {
        let text = project(&[source()], &[view(vec![feature("n", Aggregate::Count, Window::Lifetime)])]);
        for table in ["[source.payments]", "[source.payments.fields]", "[entity.e_cards]", "[view.cards.features]"] {
            assert!(text.contains(table), "{text}");
        }
        assert!(text.contains("features = [\"cards:*\"]"));
        assert!(text.contains("happened = \"timestamp[us]\""));
    }

    #[test]
    fn tables_and_joins() {
        let table = Source { table: true, delete_when: Some(Expr::column("gone")), ..source() };
        assert!(source_text(&table).contains("\nkind = \"table\"\ndelete_when = \"gone\"\n"));
        let mut view = view(Vec::new());
        view.joins = vec![Join { name: "p".into(), source: "people".into(), on: "card".into() }];
        let expected = "[view.cards.join.p]\nsource = \"people\"\non = \"card\"\n[view.cards.features]\n";
        assert!(view_text(&view).contains(expected));
        let lookup = Expr::Lookup { view: "v".into(), feature: "f".into(), key: Box::new(Expr::text("k")) };
        view.derived = vec![("d".into(), lookup)];
        assert!(view_text(&view).contains("d = \"lookup('v:f', 'k')\""));
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"\\\n😀\u{7f}"), "\"a\\\"\\\\\\u000A😀\\u007F\"");
    }
}
