//! Applying one batch: what its events change in the records of every view that reads their source.

use tidemill_features::codec::Damaged;
use tidemill_features::definitions::{Registry, Source};
use tidemill_features::hash::hash_bytes;
use tidemill_features::record::{Fate, apply};
use tidemill_features::stream::{EventBatch, Prepared};

use super::keys::{Entry, each_key};
use crate::log::{Frame, SourceSchema};
use crate::online::{Memory, Updates, ViewLedger};

/// Computes the changes of one batch for some of the views of its source. Nothing is published yet.
pub(super) fn apply_batch(
    registry: &Registry,
    memory: &Memory,
    source: usize,
    views: &[usize],
    batch: &EventBatch,
) -> Result<Updates, Damaged> {
    let mut updates = Updates::default();
    // This thread is the only one that publishes, so what it reads here stays true until then.
    let state = memory.read();
    for view_index in views {
        let view = &registry.views[*view_index];
        let Some(stream) = &view.stream else { continue };
        let prepared = Prepared::new(view, stream, &registry.sources[source], batch);
        updates.row_errors += prepared.row_errors;
        let mut ledger = ViewLedger::default();
        let mut entries: Vec<Entry> = Vec::with_capacity(batch.len());
        // By row: records that are looked for together are found sooner than one after the other, since memory is slow to answer
        // and can be asked for many at once.
        let mut records: Vec<Option<&[u8]>> = Vec::with_capacity(batch.len());
        for row in 0..batch.len() {
            let Some(key) = prepared.key(row) else {
                ledger.count(Fate::Keyless, batch.times[row]);
                records.push(None);
                continue;
            };
            let hash = hash_bytes(key);
            records.push(state.record_of(*view_index, hash, key));
            entries.push((hash, 0, row as u32));
        }
        entries.sort_unstable();
        let view_id = *view_index as u32;
        let mut events = Vec::new();
        let key_of = |(.., row): &Entry| prepared.key(*row as usize).unwrap_or_default();
        each_key(&entries, key_of, &mut |own| {
            let (Some(first), key) = (own.first(), own.first().map(key_of).unwrap_or_default()) else { return Ok(()) };
            events.clear();
            events.extend(own.iter().map(|(.., row)| prepared.incoming(*row as usize)));
            let record = records[first.2 as usize];
            let applied = apply(&view.plan, record, &events, &state.chunks(*view_index, key))?;
            for (fate, (.., row)) in applied.fates.iter().zip(own) {
                ledger.count(*fate, batch.times[*row as usize]);
            }
            if let Some(record) = applied.record {
                updates.records.push(((view_id, key.into()), record.into_boxed_slice()));
            }
            updates.chunks.extend(applied.chunks.into_iter().map(|(id, chunk)| ((view_id, key.into(), id), chunk)));
            Ok(())
        })?;
        updates.views.push((*view_index as u32, ledger));
    }
    Ok(updates)
}

/// A frame's batches with the columns that its source declares now: by name, nulls for what was not there.
pub fn fitted(frame: &mut Frame, source: &Source) {
    if frame.schema == SourceSchema::of(source) {
        return;
    }
    use tidemill_features::expression::Column;
    use tidemill_features::value::Value;
    for batch in &mut frame.batches {
        let rows = batch.len();
        let stored = std::mem::take(&mut batch.columns);
        let column = |(name, field): &(String, tidemill_features::definitions::FieldType)| {
            let same = |(n, f): &(String, tidemill_features::definitions::FieldType)| {
                n == name && f.data_type == field.data_type
            };
            let at = frame.schema.fields.iter().position(same);
            at.map_or_else(|| Column::Values(vec![Value::Null; rows]), |at| stored[at].clone())
        };
        batch.columns = source.fields.iter().map(column).collect();
    }
}
