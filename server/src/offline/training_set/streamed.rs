//! A training set as an Arrow IPC stream: the same columns in the same order, given away batch by batch.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use tidemill_features::value::DataType;

use super::{FeatureColumn, Layout, batch, check_names, with_features};
use crate::failure::Failure;
use crate::offline::spine::SpineRows;

/// A stream that is being written; its bytes go to whoever asks for the next ones.
pub struct StreamedSet {
    schema: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
    rows: u64,
}

impl StreamedSet {
    /// Begins a stream of a spine's columns and some features. Of the layout only what it was made from counts.
    pub fn create(spine: &SchemaRef, features: &[(String, DataType)], layout: &Layout) -> Result<StreamedSet, Failure> {
        check_names(spine, features, layout)?;
        let notes: HashMap<String, String> =
            layout.notes().into_iter().map(|(name, text)| (name.to_string(), text)).collect();
        let schema = Arc::new(with_features(spine, features).with_metadata(notes));
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(|e| unwritable(&e))?;
        Ok(StreamedSet { schema, writer, rows: 0 })
    }

    /// The bytes of the next rows, with all their features in the order in which they were declared.
    pub fn write(&mut self, rows: &SpineRows, features: &[FeatureColumn<'_>]) -> Result<Vec<u8>, Failure> {
        if rows.first != self.rows {
            let message = format!("the stream was given row {} after {} rows", rows.first, self.rows);
            return Err(Failure::internal("E3014", message));
        }
        let batch = batch(&self.schema, rows, features).map_err(|e| unwritable(&e))?;
        self.writer.write(&batch).map_err(|e| unwritable(&e))?;
        self.rows += batch.num_rows() as u64;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// The last bytes, and the number of rows.
    pub fn finish(self) -> Result<(Vec<u8>, u64), Failure> {
        let StreamedSet { mut writer, rows, .. } = self;
        writer.finish().map_err(|e| unwritable(&e))?;
        Ok((std::mem::take(writer.get_mut()), rows))
    }
}

fn unwritable(error: &ArrowError) -> Failure {
    Failure::internal("E3014", format!("rows cannot be written as Arrow: {error}"))
}
