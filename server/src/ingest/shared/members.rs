//! What processes say of themselves in a shared store, so that `status` shows all of them and reads know how old they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::MEMBER_SILENT;
use crate::online::MemberShown;

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// ingest, serve or all
    pub role: String,
    /// where it listens
    pub address: String,
    /// its clock when it said this, microseconds
    pub at: i64,
    /// partitions that it owns, by source
    pub partitions: BTreeMap<String, Vec<u32>>,
    /// how its reading goes, by source
    pub sources: BTreeMap<String, MemberSource>,
}

/// How a process reads a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSource {
    /// what was in its partitions by then is in the store, microseconds
    pub complete_to: i64,
    /// records that are not
    pub lag: u64,
    /// why nothing comes in, if so
    pub trouble: Option<String>,
    /// whether partitions have stopped until somebody decides
    #[serde(default)]
    pub is_halted: bool,
    /// whether the store lacks events that it had, which are fed again
    #[serde(default)]
    pub is_lacking: bool,
}

impl Member {
    /// What `status` shows.
    pub fn shown(&self) -> MemberShown {
        let Member { role, address, partitions, .. } = self.clone();
        MemberShown { role, address, partitions }
    }

    /// Whether it has said something lately.
    pub fn is_alive(&self, now: i64) -> bool {
        now.saturating_sub(self.at) < MEMBER_SILENT
    }
}
