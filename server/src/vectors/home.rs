//! Where the vectors of a segment lie: in memory, or in a file of which only what is asked for is read.
//!
//! The file has no name, so nobody can open, cut or change it, and it is gone with the process, however that ends. Rows are read
//! and not mapped: a disk that fails is an error of one search, where a mapping would end the process. The pages that the system
//! keeps of the file are the cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::lanes::Cells;
use super::packed::PackedRows;
use super::rows::Rows;
use crate::failure::Failure;
use crate::limits::{VECTOR_GAP_BYTES, VECTOR_READ_BYTES};

/// Vectors in their kept form, one after the other.
#[derive(Debug)]
pub enum Vectors {
    /// while they are fresh, while a graph is built, and where a search walks on them or compares all of them
    Memory(Rows<f32>),
    /// in memory, of a sealed segment whose graph is walked on codes
    Packed(PackedRows),
    /// the same on the disk
    Disk(FileRows),
}

/// Rows at the front of a file. A segment that goes on with these rows appends its own to the same file.
#[derive(Debug)]
pub struct FileRows {
    file: Arc<File>,
    dims: usize,
    count: usize,
}

fn unreadable(error: &io::Error) -> Failure {
    let message = format!(
        "a vector cannot be read from the disk: {error}; look at the disk of the data directory and start again, the index is \
         then filled from its records"
    );
    Failure::internal("E4014", message)
}

impl FileRows {
    /// A file in a folder, with these rows in it.
    pub fn create(folder: &Path, rows: &Rows<f32>) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = Arc::new(tempfile::tempfile_in(folder)?);
        FileRows { file, dims: rows.cells().stride, count: 0 }.with(rows)
    }

    /// These rows and more behind them. Only the newest segment goes on, so nobody reads what lies there yet.
    fn with(&self, rows: &Rows<f32>) -> io::Result<Self> {
        self.file.write_all_at(bytemuck::cast_slice(rows.all()), self.place(self.count))?;
        // Once it is on the disk, a disk that fails to write cannot be noticed too late.
        self.file.sync_data()?;
        Ok(FileRows { file: self.file.clone(), dims: self.dims, count: self.count + rows.count() })
    }

    fn place(&self, row: usize) -> u64 {
        (row * self.dims * size_of::<f32>()) as u64
    }

    /// Reads rows that lie together.
    fn read(&self, first: usize, rows: &mut [f32]) -> Result<(), Failure> {
        let bytes = bytemuck::cast_slice_mut(rows);
        self.file.read_exact_at(bytes, self.place(first)).map_err(|error| unreadable(&error))
    }

    /// How many of these rows, from the first on, are read at once: what lies between them is less than a look of its own costs.
    fn run(&self, ids: &[u32]) -> usize {
        let row_bytes = self.dims * size_of::<f32>();
        let (gap, most) = (VECTOR_GAP_BYTES / row_bytes + 1, VECTOR_READ_BYTES / row_bytes);
        let near = |pair: &&[u32]| {
            pair[1] > pair[0] && (pair[1] - pair[0]) as usize <= gap && ((pair[1] - ids[0]) as usize) < most
        };
        1 + ids.windows(2).take_while(near).count()
    }

    #[cfg(test)]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The same rows in a file that takes no more.
    #[cfg(test)]
    pub fn read_only(&self) -> Self {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        FileRows { file: Arc::new(File::open(path).expect("it is open")), ..*self }
    }
}

impl Vectors {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Vectors::Memory(rows) => rows.count(),
            Vectors::Packed(rows) => rows.count(),
            Vectors::Disk(file) => file.count,
        }
    }

    /// What is in memory as it is; of other homes nothing.
    pub fn cells(&self) -> Cells<'_, f32> {
        match self {
            Vectors::Memory(rows) => rows.cells(),
            Vectors::Packed(rows) => Cells { cells: &[], stride: rows.dims() },
            Vectors::Disk(file) => Cells { cells: &[], stride: file.dims },
        }
    }

    /// One row. It is in the buffer if it is not in memory as it is.
    pub fn row<'a>(&'a self, row: usize, buffer: &'a mut Vec<f32>) -> Result<&'a [f32], Failure> {
        match self {
            Vectors::Memory(rows) => Ok(rows.row(row)),
            Vectors::Packed(rows) => {
                buffer.resize(rows.dims(), 0.0);
                rows.read(row, buffer);
                Ok(buffer)
            }
            Vectors::Disk(file) => {
                buffer.resize(file.dims, 0.0);
                file.read(row, buffer)?;
                Ok(buffer)
            }
        }
    }

    /// Hands over rows in the order in which they are asked for, as many at once as lie near each other.
    pub fn visit(
        &self,
        ids: &[u32],
        buffer: &mut Vec<f32>,
        mut visit: impl FnMut(Cells<f32>, &[u32]),
    ) -> Result<(), Failure> {
        let file = match self {
            Vectors::Memory(rows) => {
                visit(rows.cells(), ids);
                return Ok(());
            }
            Vectors::Packed(rows) => {
                rows.visit(ids, buffer, visit);
                return Ok(());
            }
            Vectors::Disk(file) => file,
        };
        let (mut rest, mut places) = (ids, Vec::new());
        while let Some(first) = rest.first() {
            let (now, later) = rest.split_at(file.run(rest));
            let rows = (now[now.len() - 1] - first) as usize + 1;
            buffer.resize(rows * file.dims, 0.0);
            file.read(*first as usize, buffer)?;
            places.clear();
            places.extend(now.iter().map(|id| id - first));
            visit(Cells { cells: buffer, stride: file.dims }, &places);
            rest = later;
        }
        Ok(())
    }

    /// These and more behind them, in the same home. Where it cannot take them, all are in memory.
    pub fn with(&self, rows: &Rows<f32>) -> Result<Vectors, Failure> {
        match self {
            Vectors::Disk(file) => {
                if let Ok(file) = file.with(rows) {
                    return Ok(Vectors::Disk(file));
                }
            }
            Vectors::Packed(packed) => {
                if let Some(packed) = packed.with(rows) {
                    return Ok(Vectors::Packed(packed));
                }
            }
            Vectors::Memory(_) => {}
        }
        let mut all = Rows::zeros(rows.cells().stride, self.count() + rows.count());
        let mut buffer = Vec::new();
        for row in 0..self.count() {
            all.row_mut(row).copy_from_slice(self.row(row, &mut buffer)?);
        }
        for row in 0..rows.count() {
            all.row_mut(self.count() + row).copy_from_slice(rows.row(row));
        }
        Ok(Vectors::Memory(all))
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match self {
            Vectors::Memory(rows) => rows.bytes(),
            Vectors::Packed(rows) => rows.bytes(),
            Vectors::Disk(_) => 0,
        }
    }

    /// Bytes on the disk.
    pub fn disk_bytes(&self) -> usize {
        match self {
            Vectors::Memory(_) | Vectors::Packed(_) => 0,
            Vectors::Disk(file) => file.count * file.dims * size_of::<f32>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All homes hand over the same rows, however they are asked for.
    #[test]
    fn rows_of_each_home_are_those_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        for dims in [1, 3, 100, 8_192] {
            let count = if dims == 8_192 { 40 } else { 5_000 };
            let rows = |from: usize, to: usize| {
                let mut rows = Rows::zeros(dims, to - from);
                for row in from..to {
                    rows.row_mut(row - from).iter_mut().enumerate().for_each(|(at, x)| *x = (row * 7 + at) as f32);
                }
                rows
            };
            let file = Vectors::Disk(FileRows::create(folder.path(), &rows(0, count / 2)).unwrap());
            let file = file.with(&rows(count / 2, count)).unwrap();
            assert_eq!((file.count(), file.bytes()), (count, 0));
            assert_eq!(file.disk_bytes(), count * dims * 4);
            let memory = Vectors::Memory(rows(0, count / 2)).with(&rows(count / 2, count)).unwrap();
            let packed = PackedRows::new(&rows(0, count / 2))
                .map(|packed| Vectors::Packed(packed).with(&rows(count / 2, count)));
            assert_eq!(packed.is_some(), dims > 3);
            let last = count as u32 - 1;
            let all: Vec<u32> = (0..=last).collect();
            let some: Vec<u32> = (0..=last).step_by(7).collect();
            for ids in [all, some, vec![last, 0, 3, 4, 4, 2, last], vec![last]] {
                let seen = |vectors: &Vectors| {
                    let mut seen: Vec<f32> = Vec::new();
                    let visit = |cells: Cells<f32>, ids: &[u32]| {
                        seen.extend(ids.iter().flat_map(|id| &cells.cells[*id as usize * cells.stride..][..dims]));
                    };
                    vectors.visit(&ids, &mut Vec::new(), visit).unwrap();
                    seen
                };
                assert_eq!(seen(&file), seen(&memory));
                if let Some(packed) = &packed {
                    let packed = packed.as_ref().unwrap();
                    assert!(matches!(packed, Vectors::Packed(_)) && packed.count() == count);
                    assert_eq!(seen(packed), seen(&memory));
                }
            }
            let mut buffer = Vec::new();
            assert_eq!(file.row(count - 1, &mut buffer).unwrap(), memory.row(count - 1, &mut Vec::new()).unwrap());
        }
    }
}
