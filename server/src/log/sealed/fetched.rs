//! Files of the archive on this machine: fetched once for all who want them, evicted when there are too many.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{Archive, away, names};
use super::disk::{TEMPORARY, damaged, io_error};
use super::manifest::{Manifest, SealedFile};
use crate::log::LogError;
use crate::objects::ObjectError;

impl Archive {
    /// Evicts what is too much.
    pub(super) fn trim(&self) {
        let evicted = self.state.lock().too_much(self.archiving.cache_bytes);
        for path in evicted {
            let path = self.folder.join(path);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "an archived file cannot be removed from the cache: {}", path.display());
            }
        }
    }

    /// Fetches a file and opens it. None: the archive does not have it, and need not.
    pub(super) fn fetch(&self, file: &SealedFile) -> Result<Option<File>, LogError> {
        let gate = self.fetching.lock().entry(file.path.clone()).or_default().clone();
        let one = gate.lock();
        let local = self.folder.join(&file.path);
        let fetched = match File::open(&local) {
            // Somebody else has just fetched it.
            Ok(opened) => Ok(Some(opened)),
            Err(_) => self.fetch_to(file, &local),
        };
        drop(one);
        // As long as others wait for this gate, whoever comes must wait with them: two clones are ours and the map's.
        let mut fetching = self.fetching.lock();
        if Arc::strong_count(&gate) == 2 {
            fetching.remove(&file.path);
        }
        drop(fetching);
        if let Ok(Some(_)) = fetched {
            self.state.lock().touch(file);
            self.trim();
        }
        fetched
    }

    fn fetch_to(&self, file: &SealedFile, local: &Path) -> Result<Option<File>, LogError> {
        let url = self.url_of(file);
        let named = || PathBuf::from(url.to_string());
        let parent = local.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(parent).map_err(io_error(parent))?;
        let temporary = self.folder.join(format!("{}.{TEMPORARY}", file.path));
        let wrong = |what: String| {
            let _ = std::fs::remove_file(&temporary);
            Err(damaged(&named(), what))
        };
        match self.archiving.objects.fetch(&url, &temporary, file.bytes) {
            Ok(bytes) if bytes == file.bytes => {}
            Ok(bytes) | Err(ObjectError::TooLarge { bytes, .. }) => {
                return wrong(format!("it has {bytes} bytes, not {}", file.bytes));
            }
            Err(ObjectError::Missing { .. }) => {
                // Another file may have replaced it since the reader saw the manifest.
                let still = names(&Manifest::load(&self.folder)?).any(|named| named.path == file.path);
                return if still { wrong("it is missing from the archive".to_string()) } else { Ok(None) };
            }
            Err(error) => return Err(away(error)),
        }
        let mut opened = File::open(&temporary).map_err(io_error(&temporary))?;
        let found = checksum(&mut opened).map_err(io_error(&temporary))?;
        if found != file.checksum {
            return wrong("its checksum is not the one in the manifest".to_string());
        }
        std::fs::rename(&temporary, local).map_err(io_error(local))?;
        metrics::counter!("tidemill_archive_files_fetched_total").increment(1);
        Ok(Some(opened))
    }
}

/// The checksum of a file, which then is at its front again.
fn checksum(file: &mut File) -> std::io::Result<u32> {
    let (mut checksum, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => checksum.update(&buffer[..read]),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(checksum.finalize())
}
