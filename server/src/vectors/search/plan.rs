//! Scan or walk: which is faster depends on how many vectors pass the filter.
//!
//! A walk looks at some multiple of `ef` vectors, more if few of them pass; a scan at each that passes, but one after the other
//! in memory. Measured on two sets, they cost the same where `passing = 8 sqrt(ef n)`. What passes may lie far from the query;
//! then a walk takes long to find it. So a walk has a budget of a fifth of the distances that a scan would compute, each of which
//! costs it some five times as much: where it is used up, a scan follows, and the loss is bounded to twice the time.

use serde::Serialize;

use super::{Asked, Candidate, Way, rank, scan};
use crate::failure::Failure;
use crate::vectors::filter::Filter;
use crate::vectors::graph::Space;
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

/// Rows among which are the nearest of all, with their scores.
pub fn candidates<'a>(asked: &Asked<'a>, explained: &mut Explained) -> Result<Vec<Candidate<'a>>, Failure> {
    let view = asked.view;
    explained.estimated = view.segments().map(|segment| estimate(asked, segment)).sum();
    let sealed = view.sealed.as_deref().and_then(|sealed| Some((sealed, sealed.body.as_ref()?)));
    let found = match sealed {
        Some((sealed, body)) if asked.query.way != Way::Exact => {
            let mut found = of_graph(asked, sealed, body, explained)?;
            let fresh: Vec<&Segment> = view.fresh.iter().map(|chunk| &**chunk).collect();
            found.extend(scan::exact(asked, &fresh, explained)?);
            found
        }
        _ => scan::exact(asked, &view.segments().collect::<Vec<_>>(), explained)?,
    };
    explained.candidates = found.len();
    Ok(found)
}

fn of_graph<'a>(
    asked: &Asked<'a>,
    sealed: &'a Segment,
    body: &Body,
    explained: &mut Explained,
) -> Result<Vec<Candidate<'a>>, Failure> {
    let view = asked.view;
    let k = asked.query.k;
    // Codes blur the order: a few more candidates than neighbours make up for it.
    let ef = asked.query.ef.unwrap_or(view.options.ef_search).max(k + k / 4);
    let passing = estimate(asked, sealed);
    let scan_pays = passing as f64 <= 8.0 * (ef as f64 * sealed.count() as f64).sqrt();
    if scan_pays && asked.query.way == Way::Planned {
        return scan::by_codes(asked, sealed, body, explained);
    }
    let budget = if asked.query.way == Way::Graph { usize::MAX } else { passing / 5 };
    let mut scratch = view.scratch.take();
    body.codes.query(&asked.vector, &mut scratch.query);
    let space = Space {
        metric: view.metric,
        codes: &body.codes,
        vectors: sealed.vectors.cells(),
        count: sealed.count(),
        tails: &[],
    };
    let plain = asked.query.filter.is_none() && asked.excluded.is_empty() && sealed.live() == sealed.count();
    let walked = match plain {
        true => body.graph.search(space, &mut scratch, ef, budget, |_| true),
        false => body.graph.search(space, &mut scratch, ef, budget, |row| asked.passes(sealed, row)),
    };
    explained.distances += walked.distances;
    explained.plan = if walked.abandoned { Plan::Abandoned } else { Plan::Traverse };
    let near = scratch.pool.found().take((2 * k).max(k + 16));
    let found = rank::best(asked, (sealed, body), &scratch.query, near)?;
    view.scratch.put(scratch);
    match walked.abandoned || found.len() < k {
        true => {
            explained.plan = Plan::Abandoned;
            scan::by_codes(asked, sealed, body, explained)
        }
        false => Ok(found),
    }
}

/// About how many rows of a segment pass.
fn estimate(asked: &Asked, segment: &Segment) -> usize {
    let live = segment.live();
    match asked.query.filter {
        None => live,
        Some(Filter::Slots(bitmap)) => {
            let all = asked.view.live.max(1);
            (bitmap.count() as f64 * (live as f64 / all as f64)) as usize
        }
        Some(Filter::Keys(_)) => {
            let step = segment.count().div_ceil(SAMPLES).max(1);
            let sampled = (0..segment.count() as u32).step_by(step);
            let (tried, passed) = sampled
                .fold((0, 0), |(tried, passed), row| (tried + 1, passed + usize::from(asked.passes(segment, row))));
            segment.count() * passed / tried.max(1)
        }
    }
}
