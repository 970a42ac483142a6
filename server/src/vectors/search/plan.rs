//! Scan or walk: which is faster depends on how many vectors pass the filter.
//!
//! A walk looks at some multiple of `ef` vectors, more if few of those near the query pass; a scan at each that passes, but one
//! after the other in memory. How many pass near the query is another question than how many pass: what passes may lie all around
//! the query, or far from it. So the planner goes down to where a walk would begin, which costs little, and asks the rows around.
//! They are few, so a walk has a budget as well: where it is used up, a scan follows, and the loss is bounded.

use serde::Serialize;

use super::found::Search;
use super::scan::WHOLE;
use super::{Asked, Candidate, Way};
use crate::failure::Failure;
use crate::vectors::filter::Filter;
use crate::vectors::graph::{Space, Start};
use crate::vectors::segment::{Body, Segment};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// every vector that passes was compared
    #[default]
    Scan,
    /// the graph was walked
    Traverse,
    /// the graph was walked, and given up for a scan
    Abandoned,
}

impl Plan {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Plan::Scan => "scan",
            Plan::Traverse => "traverse",
            Plan::Abandoned => "abandoned",
        }
    }
}

/// How an answer was found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Explained {
    /// what was done
    pub plan: Plan,
    /// vectors that were thought to pass
    pub estimated: usize,
    /// vectors that were scored
    pub candidates: usize,
    /// distances that were computed to find them
    pub distances: usize,
}

/// Vectors that a filter is tried on, to estimate how many pass.
const SAMPLES: usize = 128;
/// A walk without a filter takes as long as a scan of so many rows, for each candidate that it keeps. Measured on two sets it was
/// 21 to 36, with any filter.
const SCANNED_PER_CANDIDATE: usize = 28;
/// It computes some 13 to 20 distances for each, and more than these only where the look around was deceived.
const BUDGET_PER_CANDIDATE: usize = 40;
/// A distance of a walk takes as long as so many of a scan, at least.
const SCANNED_PER_DISTANCE: usize = 2;
/// How many of the rows around weigh as much as the share of all.
const WEIGHT_OF_ALL: f64 = 1.0;

/// Rows among which are the nearest of all, with their scores.
pub fn candidates<'a>(asked: &Asked<'a>, explained: &mut Explained) -> Result<Vec<Candidate<'a>>, Failure> {
    let view = asked.view;
    explained.estimated = estimate(asked);
    let exact = asked.query.way == Way::Exact;
    let mut search = Search::new(asked, explained);
    if let Some(sealed) = view.sealed.as_deref() {
        match sealed.body.as_ref().filter(|_| !exact) {
            Some(body) => of_graph(&mut search, sealed, body)?,
            None => search.scan(sealed, &WHOLE)?,
        }
    }
    // After the sealed segment: of what is fresh, little is as near as the nearest there.
    for chunk in &view.fresh {
        let codes = chunk.short.as_ref().filter(|_| !exact);
        search.scan(chunk, codes.unwrap_or(&WHOLE))?;
    }
    Ok(search.finish())
}

fn of_graph<'a>(search: &mut Search<'_, 'a>, sealed: &'a Segment, body: &'a Body) -> Result<(), Failure> {
    let (asked, view) = (search.asked, search.asked.view);
    let k = asked.query.k;
    // Codes blur the order: a few more candidates than neighbours make up for it.
    let ef = asked.query.ef.or(view.options.ef_search).unwrap_or(body.ef).max(k + k / 4);
    let passing = search.explained.estimated * sealed.live() / view.live.max(1);
    let planned = asked.query.way == Way::Planned;
    let filtered = asked.query.filter.is_some();
    // No walk is faster than that.
    if planned && passing <= SCANNED_PER_CANDIDATE * ef {
        return search.scan(sealed, &body.codes);
    }
    search.prepare(&body.codes);
    let space = Space {
        metric: view.metric,
        codes: &body.codes,
        vectors: sealed.vectors.cells(),
        count: sealed.count(),
        tails: &[],
    };
    let Some(start) = body.graph.start(space, &mut search.scratch) else { return Ok(()) };
    let here = passing_here(asked, (sealed, body), start, passing);
    if planned && passing as f64 * here <= (SCANNED_PER_CANDIDATE * ef) as f64 {
        return search.scan(sealed, &body.codes);
    }
    let enough = (BUDGET_PER_CANDIDATE * ef) as f64 / here;
    let budget = if planned { (passing / SCANNED_PER_DISTANCE).min(enough as usize) } else { usize::MAX };
    let plain = !filtered && asked.excluded.is_empty() && sealed.live() == sealed.count();
    let walked = match plain {
        true => body.graph.search_from(start, space, &mut search.scratch, (ef, budget), |_| true),
        false => {
            let passes = |row| asked.passes(sealed, row);
            body.graph.search_from(start, space, &mut search.scratch, (ef, budget), passes)
        }
    };
    search.explained.distances += walked.distances;
    if walked.abandoned || search.scratch.pool.passing() < k {
        search.explained.plan = Plan::Abandoned;
        return search.scan(sealed, &body.codes);
    }
    search.explained.plan = Plan::Traverse;
    let pool = std::mem::take(&mut search.scratch.pool);
    search.offer(sealed, &body.codes, pool.found())?;
    search.scratch.pool = pool;
    Ok(())
}

/// Which share of the rows near the query passes, about: those around the start of a walk tell.
fn passing_here(asked: &Asked, (sealed, body): (&Segment, &Body), start: Start, passing: usize) -> f64 {
    let share = passing as f64 / sealed.count().max(1) as f64;
    let (around, all) = match asked.query.filter {
        None => (0, 0),
        Some(_) => body.graph.passing_around(start, |row| asked.passes(sealed, row)),
    };
    (around as f64 + WEIGHT_OF_ALL * share) / (all as f64 + WEIGHT_OF_ALL)
}

/// About how many vectors pass.
fn estimate(asked: &Asked) -> usize {
    let view = asked.view;
    match asked.query.filter {
        None => view.live,
        Some(Filter::Slots(_)) => asked.marked.min(view.live),
        Some(Filter::Keys(_)) => {
            let rows: usize = view.segments().map(Segment::count).sum();
            let step = rows.div_ceil(SAMPLES).max(1);
            let (mut before, mut tried, mut passed) = (0usize, 0, 0);
            for segment in view.segments() {
                let first = before.next_multiple_of(step) - before;
                for row in (first..segment.count()).step_by(step) {
                    tried += 1;
                    passed += usize::from(asked.passes(segment, row as u32));
                }
                before += segment.count();
            }
            rows * passed / tried.max(1)
        }
    }
}
