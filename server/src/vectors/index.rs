//! The index of one collection: writes come in one after the other, searches run beside them and never wait.
//!
//! A write goes into a small fresh segment that is scanned; `upkeep` (`seal`) moves what gathered there into the sealed segment and its
//! graph. Both are put in place of the old ones in one step. The index is derived: whoever doubts it builds a new one from the
//! vectors of the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use super::codes::CodeKind;
use super::metric::Metric;
use super::options::{IndexOptions, RowsIn};
use super::search::{Answer, Query};
use super::segment::Segment;
use super::view::View;
use super::writer::Writer;
use crate::failure::Failure;
use crate::limits::{VECTOR_KEY_BYTES_MAX, VECTOR_ROWS_MAX};

/// See above.
#[derive(Debug)]
pub struct Index {
    view: RwLock<Arc<View>>,
    pub(super) writer: Mutex<Writer>,
    pub(super) building: Mutex<()>,
    pub(super) done: AtomicUsize,
    pub(super) wanted: AtomicUsize,
    /// where files of vectors may lie
    folder: Option<PathBuf>,
    /// whether it was said that vectors stay in memory which should not
    said_full: AtomicBool,
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
    /// bytes of memory for each key that has a vector
    pub bytes_per_vector: usize,
    /// bytes of vectors on the disk
    pub disk_bytes: usize,
}

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
            wanted: AtomicUsize::new(0),
            folder: None,
            said_full: AtomicBool::new(false),
        })
    }

    /// The same with a folder for files of vectors. An index without one keeps them in memory, whatever its options say.
    #[must_use]
    pub fn beside(mut self, folder: Option<&Path>) -> Self {
        self.folder = folder.map(Path::to_path_buf);
        self
    }

    /// Moves the vectors of a segment to where they are to lie. What the disk does not take stays in memory.
    pub(super) fn settle(&self, segment: &mut Segment, rows: RowsIn) {
        if !segment.may_move() {
            return;
        }
        if let Some(folder) = self.folder.as_ref().filter(|_| rows == RowsIn::Disk) {
            match segment.spill(folder) {
                Ok(()) => {
                    self.said_full.store(false, Ordering::Relaxed);
                    return;
                }
                Err(error) if !self.said_full.swap(true, Ordering::Relaxed) => {
                    tracing::warn!(%error, folder = %folder.display(), "vectors stay in memory: the disk does not take them");
                }
                Err(_) => {}
            }
        }
        segment.pack();
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
    pub fn vector(&self, key: &[u8]) -> Result<Option<Vec<f32>>, Failure> {
        self.writer.lock().vector(key)
    }

    /// The slot of a key that has just this vector, to the bit.
    pub fn slot_of_same(&self, key: &[u8], vector: Option<&[f32]>) -> Option<u32> {
        let view = self.view();
        let kept = view.metric.kept(vector.filter(|vector| view.metric.check(view.dims, vector).is_ok())?);
        let writer = self.writer.lock();
        // One that cannot be read is written again.
        let known = writer.vector(key).ok().flatten()?;
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
            disk_bytes: view.segments().map(|segment| segment.vectors.disk_bytes()).sum(),
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

pub(super) fn too_many() -> Failure {
    Failure::invalid("E4012", format!("a collection has at most {VECTOR_ROWS_MAX} vectors; split it"))
}
