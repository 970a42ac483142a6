//! Lists of neighbours of fixed length, one after the other.

use super::Links;
use crate::vectors::rows::Rows;

/// No neighbour: a list ends here.
pub const EMPTY: u32 = u32::MAX;

/// Highest level that a node can have.
pub const LEVEL_MAX: usize = 15;

/// The levels of all nodes, and where their lists lie.
#[derive(Debug, Default)]
pub struct Shape {
    /// length of a list above the bottom; at the bottom they are twice as long
    pub m: usize,
    /// the number of a node's first list above the bottom, by node; the next node's number tells how many it has
    pub upper: Vec<u32>,
}

impl Shape {
    /// Nodes of these levels.
    pub fn new(m: usize, levels: impl IntoIterator<Item = usize>) -> Self {
        let mut upper = vec![0];
        for level in levels {
            let last = upper[upper.len() - 1];
            upper.push(last + level as u32);
        }
        Shape { m, upper }
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.upper.len().saturating_sub(1)
    }

    /// The highest level of a node.
    pub fn level(&self, node: u32) -> usize {
        (self.upper[node as usize + 1] - self.upper[node as usize]) as usize
    }

    /// Lists above the bottom.
    pub fn upper_lists(&self) -> usize {
        self.upper.last().map_or(0, |last| *last as usize)
    }

    /// Length of a list.
    pub fn length(&self, level: usize) -> usize {
        if level == 0 { 2 * self.m } else { self.m }
    }

    /// The place of a list above the bottom.
    pub fn place(&self, level: usize, node: u32) -> usize {
        (self.upper[node as usize] as usize + level - 1) * self.m
    }

    /// A node of the highest level.
    pub fn highest(&self) -> Option<(u32, usize)> {
        (0..self.count() as u32).map(|node| (node, self.level(node))).reduce(|a, b| if b.1 > a.1 { b } else { a })
    }
}

/// A finished graph.
#[derive(Debug)]
pub struct Graph {
    shape: Shape,
    entry: Option<(u32, usize)>,
    bottom: Rows<u32>,
    above: Vec<u32>,
}

impl Graph {
    /// From lists; neighbours that do not exist on a level are left out.
    pub fn new(shape: Shape, neighbours: impl Fn(usize, u32, &mut Vec<u32>)) -> Self {
        let mut graph = Graph {
            entry: shape.highest(),
            bottom: Rows::zeros(2 * shape.m, shape.count()),
            above: vec![EMPTY; shape.upper_lists() * shape.m],
            shape,
        };
        let mut list = Vec::new();
        for node in 0..graph.shape.count() as u32 {
            for level in 0..=graph.shape.level(node) {
                list.clear();
                neighbours(level, node, &mut list);
                list.retain(|id| {
                    (*id as usize) < graph.shape.count() && *id != node && graph.shape.level(*id) >= level
                });
                list.truncate(graph.shape.length(level));
                list.resize(graph.shape.length(level), EMPTY);
                match level {
                    0 => graph.bottom.row_mut(node as usize).copy_from_slice(&list),
                    _ => {
                        let place = graph.shape.place(level, node);
                        graph.above[place..place + list.len()].copy_from_slice(&list);
                    }
                }
            }
        }
        graph
    }

    /// Where a search begins, and its level.
    pub fn entry(&self) -> Option<(u32, usize)> {
        self.entry
    }

    /// The levels.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The list of a node on a level, filled up with `EMPTY`.
    pub fn list(&self, level: usize, node: u32) -> &[u32] {
        match level {
            0 => self.bottom.row(node as usize),
            _ => &self.above[self.shape.place(level, node)..][..self.shape.m],
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bottom.bytes() + (self.above.capacity() + self.shape.upper.capacity()) * size_of::<u32>()
    }
}

impl Links for Graph {
    #[inline(always)]
    fn each(&self, level: usize, node: u32, mut visit: impl FnMut(u32)) {
        for id in self.list(level, node) {
            if *id == EMPTY {
                return;
            }
            visit(*id);
        }
    }
}
