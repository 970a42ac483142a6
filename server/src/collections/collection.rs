//! One collection: an index, what may be filtered on, and entries that another one follows from a later time on.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tidemill_features::definitions::{Embedding, Metric as Declared, Registry, RowsIn as DeclaredRows};

use super::attributes::Attributes;
use super::entry::{Entries, Entry, Reading, damaged};
use super::ordered::{KeyColumns, ordered};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::limits::{COLLECTION_BEYOND_MAX, COLLECTION_WRITE_ROWS};
use crate::online::{Memory, State};
use crate::vectors::{Change, Expected, Index, IndexOptions, Metric, RowsIn, View};

/// See above.
#[derive(Debug)]
pub struct Collection {
    registry: Arc<Registry>,
    /// place of its embedding in the registry
    at: usize,
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
    /// times behind which something else stands for a key
    ahead: BTreeSet<(i64, Box<[u8]>)>,
    /// keys of which only the log can tell what stands
    pub(super) beyond: HashSet<Box<[u8]>>,
}

/// A collection as it is at one T. Nothing waits for it: what is written later is not in it.
pub struct Opened {
    /// T
    pub time: i64,
    /// the index
    pub view: Arc<View>,
    /// by slot of the index
    pub attributes: Attributes,
    /// encoded keys that are not in the index, because only the log can tell what stands for them
    pub beyond: Vec<Box<[u8]>>,
}

/// Moments that have passed, with the keys for which something else stands since then.
type Due = Vec<(i64, Box<[u8]>)>;

/// The metric of a definition.
pub fn metric_of(declared: Declared) -> Metric {
    match declared {
        Declared::Cosine => Metric::Cosine,
        Declared::Dot => Metric::Dot,
        Declared::L2 => Metric::L2,
    }
}

impl Collection {
    pub(super) fn new(registry: &Arc<Registry>, at: usize, folder: &Path) -> Result<Self, Failure> {
        let embedding = &registry.embeddings[at];
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
        Ok(Collection { registry: registry.clone(), at, metric, options, folder, contents })
    }

    fn embedding(&self) -> &Embedding {
        &self.registry.embeddings[self.at]
    }

    /// Reads records for it.
    pub(super) fn reading(&self) -> Reading<'_> {
        Reading { registry: &self.registry, embedding: self.embedding() }
    }

    /// Whether its index follows the records. Otherwise it is empty, and searches read the records.
    pub fn is_indexed(&self) -> bool {
        self.embedding().is_indexed()
    }

    /// An empty index of this shape.
    pub(super) fn contents(&self) -> Result<Contents, Failure> {
        let dims = self.embedding().vector.dims;
        Ok(Contents::new(Index::new(dims, self.metric, self.options)?.beside(Some(&self.folder))))
    }

    /// Bytes of the attributes.
    pub fn attribute_bytes(&self) -> usize {
        self.contents.read().attributes.bytes()
    }

    /// What its records are: of other ones a file of the index is of no use.
    pub(super) fn definition(&self) -> u64 {
        self.registry.views[self.view()].plan.hash
    }

    /// What a file of the index must be.
    pub(super) fn expected(&self) -> Expected {
        let (dims, sequence) = (self.embedding().vector.dims, self.definition());
        Expected { dims, metric: self.metric, options: self.options, sequence }
    }

    /// Names and types of its key.
    pub(super) fn key_columns(&self) -> &KeyColumns {
        &self.registry.views[self.view()].keys
    }

    /// Takes in what stands for some keys, each once.
    pub(super) fn take(&self, entries: Entries) -> Result<(), Failure> {
        self.contents.write().take(self.key_columns(), entries)
    }

    /// Puts other contents in place; gives back what was there.
    pub(super) fn replace(&self, contents: Contents) -> Contents {
        std::mem::replace(&mut self.contents.write(), contents)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read()
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
        self.embedding().view
    }

    /// Takes in what has come to stand until now, some at a time: nobody waits long for the records, or for the index.
    pub fn settle(&self, memory: &Memory, clock: &Clock) -> Result<(), Failure> {
        let until = clock.now();
        while self.contents.read().is_due(until) {
            let state = memory.read();
            self.take_due(&mut self.contents.write(), &state, clock.now())?;
        }
        Ok(())
    }

    /// The collection at T, which is taken from the clock now; the gate to the records is open, so nothing is published
    /// meanwhile. None: the records have to be read.
    pub fn open(&self, state: &State, clock: &Clock) -> Result<Option<Opened>, Failure> {
        if !self.is_indexed() {
            return Ok(None);
        }
        {
            let (contents, time) = (self.contents.read(), clock.now());
            if !contents.is_due(time) {
                return Ok(contents.opened(time));
            }
        }
        let (mut contents, time) = (self.contents.write(), clock.now());
        while contents.is_due(time) {
            self.take_due(&mut contents, state, time)?;
        }
        Ok(contents.opened(time))
    }

    fn take_due(&self, contents: &mut Contents, state: &State, time: i64) -> Result<(), Failure> {
        let due = contents.due(time);
        let entry = |key: Box<[u8]>| self.reading().of_key(state, &key, time).map(|found| (key, found));
        let entries = keys_of(&due).into_iter().map(entry).collect::<Result<_, Failure>>()?;
        contents.take(self.key_columns(), entries)?;
        contents.forget(&due);
        Ok(())
    }
}

impl Contents {
    fn new(index: Index) -> Self {
        let (attributes, ahead, beyond) = Default::default();
        Contents { index: Arc::new(index), attributes, ahead, beyond }
    }

    pub(super) fn is_due(&self, time: i64) -> bool {
        self.ahead.first().is_some_and(|(first, _)| *first < time)
    }

    /// The first moments that have passed, as many as are taken in together.
    pub(super) fn due(&self, time: i64) -> Due {
        let due = self.ahead.iter().take_while(|(ahead, _)| *ahead < time);
        due.take(COLLECTION_WRITE_ROWS).cloned().collect()
    }

    /// These are in.
    pub(super) fn forget(&mut self, due: &Due) {
        for moment in due {
            self.ahead.remove(moment);
        }
    }

    /// As it is at a time at which nothing is due. None: it lacks so much that the records have to be read.
    pub(super) fn opened(&self, time: i64) -> Option<Opened> {
        let opened = || Opened {
            time,
            view: self.index.view(),
            attributes: self.attributes.clone(),
            beyond: self.beyond.iter().cloned().collect(),
        };
        (self.beyond.len() <= COLLECTION_BEYOND_MAX).then(opened)
    }

    /// Takes in what stands for some keys, each once.
    pub(super) fn take(&mut self, columns: &KeyColumns, entries: Entries) -> Result<(), Failure> {
        for part in entries.chunks(COLLECTION_WRITE_ROWS) {
            let keys = part.iter().map(|(key, _)| ordered(columns, key).map_err(|_| damaged()));
            let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
            let vectors = || keys.iter().zip(part).map(|(key, (_, entry))| (key, entry.vector.as_deref()));
            // What is the same already would only be another dead row: attributes change more often than vectors.
            let same: Vec<Option<u32>> = vectors().map(|(key, vector)| self.index.slot_of_same(key, vector)).collect();
            let changed = vectors().zip(&same).filter(|(_, same)| same.is_none());
            let changes: Vec<Change<'_>> = changed
                .map(|((key, vector), _)| match vector {
                    Some(vector) => Change::Upsert { key, vector },
                    None => Change::Delete { key },
                })
                .collect();
            let written = if changes.is_empty() { Vec::new() } else { self.index.write(&changes)? };
            let mut written = written.into_iter();
            let slots = same.into_iter().map(|same| same.or_else(|| written.next().flatten()));
            for ((key, Entry { attributes, ahead, is_beyond, .. }), slot) in part.iter().zip(slots) {
                if let Some(slot) = slot.filter(|_| !attributes.is_empty()) {
                    self.attributes.set(slot, attributes.clone());
                }
                self.ahead.extend(ahead.iter().map(|time| (*time, key.clone())));
                if *is_beyond {
                    self.beyond.insert(key.clone());
                } else if !self.beyond.is_empty() {
                    self.beyond.remove(key);
                }
            }
        }
        Ok(())
    }
}

/// Each once.
pub(super) fn keys_of(due: &Due) -> Vec<Box<[u8]>> {
    let mut keys: Vec<Box<[u8]>> = due.iter().map(|(_, key)| key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
