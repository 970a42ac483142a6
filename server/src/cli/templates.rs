//! init: the projects that lie in the program, each with events to send and tests that pass.

use std::path::PathBuf;

use tidemill_features::problem::nearest;

use super::{Ended, Style};
use crate::failure::Failure;

/// Templates: name, then files of the project.
const TEMPLATES: [(&str, &[(&str, &str)]); 1] = [(
    "empty",
    &[
        ("tidemill.toml", include_str!("../../../features/definitions/empty/tidemill.toml")),
        ("features/example.toml", include_str!("../../../features/definitions/empty/features/example.toml")),
        ("events.ndjson", include_str!("../../../features/definitions/empty/events.ndjson")),
    ],
)];

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
        println!("  tidemill serve {}", dir.display());
        println!("  tidemill push clicks {}/events.ndjson --wait      (in another terminal)", dir.display());
        println!("  tidemill get example_v1 user_id=ada");
    }
    Ok(())
}
