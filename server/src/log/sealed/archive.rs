//! The archive: sealed files of the log kept in an object store, of which those on this machine are a cache.
//!
//! A file goes there before the manifest that names it, the manifest follows, and only then a segment may go or a file be
//! evicted: whatever the archive's manifest names is there. Before anything is written, the archive's manifest must be one
//! that this log has written; so a second server with the same archive is stopped instead of mixed in. `companions` keeps
//! what else a new machine needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_features::hash::hash_bytes;

use super::companions::Companions;
use super::disk::{damaged, io_error};
use super::manifest::{MANIFEST, Manifest, SealedFile, SealedPiece};
use super::marker::Marker;
use super::sealer::FOLDERS;
use crate::failure::shortened;
use crate::limits::MANIFEST_OBJECT_BYTES_MAX;
use crate::log::LogError;
use crate::log::raw::{segment_path, segments};
use crate::objects::{Expected, Mark, ObjectError, ObjectUrl, Objects};

/// How a log is archived.
#[derive(Clone)]
pub struct Archiving {
    /// how it is reached
    pub objects: Arc<Objects>,
    /// where
    pub url: ObjectUrl,
    /// bytes of archived files that stay on this machine
    pub cache_bytes: u64,
    /// a folder of files that belong to the log
    pub beside: PathBuf,
}

/// The archive of one log.
pub(super) struct Archive {
    pub(super) archiving: Archiving,
    pub(super) folder: PathBuf,
    companions: Companions,
    pub(super) state: Mutex<State>,
    /// by file: held while it is fetched, so that it is fetched once
    pub(super) fetching: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

pub(super) struct State {
    there: There,
    /// files that the archive's manifest names
    archived: HashSet<String>,
    /// files that it named before: they stay there for as long as somebody here may read them
    replaced: HashSet<String>,
    /// checksums of all files that are there
    checksums: HashMap<String, u32>,
    /// files on this machine: bytes, and when they were last used, by count
    local: HashMap<String, (u64, u64)>,
    uses: u64,
    /// whether files that no manifest names were looked for since the start
    swept: bool,
}

/// Ending of sealed files.
const ENDING: &str = ".parquet";

/// What the archive has, as far as is known.
enum There {
    Unknown,
    Nothing,
    /// the hash of its manifest
    Manifest(u64, Option<Mark>),
}

/// The archives of this process, by the folder of their log. Readers know a log by its folder alone.
static ARCHIVES: Mutex<BTreeMap<PathBuf, Arc<Archive>>> = Mutex::new(BTreeMap::new());

pub(super) fn of(folder: &Path) -> Option<Arc<Archive>> {
    ARCHIVES.lock().get(folder).cloned()
}

pub(super) fn away(error: ObjectError) -> LogError {
    LogError::Archive { error: Box::new(error) }
}

pub(super) fn names(manifest: &Manifest) -> impl Iterator<Item = &SealedFile> {
    manifest.pieces.iter().flat_map(SealedPiece::files)
}

/// Says where the log in a folder is archived, or that it is not. A log of which nothing is on this machine is restored: its
/// manifest is fetched, and its files are when they are read.
pub fn attach(folder: &Path, archiving: Option<Archiving>) -> Result<(), LogError> {
    ARCHIVES.lock().remove(folder);
    let local = Manifest::load(folder)?;
    let marker = Marker::load(folder)?;
    // A file that only an archive has which is not named any more.
    let gone = names(&local).find(|file| !folder.join(&file.path).exists());
    let lost = |url: &str| gone.map(|file| LogError::ArchiveNeeded { path: file.path.clone(), url: url.to_string() });
    let Some(archiving) = archiving else { return marker.url().and_then(lost).map_or(Ok(()), Err) };
    let before = marker.url().filter(|url| **url != archiving.url.to_string());
    archiving.objects.check(&archiving.url).map_err(away)?;
    let companions = Companions::new(&archiving, folder);
    let here = local_files(folder, &local);
    let state = State {
        there: There::Unknown,
        archived: HashSet::new(),
        replaced: HashSet::new(),
        checksums: HashMap::new(),
        uses: here.len() as u64,
        local: here,
        swept: false,
    };
    let fetching = Mutex::default();
    let archive = Archive { archiving, folder: folder.to_path_buf(), companions, state: Mutex::new(state), fetching };
    let untouched = is_untouched(folder, &local)?;
    match archive.look(&local) {
        Ok(Some(theirs)) if untouched => archive.restore(&theirs)?,
        Ok(theirs) if theirs.as_ref() != Some(&local) => before.and_then(lost).map_or(Ok(()), Err)?,
        Ok(_) => {}
        // An empty log must not begin where there may be one already.
        Err(error) if untouched => return Err(error),
        Err(LogError::Archive { error }) => {
            tracing::warn!(%error, "E1040: the archive of the event log cannot be reached; segments wait for it");
        }
        Err(error) => return Err(error),
    }
    ARCHIVES.lock().insert(folder.to_path_buf(), Arc::new(archive));
    Ok(())
}

/// Named files that are on this machine; those that changed last count as used last.
fn local_files(folder: &Path, manifest: &Manifest) -> HashMap<String, (u64, u64)> {
    let of = |file: &SealedFile| {
        let metadata = std::fs::metadata(folder.join(&file.path)).ok()?;
        Some((metadata.modified().ok(), file.path.clone(), metadata.len()))
    };
    let mut found: Vec<_> = names(manifest).filter_map(of).collect();
    found.sort();
    found.into_iter().zip(0..).map(|((_, path, bytes), uses)| (path, (bytes, uses))).collect()
}

/// Whether a sealed file can be named so.
fn is_sealed_name(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    let of_log = FOLDERS.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
    of_log && path.ends_with(ENDING) && path.split('/').all(plain) && !path.contains(['\\', '\0'])
}

/// Whether a log has never had a frame on this machine.
fn is_untouched(folder: &Path, manifest: &Manifest) -> Result<bool, LogError> {
    let length = |segment: u64| std::fs::metadata(segment_path(folder, segment)).map_or(0, |metadata| metadata.len());
    Ok(*manifest == Manifest::default() && segments(folder)?.into_iter().all(|segment| length(segment) == 0))
}

/// Brings the archive up to a manifest of its log: files first, then the manifest. Without an archive there is nothing to do.
/// False: it was to stop.
pub(super) fn settle(folder: &Path, manifest: &Manifest, go_on: &mut dyn FnMut() -> bool) -> Result<bool, LogError> {
    of(folder).map_or(Ok(true), |archive| archive.settle(manifest, go_on))
}

/// Removes a file from the archive that was removed here, because no manifest names it any more.
pub(super) fn removed(folder: &Path, name: &str) {
    let Some(archive) = of(folder) else { return };
    let mut state = archive.state.lock();
    state.local.remove(name);
    state.archived.remove(name);
    state.replaced.remove(name);
    let checksum = state.checksums.remove(name);
    drop(state);
    // What is not known here was never put there, or the next start finds it.
    let Some(checksum) = checksum else { return };
    if let Err(error) = archive.archiving.objects.remove(&archive.archiving.url.join(&object_name(name, checksum))) {
        tracing::warn!(%error, "a file of the event log stays in the archive until the next start");
    }
}

/// What a file is called in the archive.
fn object_name(path: &str, checksum: u32) -> String {
    format!("{}.{checksum:08x}{ENDING}", path.strip_suffix(ENDING).unwrap_or(path))
}

/// Fetches a file that is not on this machine, and opens it, for it may be evicted at once. None: nobody has it, for another
/// one has replaced it or there is no archive.
pub(super) fn fetch(folder: &Path, file: &SealedFile) -> Result<Option<File>, LogError> {
    of(folder).map_or(Ok(None), |archive| archive.fetch(file))
}

/// Notes that a file was used.
pub(super) fn used(folder: &Path, file: &SealedFile) {
    if let Some(archive) = of(folder) {
        archive.state.lock().touch(file);
    }
}

/// Removes a file of this machine that is not what it should be, if the archive has it.
pub(super) fn drop_damaged(folder: &Path, file: &SealedFile) -> bool {
    let Some(archive) = of(folder).filter(|archive| archive.state.lock().archived.contains(&file.path)) else {
        return false;
    };
    tracing::warn!("{} is damaged and comes from the archive again", folder.join(&file.path).display());
    archive.state.lock().local.remove(&file.path);
    std::fs::remove_file(folder.join(&file.path)).is_ok()
}

impl State {
    pub(super) fn touch(&mut self, file: &SealedFile) {
        self.uses += 1;
        self.local.insert(file.path.clone(), (file.bytes, self.uses));
    }

    /// Notes what the archive's manifest names.
    fn names(&mut self, manifest: &Manifest) {
        let now: HashSet<String> = names(manifest).map(|file| file.path.clone()).collect();
        let before = std::mem::replace(&mut self.archived, now);
        self.replaced.extend(before);
        self.replaced.retain(|path| !self.archived.contains(path));
        self.checksums.extend(names(manifest).map(|file| (file.path.clone(), file.checksum)));
    }

    /// Files to evict, those that were used longest ago first, until the rest fits. One that was just used stays.
    pub(super) fn too_much(&mut self, cache_bytes: u64) -> Vec<String> {
        let mut total: u64 = self.local.values().map(|(bytes, _)| bytes).sum();
        let mut oldest: Vec<(u64, u64, String)> = self
            .local
            .iter()
            .filter(|(path, (_, uses))| {
                let is_there = self.archived.contains(*path) || self.replaced.contains(*path);
                is_there && *uses != self.uses
            })
            .map(|(path, (bytes, uses))| (*uses, *bytes, path.clone()))
            .collect();
        oldest.sort();
        let mut evicted = Vec::new();
        for (_, bytes, path) in oldest {
            if total <= cache_bytes {
                break;
            }
            total -= bytes;
            self.local.remove(&path);
            evicted.push(path);
        }
        evicted
    }
}

impl Archive {
    pub(super) fn url_of(&self, file: &SealedFile) -> ObjectUrl {
        self.archiving.url.join(&object_name(&file.path, file.checksum))
    }

    fn manifest_url(&self) -> ObjectUrl {
        self.archiving.url.join(MANIFEST)
    }

    fn foreign(&self, what: &'static str) -> LogError {
        LogError::ForeignArchive { url: self.archiving.url.to_string(), what }
    }

    /// Looks at the archive's manifest, which must be one of this log's own.
    fn look(&self, local: &Manifest) -> Result<Option<Manifest>, LogError> {
        let url = self.manifest_url();
        let read = self.archiving.objects.read(&url, MANIFEST_OBJECT_BYTES_MAX).map_err(away)?;
        let mut state = self.state.lock();
        let Some((bytes, mark)) = read else {
            if matches!(state.there, There::Manifest(..)) {
                return Err(self.foreign("has lost its manifest"));
            }
            state.there = There::Nothing;
            return Ok(None);
        };
        let theirs = Manifest::parse(Path::new(&url.to_string()), &bytes)?;
        // A name is a path on this machine, too.
        if let Some(odd) = names(&theirs).find(|file| !is_sealed_name(&file.path)) {
            let what = format!("it names `{}`, which is no file of a log", shortened(&odd.path));
            return Err(damaged(Path::new(&url.to_string()), what));
        }
        let hash = hash_bytes(&bytes);
        let own = is_untouched(&self.folder, local)?
            || bytes == local.lines()?
            || Marker::load(&self.folder)?.knows(&self.archiving.url, hash);
        if !own {
            return Err(self.foreign("holds what this log has not written"));
        }
        state.there = There::Manifest(hash, mark);
        state.names(&theirs);
        Ok(Some(theirs))
    }

    fn restore(&self, theirs: &Manifest) -> Result<(), LogError> {
        self.companions.restore()?;
        std::fs::create_dir_all(&self.folder).map_err(io_error(&self.folder))?;
        let hash = hash_bytes(&theirs.lines()?);
        Marker::of(&self.archiving.url, hash).store(&self.folder)?;
        theirs.store_here(&self.folder)?;
        let events: u64 = theirs.pieces.iter().flat_map(|piece| &piece.events).map(|events| events.file.rows).sum();
        let bytes: u64 = names(theirs).map(|file| file.bytes).sum();
        tracing::info!(
            "the event log was empty here: restored {} segments with {events} events ({bytes} bytes) from {}; files are fetched as they are read",
            theirs.end_segment(),
            self.archiving.url
        );
        Ok(())
    }

    /// Makes sure that the archive is reached, and that nobody else has written there.
    pub(super) fn check(&self, local: &Manifest) -> Result<(), LogError> {
        let known = match &self.state.lock().there {
            There::Manifest(_, mark) => mark.clone(),
            _ => None,
        };
        if known.is_some() {
            let there = self.archiving.objects.head(&self.manifest_url()).map_err(away)?;
            if there.and_then(|(_, mark)| mark) == known {
                return Ok(());
            }
        }
        self.look(local).map(drop)
    }

    /// Puts the files of pieces there. False: it was to stop.
    pub(super) fn put<'f>(
        &self,
        files: impl Iterator<Item = &'f SealedFile>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, LogError> {
        for file in files {
            if self.state.lock().archived.contains(&file.path) {
                continue;
            }
            if !go_on() {
                return Ok(false);
            }
            let local = self.folder.join(&file.path);
            self.archiving.objects.put(&local, &self.url_of(file)).map_err(away)?;
            metrics::counter!("tidemill_archive_files_put_total").increment(1);
            let mut state = self.state.lock();
            state.touch(file);
            state.checksums.insert(file.path.clone(), file.checksum);
        }
        Ok(true)
    }

    fn settle(&self, manifest: &Manifest, go_on: &mut dyn FnMut() -> bool) -> Result<bool, LogError> {
        let bytes = manifest.lines()?;
        let hash = hash_bytes(&bytes);
        if self.has(hash) {
            return self.sweep(manifest, go_on);
        }
        if *manifest == Manifest::default() {
            return Ok(true);
        }
        self.check(manifest)?;
        if !self.has(hash) {
            if !self.put(names(manifest), go_on)? {
                return Ok(false);
            }
            self.companions.put()?;
            let expected = match &self.state.lock().there {
                There::Manifest(_, Some(mark)) => Expected::Marked(mark.clone()),
                There::Manifest(_, None) | There::Unknown => Expected::Anything,
                There::Nothing => Expected::Nothing,
            };
            let mut marker = Marker::load(&self.folder)?;
            marker.add(&self.archiving.url, hash);
            marker.store(&self.folder)?;
            let written = self.archiving.objects.write(bytes, &self.manifest_url(), &expected);
            if let Err(error) = written {
                // Whether it is there by now is to be looked up.
                self.state.lock().there = There::Unknown;
                return Err(match error {
                    ObjectError::Taken { .. } => self.foreign("was written by another server just now"),
                    error => away(error),
                });
            }
            let mut state = self.state.lock();
            state.there = There::Manifest(hash, written.ok().flatten());
            state.names(manifest);
        }
        Marker::of(&self.archiving.url, hash).store(&self.folder)?;
        self.trim();
        self.sweep(manifest, go_on)
    }

    /// Whether the archive's manifest is the one with this hash.
    fn has(&self, hash: u64) -> bool {
        matches!(self.state.lock().there, There::Manifest(there, _) if there == hash)
    }

    /// Whether the archive does not have all that a manifest names.
    pub(super) fn is_behind(&self, manifest: &Manifest) -> Result<bool, LogError> {
        Ok(*manifest != Manifest::default() && !self.has(hash_bytes(&manifest.lines()?)))
    }

    /// Removes files from the archive that its manifest, which is this one, does not name: a killed process has left them. Once
    /// after the start.
    fn sweep(&self, manifest: &Manifest, go_on: &mut dyn FnMut() -> bool) -> Result<bool, LogError> {
        if std::mem::replace(&mut self.state.lock().swept, true) {
            return Ok(true);
        }
        // Somebody else's files are nobody's here.
        self.check(manifest)?;
        let named: HashSet<String> = names(manifest).map(|file| object_name(&file.path, file.checksum)).collect();
        for folder in FOLDERS {
            for object in self.archiving.objects.below(&self.archiving.url.join(folder)).map_err(away)? {
                let name = self.archiving.url.name_below(&object.url);
                if name.is_none_or(|name| named.contains(name) || !name.ends_with(ENDING)) {
                    continue;
                }
                if !go_on() {
                    return Ok(false);
                }
                self.archiving.objects.remove(&object.url).map_err(away)?;
            }
        }
        Ok(true)
    }
}
