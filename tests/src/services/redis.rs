//! A real Redis: Debian's 7, or Valkey 9. It keeps what it acknowledges over kill -9 (an append-only file, which the page cache of
//! the machine holds) unless a test asks for less.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Certificates, Place, Server, installed, lasting_port};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisKind {
    /// Redis 7 as Debian has it: the oldest that is supported
    Debian,
    /// Valkey 9
    Valkey,
}

/// How a Redis is set up.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// nothing is written to disk: a kill loses everything
    pub forgetful: bool,
    /// also listens for TLS (Debian's only; Valkey's build has none): see `Redis::tls_address`
    pub tls: bool,
    /// settings as on its command line, without the dashes
    pub settings: Vec<(String, String)>,
}

impl RedisOptions {
    /// With one more setting.
    pub fn setting(mut self, name: &str, value: &str) -> RedisOptions {
        self.settings.push((name.to_string(), value.to_string()));
        self
    }
}

/// A running one; killed when dropped, its data with it.
pub struct Redis {
    server: Mutex<Server>,
    port: u16,
    tls: Option<(u16, Certificates)>,
    cli: PathBuf,
    keeps: bool,
    /// last: the server ends before its folder goes
    place: Place,
}

/// What a Redis held at some moment.
pub struct Mark(Vec<u8>);

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start(kind: RedisKind, options: &RedisOptions) -> Redis {
        Redis::start_on(lasting_port(0), kind, options)
    }

    /// The same on a port that was picked before.
    pub(super) fn start_on(port: u16, kind: RedisKind, options: &RedisOptions) -> Redis {
        let redis = Redis::begin(port, kind, options);
        redis.wait();
        redis
    }

    /// Starts one and does not wait.
    pub(super) fn begin(port: u16, kind: RedisKind, options: &RedisOptions) -> Redis {
        let program = installed(if kind == RedisKind::Debian { "redis" } else { "valkey" });
        let place = Place::new();
        let mut settings: Vec<(String, String)> = vec![("port".into(), port.to_string())];
        let fixed = [("bind", "127.0.0.1"), ("save", ""), ("loglevel", "warning"), ("appendfsync", "everysec")];
        settings.extend(fixed.map(|(name, value)| (name.to_string(), value.to_string())));
        let tls = options.tls.then(|| {
            assert_eq!(kind, RedisKind::Debian, "this build of Valkey speaks no TLS");
            let certificates = Certificates::make(&place.path().join("certificates"));
            let port = lasting_port(0);
            let (certificate, key) = certificates.of("server");
            settings.push(("tls-port".into(), port.to_string()));
            settings.push(("tls-auth-clients".into(), "optional".into()));
            settings.push(("tls-ca-cert-file".into(), certificates.authority().display().to_string()));
            settings.push(("tls-cert-file".into(), certificate.display().to_string()));
            settings.push(("tls-key-file".into(), key.display().to_string()));
            (port, certificates)
        });
        settings.extend(options.settings.iter().cloned());
        let arguments = settings.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        let mut server = Server::new(&place, "redis", &program, arguments);
        let keeps = !options.forgetful;
        server.start_with(&["--appendonly", if keeps { "yes" } else { "no" }]);
        Redis { server: Mutex::new(server), port, tls, cli: installed("redis-cli"), keeps, place }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `localhost:PORT` for TLS, which the certificate names.
    pub fn tls_address(&self) -> String {
        format!("localhost:{}", self.tls.as_ref().expect("RedisOptions::tls asks for it").0)
    }

    /// Whose authority has signed it.
    pub fn certificates(&self) -> &Certificates {
        &self.tls.as_ref().expect("RedisOptions::tls asks for it").1
    }

    /// What `redis-cli` prints for a command.
    pub fn cli(&self, command: &[&str]) -> String {
        self.try_cli(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The same, or the error.
    pub fn try_cli(&self, command: &[&str]) -> Result<String, String> {
        let said = Command::new(&self.cli).args(["-e", "-p", &self.port.to_string()]).args(command).output();
        let said = said.expect("redis-cli runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
        if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stdout) + &text(&said.stderr)) }
    }

    /// kill -9.
    pub fn kill(&self) {
        self.server().kill();
    }

    /// Starts it after a kill, on the same port and data, and waits until it answers.
    pub fn restart(&self) {
        self.begin_again();
        self.wait();
    }

    /// Starts it after a kill and does not wait.
    pub(super) fn begin_again(&self) {
        self.server().start_with(&["--appendonly", if self.keeps { "yes" } else { "no" }]);
    }

    /// SIGSTOP: connections stay, and nobody answers.
    pub fn pause(&self) {
        self.server().pause();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server().resume();
    }

    /// Whether it was started and not killed.
    pub fn runs(&self) -> bool {
        self.server().runs()
    }

    /// CONFIG SET; a restart forgets it.
    pub fn configure(&self, name: &str, value: &str) {
        self.cli(&["config", "set", name, value]);
    }

    /// Makes a user with a password, who may do what the rules say (`~*`, `+get`, …); a restart forgets it.
    pub fn add_user(&self, name: &str, secret: &str, rules: &[&str]) {
        let secret = format!(">{secret}");
        let begin = ["acl", "setuser", name, "reset", "on", &secret];
        self.cli(&[&begin[..], rules].concat());
    }

    /// Remembers what it holds now.
    pub fn mark(&self) -> Mark {
        self.cli(&["save"]);
        Mark(std::fs::read(self.place.path().join("dump.rdb")).expect("SAVE writes it"))
    }

    /// Goes back to a mark: all that was acknowledged since is lost, as when an older copy takes over.
    pub fn rewind(&self, mark: &Mark) {
        self.kill();
        let _ = std::fs::remove_dir_all(self.place.path().join("appendonlydir"));
        std::fs::write(self.place.path().join("dump.rdb"), &mark.0).expect("the folder can be written");
        // With an append-only file on, it would start empty rather than look at the dump.
        self.server().start_with(&["--appendonly", "no"]);
        self.wait();
        if self.keeps {
            self.configure("appendonly", "yes");
            // Only from the end of the first rewrite on it keeps what it acknowledges.
            let busy =
                |said: &str| said.contains("aof_rewrite_in_progress:1") || said.contains("aof_rewrite_scheduled:1");
            self.server().wait_until(|_| !busy(&self.cli(&["info", "persistence"])));
        }
    }

    /// Waits until it answers; while it loads its data it does not.
    pub(super) fn wait(&self) {
        let ask = ["-p", &self.port.to_string(), "ping"].map(String::from);
        self.server().wait_until(|_| {
            let said = Command::new(&self.cli).args(&ask).output().expect("redis-cli runs");
            said.stdout.starts_with(b"PONG")
                // A password of the test's own is as good an answer.
                || said.stdout.starts_with(b"NOAUTH")
        });
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
