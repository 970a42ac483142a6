//! Objects that are files of this machine: written under a hidden name, made durable, then renamed.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::{Expected, Mark, Object, ObjectError, ObjectUrl};

/// Ending of files that are not complete; nobody finds them.
const PARTIAL: &str = ".partial";

/// Whatever lies below a folder.
pub(super) fn below(folder: &Path) -> Result<Vec<Object>, ObjectError> {
    let mut objects = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = |error| ObjectError::disk(&folder, error);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                Ok(metadata) if !path.to_string_lossy().ends_with(PARTIAL) => {
                    objects.push(Object { url: ObjectUrl::Local(path), bytes: metadata.len() });
                }
                // Gone since it was listed.
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(objects)
}

/// Files that a glob names.
pub(super) fn matching(pattern: &str) -> Result<Vec<Object>, String> {
    let paths = glob::glob_with(pattern, super::url::GLOB).map_err(|e| e.to_string())?;
    let object = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok().filter(|metadata| metadata.is_file())?;
        Some(Object { url: ObjectUrl::Local(path), bytes: metadata.len() })
    };
    Ok(paths.filter_map(Result::ok).filter_map(object).collect())
}

pub(super) fn head(path: &Path) -> Result<Option<(u64, Option<Mark>)>, ObjectError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            let changed = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let mark = changed.map(|at| Mark(format!("{}-{}", at.as_nanos(), metadata.len())));
            Ok(Some((metadata.len(), mark)))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ObjectError::disk(path, error)),
    }
}

/// Copies a file to a place where it appears whole.
pub(super) fn put(file: &Path, to: &Path) -> Result<(), ObjectError> {
    let mut source = File::open(file).map_err(|error| ObjectError::disk(file, error))?;
    let disk = |error| ObjectError::disk(to, error);
    let temporary = begin(to).map_err(disk)?;
    let written = File::create(&temporary).and_then(|mut out| {
        std::io::copy(&mut source, &mut out)?;
        out.sync_all()
    });
    written.and_then(|()| std::fs::rename(&temporary, to)).and_then(|()| sync_parent(to)).map_err(disk)
}

pub(super) fn write(bytes: &[u8], to: &Path, expected: &Expected) -> Result<Option<Mark>, ObjectError> {
    let disk = |error| ObjectError::disk(to, error);
    let taken = || ObjectError::Taken { url: ObjectUrl::Local(to.to_path_buf()) };
    let there = head(to)?;
    let fits = match (expected, &there) {
        (Expected::Anything, _) | (Expected::Nothing, None) => true,
        (Expected::Marked(mark), Some((_, Some(found)))) => mark == found,
        _ => false,
    };
    if !fits {
        return Err(taken());
    }
    let temporary = begin(to).map_err(disk)?;
    let written = File::create(&temporary).and_then(|mut out| {
        out.write_all(bytes)?;
        out.sync_all()
    });
    written.and_then(|()| std::fs::rename(&temporary, to)).and_then(|()| sync_parent(to)).map_err(disk)?;
    Ok(head(to)?.and_then(|(_, mark)| mark))
}

/// The hidden name of a file beside its place, whose folder is made.
fn begin(to: &Path) -> std::io::Result<PathBuf> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(to.with_file_name(format!(".{name}{PARTIAL}")))
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Copies a file of a known length.
pub(super) fn copy(path: &Path, bytes: u64, to: &mut dyn Write) -> Result<(), ObjectError> {
    let disk = |error| ObjectError::disk(path, error);
    let file = File::open(path).map_err(disk)?;
    let copied = std::io::copy(&mut file.take(bytes), to).map_err(disk)?;
    if copied != bytes {
        let reason = format!("it ends after {copied} of {bytes} bytes");
        return Err(ObjectError::Changed { url: ObjectUrl::Local(path.to_path_buf()), reason });
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> Result<(), ObjectError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ObjectError::disk(path, error)),
        _ => Ok(()),
    }
}
