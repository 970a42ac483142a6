//! Processes on a shared store, each with a folder of its own: started in their roles, killed, stopped, started again.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tidemill_client::Client;
use tidemill_tests::server::{Server, project};

/// What the processes of a group have in common.
#[derive(Clone)]
pub struct Group {
    definitions: String,
    settings: String,
}

/// How long a member may be silent, in milliseconds, before others take over.
pub const SESSION_MS: u64 = 3_000;

impl Group {
    /// A new one, whose store nobody else has. Several addresses are those of a cluster.
    pub fn new(definitions: &str, kafka: &str, redis: &[String]) -> Group {
        let name = format!("t{:016x}", rand::random::<u64>());
        let (addresses, cluster) = (redis.join(","), redis.len() > 1);
        let settings = format!(
            "store = \"redis\"\n[redis]\naddress = \"{addresses}\"\ncluster = {cluster}\nprefix = \"{name}\"\n\
             [kafka]\nbrokers = \"{kafka}\"\ngroup = \"{name}\"\n\
             properties = {{ \"session.timeout.ms\" = \"{SESSION_MS}\", \"heartbeat.interval.ms\" = \"300\", \
             \"topic.metadata.refresh.interval.ms\" = \"1000\", \"reconnect.backoff.max.ms\" = \"500\" }}\n"
        );
        Group { definitions: definitions.to_string(), settings }
    }

    /// The same store and group with other definitions.
    pub fn redefined(&self, definitions: &str) -> Group {
        Group { definitions: definitions.to_string(), ..self.clone() }
    }

    /// A process in a role; it answers.
    pub async fn start(&self, role: &'static str) -> Process {
        self.try_start(role).await.unwrap_or_else(|said| panic!("role {role}: {said}"))
    }

    /// The same, or what it said when it ended instead.
    pub async fn try_start(&self, role: &'static str) -> Result<Process, String> {
        let folder = project(&self.definitions);
        std::fs::write(folder.path().join("tidemill.toml"), &self.settings).unwrap();
        let server = begin(folder.path(), role).await?;
        Ok(Process { folder, role, server: Some(server) })
    }
}

/// One process.
pub struct Process {
    folder: TempDir,
    role: &'static str,
    server: Option<Server>,
}

impl Process {
    /// A client of it.
    pub async fn client(&self) -> Client {
        self.server().client().await
    }

    /// The running server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> Option<i32> {
        self.server.take().expect("it runs").terminate()
    }

    /// Starts it after its end, in the same folder.
    pub async fn start(&mut self) {
        let begun = begin(self.folder.path(), self.role).await;
        self.server = Some(begun.unwrap_or_else(|said| panic!("role {}: {said}", self.role)));
    }

    /// What it has logged, the last part of it.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.folder.path().join("said")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

async fn begin(folder: &Path, role: &str) -> Result<Server, String> {
    let path = folder.join("said");
    let log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let begun = Server::try_start_as(folder, &["--role", role], ("warn,tidemill=info", Stdio::from(log))).await;
    begun.map_err(|_| std::fs::read_to_string(path).unwrap_or_default())
}
