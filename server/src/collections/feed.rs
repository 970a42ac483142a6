//! From changed records to changed collections: read before the change is published, put in with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidemill_features::read::Stored;
use tidemill_features::record::{NodeId, Nodes};

use super::Collections;
use super::collection::Contents;
use super::entry::{Entries, Entry, damaged};
use super::ordered::encoded;
use crate::failure::Failure;
use crate::limits::COLLECTION_WRITE_ROWS;
use crate::online::{Memory, RecordChunks, State, Updates, ViewState};

/// What a change of records means for collections.
#[derive(Default)]
pub struct Feed<'c> {
    collections: Option<&'c Collections>,
    /// by embedding
    entries: Vec<Entries>,
}

/// The contents of collections whose views are put in as a whole.
#[derive(Default)]
pub struct Refill<'c> {
    collections: Option<&'c Collections>,
    contents: Vec<(usize, Contents)>,
}

/// Changed chunks by view, key and id; None: gone.
type Changed<'u> = HashMap<(u32, &'u [u8], NodeId), &'u Option<Arc<[u8]>>>;

/// Chunks of a record that is changing: the new ones first.
struct Changing<'u> {
    changed: &'u Changed<'u>,
    view: u32,
    key: &'u [u8],
    before: RecordChunks<'u>,
}

impl Nodes for Changing<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        match self.changed.get(&(self.view, self.key, id)) {
            Some(chunk) => (*chunk).clone(),
            None => self.before.get(id),
        }
    }
}

impl Collections {
    /// What a change that is about to be published means at a time. Only the thread that publishes may ask.
    pub fn feed(&self, updates: &Updates, memory: &Memory, time: i64) -> Result<Feed<'_>, Failure> {
        let followed: HashSet<u32> = self.indexed().map(|collection| collection.view() as u32).collect();
        if followed.is_empty() || !updates.records.iter().any(|((view, _), _)| followed.contains(view)) {
            return Ok(Feed::default());
        }
        let chunks = updates.chunks.iter().filter(|((view, ..), _)| followed.contains(view));
        let changed = chunks.map(|((view, key, id), chunk)| ((*view, &**key, *id), chunk)).collect();
        let state = memory.read();
        let mut entries: Vec<Entries> = self.list.iter().map(|_| Vec::new()).collect();
        for (collection, entries) in
            self.list.iter().zip(&mut entries).filter(|(collection, _)| collection.is_indexed())
        {
            let own = collection.view() as u32;
            for ((view, key), record) in updates.records.iter().filter(|((view, _), _)| *view == own) {
                let before = state.chunks(*view as usize, key);
                let nodes = Changing { changed: &changed, view: *view, key, before };
                let stored = Stored { record: Some(record), nodes: &nodes };
                entries.push((key.clone(), collection.reading().entry(stored, time)?));
            }
        }
        Ok(Feed { collections: Some(self), entries })
    }

    /// Takes in all that the state holds: at start, when nobody reads yet.
    pub fn fill(&self, state: &State, time: i64) -> Result<(), Failure> {
        for collection in self.indexed() {
            let view = collection.view();
            let keys: Vec<&[u8]> = state.keys(view).collect();
            for part in keys.chunks(COLLECTION_WRITE_ROWS) {
                let entry = |key: &&[u8]| Ok(((*key).into(), collection.reading().of_key(state, key, time)?));
                collection.take(part.iter().map(entry).collect::<Result<_, Failure>>()?)?;
            }
            // A file may know what has been deleted since.
            let known = collection.index().view();
            let keys = known.keys().map(|(_, key)| encoded(collection.key_columns(), key).map_err(|_| damaged()));
            let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
            let gone = keys.into_iter().filter(|key| state.record(view, key).is_none());
            collection.take(gone.map(|key| (key.into(), Entry::default())).collect())?;
        }
        Ok(())
    }

    /// Contents for views that have been built and are about to be put in.
    pub fn refill(&self, views: &[(usize, ViewState)], time: i64) -> Result<Refill<'_>, Failure> {
        let mut refilled = Vec::new();
        for (at, collection) in self.list.iter().enumerate().filter(|(_, collection)| collection.is_indexed()) {
            let Some((_, whole)) = views.iter().find(|(view, _)| *view == collection.view()) else { continue };
            let mut contents = collection.contents()?;
            for shard in &whole.shards {
                let entry = |key: &[u8]| -> Result<(Box<[u8]>, Entry), Failure> {
                    let nodes = shard.chunks(key);
                    let stored = Stored { record: shard.record(key), nodes: &nodes };
                    Ok((key.into(), collection.reading().entry(stored, time)?))
                };
                let entries = shard.keys().map(entry).collect::<Result<_, Failure>>()?;
                contents.take(collection.key_columns(), entries)?;
            }
            refilled.push((at, contents));
        }
        Ok(Refill { collections: Some(self), contents: refilled })
    }
}

impl Feed<'_> {
    /// Puts the change in; the gate is closed.
    pub fn take(self) -> Result<(), Failure> {
        let Some(collections) = self.collections else { return Ok(()) };
        let changed = collections.list.iter().zip(self.entries).filter(|(_, entries)| !entries.is_empty());
        changed.into_iter().try_for_each(|(collection, entries)| collection.take(entries))
    }
}

impl Refill<'_> {
    /// Puts the contents in; the gate is closed.
    pub fn take(self) {
        let Some(collections) = self.collections else { return };
        for (at, contents) in self.contents {
            drop(collections.list[at].replace(contents));
        }
    }
}
