//! Verbs that have the server work for a while: export, snapshot, verify, backfill. The server reads and writes the files, so
//! paths are made whole here; Ctrl-C ends the job, and nothing half-written stays. (A back-fill writes no files, and goes on.)

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json, json};
use tidemill_client::Client;
use tidemill_features::time::rfc3339;
use tidemill_proto::v1;
use tokio_stream::StreamExt;

use super::ask::{explanation_json, moment, print_events};
use super::output::{cell_json, cell_text, positions, status};
use super::progress::Progress;
use super::{Ended, Style};
use crate::failure::Failure;
use crate::objects::ObjectUrl;

/// Options of `export`.
#[derive(Args)]
pub struct ExportArguments {
    /// a feature service, or VIEW:FEATURE, or VIEW:*
    service: String,
    /// the rows for which features are wanted: parquet, csv or ndjson; their columns pass through. A path, or s3://BUCKET/KEY
    #[arg(long, conflicts_with = "spine_from")]
    spine: Option<PathBuf>,
    /// takes the events of a source as rows
    #[arg(long, value_name = "SOURCE")]
    spine_from: Option<String>,
    /// with --spine-from: only events for which this is true
    #[arg(long = "where", requires = "spine_from", default_value = "")]
    filter: String,
    /// the spine's column with the time of each row; with --spine-from the event time by default
    #[arg(long, default_value = "")]
    time: String,
    /// a new folder for the training set, or s3://BUCKET/PREFIX
    #[arg(long)]
    out: PathBuf,
    /// which events a row sees
    #[arg(long, value_enum, default_value = "served")]
    visibility: Visible,
    /// takes every event as known so long after it happened, whatever its arrival time: 2s, 1h
    #[arg(long, value_name = "DURATION")]
    assumed_delay: Option<String>,
    /// cuts by time: train=0.8,test=0.2 or train=2026-03-01,test=
    #[arg(long, default_value = "")]
    split: String,
    /// folders by value: service, date
    #[arg(long, value_delimiter = ',')]
    hive: Vec<String>,
}

/// Which events a training row sees.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Visible {
    /// those that a read at the row's time could have seen
    Served,
    /// all that happened before the row's time
    EventTime,
}

/// Options of `snapshot`.
#[derive(Args)]
pub struct SnapshotArguments {
    /// views; all of them by default
    views: Vec<String>,
    /// the moment (RFC 3339); now by default
    #[arg(long)]
    at: Option<String>,
    /// a folder for the snapshot, or s3://BUCKET/PREFIX
    #[arg(long)]
    out: PathBuf,
}

/// Options of `verify`.
#[derive(Args)]
pub struct VerifyArguments {
    /// at most so many of the newest kept answers; all of them by default
    #[arg(long, default_value_t = 0)]
    sample: u64,
}

pub(super) async fn export(server: &str, arguments: ExportArguments, style: Style) -> Result<(), Ended> {
    if arguments.spine.is_none() && arguments.spine_from.is_none() {
        return Err(
            Failure::invalid("E3040", "name the rows: --spine FILE --time COLUMN, or --spine-from SOURCE").into()
        );
    }
    let delay = |text: &String| {
        let wrong = || Failure::invalid("E3041", format!("`{text}` is not a duration such as 2s or 1h30m"));
        tidemill_features::time::parse_duration(text).map_err(|_| wrong())
    };
    let mut request = v1::ExportRequest {
        spine: arguments.spine.as_deref().map(whole).transpose()?.unwrap_or_default(),
        spine_source: arguments.spine_from.unwrap_or_default(),
        r#where: arguments.filter,
        time_column: arguments.time,
        out: whole(&arguments.out)?,
        assumed_delay: arguments.assumed_delay.as_ref().map(delay).transpose()?,
        split: arguments.split,
        hive: arguments.hive,
        ..v1::ExportRequest::default()
    };
    request.set_visibility(match arguments.visibility {
        Visible::Served => v1::Visibility::Served,
        Visible::EventTime => v1::Visibility::EventTime,
    });
    match arguments.service.contains(':') {
        true => request.features = vec![arguments.service],
        false => request.service = arguments.service,
    }
    follow(Client::connect(server).await?.export(request).await?, style).await
}

pub(super) async fn snapshot(server: &str, arguments: SnapshotArguments, style: Style) -> Result<(), Ended> {
    let request =
        v1::SnapshotRequest { views: arguments.views, at: moment(arguments.at.as_ref())?, out: whole(&arguments.out)? };
    follow(Client::connect(server).await?.snapshot(request).await?, style).await
}

/// Tells how far the job is, and what it made.
async fn follow(mut steps: tonic::Streaming<v1::JobProgress>, style: Style) -> Result<(), Ended> {
    let progress = Progress::new(style, "rows");
    while let Some(step) = steps.next().await {
        let step = step.map_err(tidemill_client::ClientError::from)?;
        progress.set(step.rows);
        let Some(v1::JobResult { rows, files, manifest, notes }) = step.result else { continue };
        progress.finish();
        if style.json {
            println!("{}", json!({"rows": rows, "files": files, "manifest": manifest, "notes": notes}));
        } else {
            notes.iter().for_each(|note| println!("{note}"));
            println!("{rows} rows in {} files; {manifest} says what they are", files.len());
        }
        return Ok(());
    }
    Err(Failure::internal("E3027", "the server ended the job without a result").into())
}

pub(super) async fn backfill(server: &str, view: &str, style: Style) -> Result<(), Ended> {
    let mut steps = Client::connect(server).await?.backfill(view).await?;
    let progress = Progress::new(style, "events");
    while let Some(step) = steps.next().await {
        let v1::BackfillProgress { events, events_total, entities, done } =
            step.map_err(tidemill_client::ClientError::from)?;
        progress.set_of(events, events_total);
        if !done {
            continue;
        }
        progress.finish();
        if style.json {
            println!("{}", json!({"view": view, "events": events, "entities": entities}));
        } else {
            println!("view {view} is derived anew from {events} events: {entities} entities, serving");
        }
        return Ok(());
    }
    Err(Failure::internal("E3027", "the server ended the job without a result").into())
}

pub(super) async fn verify(server: &str, arguments: VerifyArguments, style: Style) -> Result<(), Ended> {
    let client = Client::connect(server).await?;
    let v1::VerifyResponse { sampled, differences, outdated, shown, beyond } =
        client.verify(v1::VerifyRequest { sample: arguments.sample }).await?;
    if style.json {
        let shown: Vec<Json> = shown.iter().map(difference_json).collect();
        let said = json!({"sampled": sampled, "differences": differences, "outdated": outdated, "beyond": beyond,
                          "shown": shown});
        println!("{said}");
    } else {
        println!("{sampled} served answers recomputed from the event log: {differences} values differ");
        if beyond > 0 {
            println!("{beyond} of their values may depend on events that retention has cut: nobody can recompute them");
        }
        if outdated > 0 {
            println!("{outdated} of the answers cannot be asked any more: their definitions are gone");
        }
        for difference in &shown {
            print_difference(difference);
        }
    }
    if differences > 0 { Err(Ended::Said(1)) } else { Ok(()) }
}

fn difference_json(difference: &v1::VerifyDifference) -> Json {
    let cell = |column: &Option<v1::Column>| {
        column.as_ref().map(|column| json!({"value": cell_json(column, 0), "status": status(column, 0)}))
    };
    let given: Map<String, Json> =
        difference.given.iter().map(|column| (column.name.clone(), cell_json(column, 0))).collect();
    json!({
        "feature": difference.feature,
        "given": given,
        "as_of": rfc3339(difference.read_time),
        "served": cell(&difference.served),
        "recomputed": cell(&difference.recomputed),
        "redefined": difference.redefined,
        "positions": positions(&difference.positions),
        "definition_hash": difference.definition_hash,
        "explained": difference.explained.as_ref().map(explanation_json),
    })
}

/// A difference, and how the log comes to its side of it.
fn print_difference(difference: &v1::VerifyDifference) {
    let cell = |column: &Option<v1::Column>| {
        let shown = |column: &v1::Column| format!("{} {}", cell_text(column, 0), status(column, 0));
        column.as_ref().map(shown).unwrap_or_default()
    };
    let given: Vec<String> =
        difference.given.iter().map(|column| format!("{}={}", column.name, cell_text(column, 0))).collect();
    println!("\n{} of {} as of {}", difference.feature, given.join(" "), rfc3339(difference.read_time));
    println!("  served      {}", cell(&difference.served));
    println!("  from the log {}", cell(&difference.recomputed));
    if difference.redefined {
        println!("  the definitions have changed since it was served");
    }
    println!("  it saw      {} (definitions {})", positions(&difference.positions), difference.definition_hash);
    if let Some(explained) = &difference.explained {
        println!("how the log comes to its side, from what the answer saw:");
        print_events(explained);
    }
}

/// A path as the server, in another folder, understands it. URLs are understood everywhere.
fn whole(path: &Path) -> Result<String, Failure> {
    if let Some(url) = path.to_str().filter(|text| ObjectUrl::is_url(text)) {
        return Ok(url.to_string());
    }
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(|e| Failure::invalid("E3042", format!("{}: {e}", path.display())))?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::invalid("E3042", format!("{} is not UTF-8", path.to_string_lossy())))
}
