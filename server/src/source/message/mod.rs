//! Messages: the payload of one record of a topic into one row of its source, or into a dead letter with its reason.
//!
//! `MessageReader` is the door. `avro` and `protobuf` walk the bytes by the schema that they were written with; nothing is
//! built in between. The schema comes from a file (`schema_file`) or by the number in the message's header from a registry
//! (`registered`), and then a message may have to wait until its schema is here: nothing is lost when the registry is away.

mod avro;
mod bytes;
mod kind;
mod protobuf;
mod registered;
mod schema_file;
#[cfg(test)]
mod testing;

use std::path::Path;
use std::sync::Arc;

use tidemill_features::definitions::{PayloadFormat, Source};
use tidemill_features::value::Value;

use self::avro::AvroLayout;
use self::protobuf::ProtobufLayout;
pub use self::registered::{NeedsSchema, RegistryAway};
use self::registered::{Registered, header};
pub use self::schema_file::{SchemaProblem, SourceProblem, check_schema_file};
use super::decode::{Bad, Decoder};
use super::json;
use super::registry::SchemaRegistry;
use crate::failure::Failure;
use crate::limits::EVENT_BYTES_MAX;

/// Reads the messages of one source. It can be shared: partitions are read side by side.
pub struct MessageReader {
    source: Arc<Source>,
    given: Vec<usize>,
    encoding: Encoding,
}

enum Encoding {
    Json,
    /// all messages have one schema
    File(Layout),
    /// each message names its schema
    Registered(Registered),
}

/// How messages of one schema become rows.
enum Layout {
    Avro(AvroLayout),
    Protobuf(ProtobufLayout),
    /// none can: the schema is of no use here
    Refused(Bad),
}

/// What is wrong with a value.
#[derive(Debug)]
enum Fault {
    /// the bytes are not of the schema
    Broken(String),
    /// they are, but the column's type is another
    Value(String),
}

impl From<bytes::Broken> for Fault {
    fn from(reason: bytes::Broken) -> Self {
        Fault::Broken(reason)
    }
}

impl MessageReader {
    /// A reader for a source of a project. `registry` is needed where the source has no schema file.
    pub fn open(
        source: Arc<Source>,
        project: &Path,
        registry: Option<SchemaRegistry>,
    ) -> Result<MessageReader, Failure> {
        let given = source.bound_columns();
        let payload = source.payload.clone();
        let format = payload.as_ref().map_or(PayloadFormat::Json, |payload| payload.format);
        let encoding = match (format, payload.as_ref().and_then(|payload| payload.schema_file.as_ref()), registry) {
            (PayloadFormat::Json, ..) => Encoding::Json,
            (_, Some(_), _) => Encoding::File(schema_file::layout(&source, project)?),
            (_, None, Some(registry)) => Encoding::Registered(Registered::new(registry)),
            (_, None, None) => return Err(without_schemas(&source)),
        };
        Ok(MessageReader { source, given, encoding })
    }

    /// Whether the messages of a source cannot be read without a registry.
    pub fn needs_registry(source: &Source) -> bool {
        source.payload.as_ref().is_some_and(|p| p.format != PayloadFormat::Json && p.schema_file.is_none())
    }

    /// Takes in one message, as a row or as a bad event. `given` are values of columns that do not come from the payload. Err: nothing
    /// was taken in; `learn` the schema and read the message again.
    pub fn read(
        &self,
        message: &[u8],
        given: &[(usize, Value<'_>)],
        decoder: &mut Decoder,
    ) -> Result<(), Box<NeedsSchema>> {
        let mut row: Vec<Value<'_>> = self.source.fields.iter().map(|_| Value::Null).collect();
        let known;
        let filled = match &self.encoding {
            _ if message.len() > EVENT_BYTES_MAX => {
                Err(("E1006", format!("the event has {} bytes, more than {EVENT_BYTES_MAX}", message.len())))
            }
            Encoding::Json => json::object(json_text(message), &self.source, &self.given, &mut row),
            Encoding::File(layout) => layout.fill(message, &self.source, &mut row).map_err(|bad| hinted(bad, message)),
            Encoding::Registered(registered) => match header(message, self.format()) {
                Ok(header) => {
                    known = registered.layout(header, decoder.now())?;
                    known.fill(&message[header.len()..], &self.source, &mut row)
                }
                Err(bad) => Err(bad),
            },
        };
        for (at, value) in given {
            row[*at] = value.borrowed();
        }
        decoder.row(filled.map(|()| row.as_slice()), &|| message.to_vec());
        Ok(())
    }

    /// Fetches a schema that `read` asked for; `now` is the clock's time. Err: the registry cannot say now. Then the partition waits
    /// and asks again: its messages may be good.
    pub async fn learn(&self, needed: &NeedsSchema, now: i64) -> Result<(), RegistryAway> {
        match &self.encoding {
            Encoding::Registered(registered) => {
                registered.learn(needed, now, self.format(), &self.source, &self.given).await
            }
            _ => Ok(()),
        }
    }

    fn format(&self) -> PayloadFormat {
        self.source.payload.as_ref().map_or(PayloadFormat::Json, |payload| payload.format)
    }
}

impl Layout {
    fn fill<'m>(&'m self, message: &'m [u8], source: &Source, row: &mut [Value<'m>]) -> Result<(), Bad> {
        match self {
            Layout::Avro(layout) => layout.fill(message, source, row),
            Layout::Protobuf(layout) => layout.fill(message, source, row),
            Layout::Refused(bad) => Err(bad.clone()),
        }
    }
}

/// There is neither a schema file nor a registry.
pub fn without_schemas(source: &Source) -> Failure {
    let message = format!(
        "source `{}`: nothing says what its messages are: name their `schema_file`, or the schema registry as kafka.registry in \
         tidemill.toml",
        source.name
    );
    Failure::invalid("E5070", message)
}

/// JSON behind the header of a registry: no JSON text begins with a zero byte. What the schema says matters to the producer;
/// columns are checked here as they always are.
fn json_text(message: &[u8]) -> &[u8] {
    match message {
        [0, _, _, _, _, text @ ..] => text,
        _ => message,
    }
}

/// Messages of a registry that are read by a file are a usual mistake.
fn hinted((code, reason): Bad, message: &[u8]) -> Bad {
    match message {
        [0, _, _, _, _, ..] if code == "E1001" => {
            let hint = "it begins as messages of a schema registry do: if it is one, leave `schema_file` out";
            (code, format!("{reason}; {hint}"))
        }
        _ => (code, reason),
    }
}
