//! Definitions: what users declare in TOML, checked as a whole graph.
//!
//! `check` turns files into a `Registry` or into all problems at once, each with its place. In reading order: `model` (what
//! comes out), `document` and `grammar` (what goes in), `check` (the steps), then one file for each kind of definition; of a
//! view `columns` are what its expressions see, `vocabulary` and `arguments` its aggregates, `builder` makes its plan. `sinks`
//! publish what the others declare.

mod arguments;
mod builder;
mod check;
mod columns;
mod derived;
mod document;
mod embeddings;
mod features;
mod format;
mod grammar;
mod joins;
mod kafka;
mod model;
mod payloads;
mod schema;
mod sinks;
mod sources;
mod types;
mod vectors;
mod vocabulary;
mod windows;

pub use self::check::check;
pub use self::columns::condition;
pub use self::document::DefinitionFile;
pub use self::format::format_text;
pub use self::model::{
    Connector, Derived, Entity, HISTORY_PARTITIONS, HistoryFiles, Input, KafkaTopics, Metadata, OutputId, Payload,
    PayloadFormat, Registry, Service, Source, Stream, View,
};
pub use self::payloads::problem_of_source;
pub use self::schema::json_schema;
pub use self::sinks::{Published, Sink};
pub use self::types::{FieldType, TimeUnit, parse_type};
pub use self::vectors::{Embedding, GraphShape, Metric, RowsIn, VectorColumn, VectorRule, VectorsFrom};
pub use self::vocabulary::{AGGREGATES, AggregateName};

#[cfg(test)]
mod meanings;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod tests;
