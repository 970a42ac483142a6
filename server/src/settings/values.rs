//! Where values come from: tidemill.toml, the environment, and what stands for secrets in both.

use std::collections::BTreeMap;
use std::path::Path;

use tidemill_features::problem::nearest;
use toml::{Table, Value};

use super::{KEYS, OWN_SECTIONS, Origin, SECTIONS, is_secret};
use crate::failure::Failure;

/// Values of a file, which may be missing.
pub(super) fn from_file(path: &Path, values: &mut BTreeMap<&'static str, (String, Origin)>) -> Result<(), Failure> {
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
        let plain = matches!(&value, Value::String(text) if !text.is_empty() && !text.starts_with("${"));
        if is_secret(&key) && plain {
            let message =
                format!("{shown}: `{key}` stands there in plain text: name it as ${{env:NAME}} or ${{file:PATH}}");
            return Err(Failure::invalid("E5030", message));
        }
        let value = match &value {
            Value::String(text) => {
                substituted(text).map_err(|what| Failure::invalid("E5005", format!("{shown}: `{key}`: {what}")))?
            }
            Value::Boolean(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Table(properties) if key == "kafka.properties" => properties_text(properties)
                .ok_or_else(|| Failure::invalid("E5002", format!("{shown}: `{key}` holds texts and numbers")))?,
            Value::Table(_) if SECTIONS.contains(&key.as_str()) => continue,
            _ => return Err(Failure::invalid("E5002", format!("{shown}: `{key}` is a text or a bool"))),
        };
        let known = known(&key).map_err(|f| Failure { message: format!("{shown}: {}", f.message), ..f })?;
        values.insert(known, (value, Origin::File(shown.clone())));
    }
    Ok(())
}

/// A table of properties as the text that it also may be.
fn properties_text(properties: &Table) -> Option<String> {
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("{name}={text}")),
        Value::Integer(number) => Some(format!("{name}={number}")),
        Value::Boolean(flag) => Some(format!("{name}={flag}")),
        _ => None,
    };
    properties.iter().map(pair).collect::<Option<Vec<_>>>().map(|pairs| pairs.join(","))
}

/// Values of `TIDEMILL__SECTION__KEY` variables.
pub(super) fn from_environment(values: &mut BTreeMap<&'static str, (String, Origin)>) -> Result<(), Failure> {
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
