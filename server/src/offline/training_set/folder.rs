//! The folder of a training set: hidden while it is written, then renamed as a whole. Whatever stops the writing, nothing is
//! left of it but, after a kill, a hidden folder that no reader takes for the set.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::failure::{Failure, Remedy};

/// A folder that is not where it will be.
pub(super) struct HiddenFolder {
    /// as the caller named it
    named: PathBuf,
    /// its real place
    out: PathBuf,
    hidden: TempDir,
}

impl HiddenFolder {
    /// A hidden folder beside `out`, where nothing may be yet but an empty folder.
    pub fn beside(out: &Path) -> Result<HiddenFolder, Failure> {
        let shown = out.display();
        let refused = |e: std::io::Error| Failure::invalid("E3011", format!("{shown} cannot be written: {e}"));
        let real = match std::fs::metadata(out) {
            Ok(there) if !there.is_dir() => {
                return Err(Failure::invalid("E3010", format!("{shown} is a file: name a new or an empty folder")));
            }
            Ok(_) => {
                if std::fs::read_dir(out).map_err(refused)?.next().is_some() {
                    let message = format!("the folder {shown} is not empty: name a new or an empty one");
                    return Err(Failure::invalid("E3010", message));
                }
                std::fs::canonicalize(out).map_err(refused)?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::path::absolute(out).map_err(refused)?,
            Err(e) => return Err(refused(e)),
        };
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Failure::invalid("E3010", format!("{shown} cannot be replaced by a training set")));
        };
        std::fs::create_dir_all(parent).map_err(refused)?;
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{}.", name.to_string_lossy());
        builder.prefix(&prefix).suffix(".partial");
        // A temporary folder is its owner's alone; this one will be a folder like any other.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let hidden = builder.tempdir_in(parent).map_err(refused)?;
        Ok(HiddenFolder { named: out.to_path_buf(), out: real, hidden })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.hidden.path()
    }

    /// Why nothing more can be written, under the name that the folder was to have.
    pub fn unwritable(&self, reason: impl std::fmt::Display) -> Failure {
        // Not the caller's mistake: a full disk, most often.
        let message = format!("{} cannot be written: {reason}", self.named.display());
        Failure::new(Remedy::Internal, "E3011", message)
    }

    /// Writes a small file, and waits for the disk.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let write = || {
            let mut file = File::create(self.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|e| self.unwritable(format!("{name}: {e}")))
    }

    /// Makes the folder appear where it is to be, whole; gives its path, as the caller named it.
    pub fn show(self) -> Result<PathBuf, Failure> {
        let show = || {
            sync_folders(self.hidden.path())?;
            std::fs::rename(self.hidden.path(), &self.out)?;
            self.out.parent().map_or(Ok(()), sync)
        };
        match show() {
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                let message = format!("the folder {} has been filled by someone else meanwhile", self.named.display());
                Err(Failure::invalid("E3010", message))
            }
            Err(e) => Err(self.unwritable(e)),
            Ok(()) => {
                // There is nothing at the hidden name any more that would have to be removed.
                drop(self.hidden.keep());
                Ok(self.named)
            }
        }
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A file's name is on the disk once its folder is.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync(folder)
}
