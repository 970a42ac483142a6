//! One shelf for each log of the process: which readers are open, which files wait for them to end, what was cut.
//!
//! Files that another piece has replaced, or that retention has cut, stay until every reader is gone that may have seen the
//! manifest which named them. So nobody who walks over the log misses a file in the middle, however long that takes, and no
//! reader has to begin anew.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::sealed::{Manifest, remove_sealed};
use super::{Cut, LogError};

static SHELVES: Mutex<Option<HashMap<PathBuf, Arc<Shelf>>>> = Mutex::new(None);

/// Of one log.
#[derive(Default)]
pub(super) struct Shelf {
    files: Mutex<Files>,
    /// None: not looked up yet
    cut: Mutex<Option<Arc<Cut>>>,
}

#[derive(Default)]
struct Files {
    /// grows with each manifest that names fewer files
    generation: u64,
    /// open readers by the generation at which they began
    open: BTreeMap<u64, usize>,
    /// files that no manifest names since a generation
    waiting: Vec<(u64, String)>,
}

/// Held by a reader from before it loads the manifest until its end.
pub(super) struct Lease {
    shelf: Arc<Shelf>,
    generation: u64,
}

/// The shelf of the log in a folder.
pub(super) fn shelf_of(folder: &Path) -> Arc<Shelf> {
    let mut shelves = SHELVES.lock();
    shelves.get_or_insert_default().entry(folder.to_path_buf()).or_default().clone()
}

/// What was cut off the log in a folder. Never less than what a reader has seen that was opened before this is called.
pub fn cut_of(folder: &Path) -> Result<Arc<Cut>, LogError> {
    let shelf = shelf_of(folder);
    let mut cut = shelf.cut.lock();
    if let Some(known) = &*cut {
        return Ok(known.clone());
    }
    let loaded = Arc::new(Manifest::load(folder)?.cut);
    Ok(cut.insert(loaded).clone())
}

impl Shelf {
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        let mut files = self.files.lock();
        let generation = files.generation;
        *files.open.entry(generation).or_default() += 1;
        Lease { shelf: self.clone(), generation }
    }

    /// Tells everybody of a cut. Before the manifest has it: who opens the log later must know.
    pub(super) fn announce(&self, cut: &Cut) {
        *self.cut.lock() = Some(Arc::new(cut.clone()));
    }

    /// Files that the manifest has just ceased to name.
    pub(super) fn replaced(&self, names: impl Iterator<Item = String>) {
        let mut files = self.files.lock();
        files.generation += 1;
        let generation = files.generation;
        files.waiting.extend(names.map(|name| (generation, name)));
    }

    /// Removes the files for which no reader is left.
    pub(super) fn remove_waiting(&self, folder: &Path) -> Result<(), LogError> {
        let mut files = self.files.lock();
        let oldest = files.open.keys().next().copied().unwrap_or(u64::MAX);
        let (kept, gone) = std::mem::take(&mut files.waiting).into_iter().partition(|(since, _)| oldest < *since);
        files.waiting = kept;
        drop(files);
        let gone: Vec<(u64, String)> = gone;
        gone.iter().try_for_each(|(_, name)| remove_sealed(folder, name))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut files = self.shelf.files.lock();
        if let Some(readers) = files.open.get_mut(&self.generation) {
            *readers -= 1;
            if *readers == 0 {
                files.open.remove(&self.generation);
            }
        }
    }
}
