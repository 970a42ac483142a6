//! Objects: whole files by URL, on this machine or in an object store that speaks S3.
//!
//! `url` says which one is meant, `error` what can go wrong. `local` does on folders what `s3` does in buckets; only `s3` names
//! the engine, keeps its runtime and its retries to itself, and is left out of builds without the feature `s3`. Everything
//! here blocks its thread. An object appears whole or not at all, and a file is fetched whole or not at all.

mod error;
mod local;
#[cfg(feature = "s3")]
mod s3;
#[cfg(not(feature = "s3"))]
#[path = "without_s3.rs"]
mod s3;
mod url;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::error::ObjectError;
pub use self::url::ObjectUrl;
use crate::settings::S3Settings;

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// its name
    pub url: ObjectUrl,
    /// its length
    pub bytes: u64,
}

/// Tells one content of an object from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(String);

/// All bytes of an object, and the mark of this content.
pub type Content = (Vec<u8>, Option<Mark>);

/// What may be replaced by what is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// whatever is there
    Anything,
    /// nothing may be there
    Nothing,
    /// what was seen there
    Marked(Mark),
}

/// Files by URL.
pub struct Objects {
    settings: S3Settings,
    buckets: Mutex<HashMap<String, Arc<s3::Bucket>>>,
}

impl Objects {
    /// With the settings of S3; nothing is connected before it is needed.
    pub fn new(settings: S3Settings) -> Objects {
        Objects { settings, buckets: Mutex::default() }
    }

    /// Whether a URL can be used as it stands and with these settings; nothing is asked of anybody.
    pub fn check(&self, url: &ObjectUrl) -> Result<(), ObjectError> {
        match url {
            ObjectUrl::Local(_) => Ok(()),
            ObjectUrl::S3 { bucket, .. } => self.bucket(bucket).map(drop),
        }
    }

    fn bucket(&self, name: &str) -> Result<Arc<s3::Bucket>, ObjectError> {
        let mut buckets = self.buckets.lock();
        if let Some(open) = buckets.get(name) {
            return Ok(open.clone());
        }
        let opened = Arc::new(s3::Bucket::open(name, &self.settings)?);
        buckets.insert(name.to_string(), opened.clone());
        Ok(opened)
    }

    /// All objects below a folder or prefix, by name; none where there is no such folder.
    pub fn below(&self, prefix: &ObjectUrl) -> Result<Vec<Object>, ObjectError> {
        let mut objects = match prefix {
            ObjectUrl::Local(folder) => local::below(folder)?,
            ObjectUrl::S3 { bucket, key } => self.bucket(bucket)?.below(key, usize::MAX)?,
        };
        objects.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(objects)
    }

    /// Any object below a folder or prefix.
    pub fn any_below(&self, prefix: &ObjectUrl) -> Result<Option<Object>, ObjectError> {
        match prefix {
            ObjectUrl::Local(folder) => Ok(local::below(folder)?.into_iter().next()),
            ObjectUrl::S3 { bucket, key } => Ok(self.bucket(bucket)?.below(key, 1)?.into_iter().next()),
        }
    }

    /// All objects that a glob names, by name: `s3://bucket/lake/**/*.parquet`, or an absolute one of local files.
    pub fn matching(&self, glob: &str) -> Result<Vec<Object>, ObjectError> {
        let wrong = |what: &dyn std::fmt::Display| ObjectError::Invalid(format!("`{glob}` is not a glob: {what}"));
        let mut objects = match ObjectUrl::parse(glob)? {
            ObjectUrl::Local(path) => {
                let pattern = path.to_str().ok_or_else(|| wrong(&"it is not UTF-8"))?;
                local::matching(pattern).map_err(|what| wrong(&what))?
            }
            ObjectUrl::S3 { bucket, key } => {
                let pattern = ::glob::Pattern::new(&key).map_err(|what| wrong(&what))?;
                let mut found = self.bucket(&bucket)?.below(url::fixed_folder(&key), usize::MAX)?;
                found.retain(|object| object.url.key().is_some_and(|key| pattern.matches_with(key, url::GLOB)));
                found
            }
        };
        objects.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(objects)
    }

    /// The length of an object and the mark of its content. None: there is none.
    pub fn head(&self, of: &ObjectUrl) -> Result<Option<(u64, Option<Mark>)>, ObjectError> {
        match of {
            ObjectUrl::Local(path) => local::head(path),
            ObjectUrl::S3 { bucket, key } => self.bucket(bucket)?.head(key),
        }
    }

    /// Puts a file there, in place of what is there.
    pub fn put(&self, file: &Path, to: &ObjectUrl) -> Result<(), ObjectError> {
        match to {
            ObjectUrl::Local(path) => local::put(file, path),
            ObjectUrl::S3 { bucket, key } => self.bucket(bucket)?.put(file, key),
        }
    }

    /// Puts a few bytes there, if what is there is what is expected.
    pub fn write(&self, bytes: Vec<u8>, to: &ObjectUrl, expected: &Expected) -> Result<Option<Mark>, ObjectError> {
        match to {
            ObjectUrl::Local(path) => local::write(&bytes, path, expected),
            ObjectUrl::S3 { bucket, key } => self.bucket(bucket)?.write(bytes, key, expected),
        }
    }

    /// All bytes of an object, of which there may be so many. None: there is none.
    pub fn read(&self, from: &ObjectUrl, bytes_max: u64) -> Result<Option<Content>, ObjectError> {
        let mut bytes = Vec::new();
        match self.copy(from, &mut bytes, bytes_max) {
            Ok((_, mark)) => Ok(Some((bytes, mark))),
            Err(ObjectError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches an object of at most so many bytes into a new file; gives its length. A file that cannot be filled is removed.
    pub fn fetch(&self, from: &ObjectUrl, to: &Path, bytes_max: u64) -> Result<u64, ObjectError> {
        let disk = |error| ObjectError::disk(to, error);
        let mut file = std::fs::File::create(to).map_err(disk)?;
        let fetched = self.copy(from, &mut file, bytes_max);
        let fetched = fetched.and_then(|(bytes, _)| file.sync_all().map_err(disk).map(|()| bytes));
        if fetched.is_err() {
            let _ = std::fs::remove_file(to);
        }
        fetched
    }

    fn copy(
        &self,
        from: &ObjectUrl,
        to: &mut dyn std::io::Write,
        bytes_max: u64,
    ) -> Result<(u64, Option<Mark>), ObjectError> {
        let Some((bytes, mark)) = self.head(from)? else {
            return Err(ObjectError::Missing { url: from.clone() });
        };
        if bytes > bytes_max {
            return Err(ObjectError::TooLarge { url: from.clone(), bytes, bytes_max });
        }
        match from {
            ObjectUrl::Local(path) => local::copy(path, bytes, to)?,
            ObjectUrl::S3 { bucket, key } => self.bucket(bucket)?.copy(key, bytes, mark.as_ref(), to)?,
        }
        Ok((bytes, mark))
    }

    /// Removes an object, if it is there.
    pub fn remove(&self, of: &ObjectUrl) -> Result<(), ObjectError> {
        match of {
            ObjectUrl::Local(path) => local::remove(path),
            ObjectUrl::S3 { bucket, key } => self.bucket(bucket)?.remove(key),
        }
    }
}

#[cfg(test)]
mod tests;
