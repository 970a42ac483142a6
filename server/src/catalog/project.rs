//! A project folder: finding its definition files and checking them.

use std::path::{Path, PathBuf};

use tidemill_features::definitions::{DefinitionFile, Registry, check, problem_of_source};
use tidemill_features::problem::Problem;

use crate::failure::Failure;
use crate::limits::{DEFINITION_BYTES_MAX, DEFINITION_FILES_MAX};
use crate::source::message::check_schema_file;

/// The definition files of a project: every `.toml` below `features/`, sorted by path. Without such a folder: those of the
/// folder itself but `tidemill.toml`.
pub fn definition_files(project: &Path) -> Result<Vec<DefinitionFile>, Failure> {
    if !project.is_dir() {
        return Err(Failure::invalid("E5006", format!("{} is not a folder", project.display())));
    }
    let folder = project.join("features");
    let nested = folder.is_dir();
    let mut paths = Vec::new();
    collect(if nested { &folder } else { project }, nested, &mut paths)?;
    paths.retain(|path| nested || path.file_name().is_some_and(|name| name != "tidemill.toml"));
    paths.sort();
    if paths.is_empty() {
        let message = format!(
            "{} has no definition files: put TOML files into its folder features/, or start with `tidemill init`",
            project.display()
        );
        return Err(Failure::invalid("E5006", message));
    }
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let named = |e: std::io::Error| Failure::invalid("E5001", format!("{}: {e}", path.display()));
        if std::fs::metadata(&path).map_err(named)?.len() > DEFINITION_BYTES_MAX {
            let message = format!("{} is larger than {DEFINITION_BYTES_MAX} bytes", path.display());
            return Err(Failure::invalid("E5007", message));
        }
        let text = String::from_utf8(std::fs::read(&path).map_err(named)?)
            .map_err(|_| Failure::invalid("E5001", format!("{} is not UTF-8", path.display())))?;
        let shown = path.strip_prefix(project).unwrap_or(&path).display().to_string();
        files.push(DefinitionFile { path: shown, text });
    }
    Ok(files)
}

fn collect(folder: &Path, deep: bool, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let named = |e: std::io::Error| Failure::invalid("E5001", format!("{}: {e}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if deep && path.is_dir() {
            collect(&path, deep, paths)?;
        } else if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
        if paths.len() > DEFINITION_FILES_MAX {
            let message = format!("more than {DEFINITION_FILES_MAX} definition files below {}", folder.display());
            return Err(Failure::invalid("E5007", message));
        }
    }
    Ok(())
}

/// What loading a project came to: a registry, or problems in its files.
pub type Checked = Result<Registry, Vec<Problem>>;

/// Reads and checks a project, and the schema files that its sources name.
pub fn load(project: &Path) -> Result<Checked, Failure> {
    let files = definition_files(project)?;
    let registry = match check(&files) {
        Ok(registry) => registry,
        Err(problems) => return Ok(Err(problems)),
    };
    let mut problems = Vec::new();
    for source in &registry.sources {
        for found in check_schema_file(source, project) {
            let key: Vec<&str> = found.key.iter().map(String::as_str).collect();
            let told = (found.code, found.message, found.near);
            problems.extend(problem_of_source(&files, &source.name, &key, told));
        }
    }
    Ok(if problems.is_empty() { Ok(registry) } else { Err(problems) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a schema file and its source disagree about is told at its place in the definitions, all of it at once.
    #[test]
    fn schema_files_are_part_of_the_check() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("features")).unwrap();
        let text = "[entity.e]\nkey = 'id'\n[source.s]\nconnector = 'kafka'\ntopic = 't'\nformat = 'avro'\n\
                    schema_file = 'a.avsc'\nevent_time = 'at'\nmetadata = { at = 'timestamp' }\n[source.s.fields]\n\
                    id = 'string'\namuont = 'float64'\nat = 'timestamp'\n'r.x' = 'int64'\n[view.v]\nentity = 'e'\nsource = 's'\n\
                    [view.v.features]\nn = { agg = 'sum(\"r.x\")' }\n";
        std::fs::write(folder.path().join("features/a.toml"), text).unwrap();
        let schema = |amount: &str, x: &str| {
            let text = format!(
                r#"{{"type": "record", "name": "s", "fields": [{{"name": "id", "type": "string"}},
                {{"name": "{amount}", "type": "double"}},
                {{"name": "r", "type": {{"type": "record", "name": "r", "fields": [{{"name": "x", "type": "{x}"}}]}}}}]}}"#
            );
            std::fs::write(folder.path().join("a.avsc"), text).unwrap();
            let checked = load(folder.path()).unwrap();
            let place = |p: &Problem| (p.code, p.line, p.column, p.near.clone());
            checked.err().unwrap_or_default().iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(schema("amuont", "long"), []);
        let near = Some("amount".to_string());
        assert_eq!(schema("amount", "string "), [("E0020", 7, 1, None)], "an unknown type");
        assert_eq!(schema("amount", "double"), [("E0021", 12, 1, near), ("E0022", 14, 1, None)]);
    }
}
