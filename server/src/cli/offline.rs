//! Verbs that need no server: check, fmt, schema, reference, config.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tidemill_features::definitions::{View, format_text, json_schema};
use tidemill_features::plan::estimate::USUAL_EVENTS;
use tidemill_features::problem::Problem;

use super::output::table;
use super::{Ended, Style};
use crate::catalog::project;
use crate::failure::Failure;
use crate::settings;

pub(super) fn check(dir: &Path, style: Style) -> Result<(), Ended> {
    let checked = project::load(dir)?;
    let (wrong, elsewhere) = of_settings(dir);
    let (problems, not_ready) = match &checked {
        Ok(registry) => (&[][..], registry.not_ready.as_slice()),
        Err(problems) => (problems.as_slice(), &[][..]),
    };
    let views: Vec<_> = checked.iter().flat_map(|registry| &registry.views).filter(|v| v.stream.is_some()).collect();
    let sources = checked.iter().flat_map(|registry| &registry.sources);
    let of_sources =
        sources.flat_map(|s| s.warnings().into_iter().map(|warning| format!("source `{}`: {warning}", s.name)));
    let of_views = views
        .iter()
        .flat_map(|view| view.plan.warnings().into_iter().map(|warning| format!("view `{}`: {warning}", view.name)));
    let warnings: Vec<String> = of_sources.chain(of_views).chain(elsewhere).collect();
    if style.json {
        let problem = |p: &Problem| json!({ "code": p.code, "file": p.file, "line": p.line, "column": p.column, "message": p.message, "near": p.near });
        let of_settings = wrong.iter().map(|wrong| json!({ "code": wrong.code, "file": settings::FILE, "line": null, "column": null, "message": wrong.message, "near": wrong.near.first() }));
        let list: Vec<_> = problems.iter().map(problem).chain(of_settings).collect();
        let costs: serde_json::Map<String, Json> =
            views.iter().map(|view| (view.name.clone(), cost_json(view))).collect();
        println!(
            "{}",
            json!({ "ok": list.is_empty(), "problems": list, "not_ready": not_ready, "warnings": warnings, "views": costs })
        );
    } else {
        problems.iter().for_each(|problem| eprintln!("{problem}\n"));
        match (&checked, style.quiet) {
            (Ok(registry), false) if wrong.is_none() => {
                let declared = registry.views.iter().filter(|view| view.is_declared()).count();
                let (sources, services) = (registry.sources.len(), registry.services.len());
                println!("ok: {sources} sources, {declared} views, {services} services");
                print_costs(&views);
                warnings.iter().for_each(|warning| println!("warning: {warning}"));
                not_ready.iter().for_each(|reason| println!("note: {reason}"));
            }
            (Err(_), _) if problems.len() == 1 => eprintln!("1 problem"),
            (Err(_), _) => eprintln!("{} problems", problems.len()),
            _ => {}
        }
    }
    match wrong {
        Some(wrong) if !style.json => Err(wrong.into()),
        None if problems.is_empty() => Ok(()),
        _ => Err(Ended::Said(2)),
    }
}

/// What is wrong in the project's settings, which `serve` would refuse; and what only the machine or the command line can give it.
fn of_settings(dir: &Path) -> (Option<Failure>, Option<String>) {
    match settings::load(dir, &[]).err() {
        Some(failure) if ["E5003", "E5005"].contains(&failure.code) => (None, Some(failure.message)),
        wrong => (wrong, None),
    }
}

fn cost_json(view: &View) -> Json {
    let cost = view.plan.estimate();
    json!({ "bytes_per_event": cost.bytes_per_event, "bytes_per_entity": cost.bytes_per_entity,
            "bytes_of_busy_record": cost.bytes_of_busy_record, "rows_read": cost.rows_read,
            "tiles_read": cost.tiles_read })
}

/// What each view costs, by estimate.
fn print_costs(views: &[&Arc<View>]) {
    let row = |view: &&Arc<View>| {
        let cost = view.plan.estimate();
        vec![
            view.name.clone(),
            view.plan.features.len().to_string(),
            cost.bytes_per_event.to_string(),
            cost.bytes_per_entity.to_string(),
            cost.bytes_of_busy_record.to_string(),
            format!("{} rows, {} tiles", cost.rows_read, cost.tiles_read),
        ]
    };
    let usual = format!("entity of {USUAL_EVENTS}");
    let headers = ["estimate, bytes", "features", "event", &usual, "busy record", "read at most"];
    println!("{}", table(&headers, views.iter().map(row).collect()));
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

pub(super) fn reference() -> Result<(), Ended> {
    let page = tidemill_features::reference::page().map_err(|e| Failure::internal("E5017", e))?;
    print!("{page}");
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
