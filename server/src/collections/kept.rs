//! Indexes at rest: building a graph takes long, so it is kept in a file from one start to the next.
//!
//! Nothing in a file is believed. One that is not exactly as it was written, or of another definition, is set aside, and the index
//! is filled from the records alone. A good one is filled from the records, too: a vector that is the same already costs nothing, one
//! that is not is replaced, and what has no record leaves. So a file may be of any earlier moment, and a crash needs no other
//! care than that a new file takes the place of the old one in one step.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Collection;
use crate::failure::Failure;
use crate::vectors::{Expected, Index};

/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 20;

/// Where the index of an embedding is kept.
pub(super) fn path_of(folder: &Path, embedding: &str) -> PathBuf {
    // Names of embeddings are names of files on every system.
    folder.join(format!("{embedding}.index"))
}

/// Writes the index into a file, which takes the place of the one before.
pub(super) fn save(collection: &Collection, path: &Path) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = BufWriter::with_capacity(BUFFER, File::create(&beside)?);
    collection.index().save(collection.definition(), &mut file)?;
    file.flush()?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&beside, path)
}

/// The index of a file; None: there is none that is of use.
pub(super) fn load(expected: Expected, folder: &Path, embedding: &str) -> Option<Index> {
    let path = path_of(folder, embedding);
    let file = File::open(&path).ok()?;
    let read = || -> Result<Index, Failure> {
        let length = file.metadata().map_err(|e| Failure::internal("E4010", e.to_string()))?.len();
        Index::load(expected, Some(folder), (length, &mut BufReader::with_capacity(BUFFER, &file)))
    };
    read().inspect_err(|failure| tracing::warn!(%failure, path = %path.display(), "the index is built anew")).ok()
}
