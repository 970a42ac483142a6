//! The house rules as a test: edges between rooms, files that fit a wall, a line on every file that says what it is.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != ".git") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["proto", "features", "server", "sdk", "tests", "benches", "fuzz"] {
        rust_files(&root().join(folder), &mut files);
    }
    let shown = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    files.iter().map(|path| (shown(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// Code lines: not blank, not a comment.
fn code_lines(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn files_fit_the_wall_and_say_what_they_are() {
    for (path, text) in sources() {
        assert!(code_lines(&text) <= 400, "{path} has {} code lines", code_lines(&text));
        assert!(text.starts_with("//!"), "{path} does not begin with //!");
        assert!(text.ends_with('\n'), "{path} does not end with a line break");
    }
}

/// What a room may not name, and where the rule comes from.
const WALLS: [(&str, &[&str]); 16] = [
    (
        "features/src/",
        &["tokio::", "std::fs", "std::net", "std::thread", "SystemTime", "Instant::now", "tidemill_proto", "rand::"],
    ),
    ("proto/src/", &["tidemill_features"]),
    ("sdk/", &["tidemill_features", "use tidemill::"]),
    (
        "server/src/source/",
        &[
            "crate::log",
            "crate::online",
            "crate::ingest",
            "crate::serving",
            "crate::catalog",
            "crate::components",
            "tonic::",
        ],
    ),
    (
        "server/src/log/",
        &[
            "crate::source",
            "crate::online",
            "crate::ingest",
            "crate::serving",
            "crate::catalog",
            "crate::components",
            "tonic::",
        ],
    ),
    (
        "server/src/online/",
        &[
            "crate::source",
            "crate::log",
            "crate::ingest",
            "crate::serving",
            "crate::catalog",
            "crate::components",
            "tonic::",
        ],
    ),
    (
        "server/src/offline/",
        &[
            "crate::source",
            "crate::log",
            "crate::online",
            "crate::ingest",
            "crate::serving",
            "crate::catalog",
            "crate::components",
            "tonic",
        ],
    ),
    (
        "server/src/objects/",
        &[
            "crate::source",
            "crate::log",
            "crate::online",
            "crate::offline",
            "crate::ingest",
            "crate::serving",
            "crate::catalog",
            "crate::components",
            "tonic",
        ],
    ),
    (
        "server/src/vectors/",
        &[
            "crate::source",
            "crate::log",
            "crate::online",
            "crate::offline",
            "crate::ingest",
            "crate::serving",
            "crate::catalog",
            "crate::components",
            "crate::collections",
            "tonic",
            "std::fs",
        ],
    ),
    (
        "server/src/collections/",
        &[
            "crate::source",
            "crate::log",
            "crate::offline",
            "crate::ingest",
            "crate::serving",
            "crate::catalog",
            "crate::components",
            "tonic",
        ],
    ),
    ("server/src/ingest/", &["crate::serving", "crate::catalog", "crate::components", "crate::cli", "tonic::"]),
    ("server/src/serving/", &["crate::cli", "fjall"]),
    ("server/src/catalog/", &["crate::ingest", "crate::cli", "crate::components"]),
    ("server/src/limits.rs", &["crate::"]),
    ("server/src/clock.rs", &["crate::"]),
    ("tests/src/oracle/", &["tidemill_features", "tidemill::"]),
];

/// The files of a room that may name what the rest of it may not.
const DOORS: [(&str, &[&str]); 1] = [("std::fs", &["server/src/vectors/home.rs", "server/src/vectors/tests/disk.rs"])];

/// Foreign engines, and the only places that may name them.
const ENGINES: [(&str, &[&str]); 14] = [
    ("fjall::", &["server/src/online/embedded.rs"]),
    ("parquet::arrow", &["server/src/columnar/", "fuzz/examples/seeds.rs"]),
    (
        "axum::",
        &["server/src/serving/http.rs", "server/src/serving/status.rs", "server/src/metrics.rs", "benches/src/echo.rs"],
    ),
    ("reqwest::", &["server/src/source/registry.rs"]),
    ("prost_reflect::", &["server/src/source/message/protobuf/", "fuzz/", "benches/"]),
    ("protox::", &["server/src/source/message/protobuf/", "proto/build.rs"]),
    ("object_store::", &["server/src/objects/s3.rs"]),
    ("rdkafka::", &["server/src/source/kafka/", "tests/", "benches/src/kafka.rs"]),
    ("use redis::", &["server/src/online/redis/", "tests/"]),
    ("sqlparser::", &["features/src/expression/"]),
    ("hnsw_rs::", &["server/src/vectors/hnsw.rs"]),
    ("pulp::", &["server/src/vectors/lanes/"]),
    ("memmap2::", &["server/src/vectors/rows.rs"]),
    ("rustix::", &["server/src/background.rs", "benches/src/vectors/mod.rs"]),
];

#[test]
fn rooms_keep_their_walls() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.ends_with("tidy.rs")) {
        for (room, forbidden) in WALLS.iter().filter(|(room, _)| path.starts_with(room)) {
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                let is_door =
                    |name: &str| DOORS.iter().any(|(of, files)| *of == name && files.contains(&path.as_str()));
                let broken = forbidden.iter().find(|name| line.contains(*name) && !is_door(name));
                assert!(broken.is_none(), "{path}:{}: {room} must not name {broken:?}", number + 1);
            }
        }
        for (engine, homes) in ENGINES {
            let named = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(engine));
            assert!(!named || homes.iter().any(|home| path.starts_with(home)), "{path} names {engine}");
        }
    }
}

/// Names and versions of a lock file, as it lists them.
fn locked(folder: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join(folder).join("Cargo.lock")).unwrap();
    let value = |line: Option<&str>, key: &str| Some(line?.strip_prefix(key)?.trim_matches('"').to_string());
    let package = |block: &str| {
        let mut lines = block.lines();
        Some((value(lines.next(), "name = ")?, value(lines.next(), "version = ")?))
    };
    text.split("[[package]]\n").filter_map(package).collect()
}

/// What is fuzzed is what is shipped: after a change of Cargo.lock, copy it to fuzz/ and let
/// `cargo metadata --manifest-path fuzz/Cargo.toml` put in what is missing.
#[test]
fn fuzzing_has_the_versions_of_the_workspace() {
    let ours = locked("");
    for (name, version) in locked("fuzz") {
        let mut known = ours.iter().filter(|(own, _)| *own == name).peekable();
        assert!(known.peek().is_none() || known.any(|(_, own)| *own == version), "{name} {version} in fuzz/Cargo.lock");
    }
}
