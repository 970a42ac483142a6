//! Verify: served answers recomputed from the event log, bit for bit.
//!
//! Each answer that was kept names the log prefix that it was computed from, so recomputing it needs nothing but the log.

use std::collections::BTreeMap;
use std::path::Path;

use tidemill_features::definitions::Registry;
use tidemill_features::expression::Column;
use tidemill_features::read::Answer;
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::value::{DataType, Value};

use super::cut::is_within;
use super::explain::{Explanation, explain_kept};
use super::sample::{Sampled, is_same, newest};
use super::training::{Job, rows_at_once};
use crate::failure::Failure;
use crate::limits::{VERIFY_DIFFERENCES_MAX, VERIFY_EXPLAINED_MAX};
use crate::offline::{Positions, Visibility};

/// What came out.
#[derive(Debug, Default)]
pub struct Verified {
    /// answers looked at: one key at one T each
    pub sampled: u64,
    /// answers that cannot be asked any more, because their features or keys are not declared now as they were
    pub outdated: u64,
    /// values that may depend on events which retention has cut
    pub beyond: u64,
    /// values that the log gives otherwise
    pub differences: u64,
    /// the first of them
    pub shown: Vec<Difference>,
    /// T of the newest answer that was looked at
    pub newest: Option<i64>,
}

/// A value that was served and is not what the log gives.
#[derive(Debug)]
pub struct Difference {
    /// `view:feature`
    pub feature: String,
    /// keys and request values by name
    pub given: Vec<(String, DataType, Value<'static>)>,
    /// T
    pub time: i64,
    /// type of the values
    pub data_type: DataType,
    /// status and value
    pub served: (u8, Value<'static>),
    /// what the log gives
    pub recomputed: Answer,
    /// whether the definitions have changed since
    pub redefined: bool,
    /// of the definitions that it was computed by
    pub definition_hash: u64,
    /// the log prefix that the answer named
    pub positions: Positions,
    /// how the log comes to its side; of the first few
    pub explained: Option<Explanation>,
}

/// Answers to one list of features.
type Group = Vec<(Sampled, Vec<Value<'static>>)>;

/// Recomputes the newest answers that were kept.
pub fn verify(job: &Job<'_>, folder: &Path, count: usize) -> Result<Verified, Failure> {
    let kept = newest(folder, count).map_err(|e| Failure::internal("E3030", format!("{}: {e}", folder.display())))?;
    recompute(job, kept)
}

/// Recomputes answers.
pub(super) fn recompute(job: &Job<'_>, kept: Vec<Sampled>) -> Result<Verified, Failure> {
    let registry = &job.server.registry;
    let newest = kept.iter().map(|sampled| sampled.time).max();
    let mut verified = Verified { sampled: kept.len() as u64, newest, ..Verified::default() };
    let mut groups: BTreeMap<Vec<(String, String)>, Vec<Sampled>> = BTreeMap::new();
    for sampled in kept {
        groups.entry(sampled.columns.clone()).or_default().push(sampled);
    }
    for (columns, group) in groups {
        let references: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        let of_now = |plan: &ReadPlan| {
            let same = |(a, b): (&(String, DataType), &(String, String))| a.0 == b.0 && a.1.to_string() == b.1;
            plan.columns.len() == columns.len() && plan.columns.iter().zip(&columns).all(same)
        };
        let Some(plan) = ReadPlan::of_references(registry, &references).ok().filter(of_now) else {
            verified.outdated += group.len() as u64;
            continue;
        };
        let count = group.len() as u64;
        let group: Group = group.into_iter().filter_map(|s| s.row(&plan).ok().map(|row| (s, row))).collect();
        verified.outdated += count - group.len() as u64;
        let cut = job.server.reader.past.cut()?;
        let is_known = |(sampled, _): &(Sampled, _)| is_within(registry, &plan, &cut, &positions(registry, sampled));
        let (group, shorter): (Group, Group) = group.into_iter().partition(is_known);
        verified.beyond += (shorter.len() * plan.columns.len()) as u64;
        for part in group.chunks(rows_at_once(&plan)) {
            compare(job, &plan, part, &mut verified)?;
        }
    }
    for difference in verified.shown.iter_mut().take(VERIFY_EXPLAINED_MAX) {
        let Difference { feature, given, time, positions, recomputed, .. } = &*difference;
        let explained = explain_kept(&job.server.reader, feature, given, (*time, positions.clone()), recomputed);
        difference.explained = explained.ok();
    }
    metrics::counter!("tidemill_verified_answers_total").increment(verified.sampled - verified.outdated);
    metrics::counter!("tidemill_verify_differences_total").increment(verified.differences);
    Ok(verified)
}

fn compare(
    job: &Job<'_>,
    plan: &ReadPlan,
    group: &[(Sampled, Vec<Value<'static>>)],
    verified: &mut Verified,
) -> Result<(), Failure> {
    let registry = &job.server.registry;
    let column = |at: usize| Column::Values(group.iter().map(|(_, row)| row[at].clone()).collect());
    let keys = Keys {
        columns: (0..plan.keys.len()).map(column).collect(),
        request: (plan.keys.len()..plan.keys.len() + plan.request.len()).map(column).collect(),
        rows: group.len(),
    };
    let times: Vec<i64> = group.iter().map(|(sampled, _)| sampled.time).collect();
    let prefixes = Visibility::Prefixes(group.iter().map(|(sampled, _)| positions(registry, sampled)).collect());
    let recomputed = job.replay_all(plan, &keys, &times, &prefixes)?;
    let types: Vec<&DataType> = plan.columns.iter().map(|(_, data_type)| data_type).collect();
    for (row, (sampled, given)) in group.iter().enumerate() {
        let Ok(values) = sampled.values(&types) else {
            verified.outdated += 1;
            continue;
        };
        for ((served, column), (name, data_type)) in values.into_iter().zip(&recomputed).zip(&plan.columns) {
            if is_same(&served, &column[row]) {
                continue;
            }
            if column[row].is_unanswered() {
                verified.beyond += 1;
                continue;
            }
            verified.differences += 1;
            if verified.shown.len() < VERIFY_DIFFERENCES_MAX {
                let names = plan.keys.iter().chain(&plan.request).zip(given);
                verified.shown.push(Difference {
                    feature: name.clone(),
                    given: names.map(|((name, of), value)| (name.clone(), of.clone(), value.clone())).collect(),
                    time: sampled.time,
                    data_type: data_type.clone(),
                    served,
                    recomputed: column[row].clone(),
                    redefined: sampled.definition_hash != registry.hash,
                    definition_hash: sampled.definition_hash,
                    positions: positions(registry, sampled),
                    explained: None,
                });
            }
        }
    }
    Ok(())
}

/// The log prefix of an answer; partitions of sources that are not declared now are of no view either.
fn positions(registry: &Registry, sampled: &Sampled) -> Positions {
    let place =
        |(source, partition, next): &(String, u32, u64)| Some(((registry.source(source)? as u32, *partition), *next));
    sampled.positions.iter().filter_map(place).collect()
}
