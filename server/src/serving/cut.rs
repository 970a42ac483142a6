//! What to tell those whose values may depend on events that are gone, because the log was cut.

use tidemill_features::definitions::Registry;
use tidemill_features::read::Answer;
use tidemill_features::service::ReadPlan;
use tidemill_features::time::rfc3339;

use super::get::Reader;
use crate::failure::Failure;
use crate::log::Cut;
use crate::offline::Positions;

/// Number of the error that a value has.
pub const CODE: &str = "E2040";

/// Columns, by their place, that have values which nobody can know.
pub fn unanswered(columns: &[Vec<Answer>]) -> Vec<usize> {
    let any = |column: &[Answer]| column.iter().any(Answer::is_unanswered);
    (0..columns.len()).filter(|at| any(&columns[*at])).collect()
}

/// Why values of some sources (by place in the registry) cannot be known.
pub fn why(reader: &Reader, sources: &[usize]) -> Result<String, Failure> {
    let cut = reader.past.cut()?;
    let of_source = |at: &usize| {
        let name = &reader.registry.sources[*at].name;
        let gone = cut.of(name)?;
        let newest = gone.times.or(gone.ahead).map(|(_, newest)| rfc3339(newest)).unwrap_or_default();
        Some(format!("{} events of `{name}` up to {newest}", gone.events))
    };
    let gone: Vec<String> = sources.iter().filter_map(of_source).collect();
    Ok(format!(
        "retention has cut the event log: {} are gone, and a value that may depend on them cannot be known",
        if gone.is_empty() { "events".to_string() } else { gone.join(", ") }
    ))
}

/// Whether a log prefix has all that is gone of the sources of a plan. Of a shorter one nobody can tell what it held.
pub fn is_within(registry: &Registry, plan: &ReadPlan, cut: &Cut, prefix: &Positions) -> bool {
    plan.sources.iter().all(|at| {
        let gone = cut.sources.get(&registry.sources[*at].name);
        let reaches = |(partition, next): (&u32, &u64)| {
            prefix.get(&(*at as u32, *partition)).is_some_and(|position| position >= next)
        };
        gone.is_none_or(|gone| gone.positions.iter().all(reaches))
    })
}
