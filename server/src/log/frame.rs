//! The format of a frame: length, checksum, then one batch of one partition.

use tidemill_features::codec::{Cursor, Damaged, put_bytes, put_optional, put_signed, put_varint};
use tidemill_features::definitions::{FieldType, Source, parse_type};
use tidemill_features::stream::EventBatch;
use tidemill_features::value::Value;

/// Bytes before the payload of a frame: its length, its checksum, and a checksum of these two, so that a flipped length is
/// not taken for a torn end.
pub const HEADER: usize = 12;
/// Version of the format; the first byte of every payload.
const FORMAT: u8 = 1;

/// The columns that a frame's rows have: those that its source had when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSchema {
    /// names and types, in order
    pub fields: Vec<(String, FieldType)>,
    /// the column of event times
    pub event_time: usize,
}

impl SourceSchema {
    /// Of a source as it is declared now.
    pub fn of(source: &Source) -> Self {
        let plain = |(name, field): &(String, FieldType)| {
            let data_type = field.data_type.clone();
            (name.clone(), FieldType { data_type, unit: tidemill_features::definitions::TimeUnit::Text })
        };
        SourceSchema { fields: source.fields.iter().map(plain).collect(), event_time: source.event_time }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.fields.len() as u64);
        for (name, field) in &self.fields {
            put_bytes(out, name.as_bytes());
            put_bytes(out, field.data_type.to_string().as_bytes());
        }
        put_varint(out, self.event_time as u64);
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Damaged> {
        let count = cursor.length()?;
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            let name = text(cursor)?;
            let data_type = parse_type(&text(cursor)?).ok_or(Damaged)?;
            fields.push((name, data_type));
        }
        Ok(SourceSchema { fields, event_time: cursor.varint()? as usize })
    }
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, Damaged> {
    String::from_utf8(cursor.bytes()?.to_vec()).map_err(|_| Damaged)
}

/// A bad event as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadEvent {
    /// in the partition
    pub offset: u64,
    /// such as `E1001`
    pub code: String,
    /// what was wrong
    pub reason: String,
    /// the event as it came
    pub payload: Vec<u8>,
}

/// A frame: the events of one partition from `first_offset` on, over so many offsets as `consumed` says.
#[derive(Debug)]
pub struct Frame {
    /// name of the source
    pub source: String,
    /// partition of the source
    pub partition: u32,
    /// offset of the first event
    pub first_offset: u64,
    /// offsets of good and bad ones, and of what is no event
    pub consumed: u64,
    /// the server's clock when they were taken in
    pub accepted_at: i64,
    /// columns of the rows
    pub schema: SourceSchema,
    /// good events, in order
    pub batches: Vec<EventBatch>,
    /// bad ones, in order
    pub dead: Vec<DeadEvent>,
}

impl Frame {
    /// A frame that spans offsets without an event: its first one, and how many.
    pub fn empty(source: &Source, partition: u32, (first_offset, consumed): (u64, u64), accepted_at: i64) -> Frame {
        let (batches, dead) = (Vec::new(), Vec::new());
        let (source, schema) = (source.name.clone(), SourceSchema::of(source));
        Frame { source, partition, first_offset, consumed, accepted_at, schema, batches, dead }
    }

    /// Events in it, good and bad. Offsets may be more: rows beyond a time fence and gaps of a topic have no events.
    pub fn events(&self) -> u64 {
        self.batches.iter().map(|batch| batch.len() as u64).sum::<u64>() + self.dead.len() as u64
    }

    /// Appends the frame, header and all.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER, 0);
        out.push(FORMAT);
        put_bytes(out, self.source.as_bytes());
        put_varint(out, u64::from(self.partition));
        put_varint(out, self.first_offset);
        put_varint(out, self.consumed);
        put_signed(out, self.accepted_at);
        self.schema.encode(out);
        put_varint(out, self.dead.len() as u64);
        for dead in &self.dead {
            put_varint(out, dead.offset - self.first_offset);
            put_bytes(out, dead.code.as_bytes());
            put_bytes(out, dead.reason.as_bytes());
            put_bytes(out, &dead.payload);
        }
        put_varint(out, self.batches.iter().map(|b| b.len() as u64).sum());
        for batch in &self.batches {
            for row in 0..batch.len() {
                put_varint(out, batch.offsets[row] - self.first_offset);
                put_signed(out, batch.arrivals[row] - self.accepted_at);
                batch.columns.iter().for_each(|column| put_optional(out, &column.value(row)));
            }
        }
        let length = (out.len() - start - HEADER) as u32;
        let checksum = crc32fast::hash(&out[start + HEADER..]);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        let guard = crc32fast::hash(&out[start..start + 8]);
        out[start + 8..start + HEADER].copy_from_slice(&guard.to_le_bytes());
    }

    /// Reads a payload whose checksum was right. Rows come in batches of `batch_rows`.
    pub fn decode(payload: &[u8], batch_rows: usize) -> Result<Frame, Damaged> {
        let (mut frame, mut left, mut cursor) = Frame::decode_front(payload)?;
        while left > 0 {
            let count = left.min(batch_rows);
            frame.batches.push(frame.read_batch(count, &mut cursor)?);
            left -= count;
        }
        Ok(frame)
    }

    /// The same without its rows: how many there are, and where they stand.
    pub(super) fn decode_front(payload: &[u8]) -> Result<(Frame, usize, Cursor<'_>), Damaged> {
        let mut cursor = Cursor::new(payload);
        if cursor.byte()? != FORMAT {
            return Err(Damaged);
        }
        let mut frame = Frame {
            source: text(&mut cursor)?,
            partition: u32::try_from(cursor.varint()?).map_err(|_| Damaged)?,
            first_offset: cursor.varint()?,
            consumed: cursor.varint()?,
            accepted_at: cursor.signed()?,
            schema: SourceSchema::decode(&mut cursor)?,
            batches: Vec::new(),
            dead: Vec::new(),
        };
        for _ in 0..cursor.length()? {
            frame.dead.push(DeadEvent {
                offset: frame.first_offset + cursor.varint()?,
                code: text(&mut cursor)?,
                reason: text(&mut cursor)?,
                payload: cursor.bytes()?.to_vec(),
            });
        }
        let count = cursor.length()?;
        Ok((frame, count, cursor))
    }

    /// The offset and the arrival of the next row; its columns follow.
    pub(super) fn read_place(&self, cursor: &mut Cursor<'_>) -> Result<(u64, i64), Damaged> {
        Ok((self.first_offset + cursor.varint()?, self.accepted_at + cursor.signed()?))
    }

    fn read_batch(&self, count: usize, cursor: &mut Cursor<'_>) -> Result<EventBatch, Damaged> {
        let mut batch = EventBatch { partition: self.partition, ..EventBatch::default() };
        let types = self.schema.fields.iter().map(|(_, field)| &field.data_type);
        let mut columns = crate::columnar::ColumnsBuilder::new(types);
        for _ in 0..count {
            let (offset, arrival) = self.read_place(cursor)?;
            batch.offsets.push(offset);
            batch.arrivals.push(arrival);
            for (i, (_, field)) in self.schema.fields.iter().enumerate() {
                let value = cursor.optional(&field.data_type)?;
                if i == self.schema.event_time {
                    let Value::Timestamp(time) = value else { return Err(Damaged) };
                    batch.times.push(time);
                }
                columns.push(i, &value);
            }
        }
        batch.columns = columns.finish();
        Ok(batch)
    }
}
