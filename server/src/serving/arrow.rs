//! Answers as an Arrow IPC stream of one record batch, named as Parquet columns are: `view__feature`.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{Field, Schema};
use tidemill_features::value::{DataType, Value};

use super::get::Answers;
use crate::columnar::array;
use crate::components::Server;
use crate::failure::Failure;

/// The stream's bytes.
pub fn stream(server: &Server, answers: &Answers) -> Result<Vec<u8>, Failure> {
    let failed =
        |e: arrow_schema::ArrowError| Failure::internal("E2022", format!("the answer cannot be written as Arrow: {e}"));
    let mut fields = Vec::with_capacity(answers.columns.len());
    let mut arrays = Vec::with_capacity(answers.columns.len());
    for (id, column) in answers.plan.ids.iter().zip(&answers.columns) {
        let data_type = server.registry.data_type(*id).unwrap_or(&DataType::Text);
        let values: Vec<&Value<'_>> = column.iter().map(|answer| &answer.value).collect();
        let array = array(data_type, &values).map_err(failed)?;
        fields.push(Field::new(server.registry.reference(*id).replace(':', "__"), array.data_type().clone(), true));
        arrays.push(array);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.finish().map_err(failed)?;
    drop(writer);
    Ok(bytes)
}
