//! Names of objects: plain absolute paths and `file:///…` on this machine, `s3://BUCKET/KEY` in an object store.

use std::fmt;
use std::path::PathBuf;

use tidemill_features::problem::nearest;

use super::ObjectError;
use crate::failure::shortened;

/// Bytes of a key, which S3 takes no more of.
const KEY_BYTES_MAX: usize = 1024;
/// Schemes of URLs that are known.
const SCHEMES: [&str; 2] = ["s3", "file"];
/// `*` stays within a folder, `**` does not, as in globs of local files.
pub(super) const GLOB: glob::MatchOptions =
    glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Which object, or which folder of objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectUrl {
    /// an absolute path
    Local(PathBuf),
    /// in an object store
    S3 {
        /// its name
        bucket: String,
        /// without a slash at either end; empty: the whole bucket
        key: String,
    },
}

impl ObjectUrl {
    /// Whether a text is meant as a URL rather than as a path.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads a URL or an absolute path.
    pub fn parse(text: &str) -> Result<ObjectUrl, ObjectError> {
        let wrong = |what: &str| ObjectError::Invalid(format!("`{}`: {what}", shortened(text)));
        let Some((scheme, rest)) = text.split_once("://") else {
            let path = PathBuf::from(text);
            return if path.is_absolute() {
                Ok(ObjectUrl::Local(path))
            } else {
                Err(wrong("this path is not absolute"))
            };
        };
        match scheme {
            "file" if rest.starts_with('/') => Ok(ObjectUrl::Local(PathBuf::from(rest))),
            "file" => Err(wrong("a URL of a local file has three slashes: file:///data/spine.parquet")),
            "s3" => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.contains('@') {
                    // What stands there may be a secret: it is not repeated.
                    let message = "an s3:// URL has no room for credentials: they stand under [s3] in tidemill.toml";
                    return Err(ObjectError::Invalid(message.to_string()));
                }
                check_bucket(bucket).map_err(wrong)?;
                let key = key.strip_suffix('/').unwrap_or(key);
                check_key(key).map_err(wrong)?;
                Ok(ObjectUrl::S3 { bucket: bucket.to_string(), key: key.to_string() })
            }
            other => {
                let near = nearest(other, SCHEMES).map(|near| format!("; did you mean `{near}://`?"));
                let known = "there are s3://BUCKET/KEY, file:///PATH and plain absolute paths";
                let known = format!("`{}://` is not known: {known}{}", shortened(other), near.unwrap_or_default());
                Err(wrong(&known))
            }
        }
    }

    /// What has a name below this, with `/` between folders.
    pub fn join(&self, name: &str) -> ObjectUrl {
        match self {
            ObjectUrl::Local(path) => ObjectUrl::Local(path.join(name)),
            ObjectUrl::S3 { bucket, key } if key.is_empty() => {
                ObjectUrl::S3 { bucket: bucket.clone(), key: name.to_string() }
            }
            ObjectUrl::S3 { bucket, key } => ObjectUrl::S3 { bucket: bucket.clone(), key: format!("{key}/{name}") },
        }
    }

    /// The name of what is below this.
    pub fn name_below<'o>(&self, object: &'o ObjectUrl) -> Option<&'o str> {
        match (self, object) {
            (ObjectUrl::Local(folder), ObjectUrl::Local(path)) => path.strip_prefix(folder).ok()?.to_str(),
            (ObjectUrl::S3 { bucket, key }, ObjectUrl::S3 { bucket: of, key: name }) if bucket == of => {
                if key.is_empty() { Some(name) } else { name.strip_prefix(key.as_str())?.strip_prefix('/') }
            }
            _ => None,
        }
    }

    /// In an object store: which object of the bucket.
    pub fn key(&self) -> Option<&str> {
        match self {
            ObjectUrl::Local(_) => None,
            ObjectUrl::S3 { key, .. } => Some(key),
        }
    }

    /// The ending of its name.
    pub fn ending(&self) -> &str {
        let name = match self {
            ObjectUrl::Local(path) => path.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
            ObjectUrl::S3 { key, .. } => key.rsplit('/').next().unwrap_or_default(),
        };
        name.rsplit_once('.').map_or("", |(_, ending)| ending)
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectUrl::Local(path) => path.display().fmt(f),
            ObjectUrl::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

fn check_bucket(bucket: &str) -> Result<(), &'static str> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.' || c == '_';
    if bucket.is_empty() {
        return Err("it names no bucket: s3://BUCKET/KEY");
    }
    let fits = (3..=63).contains(&bucket.len()) && bucket.chars().all(known);
    if fits { Ok(()) } else { Err("the name of a bucket has 3 to 63 lower-case letters, digits, dots and dashes") }
}

fn check_key(key: &str) -> Result<(), &'static str> {
    if key.len() > KEY_BYTES_MAX {
        return Err("a key has at most 1,024 bytes");
    }
    if key.chars().any(char::is_control) {
        return Err("a key has no control characters");
    }
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if !key.is_empty() && key.split('/').any(odd) {
        return Err("a key has no empty part, and none that is `.` or `..`");
    }
    Ok(())
}

/// The folders of a glob that stand before its first wildcard.
pub(super) fn fixed_folder(glob: &str) -> &str {
    let wild = glob.find(['*', '?', '[']).unwrap_or(glob.len());
    glob[..wild].rfind('/').map_or("", |slash| &glob[..slash])
}
