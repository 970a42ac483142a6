//! init: the projects that lie in the program, each with events to send and tests that pass.

use std::path::PathBuf;

use tidemill_features::problem::nearest;

use super::{Ended, Style};
use crate::failure::Failure;

macro_rules! template {
    ($name:literal: $($path:literal),* $(,)?) => {
        ($name, &[$(($path, include_str!(concat!("../../../features/definitions/", $name, "/", $path)))),*])
    };
}

/// Files of a project: path, text.
type Files = &'static [(&'static str, &'static str)];

/// Templates by name.
const TEMPLATES: [(&str, Files); 3] = [
    template!("fraud": "README.md", "generate.py", "tidemill.toml", "features/cards.toml", "features/merchants.toml", "features/scoring.toml", "features/sources.toml", "tests/cards.toml", "tests/merchants.toml", "tests/scoring.toml", "tests/tables.toml"),
    template!("recommendations": "README.md", "generate.py", "tidemill.toml", "features/home.toml", "features/items.toml", "features/sources.toml", "features/users.toml", "features/vectors.toml", "tests/items.toml", "tests/users.toml"),
    template!("empty": "events.ndjson", "generate.py", "tidemill.toml", "features/example.toml", "tests/clicks.toml"),
];

pub(super) fn init(first: &str, dir: Option<PathBuf>, style: Style) -> Result<(), Ended> {
    let (template, dir) = match dir {
        Some(dir) => (first, dir),
        None => ("empty", PathBuf::from(first)),
    };
    let Some((_, files)) = TEMPLATES.iter().find(|(name, _)| *name == template) else {
        let near = nearest(template, TEMPLATES.iter().map(|(name, _)| *name));
        let known: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
        let failure =
            Failure::unknown("E5018", format!("unknown template `{template}`; there is {}", known.join(", ")), near);
        return Err(failure.into());
    };
    let named = |e: std::io::Error| Failure::invalid("E5019", format!("{}: {e}", dir.display()));
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::invalid("E5019", format!("{} is not empty", dir.display())).into());
    }
    for (path, text) in *files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&dir)).map_err(named)?;
        std::fs::write(path, text).map_err(named)?;
    }
    if !style.quiet {
        println!("made {}; next:", dir.display());
        println!("  tidemill test {}", dir.display());
        println!("  tidemill serve {}", dir.display());
        if template == "empty" {
            println!("  tidemill push clicks {}/events.ndjson --wait      (in another terminal)", dir.display());
            println!("  tidemill get example_v1 user_id=ada");
        } else {
            println!("and as {} says", dir.join("README.md").display());
        }
    }
    Ok(())
}
