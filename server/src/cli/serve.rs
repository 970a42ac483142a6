//! serve: runs a project's server until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;

use super::{Ended, Style};
use crate::clock::Clock;
use crate::components::{Options, Server, check_kafka, load_project};
use crate::failure::Failure;
use crate::limits::SHUTDOWN_GRACE;
use crate::settings::{Role, Settings};
use crate::{metrics, serving, settings};

/// Options of `serve`.
#[derive(Args)]
pub struct ServeArguments {
    /// the project
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// address of gRPC and HTTP
    #[arg(long)]
    listen: Option<String>,
    /// where the event log and the state live
    #[arg(long)]
    data_dir: Option<String>,
    /// address of Prometheus metrics; empty: none
    #[arg(long)]
    metrics_listen: Option<String>,
    /// gRPC reflection: on, off, auto
    #[arg(long)]
    reflection: Option<String>,
    /// allows an address that others can reach, without TLS and auth
    #[arg(long)]
    insecure: bool,
    /// what this process does
    #[arg(long, value_parser = ["all", "ingest", "serve"])]
    role: Option<String>,
    /// where the state lives
    #[arg(long, value_parser = ["embedded", "redis"])]
    store: Option<String>,
}

pub(super) async fn run(arguments: ServeArguments, style: Style) -> Result<(), Ended> {
    log_to_stderr(style);
    let absolute = arguments.data_dir.map(|dir| std::path::absolute(&dir).map_or(dir, |p| p.display().to_string()));
    let flags = [
        ("listen", arguments.listen),
        ("data_dir", absolute),
        ("metrics_listen", arguments.metrics_listen),
        ("reflection", arguments.reflection),
        ("insecure", arguments.insecure.then(|| "true".to_string())),
        ("role", arguments.role),
        ("store", arguments.store),
    ];
    let settings = settings::load(&arguments.dir, &flags)?;
    let running = Running::start(&arguments.dir, settings).await?;
    if !style.quiet {
        eprintln!("serving {} on {}", arguments.dir.display(), running.address);
    }
    stop_signal().await;
    if !style.quiet {
        eprintln!("stopping");
    }
    running.stop().await;
    Ok(())
}

fn log_to_stderr(style: Style) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TIDEMILL_LOG");
    let default = if style.quiet { "error" } else { "info" };
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first subscriber.
    let _ = if style.json { builder.json().try_init() } else { builder.try_init() };
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        },
        Err(_) => drop(interrupted.await),
    }
}

/// A server that runs in this process.
pub struct Running {
    /// where it listens
    pub address: std::net::SocketAddr,
    /// the engine
    pub server: Arc<Server>,
    threads: crate::ingest::IngestThreads,
    stop: tokio::sync::oneshot::Sender<()>,
    door: tokio::task::JoinHandle<Result<(), Failure>>,
    feeds: Vec<tokio::task::JoinHandle<()>>,
    metrics: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Recovers, binds, serves.
    pub async fn start(project: &std::path::Path, settings: Settings) -> Result<Running, Failure> {
        let registry = load_project(project)?;
        check_kafka(&registry, &settings.kafka)?;
        // One spelling of the path: the files of a file source are known by their names below it.
        let named = |e: std::io::Error| Failure::invalid("E5006", format!("{}: {e}", project.display()));
        let project = &std::fs::canonicalize(project).map_err(named)?;
        // The port first: a second server on the same machine is told at once.
        let bound = |e: std::io::Error| Failure::invalid("E5015", format!("cannot listen on {}: {e}", settings.listen));
        let listener = TcpListener::bind(settings.listen).await.map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let (data_dir, options) =
            (settings.data_dir.clone(), Options { address: address.to_string(), ..Options::of(&settings) });
        let opened =
            tokio::task::spawn_blocking(move || Server::open_at(registry, &data_dir, Clock::default(), options)).await;
        let (server, threads) = opened.map_err(|e| Failure::internal("E5014", e.to_string()))??;
        let mut feeds = server.feed(project, &settings.data_dir, &settings.kafka)?;
        if !server.registry.embeddings.is_empty() {
            let server = server.clone();
            feeds.push(tokio::task::spawn_blocking(move || serving::search::quality::run(&server)));
        }
        if settings.verify_trickle > 0.0 && settings.role == Role::All {
            let (server, share) = (server.clone(), settings.verify_trickle);
            feeds.push(tokio::task::spawn_blocking(move || serving::trickle::run(&server, share)));
        }
        let metrics = settings.metrics_listen.and_then(|address| metrics_page(address, server.clone()));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let wait = async move { drop(stopped.await) };
        let door = tokio::spawn(serving::door::serve(server.clone(), listener, settings.reflection, wait));
        Ok(Running { address, server, threads, stop, door, feeds, metrics })
    }

    /// Lets open requests finish, applies what was accepted, writes the state.
    pub async fn stop(self) {
        self.server.stop();
        let _ = self.stop.send(());
        let mut door = self.door;
        if tokio::time::timeout(SHUTDOWN_GRACE, &mut door).await.is_err() {
            tracing::warn!("open requests did not finish in time");
            door.abort();
        }
        for feed in self.feeds {
            let _ = tokio::time::timeout(SHUTDOWN_GRACE, feed).await;
        }
        if let Some(metrics) = self.metrics {
            metrics.abort();
            let _ = metrics.await;
        }
        drop(self.server);
        let threads = self.threads;
        let _ = tokio::task::spawn_blocking(move || threads.join()).await;
    }
}

fn metrics_page(address: std::net::SocketAddr, server: Arc<Server>) -> Option<tokio::task::JoinHandle<()>> {
    let handle = metrics::install()?;
    Some(tokio::spawn(async move {
        if let Err(error) = metrics::serve(address, handle, server).await {
            tracing::warn!(%error, %address, "metrics are not served");
        }
    }))
}
