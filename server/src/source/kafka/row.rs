//! From a record to a row of its source: the columns that the record says of itself, and those of its value.

use tidemill_features::definitions::{KafkaTopics, Metadata, Source};
use tidemill_features::time::MAX_TIME;
use tidemill_features::value::{DataType, Value};

use super::record::Record;
use crate::columnar::scalar;
use crate::source::decode::{Bad, Decoder, wrong_value};
use crate::source::message::{MessageReader, NeedsSchema};

/// Decodes a record. It arrived at its own time: that is what serving knew then, and what a replay sees again. Err: nothing was
/// taken in, since its schema has to be fetched first.
pub fn take(
    record: &Record<'_>,
    (source, kafka): (&Source, &KafkaTopics),
    reader: &MessageReader,
    decoder: &mut Decoder,
) -> Result<(), Box<NeedsSchema>> {
    let arrival = record.timestamp().unwrap_or(decoder.now());
    decoder.set_arrival(arrival);
    let payload = record.payload();
    let whole = || payload.or(record.key()).unwrap_or_default().to_vec();
    // A producer that counts in microseconds or nanoseconds: brokers before Kafka 4 let any number in.
    if arrival > MAX_TIME {
        let message = format!(
            "the record's own time, {} milliseconds since 1970, lies beyond the year 9999: is it in another unit?",
            arrival / 1_000
        );
        decoder.row(Err(("E1029", message)), &whole);
        return Ok(());
    }
    let bound = match bound_values(record, source, kafka) {
        Ok(bound) => bound,
        Err(bad) => {
            decoder.row(Err(bad), &whole);
            return Ok(());
        }
    };
    match payload {
        Some(payload) => reader.read(payload, &bound, decoder)?,
        None if kafka.takes_tombstones() => {
            let mut values = vec![Value::Null; source.fields.len()];
            // It has nothing but what the record says: it happened, and was known, when the record was made.
            for at in [Some(source.event_time), source.arrival_time].into_iter().flatten() {
                values[at] = Value::Timestamp(arrival);
            }
            for (at, value) in bound {
                values[at] = value;
            }
            decoder.tombstone(&values, &whole);
        }
        None => {
            let message = "the record has no value, which deletes in a table only: bind a column to `tombstone` under \
                           `metadata` if this stream has such events";
            decoder.row(Err(("E1050", message.to_string())), &whole);
        }
    }
    Ok(())
}

/// Values of the columns that are bound to what a record says of itself.
fn bound_values<'r>(
    record: &'r Record<'_>,
    source: &Source,
    kafka: &KafkaTopics,
) -> Result<Vec<(usize, Value<'r>)>, Bad> {
    let mut values = Vec::with_capacity(kafka.metadata.len());
    for (at, metadata) in &kafka.metadata {
        let text = |bytes: Option<&'r [u8]>| text_value(bytes, source, *at);
        let value = match metadata {
            Metadata::Key => text(record.key())?,
            Metadata::Header(name) => text(record.header(name))?,
            Metadata::Topic => Value::text(record.topic()),
            Metadata::Partition => Value::Int64(i64::from(record.partition())),
            Metadata::Offset => Value::Int64(record.offset() as i64),
            Metadata::Timestamp => record.timestamp().map_or(Value::Null, Value::Timestamp),
            Metadata::Tombstone => Value::Bool(record.payload().is_none()),
        };
        values.push((*at, value));
    }
    Ok(values)
}

/// A key or header as a value of its column.
fn text_value<'r>(bytes: Option<&'r [u8]>, source: &Source, at: usize) -> Result<Value<'r>, Bad> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    let (name, field) = &source.fields[at];
    if field.data_type == DataType::Bytes {
        return Ok(Value::Bytes(bytes.into()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong_value(name, "not UTF-8"))?;
    match field.data_type {
        // The empty string is a key.
        DataType::Text => Ok(Value::text(text)),
        _ => scalar::from_cell(text, field).map_err(|reason| wrong_value(name, &reason)),
    }
}
