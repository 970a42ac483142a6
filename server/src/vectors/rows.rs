//! Rows of equal length in one piece of memory.

use super::lanes::Cells;

/// Rows that begin at a cache line, so that a row of 128 bytes touches two of them and not three.
#[derive(Debug)]
pub struct Rows<T> {
    cells: Vec<T>,
    first: usize,
    stride: usize,
    count: usize,
}

const LINE_BYTES: usize = 64;

impl<T: Copy + Default> Rows<T> {
    /// So many rows of zeros.
    pub fn zeros(stride: usize, count: usize) -> Self {
        let spare = LINE_BYTES / size_of::<T>();
        let cells = vec![T::default(); stride * count + spare];
        let first = cells.as_ptr().align_offset(LINE_BYTES).min(spare);
        Rows { cells, first, stride, count }
    }

    /// One row.
    pub fn row(&self, number: usize) -> &[T] {
        &self.cells[self.first + number * self.stride..][..self.stride]
    }

    /// One row, to be written.
    pub fn row_mut(&mut self, number: usize) -> &mut [T] {
        &mut self.cells[self.first + number * self.stride..][..self.stride]
    }

    /// All of them.
    pub fn cells(&self) -> Cells<'_, T> {
        Cells { cells: self.all(), stride: self.stride }
    }

    /// All of them, one after the other.
    pub fn all(&self) -> &[T] {
        &self.cells[self.first..][..self.stride * self.count]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<T>()
    }
}
