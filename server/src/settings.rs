//! Settings: one struct, from defaults, `tidemill.toml`, the environment (`TIDEMILL__SECTION__KEY`) and flags, in this order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidemill_features::problem::nearest;
use toml::{Table, Value};

use crate::failure::Failure;

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
    /// where each value came from, by key
    pub origins: BTreeMap<&'static str, (String, Origin)>,
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

/// Known keys: name, default, what it is.
pub const KEYS: [(&str, &str, &str); 8] = [
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
];

/// Sections whose keys are known.
const OWN_SECTIONS: [&str; 1] = ["log"];
/// Sizes of a segment: below, a file holds a handful of events; above, too much of the log is not sealed.
const SEGMENT_MB: std::ops::RangeInclusive<f64> = 0.001..=1024.0;

/// Sections of later versions: accepted, without effect on an embedded server.
const SECTIONS: [&str; 4] = ["kafka", "redis", "auth", "limits"];

/// Settings of a project folder. `flags` are the values given on the command line, by key.
pub fn load(project: &Path, flags: &[(&'static str, Option<String>)]) -> Result<Settings, Failure> {
    let mut values: BTreeMap<&'static str, (String, Origin)> =
        KEYS.iter().map(|(key, default, _)| (*key, (default.to_string(), Origin::Default))).collect();
    from_file(&project.join("tidemill.toml"), &mut values)?;
    from_environment(&mut values)?;
    for (key, value) in flags {
        if let Some(value) = value {
            values.insert(key, (value.clone(), Origin::Flag(format!("--{}", key.replace('_', "-")))));
        }
    }
    let text = |key: &str| values.get(key).map_or(String::new(), |(value, _)| value.clone());
    let wrong = |key: &str, expected: &str| {
        let (value, origin) = values.get(key).cloned().unwrap_or((String::new(), Origin::Default));
        Failure::invalid("E5002", format!("`{key}` = \"{value}\" (from {origin}): expected {expected}"))
    };
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
    let size: Option<f64> = text("log.segment_mb").parse().ok();
    let size = size.filter(|size| SEGMENT_MB.contains(size));
    let expected = format!("a number of MiB from {} to {}", SEGMENT_MB.start(), SEGMENT_MB.end());
    let segment_bytes = (size.ok_or_else(|| wrong("log.segment_mb", &expected))? * f64::from(1 << 20)) as u64;
    Ok(Settings {
        data_dir,
        listen,
        metrics_listen,
        reflection,
        insecure,
        verify_share,
        verify_trickle,
        segment_bytes,
        origins: values,
    })
}

fn from_file(path: &Path, values: &mut BTreeMap<&'static str, (String, Origin)>) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::invalid("E5001", format!("{shown}: {error}"))),
    };
    let table: Table = text.parse().map_err(|e: toml::de::Error| Failure::invalid("E5001", format!("{shown}: {e}")))?;
    let nested = |(key, value): (&String, &Value)| match value {
        Value::Table(section) if OWN_SECTIONS.contains(&key.as_str()) => {
            section.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())).collect()
        }
        _ => vec![(key.clone(), value.clone())],
    };
    for (key, value) in table.iter().flat_map(nested) {
        let value = match &value {
            Value::String(text) => {
                substituted(text).map_err(|what| Failure::invalid("E5005", format!("{shown}: `{key}`: {what}")))?
            }
            Value::Boolean(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Table(_) if SECTIONS.contains(&key.as_str()) => continue,
            _ => return Err(Failure::invalid("E5002", format!("{shown}: `{key}` is a text or a bool"))),
        };
        let known = known(&key).map_err(|f| Failure { message: format!("{shown}: {}", f.message), ..f })?;
        values.insert(known, (value, Origin::File(shown.clone())));
    }
    Ok(())
}

fn from_environment(values: &mut BTreeMap<&'static str, (String, Origin)>) -> Result<(), Failure> {
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TIDEMILL__")).map(str::to_string) else {
            continue;
        };
        let Ok(value) = value.into_string() else {
            return Err(Failure::invalid("E5002", format!("environment {name}: not UTF-8")));
        };
        let path = &name["TIDEMILL__".len()..];
        let key = path.to_lowercase().replace("__", ".");
        if SECTIONS.iter().any(|section| key.starts_with(&format!("{section}."))) {
            continue;
        }
        let known = known(&key).map_err(|f| Failure { message: format!("environment {name}: {}", f.message), ..f })?;
        values.insert(known, (value, Origin::Environment(name)));
    }
    Ok(())
}

fn known(key: &str) -> Result<&'static str, Failure> {
    let found = KEYS.iter().find(|(name, ..)| *name == key).map(|(name, ..)| *name);
    found.ok_or_else(|| {
        let near = nearest(key, KEYS.iter().map(|(name, ..)| *name));
        Failure { near: near.into_iter().collect(), ..Failure::invalid("E5004", format!("unknown setting `{key}`")) }
    })
}

/// `${env:X}` and `${file:…}` inside a text.
fn substituted(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let end = rest[start..].find('}').ok_or("a `${` without its `}`")? + start;
        let inside = &rest[start + 2..end];
        match inside.split_once(':') {
            Some(("env", name)) => {
                out.push_str(&std::env::var(name).map_err(|_| format!("environment variable {name} is not set"))?)
            }
            Some(("file", path)) => {
                out.push_str(std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?.trim_end())
            }
            _ => return Err(format!("`${{{inside}}}` is neither ${{env:NAME}} nor ${{file:PATH}}")),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let folder = tempfile::tempdir().unwrap();
        let settings = load(folder.path(), &[("listen", Some("127.0.0.1:7".into()))]).unwrap();
        assert_eq!(settings.origins["listen"].1, Origin::Flag("--listen".into()));
    }
}
