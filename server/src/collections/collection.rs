//! One collection: an index, what may be filtered on, and rows that stand from a later time on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockWriteGuard};
use tidemill_features::definitions::{Embedding, Metric as Declared, Registry, RowsIn as DeclaredRows};
use tidemill_features::read::{Standing, Stored, standing};
use tidemill_features::value::Value;

use super::attributes::Attributes;
use super::ordered::ordered;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::limits::COLLECTION_WRITE_ROWS;
use crate::online::{Records, State};
use crate::vectors::{Change, Expected, Index, IndexOptions, Metric, RowsIn, View};

/// See above.
#[derive(Debug)]
pub struct Collection {
    /// place of the embedding in the registry's list of views
    view: usize,
    /// what its records are: of other ones a file of the index is of no use
    definition: u64,
    dims: usize,
    metric: Metric,
    options: IndexOptions,
    /// for vectors on the disk
    folder: PathBuf,
    contents: RwLock<Contents>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) index: Arc<Index>,
    /// by slot of the index; none where an embedding declares none
    attributes: Attributes,
    /// times behind which another row of a key stands
    ahead: BTreeSet<(i64, Box<[u8]>)>,
}

/// A collection as it is at one T. Nothing waits for it: what is written later is not in it.
pub struct Opened {
    /// T
    pub time: i64,
    /// the index
    pub view: Arc<View>,
    /// by slot of the index
    pub attributes: Attributes,
}

/// The metric of a definition.
pub fn metric_of(declared: Declared) -> Metric {
    match declared {
        Declared::Cosine => Metric::Cosine,
        Declared::Dot => Metric::Dot,
        Declared::L2 => Metric::L2,
    }
}

impl Collection {
    pub(super) fn new(registry: &Registry, embedding: &Embedding, folder: &Path) -> Result<Self, Failure> {
        let usual = IndexOptions::default();
        let shape = embedding.index;
        let m = shape.m.unwrap_or(usual.m);
        let options = IndexOptions {
            m,
            ef_construction: shape.ef_construction.unwrap_or(usual.ef_construction.max(m)),
            ef_search: shape.ef_search,
            exact_below: shape.exact_below.unwrap_or(usual.exact_below),
            rows: match shape.rows {
                Some(DeclaredRows::Disk) => RowsIn::Disk,
                Some(DeclaredRows::Memory) | None => RowsIn::Memory,
            },
        };
        let (dims, metric) = (embedding.vector.dims, metric_of(embedding.vector.metric));
        let folder = folder.to_path_buf();
        let contents = RwLock::new(Contents::new(Index::new(dims, metric, options)?.beside(Some(&folder))));
        let (view, definition) = (embedding.view, registry.views[embedding.view].plan.hash);
        Ok(Collection { view, definition, dims, metric, options, folder, contents })
    }

    /// An empty index of this shape.
    pub(super) fn contents(&self) -> Result<Contents, Failure> {
        Ok(Contents::new(Index::new(self.dims, self.metric, self.options)?.beside(Some(&self.folder))))
    }

    /// Bytes of the attributes.
    pub fn attribute_bytes(&self) -> usize {
        self.contents.read().attributes.bytes()
    }

    /// What its records are.
    pub(super) fn definition(&self) -> u64 {
        self.definition
    }

    /// What a file of the index must be.
    pub(super) fn expected(&self) -> Expected {
        let Collection { dims, metric, options, definition, .. } = *self;
        Expected { dims, metric, options, sequence: definition }
    }

    /// Puts other contents in place; gives back what was there.
    pub(super) fn replace(&self, contents: Contents) -> Contents {
        std::mem::replace(&mut self.contents.write(), contents)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write()
    }

    /// The index, for whoever looks after it.
    pub fn index(&self) -> Arc<Index> {
        self.contents.read().index.clone()
    }

    /// Place of its view in the registry.
    pub(super) fn view(&self) -> usize {
        self.view
    }

    /// The collection at T, which is taken from the clock now; the gate to the records is open, so nothing is published
    /// meanwhile.
    pub fn open(&self, registry: &Registry, state: &State, clock: &Clock) -> Result<Opened, Failure> {
        loop {
            if let Some(opened) = self.opened(clock) {
                return Ok(opened);
            }
            let (mut contents, time) = (self.contents.write(), clock.now());
            let row = |key: Box<[u8]>| stands(registry, self.view, state, &key, time).map(|found| (key, found));
            let rows = contents.due(time).into_iter().map(row).collect::<Result<Vec<_>, Failure>>()?;
            contents.take(registry, self.view, rows)?;
            contents.forget_due(time);
        }
    }

    /// The collection as it is now; None: rows are due.
    pub(super) fn opened(&self, clock: &Clock) -> Option<Opened> {
        let contents = self.contents.read();
        let time = clock.now();
        let opened = || Opened { time, view: contents.index.view(), attributes: contents.attributes.clone() };
        (!contents.is_due(time)).then(opened)
    }
}

impl Contents {
    fn new(index: Index) -> Self {
        Contents { index: Arc::new(index), attributes: Attributes::default(), ahead: BTreeSet::new() }
    }

    fn is_due(&self, time: i64) -> bool {
        self.ahead.first().is_some_and(|(first, _)| *first < time)
    }

    /// Keys of rows that stand since the last time.
    pub(super) fn due(&self, time: i64) -> Vec<Box<[u8]>> {
        let due = self.ahead.iter().take_while(|(ahead, _)| *ahead < time);
        let mut keys: Vec<Box<[u8]>> = due.map(|(_, key)| key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// These rows are in.
    pub(super) fn forget_due(&mut self, time: i64) {
        while self.is_due(time) {
            self.ahead.pop_first();
        }
    }

    /// Takes in what stands for some keys, once for each.
    pub(super) fn take(
        &mut self,
        registry: &Registry,
        view: usize,
        rows: Vec<(Box<[u8]>, Standing)>,
    ) -> Result<(), Failure> {
        let embedding = registry.embeddings.iter().find(|embedding| embedding.view == view);
        let rule = &embedding.ok_or_else(damaged)?.vector;
        let plan = &registry.views[view].plan;
        let input = |feature: usize| plan.cells[plan.features[feature].cell].input.unwrap_or(0);
        for part in rows.chunks(COLLECTION_WRITE_ROWS) {
            // What does not fit was let through by earlier definitions: a view has no row for it.
            let vector = |row: &Vec<Value<'static>>| rule.read(&row[input(0)]).ok().flatten();
            let vectors: Vec<Option<Vec<f32>>> =
                part.iter().map(|(_, found)| found.row.as_ref().and_then(vector)).collect();
            let columns = &registry.views[view].keys;
            let keys = part.iter().map(|(key, _)| ordered(columns, key).map_err(|_| damaged()));
            let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
            // What is the same already would only be another dead row: attributes change more often than vectors.
            let same: Vec<Option<u32>> = keys
                .iter()
                .zip(&vectors)
                .map(|(key, vector)| self.index.slot_of_same(key, vector.as_deref()))
                .collect();
            let changed = keys.iter().zip(&vectors).zip(&same).filter(|(_, same)| same.is_none());
            let changes: Vec<Change<'_>> = changed
                .map(|((key, vector), _)| match vector {
                    Some(vector) => Change::Upsert { key, vector },
                    None => Change::Delete { key },
                })
                .collect();
            let written = if changes.is_empty() { Vec::new() } else { self.index.write(&changes)? };
            let mut written = written.into_iter();
            let slots = same.into_iter().map(|same| same.or_else(|| written.next().flatten()));
            for (((key, found), vector), slot) in part.iter().zip(&vectors).zip(slots) {
                if let (Some(_), Some(row), Some(slot)) = (vector, &found.row, slot)
                    && plan.features.len() > 1
                {
                    let attributes = (1..plan.features.len()).map(|feature| row[input(feature)].clone());
                    self.attributes.set(slot, attributes.collect());
                }
                self.ahead.extend(found.ahead.iter().map(|time| (*time, key.clone())));
            }
        }
        Ok(())
    }
}

pub(super) fn damaged() -> Failure {
    Failure::internal("E2020", "a record is damaged; the next start derives it from the log")
}

/// What stands in the record of a key.
pub(super) fn stands<R: Records>(
    registry: &Registry,
    view: usize,
    records: &R,
    key: &[u8],
    time: i64,
) -> Result<Standing, Failure> {
    let nodes = records.chunks(view, key);
    let stored = Stored { record: records.record(view, key), nodes: &nodes };
    standing(&registry.views[view].plan, stored, time).map_err(|_| damaged())
}
