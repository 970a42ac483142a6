//! Folding many events at once into the records of views that nobody reads yet, on several threads: first what the events are
//! to a view, batch by batch, then their records, by ranges of shards. The result is that of the applier, event by event.

use std::sync::Arc;

use hashbrown::HashSet;
use parking_lot::Mutex;
use tidemill_features::codec::Damaged;
use tidemill_features::definitions::Registry;
use tidemill_features::hash::hash_bytes;
use tidemill_features::plan::Plan;
use tidemill_features::record::{Fate, Incoming, NodeId, apply};
use tidemill_features::stream::{EventBatch, Prepared};

use super::keys::{Entry, each_key};
use super::walk::Round;
use crate::limits::SHARDS;
use crate::log::LogPlace;
use crate::online::{ChunkKey, RecordKey, Shard, ViewLedger, ViewState};
use crate::place::shard_of_hash;

/// Ranges of shards that are worked on side by side: a few for each thread, so that none waits long for the last one.
const PARTS: usize = 16;
const SHARDS_OF_PART: usize = SHARDS / PARTS;

/// A view whose state is being derived, in the hands of whoever derives it.
pub(super) struct Growing {
    /// place in the registry
    pub view: usize,
    /// of its definition
    pub hash: u64,
    /// of the version in the store
    pub id: u32,
    /// whether another state of the same definition serves meanwhile
    pub is_rebuild: bool,
    /// events of the log before this place are in its records
    pub applied_to: LogPlace,
    pub state: ViewState,
    /// by shard
    changed: Vec<Changed>,
    /// bytes of what has changed, about
    pub changed_bytes: u64,
}

/// What the store does not have yet.
#[derive(Default)]
struct Changed {
    records: HashSet<Box<[u8]>>,
    chunks: HashSet<(Box<[u8]>, NodeId)>,
}

/// Bytes that the store does not have yet, by the id of the version.
pub(super) type Changes = (Vec<(RecordKey, Box<[u8]>)>, Vec<(ChunkKey, Option<Arc<[u8]>>)>);

impl Growing {
    pub(super) fn new(view: usize, hash: u64, id: u32, applied_to: LogPlace, state: ViewState) -> Self {
        let changed = (0..SHARDS).map(|_| Changed::default()).collect();
        Growing { view, hash, id, is_rebuild: false, applied_to, state, changed, changed_bytes: 0 }
    }

    /// The same beside a state that serves.
    pub(super) fn anew(self) -> Self {
        Growing { is_rebuild: true, ..self }
    }

    /// Everything that has changed since this was asked before.
    pub(super) fn take_changes(&mut self) -> Changes {
        self.changed_bytes = 0;
        let (mut records, mut chunks) = Changes::default();
        for (shard, changed) in self.state.shards.iter().zip(&mut self.changed) {
            for key in changed.records.drain() {
                if let Some(record) = shard.record(&key) {
                    let record = record.into();
                    records.push(((self.id, key), record));
                }
            }
            for (key, id) in changed.chunks.drain() {
                let chunk = shard.chunk(&key, id).cloned();
                chunks.push(((self.id, key, id), chunk));
            }
        }
        (records, chunks)
    }
}

/// Folds a round into all views that have not seen it yet. Gives the number of expressions that could not be computed.
pub(super) fn fold(
    registry: &Registry,
    growing: &mut [Growing],
    round: &Round,
    threads: usize,
) -> Result<u64, Damaged> {
    let mut row_errors = 0;
    for view in growing {
        let source = registry.views[view.view].stream.as_ref().map(|stream| stream.source);
        let own = round.batches.iter().filter(|own| Some(own.source) == source && own.place >= view.applied_to);
        let batches: Vec<&EventBatch> = own.map(|own| &own.batch).collect();
        if !batches.is_empty() {
            row_errors += fold_view(registry, view, &batches, threads)?;
        }
        view.applied_to = view.applied_to.max(round.end);
    }
    Ok(row_errors)
}

/// A batch as the view sees it, and which of its rows are whose.
struct Routed<'b> {
    prepared: Prepared<'b>,
    /// by part: hash of the key, and the row
    rows: Vec<Vec<(u64, u32)>>,
    keyless: ViewLedger,
}

fn fold_view(
    registry: &Registry,
    growing: &mut Growing,
    batches: &[&EventBatch],
    threads: usize,
) -> Result<u64, Damaged> {
    let view = &registry.views[growing.view];
    let Some(stream) = &view.stream else { return Ok(0) };
    let source = &registry.sources[stream.source];
    let routed = side_by_side(threads, batches.chunks(batches.len().div_ceil(threads * 4)), |batches| {
        batches.iter().map(|batch| route(Prepared::new(view, stream, source, batch), batch)).collect::<Vec<_>>()
    });
    let routed: Vec<Routed<'_>> = routed.into_iter().flatten().collect();
    let shards = growing.state.shards.chunks_mut(SHARDS_OF_PART);
    let parts = shards.zip(growing.changed.chunks_mut(SHARDS_OF_PART)).enumerate();
    let folded = side_by_side(threads, parts, |(number, (shards, changed))| {
        let mut part = Part { shards, changed, ledger: ViewLedger::default(), bytes: 0 };
        part.fold(&view.plan, number, batches, &routed).map(|()| (part.ledger, part.bytes))
    });
    for part in folded {
        let (ledger, bytes) = part?;
        growing.state.ledger.add(&ledger);
        growing.changed_bytes += bytes;
    }
    routed.iter().for_each(|routed| growing.state.ledger.add(&routed.keyless));
    Ok(routed.iter().map(|routed| routed.prepared.row_errors).sum())
}

fn route<'b>(prepared: Prepared<'b>, batch: &EventBatch) -> Routed<'b> {
    let mut rows: Vec<Vec<(u64, u32)>> = vec![Vec::new(); PARTS];
    let mut keyless = ViewLedger::default();
    for row in 0..batch.len() {
        match prepared.key(row) {
            Some(key) => {
                let hash = hash_bytes(key);
                rows[shard_of_hash(hash) / SHARDS_OF_PART].push((hash, row as u32));
            }
            None => keyless.count(Fate::Keyless, batch.times[row]),
        }
    }
    Routed { prepared, rows, keyless }
}

/// Some shards of a view.
struct Part<'p> {
    shards: &'p mut [Shard],
    changed: &'p mut [Changed],
    ledger: ViewLedger,
    bytes: u64,
}

impl Part<'_> {
    fn fold(
        &mut self,
        plan: &Plan,
        number: usize,
        batches: &[&EventBatch],
        routed: &[Routed<'_>],
    ) -> Result<(), Damaged> {
        let of_batch = |(batch, routed): (usize, &Routed<'_>)| {
            routed.rows[number].iter().map(move |(hash, row)| (*hash, batch as u32, *row)).collect::<Vec<Entry>>()
        };
        let mut entries: Vec<Entry> = routed.iter().enumerate().flat_map(of_batch).collect();
        entries.sort_unstable();
        let key = |(_, batch, row): &Entry| routed[*batch as usize].prepared.key(*row as usize).unwrap_or_default();
        each_key(&entries, key, &mut |own| self.fold_entries(plan, own, batches, routed))
    }

    /// Folds the events of one key.
    fn fold_entries(
        &mut self,
        plan: &Plan,
        own: &[Entry],
        batches: &[&EventBatch],
        routed: &[Routed<'_>],
    ) -> Result<(), Damaged> {
        let prepared = |batch: u32| &routed[batch as usize].prepared;
        let events: Vec<_> = own.iter().map(|(_, batch, row)| prepared(*batch).incoming(*row as usize)).collect();
        let Some((hash, batch, row)) = own.first() else { return Ok(()) };
        let key = prepared(*batch).key(*row as usize).unwrap_or_default();
        let fates = self.fold_key(plan, *hash, key, &events)?;
        for (fate, (_, batch, row)) in fates.iter().zip(own) {
            self.ledger.count(*fate, batches[*batch as usize].times[*row as usize]);
        }
        Ok(())
    }

    fn fold_key(&mut self, plan: &Plan, hash: u64, key: &[u8], events: &[Incoming<'_>]) -> Result<Vec<Fate>, Damaged> {
        let shard = shard_of_hash(hash) % SHARDS_OF_PART;
        let (shard, changed) = (&mut self.shards[shard], &mut self.changed[shard]);
        let applied = apply(plan, shard.record_of(hash, key), events, &shard.chunks(key))?;
        if let Some(record) = applied.record {
            if !changed.records.contains(key) {
                changed.records.insert(key.into());
                self.bytes += (key.len() + record.len()) as u64;
            }
            shard.put_record(hash, key, &record, 0);
        }
        for (id, chunk) in applied.chunks {
            self.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            shard.put_chunk(key, id, chunk);
            changed.chunks.insert((key.into(), id));
        }
        Ok(applied.fates)
    }
}

/// Does tasks on several threads, one of them the caller's. Results come in the order of the tasks.
fn side_by_side<T: Send, R: Send>(
    threads: usize,
    tasks: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if threads <= 1 {
        return tasks.map(work).collect();
    }
    let tasks = Mutex::new(tasks.enumerate());
    let work_on = || {
        let mut done = Vec::new();
        loop {
            let next = tasks.lock().next();
            let Some((number, task)) = next else { return done };
            done.push((number, work(task)));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work_on)).collect();
        let mut done = work_on();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_tasks() {
        for threads in [1, 2, 5] {
            assert_eq!(side_by_side(threads, 0..100, |n| n * n), (0..100).map(|n| n * n).collect::<Vec<_>>());
        }
    }
}
