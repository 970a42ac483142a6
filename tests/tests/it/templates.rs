//! The templates of `init` and the demo's project: they check, their layout is canonical, their tests pass, their generators make
//! events that a server takes; and a test that is wrong says what is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tidemill_tests::server::{Server, binary};

/// Templates with the sources that their generators make events for.
const TEMPLATES: [(&str, &[&str]); 3] = [
    ("fraud", &["cards", "merchants", "payments"]),
    ("recommendations", &["items", "item_vectors", "interactions"]),
    ("empty", &["clicks"]),
];

fn tidemill(arguments: &[&str], folder: &Path) -> Output {
    Command::new(binary()).args(arguments).current_dir(folder).output().unwrap()
}

fn succeeds(arguments: &[&str], folder: &Path) -> String {
    let output = tidemill(arguments, folder);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} in {}: {said}", folder.display());
    said
}

fn made(template: &str, folder: &Path) -> PathBuf {
    succeeds(&["init", template, template], folder);
    folder.join(template)
}

#[test]
fn templates_and_the_demo_pass_their_own_tests() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("features/definitions/flights");
    let projects = TEMPLATES.iter().map(|(template, _)| made(template, folder.path())).chain([demo]);
    for project in projects {
        succeeds(&["check"], &project);
        succeeds(&["fmt", "--check"], &project);
        let said = succeeds(&["test"], &project);
        assert!(said.contains(" passed, 0 failed"), "{said}");
    }
}

#[test]
fn a_broken_expectation_shows_which_where_and_the_events_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let project = made("empty", folder.path());
    let file = project.join("tests/clicks.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("clicks_1h\" = 2", "clicks_1h\" = 3")).unwrap();
    let output = tidemill(&["test"], &project);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in
        ["tests/clicks.toml:", "user_clicks:clicks_1h", "expected 3", "found    2", "clicks row 2", "duplicate"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    succeeds(&["test", "--update"], &project);
    let updated = std::fs::read_to_string(&file).unwrap();
    assert!(updated.contains("clicks_1h\" = 2") && updated.contains("# A second delivery"), "{updated}");
    succeeds(&["test"], &project);
}

#[test]
fn mistakes_in_fixtures_are_told_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let project = made("empty", folder.path());
    let test = |events: &str, expect: &str| {
        format!(
            "[[test]]\nname = \"t\"\nat = \"2026-01-02T12:00:00Z\"\n{events}\n[[test.expect]]\nkeys = {{ user_id = \"a\" }}\n{expect}\n"
        )
    };
    let good = "values = { \"user_clicks:pages\" = 0 }";
    let cases = [
        (test("events.clicks = [{ user_ir = \"a\" }]", good), "no column `user_ir`"),
        (test("events.click = []", good), "unknown source `click`"),
        (test("", "values = { \"user_clicks:page\" = 0 }"), "user_clicks:pages"),
        (test("", "statuses = { \"user_clicks:pages\" = \"present\" }"), "is not a status"),
        (test("", "value = {}"), "unknown field `value`"),
        (test("dead_letters = { clicks = 1 }", good), "has no events"),
        (
            test("events.clicks = [{ user_id = \"a\", at = \"yesterday\" }]", good),
            "1 events of `clicks` are bad, not 0",
        ),
    ];
    for (text, expected) in cases {
        std::fs::write(project.join("tests/clicks.toml"), &text).unwrap();
        let output = tidemill(&["test"], &project);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generators_make_events_that_a_server_takes() {
    let folder = tempfile::tempdir().unwrap();
    for (template, sources) in TEMPLATES {
        let project = made(template, folder.path());
        let server = Server::start(&project).await;
        for source in sources {
            let file = project.join(format!("{source}.ndjson"));
            let made = Command::new("python3")
                .args(["generate.py", "--events", "300", "--seed", "7", "--source", source])
                .current_dir(&project)
                .output()
                .expect("python3 is there");
            assert!(made.status.success(), "{template}: {}", String::from_utf8_lossy(&made.stderr));
            std::fs::write(&file, made.stdout).unwrap();
            let push = ["--server", &server.address, "--json", "push", source, file.to_str().unwrap(), "--wait"];
            let said = succeeds(&push, &project);
            assert!(
                said.contains("\"dead_lettered\":0") && !said.contains("\"accepted\":0"),
                "{template} {source}: {said}"
            );
        }
    }
}
