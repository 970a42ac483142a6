//! A real server process for tests: started, asked, killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidemill_client::{Client, v1};

/// The binary beside this test's own.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    let folder = own.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let binary = folder.join("tidemill");
    assert!(binary.is_file(), "{} is missing: run the tests of the whole workspace", binary.display());
    binary
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
}

/// A free port of this machine.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

impl Server {
    /// Starts `tidemill serve` on a project and waits until it answers.
    pub async fn start(project: &Path) -> Server {
        match Server::try_start(project).await {
            Ok(server) => server,
            Err(output) => panic!("the server does not start: {output}"),
        }
    }

    /// The same, or what the server said when it ended instead.
    pub async fn try_start(project: &Path) -> Result<Server, String> {
        // Errors, and what tests look for; a pipe that nobody reads must not fill.
        Server::try_start_as(project, &[], ("error,tidemill::ingest::build=info", Stdio::piped())).await
    }

    /// The same with more arguments, and with what is logged going where the test wants it.
    pub async fn try_start_as(
        project: &Path,
        arguments: &[&str],
        (level, log): (&str, Stdio),
    ) -> Result<Server, String> {
        let address = format!("127.0.0.1:{}", free_port());
        let mut child = Command::new(binary())
            .arg("serve")
            .arg(project)
            .args(["--listen", &address, "--metrics-listen", "", "--quiet"])
            .args(arguments)
            .stdout(Stdio::null())
            .env("TIDEMILL_LOG", level)
            // What settings of tests name as secrets.
            .env("SECRET_OF_TEST_RIGHT", "hunter2")
            .env("SECRET_OF_TEST_WRONG", "hunter2-but-wrong")
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        for _ in 0..3000 {
            if let Ok(client) = Client::connect(&address).await
                && client.status().await.is_ok()
            {
                return Ok(Server { child, address });
            }
            if child.try_wait().expect("a child can be asked").is_some() {
                let output = child.wait_with_output().expect("its output can be read");
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("no answer within 30 s".to_string())
    }

    /// A client of this server.
    pub async fn client(&self) -> Client {
        Client::connect(&self.address).await.expect("the server answers")
    }

    /// Sends it a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server takes no SIG{name}");
    }

    /// SIGSTOP: it is there, and does nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// kill -9; what it has logged.
    pub fn kill(mut self) -> String {
        let _ = self.child.kill();
        self.logged()
    }

    /// SIGTERM; what it has logged, once it has ended.
    pub fn last_words(mut self) -> String {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.logged()
    }

    /// All that a server which ends has logged.
    fn logged(&mut self) -> String {
        let mut words = String::new();
        if let Some(mut log) = self.child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut log, &mut words);
        }
        let _ = self.child.wait();
        words
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> Option<i32> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A project folder with one definition file.
pub fn project(definitions: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("features")).expect("it is new");
    std::fs::write(folder.path().join("features/test.toml"), definitions).expect("it can be written");
    folder
}

/// NDJSON as a push.
pub fn ndjson(source: &str, lines: String, wait: v1::Wait) -> v1::PushRequest {
    let rows = Some(v1::push_request::Rows::Ndjson(lines.into_bytes().into()));
    v1::PushRequest { source: source.to_string(), rows, wait: wait as i32 }
}
