//! Objects in a bucket: the one file that names the engine.
//!
//! Its futures run on two threads of their own, and whoever asks waits. Requests are tried a few times, with pauses that
//! grow; one request carries one part of an object, so that each fits its time whatever the size of the whole.

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload, RetryConfig, UpdateVersion,
};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;

use super::{Expected, Mark, Object, ObjectError, ObjectUrl};
use crate::limits::{
    OBJECT_CONNECT_TIMEOUT, OBJECT_PART_BYTES, OBJECT_PAUSE_MAX, OBJECT_REQUEST_TIMEOUT, OBJECT_RETRIES,
    OBJECT_RETRY_TIME, OBJECTS_LISTED_MAX,
};
use crate::settings::S3Settings;

/// A bucket with the credentials for it.
pub(super) struct Bucket {
    name: String,
    store: Arc<AmazonS3>,
    /// never part of a message
    secrets: Vec<String>,
    /// what to say where the store asks who is there
    hint: &'static str,
}

/// Where requests run: made when the first bucket is opened, and there until the process ends.
static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("objects").enable_all().build()
});

/// Variables that say who asks; without all of them the machine itself may (an instance's role).
const CREDENTIALS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

impl Bucket {
    /// Connects nothing yet.
    pub(super) fn open(name: &str, settings: &S3Settings) -> Result<Bucket, ObjectError> {
        let wrong = |what: String| ObjectError::Invalid(format!("s3://{name}: {what}"));
        // Another one that was installed before serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: OBJECT_PAUSE_MAX, ..BackoffConfig::default() },
            max_retries: OBJECT_RETRIES,
            retry_timeout: OBJECT_RETRY_TIME,
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        let endpoint = settings.endpoint.clone().or_else(|| endpoints.iter().find_map(|name| variable(name)));
        let open = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let allow_http = settings.allow_http || variable("AWS_ALLOW_HTTP").is_some_and(|flag| flag == "true");
        let options = ClientOptions::new()
            .with_connect_timeout(OBJECT_CONNECT_TIMEOUT)
            .with_timeout(OBJECT_REQUEST_TIMEOUT)
            .with_allow_http(allow_http)
            // Where TLS is not spoken, a machine without root certificates will do.
            .with_no_system_certificates(open);
        let mut builder =
            AmazonS3Builder::from_env().with_bucket_name(name).with_retry(retry).with_client_options(options);
        if let Some(endpoint) = endpoint {
            if open && !allow_http {
                let what =
                    format!("the endpoint {endpoint} is not encrypted; if that is meant, set s3.allow_http = true");
                return Err(wrong(what));
            }
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        let mut secrets = Vec::new();
        if let (Some(id), Some(secret)) = (&settings.access_key_id, &settings.secret_access_key) {
            secrets.extend([id.reveal().to_string(), secret.reveal().to_string()]);
            builder = builder.with_access_key_id(id.reveal()).with_secret_access_key(secret.reveal());
        }
        let known = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        secrets.extend(known.iter().filter_map(|name| variable(name)));
        let somebody =
            settings.access_key_id.is_some() || CREDENTIALS.iter().any(|name| std::env::var_os(name).is_some());
        let hint = if somebody {
            "see [s3] in tidemill.toml, or the AWS_* variables"
        } else {
            "no credentials are set: neither [s3] in tidemill.toml nor AWS_ACCESS_KEY_ID"
        };
        let store =
            builder.build().map_err(|error| wrong(format!("no client can be made for it: {}", chain(&error))))?;
        Ok(Bucket { name: name.to_string(), store: Arc::new(store), secrets, hint })
    }

    /// Runs a request on the threads for it, and waits.
    fn wait<T: Send + 'static>(
        &self,
        (tried, key): (&'static str, &str),
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let unavailable = |reason: String| ObjectError::Unavailable { url: self.url(key), tried, reason };
        let runtime = RUNTIME.as_ref().map_err(|error| unavailable(error.to_string()))?;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let _ = tell.send(request.await);
        });
        let answer = told.recv().map_err(|_| unavailable("the request was given up".to_string()))?;
        answer.map_err(|error| self.failed((tried, key), &error))
    }

    fn url(&self, key: &str) -> ObjectUrl {
        ObjectUrl::S3 { bucket: self.name.clone(), key: key.to_string() }
    }

    fn key(&self, key: &str) -> Result<Key, ObjectError> {
        Key::parse(key).map_err(|error| ObjectError::Invalid(format!("{}: {error}", self.url(key))))
    }

    /// Objects below a prefix, in no order; once there are `most` of them, no more are asked for.
    pub(super) fn below(&self, prefix: &str, most: usize) -> Result<Vec<Object>, ObjectError> {
        let store = self.store.clone();
        let folder = if prefix.is_empty() { None } else { Some(self.key(prefix)?) };
        let list = async move {
            let mut found: Vec<ObjectMeta> = Vec::new();
            let mut pages = store.list(folder.as_ref());
            while found.len() < most.min(OBJECTS_LISTED_MAX + 1)
                && let Some(next) = pages.next().await
            {
                found.push(next?);
            }
            Ok(found)
        };
        let found = self.wait(("listed", prefix), list)?;
        if found.len() > OBJECTS_LISTED_MAX {
            let what = format!("{}: there are more than {OBJECTS_LISTED_MAX} objects", self.url(prefix));
            return Err(ObjectError::Invalid(what));
        }
        let object = |meta: ObjectMeta| Object { url: self.url(meta.location.as_ref()), bytes: meta.size };
        Ok(found.into_iter().map(object).collect())
    }

    pub(super) fn head(&self, key: &str) -> Result<Option<(u64, Option<Mark>)>, ObjectError> {
        let (store, path) = (self.store.clone(), self.key(key)?);
        match self.wait(("read", key), async move { store.head(&path).await }) {
            Ok(meta) => Ok(Some((meta.size, meta.e_tag.map(Mark)))),
            Err(ObjectError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches an object of a known length, part by part.
    pub(super) fn copy(
        &self,
        key: &str,
        bytes: u64,
        mark: Option<&Mark>,
        to: &mut dyn Write,
    ) -> Result<(), ObjectError> {
        let mut from = 0;
        while from < bytes {
            let until = bytes.min(from + OBJECT_PART_BYTES as u64);
            let (store, path) = (self.store.clone(), self.key(key)?);
            let if_match = mark.map(|mark| mark.0.clone());
            let options = GetOptions { range: Some((from..until).into()), if_match, ..GetOptions::default() };
            let part = self.wait(("read", key), async move { store.get_opts(&path, options).await?.bytes().await });
            let changed = |reason: String| ObjectError::Changed { url: self.url(key), reason };
            let part = part.map_err(|error| match error {
                ObjectError::Taken { .. } => changed("it was replaced while it was read".to_string()),
                other => other,
            })?;
            if part.len() as u64 != until - from {
                return Err(changed(format!("{} bytes came of {}", part.len(), until - from)));
            }
            to.write_all(&part).map_err(|error| ObjectError::Disk { path: "a fetched object".to_string(), error })?;
            from = until;
        }
        Ok(())
    }

    /// Puts a file there; a long one in parts, of which nothing is seen before the last one is there.
    pub(super) fn put(&self, file: &Path, key: &str) -> Result<(), ObjectError> {
        let disk = |error| ObjectError::disk(file, error);
        let mut source = File::open(file).map_err(disk)?;
        let length = source.metadata().map_err(disk)?.len();
        let (store, path) = (self.store.clone(), self.key(key)?);
        if length <= OBJECT_PART_BYTES as u64 {
            let part = next_part(&mut source).map_err(disk)?;
            return self.wait(("written", key), async move { store.put(&path, part.into()).await }).map(drop);
        }
        let mut upload = self.wait(("written", key), async move { store.put_multipart(&path).await })?;
        match self.put_parts(key, &mut source, upload.as_mut(), length) {
            Ok(()) => self.wait(("written", key), async move { upload.complete().await }).map(drop),
            Err(error) => {
                // Parts that stay cost storage; if this fails too, a rule of the bucket has to remove them.
                let _ = self.wait(("written", key), async move { upload.abort().await });
                Err(error)
            }
        }
    }

    fn put_parts(
        &self,
        key: &str,
        source: &mut File,
        upload: &mut dyn MultipartUpload,
        length: u64,
    ) -> Result<(), ObjectError> {
        let mut put = 0;
        loop {
            let part =
                next_part(source).map_err(|error| ObjectError::Disk { path: self.url(key).to_string(), error })?;
            if part.is_empty() && put == length {
                return Ok(());
            }
            put += part.len() as u64;
            if part.is_empty() || put > length {
                let reason = "the file changed while it was put there".to_string();
                return Err(ObjectError::Changed { url: self.url(key), reason });
            }
            self.wait(("written", key), upload.put_part(part.into()))?;
        }
    }

    pub(super) fn write(&self, bytes: Vec<u8>, key: &str, expected: &Expected) -> Result<Option<Mark>, ObjectError> {
        let mode = match expected {
            Expected::Anything => PutMode::Overwrite,
            Expected::Nothing => PutMode::Create,
            Expected::Marked(mark) => PutMode::Update(UpdateVersion { e_tag: Some(mark.0.clone()), version: None }),
        };
        let (store, path) = (self.store.clone(), self.key(key)?);
        let payload = PutPayload::from(bytes);
        let write = async move {
            match store.put_opts(&path, payload.clone(), mode.clone().into()).await {
                // Some stores know no conditions: there, whoever comes last wins.
                Err(error) if mode != PutMode::Overwrite && knows_no_conditions(&error) => {
                    store.put_opts(&path, payload, PutMode::Overwrite.into()).await
                }
                other => other,
            }
        };
        Ok(self.wait(("written", key), write)?.e_tag.map(Mark))
    }

    pub(super) fn remove(&self, key: &str) -> Result<(), ObjectError> {
        let (store, path) = (self.store.clone(), self.key(key)?);
        match self.wait(("removed", key), async move { store.delete(&path).await }) {
            Err(ObjectError::Missing { .. }) => Ok(()),
            other => other,
        }
    }

    /// The engine's error in our words.
    fn failed(&self, (tried, key): (&'static str, &str), error: &Error) -> ObjectError {
        let url = self.url(key);
        let text = chain(error);
        let mut reason = readable(&text);
        // What is shorter is no secret of anybody, and may be a part of any word.
        for secret in self.secrets.iter().filter(|secret| secret.len() >= 8) {
            reason = reason.replace(secret, "…");
        }
        let refused = |reason| ObjectError::Refused { url: url.clone(), tried, reason };
        if text.contains("NoSuchBucket") {
            return refused(format!("there is no bucket `{}`", self.name));
        }
        match error {
            Error::NotFound { .. } => ObjectError::Missing { url },
            Error::AlreadyExists { .. } | Error::Precondition { .. } => ObjectError::Taken { url },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                refused(format!("{reason}; {}", self.hint))
            }
            _ if text.contains("status code: 401") || text.contains("status code: 403") => {
                refused(format!("{reason}; {}", self.hint))
            }
            // Whatever is wrong with the request stays wrong.
            _ if text.contains("status code: 4") || text.contains("incorrectly configured region") => refused(reason),
            _ if self.hint.starts_with("no") => {
                ObjectError::Unavailable { url, tried, reason: format!("{reason}; {}", self.hint) }
            }
            _ => ObjectError::Unavailable { url, tried, reason },
        }
    }
}

/// The next bytes of a file, as many as make a part.
fn next_part(source: &mut File) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::new();
    source.take(OBJECT_PART_BYTES as u64).read_to_end(&mut part)?;
    Ok(part)
}

fn knows_no_conditions(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. }) || error.to_string().contains("501 Not Implemented")
}

/// An error and its causes, each once.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

/// The message of a store comes as a document; its code and its sentence are what a reader wants.
fn readable(text: &str) -> String {
    let inside = |tag: &str| {
        let start = text.find(&format!("<{tag}>"))? + tag.len() + 2;
        Some(&text[start..start + text[start..].find('<')?])
    };
    let ends = text.find("<?xml").or_else(|| text.find("<Error")).unwrap_or(text.len());
    let begins = text[..ends].rfind("Error performing").unwrap_or(0);
    let said = text[begins..ends].trim().trim_end_matches([':', '-', ' ']);
    match (inside("Code"), inside("Message")) {
        (Some(code), Some(message)) => format!("{said}: {code}: {message}"),
        (Some(code), None) => format!("{said}: {code}"),
        _ => said.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    #[test]
    fn messages_are_what_a_reader_wants() {
        let document = "Object at location a not found: Error performing GET http://h/b/a in 1ms - Server returned non-2xx status \
            code: 404 Not Found: <?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>It is not there.</Message>\
            <AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>: Error performing GET http://h/b/a";
        let expected = "Error performing GET http://h/b/a in 1ms - Server returned non-2xx status code: 404 Not Found: \
            NoSuchKey: It is not there.";
        assert_eq!(readable(document), expected);
        assert_eq!(readable("connection refused"), "connection refused");
    }

    /// A store that nobody can reach: the message names the object and what was tried, and no secret.
    #[test]
    fn a_store_that_is_not_there_is_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = S3Settings {
            endpoint: Some(format!("http://127.0.0.1:{port}")),
            access_key_id: Some(Secret::new("AKIACANARY")),
            secret_access_key: Some(Secret::new("canary-of-a-secret")),
            allow_http: true,
            ..S3Settings::default()
        };
        let bucket = Bucket::open("lake", &settings).unwrap();
        let error = bucket.head("a/b.parquet").unwrap_err();
        let said = format!("{error} {error:?} {settings:?}");
        assert!(matches!(error, ObjectError::Unavailable { .. }), "{said}");
        assert!(said.contains("s3://lake/a/b.parquet cannot be read") && said.contains("retries"), "{said}");
        assert!(!said.contains("canary-of-a-secret") && !said.contains("AKIACANARY"), "{said}");
        let open = S3Settings { allow_http: false, ..settings.clone() };
        let error = Bucket::open("lake", &open).err().unwrap().to_string();
        assert!(error.contains("s3.allow_http"), "{error}");
        // With TLS it is the same, or the machine has no root certificates; then that is said.
        let settings = S3Settings { endpoint: Some(format!("https://127.0.0.1:{port}")), ..settings };
        let said = match Bucket::open("lake", &settings) {
            Ok(bucket) => bucket.head("x").unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains("s3://lake/x cannot be read") || said.contains("certificate"), "{said}");
    }
}
