//! Typed columns, built row by row: what decode fills and what the log gives back.

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder,
};
use tidemill_features::expression::Column;
use tidemill_features::value::{DataType, Value};

enum Builder {
    Bool(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Timestamp(Int64Builder),
    Decimal(Decimal128Builder),
    Values(Vec<Value<'static>>),
}

/// Columns under construction.
pub struct ColumnsBuilder {
    builders: Vec<Builder>,
}

impl ColumnsBuilder {
    /// For columns of these types.
    pub fn new<'t>(types: impl IntoIterator<Item = &'t DataType>) -> Self {
        ColumnsBuilder { builders: types.into_iter().map(Builder::new).collect() }
    }

    /// One more value of a column.
    pub fn push(&mut self, column: usize, value: &Value<'_>) {
        self.builders[column].push(value);
    }

    /// The columns; the builder is empty again.
    pub fn finish(&mut self) -> Vec<Column> {
        self.builders.iter_mut().map(Builder::finish).collect()
    }
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Bool => Builder::Bool(BooleanBuilder::new()),
            DataType::Int64 => Builder::Int64(Int64Builder::new()),
            DataType::Float64 => Builder::Float64(Float64Builder::new()),
            DataType::Text => Builder::Text(StringBuilder::new()),
            DataType::Bytes => Builder::Bytes(BinaryBuilder::new()),
            DataType::Timestamp => Builder::Timestamp(Int64Builder::new()),
            DataType::Decimal { .. } => Builder::Decimal(Decimal128Builder::new()),
            _ => Builder::Values(Vec::new()),
        }
    }

    fn push(&mut self, value: &Value<'_>) {
        match (self, value) {
            (Builder::Bool(b), Value::Bool(v)) => b.append_value(*v),
            (Builder::Bool(b), _) => b.append_null(),
            (Builder::Int64(b), Value::Int64(v)) | (Builder::Timestamp(b), Value::Timestamp(v)) => b.append_value(*v),
            (Builder::Int64(b) | Builder::Timestamp(b), _) => b.append_null(),
            (Builder::Float64(b), Value::Float64(v)) => b.append_value(*v),
            (Builder::Float64(b), _) => b.append_null(),
            (Builder::Text(b), Value::Text(v)) => b.append_value(v),
            (Builder::Text(b), _) => b.append_null(),
            (Builder::Bytes(b), Value::Bytes(v)) => b.append_value(v),
            (Builder::Bytes(b), _) => b.append_null(),
            (Builder::Decimal(b), Value::Decimal(v)) => b.append_value(*v),
            (Builder::Decimal(b), _) => b.append_null(),
            (Builder::Values(b), value) => b.push(value.clone().into_owned()),
        }
    }

    fn finish(&mut self) -> Column {
        match self {
            Builder::Bool(b) => Column::Bool(b.finish()),
            Builder::Int64(b) => Column::Int64(b.finish()),
            Builder::Float64(b) => Column::Float64(b.finish()),
            Builder::Text(b) => Column::Text(b.finish()),
            Builder::Bytes(b) => Column::Bytes(b.finish()),
            Builder::Timestamp(b) => Column::Timestamp(b.finish()),
            Builder::Decimal(b) => Column::Decimal(b.finish()),
            Builder::Values(b) => Column::Values(std::mem::take(b)),
        }
    }
}
