//! What a newcomer types wrong: each verb says what is wrong and what was probably meant, and none takes it in silence.

use std::path::Path;
use std::process::{Command, Output};

use tidemill_tests::server::{Server, binary, project};

const DEFINITIONS: &str = r#"
[source.clicks]
connector = "push"
event_time = "at"
fields = { user = "string", item = "string", vec = "list<float32>", at = "timestamp" }
[entity.user]
key = "user"
[entity.item]
key = "item"
[view.counts]
entity = "user"
source = "clicks"
features = { n = { agg = "count()", windows = ["1h", "24h"] } }
[embedding.items]
entity = "item"
source = "clicks"
vector = "vec"
dims = 3
metric = "l2"
[service.users]
features = ["counts:*"]
"#;

fn run(server: &str, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", server).output().unwrap()
}

/// The verb fails, with all of this in its error.
fn refused(server: &str, arguments: &[&str], parts: &[&str]) {
    let output = run(server, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}: {parts:?} is not in {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_names_are_told_with_those_that_were_meant() {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    let refused = |arguments: &[&str], parts: &[&str]| refused(&server.address, arguments, parts);
    refused(&["get", "counts", "user=a"], &["E2031", "did you mean `counts:*`"]);
    refused(&["get", "counts:n", "user=a"], &["E2002", "did you mean `counts:n_1h`"]);
    refused(&["get", "users", "usr=a"], &["E2006", "`user` is missing; `usr` is given", "did you mean `user`"]);
    refused(&["get", "users", "user=a", "user=b"], &["E2017", "`user` is given twice"]);
    refused(&["explain", "counts:n_1h", "user=a", "user=b"], &["E2017", "`user` is given twice"]);
    refused(&["search", "items", "--like", "item=a", "--like", "item=b"], &["E2017", "`item` is given twice"]);
    refused(&["search", "items", "--vector", "[1,2,3"], &["E4002", "`[1` is not a number"]);
    assert!(run(&server.address, &["search", "items", "--vector", "[1,2,3]"]).status.success());
    assert!(run(&server.address, &["search", "items", "--vector", "1, 2, 3"]).status.success());
}

/// Nobody learns from an empty file that its source does not exist, unless it is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_goes_to_a_source_that_exists() {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    let empty = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        path.display().to_string()
    };
    for file in [empty("empty.ndjson"), empty("empty.csv")] {
        refused(&server.address, &["push", "click", &file], &["E1010", "unknown source `click`", "`clicks`"]);
        let output = run(&server.address, &["push", "clicks", &file]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("accepted 0 events"));
    }
}

#[test]
fn check_reads_the_settings_too() {
    let folder = project(DEFINITIONS);
    let check = |folder: &Path| run("", &["check", &folder.display().to_string()]);
    assert!(check(folder.path()).status.success());
    std::fs::write(folder.path().join("tidemill.toml"), "[kafka]\nbroker = \"x\"\n").unwrap();
    let path = folder.path().display().to_string();
    let output = run("", &["check", &path, "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &said["ok"], &said["problems"][0]["code"]),
        (Some(2), &false.into(), &"E5004".into())
    );
    refused("", &["check", &path], &["E5004", "unknown setting `kafka.broker`", "did you mean `kafka.brokers`"]);
    std::fs::write(folder.path().join("features/more.toml"), "[service.a]\nfeatures = [\"count:*\"]\n").unwrap();
    refused("", &["check", &path], &["unknown view `count`", "1 problem\n", "unknown setting `kafka.broker`"]);
    // What the command line or the machine gives is no mistake of the project.
    std::fs::remove_file(folder.path().join("features/more.toml")).unwrap();
    let settings = "listen = \"0.0.0.0:6566\"\n[kafka]\nbrokers = \"${env:TIDEMILL_NO_SUCH}\"\n";
    std::fs::write(folder.path().join("tidemill.toml"), settings).unwrap();
    let output = check(folder.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("warning: ") && said.contains("TIDEMILL_NO_SUCH"), "{said}");
}
