//! Files of the sealed log: written under a temporary name, made durable, then renamed; read only if they are what the
//! manifest says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;

use super::archive;
use super::manifest::SealedFile;
use crate::log::LogError;
use crate::log::writer::sync_folder;

/// Ending of files that are not complete.
pub(super) const TEMPORARY: &str = "tmp";
/// Bytes read at once for a checksum.
const CHUNK: usize = 1 << 18;

pub(super) fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    let path = path.display().to_string();
    move |error| LogError::Io { path, error }
}

pub(in crate::log) fn damaged(path: &Path, what: impl Into<String>) -> LogError {
    LogError::DamagedFile { path: path.display().to_string(), what: what.into() }
}

/// A file under its temporary name.
pub(super) struct NewFile {
    folder: PathBuf,
    /// relative to the folder of the log
    name: String,
    out: Counted,
}

/// Counts bytes and sums them up on their way to the disk.
struct Counted {
    file: BufWriter<File>,
    checksum: crc32fast::Hasher,
    bytes: u64,
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.file.write(bytes)?;
        self.out.checksum.update(&bytes[..written]);
        self.out.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.file.flush()
    }
}

impl NewFile {
    /// Begins a file. `name` is its path below the folder of the log.
    pub(super) fn create(folder: &Path, name: String) -> Result<NewFile, LogError> {
        let path = folder.join(format!("{name}.{TEMPORARY}"));
        let parent = path.parent().unwrap_or(folder);
        if !parent.is_dir() {
            std::fs::create_dir_all(parent).map_err(io_error(parent))?;
            parent.parent().map_or(Ok(()), sync_folder).map_err(io_error(parent))?;
        }
        let file = File::create(&path).map_err(io_error(&path))?;
        let out = Counted { file: BufWriter::new(file), checksum: crc32fast::Hasher::new(), bytes: 0 };
        Ok(NewFile { folder: folder.to_path_buf(), name, out })
    }

    /// Makes the file durable under its name.
    pub(super) fn finish(self, rows: u64) -> Result<SealedFile, LogError> {
        let path = self.folder.join(&self.name);
        let temporary = self.folder.join(format!("{}.{TEMPORARY}", self.name));
        let Counted { file, checksum, bytes } = self.out;
        let file = file.into_inner().map_err(|e| io_error(&temporary)(e.into_error()))?;
        file.sync_all().map_err(io_error(&temporary))?;
        drop(file);
        std::fs::rename(&temporary, &path).map_err(io_error(&path))?;
        path.parent().map_or(Ok(()), sync_folder).map_err(io_error(&path))?;
        Ok(SealedFile { path: self.name, bytes, rows, checksum: checksum.finalize() })
    }
}

/// Removes a sealed file that no manifest names, here and in the archive. One that is gone already is no error.
pub(in crate::log) fn remove_sealed(folder: &Path, name: &str) -> Result<(), LogError> {
    let path = folder.join(name);
    if let Some(checked) = CHECKED.lock().as_mut() {
        checked.remove(&path);
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&path)(error)),
        _ => archive::removed(folder, name),
    }
    Ok(())
}

/// Opens a file, which may have to be fetched first. None: nobody has it.
fn open_here(folder: &Path, file: &SealedFile) -> Result<Option<File>, LogError> {
    let path = folder.join(&file.path);
    match File::open(&path) {
        Ok(opened) => {
            archive::used(folder, file);
            Ok(Some(opened))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => archive::fetch(folder, file),
        Err(error) => Err(io_error(&path)(error)),
    }
}

/// All bytes of a file, if they are what the manifest says. None: there is no such file.
pub(super) fn read_whole(folder: &Path, file: &SealedFile) -> Result<Option<Bytes>, LogError> {
    match read_here(folder, file) {
        Err(LogError::DamagedFile { .. }) if archive::drop_damaged(folder, file) => read_here(folder, file),
        read => read,
    }
}

fn read_here(folder: &Path, file: &SealedFile) -> Result<Option<Bytes>, LogError> {
    let path = folder.join(&file.path);
    let Some(mut opened) = open_here(folder, file)? else { return Ok(None) };
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes).map_err(io_error(&path))?;
    if bytes.len() as u64 != file.bytes {
        return Err(damaged(&path, format!("it has {} bytes, not {}", bytes.len(), file.bytes)));
    }
    if crc32fast::hash(&bytes) != file.checksum {
        return Err(damaged(&path, "its checksum is not the one in the manifest"));
    }
    Ok(Some(bytes.into()))
}

/// What is known of a file whose bytes were read: its length, when it was written, its checksum.
type Known = (u64, Option<SystemTime>, u32);

/// Files whose checksums were found right since the start of the process. A scan opens each file many times, once for each
/// range of buckets.
static CHECKED: Mutex<Option<HashMap<PathBuf, Known>>> = Mutex::new(None);

/// A file to be read in pieces. Its checksum is checked when it is opened for the first time since the start, or since it
/// changed. None: there is no such file.
pub(in crate::log) fn open_checked(folder: &Path, file: &SealedFile) -> Result<Option<File>, LogError> {
    match check_here(folder, file) {
        Err(LogError::DamagedFile { .. }) if archive::drop_damaged(folder, file) => check_here(folder, file),
        opened => opened,
    }
}

fn check_here(folder: &Path, file: &SealedFile) -> Result<Option<File>, LogError> {
    let path = folder.join(&file.path);
    let Some(mut opened) = open_here(folder, file)? else { return Ok(None) };
    let metadata = opened.metadata().map_err(io_error(&path))?;
    if metadata.len() != file.bytes {
        return Err(damaged(&path, format!("it has {} bytes, not {}", metadata.len(), file.bytes)));
    }
    let known = (metadata.len(), metadata.modified().ok(), file.checksum);
    if CHECKED.lock().get_or_insert_default().get(&path) == Some(&known) {
        return Ok(Some(opened));
    }
    let mut checksum = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match opened.read(&mut buffer).map_err(io_error(&path))? {
            0 => break,
            read => checksum.update(&buffer[..read]),
        }
    }
    if checksum.finalize() != file.checksum {
        return Err(damaged(&path, "its checksum is not the one in the manifest"));
    }
    CHECKED.lock().get_or_insert_default().insert(path, known);
    Ok(Some(opened))
}
