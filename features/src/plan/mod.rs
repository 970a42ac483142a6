//! Plans: a checked view, ready to run. What a record keeps and how a value is read follows from the plan alone.
//!
//! `window` says which events a feature looks at, `join` what of an event is only known at read, `estimate` what it costs. Columns, filters and
//! aggregates that several features share appear once.

pub mod estimate;
pub mod join;
pub mod window;

use crate::aggregates::Aggregate;
use crate::time::HOUR;
use crate::value::{DataType, Value};

pub use self::join::{JoinPlan, JoinedCell, JoinedTable};
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
    /// the filter that says whether a row is there at all (not deleted, `where` true), in views of a table
    pub table: Option<usize>,
    /// what is computed at read because it depends on rows of tables
    pub joins: Option<JoinPlan>,
    /// whether no event ever leaves a record, because a feature without a left edge needs them one by one
    pub keeps_all: bool,
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
    /// index of its second column
    pub second: Option<usize>,
    /// index of its filter
    pub filter: Option<usize>,
    /// index among the cells of `JoinPlan`, in place of the three above: no tile has it, rows are looked at one by one
    pub joined: Option<usize>,
}

/// A feature of a view.
#[derive(Clone, Debug)]
pub struct FeaturePlan {
    /// expanded with its window
    pub name: String,
    /// the aggregate as declared, in canonical form
    pub text: String,
    /// index of its cell
    pub cell: usize,
    /// which events
    pub window: Window,
    /// "as seen at T - offset", microseconds
    pub offset: i64,
    /// the value where no event contributed
    pub default: Option<Value<'static>>,
    /// whether the request's row counts as one more event
    pub include_request: bool,
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
    /// whether events at rest and those of the stream see one another's ids
    pub with_history: bool,
}

/// Slack is at least this.
pub const MIN_SLACK: i64 = HOUR;

impl Plan {
    /// Events older than this may be gone from a record whose newest event is `newest`, or were late.
    pub fn floor(&self, newest: i64) -> i64 {
        if self.keeps_all {
            return i64::MIN;
        }
        newest.saturating_sub(self.reach).saturating_sub(self.slack)
    }

    /// Events older than this are gone from a record whose newest event is `newest`. A little lower than `floor` and on a
    /// coarse grid, so that events leave in groups.
    pub fn expiry(&self, newest: i64) -> i64 {
        if self.keeps_all {
            return i64::MIN;
        }
        let span = self.reach.saturating_add(self.slack).max(32) as u64;
        let grain_bits = 63 - (span / 32).leading_zeros();
        (self.floor(newest) >> grain_bits) << grain_bits
    }

    /// Whether a record keeps anything of the events that have left.
    pub fn has_base(&self) -> bool {
        !self.lifetime_cells.is_empty() || !self.last_n.is_empty()
    }

    /// Whether tiles have cells that can only be built in the order of time.
    pub fn needs_neighbours(&self) -> bool {
        self.cells.iter().any(|cell| cell.aggregate.needs_neighbours())
    }

    /// Bytes of flags in a raw event: one bit a filter, one a column.
    pub fn flag_bytes(&self) -> usize {
        (self.filters + self.inputs.len()).div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::{DefinitionFile, check};

    fn plan(feature: &str) -> Plan {
        let text = format!(
            "[source.s]\nconnector = 'push'\nevent_time = 't'\nfields = {{ k = 'string', t = 'timestamp' }}\n[entity.e]\n\
             key = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\na = {{ agg = '{feature} }}\n"
        );
        let registry = check(&[DefinitionFile { path: "v.toml".into(), text }])
            .unwrap_or_else(|problems| panic!("{}", problems[0]));
        std::sync::Arc::into_inner(std::sync::Arc::into_inner(registry.views.into_iter().next().unwrap()).unwrap().plan)
            .unwrap()
    }

    /// Events leave on a grid: never before the floor says so, and at most a sixteenth of what is kept later.
    #[test]
    fn events_leave_in_groups() {
        for (feature, reach) in
            [("count()', windows = ['3h']", 3 * HOUR), ("count()', windows = ['90d'], hop = '1d'", 91 * 24 * HOUR)]
        {
            let plan = plan(feature);
            let kept = reach + HOUR;
            let mut grid = std::collections::BTreeSet::new();
            for newest in (0..200).map(|i| 1_700_000_000_000_000 + i * kept / 100) {
                let (floor, expiry) = (plan.floor(newest), plan.expiry(newest));
                assert_eq!(floor, newest - kept);
                assert!(expiry <= floor && floor - expiry <= kept / 16, "{feature} {newest}");
                grid.insert(expiry);
            }
            assert!((40..=130).contains(&grid.len()), "{feature}: {}", grid.len());
            let steps: Vec<i64> = grid.iter().zip(grid.iter().skip(1)).map(|(a, b)| b - a).collect();
            assert!(steps.iter().all(|step| *step == steps[0] && step.count_ones() == 1), "{feature}: {steps:?}");
            assert_eq!((plan.floor(i64::MIN), plan.expiry(i64::MIN)), (i64::MIN, i64::MIN));
        }
        let forever = plan("max_gap()'");
        assert_eq!((forever.floor(0), forever.expiry(0)), (i64::MIN, i64::MIN));
    }

    #[test]
    fn flags_take_a_bit_each() {
        let mut plan = plan("count()'");
        for (filters, inputs, bytes) in [(0, 0, 0), (1, 0, 1), (4, 4, 1), (4, 5, 2), (8, 8, 2), (0, 17, 3)] {
            plan.filters = filters;
            plan.inputs = vec![DataType::Bool; inputs];
            assert_eq!(plan.flag_bytes(), bytes, "{filters} {inputs}");
        }
    }
}
