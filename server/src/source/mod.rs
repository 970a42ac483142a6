//! Sources: bytes in, typed rows out.
//!
//! `decode` holds what all formats share (columns, dead letters, the rules that every event passes); `json`, `csv`
//! and `columns` (which Parquet files give too) read one format each; `files` walks over the files of a file source, `kafka`
//! reads topics. `message` reads the payloads of topics one by one, Avro and Protobuf too, with schemas from files or from the
//! `registry`. What becomes of the rows is not decided here.

pub mod columns;
pub mod csv;
pub mod decode;
pub mod files;
pub mod json;
pub mod kafka;
pub mod message;
pub mod registry;

pub use self::decode::{BadEvent, Decoded, Decoder};
pub use self::message::{MessageReader, NeedsSchema, RegistryAway};
pub use self::registry::SchemaRegistry;
pub use crate::columnar::scalar::{fit, read_cell};
