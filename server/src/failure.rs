//! What went wrong, for the person who reads it: an E-number, what was expected, the near name.

use std::fmt;

use tidemill_features::service::Refused;

/// What the reader of an error can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// fix the call
    Invalid,
    /// use a name that exists
    NotFound,
    /// try again later, with a pause
    Exhausted,
    /// try again
    Unavailable,
    /// tell us: this is a bug, or damage
    Internal,
}

/// An error with its number.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Failure {
    /// such as `E2004`
    pub code: &'static str,
    /// lower case, no full stop
    pub message: String,
    /// known names close to an unknown one
    pub near: Vec<String>,
    /// what to do
    pub remedy: Remedy,
    /// the request field that it is about
    pub field: Option<String>,
}

impl Failure {
    /// An error of a kind.
    pub fn new(remedy: Remedy, code: &'static str, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), near: Vec::new(), remedy, field: None }
    }

    /// A mistake of the caller.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Failure::new(Remedy::Invalid, code, message)
    }

    /// A mistake of the caller in one field of the request.
    pub fn field(code: &'static str, field: &str, message: impl Into<String>) -> Self {
        Failure { field: Some(field.to_string()), ..Failure::invalid(code, message) }
    }

    /// An unknown name.
    pub fn unknown(code: &'static str, message: impl Into<String>, near: Option<String>) -> Self {
        Failure { near: near.into_iter().collect(), ..Failure::new(Remedy::NotFound, code, message) }
    }

    /// Damage or a bug.
    pub fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Failure::new(Remedy::Internal, code, message)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused.unknown {
            true => Failure::unknown(refused.code, refused.message, refused.near),
            false => Failure::invalid(refused.code, refused.message),
        }
    }
}

/// Names in messages: enough to recognise them.
pub fn shortened(name: &str) -> String {
    name.chars().take(200).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match self.near.first() {
            Some(near) => write!(f, "; did you mean `{near}`?"),
            None => Ok(()),
        }
    }
}
