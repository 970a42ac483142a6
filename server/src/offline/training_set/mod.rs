//! A training set: the rows of a spine with their features, as Parquet files and a manifest.
//!
//! Everything is written into a hidden folder beside the place where it is to be, and appears there by one rename: what can be
//! seen is whole. In reading order: `layout` (which folder a row belongs to), `split` (sets by time), `files` (rows become row
//! groups and files), `folder` (the hidden one, and the rename), `profile` (what each feature's values are like), `manifest`.
//! `streamed` is the same set without files, for callers who take it as it is made.

mod files;
mod folder;
mod layout;
mod manifest;
mod profile;
mod select;
mod split;
mod streamed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use tidemill_features::read::Answer;
use tidemill_features::value::{DataType, Value};

use self::files::Files;
use self::folder::HiddenFolder;
pub use self::layout::{HiveKey, Layout};
use self::manifest::Manifest;
use self::profile::Profile;
pub use self::split::Split;
pub use self::streamed::StreamedSet;
use super::spine::SpineRows;
use crate::columnar::{array, arrow_type};
use crate::failure::Failure;

/// The values of one feature for some rows.
pub struct FeatureColumn<'a> {
    /// `view__feature`
    pub name: String,
    /// of the values
    pub data_type: &'a DataType,
    /// one a row
    pub answers: &'a [Answer],
}

/// What has been written.
#[derive(Clone, Debug)]
pub struct Written {
    /// as many as the spine had
    pub rows: u64,
    /// in the order of their names, which without split and hive keys is the order of the rows
    pub files: Vec<PathBuf>,
    /// what there is, and how to check it
    pub manifest: PathBuf,
}

/// A training set that is being written. Dropped before `finish`, it leaves nothing.
pub struct TrainingSet {
    folder: HiddenFolder,
    files: Files,
    schema: SchemaRef,
    spine_columns: usize,
    features: Vec<(String, DataType)>,
    profiles: Vec<Profile>,
    layout: Layout,
    rows_of_sets: Vec<u64>,
    rows: u64,
}

impl TrainingSet {
    /// Begins a training set that will be at `out`, where nothing may be yet but an empty folder.
    pub fn create(
        out: &Path,
        spine: SchemaRef,
        features: &[(String, DataType)],
        layout: Layout,
    ) -> Result<TrainingSet, Failure> {
        check_names(&spine, features, &layout)?;
        layout.check()?;
        let schema: SchemaRef = Arc::new(with_features(&spine, features));
        let folder = HiddenFolder::beside(out)?;
        let files = Files::new(folder.path(), schema.clone(), layout.notes());
        Ok(TrainingSet {
            folder,
            files,
            schema,
            spine_columns: spine.fields().len(),
            profiles: features.iter().map(|(_, data_type)| Profile::new(data_type)).collect(),
            features: features.to_vec(),
            rows_of_sets: vec![0; layout.sets().len()],
            layout,
            rows: 0,
        })
    }

    /// Writes the next rows of the spine with all their features, in the order in which they were declared.
    pub fn write(&mut self, rows: &SpineRows, features: &[FeatureColumn<'_>]) -> Result<(), Failure> {
        self.check_shape(rows, features)?;
        let batch = batch(&self.schema, rows, features).map_err(|e| Failure::internal("E3014", e.to_string()))?;
        let places = self.layout.places(rows)?;
        let mut done = Vec::with_capacity(places.len());
        for (place, numbers) in places {
            self.rows_of_sets[place.set] += numbers.len() as u64;
            let part = if numbers.len() == batch.num_rows() {
                batch.clone()
            } else {
                take_record_batch(&batch, &UInt32Array::from(numbers))
                    .map_err(|e| Failure::internal("E3014", e.to_string()))?
            };
            done.push((self.layout.folder(place), part));
        }
        for (folder, part) in done {
            self.files.add(&folder, part).map_err(|e| self.folder.unwritable(e))?;
        }
        for (profile, feature) in self.profiles.iter_mut().zip(features) {
            profile.update(feature.answers);
        }
        self.rows += rows.times.len() as u64;
        Ok(())
    }

    /// Writes what is left and the manifest, which begins with `head`, and shows the whole.
    pub fn finish(mut self, head: serde_json::Map<String, serde_json::Value>) -> Result<Written, Failure> {
        for folder in self.layout.folders_without_rows(&self.rows_of_sets) {
            self.files.add_empty(&folder);
        }
        let files = self.files.finish().map_err(|e| self.folder.unwritable(e))?;
        let manifest = Manifest {
            head,
            rows: self.rows,
            layout: &self.layout,
            rows_of_sets: &self.rows_of_sets,
            files: &files,
            spine: &self.schema.fields()[..self.spine_columns],
            features: &self.features,
            profiles: &self.profiles,
        };
        self.folder.write(manifest::NAME, manifest.text().as_bytes())?;
        let out = self.folder.show()?;
        let files = files.iter().map(|file| out.join(&file.path)).collect();
        Ok(Written { rows: self.rows, files, manifest: out.join(manifest::NAME) })
    }

    /// What the caller must keep to, or rows and values would be mixed up.
    fn check_shape(&self, rows: &SpineRows, features: &[FeatureColumn<'_>]) -> Result<(), Failure> {
        let count = rows.times.len();
        let same_columns = self.features.len() == features.len()
            && self
                .features
                .iter()
                .zip(features)
                .all(|((name, of), given)| *name == given.name && of == given.data_type);
        let wrong = if rows.first != self.rows {
            format!("row {} after {} rows", rows.first, self.rows)
        } else if !same_columns {
            "other features than the training set was made for".to_string()
        } else if rows.columns.num_rows() != count || features.iter().any(|feature| feature.answers.len() != count) {
            format!("columns that have not {count} rows, as the times have")
        } else {
            return Ok(());
        };
        Err(Failure::internal("E3014", format!("the training set was given {wrong}")))
    }
}

/// The columns of a spine, and features behind them.
fn with_features(spine: &Schema, features: &[(String, DataType)]) -> Schema {
    let field = |(name, data_type): &(String, DataType)| Arc::new(Field::new(name, arrow_type(data_type), true));
    Schema::new(spine.fields().iter().cloned().chain(features.iter().map(field)).collect::<Vec<_>>())
}

fn batch(schema: &SchemaRef, rows: &SpineRows, features: &[FeatureColumn<'_>]) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = rows.columns.columns().to_vec();
    for feature in features {
        let values: Vec<&Value<'_>> = feature.answers.iter().map(|answer| &answer.value).collect();
        columns.push(array(feature.data_type, &values)?);
    }
    RecordBatch::try_new(schema.clone(), columns)
}

/// Names stand once: a reader could not tell a label from a feature, or a column from a folder.
fn check_names(spine: &Schema, features: &[(String, DataType)], layout: &Layout) -> Result<(), Failure> {
    let taken = |name: &str| spine.column_with_name(name).is_some();
    if let Some((name, _)) = features.iter().find(|(name, _)| taken(name)) {
        let message = format!("the spine has a column `{name}`, as a feature of the service is named: rename it");
        return Err(Failure::invalid("E3006", message));
    }
    let mut names = std::collections::HashSet::new();
    if let Some((name, _)) = features.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(Failure::invalid("E3006", format!("the feature `{name}` is asked for twice")));
    }
    if let Some(key) = layout.hive.iter().find(|key| taken(key.name()) || names.contains(key.name())) {
        let message =
            format!("the spine has a column `{0}`, which folders named `{0}=…` would hide: rename it", key.name());
        return Err(Failure::invalid("E3006", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
