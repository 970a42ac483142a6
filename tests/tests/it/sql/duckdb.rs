//! DuckDB as a second opinion: one Python process that reads lines of JSON and answers lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value as Json, json};
use tidemill_tests::python::MISSING;
pub use tidemill_tests::python::python;

/// What DuckDB is told first.
const SETUP: [&str; 1] = [
    // A float as our contract has it: not a number is null, and so is infinity out of finite operands.
    "CREATE MACRO finite(r, a, b) AS CASE WHEN isnan(r) OR (isinf(r) AND isfinite(a) AND isfinite(b)) THEN NULL ELSE r END",
];

/// A running process.
pub struct DuckDb {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

const WHAT: &str = "expressions are compared with DuckDB, and Python with its package `duckdb` is not there.";

impl DuckDb {
    /// Starts it; the test fails where it cannot start.
    pub fn start() -> DuckDb {
        let (python, script) = (python(), Path::new(env!("CARGO_MANIFEST_DIR")).join("python/duckdb_oracle.py"));
        let mut command = Command::new(&python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|e| panic!("{WHAT} {MISSING} ({}: {e})", python.display()));
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
            panic!("{WHAT} {MISSING} (`{}` ended, see its message above)", python().display());
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
