//! Spines made of events: the rows of a training set are those at which something happened.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use tidemill_features::definitions::{FieldType, condition};
use tidemill_features::expression::Frame;
use tidemill_features::problem::nearest;
use tidemill_features::value::Value;

use super::get::Positions;
use super::training::Job;
use crate::columnar::{ParquetWriter, array, arrow_type};
use crate::failure::{Failure, shortened};
use crate::log::LogPlace;

/// Rows of a row group of the temporary file.
const GROUP_ROWS: usize = 64 * 1024;

impl Job<'_> {
    /// The events of a source as a file of rows, and the name of their time.
    pub(super) fn spine_of_events(
        &self,
        name: &str,
        filter: &str,
        positions: &Positions,
    ) -> Result<(tempfile::NamedTempFile, String), Failure> {
        let registry = &self.server.registry;
        let Some(at) = registry.source(name) else {
            let near = nearest(name, registry.sources.iter().map(|source| source.name.as_str()));
            return Err(Failure::unknown("E3043", format!("unknown source `{}`", shortened(name)), near));
        };
        let source = &registry.sources[at];
        let filter = match filter.trim() {
            "" => None,
            text => Some(condition(source, text).map_err(|fault| Failure {
                near: fault.near.into_iter().collect(),
                ..Failure::field("E3044", "where", format!("column {}: {}", fault.column, fault.message))
            })?),
        };
        let field = |(name, field): &(String, FieldType)| Field::new(name, arrow_type(&field.data_type), true);
        let schema: SchemaRef = Arc::new(Schema::new(source.fields.iter().map(field).collect::<Vec<_>>()));
        let failed = |what: String| Failure::internal("E3020", format!("a temporary file: {what}"));
        let folder = self.temporary()?;
        let file =
            tempfile::Builder::new().suffix(".parquet").tempfile_in(folder).map_err(|e| failed(e.to_string()))?;
        let mut writer = ParquetWriter::create(file.path(), schema.clone(), &[]).map_err(failed)?;
        let (mut batches, mut waiting) = (Vec::new(), 0);
        let errors = std::cell::Cell::new(0);
        self.server.reader.past.walk(LogPlace::default(), &[at], positions, &mut |_, batch, _| {
            self.go_on()?;
            let frame = |row| Frame { columns: &batch.columns, row, now: 0, errors: &errors };
            let rows: Vec<usize> = (0..batch.len())
                .filter(|row| filter.as_ref().is_none_or(|filter| filter.is_true(&frame(*row))))
                .collect();
            let arrays = source.fields.iter().zip(&batch.columns).map(|((_, field), column)| {
                let values: Vec<Value<'_>> = rows.iter().map(|row| column.value(*row)).collect();
                array(&field.data_type, &values.iter().collect::<Vec<_>>())
            });
            let arrays = arrays.collect::<Result<Vec<_>, _>>().map_err(|e| failed(e.to_string()))?;
            let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| failed(e.to_string()))?;
            waiting += batch.num_rows();
            batches.push(batch);
            if waiting < GROUP_ROWS {
                return Ok(());
            }
            waiting = 0;
            writer.write_row_group(&std::mem::take(&mut batches)).map_err(failed)
        })?;
        writer.write_row_group(&batches).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok((file, source.fields[source.event_time].0.clone()))
    }
}
