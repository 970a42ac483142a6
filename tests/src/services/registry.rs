//! A real schema registry (Apicurio Registry), by the HTTP API that Confluent's has. Schemas outlive a kill: they are in a file.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::{Place, Server, installed, lasting_port};

const API: &str = "/apis/ccompat/v7";

/// A running registry; killed when dropped.
pub struct Registry {
    server: Mutex<Server>,
    port: u16,
    /// last: the server ends before its folder goes
    _place: Place,
}

impl Registry {
    /// Starts one and waits until it answers, some 3 s.
    pub fn start() -> Registry {
        let (java, jar, place, port) = (installed("java"), installed("registry"), Place::new(), lasting_port(0));
        let mut arguments: Vec<String> =
            ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar"].map(String::from).into();
        arguments.push(jar.display().to_string());
        // What is committed is in the file, and not up to a second later.
        let file = format!("jdbc:h2:file:{};WRITE_DELAY=0", place.path().join("schemas").display());
        let server = Server::new(&place, "registry", &java, arguments)
            .variable("QUARKUS_HTTP_HOST", "127.0.0.1")
            .variable("QUARKUS_HTTP_PORT", &port.to_string())
            .variable("REGISTRY_DATASOURCE_URL", &file);
        let registry = Registry { server: Mutex::new(server), port, _place: place };
        registry.restart();
        registry
    }

    /// What clients call the registry's URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// Registers a schema under a subject; its id. `kind` is AVRO, PROTOBUF or JSON.
    pub fn register(&self, subject: &str, schema: &str, kind: &str) -> u32 {
        self.register_with(subject, schema, kind, &json!([]))
    }

    /// The same for one that imports others: `[{"name": …, "subject": …, "version": …}]`.
    pub fn register_with(&self, subject: &str, schema: &str, kind: &str, references: &Value) -> u32 {
        let body = json!({ "schema": schema, "schemaType": kind, "references": references });
        let (status, answer) = self.ask("POST", &format!("/subjects/{subject}/versions"), &body.to_string());
        let id = answer["id"].as_u64().filter(|_| status == 200);
        let id = id.unwrap_or_else(|| panic!("the registry does not take {subject}: {status} {answer}"));
        u32::try_from(id).expect("ids are small")
    }

    /// Says which changes of a subject are let through: NONE, BACKWARD, …
    pub fn set_compatibility(&self, subject: &str, level: &str) {
        let body = json!({ "compatibility": level });
        let (status, answer) = self.ask("PUT", &format!("/config/{subject}"), &body.to_string());
        assert_eq!(status, 200, "{subject}: {answer}");
    }

    /// A call of its API: the status and the answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.try_ask(method, path, body).expect("the registry answers")
    }

    /// kill -9.
    pub fn kill(&self) {
        self.server().kill();
    }

    /// Starts it after a kill, on the same port with the same schemas, and waits until it answers.
    pub fn restart(&self) {
        let mut server = self.server();
        server.start();
        server.wait_until(|_| self.try_ask("GET", "/subjects", "").is_some_and(|(status, _)| status == 200));
    }

    /// SIGSTOP: connections stay, and nobody answers.
    pub fn pause(&self) {
        self.server().pause();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server().resume();
    }

    /// None: nobody answers. HTTP/1.0, so that an answer comes in one piece.
    fn try_ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request = format!(
            "{method} {API}{path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
