//! A certificate authority of a test, and what it has signed: a server on this machine, and a client.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::script;

/// The folder with the files.
#[derive(Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them in a folder, by `tests/services certificates`.
    pub fn make(folder: &Path) -> Certificates {
        let made = Command::new(script()).arg("certificates").arg(folder).output().expect("tests/services runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr).trim_end());
        Certificates { folder: folder.into() }
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The authority's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Certificate and key of `server` or `client`.
    pub fn of(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")))
    }
}
