//! What one model reads, computed: a service's views, derived features and lookups, for many entities at once.
//!
//! Where the events come from, and which of them count, is the caller's: serving reads records, training reads the log.
//! `plan` resolves names, `keys` are the rows asked for, `request` their own rows where features count them, `derive` computes
//! derived features from finished ones. So both give the same bits. `search` is the condition of a search for neighbours.

mod derive;
mod keys;
mod plan;
mod request;
mod search;

#[cfg(test)]
mod tests;

pub use self::derive::{Derivation, LookUp};
pub use self::keys::{EncodedKeys, Keys, encode_keys};
pub use self::plan::{DerivedRead, InputSlot, LookupRead, Origin, ReadPlan, ViewRead};
pub use self::request::RequestRows;
pub use self::search::Condition;

/// Why a service, a feature or a key cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// such as `E2001`
    pub code: &'static str,
    /// lower case, no full stop
    pub message: String,
    /// whether a name is unknown
    pub unknown: bool,
    /// a known name that is close to an unknown one
    pub near: Option<String>,
}

impl Refused {
    fn unknown(code: &'static str, message: String, near: Option<String>) -> Self {
        Refused { code, message, unknown: true, near }
    }

    fn invalid(code: &'static str, message: String) -> Self {
        Refused { code, message, unknown: false, near: None }
    }
}
