//! Settings of a shared store: `[redis]` in tidemill.toml.

use std::path::PathBuf;
use std::time::Duration;

use tidemill_features::time::parse_duration;

use super::Secret;

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// host:port; of a cluster some of its nodes
    pub addresses: Vec<String>,
    /// whether it is a Redis Cluster
    pub cluster: bool,
    /// begins the names of all keys: one Redis may serve several projects
    pub prefix: String,
    /// user of an ACL
    pub username: Option<String>,
    /// and its password
    pub password: Option<Secret>,
    /// whether the connection is encrypted
    pub tls: bool,
    /// certificates that are trusted instead of the system's
    pub ca_file: Option<PathBuf>,
    /// how long an answer may take
    pub timeout: Duration,
}

type Wrong = (&'static str, &'static str);

/// Reads the section by its keys. Err: the key that is wrong, and what was expected.
pub(super) fn section(text: &dyn Fn(&str) -> String) -> Result<RedisSettings, Wrong> {
    let given = |key: &str| Some(text(key)).filter(|value| !value.is_empty());
    let flag = |key: &'static str| text(key).parse::<bool>().map_err(|_| (key, "true or false"));
    let addresses: Vec<String> = text("redis.address").split(',').map(|address| address.trim().to_string()).collect();
    // A URL is none: what stands before its `@` is a secret, and addresses are shown.
    let is_host = |host: &str| !host.is_empty() && !host.contains(['@', '/']) && !host.contains(char::is_whitespace);
    let is_address = |address: &String| {
        address.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
    };
    if !addresses.iter().all(is_address) {
        return Err((
            "redis.address",
            "host:port, or several with commas between them; no URL, since user and password have keys of their own",
        ));
    }
    let cluster = flag("redis.cluster")?;
    if !cluster && addresses.len() > 1 {
        return Err(("redis.address", "one address; several are for `cluster = true`"));
    }
    let prefix = text("redis.prefix");
    let is_plain = |prefix: &str| prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if prefix.is_empty() || prefix.len() > 64 || !is_plain(&prefix) {
        return Err(("redis.prefix", "1 to 64 letters, digits, `_`, `-` and `.`"));
    }
    let timeout = parse_duration(&text("redis.timeout")).ok().filter(|timeout| (1_000..=60_000_000).contains(timeout));
    let timeout = timeout.ok_or(("redis.timeout", "a duration from 1ms to 1m"))?;
    let tls = flag("redis.tls")?;
    let ca_file = given("redis.ca_file").map(PathBuf::from);
    if ca_file.is_some() && !tls {
        return Err(("redis.ca_file", "nothing, because `tls` is false"));
    }
    Ok(RedisSettings {
        addresses,
        cluster,
        prefix,
        username: given("redis.username"),
        password: given("redis.password").map(Secret::new),
        tls,
        ca_file,
        timeout: Duration::from_micros(timeout as u64),
    })
}
