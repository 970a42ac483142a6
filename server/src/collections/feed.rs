//! From changed records to changed collections: read before the change is published, put in with it.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_features::read::{Standing, Stored, standing};
use tidemill_features::record::{NodeId, Nodes};

use super::Collections;
use super::collection::{Contents, damaged, stands};
use super::ordered::encoded;
use crate::failure::Failure;
use crate::limits::COLLECTION_WRITE_ROWS;
use crate::online::{Memory, RecordChunks, State, Updates, ViewState};

/// What a change of records means for collections.
#[derive(Default)]
pub struct Feed<'c> {
    collections: Option<&'c Collections>,
    /// by embedding
    rows: Vec<Vec<(Box<[u8]>, Standing)>>,
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
        let Some(registry) = self.registry.as_ref().filter(|_| !self.is_empty()) else { return Ok(Feed::default()) };
        let of_view: HashMap<u32, usize> =
            self.embeddings().iter().enumerate().map(|(at, embedding)| (embedding.view as u32, at)).collect();
        let mut rows: Vec<Vec<(Box<[u8]>, Standing)>> = self.list.iter().map(|_| Vec::new()).collect();
        if !updates.records.iter().any(|((view, _), _)| of_view.contains_key(view)) {
            return Ok(Feed::default());
        }
        let chunks = updates.chunks.iter().filter(|((view, ..), _)| of_view.contains_key(view));
        let changed = chunks.map(|((view, key, id), chunk)| ((*view, &**key, *id), chunk)).collect();
        let state = memory.read();
        for ((view, key), record) in &updates.records {
            let Some(at) = of_view.get(view) else { continue };
            let before = state.chunks(*view as usize, key);
            let nodes = Changing { changed: &changed, view: *view, key, before };
            let stored = Stored { record: Some(record), nodes: &nodes };
            let found = standing(&registry.views[*view as usize].plan, stored, time).map_err(|_| damaged())?;
            rows[*at].push((key.clone(), found));
        }
        Ok(Feed { collections: Some(self), rows })
    }

    /// Takes in all that the state holds: at start, when nobody reads yet.
    pub fn fill(&self, state: &State, time: i64) -> Result<(), Failure> {
        let Some(registry) = &self.registry else { return Ok(()) };
        for (embedding, collection) in self.embeddings().iter().zip(&self.list) {
            let keys: Vec<&[u8]> = state.keys(embedding.view).collect();
            for part in keys.chunks(COLLECTION_WRITE_ROWS) {
                let row = |key: &&[u8]| Ok(((*key).into(), stands(registry, embedding.view, state, key, time)?));
                let rows = part.iter().map(row).collect::<Result<Vec<_>, Failure>>()?;
                collection.write().take(registry, embedding.view, rows)?;
            }
            // A file may know what has been deleted since.
            let columns = &registry.views[embedding.view].keys;
            let index = collection.index();
            let known = index.view();
            let keys = known.keys().map(|(_, key)| encoded(columns, key).map_err(|_| damaged()));
            let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
            let gone = keys.into_iter().filter(|key| state.record(embedding.view, key).is_none());
            let gone = gone.map(|key| (key.into(), Standing::default())).collect();
            collection.write().take(registry, embedding.view, gone)?;
        }
        Ok(())
    }

    /// Contents for views that have been built and are about to be put in.
    pub fn refill(&self, views: &[(usize, ViewState)], time: i64) -> Result<Refill<'_>, Failure> {
        let Some(registry) = &self.registry else { return Ok(Refill::default()) };
        let mut refilled = Vec::new();
        for (at, (embedding, collection)) in self.embeddings().iter().zip(&self.list).enumerate() {
            let Some((view, whole)) = views.iter().find(|(view, _)| *view == embedding.view) else { continue };
            let mut contents = collection.contents()?;
            for shard in &whole.shards {
                let row = |key: &[u8]| -> Result<(Box<[u8]>, Standing), Failure> {
                    let nodes = shard.chunks(key);
                    let stored = Stored { record: shard.record(key), nodes: &nodes };
                    let found = standing(&registry.views[*view].plan, stored, time).map_err(|_| damaged())?;
                    Ok((key.into(), found))
                };
                let rows = shard.keys().map(row).collect::<Result<Vec<_>, Failure>>()?;
                contents.take(registry, *view, rows)?;
            }
            refilled.push((at, contents));
        }
        Ok(Refill { collections: Some(self), contents: refilled })
    }
}

impl Feed<'_> {
    /// Puts the change in; the gate is closed.
    pub fn take(self) -> Result<(), Failure> {
        let Some((collections, registry)) = self.collections.and_then(|c| Some((c, c.registry.as_ref()?))) else {
            return Ok(());
        };
        for (at, rows) in self.rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            collections.list[at].write().take(registry, collections.embeddings()[at].view, rows)?;
        }
        Ok(())
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
