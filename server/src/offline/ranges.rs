//! Reading one view of a replay: range by range of its keys' buckets, on all cores. The events of a range come from the sorted
//! files and from the pile; each key's become a timeline, which is read at each of the key's rows.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::read::{Answer, Context, ReadError, TimelineBuilder};
use tidemill_features::record::Incoming;
use tidemill_features::service::RequestRows;
use tidemill_features::stream::Prepared;

use super::asked::grouped;
use super::event_log::{ALL_BUCKETS, FileRange, Located};
use super::pile::{Piled, read_event};
use super::replay::{Gathered, Replay, Wanted};
use super::tables::{AllTables, ReplayedTables};
use crate::failure::Failure;
use crate::limits::{REPLAY_EVENTS, SHARDS};
use crate::place::LogPlace;

/// Ranges at least, so that the cores are done at about the same time.
const RANGES_MIN: u64 = 8;
/// For so few keys only their own buckets are read; for more, the pages at both ends of so many ranges would cost too much.
const FEW_KEYS: u32 = 32;

/// What was read for some rows.
#[derive(Default)]
struct Found {
    rows: Vec<u32>,
    /// all features of the first row, then all of the next
    answers: Vec<Answer>,
}

/// Events of the keys of a range. Those from files stay columns until they are asked for.
struct Events<'e> {
    /// batches with what the view makes of them, and from when on each event is seen
    files: Vec<(Prepared<'e>, &'e [LogPlace], Vec<i64>)>,
    piled: Vec<Piled<'e>>,
    /// which events there are: batch (one too high for the piled) and row
    all: Vec<(u32, u32)>,
    /// by event: the number of its key, from the first of the range on
    keys: Vec<u32>,
}

impl Replay<'_> {
    /// Reads one view for all rows.
    pub(super) fn read_view(
        &self,
        gathered: &Gathered<'_>,
        tables: &AllTables<'_>,
        wanted: &Wanted<'_>,
        slots: &[Mutex<Vec<Answer>>],
    ) -> Result<(), Failure> {
        let request = RequestRows::of(self.registry, gathered.read, wanted.keys, wanted.times);
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let events = gathered.sorted.unwrap_or(0) + gathered.pile.events;
        let usual = (events / REPLAY_EVENTS).clamp(RANGES_MIN, SHARDS as u64) as usize;
        let count = if gathered.keys.of_buckets(&ALL_BUCKETS).end <= FEW_KEYS { SHARDS } else { usual };
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Failure> {
            let prepared = request.as_ref().and_then(|rows| rows.prepare(self.registry));
            let tables = ReplayedTables::new(tables);
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return Ok(());
                }
                self.go_on()?;
                let buckets = (at * SHARDS / count) as u8..=((at + 1) * SHARDS / count - 1) as u8;
                let found = self.read_range(gathered, buckets, &tables, prepared.as_ref(), wanted)?;
                let mut columns: Vec<_> = gathered.read.slots.iter().map(|slot| slots[*slot].lock()).collect();
                let mut answers = found.answers.into_iter();
                for row in found.rows {
                    for (column, answer) in columns.iter_mut().zip(answers.by_ref()) {
                        column[row as usize] = answer;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let panicked = |_| Err(Failure::internal("E3022", "a thread of the replay panicked"));
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(panicked))
        })
    }

    /// Reads all rows of the keys of some buckets.
    fn read_range(
        &self,
        gathered: &Gathered<'_>,
        buckets: RangeInclusive<u8>,
        tables: &ReplayedTables<'_>,
        request: Option<&Prepared<'_>>,
        wanted: &Wanted<'_>,
    ) -> Result<Found, Failure> {
        let numbers = gathered.keys.of_buckets(&buckets);
        let mut found = Found::default();
        if numbers.is_empty() {
            return Ok(found);
        }
        let located = self.located(gathered, &buckets)?;
        let bytes: Vec<Vec<u8>> =
            buckets.map(|bucket| gathered.pile.load(usize::from(bucket))).collect::<Result<_, _>>()?;
        let events = Events::of(gathered, numbers.start, &located, &bytes, wanted)?;
        let plan = &gathered.view.plan;
        let (starts, places) = grouped(events.keys.iter().copied(), numbers.len());
        for number in numbers.clone() {
            let rows = gathered.keys.rows(number);
            let at = (number - numbers.start) as usize;
            let mut of_key: Vec<(u32, u32)> =
                places[starts[at] as usize..starts[at + 1] as usize].iter().map(|e| events.all[*e as usize]).collect();
            // What became of an event depends on the order of the log only where duplicates are dropped.
            if plan.dedup.is_some() {
                of_key.sort_by_key(|event| events.log_order(*event));
            }
            let missing = self.log.missing(gathered.read.view, gathered.keys.key(number));
            let mut builder = TimelineBuilder::without(plan, missing);
            for event in of_key {
                let (incoming, visible_from) = events.get(event);
                builder.push(&incoming, visible_from).map_err(broken)?;
            }
            let timeline = builder.finish(rows.len()).map_err(broken)?;
            for row in rows {
                let (time, until) = (wanted.times[*row as usize], wanted.until[*row as usize]);
                let tables = tables.until(until);
                let body = request.and_then(|prepared| RequestRows::body(prepared, *row as usize));
                let context = Context { tables: &tables, request: body.map(|body| (time, body)) };
                let read = timeline.read(&context, &gathered.read.features, time, until, &mut found.answers);
                read.map_err(|e: ReadError| Failure::internal("E3024", e.to_string()))?;
                found.rows.push(*row);
            }
        }
        Ok(found)
    }

    /// The events of some buckets in files sorted by the view's entity.
    fn located(&self, gathered: &Gathered<'_>, buckets: &RangeInclusive<u8>) -> Result<Vec<Located>, Failure> {
        let mut located = Vec::new();
        if gathered.sorted.is_some_and(|events| events > 0) {
            let columns = gathered.stream.columns_read(gathered.source);
            let (source, key) = (gathered.stream.source, &gathered.stream.key_columns[..]);
            let range = FileRange { source, key, columns: &columns, buckets: buckets.clone() };
            self.log.read_files(&range, &mut |part| {
                self.go_on()?;
                located.push(part);
                Ok(())
            })?;
        }
        Ok(located)
    }
}

impl<'e> Events<'e> {
    fn of(
        gathered: &'e Gathered<'_>,
        first: u32,
        located: &'e [Located],
        bytes: &'e [Vec<u8>],
        wanted: &Wanted<'_>,
    ) -> Result<Self, Failure> {
        let Gathered { view, stream, source, keys, .. } = gathered;
        let mut events = Events { files: Vec::new(), piled: Vec::new(), all: Vec::new(), keys: Vec::new() };
        for Located { batch, places } in located {
            let prepared = Prepared::of_keys(view, stream, source, batch, &|key| keys.number(key).is_some());
            let (part, mut last) = (events.files.len() as u32, (&[][..], None));
            for row in 0..batch.len() {
                let Some(key) = prepared.key(row) else { continue };
                if key != last.0 {
                    last = (key, keys.number(key));
                }
                if let Some(number) = last.1 {
                    events.all.push((part, row as u32));
                    events.keys.push(number - first);
                }
            }
            let seen_from = wanted.sight.of_batch(stream.source, source, batch);
            events.files.push((prepared, places, seen_from));
        }
        let part = events.files.len() as u32;
        for bytes in bytes {
            let mut cursor = Cursor::new(bytes);
            while !cursor.is_empty() {
                let piled = read_event(&view.plan, &mut cursor).map_err(broken)?;
                events.all.push((part, events.piled.len() as u32));
                events.keys.push(piled.key - first);
                events.piled.push(piled);
            }
        }
        Ok(events)
    }

    /// An event, and from when on it is seen.
    fn get(&self, (part, row): (u32, u32)) -> (Incoming<'_>, i64) {
        let row = row as usize;
        match self.files.get(part as usize) {
            Some((prepared, _, seen_from)) => (prepared.incoming(row), seen_from[row]),
            None => (self.piled[row].event.clone(), self.piled[row].visible_from),
        }
    }

    fn log_order(&self, (part, row): (u32, u32)) -> (LogPlace, u64) {
        let row = row as usize;
        match self.files.get(part as usize) {
            Some((prepared, places, _)) => (places[row], prepared.incoming(row).order.offset),
            None => (self.piled[row].place, self.piled[row].event.order.offset),
        }
    }
}

fn broken(_: Damaged) -> Failure {
    Failure::internal("E3020", "a temporary file of the replay is damaged")
}
