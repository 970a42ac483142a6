//! The writes that ended rows. Most rows never end, so only blocks of which one has ended take memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Rows of a block.
const BLOCK: usize = 1024;
const ALIVE: u64 = u64::MAX;

/// For each row the number of the write that ended it.
#[derive(Debug)]
pub struct Marks {
    blocks: Vec<OnceLock<Box<[AtomicU64]>>>,
    count: usize,
    ended: AtomicUsize,
}

impl Marks {
    /// So many rows that live.
    pub fn new(count: usize) -> Self {
        let blocks = (0..count.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
        Marks { blocks, count, ended: AtomicUsize::new(0) }
    }

    /// Whether the row is there as of a write.
    #[inline(always)]
    pub fn lives(&self, row: usize, seen: u64) -> bool {
        match self.blocks[row / BLOCK].get() {
            None => true,
            Some(block) => block[row % BLOCK].load(Ordering::Relaxed) > seen,
        }
    }

    /// The write that ended a row.
    pub fn end(&self, row: usize) -> Option<u64> {
        let block = self.blocks[row / BLOCK].get()?;
        Some(block[row % BLOCK].load(Ordering::Relaxed)).filter(|end| *end != ALIVE)
    }

    /// Marks a row as ended by a write.
    pub fn set(&self, row: usize, write: u64) {
        let begun = row / BLOCK * BLOCK;
        let alive = || (begun..self.count.min(begun + BLOCK)).map(|_| AtomicU64::new(ALIVE)).collect();
        let block = self.blocks[row / BLOCK].get_or_init(alive);
        if block[row % BLOCK].swap(write, Ordering::Relaxed) == ALIVE {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many have ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().filter_map(OnceLock::get).map(|block| block.len() * size_of::<AtomicU64>());
        self.blocks.capacity() * size_of::<OnceLock<Box<[AtomicU64]>>>() + blocks.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_as_of_a_write() {
        let marks = Marks::new(2_500);
        assert!(marks.bytes() < 100);
        for row in [0, 1_023, 1_024, 2_499] {
            marks.set(row, 7);
            assert!(marks.lives(row, 6) && !marks.lives(row, 7));
            assert_eq!(marks.end(row), Some(7));
        }
        marks.set(0, 9);
        assert_eq!((marks.end(0), marks.end(1), marks.ended()), (Some(9), None, 4));
        assert!(marks.lives(2_498, u64::MAX - 1));
    }
}
