//! Upkeep: fresh vectors move into the sealed segment, and one of which many vectors are dead is built anew.
//!
//! Vectors lie in memory while a graph is built of them. A graph that is extended needs no others than the fresh ones, so those
//! that are on the disk already stay there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::index::{Index, too_many};
use super::keys::Keys;
use super::options::Builder;
use super::rows::Rows;
use super::segment::{Recipe, Segment};
use super::view::View;
use crate::failure::Failure;
use crate::limits::{DEAD_PERCENT, FRESH_ROWS_MAX, FRESH_ROWS_MIN, FRESH_SHARE, VECTOR_ROWS_MAX};

/// Segments smaller than this have no graph, in large collections too: a scan of them is as fast.
const GRAPH_ROWS: usize = 4_096;

/// Rows of segments, from which a new one is made.
type Origins = Vec<(Arc<Segment>, u32)>;

impl Index {
    /// Whether upkeep would do something.
    pub fn due(&self) -> bool {
        let view = self.view();
        // In a small collection a search takes little time, and so does taking fresh vectors in.
        let most = (view.live / FRESH_SHARE).clamp(FRESH_ROWS_MIN, FRESH_ROWS_MAX);
        too_many_dead(&view) || view.fresh.iter().map(|chunk| chunk.count()).sum::<usize>() >= most
    }

    /// Moves fresh vectors into the sealed segment once there are many, and builds it anew once many of its vectors are dead.
    /// It takes long, on the caller's thread and `threads - 1` more; searches and writes go on meanwhile.
    pub fn upkeep(&self, threads: usize) -> Result<bool, Failure> {
        if !self.due() {
            return Ok(false);
        }
        let anew = too_many_dead(&self.view());
        match anew {
            true => self.rebuild(Builder::Flat, threads)?,
            false => self.extend(Builder::Flat, threads)?,
        }
        Ok(true)
    }

    /// Builds the sealed segment anew, of all vectors. What is deleted is gone from memory afterwards.
    pub fn rebuild(&self, builder: Builder, threads: usize) -> Result<(), Failure> {
        self.seal(true, builder, threads)
    }

    /// Moves fresh vectors into the sealed segment, however few they are.
    pub fn extend(&self, builder: Builder, threads: usize) -> Result<(), Failure> {
        self.seal(false, builder, threads)
    }

    /// Vectors whose neighbours have been found, and all vectors, of the graph that is being built; none where none is.
    pub fn building(&self) -> (usize, usize) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).min(wanted), wanted)
    }

    fn seal(&self, anew: bool, builder: Builder, threads: usize) -> Result<(), Failure> {
        let _one = self.building.lock();
        let made = self.make(anew, builder, threads);
        self.wanted.store(0, Ordering::Relaxed);
        made
    }

    /// What is to be sealed, and a number for it. All under one lock: what is written next goes into a chunk that this view has not.
    pub(super) fn begun(&self) -> (u32, Arc<View>) {
        let mut writer = self.writer.lock();
        writer.close();
        self.publish(&writer);
        (writer.segment_id(), self.view())
    }

    fn make(&self, anew: bool, builder: Builder, threads: usize) -> Result<(), Failure> {
        let (id, view) = self.begun();
        let grown = view.sealed.as_deref().filter(|sealed| !anew && sealed.body.is_some());
        let origins = origins(&view, grown.is_some());
        if origins.len() > VECTOR_ROWS_MAX {
            return Err(too_many());
        }
        self.done.store(0, Ordering::Relaxed);
        self.wanted.store(origins.len() - grown.map_or(0, Segment::count), Ordering::Relaxed);
        let recipe = Recipe { metric: view.metric, options: &view.options, builder, threads, done: &self.done };
        let mut segment = match grown.map(|sealed| extended(sealed, id, &origins, recipe)).transpose()?.flatten() {
            Some(segment) => segment,
            None => {
                let (keys, slots) = names(&origins);
                let segment = Segment::plain(id, gathered(view.dims, &origins)?, keys, slots);
                if has_graph(&view, segment.count()) { segment.with_graph(recipe)? } else { segment }
            }
        };
        segment.note_slots(|row| origins[row].0.lives(origins[row].1, view.seen));
        self.settle(&mut segment, view.options.rows);
        let mut writer = self.writer.lock();
        let inputs: Vec<u32> = view.segments().map(|segment| segment.id).collect();
        writer.swap(&segment, &origins);
        writer.replace(Arc::new(segment), &inputs);
        self.publish(&writer);
        Ok(())
    }
}

fn too_many_dead(view: &View) -> bool {
    let dead = |segment: &Segment| segment.count() - segment.live();
    view.sealed.as_ref().is_some_and(|sealed| dead(sealed) * 100 > sealed.count() * DEAD_PERCENT)
}

fn has_graph(view: &View, rows: usize) -> bool {
    rows >= 2 && view.live >= view.options.exact_below && rows >= view.options.exact_below.min(GRAPH_ROWS)
}

/// Where the rows of a new sealed segment come from. A graph that is extended keeps its rows, dead ones too: they lead to others.
fn origins(view: &View, extends: bool) -> Origins {
    let mut origins = Vec::new();
    for (number, segment) in view.sealed.iter().chain(&view.fresh).enumerate() {
        let whole = extends && number == 0;
        let rows = (0..segment.count() as u32).filter(|row| whole || segment.lives(*row, view.seen));
        origins.extend(rows.map(|row| (segment.clone(), row)));
    }
    origins
}

fn extended(
    sealed: &Segment,
    id: u32,
    origins: &[(Arc<Segment>, u32)],
    recipe: Recipe,
) -> Result<Option<Segment>, Failure> {
    let fresh = gathered(sealed.vectors.cells().stride, &origins[sealed.count()..])?;
    sealed.extended(id, &fresh, names(origins), recipe)
}

fn gathered(dims: usize, origins: &[(Arc<Segment>, u32)]) -> Result<Rows<f32>, Failure> {
    let mut rows = Rows::zeros(dims, origins.len());
    let mut buffer = Vec::new();
    for (number, (segment, row)) in origins.iter().enumerate() {
        rows.row_mut(number).copy_from_slice(segment.vectors.row(*row as usize, &mut buffer)?);
    }
    Ok(rows)
}

/// Keys and slots.
fn names(origins: &[(Arc<Segment>, u32)]) -> (Keys, Vec<u32>) {
    let mut keys = Keys::default();
    let mut slots = Vec::with_capacity(origins.len());
    for (segment, row) in origins {
        keys.push(segment.keys.get(*row as usize));
        slots.push(segment.slots[*row as usize]);
    }
    (keys, slots)
}
