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
    let folder = project(include_str!("../../features/testdata/cards.toml"));
    assert_eq!(tidemill(&["check", path(folder.path())]).status.code(), Some(0));
    let refused = tidemill(&["serve", path(folder.path()), "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("Kafka connector cannot run yet"));
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
