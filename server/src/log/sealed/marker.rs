//! Which manifests of this log may stand in its archive: the one that was put there last, and those whose putting was begun
//! and whose end nobody knows. Any other one is of somebody else.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{NewFile, damaged, io_error};
use crate::log::LogError;
use crate::objects::ObjectUrl;

/// Its name in the folder of the log.
const NAME: &str = "archive.json";

/// What the file says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marker {
    /// of the archive
    url: String,
    /// hashes of manifests
    manifests: Vec<u64>,
}

impl Marker {
    pub fn of(url: &ObjectUrl, hash: u64) -> Marker {
        Marker { url: url.to_string(), manifests: vec![hash] }
    }

    pub fn load(folder: &Path) -> Result<Marker, LogError> {
        let path = folder.join(NAME);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Marker::default()),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    /// Where the log was archived last.
    pub fn url(&self) -> Option<&str> {
        Some(self.url.as_str()).filter(|url| !url.is_empty())
    }

    pub fn knows(&self, url: &ObjectUrl, hash: u64) -> bool {
        self.url == url.to_string() && self.manifests.contains(&hash)
    }

    /// One more manifest may be there. Another archive has none of the ones before.
    pub fn add(&mut self, url: &ObjectUrl, hash: u64) {
        if self.url != url.to_string() {
            *self = Marker { url: url.to_string(), manifests: Vec::new() };
        }
        if !self.manifests.contains(&hash) {
            self.manifests.push(hash);
        }
    }

    pub fn store(&self, folder: &Path) -> Result<(), LogError> {
        let mut file = NewFile::create(folder, NAME.to_string())?;
        let path = folder.join(NAME);
        serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| file.write_all(&bytes))
            .map_err(io_error(&path))?;
        file.finish(1).map(drop)
    }
}
