//! The command line without a server: what it prints, how it exits.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn tidemill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn project(definitions: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("features")).unwrap();
    std::fs::write(folder.path().join("features/a.toml"), definitions).unwrap();
    folder
}

fn path(folder: &Path) -> &str {
    folder.to_str().unwrap()
}

#[test]
fn help_and_mistakes() {
    assert_eq!(tidemill(&["--help"]).status.code(), Some(0));
    assert_eq!(tidemill(&["--version"]).status.code(), Some(0));
    let wrong = tidemill(&["serv"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("serve"), "the near verb is named");
}

#[test]
fn check_reports_all_problems_as_json() {
    let folder = project(
        "[source.s]\nconnector = \"pusch\"\nevent_time = \"t\"\nfields = { t = \"timestamp\" }\n[entity.e]\nkye = \"k\"\n",
    );
    let output = tidemill(&["check", path(folder.path()), "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let first = &report["problems"][0];
    assert_eq!((&first["code"], &first["file"]), (&"E0003".into(), &"features/a.toml".into()));
    assert_eq!((&first["line"], &first["column"], &first["near"]), (&2.into(), &13.into(), &"push".into()));
    assert!(report["problems"].as_array().unwrap().len() >= 3);
}

#[test]
fn what_cannot_run_yet_is_checked_and_not_served() {
    let folder = project(
        "[source.s]\nconnector = \"push\"\nevent_time = \"t\"\nevent_id = \"id\"\ndedup = \"global\"\n\
         fields = { t = \"timestamp\", id = \"string\" }\n",
    );
    assert_eq!(tidemill(&["check", path(folder.path())]).status.code(), Some(0));
    let refused = tidemill(&["serve", path(folder.path()), "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("global deduplication cannot run yet"));
}

#[test]
fn init_makes_a_project_that_checks() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("p");
    assert_eq!(tidemill(&["init", path(&made)]).status.code(), Some(0));
    assert_eq!(tidemill(&["check", path(&made)]).status.code(), Some(0));
    assert_eq!(tidemill(&["fmt", path(&made), "--check"]).status.code(), Some(0));
    assert_eq!(tidemill(&["init", path(&made)]).status.code(), Some(2), "a folder that is not empty");
    assert_eq!(tidemill(&["init", "emty", path(&folder.path().join("q"))]).status.code(), Some(2));
}

#[test]
fn settings_say_where_they_come_from() {
    let folder = project("");
    std::fs::write(folder.path().join("tidemill.toml"), "listen = \"127.0.0.1:7000\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["config", "show", path(folder.path()), "--json"])
        .env("TIDEMILL__DATA_DIR", "elsewhere")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("environment TIDEMILL__DATA_DIR") && shown.contains("tidemill.toml"), "{shown}");
}

#[test]
fn settings_of_a_section() {
    let folder = project("");
    let shown = |toml: &str, variable: Option<&str>| {
        std::fs::write(folder.path().join("tidemill.toml"), toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(["config", "show", path(folder.path()), "--json"]);
        variable.map(|size| command.env("TIDEMILL__LOG__SEGMENT_MB", size));
        let output = command.output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    for (toml, variable, expected) in [
        ("", None, "\"64\""),
        ("[log]\nsegment_mb = 0.5\n", None, "\"0.5\""),
        ("[log]\nsegment_mb = 16\n", None, "\"16\""),
        ("[log]\nsegment_mb = 16\n", Some("32"), "environment TIDEMILL__LOG__SEGMENT_MB"),
        ("[log]\nsegment_mb = 0\n", None, "E5002"),
        ("[log]\nsegment_mb = \"large\"\n", None, "expected a number of MiB from 0.001 to 1024"),
        ("[log]\nsegments = 16\n", None, "unknown setting `log.segments`"),
    ] {
        let shown = shown(toml, variable);
        assert!(shown.contains(expected), "{toml}: {shown}");
    }
}

#[test]
fn a_server_that_is_away_is_said_so() {
    let away = tidemill(&["status", "--server", "127.0.0.1:1", "--json"]);
    assert_eq!(away.status.code(), Some(1));
    let error: serde_json::Value = serde_json::from_slice(&away.stderr).unwrap();
    assert_eq!(error["error"]["code"], "E2099");
}

#[test]
fn shipped_definitions_are_right_and_the_schema_is_json() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/definitions");
    for project in ["flights", "empty"] {
        let output = tidemill(&["check", path(&root.join(project))]);
        assert_eq!(output.status.code(), Some(0), "{project}: {}", text(&output.stderr));
    }
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(root.join("schema.json")).unwrap()).unwrap();
    let made: serde_json::Value = serde_json::from_slice(&tidemill(&["schema"]).stdout).unwrap();
    assert_eq!(kept, made, "schema.json is stale: tidemill schema > features/definitions/schema.json");
}

#[test]
fn check_tells_what_views_cost_and_warns() {
    let folder = project(
        "[source.s]\nconnector = \"push\"\nevent_time = \"t\"\nfields = { k = \"string\", x = \"float64\", t = \"timestamp\" }\n\
         [entity.e]\nkey = \"k\"\n[view.v]\nentity = \"e\"\nsource = \"s\"\n[view.v.features]\n\
         long = { agg = \"sum(x)\", windows = [\"90d\"] }\nshort = { agg = \"sum(x)\", windows = [\"1h\"] }\n\
         gaps = { agg = \"max_gap()\" }\n",
    );
    let output = tidemill(&["check", path(folder.path()), "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings: Vec<&str> = report["warnings"].as_array().unwrap().iter().filter_map(|w| w.as_str()).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("`long_90d` keeps every event of 90d"), "{warnings:?}");
    assert!(warnings[1].contains("`gaps` has no left edge"), "{warnings:?}");
    let cost = &report["views"]["v"];
    assert!(
        cost["bytes_per_event"].as_u64().unwrap() > 4 && cost["bytes_per_entity"].as_u64().unwrap() > 100,
        "{cost}"
    );
    let shown = text(&tidemill(&["check", path(folder.path())]).stdout);
    assert!(shown.contains("warning: view `v`: `long_90d`"), "{shown}");
}

#[test]
fn mistakes_in_the_vocabulary_say_what_is_right() {
    let feature = |feature: &str| {
        format!(
            "[source.s]\nconnector = \"push\"\nevent_time = \"t\"\n[source.s.fields]\nk = \"string\"\nx = \"float64\"\nc = \"string\"\n\
             l = \"list<float64>\"\nd = \"decimal(10,2)\"\nt = \"timestamp\"\n[entity.e]\nkey = \"k\"\n[view.v]\nentity = \"e\"\n\
             source = \"s\"\n[view.v.features]\nf = {{ {feature} }}\n"
        )
    };
    let cases = [
        ("agg = \"medain(x)\"", "unknown aggregate `medain`", "median"),
        ("agg = \"quantile(x, 1.5)\"", "q of quantile is a number from 0 to 1", ""),
        ("agg = \"quantile(c, 0.5)\"", "`quantile` cannot take string", ""),
        ("agg = \"histogram(x, ARRAY[3, 1])\"", "ascend", ""),
        ("agg = \"top_k(c, 0)\"", "from 1 to 10000", ""),
        ("agg = \"decayed_sum(x, 5)\"", "a duration in quotes such as '1h'", ""),
        ("agg = \"sum_by(x)\"", "does not take 1 arguments", ""),
        ("agg = \"vector_avg(l)\"", "declare the column as vector<n>", ""),
        ("agg = \"skewness(d)\"", "CAST it to DOUBLE", ""),
        ("agg = \"count_by(x)\"", "cannot take float64", ""),
        ("agg = \"count()\", window = \"session(0s)\"", "from 1us to 3660 days", ""),
        ("agg = \"count()\", window = \"tumbling(1000y)\"", "months and years differ", ""),
        ("agg = \"count()\", window = \"session(-5m)\"", "is not a duration", ""),
        ("agg = \"count()\", windows = [\"365000d\"]", "at most 3660 days", ""),
        ("agg = \"count()\", window = \"calendar(day, 'Mars')\"", "is not a time zone", ""),
    ];
    for (definition, message, near) in cases {
        let folder = project(&feature(definition));
        let output = tidemill(&["check", path(folder.path()), "--json"]);
        assert_eq!(output.status.code(), Some(2), "{definition}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let problem = &report["problems"][0];
        assert!(problem["message"].as_str().unwrap().contains(message), "{definition}: {problem}");
        assert_eq!(problem["near"].as_str().unwrap_or(""), near, "{definition}");
    }
}

#[test]
fn a_history_is_checked_and_left_out_of_fixtures() {
    let definitions = "[source.s]\nconnector = \"push\"\nevent_time = \"t\"\nhistory = \"lake/*.csv\"\n\
         fields = { k = \"string\", t = \"timestamp\" }\n[entity.e]\nkey = \"k\"\n[view.v]\nentity = \"e\"\nsource = \"s\"\n\
         [view.v.features]\nn = { agg = \"count()\" }\n";
    let folder = project(definitions);
    let checked = tidemill(&["check", path(folder.path()), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&report["ok"], &report["not_ready"]), (&true.into(), &serde_json::json!([])));
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("source `s`:") && warning.contains("`history_until`"), "{warning}");
    let fenced = definitions.replace("lake/*.csv\"\n", "lake/*.csv\"\nhistory_until = \"2026-01-01T00:00:00Z\"\n");
    std::fs::write(folder.path().join("features/a.toml"), fenced).unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    let test = "[[test]]\nname = \"old events\"\nat = 2025-06-02T00:00:00Z\n\
                events.s = [{ k = \"a\", t = 2025-06-01T00:00:00Z }]\n\
                [[test.expect]]\nkeys = { k = \"a\" }\nvalues = { \"v:n\" = 1 }\n";
    std::fs::write(folder.path().join("tests/t.toml"), test).unwrap();
    let tested = tidemill(&["test", path(folder.path())]);
    assert_eq!(tested.status.code(), Some(0), "{}{}", text(&tested.stdout), text(&tested.stderr));
    let checked = tidemill(&["check", path(folder.path()), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["warnings"], serde_json::json!([]));
}
