//! Searches while vectors are replaced at 2,000 a second, with upkeep in the background.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tidemill::vectors::{Change, Hit, Index, Query, Way};

use super::{K, Set, share, thread_cpu};
use crate::row;

const UPSERTS_PER_SECOND: usize = 2_000;
/// Upserts of one write.
const BATCH: usize = 20;

/// Searches for so long, at rest and beside writes.
pub fn run(of: &str, index: &Index, set: &Set) -> Result<()> {
    let span = Duration::from_secs_f64(match std::env::var("TIDEMILL_BENCH_CHURN_SECONDS") {
        Ok(text) => text.parse()?,
        Err(_) => 10.0,
    });
    let rest = searched(index, set, span)?;
    let over = AtomicBool::new(false);
    let written = AtomicUsize::new(0);
    let mut busy = Searched::default();
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| write(index, set, &over, &written));
        scope.spawn(|| {
            tidemill::background::comes_last();
            while !over.load(Ordering::Relaxed) {
                if !index.upkeep(1).unwrap_or(false) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let found = searched(index, set, span);
        over.store(true, Ordering::Relaxed);
        busy = found?;
        Ok(())
    })?;
    let shown = |searched: &Searched| {
        let Searched { p50, p99, cpu, recall } = searched;
        format!("p50 {p50:.0} us, p99 {p99:.0} us, {cpu:.0} us of CPU, recall {recall:.4}")
    };
    let rate = written.load(Ordering::Relaxed) as f64 / span.as_secs_f64();
    row(&format!("{of}: searches at rest"), &shown(&rest), "-");
    let figures = format!("{}; p99 {:.2} x, CPU {:.2} x", shown(&busy), busy.p99 / rest.p99, busy.cpu / rest.cpu);
    row(&format!("{of}: searches beside {rate:.0} upserts a second"), &figures, "2.0 x, recall 0.95");
    Ok(())
}

#[derive(Default)]
struct Searched {
    p50: f64,
    p99: f64,
    cpu: f64,
    recall: f64,
}

fn searched(index: &Index, set: &Set, span: Duration) -> Result<Searched> {
    let (mut times, mut cpu) = (Vec::new(), 0.0);
    let (mut found, mut truth): (Vec<Vec<Hit>>, Vec<Vec<Hit>>) = Default::default();
    let end = Instant::now() + span;
    for (number, query) in set.queries().cycle().enumerate() {
        if Instant::now() >= end {
            break;
        }
        let (begun, before) = (Instant::now(), thread_cpu()?);
        let answer = index.search(Query::new(query, K))?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        cpu += thread_cpu()? - before;
        if number % 50 == 0 {
            // Both ways of one view: the same moment.
            let view = index.view();
            found.push(view.search(Query::new(query, K))?.hits);
            truth.push(view.search(Query { way: Way::Exact, ..Query::new(query, K) })?.hits);
        }
        drop(answer);
    }
    let count = times.len();
    times.sort_by(f64::total_cmp);
    let recall = share(&found, &truth);
    Ok(Searched { p50: times[count / 2], p99: times[count * 99 / 100], cpu: cpu / count as f64 * 1e6, recall })
}

/// Gives keys the vectors of their neighbours in the file, at a fixed rate.
fn write(index: &Index, set: &Set, over: &AtomicBool, written: &AtomicUsize) {
    let vectors: Vec<&[f32]> = set.rows().collect();
    let begun = Instant::now();
    let mut next = 0;
    while !over.load(Ordering::Relaxed) {
        let due = begun + Duration::from_secs_f64(next as f64 / UPSERTS_PER_SECOND as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let keys: Vec<usize> = (next..next + BATCH).map(|number| number * 7919 % vectors.len()).collect();
        let names: Vec<[u8; 4]> = keys.iter().map(|key| (*key as u32).to_be_bytes()).collect();
        let vector = |key: &usize| vectors[(key + next / vectors.len() + 1) % vectors.len()];
        let pairs = names.iter().zip(&keys);
        let changes: Vec<Change> = pairs.map(|(name, key)| Change::Upsert { key: name, vector: vector(key) }).collect();
        if index.write(&changes).is_ok() {
            written.fetch_add(BATCH, Ordering::Relaxed);
        }
        next += BATCH;
    }
}
