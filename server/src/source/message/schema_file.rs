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
pub fn check_schema_file(source: &Source, project: &Path) -> Vec<SourceProblem> {
    match read(source, project) {
        Ok(None) => Vec::new(),
        Ok(Some(layout)) => compare(&layout, source),
        Err(problem) => vec![problem],
    }
}

/// The layout by the schema file of a source that has one.
pub(super) fn layout(source: &Source, project: &Path) -> Result<Layout, Failure> {
    let failure = |problem: SourceProblem| Failure {
        near: problem.near.into_iter().collect(),
        ..Failure::invalid("E5071", format!("source `{}`: {}", source.name, problem.message))
    };
    let layout = read(source, project).map_err(failure)?;
    let layout = layout.ok_or_else(|| Failure::internal("E5071", format!("source `{}` has no schema", source.name)))?;
    match compare(&layout, source).into_iter().next() {
        Some(problem) => Err(failure(problem)),
        None => Ok(layout),
    }
}

fn read(source: &Source, project: &Path) -> Result<Option<Layout>, SourceProblem> {
    let given = &source.bound_columns()[..];
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
fn compare(layout: &Layout, source: &Source) -> Vec<SourceProblem> {
    let given = source.bound_columns();
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::source::message::MessageReader;
    use crate::source::message::testing::source;

    /// Problems of a file of some content, as `CODE key: message ~near`.
    fn problems(keys: &str, columns: &[(&str, &str)], (name, content): (&str, &[u8])) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        let source = source(keys, columns);
        let found = check_schema_file(&source, folder.path());
        let opened = MessageReader::open(source, folder.path(), None);
        assert_eq!(opened.is_err(), !found.is_empty(), "what is checked is what is needed");
        let near = |near: Option<String>| near.map(|near| format!(" ~{near}")).unwrap_or_default();
        let shown = |p: SourceProblem| format!("{} {}: {}{}", p.code, p.key.join("."), p.message, near(p.near));
        found.into_iter().map(shown).collect()
    }

    #[test]
    fn avro_files_are_compared_with_the_columns() {
        let file = br#"{"type": "record", "name": "r", "fields": [
            {"name": "amount", "type": ["null", "double"]}, {"name": "old", "aliases": ["id"], "type": "string"},
            {"name": "tags", "type": {"type": "map", "values": "string"}},
            {"name": "in", "type": {"type": "record", "name": "i", "fields": [{"name": "deep", "type": "long"}]}}]}"#;
        let of = |columns: &[(&str, &str)]| {
            problems("format = 'avro'\nschema_file = 'schemas/txn.avsc'", columns, ("schemas/txn.avsc", file))
        };
        assert!(of(&[("amount", "float64"), ("id", "string"), ("in.deep", "int64")]).is_empty());
        assert_eq!(
            of(&[("amuont", "float64"), ("tags", "string"), ("in.dep", "int64")]),
            [
                "E0021 fields.amuont: column `amuont`: schema file schemas/txn.avsc has no field of that name ~amount",
                "E0021 fields.in.dep: column `in.dep`: schema file schemas/txn.avsc has no field of that name",
                "E0022 fields.tags: column `tags`: a map is not string; so says schema file schemas/txn.avsc",
            ]
        );
    }

    #[test]
    fn broken_files_are_named_with_the_line() {
        let avro =
            |content: &str| problems("format = 'avro'\nschema_file = 'a.avsc'", &[], ("a.avsc", content.as_bytes()));
        let proto = |content: &str| {
            problems("format = 'protobuf'\nschema_file = 'a.proto'", &[], ("a.proto", content.as_bytes()))
        };
        for (found, expected) in [
            (
                avro("{\n \"type\": \"record\",\n}"),
                "E0020 schema_file: schema file a.avsc: not JSON: trailing comma at line 3",
            ),
            (avro("\"string\""), "schema file a.avsc: the schema is not that of a record"),
            (
                avro("{\"type\": \"record\", \"name\": \"r\", \"fields\": [\n{\"name\": \"f\", \"type\": \"strng\"}]}"),
                "schema file a.avsc: line 2: unknown type `strng`",
            ),
            (proto("syntax = \"proto3\";\nmessage A {\n string a = 1\n}"), "schema file a.proto: line 4: expected ';'"),
            (proto("syntax = \"proto3\";"), "it defines no message"),
            (proto("syntax = \"proto3\"; message A {} message B {}"), "name one of its messages with `message`: A, B"),
            (
                problems(
                    "format = 'protobuf'\nschema_file = 'a.proto'\nmessage = 'a.Bee'",
                    &[],
                    ("a.proto", b"syntax = \"proto3\"; package a; message Be {}"),
                ),
                "E0020 message: schema file a.proto: there is no message `a.Bee` ~a.Be",
            ),
            (
                problems("format = 'avro'\nschema_file = 'b.avsc'", &[], ("a.avsc", b"")),
                "schema file b.avsc: No such file",
            ),
            (
                problems("format = 'protobuf'\nschema_file = 'a.desc'", &[], ("a.desc", b"\xff")),
                "neither a .proto file nor a set",
            ),
        ] {
            assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
        }
        let large = vec![b' '; SCHEMA_BYTES_MAX + 1];
        let found = problems("format = 'avro'\nschema_file = 'a.avsc'", &[], ("a.avsc", &large));
        assert!(found[0].contains("more than 4194304"), "{found:?}");
    }
}
