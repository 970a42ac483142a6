//! The files of a history: below the project, or in an object store, from which each is fetched while it is loaded.

use std::path::Path;
use std::sync::Arc;

use super::feed::{Feed, name_of};
use crate::limits::HISTORY_FILE_BYTES_MAX;
use crate::objects::{ObjectUrl, Objects};
use crate::source::files::{FileReader, Format, length_of, matching};

/// Where a history lies.
pub(super) struct Lake<'f> {
    feed: &'f Feed,
    objects: &'f Arc<Objects>,
}

/// A file that was fetched; it goes when nobody reads it any more.
pub(super) type Fetched = Option<Arc<tempfile::NamedTempFile>>;

impl<'f> Lake<'f> {
    pub(super) fn of(feed: &'f Feed) -> Self {
        Lake { feed, objects: &feed.objects }
    }

    /// Names and lengths of the files that a glob means now, in the order of their names.
    pub(super) fn matching(&self, glob: &str) -> Result<Vec<(String, u64)>, String> {
        if ObjectUrl::is_url(glob) {
            let found = self.objects.matching(glob).map_err(|e| e.to_string())?;
            return Ok(found.into_iter().map(|object| (object.url.to_string(), object.bytes)).collect());
        }
        let named = |file: &std::path::PathBuf| {
            file.to_str().ok_or_else(|| format!("{}: the name is not UTF-8", file.display()))?;
            Ok((name_of(&self.feed.project, file), length_of(file)?))
        };
        matching(&self.feed.project, glob)?.iter().map(named).collect()
    }

    /// Opens a file behind its first `skip` rows; it must still have as many bytes as it had. One that was fetched before is
    /// not fetched again.
    pub(super) fn open(
        &self,
        (name, bytes): (&str, u64),
        skip: u64,
        fetched: &mut Fetched,
    ) -> Result<FileReader, String> {
        let format = Format::of(Path::new(name), None)?;
        if !ObjectUrl::is_url(name) {
            return FileReader::open_whole(&self.feed.project.join(name), format, skip, bytes);
        }
        let file = match fetched {
            Some(file) => file.clone(),
            None => fetched.insert(Arc::new(self.fetch(name)?)).clone(),
        };
        let found = length_of(file.path())?;
        if found != bytes {
            return Err(format!("{name} has {found} bytes, but had {bytes} when it was listed"));
        }
        FileReader::open_whole(file.path(), format, skip, bytes)
    }

    fn fetch(&self, name: &str) -> Result<tempfile::NamedTempFile, String> {
        let url = ObjectUrl::parse(name).map_err(|e| e.to_string())?;
        let folder = self.feed.data_dir.join("tmp");
        let created = std::fs::create_dir_all(&folder).and_then(|()| {
            tempfile::Builder::new().prefix("history-").suffix(&format!(".{}", url.ending())).tempfile_in(&folder)
        });
        let file = created.map_err(|e| format!("{}: {e}", folder.display()))?;
        self.objects.fetch(&url, file.path(), HISTORY_FILE_BYTES_MAX).map_err(|e| e.to_string())?;
        Ok(file)
    }
}
