//! Arrow IPC streams as batches, message by message: rows that a client sends. The bytes are a stranger's: what a message
//! claims is checked before memory is taken for it, and what the reader panics on is an error.
//!
//! Types whose values take no bytes, or share them, are refused where they could make a small stream large in memory: nulls,
//! dictionaries, views and runs within lists. Compressed buffers are refused, too.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::{MessageBuffer, fb_to_schema};
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{Endianness, MessageHeader};
use arrow_schema::{DataType as ArrowType, Schema, SchemaRef};

use crate::limits::{
    ARROW_BODY_BYTES_MAX, ARROW_DICTIONARY_BYTES_MAX, ARROW_HEADER_BYTES_MAX, SPINE_BATCH_BYTES, SPINE_COLUMNS_MAX,
    SPINE_ROWS_MAX,
};

/// A stream in a file, read from front to back.
pub struct ArrowStream {
    input: Messages,
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
    /// of each dictionary
    dictionary_bytes: HashMap<i64, usize>,
    /// what is decoded and not given yet, and how many rows of it are given at once
    pending: Option<(RecordBatch, usize)>,
    /// at its end, or broken
    over: bool,
}

/// The messages of a stream, not yet decoded.
struct Messages {
    input: BufReader<File>,
    /// bytes of the file that are not read yet
    left: u64,
}

/// A message: its header, verified, and its body.
type Message = (MessageBuffer, Buffer);

impl ArrowStream {
    /// Opens a file that holds one stream.
    pub fn open(path: &Path) -> Result<ArrowStream, String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let left = file.metadata().map_err(|e| e.to_string())?.len();
        let mut input = Messages { input: BufReader::new(file), left };
        let schema = guarded(|| read_schema(input.next()?))?;
        let (dictionaries, dictionary_bytes) = (HashMap::new(), HashMap::new());
        Ok(ArrowStream { input, schema: Arc::new(schema), dictionaries, dictionary_bytes, pending: None, over: false })
    }

    /// What its batches look like.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows, of about as many bytes as a spine is read in; None at the end.
    pub fn next_batch(&mut self) -> Option<Result<RecordBatch, String>> {
        if self.pending.is_none() && !self.over {
            match guarded(|| self.decode_next()) {
                Ok(Some(batch)) => self.pending = Some(batch),
                Ok(None) => self.over = true,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
        let (batch, at_once) = self.pending.take()?;
        if batch.num_rows() <= at_once {
            return Some(Ok(batch));
        }
        self.pending = Some((batch.slice(at_once, batch.num_rows() - at_once), at_once));
        Some(Ok(batch.slice(0, at_once)))
    }

    fn decode_next(&mut self) -> Result<Option<(RecordBatch, usize)>, String> {
        while let Some((message, body)) = self.input.next()? {
            let message = message.as_ref();
            match message.header_type() {
                MessageHeader::RecordBatch => {
                    let header = message.header_as_record_batch().ok_or("the stream is damaged: an empty header")?;
                    check_compression(&header)?;
                    let version = message.version();
                    let batch =
                        read_record_batch(&body, header, self.schema.clone(), &self.dictionaries, None, &version);
                    let batch = batch.map_err(damaged)?;
                    let at_once = rows_at_once(&batch, body.len());
                    return Ok(Some((batch, at_once)));
                }
                MessageHeader::DictionaryBatch => {
                    let header =
                        message.header_as_dictionary_batch().ok_or("the stream is damaged: an empty header")?;
                    if header.isDelta() {
                        return Err("it extends a dictionary; send each dictionary whole".to_string());
                    }
                    check_compression(&header.data().ok_or("the stream is damaged: a dictionary without values")?)?;
                    self.dictionary_bytes.insert(header.id(), body.len());
                    if self.dictionary_bytes.values().sum::<usize>() > ARROW_DICTIONARY_BYTES_MAX {
                        return Err(format!(
                            "its dictionaries are larger than {} MB",
                            ARROW_DICTIONARY_BYTES_MAX >> 20
                        ));
                    }
                    let version = message.version();
                    read_dictionary(&body, header, &self.schema, &mut self.dictionaries, &version).map_err(damaged)?;
                }
                MessageHeader::Schema => return Err("the stream is damaged: a second schema".to_string()),
                other => return Err(format!("the stream is damaged: a message of the kind {other:?}")),
            }
        }
        Ok(None)
    }
}

impl Messages {
    /// The next message; None at the end mark, which must be there: without it the stream may have been cut.
    fn next(&mut self) -> Result<Option<Message>, String> {
        let mut word = self.word()?;
        if word == *b"ARRO" {
            return Err("it is an Arrow file (Feather); send the stream format".to_string());
        }
        if word == [0xff; 4] {
            word = self.word()?;
        }
        let length = u32::from_le_bytes(word) as usize;
        if length == 0 {
            return match self.left {
                0 => Ok(None),
                left => Err(format!("the stream is damaged: {left} bytes behind its end mark")),
            };
        }
        if length > ARROW_HEADER_BYTES_MAX {
            return Err(format!("the stream is damaged: a message with a header of {length} bytes"));
        }
        let header = MessageBuffer::try_new(self.bytes(length)?).map_err(damaged)?;
        let claimed = header.as_ref().bodyLength();
        let length = usize::try_from(claimed).map_err(|_| "the stream is damaged: a body of negative length")?;
        if length > ARROW_BODY_BYTES_MAX {
            let most = ARROW_BODY_BYTES_MAX >> 20;
            return Err(format!(
                "a message of {length} bytes is more than {most} MB; send record batches of fewer rows"
            ));
        }
        let body = self.bytes(length)?;
        Ok(Some((header, body)))
    }

    fn word(&mut self) -> Result<[u8; 4], String> {
        let mut word = [0; 4];
        self.left = self.left.checked_sub(4).ok_or("the stream has no end mark: it may have been cut")?;
        self.input.read_exact(&mut word).map_err(|e| e.to_string())?;
        Ok(word)
    }

    fn bytes(&mut self, count: usize) -> Result<Buffer, String> {
        // No memory for what the file cannot hold.
        self.left = self.left.checked_sub(count as u64).ok_or("the stream is cut within a message")?;
        let mut bytes = MutableBuffer::from_len_zeroed(count);
        self.input.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes.into())
    }
}

fn read_schema(first: Option<Message>) -> Result<Schema, String> {
    let (message, _) = first.ok_or("the stream is damaged: it ends before its schema")?;
    let schema =
        message.as_ref().header_as_schema().ok_or("the stream is damaged: it does not begin with its schema")?;
    if schema.endianness() != Endianness::Little {
        return Err("it is big-endian; send a little-endian stream".to_string());
    }
    let columns = schema.fields().map_or(0, |fields| fields.len());
    if columns > SPINE_COLUMNS_MAX {
        return Err(format!("{columns} columns are more than {SPINE_COLUMNS_MAX}"));
    }
    let schema = fb_to_schema(schema);
    for field in schema.fields() {
        let refused = match field.data_type() {
            ArrowType::Null | ArrowType::Utf8View | ArrowType::BinaryView => None,
            ArrowType::Dictionary(_, values) if values.is_nested() => Some(field.data_type()),
            ArrowType::Dictionary(_, values) if matches!(**values, ArrowType::Utf8View | ArrowType::BinaryView) => None,
            ArrowType::Dictionary(_, values) => refused_type(values),
            other => refused_type(other),
        };
        if let Some(refused) = refused {
            return Err(format!("column `{}` has values of the type {refused}, which is not taken", field.name()));
        }
    }
    Ok(schema)
}

/// The part of a type whose values can be many without having bytes of their own.
fn refused_type(data_type: &ArrowType) -> Option<&ArrowType> {
    match data_type {
        ArrowType::Null
        | ArrowType::Utf8View
        | ArrowType::BinaryView
        | ArrowType::Dictionary(..)
        | ArrowType::RunEndEncoded(..)
        | ArrowType::Union(..)
        | ArrowType::ListView(_)
        | ArrowType::LargeListView(_) => Some(data_type),
        ArrowType::FixedSizeList(_, size) | ArrowType::FixedSizeBinary(size) if *size < 1 => Some(data_type),
        ArrowType::Struct(fields) if fields.is_empty() => Some(data_type),
        ArrowType::Struct(fields) => fields.iter().find_map(|field| refused_type(field.data_type())),
        ArrowType::List(of) | ArrowType::LargeList(of) | ArrowType::FixedSizeList(of, _) | ArrowType::Map(of, _) => {
            refused_type(of.data_type())
        }
        _ => None,
    }
}

fn check_compression(batch: &arrow_ipc::RecordBatch<'_>) -> Result<(), String> {
    match batch.compression() {
        Some(_) => Err("its buffers are compressed; send them as they are".to_string()),
        None => Ok(()),
    }
}

/// How many rows of a batch are given at once: values that share their bytes may be unpacked.
fn rows_at_once(batch: &RecordBatch, body_bytes: usize) -> usize {
    let unpacked = |array: &ArrayRef| match array.data_type() {
        ArrowType::Dictionary(..) => array.as_any_dictionary_opt().map_or(0, |of| widest(of.values())),
        ArrowType::Utf8View | ArrowType::BinaryView => widest(array),
        _ => 0,
    };
    let of_row = body_bytes / batch.num_rows().max(1) + batch.columns().iter().map(unpacked).sum::<usize>();
    (SPINE_BATCH_BYTES / of_row.max(1)).clamp(1, SPINE_ROWS_MAX)
}

/// Bytes of the longest value.
fn widest(values: &ArrayRef) -> usize {
    macro_rules! longest {
        ($values:expr) => {
            $values.iter().flatten().map(|value| value.len()).max()
        };
    }
    let longest = match values.data_type() {
        ArrowType::Utf8 => longest!(values.as_string::<i32>()),
        ArrowType::LargeUtf8 => longest!(values.as_string::<i64>()),
        ArrowType::Utf8View => longest!(values.as_string_view()),
        ArrowType::Binary => longest!(values.as_binary::<i32>()),
        ArrowType::LargeBinary => longest!(values.as_binary::<i64>()),
        ArrowType::BinaryView => longest!(values.as_binary_view()),
        _ => None,
    };
    longest.unwrap_or(32)
}

fn damaged(error: arrow_schema::ArrowError) -> String {
    format!("the stream is damaged: {error}")
}

/// The reader takes some damaged messages at their word and panics: for us that is an error like any other.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let read = catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err("the stream is damaged: the Arrow reader gave up on it".to_string()))
}
