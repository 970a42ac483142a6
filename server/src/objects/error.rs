//! What can go wrong with an object, by what its reader can do. Messages name the object and what was tried, never a secret.

use std::path::Path;

use super::ObjectUrl;
use crate::failure::{Failure, Remedy};

/// Why something could not be done with an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// the URL or the settings cannot be meant so
    #[error("{0}")]
    Invalid(String),
    /// there is none
    #[error("{url}: there is no such object")]
    Missing {
        /// of the object
        url: ObjectUrl,
    },
    /// something else is there than was expected
    #[error("{url}: somebody else has written there meanwhile")]
    Taken {
        /// of the object
        url: ObjectUrl,
    },
    /// the store says no, and will say so again
    #[error("{url} cannot be {tried}: {reason}")]
    Refused {
        /// of the object
        url: ObjectUrl,
        /// such as `read`
        tried: &'static str,
        /// in the store's words
        reason: String,
    },
    /// the store does not answer, or cannot do it now
    #[error("{url} cannot be {tried}: {reason}")]
    Unavailable {
        /// of the object
        url: ObjectUrl,
        /// such as `read`
        tried: &'static str,
        /// what was seen
        reason: String,
    },
    /// it is larger than what it is meant for may be
    #[error("{url} has {bytes} bytes, of which at most {bytes_max} are taken")]
    TooLarge {
        /// of the object
        url: ObjectUrl,
        /// its length
        bytes: u64,
        /// the limit
        bytes_max: u64,
    },
    /// it changed while it was read
    #[error("{url}: {reason}")]
    Changed {
        /// of the object
        url: ObjectUrl,
        /// what was seen
        reason: String,
    },
    /// a local file
    #[error("{path}: {error}")]
    Disk {
        /// of the file
        path: String,
        /// as the system said it
        error: std::io::Error,
    },
}

impl ObjectError {
    pub(super) fn disk(path: &Path, error: std::io::Error) -> Self {
        ObjectError::Disk { path: path.display().to_string(), error }
    }

    /// The same for the person who reads it.
    pub fn failure(&self, code: &'static str) -> Failure {
        let remedy = match self {
            ObjectError::Unavailable { .. } | ObjectError::Changed { .. } => Remedy::Unavailable,
            ObjectError::Disk { .. } => Remedy::Internal,
            _ => Remedy::Invalid,
        };
        Failure::new(remedy, code, self.to_string())
    }
}
