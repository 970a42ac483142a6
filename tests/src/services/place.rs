//! Where a server of a test lives: a folder of its own, a port that stays its own, and a process that is killed and started again
//! on both.
//!
//! Nothing may outlive the tests, however they end. Statics are not dropped, and a test binary may be killed; so each folder has a
//! warden, a shell that reads from a pipe of this process. When the pipe closes, for whatever reason, it kills what has a `.pid`
//! file in the folder and removes the folder.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;

const WARDEN: &str = r#"trap '' INT TERM HUP
read -r _
for pid in "$1"/*.pid; do [ -e "$pid" ] && kill -9 "$(cat "$pid")"; done
rm -rf "$1" || { sleep 1; rm -rf "$1"; }"#;

/// A folder that goes with who holds it.
pub struct Place {
    folder: PathBuf,
    /// both are there until the drop
    warden: Option<(Child, ChildStdin)>,
}

impl Place {
    /// An empty one.
    pub fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("tidemill-server.").tempdir().expect("a temporary folder").keep();
        let mut warden = Command::new("sh");
        warden.args(["-c", WARDEN, "warden"]).arg(&folder);
        warden.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut warden = warden.spawn().expect("a shell runs");
        let pipe = warden.stdin.take().expect("it was asked for");
        Place { folder, warden: Some((warden, pipe)) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Default for Place {
    fn default() -> Place {
        Place::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((mut warden, pipe)) = self.warden.take() {
            drop(pipe);
            let _ = warden.wait();
        }
    }
}

/// A free port that stays free while its server is down: Linux gives outgoing connections those from 32768 on. `further` up it is
/// free as well, for servers that take two.
pub fn lasting_port(further: u16) -> u16 {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let range = if further == 0 { 22_800..30_000 } else { 20_000..22_700 };
    loop {
        let port = rand::rng().random_range(range.clone());
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if !taken.contains(&port) && free(port) && (further == 0 || free(port + further)) {
            taken.insert(port);
            return port;
        }
    }
}

/// One server: how it is started, and its process while it runs.
pub struct Server {
    name: String,
    folder: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    child: Option<Child>,
    /// where in its output the run of now begins
    begin: u64,
}

impl Server {
    /// One that does not run yet.
    pub fn new(place: &Place, name: &str, program: &Path, arguments: Vec<String>) -> Server {
        let (name, folder) = (name.to_string(), place.path().to_path_buf());
        Server { name, folder, program: program.into(), arguments, variables: Vec::new(), child: None, begin: 0 }
    }

    /// With an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Server {
        self.variables.push((name.to_string(), value.to_string()));
        self
    }

    /// Starts it, once more if it was killed; with more arguments this time.
    pub fn start_with(&mut self, more: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = self.file("out");
        let output = OpenOptions::new().create(true).append(true).open(&log).expect("a file for its output");
        self.begin = output.metadata().expect("it is open").len();
        let errors = output.try_clone().expect("a second descriptor");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(more).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().unwrap_or_else(|e| panic!("{} does not run: {e}", self.program.display()));
        std::fs::write(self.file("pid"), child.id().to_string()).expect("the folder can be written");
        self.child = Some(child);
    }

    /// The same without more arguments.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Waits until it is ready, by its own account or by asking it.
    pub fn wait_until(&mut self, mut ready: impl FnMut(&Server) -> bool) {
        for _ in 0..6000 {
            if ready(self) {
                return;
            }
            let child = self.child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                self.forget();
                panic!("{} has ended, {status}: {}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} is not ready within a minute: {}", self.name, self.output());
    }

    /// kill -9; nothing happens to one that does not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.forget();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
            self.forget();
        }
    }

    /// SIGSTOP: it is there, and does nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Whether it was started and not killed.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// What it has said since it was started.
    pub fn output(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.file("out")) {
            use std::io::{Read, Seek, SeekFrom};
            let _ = file.seek(SeekFrom::Start(self.begin));
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} takes no SIG{signal}", self.name);
    }

    /// Its number may soon be another's.
    fn forget(&self) {
        let _ = std::fs::remove_file(self.file("pid"));
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
