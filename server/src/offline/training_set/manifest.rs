//! The manifest of a training set: what there is, what it was made from, and how to check that it is whole.

use arrow_schema::FieldRef;
use serde_json::{Map, Value as Json, json};
use tidemill_features::time::rfc3339;
use tidemill_features::value::DataType;

use super::files::SetFile;
use super::layout::{HiveKey, Layout};
use super::profile::Profile;

/// Its name; readers of folders of Parquet files skip names that begin so.
pub(super) const NAME: &str = "_manifest.json";
/// Counts changes of its shape.
const VERSION: u32 = 1;

/// All that it tells.
pub(super) struct Manifest<'m> {
    /// what the caller knows
    pub head: Map<String, Json>,
    pub rows: u64,
    pub layout: &'m Layout,
    pub rows_of_sets: &'m [u64],
    pub files: &'m [SetFile],
    pub spine: &'m [FieldRef],
    pub features: &'m [(String, DataType)],
    pub profiles: &'m [Profile],
}

impl Manifest<'_> {
    /// As it is written.
    pub fn text(mut self) -> String {
        let mut all = Map::new();
        all.insert("manifest_version".into(), json!(VERSION));
        all.insert("service".into(), json!(self.layout.service));
        all.insert("definition_hash".into(), json!(self.layout.definition_hash));
        all.append(&mut self.head);
        all.insert("rows".into(), json!(self.rows));
        if let Some(split) = &self.layout.split {
            let set = |(at, name): (usize, &str)| json!({ "name": name, "until": split.until(at).map(rfc3339), "rows": self.rows_of_sets[at] });
            all.insert("split".into(), split.names().enumerate().map(set).collect());
        }
        if !self.layout.hive.is_empty() {
            all.insert("hive".into(), self.layout.hive.iter().map(|key: &HiveKey| key.name()).collect());
        }
        let file = |file: &SetFile| {
            let written = &file.written;
            json!({ "path": file.path, "rows": written.rows, "bytes": written.bytes, "sha256": written.sha256 })
        };
        all.insert("files".into(), self.files.iter().map(file).collect());
        all.insert("columns".into(), self.columns());
        format!("{:#}\n", Json::Object(all))
    }

    fn columns(&self) -> Json {
        let of_spine = self
            .spine
            .iter()
            .map(|field| json!({ "name": field.name(), "from": "spine", "type": field.data_type().to_string() }));
        let of_features = self.features.iter().zip(self.profiles).map(|((name, data_type), profile)| {
            let mut column = Map::new();
            column.insert("name".into(), json!(name));
            column.insert("from".into(), json!("feature"));
            column.insert("type".into(), json!(data_type.to_string()));
            column.extend(profile.json());
            Json::Object(column)
        });
        of_spine.chain(of_features).collect()
    }
}
