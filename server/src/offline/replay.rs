//! Replay: what a service names, for rows of keys and times, from the event log. Training sets, snapshots and verification
//! are replays.
//!
//! Sealed files are sorted by entity: where that is the entity of a view, its events are read some buckets of keys at a time,
//! on all cores, when their keys are (`ranges`). All other events are gathered first, each view's in a pile. Lookups are
//! replays of their own, for the keys that came out.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tidemill_features::definitions::{Registry, Source, Stream, View};
use tidemill_features::read::Answer;
use tidemill_features::service::{Derivation, Keys, ReadPlan, ViewRead, encode_keys};
use tidemill_features::stream::Prepared;

use super::Visibility;
use super::asked::AskedKeys;
use super::event_log::{ALL_BUCKETS, EventLog, FileRange, Located};
use super::pile::{Pile, Piled};
use super::tables::{AllTables, TableRows};
use super::visibility::Sight;
use crate::failure::{Failure, Remedy};
use crate::place::shard_of;

/// The event log as reads of many moments see it.
pub struct Replay<'r> {
    /// the definitions
    pub registry: &'r Registry,
    /// the events that count
    pub log: &'r dyn EventLog,
    /// for temporary files
    pub folder: &'r Path,
    /// set when nobody waits for the result any more
    pub stop: &'r AtomicBool,
}

/// One view of a replay: whose features, and the events that are not read from files sorted by its entity.
pub(super) struct Gathered<'g> {
    pub read: &'g ViewRead,
    pub view: &'g View,
    pub stream: &'g Stream,
    pub source: &'g Source,
    pub keys: AskedKeys<'g>,
    pub pile: Pile<'g>,
    /// events in files sorted by the view's entity; None: not all of them are, and the pile has everything
    pub sorted: Option<u64>,
}

/// The rows of a replay: for whom, when.
pub(super) struct Wanted<'w> {
    pub keys: &'w Keys,
    pub times: &'w [i64],
    /// what each row sees, in the terms of `Sight`
    pub until: Vec<i64>,
    pub sight: Sight<'w>,
}

/// Takes an event of a key.
type Visit<'v> = dyn FnMut(&[u8], Piled<'_>) -> Result<(), Failure> + 'v;

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
        let mut gathered = Vec::with_capacity(plan.views.len());
        for (read, keys) in plan.views.iter().zip(&encoded) {
            gathered.extend(self.asked_for(read, keys));
        }
        let mut tables = self.tables_of(&gathered);
        let sight = Sight::new(visibility);
        self.gather(&mut gathered, &mut tables, &sight)?;
        let slots: Vec<Mutex<Vec<Answer>>> =
            (0..plan.slots).map(|_| Mutex::new(vec![Answer::unanswered(); keys.rows])).collect();
        let wanted = Wanted { keys, times, until: sight.until(times), sight };
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
        let mut outputs = Vec::with_capacity(plan.outputs.len());
        for (at, slot) in plan.outputs.iter().enumerate() {
            let again = plan.outputs[at + 1..].contains(slot);
            outputs.push(if again { slots[*slot].clone() } else { std::mem::take(&mut slots[*slot]) });
        }
        Ok(outputs)
    }

    fn asked_for<'g>(&'g self, read: &'g ViewRead, keys: &'g [Vec<u8>]) -> Option<Gathered<'g>> {
        let view = &*self.registry.views[read.view];
        let stream = view.stream.as_ref()?;
        let source = &*self.registry.sources[stream.source];
        let sorted = self.log.sorted_by(stream.source, &stream.key_columns);
        Some(Gathered { read, view, stream, source, keys: AskedKeys::of(keys), pile: Pile::new(self.folder), sorted })
    }

    /// The tables that the views join, still empty.
    fn tables_of<'t>(&'t self, gathered: &[Gathered<'_>]) -> AllTables<'t> {
        let mut tables = AllTables::new();
        for table in gathered.iter().flat_map(|gathered| &gathered.view.plan.joins).flat_map(|joins| &joins.tables) {
            if let Some(at) = self.registry.view(&table.view) {
                let view = &self.registry.views[at];
                tables.insert(table.view.clone(), TableRows::new(at, &view.name, &view.plan, self.log));
            }
        }
        tables
    }

    /// Events into piles, rows into tables.
    fn gather(
        &self,
        gathered: &mut [Gathered<'_>],
        tables: &mut AllTables<'_>,
        sight: &Sight<'_>,
    ) -> Result<(), Failure> {
        let views: Vec<&View> =
            tables.keys().filter_map(|name| Some(&*self.registry.views[self.registry.view(name)?])).collect();
        let tables_views: Vec<(&View, &Stream)> =
            views.iter().filter_map(|view| Some((*view, view.stream.as_ref()?))).collect();
        for gathered in gathered.iter_mut().filter(|gathered| gathered.sorted.is_none()) {
            let stream = gathered.stream;
            self.read_files(stream, &mut |located| self.pile(gathered, located, sight))?;
        }
        for (view, stream) in &tables_views {
            let Some(rows) = tables.get_mut(&view.name) else { continue };
            self.read_files(stream, &mut |located| self.put_rows((view, stream), rows, located, sight))?;
        }
        let mut sources: Vec<usize> = gathered.iter().map(|gathered| gathered.stream.source).collect();
        sources.extend(tables_views.iter().map(|(_, stream)| stream.source));
        sources.sort_unstable();
        sources.dedup();
        self.log.read_rest(&sources, &mut |source, located| {
            for gathered in gathered.iter_mut().filter(|gathered| gathered.stream.source == source) {
                self.pile(gathered, &located, sight)?;
            }
            for (view, stream) in tables_views.iter().filter(|(_, stream)| stream.source == source) {
                let Some(rows) = tables.get_mut(&view.name) else { continue };
                self.put_rows((view, stream), rows, &located, sight)?;
            }
            Ok(())
        })
    }

    /// All events in files that a view reads.
    fn read_files(
        &self,
        stream: &Stream,
        visit: &mut dyn FnMut(&Located) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let columns = stream.columns_read(&self.registry.sources[stream.source]);
        let (source, key) = (stream.source, &stream.key_columns[..]);
        let range = FileRange { source, key, columns: &columns, buckets: ALL_BUCKETS };
        self.log.read_files(&range, &mut |located| visit(&located))
    }

    fn pile(&self, gathered: &mut Gathered<'_>, located: &Located, sight: &Sight<'_>) -> Result<(), Failure> {
        let Gathered { view, stream, keys, pile, .. } = gathered;
        self.each_event((view, stream), located, sight, &|key| keys.number(key).is_some(), &mut |key, mut piled| {
            piled.key = keys.number(key).unwrap_or_default();
            pile.push(shard_of(key), &piled)
        })
    }

    fn put_rows(
        &self,
        of: (&View, &Stream),
        rows: &mut TableRows<'_>,
        located: &Located,
        sight: &Sight<'_>,
    ) -> Result<(), Failure> {
        self.each_event(of, located, sight, &|_| true, &mut |key, piled| rows.push(key, &piled))
    }

    fn each_event(
        &self,
        (view, stream): (&View, &Stream),
        Located { batch, places }: &Located,
        sight: &Sight<'_>,
        is_wanted: &dyn Fn(&[u8]) -> bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), Failure> {
        self.go_on()?;
        let source = &self.registry.sources[stream.source];
        let seen_from = sight.of_batch(stream.source, source, batch);
        let prepared = Prepared::of_keys(view, stream, source, batch, is_wanted);
        for (row, visible_from) in seen_from.into_iter().enumerate() {
            let Some(key) = prepared.key(row) else { continue };
            visit(key, Piled { key: 0, event: prepared.incoming(row), visible_from, place: places[row] })?;
        }
        Ok(())
    }

    /// An error once nobody waits for the result any more.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Failure::new(Remedy::Unavailable, "E3023", "the job was stopped")),
            false => Ok(()),
        }
    }
}
