//! The README is a promise: its quick start is run as it stands.

use std::path::Path;
use std::process::Command;

use tidemill_tests::server::{Server, binary};

/// Lines of the fenced block behind a marker.
fn block(text: &str, marker: &str) -> Vec<String> {
    let behind = text.split(marker).nth(1).unwrap_or_else(|| panic!("the README lacks {marker}"));
    let fenced = behind.split("```").nth(1).expect("a fenced block");
    fenced.lines().skip(1).filter(|line| !line.trim().is_empty()).map(str::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quick_start_works_as_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut server: Option<Server> = None;
    let mut outputs = String::new();
    for line in block(&readme, "<!-- quick start -->") {
        let words: Vec<&str> = line.split('#').next().unwrap_or("").split_whitespace().collect();
        assert_eq!(words[0], "tidemill", "{line}");
        if words[1] == "serve" {
            server = Some(Server::start(&folder.path().join(words[2])).await);
            continue;
        }
        let mut command = Command::new(binary());
        command.args(&words[1..]).current_dir(folder.path());
        if let Some(server) = &server {
            command.env("TIDEMILL_SERVER", &server.address);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        outputs.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    for expected in ["accepted 5 events", "user_clicks:seconds_mean     17.5", "the same bits"] {
        assert!(outputs.contains(expected), "{expected}: {outputs}");
    }
}

/// The lines for a shell; what comes out depends on no clock but in how many views a week has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_search_works_as_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let programs = binary().parent().unwrap().to_path_buf();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut server: Option<Server> = None;
    let mut said = String::new();
    for line in block(&readme, "<!-- neighbours -->") {
        if let Some(project) = line.strip_prefix("tidemill serve ") {
            let project = project.split('#').next().unwrap_or("").trim();
            server = Some(Server::start(&folder.path().join(project)).await);
            continue;
        }
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(folder.path()).env("PATH", &path);
        if let Some(server) = &server {
            command.env("TIDEMILL_SERVER", &server.address);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        said = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    let shown = readme.split("<!-- neighbours -->").nth(1).unwrap().split("```").nth(3).unwrap();
    for item in ["i8 ", "i14 ", "i23 "] {
        let hit = |text: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.trim_start().starts_with(item));
            line.unwrap_or_else(|| panic!("no {item}in {text}"))
                .split_whitespace()
                .take(4)
                .map(str::to_string)
                .collect()
        };
        assert_eq!(hit(&said), hit(shown));
    }
}

#[test]
fn documents_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for named in text.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains(' ')) {
            let plain = named.trim_end_matches('/').split('*').next().unwrap_or("").trim_end_matches('/');
            let is_path = ["features/", "server/", "proto/", "sdk/", "tests/", "benches/", "scripts/", ".ci/"];
            if is_path.iter().any(|start| plain.starts_with(start)) {
                assert!(root.join(plain).exists(), "{document} names `{named}`");
            }
        }
    }
}
