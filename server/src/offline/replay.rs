//! Replay: what a service names, for rows of keys and times, from the event log. Training sets, snapshots and verification
//! are replays.
//!
//! One walk over the log gathers the events of all keys that are asked for; then, bucket by bucket and on all cores, each
//! key's events become a timeline that is read at each of its rows. Lookups are replays of their own, for the keys that came
//! out.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::definitions::{Registry, View};
use tidemill_features::read::{Answer, Context, Missing, ReadError, TimelineBuilder};
use tidemill_features::service::{Derivation, Keys, ReadPlan, RequestRows, ViewRead, encode_keys};
use tidemill_features::stream::{EventBatch, Prepared};

use super::Visibility;
use super::pile::{Pile, Piled, read_event};
use super::tables::{AllTables, ReplayedTables, TableRows};
use super::visibility::Sight;
use crate::failure::Failure;

/// Calls back with each batch of some sources (by their places in the registry), in the order of the log.
pub type Walk<'w> =
    dyn Fn(&[usize], &mut dyn FnMut(usize, &EventBatch) -> Result<(), Failure>) -> Result<(), Failure> + Sync + 'w;

/// Tells where events of a key may be missing from the log, by the view's place in the registry. Asked after the walk.
pub type Gone<'w> = dyn Fn(usize, &[u8]) -> Option<Missing> + Sync + 'w;

/// The event log as reads of many moments see it.
pub struct Replay<'r> {
    /// the definitions
    pub registry: &'r Registry,
    /// goes over the log up to the positions that count
    pub walk: &'r Walk<'r>,
    /// what the log no longer has
    pub gone: &'r Gone<'r>,
    /// for temporary files
    pub folder: &'r Path,
    /// set when nobody waits for the result any more
    pub stop: &'r AtomicBool,
}

/// Takes an event of a key.
type Visit<'v> = dyn FnMut(&[u8], Piled<'_>) -> Result<(), Failure> + 'v;

/// The events of one view's keys, and which rows ask for each key.
struct Gathered<'g> {
    read: &'g ViewRead,
    view: &'g View,
    numbers: HashMap<&'g [u8], u32>,
    /// by number
    keys: Vec<&'g [u8]>,
    /// by number of the key
    rows: Vec<Vec<u32>>,
    pile: Pile<'g>,
}

/// The rows of a replay: for whom, when.
struct Wanted<'w> {
    keys: &'w Keys,
    times: &'w [i64],
    /// what each row sees, in the terms of `Sight`
    until: &'w [i64],
    gone: &'w Gone<'w>,
}

impl Replay<'_> {
    /// Reads the plan's features for rows of keys, each at its own T; by output, then row.
    pub fn read(
        &self,
        plan: &ReadPlan,
        keys: &Keys,
        times: &[i64],
        visibility: &Visibility,
    ) -> Result<Vec<Vec<Answer>>, Failure> {
        let encoded = encode_keys(plan, keys)?;
        let mut gathered: Vec<Gathered<'_>> =
            plan.views.iter().zip(&encoded).map(|(read, keys)| self.asked_for(read, keys)).collect();
        let mut tables = self.tables_of(&gathered);
        let until = self.gather(&mut gathered, &mut tables, (times, visibility))?;
        let slots: Vec<Mutex<Vec<Answer>>> =
            (0..plan.slots).map(|_| Mutex::new(vec![Answer::unanswered(); keys.rows])).collect();
        let wanted = Wanted { keys, times, until: &until, gone: self.gone };
        for gathered in &gathered {
            self.read_view(gathered, &tables, &wanted, &slots)?;
        }
        let mut slots: Vec<Vec<Answer>> = slots.into_iter().map(Mutex::into_inner).collect();
        let errors = Cell::new(0);
        let derivation = Derivation { registry: self.registry, plan, keys, times, errors: &errors };
        derivation.compute(&mut slots, &mut |plan, keys, rows| {
            let times: Vec<i64> = rows.iter().map(|row| times[*row]).collect();
            let found = self.read(plan, keys, &times, &visibility.of_rows(rows))?;
            Ok::<_, Failure>(found.into_iter().flatten().collect())
        })?;
        Ok(plan.outputs.iter().map(|slot| slots[*slot].clone()).collect())
    }

    fn asked_for<'g>(&'g self, read: &'g ViewRead, keys: &'g [Vec<u8>]) -> Gathered<'g> {
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let mut by_number: Vec<&[u8]> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            let next = rows.len() as u32;
            let number = *numbers.entry(key).or_insert(next);
            if number == next {
                rows.push(Vec::new());
                by_number.push(key);
            }
            rows[number as usize].push(row as u32);
        }
        let (view, pile) = (&*self.registry.views[read.view], Pile::new(self.folder));
        Gathered { read, view, numbers, keys: by_number, rows, pile }
    }

    /// The tables that the views join, still empty.
    fn tables_of<'t>(&'t self, gathered: &[Gathered<'_>]) -> AllTables<'t> {
        let mut tables = AllTables::new();
        for table in gathered.iter().flat_map(|gathered| &gathered.view.plan.joins).flat_map(|joins| &joins.tables) {
            if let Some(at) = self.registry.view(&table.view) {
                let view = &self.registry.views[at];
                tables.insert(table.view.clone(), TableRows::new(at, &view.name, &view.plan, self.gone));
            }
        }
        tables
    }

    /// One walk over the log: events into piles, rows into tables. The result is what each row sees.
    fn gather(
        &self,
        gathered: &mut [Gathered<'_>],
        tables: &mut AllTables<'_>,
        (times, visibility): (&[i64], &Visibility),
    ) -> Result<Vec<i64>, Failure> {
        let mut sight = Sight::new(visibility);
        let source_of = |view: &View| view.stream.as_ref().map(|stream| stream.source);
        let table_views: Vec<&View> =
            tables.keys().filter_map(|name| Some(&*self.registry.views[self.registry.view(name)?])).collect();
        let mut sources: Vec<usize> = gathered.iter().filter_map(|g| source_of(g.view)).collect();
        sources.extend(table_views.iter().filter_map(|view| source_of(view)));
        sources.sort_unstable();
        sources.dedup();
        (self.walk)(&sources, &mut |source, batch| {
            self.go_on()?;
            let seen_from = sight.of_batch(source, &self.registry.sources[source], batch);
            for gathered in gathered.iter_mut().filter(|g| source_of(g.view) == Some(source)) {
                let Gathered { view, numbers, pile, .. } = gathered;
                self.each_event(
                    view,
                    (source, batch, &seen_from),
                    &|key| numbers.contains_key(key),
                    &mut |key, mut piled| {
                        piled.key = numbers.get(key).copied().unwrap_or_default();
                        pile.push(&piled)
                    },
                )?;
            }
            for view in table_views.iter().filter(|view| source_of(view) == Some(source)) {
                let Some(rows) = tables.get_mut(&view.name) else { continue };
                self.each_event(view, (source, batch, &seen_from), &|_| true, &mut |key, piled| {
                    rows.push(key, &piled)
                })?;
            }
            Ok(())
        })?;
        Ok(sight.until(times))
    }

    fn each_event(
        &self,
        view: &View,
        (at, batch, seen_from): (usize, &EventBatch, &[i64]),
        is_wanted: &dyn Fn(&[u8]) -> bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), Failure> {
        let (source, Some(stream)) = (&self.registry.sources[at], &view.stream) else { return Ok(()) };
        let prepared = Prepared::of_keys(view, stream, source, batch, is_wanted);
        for (row, visible_from) in seen_from.iter().copied().enumerate() {
            let Some(key) = prepared.key(row) else { continue };
            visit(key, Piled { key: 0, event: prepared.incoming(row), visible_from })?;
        }
        Ok(())
    }

    /// Reads one view for all rows, bucket by bucket, on all cores.
    fn read_view(
        &self,
        gathered: &Gathered<'_>,
        tables: &AllTables<'_>,
        wanted: &Wanted<'_>,
        slots: &[Mutex<Vec<Answer>>],
    ) -> Result<(), Failure> {
        let request = RequestRows::of(self.registry, gathered.read, wanted.keys, wanted.times);
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Failure> {
            let prepared = request.as_ref().and_then(|rows| rows.prepare(self.registry));
            let tables = ReplayedTables::new(tables);
            loop {
                let bucket = next.fetch_add(1, Ordering::Relaxed);
                if bucket >= gathered.pile.len() {
                    return Ok(());
                }
                self.go_on()?;
                let found = read_bucket(gathered, bucket, &tables, prepared.as_ref(), wanted)?;
                for (at, slot) in gathered.read.slots.iter().enumerate() {
                    let mut column = slots[*slot].lock();
                    for (row, answers) in &found {
                        column[*row as usize] = answers[at].clone();
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

    /// An error once nobody waits for the result any more.
    fn go_on(&self) -> Result<(), Failure> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Failure::new(crate::failure::Remedy::Unavailable, "E3023", "the job was stopped")),
            false => Ok(()),
        }
    }
}

/// Answers by row.
type Found = Vec<(u32, Vec<Answer>)>;

/// Reads all rows of the keys of one bucket.
fn read_bucket(
    gathered: &Gathered<'_>,
    bucket: usize,
    tables: &ReplayedTables<'_>,
    request: Option<&Prepared<'_>>,
    wanted: &Wanted<'_>,
) -> Result<Found, Failure> {
    let plan = &gathered.view.plan;
    let broken = |_: Damaged| Failure::internal("E3020", "a temporary file of the replay is damaged");
    let bytes = gathered.pile.load(bucket)?;
    let mut cursor = Cursor::new(&bytes);
    let mut events: Vec<Piled<'_>> = Vec::new();
    while !cursor.is_empty() {
        events.push(read_event(plan, &mut cursor).map_err(broken)?);
    }
    // Stable: the events of a key stay in the order of the log.
    events.sort_by_key(|piled| piled.key);
    let mut of_keys = events.chunk_by(|a, b| a.key == b.key).peekable();
    let mut found = Found::new();
    for number in (bucket..gathered.rows.len()).step_by(gathered.pile.len()) {
        let rows = &gathered.rows[number];
        let missing = (wanted.gone)(gathered.read.view, gathered.keys[number]);
        let mut builder = TimelineBuilder::without(plan, missing);
        if let Some(events) = of_keys.next_if(|events| events[0].key as usize == number) {
            for piled in events {
                builder.push(&piled.event, piled.visible_from).map_err(broken)?;
            }
        }
        let timeline = builder.finish(rows.len()).map_err(broken)?;
        for row in rows {
            let (time, until) = (wanted.times[*row as usize], wanted.until[*row as usize]);
            let tables = tables.until(until);
            let body = request.and_then(|prepared| RequestRows::body(prepared, *row as usize));
            let context = Context { tables: &tables, request: body.map(|body| (time, body)) };
            let mut answers = Vec::with_capacity(gathered.read.features.len());
            let read = timeline.read(&context, &gathered.read.features, time, until, &mut answers);
            read.map_err(|e: ReadError| Failure::internal("E3024", e.to_string()))?;
            found.push((*row, answers));
        }
    }
    Ok(found)
}
