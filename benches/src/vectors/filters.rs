//! Searches under filters: what the planner chose, and what the other ways would have cost.

use std::time::Instant;

use anyhow::Result;
use tidemill::vectors::{Bitmap, Filter, Hit, Query, View, Way};

use super::{K, QUERIES, Set, share};
use crate::row;

/// Queries of each case: each has filters of its own where they depend on it.
const ASKED: usize = 40;

/// How a filter is related to the query.
#[derive(Clone, Copy, Debug)]
enum Relation {
    /// not at all
    Independent,
    /// what passes lies near the query
    Near,
    /// what passes lies far from it
    Far,
}

/// The table.
pub fn run(of: &str, view: &View, set: &Set) -> Result<()> {
    for relation in [Relation::Independent, Relation::Near, Relation::Far] {
        for percent in [50.0, 10.0, 1.0, 0.1] {
            let figures = case(view, set, relation, percent / 100.0)?;
            let question = format!("{of}: a filter that {percent} % pass, {relation:?}").to_lowercase();
            row(&question, &figures, "2.0 x the better way, recall 0.99");
        }
    }
    Ok(())
}

fn case(view: &View, set: &Set, relation: Relation, passing: f64) -> Result<String> {
    // The planner, a walk, and a scan: microseconds of each query, and what it found.
    let mut times = [const { Vec::new() }; 3];
    let mut found: [Vec<Vec<Hit>>; 3] = Default::default();
    let mut plans = Vec::new();
    for (number, query) in set.queries().step_by(QUERIES / ASKED).enumerate() {
        let marked = marked(set, query, relation, passing, number);
        for (place, way) in [Way::Planned, Way::Graph, Way::Exact].into_iter().enumerate() {
            let asked = Query { way, filter: Some(Filter::Slots(&marked)), ..Query::new(query, K) };
            // Twice: the second finds the caches as a busy server has them.
            view.search(asked)?;
            let begun = Instant::now();
            let answer = view.search(asked)?;
            times[place].push(begun.elapsed().as_secs_f64() * 1e6);
            if way == Way::Planned {
                plans.push(answer.explained.plan.name());
            }
            found[place].push(answer.hits);
        }
    }
    let [planned, walk, scan] = times.map(median);
    let count = |name: &str| plans.iter().filter(|plan| **plan == name).count();
    let chosen = format!("{} scans, {} walks, {} given up", count("scan"), count("traverse"), count("abandoned"));
    let recall = share(&found[0], &found[2]);
    let ratio = planned / walk.min(scan);
    Ok(format!("{planned:.0} us ({chosen}), {ratio:.2} x; walk {walk:.0}, exact scan {scan:.0}; recall {recall:.4}"))
}

/// Marks the slots that pass; slots were given out in the order of the rows.
fn marked(set: &Set, query: &[f32], relation: Relation, passing: f64, number: usize) -> Bitmap {
    let count = set.rows().count();
    let wanted = (count as f64 * passing) as usize;
    let mut order: Vec<(f32, u32)> = set
        .rows()
        .enumerate()
        .map(|(slot, vector)| match relation {
            Relation::Independent => (((slot * 2_654_435_761 + number * 97) % 1_000_003) as f32, slot as u32),
            Relation::Near => (-dot(query, vector), slot as u32),
            Relation::Far => (dot(query, vector), slot as u32),
        })
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order.into_iter().take(wanted).map(|(_, slot)| slot).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}
