//! Plans: a checked view, ready to run. What a record keeps and how a value is read follows from the plan alone.
//!
//! `window` says which events a feature looks at, `build` makes a plan out of checked definitions. Columns, filters and
//! aggregates that several features share appear once.

pub mod window;

use crate::aggregates::Aggregate;
use crate::time::HOUR;
use crate::value::{DataType, Value};

pub use self::window::{Range, Window};

/// Everything that `apply` and `read` need to know of a view.
#[derive(Debug)]
pub struct Plan {
    /// identifies the definition; stamped into every record
    pub hash: u64,
    /// columns of a raw event: the distinct arguments of aggregates
    pub inputs: Vec<DataType>,
    /// number of distinct feature filters; a raw event keeps one bit for each
    pub filters: usize,
    /// distinct aggregates
    pub cells: Vec<CellPlan>,
    /// in file order, windows in order
    pub features: Vec<FeaturePlan>,
    /// whether raw events keep their place in the total order
    pub order_kept: bool,
    /// type of the event id, where the source declares one
    pub id_type: Option<DataType>,
    /// which duplicates are dropped
    pub dedup: Option<Dedup>,
    /// longest window + hop + offset, microseconds
    pub reach: i64,
    /// how much longer events are kept: the larger of 1 h and the source's `max_future_skew`
    pub slack: i64,
    /// cells that lifetime features read
    pub lifetime_cells: Vec<usize>,
    /// per distinct filter of last_n features, how many events are needed
    pub last_n: Vec<(Option<usize>, usize)>,
    /// whether a feature has no left edge, so that no event is late
    pub never_late: bool,
    /// events that a record keeps in one piece; more become a ladder. No value depends on it
    pub leaf_max: usize,
}

/// An aggregate over one column and one filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CellPlan {
    /// what is computed
    pub aggregate: Aggregate,
    /// index of its column; None for `count()`
    pub input: Option<usize>,
    /// index of its filter
    pub filter: Option<usize>,
}

/// A feature of a view.
#[derive(Clone, Debug)]
pub struct FeaturePlan {
    /// expanded with its window
    pub name: String,
    /// index of its cell
    pub cell: usize,
    /// which events
    pub window: Window,
    /// "as seen at T - offset", microseconds
    pub offset: i64,
    /// the value where no event contributed
    pub default: Option<Value<'static>>,
}

/// Deduplication by event id.
#[derive(Clone, Debug)]
pub struct Dedup {
    /// type of the id
    pub id_type: DataType,
    /// microseconds of arrival time
    pub horizon: i64,
    /// whether arrival times never go back within a partition, so that old ids can be forgotten
    pub arrivals_ascend: bool,
}

/// Slack is at least this.
pub const MIN_SLACK: i64 = HOUR;

impl Plan {
    /// Events older than this may be gone from a record whose newest event is `newest`, or were late.
    pub fn floor(&self, newest: i64) -> i64 {
        newest.saturating_sub(self.reach).saturating_sub(self.slack)
    }

    /// Events older than this are gone from a record whose newest event is `newest`. A little lower than `floor` and on a
    /// coarse grid, so that events leave in groups.
    pub fn expiry(&self, newest: i64) -> i64 {
        let span = self.reach.saturating_add(self.slack).max(32) as u64;
        let grain_bits = 63 - (span / 32).leading_zeros();
        (self.floor(newest) >> grain_bits) << grain_bits
    }

    /// Whether a record keeps anything of the events that have left.
    pub fn has_base(&self) -> bool {
        !self.lifetime_cells.is_empty() || !self.last_n.is_empty()
    }

    /// Bytes of flags in a raw event: one bit a filter, one a column.
    pub fn flag_bytes(&self) -> usize {
        (self.filters + self.inputs.len()).div_ceil(8)
    }
}
