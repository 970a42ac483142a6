//! Settings: one struct, from defaults, `tidemill.toml`, the environment (`TIDEMILL__SECTION__KEY`) and flags, in this order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidemill_features::time::parse_duration;

use crate::failure::Failure;
use crate::objects::ObjectUrl;

mod kafka;
mod redis;
mod registry;
mod s3;
mod values;

pub use self::kafka::KafkaSettings;
pub use self::redis::RedisSettings;
pub use self::registry::RegistrySettings;
pub use self::s3::{S3Settings, Secret};

/// How a server runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// where the log and the state live
    pub data_dir: PathBuf,
    /// gRPC and HTTP
    pub listen: SocketAddr,
    /// Prometheus metrics; None: nowhere
    pub metrics_listen: Option<SocketAddr>,
    /// gRPC reflection; by default on loopback only
    pub reflection: bool,
    /// allows an address that others can reach, without TLS or auth
    pub insecure: bool,
    /// share of all keys whose answers are kept for `verify`
    pub verify_share: f64,
    /// share of one core that recomputes kept answers in the background; 0: none
    pub verify_trickle: f64,
    /// bytes after which the event log starts a new segment
    pub segment_bytes: u64,
    /// how much of the event log is kept
    pub keeping: Keeping,
    /// where the sealed files of the event log are kept; None: on this machine alone
    pub archive: Option<ObjectUrl>,
    /// bytes of archived files that stay on this machine
    pub archive_cache_bytes: u64,
    /// object stores
    pub s3: S3Settings,
    /// what the process does
    pub role: Role,
    /// the shared store; None: the state lives in this process
    pub redis: Option<RedisSettings>,
    /// brokers of Kafka
    pub kafka: KafkaSettings,
    /// where each value came from, by key
    pub origins: BTreeMap<&'static str, (String, Origin)>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// everything
    #[default]
    All,
    /// takes events in, with others of its group
    Ingest,
    /// answers reads
    Serve,
}

/// How much of the event log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// microseconds since an event was taken in; None: for ever
    pub age: Option<i64>,
    /// bytes of the log on the disk; None: as many as there are
    pub bytes: Option<u64>,
    /// how far back training sets go, microseconds
    pub training_horizon: i64,
    /// whether to cut what views need
    pub force: bool,
}

impl Keeping {
    /// Whether anything ever goes.
    pub fn is_limited(&self) -> bool {
        self.age.is_some() || self.bytes.is_some()
    }
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// built in
    Default,
    /// tidemill.toml
    File(String),
    /// an environment variable
    Environment(String),
    /// the command line
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{path}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The file of a project that has them.
pub const FILE: &str = "tidemill.toml";

/// Known keys: name, default, what it is.
pub const KEYS: [(&str, &str, &str); 44] = [
    ("data_dir", "data", "where the event log and the state live, relative to the project"),
    ("listen", "127.0.0.1:6566", "address of gRPC and HTTP"),
    ("metrics_listen", "127.0.0.1:9566", "address of Prometheus metrics; empty: none"),
    ("reflection", "auto", "gRPC reflection: on, off, or auto (on at loopback)"),
    ("verify_share", "0.05", "share of all keys whose answers are kept to be recomputed by `tidemill verify`: 0 to 1"),
    (
        "verify_trickle",
        "0.05",
        "share of one core at which kept answers are recomputed in the background: 0 (off) to 1",
    ),
    ("insecure", "false", "allows a listen address that others can reach, without TLS and auth"),
    ("log.segment_mb", "64", "size in MiB after which the event log starts a new segment; full ones become Parquet"),
    (
        "log.keep",
        "",
        "how long after it was taken in an event stays in the event log, such as 400d; empty: for ever. What a view needs stays",
    ),
    ("log.keep_mb", "", "size in MiB above which the oldest events leave the event log; empty: none"),
    ("log.training_horizon", "", "how far back training sets go, such as 90d: retention leaves what their rows need"),
    ("log.force", "false", "whether retention also cuts what views need; values that may depend on it become ERROR"),
    ("log.archive", "", "where full segments are kept, such as s3://bucket/prefix; empty: in data_dir alone"),
    ("log.cache_mb", "10240", "size in MiB of archived files that stay in data_dir, those that were read last"),
    ("s3.endpoint", "", "URL of an object store that is not Amazon's"),
    ("s3.region", "", "region of the buckets; else AWS_REGION, or us-east-1"),
    ("s3.access_key_id", "", "as ${env:NAME} or ${file:PATH}; else AWS_ACCESS_KEY_ID"),
    ("s3.secret_access_key", "", "as ${env:NAME} or ${file:PATH}; else AWS_SECRET_ACCESS_KEY"),
    ("s3.allow_http", "false", "allows an endpoint without TLS"),
    ("role", "all", "what this process does: all, ingest or serve"),
    ("store", "embedded", "where the state lives: embedded, or redis, which several processes share"),
    ("redis.address", "127.0.0.1:6379", "host:port of Redis; of a cluster some of its nodes, with commas"),
    ("redis.cluster", "false", "whether it is a Redis Cluster"),
    ("redis.prefix", "tidemill", "begins the names of all keys"),
    ("redis.username", "", "user of an ACL"),
    ("redis.password", "", "as ${env:NAME} or ${file:PATH}"),
    ("redis.tls", "false", "whether the connection is encrypted"),
    ("redis.ca_file", "", "certificates that are trusted instead of the system's, as a PEM file"),
    ("redis.timeout", "2s", "how long an answer may take"),
    ("kafka.brokers", "", "addresses of Kafka brokers, such as kafka-1:9092,kafka-2:9092"),
    ("kafka.group", "tidemill", "consumer group in which lag tools see the positions"),
    ("kafka.client_id", "tidemill", "how this server is named to brokers"),
    ("kafka.security_protocol", "plaintext", "plaintext, ssl, sasl_plaintext or sasl_ssl"),
    ("kafka.sasl_mechanism", "", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    ("kafka.username", "", "as ${env:NAME} or ${file:PATH}"),
    ("kafka.password", "", "as ${env:NAME} or ${file:PATH}"),
    ("kafka.ca", "", "file of certificates that brokers are checked against; empty: those of the system"),
    ("kafka.certificate", "", "file of the client's certificate"),
    ("kafka.key", "", "file of the key of the client's certificate"),
    ("kafka.key_password", "", "of the key's file, as ${env:NAME} or ${file:PATH}"),
    ("kafka.properties", "", "properties of the client library, such as { \"fetch.min.bytes\" = \"1\" }"),
    (
        "kafka.registry",
        "",
        "URL of the schema registry that knows the schemas of messages; several of one: with commas",
    ),
    ("kafka.registry_user", "", "who asks the schema registry; empty: nobody in particular"),
    ("kafka.registry_password", "", "as ${env:NAME} or ${file:PATH}"),
];

/// Sections whose keys are known.
const OWN_SECTIONS: [&str; 4] = ["log", "s3", "redis", "kafka"];
/// Sizes of a segment: below, a file holds a handful of events; above, too much of the log is not sealed.
const SEGMENT_MB: std::ops::RangeInclusive<f64> = 0.001..=1024.0;
/// Sizes of the cache of archived files; one file stays whatever its size.
const CACHE_MB: std::ops::RangeInclusive<f64> = 0.0..=1e9;

/// A petabyte: no disk has more.
const KEEP_MB_MAX: f64 = (1u64 << 30) as f64;

/// Sections of later versions: accepted, without effect on an embedded server.
const SECTIONS: [&str; 2] = ["auth", "limits"];

/// Settings of a project folder. `flags` are the values given on the command line, by key.
pub fn load(project: &Path, flags: &[(&'static str, Option<String>)]) -> Result<Settings, Failure> {
    let mut values: BTreeMap<&'static str, (String, Origin)> =
        KEYS.iter().map(|(key, default, _)| (*key, (default.to_string(), Origin::Default))).collect();
    values::from_file(&project.join(FILE), &mut values)?;
    values::from_environment(&mut values)?;
    for (key, value) in flags {
        if let Some(value) = value {
            values.insert(key, (value.clone(), Origin::Flag(format!("--{}", key.replace('_', "-")))));
        }
    }
    let text = |key: &str| values.get(key).map_or(String::new(), |(value, _)| value.clone());
    let wrong = |key: &str, expected: &str| wrong_value(&values, key, expected);
    let address = "an address such as 127.0.0.1:6566";
    let listen: SocketAddr = text("listen").parse().map_err(|_| wrong("listen", address))?;
    let metrics_listen = match text("metrics_listen").as_str() {
        "" => None,
        other => Some(other.parse().map_err(|_| wrong("metrics_listen", address))?),
    };
    let insecure: bool = text("insecure").parse().map_err(|_| wrong("insecure", "true or false"))?;
    let share = |key: &str| {
        let share = text(key).parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
        share.ok_or_else(|| wrong(key, "a number from 0 to 1"))
    };
    let (verify_share, verify_trickle) = (share("verify_share")?, share("verify_trickle")?);
    let reflection = match text("reflection").as_str() {
        "auto" => listen.ip().is_loopback(),
        "on" | "true" => true,
        "off" | "false" => false,
        _ => return Err(wrong("reflection", "on, off or auto")),
    };
    for address in [Some(listen), metrics_listen].into_iter().flatten() {
        if !address.ip().is_loopback() && !insecure {
            let message = format!(
                "{address} can be reached from other machines, and neither TLS nor auth is set up; use a loopback address, or say --insecure"
            );
            return Err(Failure::invalid("E5003", message));
        }
    }
    let data_dir = project.join(text("data_dir"));
    let keeping = keeping(&text, &wrong)?;
    let (segment_bytes, archive, archive_cache_bytes) = log_section(&text, &wrong)?;
    let s3 = s3::section(&text).map_err(|(key, expected)| wrong(key, expected))?;
    let (role, redis) = role_and_store(&text, &wrong)?;
    let kafka = kafka::section(&text).map_err(|(key, expected)| wrong(key, &expected))?;
    values.iter_mut().filter(|(key, (value, _))| is_secret(key) && !value.is_empty()).for_each(|(_, (value, _))| {
        *value = s3::SHOWN.to_string();
    });
    Ok(Settings {
        data_dir,
        listen,
        metrics_listen,
        reflection,
        insecure,
        verify_share,
        verify_trickle,
        segment_bytes,
        keeping,
        archive,
        archive_cache_bytes,
        s3,
        role,
        redis,
        kafka,
        origins: values,
    })
}

/// What the process does, and where the state lives.
fn role_and_store(
    text: &dyn Fn(&str) -> String,
    wrong: &dyn Fn(&str, &str) -> Failure,
) -> Result<(Role, Option<RedisSettings>), Failure> {
    let role = match text("role").as_str() {
        "all" => Role::All,
        "ingest" => Role::Ingest,
        "serve" => Role::Serve,
        _ => return Err(wrong("role", "all, ingest or serve")),
    };
    let redis = match text("store").as_str() {
        "redis" => Some(redis::section(text).map_err(|(key, expected)| wrong(key, expected))?),
        "embedded" if role == Role::All => None,
        "embedded" => return Err(wrong("store", "redis, because roles share their state")),
        _ => return Err(wrong("store", "embedded or redis")),
    };
    Ok((role, redis))
}

/// How much of the event log is kept.
fn keeping(text: &dyn Fn(&str) -> String, wrong: &dyn Fn(&str, &str) -> Failure) -> Result<Keeping, Failure> {
    let duration = |key: &str| match text(key).as_str() {
        "" => Ok(None),
        given => {
            let parsed = parse_duration(given).ok().filter(|micros| *micros > 0);
            parsed.map(Some).ok_or_else(|| wrong(key, "a duration such as 400d (us, ms, s, m, h, d, w)"))
        }
    };
    let bytes = match text("log.keep_mb").as_str() {
        "" => None,
        given => {
            let size: Option<f64> = given.parse().ok().filter(|size| (0.0..=KEEP_MB_MAX).contains(size));
            let size = size.ok_or_else(|| wrong("log.keep_mb", "a number of MiB"))?;
            Some((size * f64::from(1 << 20)) as u64)
        }
    };
    Ok(Keeping {
        age: duration("log.keep")?,
        bytes,
        training_horizon: duration("log.training_horizon")?.unwrap_or(0),
        force: text("log.force").parse().map_err(|_| wrong("log.force", "true or false"))?,
    })
}

/// Whether the value of a key is never shown.
fn is_secret(key: &str) -> bool {
    s3::is_secret(key) || kafka::is_secret(key) || registry::is_secret(key)
}

/// A value that cannot be, without showing it where it is a secret.
fn wrong_value(values: &BTreeMap<&'static str, (String, Origin)>, key: &str, expected: &str) -> Failure {
    let (value, origin) = values.get(key).cloned().unwrap_or((String::new(), Origin::Default));
    // Before an `@` there may be a password: somebody has put a URL where an address belongs.
    let shown = if is_secret(key) || value.contains('@') { String::new() } else { format!(" = \"{value}\"") };
    Failure::invalid("E5002", format!("`{key}`{shown} (from {origin}): expected {expected}"))
}

/// Bytes of a segment, where segments are archived, and how much of that stays here.
fn log_section(
    text: &dyn Fn(&str) -> String,
    wrong: &dyn Fn(&str, &str) -> Failure,
) -> Result<(u64, Option<ObjectUrl>, u64), Failure> {
    let bytes = |key: &str, range: &std::ops::RangeInclusive<f64>| {
        let size: Option<f64> = text(key).parse().ok();
        let expected = format!("a number of MiB from {} to {}", range.start(), range.end());
        let size = size.filter(|size| range.contains(size)).ok_or_else(|| wrong(key, &expected))?;
        Ok::<u64, Failure>((size * f64::from(1 << 20)) as u64)
    };
    let archive = match text("log.archive").as_str() {
        "" => None,
        url => Some(ObjectUrl::parse(url).map_err(|error| wrong("log.archive", &format!("a URL ({error})")))?),
    };
    Ok((bytes("log.segment_mb", &SEGMENT_MB)?, archive, bytes("log.cache_mb", &CACHE_MB)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ARCHIVE_CACHE_BYTES;

    /// Secrets come by reference, and nothing that is printed has them.
    #[test]
    fn secrets_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "canary-of-a-secret\n").unwrap();
        let text = |key: &str| {
            format!(
                "[log]\narchive = \"s3://lake/log\"\n[s3]\nendpoint = \"https://s3.example.com\"\n\
                access_key_id = \"${{file:{0}}}\"\n{key} = \"${{file:{0}}}\"\n",
                file.display()
            )
        };
        let settings = load_text(&text("secret_access_key")).unwrap();
        assert_eq!(settings.s3.secret_access_key.as_ref().unwrap().reveal(), "canary-of-a-secret");
        assert_eq!(settings.archive, Some(ObjectUrl::S3 { bucket: "lake".into(), key: "log".into() }));
        assert_eq!(settings.archive_cache_bytes, ARCHIVE_CACHE_BYTES);
        assert!(!format!("{settings:?}").contains("canary"), "{settings:?}");
        let kafka = "[kafka]\nregistry = 'http://a:1/x, https://b'\nregistry_user = 'u'\nregistry_password = ";
        let settings = load_text(&format!("{kafka}\"${{file:{}}}\"\n", file.display())).unwrap();
        assert_eq!(settings.kafka.registry.urls, ["http://a:1/x", "https://b"]);
        assert_eq!(settings.kafka.registry.password.as_ref().unwrap().reveal(), "canary-of-a-secret");
        assert!(!format!("{settings:?}").contains("canary"), "{settings:?}");
        let plain = load_text(&format!("{kafka}'canary'\n")).unwrap_err();
        assert!(plain.code == "E5030" && !plain.message.contains("canary"), "{plain}");
        for (wrong, key) in [("registry = 'a:1'", "registry"), ("registry = 'http://u:p@a'", "registry")] {
            let error = load_text(&format!("[kafka]\n{wrong}\n")).unwrap_err();
            assert!(error.code == "E5002" && error.message.contains(key), "{error}");
        }
        // A URL is refused before its password is shown as an address.
        for url in
            ["redis://user:canary@host:6379", "user:canary@host:6379", "redis://user:canary@host", "rediss://host:6379"]
        {
            let error = load_text(&format!("store = 'redis'\n[redis]\naddress = '{url}'\n")).unwrap_err();
            assert!(error.code == "E5002" && error.message.contains("redis.address"), "{error}");
            assert!(!error.message.contains("canary"), "{error}");
        }
        let half = load_text(&text("region")).unwrap_err();
        assert!(half.code == "E5002" && half.message.contains("s3.secret_access_key"), "{half}");
        let plain = load_text("[s3]\naccess_key_id = \"canary-of-a-secret\"").unwrap_err();
        assert!(plain.code == "E5030" && !plain.message.contains("canary"), "{plain}");
    }

    fn load_text(text: &str) -> Result<Settings, Failure> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidemill.toml"), text).unwrap();
        load(folder.path(), &[])
    }

    #[test]
    fn files_flags_and_mistakes() {
        assert_eq!(load_text("listen = \"127.0.0.1:1\"").unwrap().listen.port(), 1);
        let error = load_text("lisen = \"127.0.0.1:1\"").unwrap_err();
        assert_eq!((error.code, error.near), ("E5004", vec!["listen".to_string()]));
        assert_eq!(load_text("listen = \"here\"").unwrap_err().code, "E5002");
        assert_eq!(load_text("listen = \"0.0.0.0:6566\"").unwrap_err().code, "E5003");
        assert!(load_text("listen = \"0.0.0.0:6566\"\ninsecure = true").is_ok());
        assert_eq!(load_text("verify_trickle = 1.5").unwrap_err().code, "E5002");
        assert_eq!(load_text("data_dir = \"${env:TIDEMILL_NO_SUCH}\"").unwrap_err().code, "E5005");
        let kept = load_text("[log]\nkeep = \"400d\"\nkeep_mb = 1.5\nforce = true").unwrap().keeping;
        let age = Some(400 * tidemill_features::time::DAY);
        assert_eq!(kept, Keeping { age, bytes: Some(3 << 19), training_horizon: 0, force: true });
        assert!(!load_text("").unwrap().keeping.is_limited());
        for wrong in ["keep = \"2 months\"", "keep = \"0s\"", "keep_mb = -1", "training_horizon = 7", "force = 1"] {
            assert_eq!(load_text(&format!("[log]\n{wrong}")).unwrap_err().code, "E5002", "{wrong}");
        }
        assert_eq!(load_text("[log]\ncache_mb = -1").unwrap_err().code, "E5002");
        let error = load_text("[log]\narchive = \"gs://lake/log\"").unwrap_err();
        assert!(error.code == "E5002" && error.message.contains("gs://"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let settings = load(folder.path(), &[("listen", Some("127.0.0.1:7".into()))]).unwrap();
        assert_eq!(settings.origins["listen"].1, Origin::Flag("--listen".into()));
    }
}
