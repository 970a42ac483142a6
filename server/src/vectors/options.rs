//! What a collection says about its index: the shape of the graph, and from where on there is one.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::limits::{GRAPH_EF_CONSTRUCTION_MAX, GRAPH_M_MAX, SEARCH_EF_MAX};

/// As they stand in a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexOptions {
    /// neighbours of a node, twice as many at the bottom
    pub m: usize,
    /// candidates while the graph is built
    pub ef_construction: usize,
    /// candidates of a search that does not name its own number; None: as many as find 99 of 100 neighbours (`recall.rs`)
    pub ef_search: Option<usize>,
    /// collections with fewer vectors have no graph: they are scanned, which is exact
    pub exact_below: usize,
    /// where the vectors of a graph lie
    pub rows: RowsIn,
}

/// Where the vectors lie whose codes a graph is walked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowsIn {
    /// beside the graph
    #[default]
    Memory,
    /// in a file; a search reads those that may be among the nearest
    Disk,
}

impl Default for IndexOptions {
    fn default() -> Self {
        IndexOptions { m: 16, ef_construction: 200, ef_search: None, exact_below: 20_000, rows: RowsIn::Memory }
    }
}

impl IndexOptions {
    /// Refuses what no graph can be built with.
    pub fn check(&self) -> Result<(), Failure> {
        within("m", self.m, 2, GRAPH_M_MAX)?;
        within("ef_construction", self.ef_construction, self.m, GRAPH_EF_CONSTRUCTION_MAX)?;
        within("ef_search", self.ef_search.unwrap_or(1), 1, SEARCH_EF_MAX)
    }
}

fn within(name: &str, value: usize, least: usize, most: usize) -> Result<(), Failure> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => {
            Err(Failure::field("E4006", name, format!("`{name}` is {value}; it is at least {least}, at most {most}")))
        }
    }
}

/// What builds the graph of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builder {
    /// ours: flat lists, many threads
    #[default]
    Flat,
    /// the crate `hnsw_rs`, whose graph is then laid out flat: slower to build, and made by others, so a check on ours
    HnswRs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_refused() {
        IndexOptions::default().check().unwrap();
        let huge = IndexOptions { m: 1 << 40, ..IndexOptions::default() };
        assert_eq!(huge.check().unwrap_err().message, "`m` is 1099511627776; it is at least 2, at most 128");
        assert!(IndexOptions { ef_construction: 3, ..IndexOptions::default() }.check().is_err());
        assert!(IndexOptions { ef_search: Some(0), ..IndexOptions::default() }.check().is_err());
    }
}
