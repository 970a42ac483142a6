//! The index of one collection: writes come in one after the other, searches run beside them and never wait.
//!
//! A write goes into a small fresh segment that is scanned; `upkeep` moves what gathered there into the sealed segment and its
//! graph. Both are put in place of the old ones in one step. The index is derived: whoever doubts it builds a new one from the
//! vectors of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use super::codes::CodeKind;
use super::metric::Metric;
use super::options::{Builder, IndexOptions};
use super::rows::{Keys, Rows};
use super::search::{Answer, Query};
use super::segment::{Recipe, Segment};
use super::view::View;
use super::writer::Writer;
use crate::failure::Failure;
use crate::limits::{DEAD_PERCENT, FRESH_ROWS, VECTOR_KEY_BYTES_MAX, VECTOR_ROWS_MAX};

/// See above.
#[derive(Debug)]
pub struct Index {
    view: RwLock<Arc<View>>,
    pub(super) writer: Mutex<Writer>,
    building: Mutex<()>,
    done: AtomicUsize,
}

/// A change of one key.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// the key has this vector from now on
    Upsert {
        /// the key
        key: &'a [u8],
        /// its vector
        vector: &'a [f32],
    },
    /// the key has no vector any more
    Delete {
        /// the key
        key: &'a [u8],
    },
}

/// How much there is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stats {
    /// keys that have a vector
    pub live: usize,
    /// vectors that were deleted or replaced, and are still in memory
    pub dead: usize,
    /// vectors written since the last upkeep, dead ones included
    pub fresh: usize,
    /// slots that were given out
    pub slots: usize,
    /// what graphs are walked on: `int8`, `f16` or `f32`; none where there is no graph
    pub codes: Option<&'static str>,
    /// bytes of memory
    pub bytes: usize,
    /// bytes for each key that has a vector
    pub bytes_per_vector: usize,
}

/// Segments smaller than this have no graph, in large collections too: a scan of them is as fast.
const GRAPH_ROWS: usize = 4_096;

impl Index {
    /// An empty index.
    pub fn new(dims: usize, metric: Metric, options: IndexOptions) -> Result<Self, Failure> {
        Metric::check_dims(dims)?;
        options.check()?;
        let scratch = Arc::default();
        let view = View { dims, metric, options, sealed: None, fresh: Vec::new(), seen: 0, live: 0, scratch };
        Ok(Index {
            view: RwLock::new(Arc::new(view)),
            writer: Mutex::new(Writer::new(dims)),
            building: Mutex::new(()),
            done: AtomicUsize::new(0),
        })
    }

    /// The index as it is now.
    pub fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// The nearest neighbours of a vector.
    pub fn search(&self, query: Query) -> Result<Answer, Failure> {
        self.view().search(query)
    }

    /// The slot of a key: a small number that stays its own as long as it has a vector. A key that comes later may get it then.
    pub fn slot(&self, key: &[u8]) -> Option<u32> {
        self.writer.lock().slot(key)
    }

    /// The vector of a key. Under cosine its length is one.
    pub fn vector(&self, key: &[u8]) -> Option<Vec<f32>> {
        self.writer.lock().vector(key)
    }

    /// The slot of a key that has just this vector, to the bit.
    pub fn slot_of_same(&self, key: &[u8], vector: Option<&[f32]>) -> Option<u32> {
        let view = self.view();
        let kept = view.metric.kept(vector.filter(|vector| view.metric.check(view.dims, vector).is_ok())?);
        let writer = self.writer.lock();
        let known = writer.vector(key)?;
        let is_same = known.iter().zip(&kept).all(|(a, b)| a.to_bits() == b.to_bits());
        is_same.then(|| writer.slot(key)).flatten()
    }

    /// Gives a key a vector.
    pub fn upsert(&self, key: &[u8], vector: &[f32]) -> Result<u32, Failure> {
        let slots = self.write(&[Change::Upsert { key, vector }])?;
        Ok(slots[0].expect("an upsert has a slot"))
    }

    /// Takes a key's vector away; false if it had none.
    pub fn delete(&self, key: &[u8]) -> bool {
        self.write(&[Change::Delete { key }]).is_ok_and(|slots| slots[0].is_some())
    }

    /// Makes changes, in their order, of which a search sees all or none. If one of them is refused, none is made. Gives the
    /// slot of each; a delete of a key without a vector has none.
    pub fn write(&self, changes: &[Change]) -> Result<Vec<Option<u32>>, Failure> {
        let before = self.view();
        for change in changes {
            check(&before, change)?;
        }
        let mut writer = self.writer.lock();
        if writer.slots() + changes.len() > VECTOR_ROWS_MAX {
            return Err(too_many());
        }
        let write = writer.begin();
        let apply = |change: &Change| match change {
            Change::Upsert { key, vector } => Some(writer.upsert(key, &before.metric.kept(vector), write)),
            Change::Delete { key } => writer.delete(key, write),
        };
        let slots = changes.iter().map(apply).collect();
        self.publish(&writer);
        Ok(slots)
    }

    /// The same with vectors that are in their kept form already.
    pub(super) fn upsert_kept<'a>(&self, rows: impl Iterator<Item = (&'a [u8], &'a [f32])>) {
        let mut writer = self.writer.lock();
        let write = writer.begin();
        for (key, vector) in rows {
            writer.upsert(key, vector, write);
        }
        self.publish(&writer);
    }

    pub(super) fn publish(&self, writer: &Writer) {
        let (sealed, fresh) = writer.segments();
        let mut view = self.view.write();
        let View { dims, metric, options, ref scratch, .. } = **view;
        let (seen, live, scratch) = (writer.written(), writer.live(), scratch.clone());
        *view = Arc::new(View { dims, metric, options, sealed, fresh, seen, live, scratch });
    }

    /// Whether upkeep would do something.
    pub fn due(&self) -> bool {
        let view = self.view();
        too_many_dead(&view) || view.fresh.iter().map(|chunk| chunk.count()).sum::<usize>() >= FRESH_ROWS
    }

    /// Moves fresh vectors into the sealed segment once there are many, and builds it anew once many of its vectors are dead.
    /// It takes long, on the caller's thread and `threads - 1` more; searches and writes go on meanwhile.
    pub fn upkeep(&self, threads: usize) -> Result<bool, Failure> {
        if !self.due() {
            return Ok(false);
        }
        let anew = too_many_dead(&self.view());
        self.seal(anew, Builder::Flat, threads)?;
        Ok(true)
    }

    /// Builds the sealed segment anew, of all vectors. What is deleted is gone from memory afterwards.
    pub fn rebuild(&self, builder: Builder, threads: usize) -> Result<(), Failure> {
        self.seal(true, builder, threads)
    }

    /// Vectors whose neighbours have been found, of the graph that is being built.
    pub fn built(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn seal(&self, anew: bool, builder: Builder, threads: usize) -> Result<(), Failure> {
        let _one = self.building.lock();
        let id = {
            let mut writer = self.writer.lock();
            writer.close();
            self.publish(&writer);
            writer.segment_id()
        };
        let view = self.view();
        let grown = view.sealed.as_deref().filter(|sealed| !anew && sealed.body.is_some());
        let origins = origins(&view, grown.is_some());
        let mut segment = gathered(&view, id, &origins)?;
        self.done.store(0, Ordering::Relaxed);
        let recipe = Recipe { metric: view.metric, options: &view.options, builder, threads, done: &self.done };
        if grown.and_then(|sealed| sealed.extended(&mut segment, recipe)).is_none() && has_graph(&view, segment.count())
        {
            segment = segment.with_graph(recipe);
        }
        let mut writer = self.writer.lock();
        let inputs: Vec<u32> = view.segments().map(|segment| segment.id).collect();
        writer.swap(&segment, &origins);
        writer.replace(Arc::new(segment), &inputs);
        self.publish(&writer);
        Ok(())
    }

    /// How much there is.
    pub fn stats(&self) -> Stats {
        let view = self.view();
        let (kept, slots) = {
            let writer = self.writer.lock();
            (writer.bytes(), writer.slots())
        };
        let rows: usize = view.segments().map(Segment::count).sum();
        let bytes = view.segments().map(Segment::bytes).sum::<usize>() + kept + view.scratch.bytes();
        let body = view.sealed.as_ref().and_then(|sealed| sealed.body.as_ref());
        Stats {
            live: view.live,
            dead: rows - view.live.min(rows),
            fresh: view.fresh.iter().map(|chunk| chunk.count()).sum(),
            slots,
            codes: body.map(|body| match body.codes.kind() {
                CodeKind::Int8 => "int8",
                CodeKind::F16 => "f16",
                CodeKind::F32 => "f32",
            }),
            bytes,
            bytes_per_vector: bytes / view.live.max(1),
        }
    }
}

/// Refuses a change that cannot be made.
fn check(view: &View, change: &Change) -> Result<(), Failure> {
    let key = match change {
        Change::Upsert { key, vector } => {
            view.metric.check(view.dims, vector)?;
            key
        }
        Change::Delete { key } => key,
    };
    match key.len() <= VECTOR_KEY_BYTES_MAX {
        true => Ok(()),
        false => {
            let message = format!("a key has {} bytes; at most {VECTOR_KEY_BYTES_MAX}", key.len());
            Err(Failure::field("E4013", "key", message))
        }
    }
}

fn too_many() -> Failure {
    Failure::invalid("E4012", format!("a collection has at most {VECTOR_ROWS_MAX} vectors; split it"))
}

fn too_many_dead(view: &View) -> bool {
    let dead = |segment: &Segment| segment.count() - segment.live();
    view.sealed.as_ref().is_some_and(|sealed| dead(sealed) * 100 > sealed.count() * DEAD_PERCENT)
}

fn has_graph(view: &View, rows: usize) -> bool {
    rows >= 2 && view.live >= view.options.exact_below && rows >= view.options.exact_below.min(GRAPH_ROWS)
}

/// Where the rows of a new sealed segment come from. A graph that is extended keeps its rows, dead ones too: they lead to others.
fn origins(view: &View, extends: bool) -> Vec<(Arc<Segment>, u32)> {
    let mut origins = Vec::new();
    for (number, segment) in view.sealed.iter().chain(&view.fresh).enumerate() {
        let whole = extends && number == 0;
        let rows = (0..segment.count() as u32).filter(|row| whole || segment.lives(*row, view.seen));
        origins.extend(rows.map(|row| (segment.clone(), row)));
    }
    origins
}

fn gathered(view: &View, id: u32, origins: &[(Arc<Segment>, u32)]) -> Result<Segment, Failure> {
    if origins.len() > VECTOR_ROWS_MAX {
        return Err(too_many());
    }
    let mut vectors = Rows::zeros(view.dims, origins.len());
    let mut keys = Keys::default();
    let mut slots = Vec::with_capacity(origins.len());
    for (number, (segment, row)) in origins.iter().enumerate() {
        let row = *row as usize;
        vectors.row_mut(number).copy_from_slice(segment.vectors.row(row));
        keys.push(segment.keys.get(row));
        slots.push(segment.slots[row]);
    }
    let mut segment = Segment::plain(id, vectors, keys, slots);
    segment.note_slots(|row| origins[row].0.lives(origins[row].1, view.seen));
    Ok(segment)
}
