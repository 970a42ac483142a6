//! Histories: training sets for callers who send their rows and take the features as they are computed.
//!
//! The rows lie in a temporary file meanwhile, since a spine may be larger than the memory; the answer is never whole here, and
//! waits for a slow caller.

use std::io::Write;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tidemill_proto::v1::{self, history_response::Part};

use super::training::{Job, feature_names, wanted};
use crate::failure::{Failure, Remedy};
use crate::limits::{HISTORY_CHUNK_BYTES, HISTORY_SPINE_BYTES_MAX};
use crate::offline::Spine;
use crate::offline::training_set::{Layout, StreamedSet};

/// What messages call the rows that were sent.
const NAME: &str = "the spine";

/// Gives the next bytes of a spine; None behind the last ones.
pub(super) type Chunks<'c> = dyn FnMut() -> Result<Option<Bytes>, Failure> + 'c;

impl Job<'_> {
    /// Offline.History
    pub(super) fn history(
        &self,
        start: &v1::HistoryStart,
        chunks: &mut Chunks<'_>,
        tell: &mut dyn FnMut(v1::HistoryResponse),
    ) -> Result<(), Failure> {
        let reading = self.reading(&start.service, &start.features, start.visibility(), start.assumed_delay)?;
        if start.time_column.is_empty() {
            return Err(Failure::field("E3040", "time_column", "name the spine's column with the time of each row"));
        }
        let file = self.received(chunks)?;
        let mut spine = Spine::open_stream(file.path(), NAME, &wanted(&reading.plan, &start.time_column))?;
        let names = feature_names(&reading.plan);
        let definition_hash = format!("{:016x}", self.server.registry.hash);
        let layout = Layout { service: start.service.clone(), definition_hash, ..Layout::default() };
        let mut set = StreamedSet::create(&spine.schema(), &names, &layout)?;
        let mut checksum = Sha256::new();
        let mut send = |bytes: Vec<u8>| -> Result<(), Failure> {
            checksum.update(&bytes);
            let mut rest = Bytes::from(bytes);
            while !rest.is_empty() {
                self.go_on()?;
                let arrow = rest.split_to(rest.len().min(HISTORY_CHUNK_BYTES));
                tell(v1::HistoryResponse { part: Some(Part::Arrow(arrow)) });
            }
            Ok(())
        };
        self.each_part(&reading, &mut spine, &names, &mut |rows, features| send(set.write(rows, features)?))?;
        let (bytes, rows) = set.finish()?;
        send(bytes)?;
        let mut manifest = self.manifest(&reading, (&start.service, NAME, &start.time_column));
        manifest.insert("rows".to_string(), rows.into());
        let checksum: String = checksum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        manifest.insert("sha256".to_string(), checksum.into());
        let result = v1::HistoryResult { rows, manifest: serde_json::Value::Object(manifest).to_string() };
        tell(v1::HistoryResponse { part: Some(Part::Result(result)) });
        Ok(())
    }

    /// All bytes of a spine, in a temporary file that goes when it is dropped.
    fn received(&self, chunks: &mut Chunks<'_>) -> Result<NamedTempFile, Failure> {
        let failed = |e: std::io::Error| {
            let message = format!("the spine cannot be kept in a temporary file: {e}");
            Failure::new(Remedy::Internal, "E3020", message)
        };
        let mut file = NamedTempFile::new_in(self.temporary()?).map_err(failed)?;
        let mut left = HISTORY_SPINE_BYTES_MAX;
        while let Some(bytes) = chunks()? {
            self.go_on()?;
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                let message = format!("{NAME} is larger than {} GB; send it in parts", HISTORY_SPINE_BYTES_MAX >> 30);
                Failure::field("E3055", "arrow", message)
            })?;
            file.write_all(&bytes).map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        Ok(file)
    }
}
