//! push: sends files (or stdin) to a source, batch by batch, over one stream.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tidemill_client::Client;
use tidemill_proto::v1::{self, push_request::Rows};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::progress::Progress;
use super::{Ended, Style};
use crate::columnar::ParquetFile;
use crate::failure::Failure;
use crate::limits::EVENT_BYTES_MAX;
use crate::source::files::Format;

/// Bytes of text in one batch, and events at most.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_EVENTS: usize = 8_192;
/// Bytes of a line beyond which it is cut.
const LINE_BYTES: usize = 2 * EVENT_BYTES_MAX;

/// Options of `push`.
#[derive(Args)]
pub struct PushArguments {
    /// the source
    source: String,
    /// ndjson, csv or parquet files; - for NDJSON on stdin
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// at most so many events a second
    #[arg(long)]
    rate: Option<f64>,
    /// waits until the events are visible to reads
    #[arg(long)]
    wait: bool,
}

/// A batch and how many events it has, about.
struct Batch {
    rows: Rows,
    events: u64,
}

/// How a push went.
#[derive(Default)]
pub(super) struct Pushed {
    pub accepted: u64,
    pub dead_lettered: u64,
    pub positions: Vec<v1::Position>,
    pub letters: Vec<v1::DeadLetter>,
}

pub(super) async fn run(server: &str, arguments: PushArguments, style: Style) -> Result<(), Ended> {
    if arguments.rate.is_some_and(|rate| !(0.001..=1e12).contains(&rate)) {
        return Err(Failure::invalid("E1022", "--rate is a number of events a second, 0.001 at least").into());
    }
    for file in &arguments.files {
        if file.as_os_str() != "-" {
            let open = std::fs::File::open(file);
            open.map_err(|e| Failure::invalid("E1023", format!("{}: {e}", file.display())))?;
            Format::of(file, None).map_err(|e| Failure::invalid("E1023", e))?;
        }
    }
    let client = Client::connect(server).await?;
    let wait = if arguments.wait { v1::Wait::Readable } else { v1::Wait::Durable };
    let pushed = send(&client, &arguments.source, arguments.files, wait, arguments.rate, style).await?;
    if !style.json && !style.quiet {
        for letter in &pushed.letters {
            eprintln!("dead letter at offset {}: {} {}", letter.offset, letter.code, letter.reason);
        }
    }
    print_result(pushed.accepted, pushed.dead_lettered, &pushed.positions, style);
    Ok(())
}

/// One line, or one object.
pub(super) fn print_result(accepted: u64, dead_lettered: u64, positions: &[v1::Position], style: Style) {
    if style.json {
        let positions: BTreeMap<String, u64> =
            positions.iter().map(|p| (p.partition.to_string(), p.next_offset)).collect();
        println!("{}", json!({ "accepted": accepted, "dead_lettered": dead_lettered, "positions": positions }));
    } else if !style.quiet {
        println!("accepted {accepted} events, {dead_lettered} dead letters");
    }
}

/// Sends files over one stream and waits for all answers.
pub(super) async fn send(
    client: &Client,
    source: &str,
    files: Vec<PathBuf>,
    wait: v1::Wait,
    rate: Option<f64>,
    style: Style,
) -> Result<Pushed, Ended> {
    let (batches, requests) = mpsc::channel::<Batch>(8);
    let reading = tokio::task::spawn_blocking(move || {
        let mut is_empty = true;
        let mut take = |batch| {
            is_empty = false;
            batches.blocking_send(batch).is_ok()
        };
        let read = files.iter().try_for_each(|file| read_file(file, &mut take));
        if is_empty && read.is_ok() {
            // Whether there is such a source is to be said of an empty file, too; who hung up has said so.
            let _ = batches.blocking_send(Batch { rows: Rows::Ndjson(Vec::new().into()), events: 0 });
        }
        read
    });
    let source = source.to_string();
    let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
    let paced = pace(stream, rate);
    let requests =
        paced.map(move |rows| v1::PushRequest { source: source.clone(), rows: Some(rows), wait: wait as i32 });
    let mut answers = client.push_stream(requests).await?;
    let progress = Progress::new(style, "events");
    let mut pushed = Pushed::default();
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(tidemill_client::ClientError::from)?;
        pushed.accepted += answer.accepted;
        pushed.dead_lettered += answer.dead_lettered;
        pushed.letters.extend(answer.dead_letters);
        pushed.letters.truncate(10);
        pushed.positions = answer.positions;
        progress.set(pushed.accepted + pushed.dead_lettered);
    }
    progress.finish();
    let read = reading.await.map_err(|e| Failure::internal("E1023", e.to_string()))?;
    read.map_err(|message| Failure::invalid("E1023", message))?;
    Ok(pushed)
}

#[allow(clippy::disallowed_methods)]
fn pace(
    batches: impl tokio_stream::Stream<Item = Batch> + Send + 'static,
    rate: Option<f64>,
) -> impl tokio_stream::Stream<Item = Rows> + Send + 'static {
    let started = Instant::now();
    let mut sent = 0u64;
    batches.then(move |batch| {
        let due = rate.map(|rate| Duration::from_secs_f64(sent as f64 / rate));
        sent += batch.events;
        async move {
            if let Some(due) = due {
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
            batch.rows
        }
    })
}

/// Cuts a file into batches. `take` says false when nobody wants more.
fn read_file(path: &Path, take: &mut dyn FnMut(Batch) -> bool) -> Result<(), String> {
    if path.as_os_str() == "-" {
        return read_lines(&mut std::io::stdin().lock(), None, take);
    }
    let named = |e: std::io::Error| format!("{}: {e}", path.display());
    match Format::of(path, None)? {
        Format::Parquet => {
            let mut file = ParquetFile::open(path, 0)?;
            while let Some(next) = file.next_columns() {
                let (columns, rows) = next?;
                let columns = columns.iter().map(|(name, column)| super::keys::to_wire(name, column)).collect();
                if !take(Batch { rows: Rows::Columns(v1::Columns { columns }), events: rows as u64 }) {
                    break;
                }
            }
            Ok(())
        }
        format => {
            let mut file = std::io::BufReader::with_capacity(1 << 18, std::fs::File::open(path).map_err(named)?);
            let mut header = None;
            if format == Format::Csv {
                let mut line = Vec::new();
                file.read_until(b'\n', &mut line).map_err(named)?;
                header = Some(line);
            }
            read_lines(&mut file, header.as_deref(), take)
        }
    }
}

fn read_lines(
    file: &mut dyn BufRead,
    header: Option<&[u8]>,
    take: &mut dyn FnMut(Batch) -> bool,
) -> Result<(), String> {
    loop {
        let mut body = header.map(<[u8]>::to_vec).unwrap_or_default();
        let start = body.len();
        let mut events = 0;
        let mut open_quotes = false;
        loop {
            let before = body.len();
            let read = file.read_until(b'\n', &mut body).map_err(|e| e.to_string())?;
            if read == 0 {
                break;
            }
            if read > LINE_BYTES {
                // Too long for any event: what is sent is long enough to become a dead letter, and lets its neighbours pass.
                body.truncate(before + LINE_BYTES);
                body.push(b'\n');
            }
            events += 1;
            open_quotes ^= header.is_some() && body[before..].iter().filter(|b| **b == b'"').count() % 2 == 1;
            let unending = body.len() >= 8 * BATCH_BYTES;
            if (!open_quotes || unending) && (body.len() >= BATCH_BYTES || events as usize >= BATCH_EVENTS) {
                break;
            }
        }
        if body.len() == start {
            return Ok(());
        }
        let rows = if header.is_some() { Rows::Csv(body.into()) } else { Rows::Ndjson(body.into()) };
        if !take(Batch { rows, events }) {
            return Ok(());
        }
    }
}
