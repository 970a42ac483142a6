//! Entities whose vectors their records cannot tell, because an event of theirs is dated years ahead: each search reads them from
//! the log, and compares them beside the index. One whose past is gone from the log, too, has no vector.

use std::sync::Arc;

use tidemill_features::service::ReadPlan;

use super::asked::Asked;
use super::common::{asked_of, keys_for, to_ordered};
use super::live::Live;
use super::reads::Reads;
use crate::failure::Failure;
use crate::vectors::{Hit, Query, View};

/// See above.
pub(super) struct Beyond {
    /// the key as the index has it, and the vector; of those that pass
    vectors: Vec<(Vec<u8>, Vec<f32>)>,
}

impl Beyond {
    pub(super) fn read(live: &Live<'_>, reads: &Reads<'_>) -> Result<Beyond, Failure> {
        let Live { server, asked, opened, .. } = live;
        let keys = || opened.beyond.iter().map(|key| &**key);
        if opened.beyond.is_empty() {
            return Ok(Beyond { vectors: Vec::new() });
        }
        let rule = &server.registry.embeddings[asked.embedding].vector;
        let read = |plan: &Arc<ReadPlan>| reads.read(plan, &keys_for(server, asked, plan, keys())?);
        let found = read(&asked.vectors)?;
        let features = asked.condition.as_ref().and_then(|(_, plan)| plan.as_ref()).map(read).transpose()?;
        let features = features.unwrap_or_default();
        let mut vectors = Vec::new();
        for (row, key) in keys().enumerate() {
            let Some(vector) = rule.read(&found[0][row].value).ok().flatten() else { continue };
            let attributes: Vec<_> = found[1..].iter().map(|column| column[row].value.clone()).collect();
            let passes = match &asked.condition {
                Some((condition, _)) => condition.holds(&attributes, &asked_of(&features, row)?, opened.time),
                None => true,
            };
            if passes {
                vectors.push((to_ordered(server, asked, key)?, vector));
            }
        }
        Ok(Beyond { vectors })
    }

    /// Puts them among the neighbours of a query.
    pub(super) fn join(&self, view: &View, query: &Query<'_>, asked: &Asked, hits: &mut Vec<Hit>) {
        let wanted = view.metric.kept(query.vector);
        for (key, vector) in &self.vectors {
            let score = view.metric.score(&wanted, &view.metric.kept(vector)) + 0.0;
            let is_near = asked.min_score.is_none_or(|least| score >= least);
            if is_near && !query.exclude.contains(&key.as_slice()) {
                hits.push(Hit { key: key.clone(), score, slot: u32::MAX });
            }
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.key.cmp(&b.key)));
        hits.truncate(query.k);
    }
}
