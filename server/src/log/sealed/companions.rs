//! What a new machine needs beside the sealed files: the notes of commits, which grow at their ends and are archived piece
//! by piece, and the files beside the log (which partition each file of a source is), which are small and archived whole.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tidemill_features::hash::hash_bytes;

use super::archive::{Archiving, away};
use super::disk::{damaged, io_error};
use crate::limits::{COMPANION_BYTES_MAX, OBJECT_PART_BYTES};
use crate::log::LogError;
use crate::log::commits::NOTES_ENDING;
use crate::objects::{Expected, ObjectError, ObjectUrl};

/// Folders in the archive.
const NOTES: &str = "commits";
const BESIDE: &str = "files";

pub(super) struct Companions {
    archiving: Archiving,
    folder: PathBuf,
    put: Mutex<Put>,
}

/// What is in the archive.
#[derive(Default)]
struct Put {
    /// whether it was looked up since the start
    known: bool,
    /// by name of a file of notes: how many of its bytes
    notes: HashMap<String, u64>,
    /// by name of a file beside: the hash of its bytes
    beside: HashMap<String, u64>,
}

impl Companions {
    pub(super) fn new(archiving: &Archiving, folder: &Path) -> Companions {
        Companions { archiving: archiving.clone(), folder: folder.to_path_buf(), put: Mutex::default() }
    }

    /// Puts there what is new.
    pub(super) fn put(&self) -> Result<(), LogError> {
        let mut put = self.put.lock();
        if !put.known {
            for (name, start, bytes, _) in self.pieces()? {
                let end = put.notes.entry(name).or_default();
                *end = (*end).max(start + bytes);
            }
            put.known = true;
        }
        for path in
            files_of(&self.folder)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == NOTES_ENDING))
        {
            self.put_notes(&mut put, &path)?;
        }
        for path in
            files_of(&self.archiving.beside)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json"))
        {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let bytes = std::fs::read(&path).map_err(io_error(&path))?;
            let hash = hash_bytes(&bytes);
            if put.beside.get(name) != Some(&hash) {
                let url = self.archiving.url.join(&format!("{BESIDE}/{name}"));
                self.archiving.objects.write(bytes, &url, &Expected::Anything).map_err(away)?;
                put.beside.insert(name.to_string(), hash);
            }
        }
        Ok(())
    }

    /// The notes that came since the last time. Of one that is just being written the rest follows the next time.
    fn put_notes(&self, put: &mut Put, path: &Path) -> Result<(), LogError> {
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { return Ok(()) };
        let done = put.notes.entry(name.to_string()).or_default();
        let mut file = File::open(path).map_err(io_error(path))?;
        file.seek(SeekFrom::Start(*done)).map_err(io_error(path))?;
        loop {
            let mut bytes = Vec::new();
            Read::by_ref(&mut file).take(OBJECT_PART_BYTES as u64).read_to_end(&mut bytes).map_err(io_error(path))?;
            if bytes.is_empty() {
                return Ok(());
            }
            let length = bytes.len() as u64;
            let url = self.archiving.url.join(&format!("{NOTES}/{name}/{done:020}"));
            self.archiving.objects.write(bytes, &url, &Expected::Anything).map_err(away)?;
            *done += length;
        }
    }

    /// Pieces of notes in the archive, in order: the file that they are of, where they begin, how long they are.
    fn pieces(&self) -> Result<Vec<(String, u64, u64, ObjectUrl)>, LogError> {
        let notes = self.archiving.url.join(NOTES);
        let piece = |object: crate::objects::Object| {
            let (name, start) = notes.name_below(&object.url)?.split_once('/')?;
            Some((name.to_string(), start.parse().ok()?, object.bytes, object.url.clone()))
        };
        Ok(self.archiving.objects.below(&notes).map_err(away)?.into_iter().filter_map(piece).collect())
    }

    /// Fetches everything.
    pub(super) fn restore(&self) -> Result<(), LogError> {
        std::fs::create_dir_all(&self.folder).map_err(io_error(&self.folder))?;
        let mut files: HashMap<String, (File, u64)> = HashMap::new();
        for (name, start, bytes, url) in self.pieces()? {
            // A name is a path: only those that a log can have made.
            if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
                continue;
            }
            let path = self.folder.join(format!("{name}.{NOTES_ENDING}"));
            let (file, end) = match files.entry(name) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert((File::create(&path).map_err(io_error(&path))?, 0))
                }
            };
            if start != *end {
                return Err(damaged(
                    Path::new(&url.to_string()),
                    format!("notes from byte {end} on are missing before it"),
                ));
            }
            let read = self.archiving.objects.read(&url, bytes).map_err(away)?;
            let (read, _) = read.ok_or_else(|| away(ObjectError::Missing { url: url.clone() }))?;
            file.write_all(&read).map_err(io_error(&path))?;
            *end += read.len() as u64;
        }
        for (file, _) in files.values() {
            file.sync_all().map_err(io_error(&self.folder))?;
        }
        let beside = self.archiving.url.join(BESIDE);
        for object in self.archiving.objects.below(&beside).map_err(away)? {
            let plain = |name: &&str| name.ends_with(".json") && !name.contains('/');
            let Some(name) = beside.name_below(&object.url).filter(plain) else { continue };
            let folder = &self.archiving.beside;
            std::fs::create_dir_all(folder).map_err(io_error(folder))?;
            self.archiving.objects.fetch(&object.url, &folder.join(name), COMPANION_BYTES_MAX).map_err(away)?;
        }
        Ok(())
    }
}

/// The files in a folder; none where there is no such folder.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(folder)(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(io_error(folder)));
    paths.collect()
}
