//! The command line: verbs, their options, and how they end.
//!
//! Exit codes: 0 it worked, 1 it failed, 2 the user's mistake. Under `--json` stdout holds one object a line and an error is one
//! object on stderr. Client verbs talk to a server through the client crate, as any program would.

mod ask;
mod demo;
mod jobs;
mod keys;
mod offline;
mod output;
mod progress;
mod push;
mod search;
pub mod serve;
mod source;
mod status;
mod templates;
mod test;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tidemill_client::ClientError;

use crate::failure::{Failure, Remedy};

/// An online feature store for real-time ML: features declared in files, computed as events arrive, served over gRPC.
#[derive(Parser)]
#[command(name = "tidemill", version, propagate_version = true)]
pub struct Arguments {
    /// machine-readable output: one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// address of the server that client verbs talk to
    #[arg(long, global = true, env = "TIDEMILL_SERVER", default_value = "127.0.0.1:6566")]
    server: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Shows everything on real data: streams a year of flights, reads, explains
    Demo {
        /// where to keep the demo's data; a temporary folder by default
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Makes a project that runs at once
    Init {
        /// the template (fraud, recommendations, empty), or the folder
        first: String,
        /// the folder, behind a template
        dir: Option<PathBuf>,
    },
    /// Checks a project's definitions
    Check {
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Runs a project's fixtures: events in, values expected
    Test(test::TestArguments),
    /// Lays definition files out canonically
    Fmt {
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// only tells whether files would change
        #[arg(long)]
        check: bool,
    },
    /// Prints the JSON Schema of definition files
    Schema,
    /// Prints the reference of windows, aggregates and functions
    Reference,
    /// Runs the server of a project
    Serve(serve::ServeArguments),
    /// Sends events to a source
    Push(push::PushArguments),
    /// Reads feature values
    Get(ask::GetArguments),
    /// Shows how a value came about
    Explain(ask::ExplainArguments),
    /// Finds nearest neighbours of a vector, joined with features of the same moment
    Search(search::SearchArguments),
    /// Writes a training set: features for the rows of a spine, each as of its own time, as Parquet
    Export(jobs::ExportArguments),
    /// Writes every entity's values at one time as Parquet
    Snapshot(jobs::SnapshotArguments),
    /// Derives a view's state anew from the event log while the old one serves; goes on without this command
    Backfill {
        /// the view
        view: String,
    },
    /// Recomputes served answers from the event log; fails where a bit differs
    Verify(jobs::VerifyArguments),
    /// Shows how a server is doing: lag, freshness, the ledger
    Status,
    /// Lists definitions
    Ls {
        /// source, entity, view, embedding, service or sink
        #[arg(default_value = "")]
        kind: String,
    },
    /// Shows one definition with its lineage
    Show {
        /// a name, or KIND/NAME
        name: String,
    },
    /// Bad events: lists them, or sends them again
    DeadLetters {
        #[command(subcommand)]
        action: DeadLettersAction,
    },
    /// A source that reads from Kafka: lets it go on after a loss
    Source {
        #[command(subcommand)]
        action: source::SourceAction,
    },
    /// Shows settings and where each value came from
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
}

#[derive(Subcommand)]
enum DeadLettersAction {
    /// Lists bad events, oldest first
    List {
        /// only of this source
        #[arg(long, default_value = "")]
        source: String,
        /// only from this offset on
        #[arg(long, default_value_t = 0)]
        from_offset: u64,
        /// at most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Sends bad events of a source again, as new events
    Replay {
        /// the source
        source: String,
        /// only from this offset on
        #[arg(long, default_value_t = 0)]
        from_offset: u64,
        /// at most so many
        #[arg(long, default_value_t = 1000)]
        limit: u32,
    },
}

#[derive(Subcommand)]
enum ConfigAction {
    /// Prints every setting with its origin
    Show {
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
}

/// How a verb ended without doing its work.
pub enum Ended {
    /// an error for the user
    Failure(Failure),
    /// a server said no, or none answered
    Client(ClientError),
    /// everything was said already
    Said(u8),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failure(failure)
    }
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Ended::Client(error)
    }
}

/// How verbs print.
#[derive(Clone, Copy)]
pub struct Style {
    /// JSON lines
    pub json: bool,
    /// results only
    pub quiet: bool,
}

/// Runs a verb and gives the exit code.
pub fn run() -> u8 {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let json = std::env::args_os().any(|argument| argument == "--json");
            if json && error.use_stderr() {
                let message = error.to_string();
                let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
                output::error(Style { json, quiet: false }, "E5020", first, None);
            } else {
                let _ = error.print();
            }
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let style = Style { json: arguments.json, quiet: arguments.quiet };
    match verb(arguments, style) {
        Ok(()) => 0,
        Err(Ended::Said(code)) => code,
        Err(Ended::Failure(failure)) => {
            let code = if matches!(failure.remedy, Remedy::Invalid | Remedy::NotFound) { 2 } else { 1 };
            output::error(style, failure.code, &failure.message, failure.near.first().map(String::as_str));
            code
        }
        Err(Ended::Client(error)) => {
            output::error(style, &error.code, &error.message, error.near.as_deref());
            let refused = matches!(error.status, tonic::Code::InvalidArgument | tonic::Code::NotFound);
            if refused { 2 } else { 1 }
        }
    }
}

fn verb(arguments: Arguments, style: Style) -> Result<(), Ended> {
    match arguments.verb {
        Verb::Demo { dir } => runtime()?.block_on(demo::run(dir, style)),
        Verb::Init { first, dir } => templates::init(&first, dir, style),
        Verb::Check { dir } => offline::check(&dir, style),
        Verb::Test(test) => runtime()?.block_on(test::run(test, style)),
        Verb::Fmt { dir, check } => offline::format(&dir, check, style),
        Verb::Schema => offline::schema(),
        Verb::Reference => offline::reference(),
        Verb::Serve(serve) => runtime()?.block_on(serve::run(serve, style)),
        Verb::Config { action: ConfigAction::Show { dir } } => offline::config(&dir, style),
        Verb::Push(push) => runtime()?.block_on(push::run(&arguments.server, push, style)),
        Verb::Get(get) => runtime()?.block_on(ask::get(&arguments.server, get, style)),
        Verb::Explain(explain) => runtime()?.block_on(ask::explain(&arguments.server, explain, style)),
        Verb::Search(search) => runtime()?.block_on(search::search(&arguments.server, search, style)),
        Verb::Export(export) => runtime()?.block_on(jobs::export(&arguments.server, export, style)),
        Verb::Snapshot(snapshot) => runtime()?.block_on(jobs::snapshot(&arguments.server, snapshot, style)),
        Verb::Backfill { view } => runtime()?.block_on(jobs::backfill(&arguments.server, &view, style)),
        Verb::Verify(verify) => runtime()?.block_on(jobs::verify(&arguments.server, verify, style)),
        Verb::Status => runtime()?.block_on(status::status(&arguments.server, style)),
        Verb::Ls { kind } => runtime()?.block_on(ask::list(&arguments.server, &kind, style)),
        Verb::Show { name } => runtime()?.block_on(ask::show(&arguments.server, &name, style)),
        Verb::Source { action } => runtime()?.block_on(source::run(&arguments.server, action, style)),
        Verb::DeadLetters { action } => runtime()?.block_on(ask::dead_letters(&arguments.server, action, style)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Ended> {
    // Decoding blocks a thread now and then: at least two, so that reads go on meanwhile.
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    built.map_err(|e| Ended::Failure(Failure::internal("E5014", format!("the runtime cannot start: {e}"))))
}
