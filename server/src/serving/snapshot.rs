//! Snapshots: the values of every entity of some views at one T, as Parquet.
//!
//! Each view has a folder per snapshot, and `_manifest.json` of the whole names the folders that belong together: it is
//! replaced in one step, when all of them are there. So a snapshot can be read while the next one is being written; the
//! folders of the one before the last are removed. What cannot have changed since the last snapshot is not written again.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use serde_json::{Map, Value as Json, json};
use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::definitions::{Registry, View};
use tidemill_features::expression::Column;
use tidemill_features::problem::nearest;
use tidemill_features::read::{Answer, Status};
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::time::rfc3339;
use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1;

use super::destination::Destination;
use super::get::Positions;
use super::training::{Job, Progress, count_unanswered, rows_at_once};
use crate::columnar::{array, arrow_type};
use crate::failure::Failure;
use crate::offline::training_set::{FeatureColumn, Layout, TrainingSet};
use crate::offline::{SpineRows, Visibility};

/// The manifest of a whole snapshot.
const MANIFEST: &str = "_manifest.json";

/// What one view's part of a snapshot is made from.
struct Part<'p> {
    view: &'p View,
    plan: ReadPlan,
    time: i64,
    positions: Positions,
    keys: Vec<Box<[u8]>>,
}

/// Encoded keys of a view's entities in memory; None: its records lie in a shared store.
type Held = Option<Vec<Box<[u8]>>>;

impl Job<'_> {
    /// Offline.Snapshot
    pub fn snapshot(
        &self,
        request: &v1::SnapshotRequest,
        progress: &mut Progress<'_>,
    ) -> Result<v1::JobResult, Failure> {
        let out = self.destination(&request.out)?;
        let root = out.local("");
        std::fs::create_dir_all(&root).map_err(|e| Failure::invalid("E3045", format!("{}: {e}", root.display())))?;
        let parts = self.parts(request)?;
        let last = last_manifest(&self.server.registry, &out)?;
        let mut notes = Vec::new();
        let rows_total = parts.iter().map(|part| part.keys.len() as u64).sum();
        let (mut entries, mut files, mut rows, mut looked_at) = (Map::new(), Vec::new(), 0, 0);
        for part in &parts {
            let identity = self.identity(part);
            let known = last.get("views").and_then(|views| views.get(&part.view.name));
            let entry = match known.filter(|entry| entry["made_from"] == identity) {
                Some(entry) => entry.clone(),
                None => self.write(&out, part, identity, &mut |done| progress(looked_at + done, rows_total))?,
            };
            looked_at += part.keys.len() as u64;
            progress(looked_at, rows_total);
            rows += entry["rows"].as_u64().unwrap_or(0);
            let named = entry["files"].as_array().into_iter().flatten().filter_map(Json::as_str);
            files.extend(named.map(|file| out.shown(file)));
            notes.extend(entry["notes"].as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_string));
            entries.insert(part.view.name.clone(), entry);
        }
        let manifest = json!({
            "definition_hash": format!("{:016x}", self.server.registry.hash),
            "at": parts.first().map(|part| rfc3339(part.time)),
            "views": entries,
        });
        out.replace(MANIFEST, format!("{manifest:#}\n"))?;
        remove_older(&out, &[&manifest, &Json::Object(last)]);
        Ok(v1::JobResult { rows, files, manifest: out.shown(MANIFEST), notes })
    }

    /// The views of a snapshot with the keys that they have, all of one moment.
    fn parts(&self, request: &v1::SnapshotRequest) -> Result<Vec<Part<'_>>, Failure> {
        let registry = &self.server.registry;
        let declared = || registry.views.iter().filter(|view| view.is_declared() && view.stream.is_some());
        for name in &request.views {
            if !declared().any(|view| view.name == *name) {
                let near = nearest(name, declared().map(|view| view.name.as_str()));
                let message = format!("no view `{}` with a source", crate::failure::shortened(name));
                return Err(Failure::unknown("E3046", message, near));
            }
        }
        let asked = |view: &View| request.views.is_empty() || request.views.contains(&view.name);
        let wanted = |(_, view): &(usize, &Arc<View>)| asked(view) && view.is_declared() && view.stream.is_some();
        let wanted: Vec<(usize, &Arc<View>)> = registry.views.iter().enumerate().filter(wanted).collect();
        let (time, positions, held) = self.moment(request, &wanted)?;
        let mut parts = Vec::new();
        for ((at, view), held) in wanted.into_iter().zip(held) {
            // The entities of a view are those that have a record. In a shared store some may have come since: they were not
            // seen before the positions, and are left out where rows are written.
            let mut keys = match held {
                Some(keys) => keys,
                None => self.server.reader.keys_of(at)?.unwrap_or_default(),
            };
            let references: Vec<String> = view.outputs().map(|(name, _)| format!("{}:{name}", view.name)).collect();
            // What needs other keys, or what only a request knows, is no value of this entity alone.
            let own = |reference: &String| {
                let plan = ReadPlan::of_references(registry, std::slice::from_ref(reference)).ok()?;
                (plan.keys == view.keys && plan.request.is_empty()).then(|| reference.clone())
            };
            let references: Vec<String> = references.iter().filter_map(own).collect();
            keys.sort_unstable();
            keys.dedup();
            let plan = ReadPlan::of_references(registry, &references)?;
            parts.push(Part { view, plan, time, positions: positions.clone(), keys });
        }
        Ok(parts)
    }

    /// T, the positions there, and of each view the keys that it has in memory. The gate is closed again before a shared store is asked: whoever publishes would wait for the answer, and with it every
    /// read, and at last the runtime on which the answer comes.
    fn moment(
        &self,
        request: &v1::SnapshotRequest,
        wanted: &[(usize, &Arc<View>)],
    ) -> Result<(i64, Positions, Vec<Held>), Failure> {
        let state = self.server.memory.read();
        let time = request.at.unwrap_or_else(|| self.server.clock.now());
        let is_shared = self.server.reader.shared.is_some();
        let mut held = Vec::with_capacity(wanted.len());
        for (at, _) in wanted {
            if !is_shared && !state.complete[*at] {
                return Err(self.server.reader.unfinished(&state, *at));
            }
            held.push((!is_shared).then(|| state.keys(*at).map(Into::into).collect()));
        }
        Ok((time, state.positions.clone(), held))
    }

    /// Everything that the values of a part follow from.
    fn identity(&self, part: &Part<'_>) -> Json {
        json!({
            "view_hash": format!("{:016x}", part.view.plan.hash),
            "definition_hash": format!("{:016x}", self.server.registry.hash),
            "at": rfc3339(part.time),
            "positions": self.log_ranges(&part.plan, &part.positions),
        })
    }

    fn write(
        &self,
        out: &Destination<'_>,
        part: &Part<'_>,
        identity: Json,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Json, Failure> {
        let columns: Vec<(String, DataType)> =
            part.plan.columns.iter().map(|(name, of)| (name.replace(':', "__"), of.clone())).collect();
        let key_field = |(name, of): &(String, DataType)| Field::new(name, arrow_type(of), false);
        let schema: SchemaRef = Arc::new(Schema::new(part.view.keys.iter().map(key_field).collect::<Vec<_>>()));
        let of_view = out.local(&part.view.name);
        std::fs::create_dir_all(&of_view)
            .map_err(|e| Failure::invalid("E3045", format!("{}: {e}", of_view.display())))?;
        let folder = new_folder(out, &part.view.name)?;
        let layout = Layout {
            service: part.view.name.clone(),
            definition_hash: format!("{:016x}", self.server.registry.hash),
            ..Layout::default()
        };
        let mut set = TrainingSet::create(&out.local(&folder), schema.clone(), &columns, layout)?;
        let (mut first, mut unanswered) = (0, vec![0; columns.len()]);
        for encoded in part.keys.chunks(rows_at_once(&part.plan)) {
            let keys = decoded(part.view, encoded)
                .map_err(|_| Failure::internal("E2020", "a key of the state cannot be decoded"))?;
            let times = vec![part.time; encoded.len()];
            let given = Keys { columns: keys, request: Vec::new(), rows: encoded.len() };
            let answers = self.replay(&part.plan, (&given, &times), &Visibility::EventTime, &part.positions)?;
            count_unanswered(answers.iter().map(Vec::as_slice), &mut unanswered);
            let (rows, answers) = self.found(part, &schema, &given, answers)?;
            let features: Vec<FeatureColumn<'_>> = columns
                .iter()
                .zip(&answers)
                .map(|((name, data_type), answers)| FeatureColumn { name: name.clone(), data_type, answers })
                .collect();
            set.write(&SpineRows { first, ..rows }, &features)?;
            first += encoded.len() as u64;
            progress(first);
        }
        let head = json!({ "view": part.view.name, "made_from": identity });
        let Json::Object(mut head) = head else { return Err(Failure::internal("E3047", "a manifest is an object")) };
        let made_from = head["made_from"].clone();
        let notes = self.notes(&part.plan, &unanswered, &mut head)?;
        let written = set.finish(head)?;
        out.put(&written, &mut || self.go_on())?;
        Ok(json!({
            "rows": written.rows,
            "folder": folder,
            "files": written.files.iter().map(|file| out.name(file)).collect::<Vec<_>>(),
            "made_from": made_from,
            "notes": notes,
        }))
    }

    /// The rows whose entity was seen before T.
    fn found(
        &self,
        part: &Part<'_>,
        schema: &SchemaRef,
        keys: &Keys,
        answers: Vec<Vec<Answer>>,
    ) -> Result<(SpineRows, Vec<Vec<Answer>>), Failure> {
        let own = part.plan.ids.iter().position(|id| part.view.derived(id.output).is_none());
        let seen = |row: &usize| own.is_none_or(|own| answers[own][*row].status != Status::NotFound);
        let rows: Vec<usize> = (0..keys.rows).filter(seen).collect();
        let picked = |column: &Column| rows.iter().map(|row| column.value(*row).into_owned()).collect::<Vec<_>>();
        let key_columns: Vec<Vec<Value<'static>>> = keys.columns.iter().map(picked).collect();
        let arrays = key_columns
            .iter()
            .zip(&part.view.keys)
            .map(|(values, (_, of))| array(of, &values.iter().collect::<Vec<_>>()));
        let columns = arrays
            .collect::<Result<Vec<_>, ArrowError>>()
            .and_then(|arrays| RecordBatch::try_new(schema.clone(), arrays))
            .map_err(|e| Failure::internal("E3047", format!("keys cannot be written: {e}")))?;
        let answers = answers.into_iter().map(|column| rows.iter().map(|row| column[*row].clone()).collect()).collect();
        let times = vec![part.time; rows.len()];
        let keys = key_columns.into_iter().map(Column::Values).collect();
        Ok((SpineRows { first: 0, columns, times, keys, request: Vec::new() }, answers))
    }
}

/// Encoded keys of a view's entities as columns.
pub(super) fn decoded(view: &View, keys: &[Box<[u8]>]) -> Result<Vec<Column>, Damaged> {
    let mut columns: Vec<Vec<Value<'static>>> = view.keys.iter().map(|_| Vec::with_capacity(keys.len())).collect();
    for key in keys {
        let mut cursor = Cursor::new(key);
        for (column, (_, data_type)) in columns.iter_mut().zip(&view.keys) {
            column.push(cursor.value(data_type)?.into_owned());
        }
    }
    Ok(columns.into_iter().map(Column::Values).collect())
}

/// The manifest of the snapshot before, if there is one.
fn last_manifest(registry: &Registry, out: &Destination<'_>) -> Result<Map<String, Json>, Failure> {
    if let Some(bytes) = out.read(MANIFEST)? {
        let wrong =
            |e| Failure::invalid("E3048", format!("{} is not the manifest of a snapshot: {e}", out.shown(MANIFEST)));
        return serde_json::from_slice(&bytes).map_err(wrong);
    }
    // Folders of views are what a snapshot leaves that was stopped.
    let of_view = |name: &String| registry.views.iter().any(|view| view.name == *name);
    if let Some(other) = out.names("")?.iter().find(|name| !of_view(name)) {
        let message = format!("{} holds `{other}`, which is no snapshot; name an empty folder", out.shown(""));
        return Err(Failure::invalid("E3048", message));
    }
    Ok(Map::new())
}

/// A folder of a view that does not exist yet.
fn new_folder(out: &Destination<'_>, view: &str) -> Result<String, Failure> {
    let taken = out.names(view)?;
    let free = (0u64..).map(|number| format!("{number:06}")).find(|name| !taken.contains(name));
    Ok(format!("{view}/{}", free.unwrap_or_default()))
}

/// Removes folders of views that neither this snapshot nor the one before names.
fn remove_older(out: &Destination<'_>, manifests: &[&Json]) {
    let entries = || manifests.iter().filter_map(|manifest| manifest["views"].as_object()).flatten();
    let kept: Vec<&str> = entries().filter_map(|(_, entry)| entry["folder"].as_str()).collect();
    for (view, _) in entries() {
        for name in out.names(view).into_iter().flatten() {
            let folder = format!("{view}/{name}");
            if !kept.contains(&folder.as_str()) {
                out.remove(&folder);
            }
        }
    }
}
