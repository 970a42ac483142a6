//! Schema files of a project: read when the server starts, and checked against the columns that are declared.

use std::path::Path;

use tidemill_features::definitions::{PayloadFormat, Source};
use tidemill_features::problem::nearest;

use super::Layout;
use super::avro::AvroLayout;
use super::protobuf::{Descriptors, ProtobufLayout};
use crate::failure::Failure;
use crate::limits::SCHEMA_BYTES_MAX;

/// What is wrong with a schema.
#[derive(Debug)]
pub struct SchemaProblem {
    /// counts from 1; None: the whole
    pub line: Option<usize>,
    /// lower case, no full stop
    pub message: String,
}

/// What is wrong with the schema of a source: the code, the key of the source that it is about, what it is, the near name.
#[derive(Debug)]
pub struct SourceProblem {
    /// such as `E0020`
    pub code: &'static str,
    /// inside the source's table
    pub key: Vec<String>,
    /// lower case, no full stop
    pub message: String,
    /// a known name
    pub near: Option<String>,
}

/// Reads the schema file of a source, if it has one, and compares it with the declared columns. All problems are told.
pub fn check_schema_file(source: &Source, project: &Path, given: &[usize]) -> Vec<SourceProblem> {
    match read(source, project, given) {
        Ok(None) => Vec::new(),
        Ok(Some(layout)) => compare(&layout, source, given),
        Err(problem) => vec![problem],
    }
}

/// The layout by the schema file of a source that has one.
pub(super) fn layout(source: &Source, project: &Path, given: &[usize]) -> Result<Layout, Failure> {
    let failure = |problem: SourceProblem| Failure {
        near: problem.near.into_iter().collect(),
        ..Failure::invalid("E5071", format!("source `{}`: {}", source.name, problem.message))
    };
    let layout = read(source, project, given).map_err(failure)?;
    let layout = layout.ok_or_else(|| Failure::internal("E5071", format!("source `{}` has no schema", source.name)))?;
    match compare(&layout, source, given).into_iter().next() {
        Some(problem) => Err(failure(problem)),
        None => Ok(layout),
    }
}

fn read(source: &Source, project: &Path, given: &[usize]) -> Result<Option<Layout>, SourceProblem> {
    let Some(payload) = &source.payload else { return Ok(None) };
    let Some(file) = &payload.schema_file else { return Ok(None) };
    let wrong = |message: String| SourceProblem {
        code: "E0020",
        key: vec!["schema_file".to_string()],
        message: format!("schema file {file}: {message}"),
        near: None,
    };
    let broken = |problem: SchemaProblem| match problem.line {
        Some(line) => wrong(format!("line {line}: {}", problem.message)),
        None => wrong(problem.message),
    };
    let path = project.join(file);
    let bytes = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > SCHEMA_BYTES_MAX as u64 {
        return Err(wrong(format!("it has {bytes} bytes, more than {SCHEMA_BYTES_MAX}")));
    }
    match payload.format {
        PayloadFormat::Json => Ok(None),
        PayloadFormat::Avro => {
            let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
            Ok(Some(Layout::Avro(AvroLayout::new(&text, [], source, given).map_err(broken)?)))
        }
        PayloadFormat::Protobuf => {
            let descriptors = Descriptors::of_file(project, &path).map_err(broken)?;
            let message = descriptors.message(payload.message.as_deref()).map_err(|(message, near)| {
                let key = if payload.message.is_some() { "message" } else { "schema_file" };
                SourceProblem { key: vec![key.to_string()], near, ..wrong(message) }
            })?;
            Ok(Some(Layout::Protobuf(ProtobufLayout::new(&message, source, given))))
        }
    }
}

/// Columns that the schema does not have, and those that can never be of their type.
fn compare(layout: &Layout, source: &Source, given: &[usize]) -> Vec<SourceProblem> {
    let file = source.payload.as_ref().and_then(|payload| payload.schema_file.as_deref()).unwrap_or_default();
    let (has, misfits, names): (Vec<bool>, _, Vec<&str>) = match layout {
        Layout::Avro(layout) => {
            ((0..source.fields.len()).map(|at| layout.has(at)).collect(), layout.misfits(), layout.names().collect())
        }
        Layout::Protobuf(layout) => {
            ((0..source.fields.len()).map(|at| layout.has(at)).collect(), layout.misfits(), layout.names().collect())
        }
        Layout::Refused(_) => return Vec::new(),
    };
    let key = |at: usize| vec!["fields".to_string(), source.fields[at].0.clone()];
    let missing = (0..source.fields.len()).filter(|at| !has[*at] && !given.contains(at)).map(|at| {
        let name = &source.fields[at].0;
        let message = format!("column `{name}`: schema file {file} has no field of that name");
        SourceProblem { code: "E0021", key: key(at), message, near: nearest(name, names.iter().copied()) }
    });
    let misfits = misfits.iter().map(|(at, reason)| {
        let message = format!("column `{}`: {reason}; so says schema file {file}", source.fields[*at].0);
        SourceProblem { code: "E0022", key: key(*at), message, near: None }
    });
    missing.chain(misfits).collect()
}
