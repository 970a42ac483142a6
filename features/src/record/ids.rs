//! Event ids that a record remembers, to drop duplicates: per (partition, id) the arrival of the latest event that counted.
//!
//! A few lie in the record. More than `PAGE_MAX` are spread over pages by hash, each a chunk beside the record, so that a hot
//! key touches only the pages of the events at hand. What a page remembers beyond the horizon never changes a decision; it
//! goes when the page is next written. So pages, alone of a record's bytes, depend on how events were grouped.
//!
//! Where a source has a history, all partitions of events at rest count as one, which every partition of the stream sees and
//! which sees all of them. Then the page is chosen by the id alone, so that an id has its arrivals of all partitions in one.

use std::collections::HashMap;

use super::apply::Incoming;
use super::node::{NodeId, Nodes};
use super::tree::Chunks;
use crate::codec::{Cursor, Damaged, put_bytes, put_delta, put_value, put_varint};
use crate::definitions::HISTORY_PARTITIONS;
use crate::hash::hash_bytes;
use crate::plan::Dedup;
use crate::value::Value;

/// Ids of one page; twice what a page has after it was split.
const PAGE_MAX: usize = 128;
/// Levels of chunks that are pages of ids: this plus the number of hash bits that choose the page.
const PAGE_LEVEL: u8 = 64;
/// Most bits; 2^20 pages hold half a billion ids of one entity.
const BITS_MAX: u8 = 20;

/// Known ids.
pub struct Ids<'a> {
    dedup: Option<&'a Dedup>,
    nodes: Option<&'a dyn Nodes>,
    bits: u8,
    pages: HashMap<u64, Page>,
}

/// Ids as they are stored, sorted, and those that came since.
#[derive(Default)]
struct Page {
    stored: Vec<u8>,
    count: usize,
    added: HashMap<Vec<u8>, i64>,
    /// the latest arrivals of what was added, by the id alone: only where there is a history, for its events
    added_anywhere: HashMap<Vec<u8>, i64>,
}

/// An id of one partition, and whose it repeats.
struct Name {
    /// partition and id, as they are stored
    key: Vec<u8>,
    sees: Sees,
}

/// What else an event is compared with.
enum Sees {
    /// nothing
    Own,
    /// the same id of the history
    History(Vec<u8>),
    /// the same id of any partition
    All,
}

/// Stands for the partition where there is a history: all of it is one, and the stream's follow.
const HISTORY: u64 = 0;

impl Name {
    fn of(dedup: &Dedup, partition: u32, id: &Value<'_>) -> Name {
        let encoded = |partition: u64| {
            let mut key = Vec::with_capacity(16);
            put_varint(&mut key, partition);
            put_value(&mut key, id);
            key
        };
        match (dedup.with_history, partition < HISTORY_PARTITIONS) {
            (false, _) => Name { key: encoded(u64::from(partition)), sees: Sees::Own },
            (true, true) => {
                Name { key: encoded(HISTORY + 1 + u64::from(partition)), sees: Sees::History(encoded(HISTORY)) }
            }
            (true, false) => Name { key: encoded(HISTORY), sees: Sees::All },
        }
    }

    fn sees(&self, stored: &[u8]) -> bool {
        stored == self.key
            || match &self.sees {
                Sees::Own => false,
                Sees::History(key) => stored == key,
                Sees::All => id_of(stored) == id_of(&self.key),
            }
    }
}

/// The id without its partition.
fn id_of(key: &[u8]) -> &[u8] {
    let mut cursor = Cursor::new(key);
    match cursor.varint() {
        Ok(_) => cursor.rest(),
        Err(_) => &[],
    }
}

impl Page {
    fn open(stored: &[u8]) -> Result<Page, Damaged> {
        let mut cursor = Cursor::new(stored);
        let count = cursor.length()?;
        Ok(Page { stored: cursor.rest().to_vec(), count, ..Page::default() })
    }

    /// Walks over all ids, each with its arrival.
    fn each<'p>(&'p self, mut visit: impl FnMut(&'p [u8], i64)) -> Result<(), Damaged> {
        let mut cursor = Cursor::new(&self.stored);
        let mut arrival = 0i64;
        for _ in 0..self.count {
            let id = cursor.bytes()?;
            arrival = cursor.time_after(arrival)?;
            visit(id, arrival);
        }
        self.added.iter().for_each(|(id, arrival)| visit(id, *arrival));
        Ok(())
    }

    /// The latest arrival of an id in its own partition.
    fn latest(&self, wanted: &[u8]) -> Result<Option<i64>, Damaged> {
        if let Some(arrival) = self.added.get(wanted) {
            return Ok(Some(*arrival));
        }
        let mut cursor = Cursor::new(&self.stored);
        let mut arrival = 0i64;
        for _ in 0..self.count {
            let id = cursor.bytes()?;
            arrival = cursor.time_after(arrival)?;
            if id == wanted {
                return Ok(Some(arrival));
            }
        }
        Ok(None)
    }

    /// The latest arrival of an id in all partitions that its event sees.
    fn latest_seen(&self, wanted: &Name) -> Result<Option<i64>, Damaged> {
        let mut latest = match &wanted.sees {
            Sees::Own => return self.latest(&wanted.key),
            Sees::History(key) => self.added.get(&wanted.key).max(self.added.get(key)).copied(),
            Sees::All => self.added_anywhere.get(id_of(&wanted.key)).copied(),
        };
        let mut cursor = Cursor::new(&self.stored);
        let mut arrival = 0i64;
        for _ in 0..self.count {
            let id = cursor.bytes()?;
            arrival = cursor.time_after(arrival)?;
            if wanted.sees(id) {
                latest = latest.max(Some(arrival));
            }
        }
        Ok(latest)
    }

    /// Takes in an arrival that may be earlier than what is known.
    fn add(&mut self, name: Name, arrival: i64) -> Result<(), Damaged> {
        if !matches!(name.sees, Sees::Own) {
            let anywhere = self.added_anywhere.entry(id_of(&name.key).to_vec()).or_insert(arrival);
            *anywhere = arrival.max(*anywhere);
        }
        let known = self.latest(&name.key)?.unwrap_or(i64::MIN);
        self.added.insert(name.key, arrival.max(known));
        Ok(())
    }

    fn len(&self) -> usize {
        self.count + self.added.len()
    }

    /// Every id once, with its latest arrival, without those that no coming event can repeat. Ids are forgotten only where
    /// arrival times ascend within a partition: elsewhere an event that arrived earlier may still come.
    fn settled(&self, dedup: &Dedup) -> Result<Vec<(&[u8], i64)>, Damaged> {
        let mut ids: Vec<(&[u8], i64)> = Vec::with_capacity(self.len());
        self.each(|id, arrival| ids.push((id, arrival)))?;
        // Two sorted runs, nearly: a stable sort merges them in one pass.
        ids.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        ids.dedup_by(|later, kept| later.0 == kept.0);
        if dedup.arrivals_ascend {
            let partition = |id: &[u8]| Cursor::new(id).varint().unwrap_or(0);
            let mut newest: Vec<(u64, i64)> = Vec::new();
            for (id, arrival) in &ids {
                match newest.iter_mut().find(|(known, _)| *known == partition(id)) {
                    Some((_, newest)) => *newest = (*newest).max(*arrival),
                    None => newest.push((partition(id), *arrival)),
                }
            }
            let of = |id: &[u8]| newest.iter().find(|(known, _)| *known == partition(id)).map_or(i64::MIN, |(_, n)| *n);
            ids.retain(|(id, arrival)| of(id).saturating_sub(*arrival) <= dedup.horizon);
        }
        Ok(ids)
    }
}

fn put_ids(ids: &[(&[u8], i64)], out: &mut Vec<u8>) {
    put_varint(out, ids.len() as u64);
    let mut previous = 0;
    for (id, arrival) in ids {
        put_bytes(out, id);
        put_delta(out, arrival - previous);
        previous = *arrival;
    }
}

impl<'a> Ids<'a> {
    /// No ids; `dedup` is None where the source declares none.
    pub(super) fn none(dedup: Option<&'a Dedup>) -> Self {
        // Most views have no ids to remember, and their records are made by the million.
        let pages = dedup.map(|_| (0, Page::default())).into_iter().collect();
        Ids { dedup, nodes: None, bits: 0, pages }
    }

    /// The ids of a record: its part of the record's bytes, and the chunks beside it.
    pub(super) fn of_record(dedup: Option<&'a Dedup>, stored: &[u8], nodes: &'a dyn Nodes) -> Result<Self, Damaged> {
        let mut cursor = Cursor::new(stored);
        let bits = cursor.byte()?;
        if bits > BITS_MAX {
            return Err(Damaged);
        }
        let pages = if bits == 0 { HashMap::from([(0, Page::open(cursor.rest())?)]) } else { HashMap::new() };
        Ok(Ids { dedup, nodes: Some(nodes), bits, pages })
    }

    fn page_of(&self, key: &[u8]) -> u64 {
        let with_history = self.dedup.is_some_and(|dedup| dedup.with_history);
        hash_bytes(if with_history { id_of(key) } else { key }) & ((1 << self.bits) - 1)
    }

    fn page(&mut self, index: u64) -> Result<&mut Page, Damaged> {
        if !self.pages.contains_key(&index) {
            let id = NodeId { level: PAGE_LEVEL + self.bits, slot: index };
            let page = match self.nodes.and_then(|nodes| nodes.get(id)) {
                Some(stored) => Page::open(&stored)?,
                None => return Err(Damaged),
            };
            self.pages.insert(index, page);
        }
        self.pages.get_mut(&index).ok_or(Damaged)
    }

    /// Opens the pages of all events before any is judged: whoever fetches what is missing hears of all of them at once.
    pub(super) fn look_for(&mut self, events: &[Incoming<'_>]) -> Result<(), Damaged> {
        let Some(dedup) = self.dedup.filter(|_| self.bits > 0) else { return Ok(()) };
        let named = events.iter().map(|event| &event.order).filter(|order| !order.id.is_null());
        let mut indices: Vec<u64> =
            named.map(|order| self.page_of(&Name::of(dedup, order.partition, &order.id).key)).collect();
        indices.sort_unstable();
        indices.dedup();
        self.open(indices.into_iter())
    }

    /// Opens pages, also behind one that is not there.
    fn open(&mut self, indices: impl Iterator<Item = u64>) -> Result<(), Damaged> {
        let mut whole = Ok(());
        for index in indices {
            whole = self.page(index).map(drop).and(whole);
        }
        whole
    }

    /// Whether an event repeats one that counted: it arrived no later than the horizon after it, or before it.
    pub(super) fn is_duplicate(&mut self, partition: u32, id: &Value<'_>, arrival: i64) -> Result<bool, Damaged> {
        let Some(dedup) = self.dedup.filter(|_| !id.is_null()) else { return Ok(false) };
        let name = Name::of(dedup, partition, id);
        let index = self.page_of(&name.key);
        let known = self.page(index)?.latest_seen(&name)?;
        Ok(known.is_some_and(|known| arrival.saturating_sub(known) <= dedup.horizon))
    }

    /// Remembers an event that counted.
    pub(super) fn remember(&mut self, partition: u32, id: &Value<'_>, arrival: i64) -> Result<(), Damaged> {
        let Some(dedup) = self.dedup.filter(|_| !id.is_null()) else { return Ok(()) };
        let name = Name::of(dedup, partition, id);
        let index = self.page_of(&name.key);
        self.page(index)?.add(name, arrival)
    }

    /// The record's part; pages that changed go to the chunks. None: nothing is remembered.
    pub(super) fn finish(mut self, chunks: &mut Chunks<'_>) -> Result<Option<Vec<u8>>, Damaged> {
        let Some(dedup) = self.dedup else { return Ok(None) };
        while self.bits < BITS_MAX && self.is_crowded(dedup)? {
            self.split(dedup, chunks)?;
        }
        if self.bits > 0 {
            for (index, page) in self.pages.iter().filter(|(_, page)| !page.added.is_empty()) {
                let mut out = Vec::with_capacity(page.stored.len() + 32 * page.added.len());
                put_ids(&page.settled(dedup)?, &mut out);
                chunks.put(NodeId { level: PAGE_LEVEL + self.bits, slot: *index }, out);
            }
            return Ok(Some(vec![self.bits]));
        }
        let ids = self.pages.get(&0).ok_or(Damaged)?.settled(dedup)?;
        if ids.is_empty() {
            return Ok(None);
        }
        let mut out = vec![0];
        put_ids(&ids, &mut out);
        Ok(Some(out))
    }

    fn is_crowded(&self, dedup: &Dedup) -> Result<bool, Damaged> {
        for page in self.pages.values().filter(|page| page.len() > PAGE_MAX && !page.added.is_empty()) {
            if page.settled(dedup)?.len() > PAGE_MAX {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Twice as many pages.
    fn split(&mut self, dedup: &Dedup, chunks: &mut Chunks<'_>) -> Result<(), Damaged> {
        self.open(0..1u64 << self.bits)?;
        for index in 0..1u64 << self.bits {
            if self.bits > 0 {
                chunks.remove(NodeId { level: PAGE_LEVEL + self.bits, slot: index });
            }
        }
        let crowded = std::mem::take(&mut self.pages);
        self.bits += 1;
        self.pages = (0..1u64 << self.bits).map(|i| (i, Page::default())).collect();
        for page in crowded.values() {
            for (id, arrival) in page.settled(dedup)? {
                let index = self.page_of(id);
                self.page(index)?.added.insert(id.to_vec(), arrival);
            }
        }
        // A page without ids must be there all the same, or it would be missed as damage.
        for (index, _) in self.pages.iter().filter(|(_, page)| page.added.is_empty()) {
            chunks.put(NodeId { level: PAGE_LEVEL + self.bits, slot: *index }, vec![0]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
