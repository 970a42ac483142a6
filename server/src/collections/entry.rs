//! What a record means for a collection at a moment: a vector or none, its attributes, and how long that stands.
//!
//! Vectors out of a source are the newest row of their key. A vector that is a feature is read as any feature is, and stands
//! until an event leaves its window or one that is dated ahead comes into it: that moment is noted as the time of such an event is.

use std::sync::Arc;

use tidemill_features::definitions::{Embedding, Registry, VectorsFrom};
use tidemill_features::read::{Context, ReadError, Stored, read_view, standing, stands_until};
use tidemill_features::value::Value;

use crate::failure::Failure;
use crate::online::Records;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// none: the key is not among the neighbours of anything
    pub vector: Option<Vec<f32>>,
    /// in file order
    pub attributes: Arc<[Value<'static>]>,
    /// the last moments of what stands
    pub ahead: Vec<i64>,
    /// whether the record cannot tell, only the log
    pub is_beyond: bool,
}

/// Entries by encoded key, each key once.
pub(super) type Entries = Vec<(Box<[u8]>, Entry)>;

/// Reads records for one embedding.
#[derive(Clone, Copy)]
pub(super) struct Reading<'r> {
    pub registry: &'r Registry,
    pub embedding: &'r Embedding,
}

impl Reading<'_> {
    /// What a record says at a time.
    pub fn entry(&self, stored: Stored<'_>, time: i64) -> Result<Entry, Failure> {
        let read = match self.embedding.from {
            VectorsFrom::Rows { .. } => self.newest_row(stored, time),
            VectorsFrom::Feature { feature, .. } => self.feature(stored, feature, time),
        };
        read.map_err(|_| damaged())
    }

    /// The same of the record that a key has in a store.
    pub fn of_key<R: Records>(&self, records: &R, key: &[u8], time: i64) -> Result<Entry, Failure> {
        let nodes = records.chunks(self.embedding.view, key);
        self.entry(Stored { record: records.record(self.embedding.view, key), nodes: &nodes }, time)
    }

    fn newest_row(&self, stored: Stored<'_>, time: i64) -> Result<Entry, ReadError> {
        let plan = &self.registry.views[self.embedding.view].plan;
        let found = standing(plan, stored, time)?;
        let mut entry = Entry { ahead: found.ahead, ..Entry::default() };
        if let Some(row) = found.row {
            let mut columns = plan.features.iter().map(|feature| &row[plan.cells[feature.cell].input.unwrap_or(0)]);
            // What does not fit was let through by earlier definitions: a view has no row for it.
            entry.vector = columns.next().and_then(|value| self.embedding.vector.read(value).ok().flatten());
            entry.attributes = columns.cloned().collect();
        }
        Ok(entry)
    }

    fn feature(&self, stored: Stored<'_>, feature: usize, time: i64) -> Result<Entry, ReadError> {
        let plan = &self.registry.views[self.embedding.view].plan;
        let mut answers = Vec::with_capacity(1);
        let read = read_view(plan, stored, &Context::default(), &[feature], time, &mut answers);
        let is_beyond = read == Err(ReadError::BeyondRecord);
        // Behind a chunk that is not here there may be others that are not: whoever fetches them hears of all at once.
        let until = stands_until(plan, stored, feature, time);
        if !is_beyond {
            read?;
        }
        // What does not fit (no event, a length of zero under cosine, an overflow) is as good as none.
        let vector = answers.first().and_then(|answer| self.embedding.vector.read(&answer.value).ok().flatten());
        Ok(Entry { vector, ahead: until?.into_iter().collect(), is_beyond, ..Entry::default() })
    }
}

pub(super) fn damaged() -> Failure {
    Failure::internal("E2020", "a record is damaged; the next start derives it from the log")
}
