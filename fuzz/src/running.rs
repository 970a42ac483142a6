//! A running server in this process, asked without a network between.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tidemill::components::Server;
use tidemill::failure::Failure;
use tidemill::ingest::IngestThreads;
use tidemill::serving::{answer, api};
use tidemill_proto::v1;
use tokio::runtime::Runtime;

use crate::definitions::registry;
use crate::memory_folder;

/// Pushes after which a server with an empty log takes over: each one stays in memory and in the log.
const PUSHES_MAX: usize = 2_000;
/// What every server starts with.
const EVENTS: &[u8] = include_bytes!("../corpus/ndjson/rows");

/// A server with a few events.
pub struct Running {
    server: Arc<Server>,
    threads: IngestThreads,
    folder: TempDir,
    pushes: usize,
}

/// Where requests go in.
pub struct Doors {
    runtime: Runtime,
    running: Mutex<Option<Running>>,
}

impl Default for Doors {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Doors { runtime: runtime.expect("the system has room for two threads"), running: Mutex::new(None) }
    }
}

fn open(folder: &Path) -> (Arc<Server>, IngestThreads) {
    Server::open(registry(None), folder).expect("an empty folder is fine")
}

impl Running {
    fn start(runtime: &Runtime) -> Running {
        let folder = tempfile::tempdir_in(memory_folder()).expect("a temporary folder");
        let (server, threads) = open(folder.path());
        let running = Running { server, threads, folder, pushes: 0 };
        let rows = Some(v1::push_request::Rows::Ndjson(EVENTS.into()));
        for source in ["s", "plain"] {
            let request =
                v1::PushRequest { source: source.to_string(), rows: rows.clone(), wait: v1::Wait::Readable as i32 };
            let answer = runtime.block_on(api::push(running.server.clone(), request)).expect("these events are right");
            assert!(answer.accepted > 0, "no event of the corpus is good");
        }
        running
    }

    /// Everything is applied and kept, and the next start finds it.
    fn stop(self) {
        self.server.stop();
        drop(self.server);
        self.threads.join();
        let (server, threads) = open(self.folder.path());
        drop(server);
        threads.join();
    }
}

impl Doors {
    /// Runs a request on the server.
    fn ask<T>(&self, pushes: usize, ask: impl FnOnce(Arc<Server>) -> T) -> T {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = running.take_if(|running| running.pushes >= PUSHES_MAX) {
            used.stop();
        }
        let running = running.get_or_insert_with(|| Running::start(&self.runtime));
        running.pushes += pushes;
        ask(running.server.clone())
    }

    /// Serving.Get
    pub fn get(&self, request: &v1::GetRequest) -> Result<v1::GetResponse, Failure> {
        self.ask(0, |server| answer::get(&server, request, &AtomicBool::new(false)))
    }

    /// Serving.Explain
    pub fn explain(&self, request: &v1::ExplainRequest) -> Result<v1::ExplainResponse, Failure> {
        self.ask(0, |server| answer::explain(&server, request))
    }

    /// Ingest.Push
    pub fn push(&self, request: v1::PushRequest) -> Result<v1::PushResponse, Failure> {
        self.ask(1, |server| self.runtime.block_on(api::push(server, request)))
    }

    /// Ingest.DeadLetters
    pub fn dead_letters(&self, request: &v1::DeadLettersRequest) -> Result<Vec<v1::DeadLetter>, Failure> {
        self.ask(0, |server| api::dead_letters(&server, request))
    }
}
