//! Checked definitions: what the rest of the system trusts.

use std::collections::HashMap;
use std::sync::Arc;

use super::sinks::Sink;
use super::types::FieldType;
use super::vectors::{Embedding, VectorColumn};
use crate::expression::Expression;
use crate::plan::Plan;
use crate::value::DataType;

/// All definitions of a project, checked against each other.
#[derive(Debug)]
pub struct Registry {
    /// by name, in file order
    pub sources: Vec<Arc<Source>>,
    /// by name, in file order
    pub entities: Vec<Entity>,
    /// by name, in file order; then those that keep the rows of joined tables, and vectors
    pub views: Vec<Arc<View>>,
    /// by name, in file order
    pub embeddings: Vec<Embedding>,
    /// by name, in file order
    pub services: Vec<Service>,
    /// by name, in file order
    pub sinks: Vec<Sink>,
    /// hash of everything that decides a value
    pub hash: u64,
    /// what this version accepts but cannot run yet, in plain sentences
    pub not_ready: Vec<String>,
}

/// An event stream.
#[derive(Debug)]
pub struct Source {
    /// as declared
    pub name: String,
    /// where events come from
    pub connector: Connector,
    /// columns, in file order
    pub fields: Vec<(String, FieldType)>,
    /// index of the column
    pub event_time: usize,
    /// index of the column
    pub event_id: Option<usize>,
    /// index of the column
    pub arrival_time: Option<usize>,
    /// microseconds
    pub dedup_horizon: i64,
    /// microseconds
    pub assumed_delay: i64,
    /// microseconds
    pub max_future_skew: i64,
    /// microseconds
    pub max_lag: Option<i64>,
    /// rows of which the newest per key counts, instead of events
    pub is_table: bool,
    /// rows that delete their key
    pub delete_when: Option<Expression>,
    /// the same events at rest
    pub history: Option<HistoryFiles>,
    /// columns that are vectors of embeddings: what they take is checked as events come in
    pub vectors: Vec<VectorColumn>,
    /// how the messages of a topic are encoded
    pub payload: Option<Payload>,
}

/// How the messages of a topic are encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// as declared
    pub format: PayloadFormat,
    /// relative to the project; None: a schema registry knows the schemas
    pub schema_file: Option<String>,
    /// the full name of the Protobuf message
    pub message: Option<String>,
}

/// Encodings of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFormat {
    /// one JSON object
    Json,
    /// one Avro record
    Avro,
    /// one Protobuf message
    Protobuf,
}

/// The first partition of events at rest: each file of a source's history is one. Those of the stream are below.
pub const HISTORY_PARTITIONS: u32 = 1 << 31;

/// Files that are loaded once, before and while the stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryFiles {
    /// a glob
    pub path: String,
    /// the time fence: events before it come from the files, the others from the stream, microseconds
    pub until: Option<i64>,
}

impl Source {
    /// Whether arrivals in the stream are those of the server's clock, which never goes back.
    pub fn is_stream_clocked(&self) -> bool {
        self.arrival_time.is_none() && matches!(self.connector, Connector::Push)
    }

    /// The same of one partition: what lay in files was not new when it was loaded.
    pub fn is_clocked(&self, partition: u32) -> bool {
        self.is_stream_clocked() && !self.is_at_rest(partition)
    }

    /// Whether events of the stream are new when they come, and do not say when they were known. Then the moment at which an
    /// event could be read is noted, since the data cannot say it.
    pub fn is_stream_live(&self) -> bool {
        self.arrival_time.is_none() && !matches!(self.connector, Connector::File { .. })
    }

    /// The same of one partition.
    pub fn is_live(&self, partition: u32) -> bool {
        self.is_stream_live() && !self.is_at_rest(partition)
    }

    /// Columns that do not come from the payload of a message, ascending.
    pub fn bound_columns(&self) -> Vec<usize> {
        match &self.connector {
            Connector::Kafka(kafka) => kafka.metadata.iter().map(|(at, _)| *at).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the events of a partition are read from files.
    pub fn is_at_rest(&self, partition: u32) -> bool {
        partition >= HISTORY_PARTITIONS || matches!(self.connector, Connector::File { .. })
    }

    /// What may surprise whoever runs the source: plain sentences.
    pub fn warnings(&self) -> Vec<String> {
        let overlap_counts_twice = self.event_id.is_none() && self.history.as_ref().is_some_and(|h| h.until.is_none());
        let warning =
            "events that are both in the history and in the stream count twice: declare `event_id` or `history_until`";
        overlap_counts_twice.then(|| warning.to_string()).into_iter().collect()
    }
}

/// Where the events of a source come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connector {
    /// clients send them
    Push,
    /// files under the project
    File {
        /// a glob
        path: String,
        /// wait for more at the end
        follow: bool,
        /// ndjson, csv or parquet; None: by the file's ending
        format: Option<String>,
    },
    /// topics
    Kafka(KafkaTopics),
}

/// What a source reads from Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaTopics {
    /// names, one at least
    pub topics: Vec<String>,
    /// columns that come from the record itself and not from its value, ascending
    pub metadata: Vec<(usize, Metadata)>,
    /// where bad events go besides the event log
    pub dead_letter_topic: Option<String>,
}

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// its key, as text
    Key,
    /// the topic that it came from
    Topic,
    /// the partition of the topic
    Partition,
    /// its offset
    Offset,
    /// its time, which the producer or the broker has set
    Timestamp,
    /// whether it has no value, which deletes its key in a table
    Tombstone,
    /// one of its headers, as text
    Header(String),
}

impl KafkaTopics {
    /// Whether records without a value are events of the source, and not mistakes.
    pub fn takes_tombstones(&self) -> bool {
        self.metadata.iter().any(|(_, metadata)| *metadata == Metadata::Tombstone)
    }
}

/// What features describe.
#[derive(Debug)]
pub struct Entity {
    /// as declared
    pub name: String,
    /// key columns, in order
    pub keys: Vec<String>,
}

/// Features of one entity from one source.
#[derive(Debug)]
pub struct View {
    /// as declared
    pub name: String,
    /// index of its entity; None for views that keep the rows of a joined table, or vectors
    pub entity: Option<usize>,
    /// names and types of the entity's key columns
    pub keys: Vec<(String, DataType)>,
    /// index of its source, and what is computed from each event; None for views of derived features only
    pub stream: Option<Stream>,
    /// what is kept and read
    pub plan: Arc<Plan>,
    /// types of the plan's features, in order
    pub feature_types: Vec<DataType>,
    /// computed at read
    pub derived: Vec<Derived>,
    /// what the request must give, by name
    pub request: Vec<(String, DataType)>,
    /// by feature of the plan: columns of the source that the request must give, because its row counts there
    pub request_fields: Vec<Vec<usize>>,
}

/// What is computed from each event of a view's source.
#[derive(Debug)]
pub struct Stream {
    /// index of the source
    pub source: usize,
    /// the key columns in the source
    pub key_columns: Vec<usize>,
    /// how many columns of tables stand between the source's fields and the selected ones
    pub joined_columns: usize,
    /// derived columns, in order; None: computed at read
    pub select: Vec<(String, Option<Expression>)>,
    /// which events count
    pub filter: Option<Expression>,
    /// the plan's columns
    pub inputs: Vec<Expression>,
    /// the plan's filters
    pub filters: Vec<Expression>,
}

impl Stream {
    /// The columns of the source that the view needs, ascending.
    pub fn columns_read(&self, source: &Source) -> Vec<usize> {
        let selected = self.select.iter().filter_map(|(_, expression)| expression.as_ref());
        let expressions = selected.chain(&self.filter).chain(&self.inputs).chain(&self.filters);
        let mut columns: Vec<usize> =
            expressions.chain(&source.delete_when).flat_map(|e| e.columns.iter().copied()).collect();
        columns.extend(&self.key_columns);
        columns.extend(source.event_id);
        // Columns of tables and selected ones stand behind those of the source.
        columns.retain(|column| *column < source.fields.len());
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}

/// A feature computed at read.
#[derive(Debug)]
pub struct Derived {
    /// as declared
    pub name: String,
    /// over `inputs`, by position
    pub expression: Expression,
    /// type of its values
    pub data_type: DataType,
    /// what its names stand for
    pub inputs: Vec<Input>,
}

/// What a name in a derived feature stands for.
#[derive(Clone, Debug)]
pub enum Input {
    /// a feature
    Output(OutputId),
    /// a value of the request
    Request(String),
    /// a feature of another entity, whose key is computed from the inputs before this one
    Lookup(OutputId, Arc<Expression>),
}

impl Input {
    /// Whether both stand for the same.
    pub fn same(&self, other: &Input) -> bool {
        match (self, other) {
            (Input::Output(a), Input::Output(b)) => a == b,
            (Input::Request(a), Input::Request(b)) => a == b,
            (Input::Lookup(a, key), Input::Lookup(b, other)) => a == b && key.text == other.text,
            _ => false,
        }
    }
}

/// A feature of a view: aggregates first, then derived ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputId {
    /// index of the view
    pub view: usize,
    /// index among the plan's features and then the derived ones
    pub output: usize,
}

/// What one model reads.
#[derive(Debug)]
pub struct Service {
    /// as declared
    pub name: String,
    /// whom to ask
    pub owner: Option<String>,
    /// in order
    pub features: Vec<OutputId>,
}

impl View {
    /// Whether a user declared it.
    pub fn is_declared(&self) -> bool {
        !self.name.contains('@')
    }

    /// The names of its features, windows expanded, derived ones last.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &DataType)> {
        let features = self.plan.features.iter().map(|f| f.name.as_str()).zip(&self.feature_types);
        features.chain(self.derived.iter().map(|d| (d.name.as_str(), &d.data_type)))
    }

    /// A derived feature by its output index.
    pub fn derived(&self, output: usize) -> Option<&Derived> {
        output.checked_sub(self.plan.features.len()).and_then(|at| self.derived.get(at))
    }
}

impl Registry {
    /// A view by name.
    pub fn view(&self, name: &str) -> Option<usize> {
        self.views.iter().position(|view| view.name == name)
    }

    /// An embedding by name.
    pub fn embedding(&self, name: &str) -> Option<usize> {
        self.embeddings.iter().position(|embedding| embedding.name == name)
    }

    /// Whether an index follows the records of a view.
    pub fn is_followed(&self, view: usize) -> bool {
        self.embeddings.iter().any(|embedding| embedding.view == view && embedding.is_indexed())
    }

    /// A source by name.
    pub fn source(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name == name)
    }

    /// `view:feature`.
    pub fn reference(&self, id: OutputId) -> String {
        let view = &self.views[id.view];
        let name = view.outputs().nth(id.output).map_or("?", |(name, _)| name);
        format!("{}:{name}", view.name)
    }

    /// The type of a feature.
    pub fn data_type(&self, id: OutputId) -> Option<&DataType> {
        self.views[id.view].outputs().nth(id.output).map(|(_, data_type)| data_type)
    }

    /// Resolves `view:feature` or `view:*`; the error is a message and a near name.
    pub fn resolve(&self, reference: &str) -> Result<Vec<OutputId>, (String, Option<String>)> {
        let outputs: Vec<(&str, Vec<&str>)> =
            self.views.iter().map(|v| (v.name.as_str(), v.outputs().map(|(name, _)| name).collect())).collect();
        resolve_reference(reference, &outputs)
    }

    /// Views by the source that feeds them.
    pub fn views_of_source(&self) -> HashMap<usize, Vec<usize>> {
        let mut by_source: HashMap<usize, Vec<usize>> = HashMap::new();
        for (i, view) in self.views.iter().enumerate() {
            if let Some(stream) = &view.stream {
                by_source.entry(stream.source).or_default().push(i);
            }
        }
        by_source
    }
}

/// Resolves a reference against the outputs of views.
pub(super) fn resolve_reference(
    reference: &str,
    views: &[(&str, Vec<&str>)],
) -> Result<Vec<OutputId>, (String, Option<String>)> {
    use crate::problem::nearest;
    let Some((view_name, feature)) = reference.split_once(':') else {
        let near = views.iter().find(|(name, _)| *name == reference).map(|(name, _)| format!("{name}:*"));
        let near = near.or_else(|| {
            let of_view = views.iter().find(|(_, outputs)| outputs.contains(&reference));
            of_view.map(|(name, _)| format!("{name}:{reference}"))
        });
        return Err((format!("`{reference}` is not a reference such as view:feature or view:*"), near));
    };
    let Some(view) = views.iter().position(|(name, _)| *name == view_name) else {
        let near = nearest(view_name, views.iter().map(|(name, _)| *name)).map(|name| format!("{name}:{feature}"));
        return Err((format!("unknown view `{view_name}`"), near));
    };
    let outputs = &views[view].1;
    if feature == "*" {
        return Ok((0..outputs.len()).map(|output| OutputId { view, output }).collect());
    }
    match outputs.iter().position(|name| *name == feature) {
        Some(output) => Ok(vec![OutputId { view, output }]),
        None => {
            // Whoever leaves the window out means one of them.
            let with_window = |name: &&&str| name.strip_prefix(feature).is_some_and(|rest| rest.starts_with('_'));
            let near = outputs.iter().filter(with_window).min_by_key(|name| name.len()).map(|name| name.to_string());
            let near = near.or_else(|| nearest(feature, outputs.iter().copied()));
            let near = near.map(|name| format!("{view_name}:{name}"));
            Err((format!("view `{view_name}` has no feature `{feature}`"), near))
        }
    }
}
