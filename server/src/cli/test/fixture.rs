//! Fixture files: `tests/*.toml`, each with some `[[test]]`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tidemill_features::time::{parse_rfc3339, rfc3339};
use toml::Spanned;

use crate::failure::Failure;
use crate::limits::{DEFINITION_BYTES_MAX, DEFINITION_FILES_MAX};

/// A file and its tests.
pub(super) struct FixtureFile {
    /// below the project
    pub path: String,
    pub text: String,
    pub tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tests {
    test: Vec<Test>,
}

/// Events, and what is read after them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    pub name: Spanned<String>,
    /// the time of the server's clock, and T of every read that names none
    pub at: Spanned<toml::Value>,
    /// rows by source
    #[serde(default)]
    pub events: BTreeMap<String, Vec<toml::Table>>,
    /// how many of them are bad, by source
    #[serde(default)]
    pub dead_letters: BTreeMap<String, u64>,
    pub expect: Vec<Expect>,
}

/// One read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub keys: Spanned<toml::Table>,
    /// values of the request
    #[serde(default)]
    pub request: toml::Table,
    /// T, where it is another than the test's
    pub at: Option<Spanned<toml::Value>>,
    /// read as a whole; `--update` writes all its values
    pub service: Option<String>,
    /// by `view:feature`; `{ null = true }` for none
    #[serde(default)]
    pub values: toml::Table,
    /// by `view:feature`, where the value alone does not tell
    #[serde(default)]
    pub statuses: BTreeMap<String, String>,
}

/// Reads all fixture files of a project.
pub(super) fn load(project: &Path) -> Result<Vec<FixtureFile>, Failure> {
    let pattern = project.join("tests").join("**").join("*.toml");
    let found = glob::glob(&pattern.display().to_string())
        .map_err(|e| Failure::invalid("E5021", format!("{}: {e}", pattern.display())))?;
    let mut files = Vec::new();
    for path in found.filter_map(Result::ok) {
        files.push(load_one(project, &path)?);
        if files.len() > DEFINITION_FILES_MAX {
            return Err(Failure::invalid("E5007", format!("more than {DEFINITION_FILES_MAX} test files")));
        }
    }
    if files.is_empty() {
        let message =
            format!("{} has no tests: put TOML files with [[test]] into its folder tests/", project.display());
        return Err(Failure::invalid("E5021", message));
    }
    Ok(files)
}

fn load_one(project: &Path, path: &Path) -> Result<FixtureFile, Failure> {
    let named = |e: std::io::Error| Failure::invalid("E5021", format!("{}: {e}", path.display()));
    if std::fs::metadata(path).map_err(named)?.len() > DEFINITION_BYTES_MAX {
        let message = format!("{} is larger than {DEFINITION_BYTES_MAX} bytes", path.display());
        return Err(Failure::invalid("E5007", message));
    }
    let text = std::fs::read_to_string(path).map_err(named)?;
    let shown = path.strip_prefix(project).unwrap_or(path).display().to_string();
    let tests: Tests = toml::from_str(&text)
        .map_err(|e| Failure::invalid("E5021", format!("{shown}: {}", e.to_string().trim_end())))?;
    Ok(FixtureFile { path: shown, text, tests: tests.test })
}

impl FixtureFile {
    /// The line of a byte, from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.text.as_bytes()[..byte.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// A time that stands in the file: RFC 3339, quoted or not.
    pub(super) fn time(&self, at: &Spanned<toml::Value>) -> Result<i64, Failure> {
        let text = match at.get_ref() {
            toml::Value::String(text) => text.clone(),
            toml::Value::Datetime(time) => time.to_string(),
            other => other.to_string(),
        };
        parse_rfc3339(&text).ok_or_else(|| {
            let line = self.line(at.span().start);
            Failure::invalid("E5021", format!("{}:{line}: `{text}` is not an RFC 3339 time with its offset", self.path))
        })
    }
}

/// A value of the file as JSON: times as text, infinities as events and answers write them.
pub(super) fn json_of(value: &toml::Value) -> Json {
    match value {
        toml::Value::String(text) => json!(text),
        toml::Value::Integer(v) => json!(v),
        toml::Value::Float(v) if v.is_nan() => Json::Null,
        toml::Value::Float(v) if v.is_infinite() => json!(if *v > 0.0 { "Infinity" } else { "-Infinity" }),
        toml::Value::Float(v) => json!(v),
        toml::Value::Boolean(v) => json!(v),
        toml::Value::Datetime(time) => {
            let text = time.to_string();
            json!(parse_rfc3339(&text).map_or(text, rfc3339))
        }
        toml::Value::Array(items) => Json::Array(items.iter().map(json_of).collect()),
        toml::Value::Table(table) if table.len() == 1 && table.get("null") == Some(&toml::Value::Boolean(true)) => {
            Json::Null
        }
        toml::Value::Table(table) => json!(row_json(table)),
    }
}

/// A row of the file as a JSON object.
pub(super) fn row_json(row: &toml::Table) -> Map<String, Json> {
    row.iter().map(|(name, value)| (name.clone(), json_of(value))).collect()
}
