//! Rows of equal length in one piece of memory.

use bytemuck::Pod;
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;

use super::lanes::Cells;

/// Rows that begin at a cache line, so that a row of 128 bytes touches two of them and not three.
#[derive(Debug)]
pub struct Rows<T> {
    memory: Memory<T>,
    stride: usize,
    count: usize,
}

/// Where the cells are.
#[derive(Debug)]
enum Memory<T> {
    /// and the first of them that is at the beginning of a line
    Heap(Vec<T>, usize),
    /// pages of their own
    Pages(MmapMut),
}

const LINE_BYTES: usize = 64;
/// A huge page.
const PAGES_LEAST: usize = 2 << 20;

impl<T: Pod> Memory<T> {
    fn zeros(count: usize) -> Self {
        Memory::pages(count * size_of::<T>()).unwrap_or_else(|| {
            let spare = LINE_BYTES / size_of::<T>();
            let cells = vec![T::zeroed(); count + spare];
            let first = cells.as_ptr().align_offset(LINE_BYTES).min(spare);
            Memory::Heap(cells, first)
        })
    }

    /// A walk goes from one end of its rows to the other all the time. Where the system gives huge pages for the asking, it waits less
    /// often for the place of a page: the allocator does not ask for them, since what it has comes and goes too often.
    fn pages(bytes: usize) -> Option<Self> {
        if bytes < PAGES_LEAST {
            return None;
        }
        // Where there is no memory left, the allocator says so as it does everywhere.
        let pages = MmapMut::map_anon(bytes).ok()?;
        #[cfg(target_os = "linux")]
        if let Err(error) = pages.advise(Advice::HugePage) {
            tracing::debug!(%error, "vectors lie in pages of the usual size");
        }
        Some(Memory::Pages(pages))
    }

    #[inline(always)]
    fn cells(&self) -> &[T] {
        match self {
            Memory::Heap(cells, first) => &cells[*first..],
            Memory::Pages(pages) => bytemuck::cast_slice(pages),
        }
    }

    fn cells_mut(&mut self) -> &mut [T] {
        match self {
            Memory::Heap(cells, first) => &mut cells[*first..],
            Memory::Pages(pages) => bytemuck::cast_slice_mut(pages),
        }
    }
}

impl<T: Pod> Rows<T> {
    /// So many rows of zeros.
    pub fn zeros(stride: usize, count: usize) -> Self {
        Rows { memory: Memory::zeros(stride * count), stride, count }
    }

    /// One row.
    #[inline(always)]
    pub fn row(&self, number: usize) -> &[T] {
        &self.memory.cells()[number * self.stride..][..self.stride]
    }

    /// One row, to be written.
    pub fn row_mut(&mut self, number: usize) -> &mut [T] {
        let stride = self.stride;
        &mut self.memory.cells_mut()[number * stride..][..stride]
    }

    /// All of them.
    pub fn cells(&self) -> Cells<'_, T> {
        Cells { cells: self.all(), stride: self.stride }
    }

    /// All of them, one after the other.
    pub fn all(&self) -> &[T] {
        &self.memory.cells()[..self.stride * self.count]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Heap(cells, _) => cells.capacity() * size_of::<T>(),
            Memory::Pages(pages) => pages.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On the heap as in pages: zeros first, and what is written into one row is in no other.
    #[test]
    fn rows_are_as_they_were_written() {
        for (stride, count) in [(3, 0), (3, 10), (100, 5_242), (100, 5_243), (4_096, 1_000)] {
            let mut rows = Rows::<f32>::zeros(stride, count);
            assert_eq!(rows.all(), vec![0.0; stride * count]);
            assert_eq!(matches!(rows.memory, Memory::Pages(_)), stride * count * 4 >= PAGES_LEAST);
            (0..count).for_each(|row| rows.row_mut(row).fill(row as f32));
            assert!((0..count).all(|row| rows.row(row).iter().all(|x| *x == row as f32)));
            assert!(rows.all().as_ptr().align_offset(LINE_BYTES) == 0 && rows.bytes() >= stride * count * 4);
        }
    }
}
