//! Where the files of a job go: a folder of the server's machine, or a prefix in an object store.
//!
//! For an object store they are written here first, then put there file by file, and what says that they are whole comes last.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::training::{Job, absolute};
use crate::failure::Failure;
use crate::limits::{MANIFEST_OBJECT_BYTES_MAX, SPINE_OBJECT_BYTES_MAX};
use crate::objects::{Expected, ObjectError, ObjectUrl, Objects};
use crate::offline::training_set::Written;

/// Where files go.
pub(super) enum Destination<'j> {
    /// a folder
    Folder(PathBuf),
    /// a prefix, and the folder in which files become whole
    Prefix(&'j Objects, ObjectUrl, TempDir),
}

impl Job<'_> {
    /// Reads where a job is to write.
    pub(super) fn destination(&self, out: &str) -> Result<Destination<'_>, Failure> {
        if !ObjectUrl::is_url(out) {
            return Ok(Destination::Folder(absolute("out", out)?));
        }
        let wrong = |error: ObjectError| Failure { field: Some("out".into()), ..error.failure("E3042") };
        match ObjectUrl::parse(out).map_err(wrong)? {
            ObjectUrl::Local(path) => Ok(Destination::Folder(path)),
            url => {
                self.server.objects.check(&url).map_err(wrong)?;
                let folder = self.temporary()?;
                let hidden = tempfile::tempdir_in(&folder);
                let hidden = hidden.map_err(|e| Failure::internal("E3020", format!("{}: {e}", folder.display())))?;
                Ok(Destination::Prefix(&self.server.objects, url, hidden))
            }
        }
    }

    /// The file of a spine, which is fetched if it is in an object store; then it is gone when it is dropped.
    pub(super) fn spine_file(&self, spine: &str) -> Result<(PathBuf, Option<tempfile::NamedTempFile>), Failure> {
        if !ObjectUrl::is_url(spine) {
            return Ok((absolute("spine", spine)?, None));
        }
        let wrong = |error: ObjectError| Failure { field: Some("spine".into()), ..error.failure("E3052") };
        let url = match ObjectUrl::parse(spine).map_err(wrong)? {
            ObjectUrl::Local(path) => return Ok((path, None)),
            url => url,
        };
        let folder = self.temporary()?;
        let file = tempfile::Builder::new().suffix(&format!(".{}", url.ending())).tempfile_in(&folder);
        let file = file.map_err(|e| Failure::internal("E3020", format!("{}: {e}", folder.display())))?;
        self.server.objects.fetch(&url, file.path(), SPINE_OBJECT_BYTES_MAX).map_err(wrong)?;
        Ok((file.path().to_path_buf(), Some(file)))
    }
}

fn failed(error: ObjectError) -> Failure {
    error.failure("E3053")
}

impl Destination<'_> {
    /// What users call something in it.
    pub(super) fn shown(&self, name: &str) -> String {
        match self {
            Destination::Folder(folder) => folder.join(name).display().to_string(),
            Destination::Prefix(_, url, _) => url.join(name).to_string(),
        }
    }

    /// Where something of it is written on this machine.
    pub(super) fn local(&self, name: &str) -> PathBuf {
        match self {
            Destination::Folder(folder) if name.is_empty() => folder.clone(),
            Destination::Folder(folder) => folder.join(name),
            // A training set takes the place of a folder: the hidden one stays around it.
            Destination::Prefix(_, _, hidden) => hidden.path().join("out").join(name),
        }
    }

    /// Refuses a prefix below which there is something. What is true of folders is seen to when one is written.
    pub(super) fn refuse_used(&self) -> Result<(), Failure> {
        let Destination::Prefix(objects, url, _) = self else { return Ok(()) };
        match objects.any_below(url).map_err(failed)? {
            None => Ok(()),
            Some(object) => {
                let message = format!("{url} is not empty: {} is there; name a new prefix", object.url);
                Err(Failure::invalid("E3010", message))
            }
        }
    }

    /// A small file in it. None: there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Destination::Folder(folder) => match std::fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Failure::invalid("E3048", format!("{}: {error}", self.shown(name)))),
            },
            Destination::Prefix(objects, url, _) => {
                let read = objects.read(&url.join(name), MANIFEST_OBJECT_BYTES_MAX).map_err(failed)?;
                Ok(read.map(|(bytes, _)| bytes))
            }
        }
    }

    /// Names of what is in a folder of it.
    pub(super) fn names(&self, folder: &str) -> Result<BTreeSet<String>, Failure> {
        match self {
            Destination::Folder(root) => {
                let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
                Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            }
            Destination::Prefix(objects, url, _) => {
                let folder = if folder.is_empty() { url.clone() } else { url.join(folder) };
                let first = |name: &str| name.split('/').next().unwrap_or_default().to_string();
                let objects = objects.below(&folder).map_err(failed)?;
                Ok(objects.iter().filter_map(|object| folder.name_below(&object.url)).map(first).collect())
            }
        }
    }

    /// Puts a training set where it belongs: its files, then its manifest. `go_on` is asked between them. Whatever stops it,
    /// nothing is left.
    pub(super) fn put(&self, written: &Written, go_on: &mut dyn FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
        let Destination::Prefix(objects, url, _) = self else { return Ok(()) };
        let mut done = Vec::new();
        let mut put = || {
            for file in &written.files {
                go_on()?;
                let to = url.join(&self.name(file));
                objects.put(file, &to).map_err(failed)?;
                done.push(to);
            }
            let unread = |e: std::io::Error| Failure::internal("E3020", format!("{}: {e}", written.manifest.display()));
            let manifest = std::fs::read(&written.manifest).map_err(unread)?;
            match objects.write(manifest, &url.join(&self.name(&written.manifest)), &Expected::Nothing) {
                Err(ObjectError::Taken { url }) => {
                    // What was put may have taken the place of what somebody else has put: it is not ours to remove.
                    done.clear();
                    let message = format!(
                        "{url} was written by somebody else meanwhile; remove what is there, for it is of both"
                    );
                    Err(Failure::invalid("E3010", message))
                }
                other => other.map(drop).map_err(failed),
            }
        };
        let ended = put();
        if ended.is_err() {
            for url in done {
                if let Err(error) = objects.remove(&url) {
                    tracing::warn!(%error, "an object of a job that failed stays");
                }
            }
        }
        ended
    }

    /// The name in it of a file of this machine.
    pub(super) fn name(&self, file: &Path) -> String {
        let names = file.strip_prefix(self.local("")).unwrap_or(file).components();
        names.map(|name| name.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// Replaces a small file in one step.
    pub(super) fn replace(&self, name: &str, text: String) -> Result<(), Failure> {
        match self {
            Destination::Folder(folder) => {
                let temporary = folder.join(format!("{name}.tmp"));
                let replace = || {
                    std::fs::write(&temporary, text)?;
                    std::fs::File::open(&temporary)?.sync_all()?;
                    std::fs::rename(&temporary, folder.join(name))?;
                    std::fs::File::open(folder)?.sync_all()
                };
                replace().map_err(|e| Failure::invalid("E3045", format!("{}: {e}", folder.display())))
            }
            Destination::Prefix(objects, url, _) => {
                objects.write(text.into_bytes(), &url.join(name), &Expected::Anything).map(drop).map_err(failed)
            }
        }
    }

    /// Removes a folder of it. What cannot be removed stays.
    pub(super) fn remove(&self, folder: &str) {
        let removed = match self {
            Destination::Folder(root) => std::fs::remove_dir_all(root.join(folder)).map_err(|e| e.to_string()),
            Destination::Prefix(objects, url, _) => {
                let below = objects.below(&url.join(folder));
                let removed = below.and_then(|all| all.iter().try_for_each(|object| objects.remove(&object.url)));
                removed.map_err(|e| e.to_string())
            }
        };
        if let Err(error) = removed {
            tracing::warn!(%error, "what is not needed any more stays: {}", self.shown(folder));
        }
    }
}
