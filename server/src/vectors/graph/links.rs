//! Lists of neighbours of fixed length, one after the other.

use super::Links;
use crate::vectors::rows::Rows;

/// No neighbour: a list ends here.
pub const EMPTY: u32 = u32::MAX;

/// Highest level that a node can have.
pub const LEVEL_MAX: usize = 15;

/// The levels of all nodes, and where their lists lie. One node in `m` is above the bottom at all, so what is noted of the others
/// is that they are not.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// length of a list above the bottom; at the bottom they are twice as long
    pub m: usize,
    count: usize,
    /// a mark for each node above the bottom
    above: Vec<u64>,
    /// marks before each word
    ranks: Vec<u32>,
    /// by node above the bottom, the number of its first list there; the next node's number tells how many it has
    firsts: Vec<u32>,
}

impl Shape {
    /// Nodes of these levels.
    pub fn new(m: usize, levels: impl IntoIterator<Item = usize>) -> Self {
        let mut shape = Shape { m, firsts: vec![0], ..Shape::default() };
        let mut lists = 0;
        for level in levels {
            if shape.count.is_multiple_of(64) {
                shape.above.push(0);
                shape.ranks.push(shape.firsts.len() as u32 - 1);
            }
            if level > 0 {
                shape.above[shape.count / 64] |= 1 << (shape.count % 64);
                lists += level as u32;
                shape.firsts.push(lists);
            }
            shape.count += 1;
        }
        [&mut shape.ranks, &mut shape.firsts].into_iter().for_each(Vec::shrink_to_fit);
        shape.above.shrink_to_fit();
        shape
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Nodes above the bottom before this one, and whether it is one.
    fn rank(&self, node: u32) -> (usize, bool) {
        let (word, bit) = (node as usize / 64, node % 64);
        let before = self.above[word] & ((1 << bit) - 1);
        (self.ranks[word] as usize + before.count_ones() as usize, self.above[word] >> bit & 1 == 1)
    }

    /// The highest level of a node.
    pub fn level(&self, node: u32) -> usize {
        match self.rank(node) {
            (_, false) => 0,
            (rank, true) => (self.firsts[rank + 1] - self.firsts[rank]) as usize,
        }
    }

    /// Lists above the bottom.
    pub fn upper_lists(&self) -> usize {
        self.firsts.last().map_or(0, |last| *last as usize)
    }

    /// Lists above the bottom of all nodes before this one.
    pub fn lists_before(&self, node: u32) -> usize {
        self.firsts[self.rank(node).0] as usize
    }

    /// Length of a list.
    pub fn length(&self, level: usize) -> usize {
        if level == 0 { 2 * self.m } else { self.m }
    }

    /// The place of a list above the bottom.
    pub fn place(&self, level: usize, node: u32) -> usize {
        (self.lists_before(node) + level - 1) * self.m
    }

    /// A node of the highest level.
    pub fn highest(&self) -> Option<(u32, usize)> {
        (0..self.count() as u32).map(|node| (node, self.level(node))).reduce(|a, b| if b.1 > a.1 { b } else { a })
    }

    fn bytes(&self) -> usize {
        self.above.capacity() * size_of::<u64>() + (self.ranks.capacity() + self.firsts.capacity()) * size_of::<u32>()
    }
}

/// `EMPTY` in three bytes.
const NARROW_EMPTY: u32 = EMPTY >> 8;
/// Nodes up to which a number of three bytes names one: lists are a quarter shorter.
const NARROW_MAX: usize = NARROW_EMPTY as usize;

/// A finished graph.
#[derive(Debug)]
pub struct Graph {
    shape: Shape,
    entry: Option<(u32, usize)>,
    /// bytes of the number of a neighbour: three or four
    width: usize,
    bottom: Rows<u8>,
    above: Vec<u8>,
}

impl Graph {
    /// From lists; neighbours that do not exist on a level are left out.
    pub fn new(shape: Shape, neighbours: impl Fn(usize, u32, &mut Vec<u32>)) -> Self {
        let width = if shape.count() <= NARROW_MAX { 3 } else { 4 };
        Graph::of_width(width, shape, neighbours)
    }

    fn of_width(width: usize, shape: Shape, neighbours: impl Fn(usize, u32, &mut Vec<u32>)) -> Self {
        let mut graph = Graph {
            entry: shape.highest(),
            width,
            bottom: Rows::zeros(2 * shape.m * width, shape.count()),
            above: vec![0; shape.upper_lists() * shape.m * width],
            shape,
        };
        let mut list = Vec::new();
        for node in 0..graph.shape.count() as u32 {
            for level in 0..=graph.shape.level(node) {
                list.clear();
                neighbours(level, node, &mut list);
                list.retain(|id| {
                    let is_node = (*id as usize) < graph.shape.count() && *id != node;
                    is_node && (level == 0 || graph.shape.level(*id) >= level)
                });
                list.truncate(graph.shape.length(level));
                list.resize(graph.shape.length(level), EMPTY);
                let cells = match level {
                    0 => graph.bottom.row_mut(node as usize),
                    _ => {
                        let place = graph.shape.place(level, node) * width;
                        &mut graph.above[place..place + list.len() * width]
                    }
                };
                for (cell, id) in cells.chunks_mut(width).zip(&list) {
                    cell.copy_from_slice(&id.to_le_bytes()[..width]);
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

    #[inline(always)]
    fn cells(&self, level: usize, node: u32) -> &[u8] {
        match level {
            0 => self.bottom.row(node as usize),
            _ => &self.above[self.shape.place(level, node) * self.width..][..self.shape.m * self.width],
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bottom.bytes() + self.above.capacity() + self.shape.bytes()
    }
}

/// Four numbers of three bytes each.
#[inline(always)]
fn unpacked(bytes: &[u8; 12]) -> [u32; 4] {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (a, b, c) = (word(0), word(4), word(8));
    [a & NARROW_EMPTY, (a >> 24 | b << 8) & NARROW_EMPTY, (b >> 16 | c << 16) & NARROW_EMPTY, c >> 8]
}

impl Links for Graph {
    #[inline(always)]
    fn each(&self, level: usize, node: u32, mut visit: impl FnMut(u32)) {
        let cells = self.cells(level, node);
        if self.width == 3 {
            // Four numbers of three words: half the instructions that one after the other takes.
            let (fours, rest) = cells.as_chunks::<12>();
            for four in fours {
                for id in unpacked(four) {
                    if id == NARROW_EMPTY {
                        return;
                    }
                    visit(id);
                }
            }
            for [a, b, c] in rest.as_chunks::<3>().0 {
                let id = u32::from_le_bytes([*a, *b, *c, 0]);
                if id == NARROW_EMPTY {
                    return;
                }
                visit(id);
            }
            return;
        }
        for id in cells.as_chunks::<4>().0 {
            let id = u32::from_le_bytes(*id);
            if id == EMPTY {
                return;
            }
            visit(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(graph: &Graph, level: usize, node: u32) -> Vec<u32> {
        let mut list = Vec::new();
        graph.each(level, node, |id| list.push(id));
        list
    }

    #[test]
    fn lists_are_the_same_in_either_width() {
        for m in [2, 3, 4, 7] {
            check(m);
        }
    }

    fn check(m: usize) {
        let levels: Vec<usize> = (0..1_000).map(|node| if node % 17 == 5 { 1 + node % 3 } else { 0 }).collect();
        let shape = || Shape::new(m, levels.iter().copied());
        // Neighbours of a node are nodes behind it, itself and some that are not there among them.
        let neighbours = |level: usize, node: u32, list: &mut Vec<u32>| {
            list.extend((0..(node as usize % 20) as u32).map(|step| (node + 17 * step * (level as u32 + 1)) % 1_100));
        };
        let (narrow, wide) = (Graph::of_width(3, shape(), neighbours), Graph::of_width(4, shape(), neighbours));
        assert!(narrow.bytes() < wide.bytes());
        let shape = shape();
        assert_eq!(shape.upper_lists(), levels.iter().sum::<usize>());
        for node in 0..1_000u32 {
            let level = levels[node as usize];
            assert_eq!(shape.level(node), level);
            assert_eq!(shape.lists_before(node), levels[..node as usize].iter().sum::<usize>());
            for level in 0..=level {
                let mut list = Vec::new();
                neighbours(level, node, &mut list);
                list.retain(|id| *id < 1_000 && *id != node && levels[*id as usize] >= level);
                list.truncate(if level == 0 { 2 * m } else { m });
                assert_eq!(listed(&narrow, level, node), list);
                assert_eq!(listed(&wide, level, node), list);
            }
        }
    }

    /// Numbers of all sizes come out as they went in.
    #[test]
    fn numbers_of_three_bytes() {
        for ids in [[0, 1, 0xff_fffe, 0xff_ffff], [0x12_3456, 0x78_9abc, 0xde_f012, 0x34_5678]] {
            let mut bytes = [0; 12];
            for (cell, id) in bytes.chunks_mut(3).zip(ids) {
                cell.copy_from_slice(&u32::to_le_bytes(id)[..3]);
            }
            assert_eq!(unpacked(&bytes), ids);
        }
    }
}
