//! Rows become row groups, row groups files: one sequence of files a folder, each with the rows in the order of the spine.
//!
//! Rows wait until their row group is whole. Where many folders share the memory for that, the one with the most rows is
//! written before its group is whole; where they would share too many open files, the one that has been quiet longest is
//! closed, and goes on with another file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;

use crate::columnar::{ParquetWriter, WrittenFile};
use crate::limits::{EXPORT_BUFFER_BYTES, EXPORT_FILE_ROWS, EXPORT_FILES_OPEN, EXPORT_GROUP_ROWS};

/// The limits of files; tests have smaller ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub group_rows: usize,
    pub file_rows: u64,
    pub buffer_bytes: usize,
    pub files_open: usize,
}

/// A file of the training set.
#[derive(Clone, Debug)]
pub(super) struct SetFile {
    /// in the training set, with `/`
    pub path: String,
    pub written: WrittenFile,
}

/// All files that are being written.
pub(super) struct Files {
    root: PathBuf,
    schema: SchemaRef,
    notes: Vec<(&'static str, String)>,
    pub sizes: Sizes,
    folders: BTreeMap<String, Folder>,
    buffered_bytes: usize,
    /// counts row groups, to know who has been quiet
    turn: u64,
    done: Vec<SetFile>,
}

#[derive(Default)]
struct Folder {
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    open: Option<(String, ParquetWriter)>,
    parts: u32,
    last_turn: u64,
}

impl Files {
    pub fn new(root: &Path, schema: SchemaRef, notes: Vec<(&'static str, String)>) -> Files {
        let sizes = Sizes {
            group_rows: EXPORT_GROUP_ROWS,
            file_rows: EXPORT_FILE_ROWS,
            buffer_bytes: EXPORT_BUFFER_BYTES,
            files_open: EXPORT_FILES_OPEN,
        };
        let (root, folders, done) = (root.to_path_buf(), BTreeMap::new(), Vec::new());
        Files { root, schema, notes, sizes, folders, buffered_bytes: 0, turn: 0, done }
    }

    /// Adds rows to a folder, behind those that it has.
    pub fn add(&mut self, folder: &str, batch: RecordBatch) -> Result<(), String> {
        let mut taken = 0;
        while taken < batch.num_rows() {
            let state = self.folders.entry(folder.to_string()).or_default();
            let count = (self.sizes.group_rows - state.rows).min(batch.num_rows() - taken);
            let part = batch.slice(taken, count);
            let bytes = bytes_of(&part);
            state.waiting.push(part);
            (state.rows, state.bytes) = (state.rows + count, state.bytes + bytes);
            self.buffered_bytes += bytes;
            taken += count;
            if state.rows == self.sizes.group_rows {
                self.write_group(folder)?;
            }
        }
        while self.buffered_bytes > self.sizes.buffer_bytes {
            let largest = self.folders.iter().max_by_key(|(_, state)| state.bytes).map(|(name, _)| name.clone());
            let Some(largest) = largest else { break };
            self.write_group(&largest)?;
        }
        Ok(())
    }

    /// Makes sure that a folder has a file, if only one without rows.
    pub fn add_empty(&mut self, folder: &str) {
        self.folders.entry(folder.to_string()).or_default();
    }

    /// Writes what waits and closes all files; they come in the order of their paths.
    pub fn finish(&mut self) -> Result<Vec<SetFile>, String> {
        let names: Vec<String> = self.folders.keys().cloned().collect();
        for name in &names {
            self.write_group(name)?;
            let never_written = self.folders.get(name).is_some_and(|state| state.parts == 0);
            if never_written {
                self.open(name)?;
            }
            self.close(name)?;
        }
        let mut done = std::mem::take(&mut self.done);
        done.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(done)
    }

    /// Writes what waits for a folder as one row group.
    fn write_group(&mut self, folder: &str) -> Result<(), String> {
        let Some(state) = self.folders.get_mut(folder).filter(|state| state.rows > 0) else { return Ok(()) };
        if state.open.is_none() {
            self.close_quiet()?;
            self.open(folder)?;
        }
        self.turn += 1;
        let Some(state) = self.folders.get_mut(folder) else { return Ok(()) };
        let Some((path, writer)) = &mut state.open else { return Ok(()) };
        let waiting = std::mem::take(&mut state.waiting);
        self.buffered_bytes -= state.bytes;
        (state.rows, state.bytes, state.last_turn) = (0, 0, self.turn);
        writer.write_row_group(&waiting).map_err(|e| format!("{path}: {e}"))?;
        if writer.rows() >= self.sizes.file_rows { self.close(folder) } else { Ok(()) }
    }

    /// Closes files until one more may be open.
    fn close_quiet(&mut self) -> Result<(), String> {
        loop {
            let open = self.folders.iter().filter(|(_, state)| state.open.is_some());
            if open.clone().count() < self.sizes.files_open {
                return Ok(());
            }
            let quiet = open.min_by_key(|(_, state)| state.last_turn).map(|(name, _)| name.clone());
            self.close(&quiet.unwrap_or_default())?;
        }
    }

    fn open(&mut self, folder: &str) -> Result<(), String> {
        let Some(state) = self.folders.get_mut(folder) else { return Ok(()) };
        let name = format!("part-{:05}.parquet", state.parts);
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        std::fs::create_dir_all(self.root.join(folder)).map_err(|e| format!("{folder}: {e}"))?;
        let notes: Vec<(&str, &str)> = self.notes.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let writer = ParquetWriter::create(&self.root.join(&path), self.schema.clone(), &notes);
        state.open = Some((path.clone(), writer.map_err(|e| format!("{path}: {e}"))?));
        state.parts += 1;
        Ok(())
    }

    fn close(&mut self, folder: &str) -> Result<(), String> {
        let open = self.folders.get_mut(folder).and_then(|state| state.open.take());
        let Some((path, writer)) = open else { return Ok(()) };
        let written = writer.finish().map_err(|e| format!("{path}: {e}"))?;
        self.done.push(SetFile { path, written });
        Ok(())
    }
}

/// The memory of a batch's rows, not of the whole arrays that it may be a part of.
fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes =
        |array: &dyn Array| array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    batch.columns().iter().map(|array| bytes(array)).sum()
}
