//! What only writes touch: which key lies where, and the chunk that is being filled.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::keys::Keys;
use super::rows::Rows;
use super::segment::Segment;
use crate::failure::Failure;
use crate::limits::FRESH_CHUNK_ROWS;

/// Where the vector of a key lies.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    segment: u32,
    row: u32,
}

/// See above.
#[derive(Debug, Default)]
pub struct Writer {
    dims: usize,
    /// slots by the hash of their keys
    table: HashTable<u32>,
    /// places of slots whose vectors are not sealed yet; the sealed segment itself knows where its slots lie
    places: HashMap<u32, Place>,
    given: u32,
    free: Vec<u32>,
    segments: HashMap<u32, Arc<Segment>>,
    sealed: Option<u32>,
    chunks: Vec<Arc<Segment>>,
    tail: Tail,
    next_segment: u32,
    written: u64,
}

/// A chunk that has room.
#[derive(Debug, Default)]
struct Tail {
    id: u32,
    vectors: Vec<f32>,
    keys: Keys,
    slots: Vec<u32>,
    died: Vec<Option<u64>>,
}

impl Writer {
    pub fn new(dims: usize) -> Self {
        let mut writer = Writer { dims, ..Writer::default() };
        writer.tail.id = writer.segment_id();
        writer
    }

    /// A number for a new segment.
    pub fn segment_id(&mut self) -> u32 {
        self.next_segment += 1;
        self.next_segment
    }

    /// Begins a write: the number of it.
    pub fn begin(&mut self) -> u64 {
        self.written += 1;
        self.written
    }

    /// The number of the last write.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Keys that have a vector.
    pub fn live(&self) -> usize {
        self.table.len()
    }

    /// Slots that were given out, those that are free again included.
    pub fn slots(&self) -> usize {
        self.given as usize
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let table = self.table.capacity() * (size_of::<u32>() + 1);
        let places = self.places.capacity() * (size_of::<(u32, Place)>() + 1);
        table + places + self.free.capacity() * size_of::<u32>()
    }

    /// The slot of a key.
    pub fn slot(&self, key: &[u8]) -> Option<u32> {
        self.table.find(xxh3_64(key), |slot| self.key(*slot) == key).copied()
    }

    /// The vector of a key in its kept form.
    pub fn vector(&self, key: &[u8]) -> Result<Option<Vec<f32>>, Failure> {
        let Some(slot) = self.slot(key) else { return Ok(None) };
        let place = self.place(slot);
        let row = place.row as usize;
        match place.segment == self.tail.id {
            true => Ok(Some(self.tail.vectors[row * self.dims..][..self.dims].to_vec())),
            false => Ok(Some(self.segments[&place.segment].vectors.row(row, &mut Vec::new())?.to_vec())),
        }
    }

    fn key(&self, slot: u32) -> &[u8] {
        let place = self.place(slot);
        match place.segment == self.tail.id {
            true => self.tail.keys.get(place.row as usize),
            false => self.segments[&place.segment].keys.get(place.row as usize),
        }
    }

    /// Where the vector of a slot lies that has one.
    fn place(&self, slot: u32) -> Place {
        let sealed = || {
            let sealed = &self.segments[&self.sealed?];
            Some(Place { segment: sealed.id, row: sealed.row_of(slot)? })
        };
        self.places.get(&slot).copied().or_else(sealed).expect("a slot in use lies among fresh vectors or sealed ones")
    }

    /// Gives a key a vector in its kept form; the one that it had is dead as of this write.
    pub fn upsert(&mut self, key: &[u8], vector: &[f32], write: u64) -> u32 {
        let known = self.slot(key);
        if let Some(slot) = known {
            self.bury(slot, write);
        }
        let slot = known.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.given += 1;
            self.given - 1
        });
        self.places.insert(slot, Place { segment: self.tail.id, row: self.tail.slots.len() as u32 });
        self.tail.vectors.extend_from_slice(vector);
        self.tail.keys.push(key);
        self.tail.slots.push(slot);
        self.tail.died.push(None);
        if known.is_none() {
            self.enter(key, slot);
        }
        if self.tail.slots.len() == FRESH_CHUNK_ROWS {
            self.close();
        }
        slot
    }

    fn enter(&mut self, key: &[u8], slot: u32) {
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(xxh3_64(key), slot, |slot| xxh3_64(self.key(*slot)));
        self.table = table;
    }

    /// Takes a key's vector away: its slot is free.
    pub fn delete(&mut self, key: &[u8], write: u64) -> Option<u32> {
        let slot = self.slot(key)?;
        self.bury(slot, write);
        let mut table = std::mem::take(&mut self.table);
        if let Ok(entry) = table.find_entry(xxh3_64(key), |other| *other == slot) {
            entry.remove();
        }
        self.table = table;
        if self.table.capacity() > 4 * self.table.len() + 1024 {
            let mut table = std::mem::take(&mut self.table);
            table.shrink_to(0, |slot| xxh3_64(self.key(*slot)));
            self.table = table;
        }
        self.places.remove(&slot);
        self.free.push(slot);
        Some(slot)
    }

    fn bury(&mut self, slot: u32, write: u64) {
        let place = self.place(slot);
        match place.segment == self.tail.id {
            true => self.tail.died[place.row as usize] = Some(write),
            false => self.segments[&place.segment].bury(place.row as usize, write),
        }
    }

    /// Ends the chunk that is being filled: it does not change any more, and what is written next begins another one.
    pub fn close(&mut self) {
        if let Some(chunk) = self.tail() {
            let body = self.sealed.and_then(|id| self.segments[&id].body.as_ref());
            let chunk = match body {
                Some(body) => chunk.with_short(&body.codes),
                None => chunk,
            };
            let chunk = Arc::new(chunk);
            self.segments.insert(chunk.id, chunk.clone());
            self.chunks.push(chunk);
            self.tail = Tail { id: self.segment_id(), ..Tail::default() };
        }
    }

    /// A copy of the chunk that is being filled.
    fn tail(&self) -> Option<Segment> {
        let Tail { id, vectors, slots, died, .. } = &self.tail;
        if slots.is_empty() {
            return None;
        }
        let mut rows = Rows::zeros(self.dims, slots.len());
        let mut keys = Keys::default();
        for (row, vector) in vectors.chunks(self.dims).enumerate() {
            rows.row_mut(row).copy_from_slice(vector);
            keys.push(self.tail.keys.get(row));
        }
        let chunk = Segment::plain(*id, rows, keys, slots.clone());
        for (row, write) in died.iter().enumerate().filter_map(|(row, died)| Some((row, (*died)?))) {
            chunk.bury(row, write);
        }
        Some(chunk)
    }

    /// What was sealed, and the chunks.
    pub fn segments(&self) -> (Option<Arc<Segment>>, Vec<Arc<Segment>>) {
        let fresh = self.chunks.iter().cloned().chain(self.tail().map(Arc::new));
        (self.sealed.map(|id| self.segments[&id].clone()), fresh.collect())
    }

    /// Puts a sealed segment in the place of those that its rows come from, row by row. Rows that died meanwhile are dead in it.
    pub fn swap(&mut self, sealed: &Segment, origins: &[(Arc<Segment>, u32)]) {
        for (row, (origin, old)) in origins.iter().enumerate() {
            match origin.death(*old as usize) {
                Some(write) => sealed.bury(row, write),
                None => drop(self.places.remove(&sealed.slots[row])),
            }
        }
        if self.places.capacity() > 4 * self.places.len() + 1024 {
            self.places.shrink_to_fit();
        }
    }

    /// Makes it known, and forgets what it replaces.
    pub fn replace(&mut self, sealed: Arc<Segment>, inputs: &[u32]) {
        debug_assert!(!inputs.contains(&self.tail.id), "what is being filled is not sealed");
        self.chunks.retain(|chunk| !inputs.contains(&chunk.id));
        self.segments.retain(|id, _| !inputs.contains(id));
        self.sealed = Some(sealed.id);
        self.segments.insert(sealed.id, sealed);
    }

    /// Enters rows of a segment that was read from a file.
    pub fn adopt(&mut self, segment: Segment) -> bool {
        let segment = Arc::new(segment);
        self.next_segment = self.next_segment.max(segment.id);
        self.segments.insert(segment.id, segment.clone());
        self.sealed = Some(segment.id);
        for row in (0..segment.count()).filter(|row| segment.death(*row).is_none()) {
            let key = segment.keys.get(row);
            let slot = segment.slots[row];
            if self.slot(key).is_some() || slot != self.given {
                return false;
            }
            self.given += 1;
            self.enter(key, slot);
        }
        true
    }
}
