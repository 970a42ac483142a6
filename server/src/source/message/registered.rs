//! Messages that name their schema: a zero byte, then four bytes with the schema's number in a registry (and for Protobuf the
//! place of the message in its file), then the payload.
//!
//! A schema never changes, so what was learned once stays, also while the registry is away. That a registry does not know a
//! number is remembered only for a while: it may be a little behind.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use tidemill_features::definitions::{PayloadFormat, Source};

use super::avro::AvroLayout;
use super::bytes::Bytes;
use super::protobuf::{Descriptors, ProtobufLayout};
use super::{Layout, SchemaProblem};
use crate::limits::{LAYOUTS_MAX, MESSAGE_DEPTH_MAX, SCHEMAS_KEPT, UNKNOWN_SCHEMA_MICROS, UNKNOWN_SCHEMAS_PATIENCE};
use crate::source::decode::Bad;
use crate::source::registry::{RegisteredSchema, RegistryError, SchemaRegistry};

/// A schema that must be fetched before a message can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsSchema {
    /// its number in the registry
    pub id: u32,
    header: Box<[u8]>,
}

/// The registry cannot say now; try again later.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct RegistryAway(pub String);

/// What is known of the schemas of one source, by the header of their messages.
pub(super) struct Registered {
    registry: SchemaRegistry,
    known: RwLock<Known>,
    /// of several partitions that miss a schema one asks for it
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    layouts: HashMap<Box<[u8]>, Arc<Layout>>,
    /// their headers, the oldest first
    order: VecDeque<Box<[u8]>>,
    /// headers whose messages cannot be read: until when that counts, and why
    unknown: HashMap<Box<[u8]>, (i64, Arc<Layout>)>,
    /// as they were registered, the newest last
    schemas: VecDeque<(u32, Arc<RegisteredSchema>)>,
}

impl Registered {
    pub(super) fn new(registry: SchemaRegistry) -> Self {
        Registered { registry, known: RwLock::default(), asking: tokio::sync::Mutex::new(()) }
    }

    /// The layout of messages with a header.
    pub(super) fn layout(&self, header: &[u8], now: i64) -> Result<Arc<Layout>, Box<NeedsSchema>> {
        let known = self.known.read();
        if let Some(layout) = known.layouts.get(header) {
            return Ok(layout.clone());
        }
        match known.unknown.get(header) {
            Some((until, layout)) if now < *until => Ok(layout.clone()),
            _ => {
                let id = header.get(1..5).and_then(|id| id.try_into().ok()).map_or(0, u32::from_be_bytes);
                Err(Box::new(NeedsSchema { id, header: header.into() }))
            }
        }
    }

    pub(super) async fn learn(
        &self,
        needed: &NeedsSchema,
        now: i64,
        format: PayloadFormat,
        source: &Source,
        given: &[usize],
    ) -> Result<(), RegistryAway> {
        let _asking = self.asking.lock().await;
        if self.layout(&needed.header, now).is_ok() {
            return Ok(());
        }
        let layout = match self.schema(needed.id, now).await {
            Ok(schema) => layout(&schema, needed, format, source, given),
            Err(RegistryError::Unusable(reason)) => refused(needed.id, &reason),
            Err(RegistryError::Unknown(reason)) => Layout::Refused(("E1070", reason)),
            Err(RegistryError::Away(reason)) => return Err(RegistryAway(reason)),
        };
        let mut known = self.known.write();
        // Junk has a new header each time, and must not drive out what is good.
        if let Layout::Refused((code, _)) = &layout {
            if known.unknown.len() >= LAYOUTS_MAX {
                known.unknown.clear();
            }
            let until = if *code == "E1070" { now.saturating_add(UNKNOWN_SCHEMA_MICROS) } else { i64::MAX };
            known.unknown.insert(needed.header.clone(), (until, Arc::new(layout)));
            return Ok(());
        }
        while known.order.len() >= LAYOUTS_MAX {
            let oldest = known.order.pop_front().unwrap_or_default();
            known.layouts.remove(&oldest);
        }
        known.order.push_back(needed.header.clone());
        known.unknown.remove(&needed.header);
        known.layouts.insert(needed.header.clone(), Arc::new(layout));
        Ok(())
    }

    async fn schema(&self, id: u32, now: i64) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let unknown = {
            let known = self.known.read();
            if let Some((_, schema)) = known.schemas.iter().find(|(known, _)| *known == id) {
                return Ok(schema.clone());
            }
            known.unknown.values().filter(|(until, _)| *until != i64::MAX && now < *until).count()
        };
        let schema = Arc::new(self.registry.schema(id, unknown < UNKNOWN_SCHEMAS_PATIENCE).await?);
        let mut known = self.known.write();
        known.schemas.push_back((id, schema.clone()));
        if known.schemas.len() > SCHEMAS_KEPT {
            known.schemas.pop_front();
        }
        Ok(schema)
    }
}

fn refused(id: u32, reason: &str) -> Layout {
    Layout::Refused(("E1071", format!("schema {id} of the registry cannot be used: {reason}")))
}

/// How messages of a schema are read.
fn layout(
    schema: &RegisteredSchema,
    needed: &NeedsSchema,
    format: PayloadFormat,
    source: &Source,
    given: &[usize],
) -> Layout {
    let expected = if format == PayloadFormat::Avro { "AVRO" } else { "PROTOBUF" };
    if schema.kind != expected {
        return refused(needed.id, &format!("it is of type {}, and the source is {expected}", schema.kind));
    }
    let made = match format {
        PayloadFormat::Avro => {
            let others = schema.references.iter().map(|(_, text)| text.as_str());
            AvroLayout::new(&schema.text, others, source, given).map(Layout::Avro)
        }
        _ => protobuf_layout(schema, needed, source, given).map(Layout::Protobuf),
    };
    made.unwrap_or_else(|problem| {
        let place = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        refused(needed.id, &format!("{place}{}", problem.message))
    })
}

fn protobuf_layout(
    schema: &RegisteredSchema,
    needed: &NeedsSchema,
    source: &Source,
    given: &[usize],
) -> Result<ProtobufLayout, SchemaProblem> {
    let problem = |message: String| SchemaProblem { line: None, message };
    let descriptors = Descriptors::of_text(&schema.text, schema.references.iter().cloned().collect())?;
    let indexes = message_indexes(&mut Bytes::new(&needed.header[5..])).map_err(problem)?;
    let message = descriptors.at(&indexes);
    let message = message.ok_or_else(|| problem(format!("it has no message at the place {indexes:?}")))?;
    match source.payload.as_ref().and_then(|payload| payload.message.as_deref()) {
        Some(name) if name != message.full_name() => {
            Err(problem(format!("the message is a {}, and the source takes {name}", message.full_name())))
        }
        _ => Ok(ProtobufLayout::new(&message, source, given)),
    }
}

/// The header of a message.
pub(super) fn header(message: &[u8], format: PayloadFormat) -> Result<&[u8], Bad> {
    let bad = |reason: String| ("E1001", format!("not a message of a schema registry: {reason}"));
    match message {
        [0, _, _, _, _, ..] => {}
        [0, ..] => return Err(bad(format!("it ends inside its header, after {} bytes", message.len()))),
        [first, ..] => return Err(bad(format!("it begins with the byte {first:#04x} and not with 0x00"))),
        [] => return Err(bad("it is empty".to_string())),
    }
    let mut rest = Bytes::new(&message[5..]);
    if format == PayloadFormat::Protobuf {
        message_indexes(&mut rest).map_err(bad)?;
    }
    Ok(&message[..5 + rest.position()])
}

/// The place of a message in its file: how many indexes, then each; none stands for the first message.
fn message_indexes(bytes: &mut Bytes<'_>) -> Result<Vec<usize>, String> {
    let count = bytes.zigzag()?;
    if count == 0 {
        return Ok(vec![0]);
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= MESSAGE_DEPTH_MAX);
    let count = count.ok_or("a message inside too many others")?;
    let index = |bytes: &mut Bytes<'_>| {
        let index = bytes.zigzag()?;
        usize::try_from(index).map_err(|_| format!("a message of the number {index}"))
    };
    (0..count).map(|_| index(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_where_the_payload_begins() {
        let header_of = |message: &[u8], format| header(message, format).map(<[u8]>::len).map_err(|(_, reason)| reason);
        assert_eq!(header_of(&[0, 0, 0, 0, 7, 9, 9], PayloadFormat::Avro), Ok(5));
        assert_eq!(header_of(&[0, 0, 0, 0, 7, 0, 9], PayloadFormat::Protobuf), Ok(6));
        assert_eq!(header_of(&[0, 0, 0, 0, 7, 4, 2, 0, 9], PayloadFormat::Protobuf), Ok(8));
        for (message, reason) in [
            (&b""[..], "it is empty"),
            (b"{}", "begins with the byte 0x7b"),
            (&[0, 1, 2], "ends inside its header, after 3 bytes"),
            (&[0, 0, 0, 0, 7], "the bytes end inside a number"),
            (&[0, 0, 0, 0, 7, 1], "too many others"),
            (&[0, 0, 0, 0, 7, 2, 1], "a message of the number -1"),
            (&[0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0x7f], "too many others"),
        ] {
            let told = header_of(message, PayloadFormat::Protobuf).unwrap_err();
            assert!(told.contains(reason), "{message:?}: {told}");
        }
        assert_eq!(message_indexes(&mut Bytes::new(&[0])), Ok(vec![0]));
        assert_eq!(message_indexes(&mut Bytes::new(&[4, 2, 6])), Ok(vec![1, 3]));
    }
}
