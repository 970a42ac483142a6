//! Builds a graph, and extends one by new rows, on several threads.
//!
//! A new node looks for its neighbours in the graph so far, writes its own lists, and then enters itself in theirs. Lists are
//! atomic numbers that anyone may read while they change; one lock for each node keeps two writers apart. Of many near
//! candidates those stay that are nearer to the node than to one another: they lead into all directions.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::links::LEVEL_MAX;
use super::{CodedQuery, EMPTY, Graph, Links, Scratch, Shape, Space, descend, walk};
use crate::vectors::options::IndexOptions;
use crate::vectors::pool::ordered;

/// A graph of all rows. With one thread the same rows give the same graph.
pub fn build(space: Space, options: &IndexOptions, threads: usize, done: &AtomicUsize) -> Graph {
    grow(space, None, options, threads, done)
}

/// A graph that has the rows of `old` and those after them.
pub fn extend(space: Space, old: &Graph, options: &IndexOptions, threads: usize, done: &AtomicUsize) -> Graph {
    grow(space, Some(old), options, threads, done)
}

fn grow(space: Space, old: Option<&Graph>, options: &IndexOptions, threads: usize, done: &AtomicUsize) -> Graph {
    let count = space.count;
    let begun = old.map_or(0, |graph| graph.shape().count());
    let mut random = StdRng::seed_from_u64(begun as u64);
    let levels = (0..count).map(|node| match old {
        Some(graph) if node < begun => graph.shape().level(node as u32),
        _ => level(&mut random, options.m),
    });
    let growing = Growing::new(space, Shape::new(options.m, levels), options.ef_construction, old);
    let next = AtomicUsize::new(begun);
    let work = || {
        let mut scratch = Scratch::default();
        let mut choice = Choice::default();
        loop {
            let node = next.fetch_add(1, Ordering::Relaxed);
            if node >= count {
                return;
            }
            growing.insert(node as u32, &mut scratch, &mut choice);
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    // Few rows are done before a thread has begun.
    match (threads, count - begun) {
        (2.., 1000..) => std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work)))),
        _ => work(),
    }
    growing.finish()
}

/// Each level has one m-th of the nodes of the level below.
fn level(random: &mut StdRng, m: usize) -> usize {
    (0..LEVEL_MAX).take_while(|_| random.random_range(0..m) == 0).count()
}

struct Growing<'a> {
    space: Space<'a>,
    shape: Shape,
    ef: usize,
    bottom: Vec<AtomicU32>,
    above: Vec<AtomicU32>,
    locks: Vec<Mutex<()>>,
    entry: RwLock<Option<(u32, usize)>>,
}

/// Memory for the choice of neighbours.
#[derive(Default)]
struct Choice {
    query: CodedQuery,
    near: Vec<(u32, u32)>,
    chosen: Vec<u32>,
    list: Vec<u32>,
    distances: Vec<f32>,
    starts: Vec<u32>,
}

impl<'a> Growing<'a> {
    fn new(space: Space<'a>, shape: Shape, ef: usize, old: Option<&Graph>) -> Self {
        let lists = |count: usize| (0..count).map(|_| AtomicU32::new(EMPTY)).collect::<Vec<_>>();
        let growing = Growing {
            space,
            ef,
            bottom: lists(shape.count() * 2 * shape.m),
            above: lists(shape.upper_lists() * shape.m),
            locks: (0..shape.count()).map(|_| Mutex::new(())).collect(),
            entry: RwLock::new(old.and_then(Graph::entry)),
            shape,
        };
        let mut list = Vec::new();
        for node in 0..old.map_or(0, |graph| graph.shape().count()) as u32 {
            for (level, graph) in (0..=growing.shape.level(node)).filter_map(|level| Some((level, old?))) {
                list.clear();
                graph.each(level, node, |id| list.push(id));
                growing.write(level, node, &list);
            }
        }
        growing
    }

    fn list(&self, level: usize, node: u32) -> &[AtomicU32] {
        let length = self.shape.length(level);
        match level {
            0 => &self.bottom[node as usize * length..][..length],
            _ => &self.above[self.shape.place(level, node)..][..length],
        }
    }

    fn write(&self, level: usize, node: u32, neighbours: &[u32]) {
        let rest = std::iter::repeat(&EMPTY);
        for (cell, id) in self.list(level, node).iter().zip(neighbours.iter().chain(rest)) {
            cell.store(*id, Ordering::Relaxed);
        }
    }

    fn insert(&self, node: u32, scratch: &mut Scratch, choice: &mut Choice) {
        let own = self.shape.level(node);
        self.space.row_query(node, &mut scratch.query);
        let entry = *self.entry.read();
        let Some((entry, top)) = entry.or_else(|| self.first(node)) else { return };
        let above = (own + 1..=top).rev();
        let start = above.fold(entry, |from, level| descend(self, self.space, scratch, level, from, &mut 0));
        choice.starts.clear();
        choice.starts.push(start);
        for level in (0..=own.min(top)).rev() {
            scratch.pool.reset(self.ef);
            walk(self, self.space, scratch, level, &choice.starts, usize::MAX, |_| true);
            choice.near.clear();
            choice.near.extend(scratch.pool.found().map(|(distance, id)| (ordered(distance), id)));
            choice.near.retain(|(_, id)| *id != node);
            choice.starts.clear();
            choice.starts.extend(choice.near.iter().map(|(_, id)| *id));
            self.choose(choice, self.shape.m);
            self.write(level, node, &choice.chosen);
        }
        // Only now can others come here: each list that they read is whole.
        for level in (0..=own.min(top)).rev() {
            choice.list.clear();
            self.each(level, node, |id| choice.list.push(id));
            for other in std::mem::take(&mut choice.list) {
                self.enter(level, other, node, choice);
            }
        }
        if own > top {
            let mut entry = self.entry.write();
            if entry.is_none_or(|(_, top)| own > top) {
                *entry = Some((node, own));
            }
        }
    }

    /// The first node of all has no one to look for.
    fn first(&self, node: u32) -> Option<(u32, usize)> {
        let mut entry = self.entry.write();
        if entry.is_none() {
            *entry = Some((node, self.shape.level(node)));
            return None;
        }
        *entry
    }

    /// Enters a new neighbour in the list of a node; a full list is chosen anew.
    fn enter(&self, level: usize, node: u32, new: u32, choice: &mut Choice) {
        let _lock = self.locks[node as usize].lock();
        let cells = self.list(level, node);
        let mut neighbours = Vec::with_capacity(cells.len() + 1);
        self.each(level, node, |id| neighbours.push(id));
        if neighbours.contains(&new) {
            return;
        }
        if neighbours.len() < cells.len() {
            return cells[neighbours.len()].store(new, Ordering::Relaxed);
        }
        neighbours.push(new);
        self.space.row_query(node, &mut choice.query);
        self.space.distances(&choice.query, &neighbours, &mut choice.distances);
        choice.near.clear();
        choice.near.extend(choice.distances.iter().map(|x| ordered(*x)).zip(neighbours));
        choice.near.sort_unstable();
        self.choose(choice, cells.len());
        self.write(level, node, &choice.chosen);
    }

    /// Of `near`, the nearest first, those that no chosen one is nearer to than the node itself.
    fn choose(&self, choice: &mut Choice, limit: usize) {
        let Choice { query, near, chosen, distances, .. } = choice;
        chosen.clear();
        for (distance, id) in near.iter() {
            if chosen.len() == limit {
                return;
            }
            let covered = !chosen.is_empty() && {
                self.space.row_query(*id, query);
                chosen.chunks(4).any(|some| {
                    self.space.distances(query, some, distances);
                    distances.iter().any(|between| ordered(*between) < *distance)
                })
            };
            if !covered {
                chosen.push(*id);
            }
        }
    }

    fn finish(self) -> Graph {
        let Growing { shape, bottom, above, .. } = &self;
        Graph::new(shape.clone(), |level, node, list| {
            let cells = match level {
                0 => &bottom[node as usize * 2 * shape.m..][..2 * shape.m],
                _ => &above[shape.place(level, node)..][..shape.m],
            };
            list.extend(cells.iter().map(|cell| cell.load(Ordering::Relaxed)).take_while(|id| *id != EMPTY));
        })
    }
}

impl Links for Growing<'_> {
    #[inline(always)]
    fn each(&self, level: usize, node: u32, mut visit: impl FnMut(u32)) {
        for cell in self.list(level, node) {
            let id = cell.load(Ordering::Relaxed);
            if id == EMPTY {
                return;
            }
            visit(id);
        }
    }
}
