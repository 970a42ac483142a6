//! Verbs that need no server: check, fmt, schema, init, config.

use std::path::{Path, PathBuf};

use serde_json::json;
use tidemill_features::definitions::{format_text, json_schema};
use tidemill_features::problem::nearest;

use super::output::table;
use super::{Ended, Style};
use crate::catalog::project;
use crate::failure::Failure;
use crate::settings;

pub(super) fn check(dir: &Path, style: Style) -> Result<(), Ended> {
    let checked = project::load(dir)?;
    let (problems, not_ready) = match &checked {
        Ok(registry) => (&[][..], registry.not_ready.as_slice()),
        Err(problems) => (problems.as_slice(), &[][..]),
    };
    if style.json {
        let problem = |p: &tidemill_features::problem::Problem| json!({ "code": p.code, "file": p.file, "line": p.line, "column": p.column, "message": p.message, "near": p.near });
        let list: Vec<_> = problems.iter().map(problem).collect();
        println!("{}", json!({ "ok": list.is_empty(), "problems": list, "not_ready": not_ready }));
    } else {
        problems.iter().for_each(|problem| eprintln!("{problem}\n"));
        match (&checked, style.quiet) {
            (Ok(registry), false) => {
                let (views, services) = (registry.views.len(), registry.services.len());
                println!("ok: {} sources, {views} views, {services} services", registry.sources.len());
                not_ready.iter().for_each(|reason| println!("note: {reason}"));
            }
            (Err(_), _) => eprintln!("{} problems", problems.len()),
            _ => {}
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Ended::Said(2)) }
}

pub(super) fn format(dir: &Path, only_check: bool, style: Style) -> Result<(), Ended> {
    let mut changed = 0;
    for file in project::definition_files(dir)? {
        let laid_out = format_text(&file.text);
        if laid_out == file.text {
            continue;
        }
        let parse = |text: &str| text.parse::<toml::Table>().ok();
        if parse(&file.text).is_none() || parse(&laid_out) != parse(&file.text) {
            let message =
                format!("{} is left as it is: it cannot be read, or its layout is part of its meaning", file.path);
            return Err(Failure::invalid("E5016", message).into());
        }
        changed += 1;
        if !style.quiet {
            println!("{}", file.path);
        }
        if !only_check {
            std::fs::write(dir.join(&file.path), laid_out)
                .map_err(|e| Failure::invalid("E5001", format!("{}: {e}", file.path)))?;
        }
    }
    if only_check && changed > 0 { Err(Ended::Said(1)) } else { Ok(()) }
}

pub(super) fn schema() -> Result<(), Ended> {
    let text = serde_json::to_string_pretty(&json_schema()).map_err(|e| Failure::internal("E5017", e.to_string()))?;
    println!("{text}");
    Ok(())
}

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

pub(super) fn config(dir: &Path, style: Style) -> Result<(), Ended> {
    let settings = settings::load(dir, &[])?;
    if style.json {
        for (key, (value, origin)) in &settings.origins {
            println!("{}", json!({ "key": key, "value": value, "from": origin.to_string() }));
        }
        return Ok(());
    }
    let row = |(key, (value, origin)): (&&str, &(String, settings::Origin))| {
        let says = settings::KEYS.iter().find(|(name, ..)| name == key).map_or("", |(.., says)| says);
        vec![key.to_string(), value.clone(), origin.to_string(), says.to_string()]
    };
    println!("{}", table(&["setting", "value", "from", ""], settings.origins.iter().map(row).collect()));
    Ok(())
}
