//! DuckDB as a second opinion: one Python process that reads lines of JSON and answers lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value as Json, json};

/// What DuckDB is told first.
const SETUP: [&str; 1] = [
    // A float as our contract has it: not a number is null, and so is infinity out of finite operands.
    "CREATE MACRO finite(r, a, b) AS CASE WHEN isnan(r) OR (isinf(r) AND isfinite(a) AND isfinite(b)) THEN NULL ELSE r END",
];

const MISSING: &str = "expressions are compared with DuckDB, and Python with its package `duckdb` is not there. \
    scripts/test installs it. By hand: python3 -m venv ~/.cache/tidemill/python && \
    ~/.cache/tidemill/python/bin/pip install -r tests/sql/requirements.txt, or name a Python that has it in TIDEMILL_PYTHON";

/// A running process.
pub struct DuckDb {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// TIDEMILL_PYTHON, else the environment that scripts/test makes, else python3.
pub fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("TIDEMILL_PYTHON") {
        return named.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let installed = cache.map(|cache| cache.join("tidemill/python/bin/python"));
    installed.filter(|path| path.exists()).unwrap_or_else(|| "python3".into())
}

impl DuckDb {
    /// Starts it; the test fails where it cannot start.
    pub fn start() -> DuckDb {
        let (python, script) = (python(), Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/duckdb_oracle.py"));
        let mut command = Command::new(&python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|e| panic!("{MISSING} ({}: {e})", python.display()));
        let (questions, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut started = DuckDb { process, questions, answers };
        let greeting = started.ask(&json!({ "setup": SETUP }));
        println!("DuckDB {}", greeting["version"]);
        started
    }

    /// One question, one answer.
    pub fn ask(&mut self, question: &Json) -> Json {
        let mut line = String::new();
        let sent = writeln!(self.questions, "{question}").and_then(|()| self.questions.flush());
        if sent.is_err() || self.answers.read_line(&mut line).unwrap_or(0) == 0 {
            panic!("{MISSING} (`{}` ended, see its message above)", python().display());
        }
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"))
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
