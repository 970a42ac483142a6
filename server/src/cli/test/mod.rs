//! test: fixtures through the real engine. `fixture` is what a file says, `run` sends its events to a server of its own and
//! compares, `update` writes what came out into the file.

mod fixture;
mod run;
mod update;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tidemill_features::definitions::Registry;

use self::fixture::FixtureFile;
use self::run::{Difference, run_test};
use super::{Ended, Style, output};
use crate::catalog::project;
use crate::failure::Failure;

/// Options of `test`.
#[derive(Args)]
pub struct TestArguments {
    /// the project
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// writes the values that came out into the files, in place of those that are expected
    #[arg(long)]
    update: bool,
    /// only tests whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

/// Runs all tests of a project. Exit code 1: some value was not the expected one.
pub(super) async fn run(arguments: TestArguments, style: Style) -> Result<(), Ended> {
    let files = fixture::load(&arguments.dir)?;
    let (mut passed, mut failed, mut wrong) = (0, 0, 0);
    for file in &files {
        let mut differences = Vec::new();
        for (at, test) in file.tests.iter().enumerate() {
            if !test.name.get_ref().contains(&arguments.only) {
                continue;
            }
            // A server of its own for each test: no test sees the events of another.
            let registry = load(&arguments.dir)?;
            let found = match run_test(registry, file, test, arguments.update).await {
                Ok(found) => found,
                // A mistake in one test says nothing about the others.
                Err(failure) => {
                    output::error(style, failure.code, &failure.message, failure.near.first().map(String::as_str));
                    wrong += 1;
                    continue;
                }
            };
            if found.is_empty() {
                passed += 1
            } else {
                failed += 1
            }
            report(file, test, &found, arguments.update, style);
            differences.extend(found.into_iter().map(|difference| (at, difference)));
        }
        if arguments.update && !differences.is_empty() {
            update::rewrite(&arguments.dir, file, &differences)?;
        }
    }
    if passed + failed + wrong == 0 {
        let message = format!("no test in {} has a name with `{}`", arguments.dir.display(), arguments.only);
        return Err(Failure::invalid("E5021", message).into());
    }
    if !style.json && !style.quiet {
        let rest = if arguments.update { "updated" } else { "failed" };
        let mistakes = if wrong > 0 { format!(", {wrong} cannot run") } else { String::new() };
        println!("{passed} passed, {failed} {rest}{mistakes}");
    }
    if wrong > 0 {
        return Err(Ended::Said(2));
    }
    if failed == 0 || arguments.update { Ok(()) } else { Err(Ended::Said(1)) }
}

/// The project's definitions. What this version cannot run (a Kafka topic) does not matter here: the events are the file's.
/// For the same reason no history is loaded, nor does its time fence keep events out.
fn load(dir: &Path) -> Result<Registry, Failure> {
    let mut registry = project::load(dir)?.map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::invalid("E5008", format!("{} problems in the definitions\n{}", problems.len(), all.join("\n")))
    })?;
    for source in &mut registry.sources {
        Arc::get_mut(source).expect("nobody else has a registry that was just made").history = None;
    }
    Ok(registry)
}

fn report(file: &FixtureFile, test: &fixture::Test, differences: &[Difference], update: bool, style: Style) {
    let name = test.name.get_ref();
    if style.json {
        let list: Vec<_> = differences.iter().map(Difference::json).collect();
        println!(
            "{}",
            json!({ "test": name, "file": file.path, "line": file.line(test.name.span().start),
                    "ok": list.is_empty(), "differences": list })
        );
        return;
    }
    match (differences, update) {
        ([], _) if style.quiet => {}
        ([], _) => println!("pass  {name}"),
        (_, true) => println!("update  {name}: {} values", differences.len()),
        _ => {
            println!("FAIL  {name} ({}:{})", file.path, file.line(test.name.span().start));
            differences.iter().for_each(|difference| print!("{difference}"));
        }
    }
}
