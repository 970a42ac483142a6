//! Settings of object stores: `[s3]` in tidemill.toml, and secrets that no message, log or listing shows.

use std::fmt;

/// How objects in S3 are reached. What is not set here comes from the usual AWS_* variables.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// of a store that is not Amazon's
    pub endpoint: Option<String>,
    /// Amazon's region
    pub region: Option<String>,
    /// who asks
    pub access_key_id: Option<Secret>,
    /// and proves it
    pub secret_access_key: Option<Secret>,
    /// allows an endpoint without TLS
    pub allow_http: bool,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one who has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a listing of settings has in the place of a secret.
pub(super) const SHOWN: &str = "(set)";

/// Keys whose values are secrets.
pub(super) fn is_secret(key: &str) -> bool {
    ["s3.access_key_id", "s3.secret_access_key", "redis.password"].contains(&key)
}

/// Reads the section by its keys. Err: the key that is wrong, and what was expected.
pub(super) fn section(text: &dyn Fn(&str) -> String) -> Result<S3Settings, (&'static str, &'static str)> {
    let given = |key: &str| Some(text(key)).filter(|value| !value.is_empty());
    let endpoint = given("s3.endpoint");
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if endpoint.as_ref().is_some_and(|endpoint| !is_url(endpoint) || endpoint.contains('@')) {
        return Err(("s3.endpoint", "a URL such as https://s3.example.com:9000, without credentials"));
    }
    let (id, secret) = (given("s3.access_key_id"), given("s3.secret_access_key"));
    if id.is_some() != secret.is_some() {
        let missing = if id.is_some() { "s3.secret_access_key" } else { "s3.access_key_id" };
        return Err((missing, "a value, because its other half is set"));
    }
    Ok(S3Settings {
        endpoint,
        region: given("s3.region"),
        access_key_id: id.map(Secret),
        secret_access_key: secret.map(Secret),
        allow_http: text("s3.allow_http").parse().map_err(|_| ("s3.allow_http", "true or false"))?,
    })
}
