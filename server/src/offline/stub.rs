//! stub
#![allow(missing_docs, dead_code, unused_variables)]
use super::SpineRows;
use crate::failure::Failure;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::path::{Path, PathBuf};
use tidemill_features::{expression::Column, read::Answer, value::DataType};
pub struct Split;
impl Split {
    pub fn parse(t: &str) -> Result<Split, Failure> {
        todo!()
    }
}
pub struct HiveKey;
impl HiveKey {
    pub fn parse(t: &str) -> Result<HiveKey, Failure> {
        todo!()
    }
}
pub struct Layout {
    pub service: String,
    pub split: Option<Split>,
    pub hive: Vec<HiveKey>,
}
pub struct FeatureColumn<'a> {
    pub name: String,
    pub data_type: &'a DataType,
    pub answers: &'a [Answer],
}
pub struct TrainingSet;
impl TrainingSet {
    pub fn create(
        out: &Path,
        spine: SchemaRef,
        features: &[(String, DataType)],
        layout: Layout,
    ) -> Result<TrainingSet, Failure> {
        todo!()
    }
    pub fn write(&mut self, rows: &SpineRows, features: &[FeatureColumn<'_>]) -> Result<(), Failure> {
        todo!()
    }
    pub fn finish(self, head: serde_json::Map<String, serde_json::Value>) -> Result<Written, Failure> {
        todo!()
    }
}
pub struct Written {
    pub rows: u64,
    pub files: Vec<PathBuf>,
    pub manifest: PathBuf,
}
