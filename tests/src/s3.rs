//! A server that speaks S3 (moto, in Python), and a gate before it that can be shut: then nobody reaches it, and what it holds
//! stays.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill::objects::{ObjectUrl, Objects};
use tidemill::settings::{S3Settings, Secret};

use crate::python::{MISSING, python};
use crate::server::free_port;

/// The bucket that there is.
pub const BUCKET: &str = "lake";
/// What asks with it, and proves it with it; no message may have the second.
pub const KEY_ID: &str = "AKIATIDEMILLTESTS";
/// The secret.
pub const SECRET: &str = "canary/of+a/secret";

/// A running server; killed when dropped.
pub struct S3 {
    process: Child,
    port: u16,
    gate: Arc<Gate>,
    /// where the gate is
    gate_port: u16,
}

#[derive(Default)]
struct Gate {
    shut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl S3 {
    /// Starts one that lets everybody in, with an empty bucket.
    pub fn start() -> S3 {
        S3::start_with(&[])
    }

    /// Starts one that knows nobody: all but the making of the bucket is refused.
    pub fn start_strict() -> S3 {
        S3::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "1")])
    }

    fn start_with(variables: &[(&str, &str)]) -> S3 {
        let (port, python) = (free_port(), python());
        let mut command = Command::new(&python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        let missing = |what: String| -> ! {
            panic!(
                "object stores are tested against moto, and Python with its package `moto[server]` is not there ({}: {what}). {MISSING}",
                python.display()
            )
        };
        let mut process = command.spawn().unwrap_or_else(|e| missing(e.to_string()));
        for _ in 0..600 {
            if let Ok(Some(status)) = process.try_wait() {
                missing(format!("`python -m moto.server` ended, {status}"));
            }
            if make_bucket(port).is_some_and(|answer| answer.contains(" 200 ")) {
                let gate = Arc::new(Gate::default());
                let gate_port = gate.clone().listen(port);
                return S3 { process, port, gate, gate_port };
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = process.kill();
        panic!("moto does not answer within a minute");
    }

    /// Shuts the gate, or opens it again.
    pub fn shut(&self, shut: bool) {
        self.gate.shut.store(shut, Ordering::SeqCst);
        if shut {
            let open = std::mem::take(&mut *self.gate.open.lock().expect("nobody panics with it"));
            open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
    }

    /// The URL of something in the bucket.
    pub fn url(&self, key: &str) -> ObjectUrl {
        ObjectUrl::parse(&format!("s3://{BUCKET}/{key}")).expect("tests use good keys")
    }

    /// What is in the store, past the gate.
    pub fn objects(&self) -> Objects {
        Objects::new(self.settings())
    }

    /// How it is reached past the gate.
    pub fn settings(&self) -> S3Settings {
        S3Settings {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            access_key_id: Some(Secret::new(KEY_ID)),
            secret_access_key: Some(Secret::new(SECRET)),
            allow_http: true,
            ..S3Settings::default()
        }
    }

    /// Writes a project's settings: this store, through the gate, and more lines before it.
    pub fn configure(&self, project: &Path, more: &str) {
        let secrets = [("id", KEY_ID), ("secret", SECRET)].map(|(name, secret)| {
            let path = project.join(name);
            std::fs::write(&path, secret).expect("the project can be written");
            path.display().to_string()
        });
        let text = format!(
            "{more}\n[s3]\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\n\
             access_key_id = \"${{file:{}}}\"\nsecret_access_key = \"${{file:{}}}\"\n",
            self.gate_port, secrets[0], secrets[1]
        );
        std::fs::write(project.join("tidemill.toml"), text).expect("the project can be written");
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks for the bucket; None: nobody answers yet.
fn make_bucket(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request =
        format!("PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

impl Gate {
    /// Passes connections on to a port of this machine, until the test ends.
    fn listen(self: Arc<Self>, to: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if self.shut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                for (from, into) in [(&client, &server), (&server, &client)] {
                    let (Ok(mut from), Ok(mut into)) = (from.try_clone(), into.try_clone()) else { continue };
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Both);
                    });
                }
                self.open.lock().expect("nobody panics with it").extend([client, server]);
            }
        });
        port
    }
}
