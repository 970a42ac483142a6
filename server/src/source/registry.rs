//! The schema registry: schemas by their number, over the HTTP interface that Confluent's registry has and others speak too.
//!
//! What it answers falls into three kinds, and the difference is whether messages are lost: a number that nobody has given out
//! and a schema that is of no use make dead letters; anything else (no answer, a refusal, a stranger at that address) is a
//! registry that is away, and whoever asked waits.

use std::collections::HashSet;
use std::time::Duration;

use rand::Rng;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use crate::failure::Failure;
use crate::limits::{
    REGISTRY_CONNECT_TIMEOUT, REGISTRY_PAUSE_MAX, REGISTRY_REFERENCES_MAX, REGISTRY_REQUEST_TIMEOUT, REGISTRY_TRIES,
    SCHEMA_BYTES_MAX,
};
use crate::settings::RegistrySettings;

/// A registry, at one address or several.
pub struct SchemaRegistry {
    urls: Vec<Url>,
    client: Client,
    settings: RegistrySettings,
}

/// A schema with all that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// AVRO, PROTOBUF or JSON
    pub kind: String,
    /// as it was registered
    pub text: String,
    /// names by which it refers to others, directly or not, and their texts
    pub references: Vec<(String, String)>,
}

/// Why there is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// the registry has none of that number
    #[error("{0}")]
    Unknown(String),
    /// it has one, which cannot be used
    #[error("{0}")]
    Unusable(String),
    /// it cannot be asked now
    #[error("{0}")]
    Away(String),
}

/// What a registry says of a schema.
#[derive(Deserialize)]
struct Answer {
    schema: String,
    /// missing: Avro, which was there first
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Clone, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: i64,
    message: Option<String>,
}

/// How one request to one address went.
enum Tried {
    Found(Answer),
    /// the registry itself says that there is no such thing
    Missing(String),
    Unusable(String),
    /// the next address or time may do
    Failed(String),
}

impl SchemaRegistry {
    /// Connects nothing yet.
    pub fn open(settings: RegistrySettings) -> Result<SchemaRegistry, Failure> {
        let wrong = |message: String| Failure::invalid("E5072", message);
        let url = |text: &String| {
            let url =
                Url::parse(text.trim_end_matches('/')).map_err(|error| wrong(format!("registry {text}: {error}")))?;
            if url.cannot_be_a_base() {
                return Err(wrong(format!("registry {text}: not the URL of a server")));
            }
            Ok(url)
        };
        let urls = settings.urls.iter().map(url).collect::<Result<Vec<Url>, Failure>>()?;
        // Another one that was installed before serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(REGISTRY_CONNECT_TIMEOUT)
            .timeout(REGISTRY_REQUEST_TIMEOUT)
            .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")));
        if urls.iter().all(|url| url.scheme() == "http") {
            // Where TLS is not spoken, a machine without root certificates will do.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| wrong(format!("no client for the schema registry: {error}")))?;
        Ok(SchemaRegistry { urls, client, settings })
    }

    /// The schema of a number, with everything that it refers to. `is_patient`: that it is not known is believed only when it
    /// was said again and again, since copies of a registry are a little behind.
    pub async fn schema(&self, id: u32, is_patient: bool) -> Result<RegisteredSchema, RegistryError> {
        let answer = self.ask(&["schemas", "ids", &id.to_string()], &format!("schema {id}"), is_patient).await?;
        let mut references: Vec<(String, String)> = Vec::new();
        let mut seen = HashSet::new();
        let mut bytes = answer.schema.len();
        let mut to_fetch = answer.references;
        while let Some(reference) = to_fetch.pop() {
            if !seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            let version = reference.version.to_string();
            let what = format!("version {version} of `{}`, to which schema {id} refers", reference.subject);
            let path = ["subjects", &reference.subject, "versions", &version];
            let found = self.ask(&path, &what, true).await?;
            bytes += found.schema.len();
            if seen.len() > REGISTRY_REFERENCES_MAX || bytes > SCHEMA_BYTES_MAX {
                let most = format!("{REGISTRY_REFERENCES_MAX} others or {SCHEMA_BYTES_MAX} bytes");
                return Err(RegistryError::Unusable(format!("with what it refers to it has more than {most}")));
            }
            references.push((reference.name, found.schema));
            to_fetch.extend(found.references);
        }
        let kind = answer.kind.unwrap_or_else(|| "AVRO".to_string());
        Ok(RegisteredSchema { kind, text: answer.schema, references })
    }

    /// Asks each address, a few times over, until one gives an answer. What one of them does not know another may.
    async fn ask(&self, path: &[&str], what: &str, is_patient: bool) -> Result<Answer, RegistryError> {
        let mut pause = Duration::from_millis(100);
        let (mut failures, mut missing): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for round in 0..REGISTRY_TRIES {
            if round > 0 {
                let share = rand::rng().random_range(0.5..1.0);
                tokio::time::sleep(pause.mul_f64(share)).await;
                pause = (pause * 2).min(REGISTRY_PAUSE_MAX);
            }
            failures.clear();
            missing.clear();
            for base in &self.urls {
                let mut url = base.clone();
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.pop_if_empty().extend(path);
                }
                match self.request(url.clone()).await {
                    Tried::Found(answer) => return Ok(answer),
                    Tried::Unusable(reason) => return Err(RegistryError::Unusable(reason)),
                    Tried::Missing(said) => missing.push(format!("{url}: {said}")),
                    Tried::Failed(reason) => failures.push(format!("{url}: {reason}")),
                }
            }
            if failures.is_empty() && !is_patient {
                break;
            }
        }
        if failures.is_empty() {
            let said = missing.join("; ");
            return Err(RegistryError::Unknown(format!("the schema registry does not know {what} ({said})")));
        }
        let tried = format!("tried {REGISTRY_TRIES} times");
        let reasons = failures.join("; ");
        Err(RegistryError::Away(format!("the schema registry does not give {what}, {tried}: {reasons}")))
    }

    async fn request(&self, url: Url) -> Tried {
        let mut request = self.client.get(url).header("Accept", "application/vnd.schemaregistry.v1+json");
        if let Some(user) = &self.settings.user {
            request = request.basic_auth(user, self.settings.password.as_ref().map(|password| password.reveal()));
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Tried::Failed(chain(&error)),
        };
        let status = response.status();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > SCHEMA_BYTES_MAX => {
                    let reason = format!("the answer has more than {SCHEMA_BYTES_MAX} bytes");
                    return if status.is_success() { Tried::Unusable(reason) } else { Tried::Failed(reason) };
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Tried::Failed(chain(&error)),
            }
        }
        judge(status, &body)
    }
}

fn judge(status: StatusCode, body: &[u8]) -> Tried {
    if status.is_success() {
        return match serde_json::from_slice(body) {
            Ok(answer) => Tried::Found(answer),
            Err(_) => Tried::Failed("the answer is not that of a schema registry".to_string()),
        };
    }
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    let said = refusal.as_ref().and_then(|refusal| refusal.message.clone()).unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    match (status, refusal) {
        // A registry's own codes begin with the status: 40403 is a schema that it does not have. A bare 404 comes from some other
        // server, or from a wrong path, and would turn good messages into dead letters.
        (StatusCode::NOT_FOUND, Some(refusal)) if refusal.error_code.to_string().starts_with("404") => {
            Tried::Missing(said)
        }
        (StatusCode::NOT_FOUND, _) => {
            Tried::Failed("404, and not in the words of a schema registry: is the address right?".to_string())
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            Tried::Failed(format!("{status}: see registry_user and registry_password in [kafka] of tidemill.toml"))
        }
        _ if said.is_empty() => Tried::Failed(status.to_string()),
        _ => Tried::Failed(format!("{status}: {said}")),
    }
}

/// An error with what has caused it; the address is told once, by whoever asked.
fn chain(error: &reqwest::Error) -> String {
    let mut shown = if error.is_timeout() { "no answer in time".to_string() } else { "the request failed".to_string() };
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        shown = format!("{shown}: {next}");
        cause = next.source();
    }
    shown
}
