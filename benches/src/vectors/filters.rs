//! Searches under filters: what the planner chose, and what the other ways would have cost.

use std::time::Instant;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemill::vectors::{Bitmap, Filter, Hit, Query, View, Way};

use super::{K, QUERIES, Set, share};
use crate::row;

/// Queries of each case: each has filters of its own where they depend on it.
const ASKED: usize = 40;
/// Times that each is asked; the last one counts.
const ROUNDS: usize = 2;

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
    let queries: Vec<&[f32]> = set.queries().step_by(QUERIES / ASKED).collect();
    let marks = |(number, query): (usize, &&[f32])| marked(set, query, relation, passing, number);
    let marks: Vec<Bitmap> = queries.iter().enumerate().map(marks).collect();
    let mut plans = Vec::new();
    // Each way on its own, through all queries: so none finds the caches as another has left them, nor the same query again.
    let mut run = |way: Way| -> Result<(f64, Vec<Vec<Hit>>)> {
        let (mut times, mut found) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            times.clear();
            found.clear();
            plans.clear();
            for (query, marked) in queries.iter().zip(&marks) {
                let begun = Instant::now();
                let answer = view.search(Query { way, filter: Some(Filter::Slots(marked)), ..Query::new(query, K) })?;
                times.push(begun.elapsed().as_secs_f64() * 1e6);
                plans.push(answer.explained.plan.name());
                found.push(answer.hits);
            }
        }
        Ok((median(times), found))
    };
    let (walk, _) = run(Way::Graph)?;
    let (scan, truth) = run(Way::Exact)?;
    let (planned, found) = run(Way::Planned)?;
    let count = |name: &str| plans.iter().filter(|plan| **plan == name).count();
    let chosen = format!("{} scans, {} walks, {} given up", count("scan"), count("traverse"), count("abandoned"));
    let recall = share(&found, &truth);
    let ratio = planned / walk.min(scan);
    Ok(format!("{planned:.0} us ({chosen}), {ratio:.2} x; walk {walk:.0}, exact scan {scan:.0}; recall {recall:.4}"))
}

/// Marks the slots that pass; slots were given out in the order of the rows.
fn marked(set: &Set, query: &[f32], relation: Relation, passing: f64, number: usize) -> Bitmap {
    let count = set.rows().count();
    let wanted = (count as f64 * passing) as usize;
    let mut random = StdRng::seed_from_u64(number as u64);
    let mut order: Vec<(f32, u32)> = set
        .rows()
        .enumerate()
        .map(|(slot, vector)| match relation {
            Relation::Independent => (random.random::<f32>(), slot as u32),
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
