//! How long a value stays what it is if no event comes: for whoever keeps the values of all keys.

use super::{EventSet, ReadError, Stored};
use crate::plan::Plan;
use crate::record::Outline;

/// The last moment at which a feature (by index into `plan.features`) is what it is at `time`, or one before that; None: no
/// moment changes it. It must not be joined: rows of tables are events that this record does not have.
pub fn stands_until(plan: &Plan, stored: Stored<'_>, feature: usize, time: i64) -> Result<Option<i64>, ReadError> {
    let Some(record) = stored.record else { return Ok(None) };
    let feature = &plan.features[feature];
    let seen_at = time.saturating_sub(feature.offset);
    let events = EventSet::of_record(plan, Outline::parse(record)?.node, stored.nodes)?;
    let oldest = events.next_from(plan, feature.window.edge(seen_at))?;
    let next = events.next_from(plan, feature.window.range(seen_at).to)?;
    let change = feature.window.next_change(seen_at, oldest, next);
    Ok(change.map(|change| change.saturating_add(feature.offset).saturating_sub(1)))
}
