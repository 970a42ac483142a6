//! Definitions: what users declare in TOML, checked as a whole graph.
//!
//! `check` turns files into a `Registry` or into all problems at once, each with its place. In reading order: `model` (what
//! comes out), `document` and `grammar` (what goes in), `check` (the steps), then one file for each kind of definition.

mod check;
mod derived;
mod document;
mod features;
mod format;
mod grammar;
mod model;
mod schema;
mod sources;
mod types;
mod vocabulary;
mod windows;

pub use self::check::check;
pub use self::document::DefinitionFile;
pub use self::format::format_text;
pub use self::model::{Connector, Derived, Entity, Input, OutputId, Registry, Service, Source, Stream, View};
pub use self::schema::json_schema;
pub use self::types::{FieldType, TimeUnit, parse_type};
pub use self::vocabulary::AGGREGATES;

#[cfg(test)]
mod tests;
