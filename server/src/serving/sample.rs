//! A sample of served answers, kept to be recomputed: which keys are in it follows from their hash, so that all reads of a
//! kept key are kept.
//!
//! Files of records with checksums, in a ring of a few segments: what serving said, not what it should have said. Writing
//! never waits: what a slow disk cannot take is left out and counted.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Duration;

use tidemill_features::codec::{Cursor, Damaged, put_bytes, put_optional, put_signed, put_varint};
use tidemill_features::hash::hash_bytes;
use tidemill_features::read::{Answer, Status};
use tidemill_features::service::{EncodedKeys, Keys, ReadPlan};
use tidemill_features::value::{DataType, Value};

use super::get::Answers;
use crate::limits::{SAMPLE_QUEUE, SAMPLE_SEGMENT_BYTES, SAMPLE_SEGMENTS};

/// Bytes of a file that are read to look at its first answer.
const OLDEST_BYTES: usize = 1 << 20;

/// One answer as it was served: for one key, at one T.
#[derive(Debug)]
pub struct Sampled {
    /// of the definitions that it was computed by
    pub definition_hash: u64,
    /// `view:feature` and type, in order
    pub columns: Vec<(String, String)>,
    /// T
    pub time: i64,
    /// source, partition, next offset
    pub positions: Vec<(String, u32, u64)>,
    /// keys and request values, still encoded: their types are the plan's
    row: Vec<u8>,
    /// status and value of each column, still encoded
    values: Vec<u8>,
}

/// Takes answers in.
pub struct Sampler {
    /// keys whose hash is below this are kept
    below: u64,
    queue: Option<SyncSender<Vec<u8>>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Sampler {
    /// Keeps the answers of a share of all keys in a folder.
    pub fn start(folder: &Path, share: f64) -> Sampler {
        let below = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        if below == 0 {
            return Sampler { below, queue: None, writer: None };
        }
        let (queue, answers) = std::sync::mpsc::sync_channel(SAMPLE_QUEUE);
        let folder = folder.to_path_buf();
        let run = move || {
            if let Err(error) = write_all(&folder, &answers) {
                tracing::warn!(%error, "served answers are no longer kept for verification");
            }
        };
        let writer = std::thread::Builder::new().name("sampler".to_string()).spawn(run).ok();
        Sampler { below, queue: Some(queue), writer }
    }

    /// Keeps the rows of an answer whose keys are in the sample.
    pub(super) fn keep(
        &self,
        registry: &tidemill_features::definitions::Registry,
        answers: &Answers,
        keys: &Keys,
        encoded: &EncodedKeys,
    ) {
        let Some(queue) = self.queue.as_ref().filter(|_| !encoded.is_empty()) else { return };
        for row in 0..keys.rows {
            let hash = encoded.iter().fold(0, |hash, view| hash_bytes(&view[row]) ^ u64::rotate_left(hash, 1));
            if hash > self.below {
                continue;
            }
            match queue.try_send(encode(registry, answers, keys, row)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => metrics::counter!("tidemill_samples_left_out_total").increment(1),
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the sampler panicked");
        }
    }
}

fn encode(registry: &tidemill_features::definitions::Registry, answers: &Answers, keys: &Keys, row: usize) -> Vec<u8> {
    let mut out = vec![0; 8];
    out.extend_from_slice(&registry.hash.to_le_bytes());
    put_varint(&mut out, answers.plan.columns.len() as u64);
    for (name, data_type) in &answers.plan.columns {
        put_bytes(&mut out, name.as_bytes());
        put_bytes(&mut out, data_type.to_string().as_bytes());
    }
    put_signed(&mut out, answers.time_of(row));
    let seen =
        || answers.positions.iter().filter(|((source, _), _)| answers.plan.sources.contains(&(*source as usize)));
    put_varint(&mut out, seen().count() as u64);
    for ((source, partition), next) in seen() {
        put_bytes(&mut out, registry.sources[*source as usize].name.as_bytes());
        put_varint(&mut out, u64::from(*partition));
        put_varint(&mut out, *next);
    }
    let (mut given, mut values) = (Vec::new(), Vec::new());
    keys.columns.iter().chain(&keys.request).for_each(|column| put_optional(&mut given, &column.value(row)));
    for column in &answers.columns {
        values.push(column[row].status as u8);
        put_optional(&mut values, &column[row].value);
    }
    put_bytes(&mut out, &given);
    put_bytes(&mut out, &values);
    let length = (out.len() - 8) as u32;
    let checksum = crc32fast::hash(&out[8..]);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..8].copy_from_slice(&checksum.to_le_bytes());
    out
}

fn segments(folder: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".answers")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

/// Writes until the sampler is dropped; each segment is a new file, and the oldest ones go.
fn write_all(folder: &Path, answers: &Receiver<Vec<u8>>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut number = segments(folder)?.last().map_or(0, |(number, _)| number + 1);
    let mut open: Option<(BufWriter<File>, usize)> = None;
    loop {
        let record = match answers.recv_timeout(Duration::from_millis(200)) {
            Ok(record) => record,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                if let Some((file, _)) = &mut open {
                    file.flush()?;
                }
                continue;
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
        };
        if let Some((mut file, _)) = open.take_if(|(_, bytes)| *bytes >= SAMPLE_SEGMENT_BYTES) {
            file.flush()?;
        }
        let (file, bytes) = match &mut open {
            Some(open) => open,
            None => {
                let path = folder.join(format!("{number:08}.answers"));
                number += 1;
                let all = segments(folder)?;
                let gone = (all.len() + 1).saturating_sub(SAMPLE_SEGMENTS);
                all.iter().take(gone).try_for_each(|(_, path)| std::fs::remove_file(path))?;
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                open.insert((BufWriter::new(file), 0))
            }
        };
        file.write_all(&record)?;
        *bytes += record.len();
    }
    open.map_or(Ok(()), |(mut file, _)| file.flush())
}

/// The newest answers that were kept, at most so many, newest first. What is damaged ends its segment.
pub fn newest(folder: &Path, count: usize) -> std::io::Result<Vec<Sampled>> {
    let mut found = Vec::new();
    for (_, path) in segments(folder)?.into_iter().rev() {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        let mut of_segment = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((payload, behind)) = record(rest) {
            rest = behind;
            match decode(payload) {
                Ok(sampled) => of_segment.push(sampled),
                Err(Damaged) => break,
            }
        }
        found.extend(of_segment.into_iter().rev().take(count - found.len()));
        if found.len() == count {
            break;
        }
    }
    Ok(found)
}

/// The time of the oldest answer that is kept.
pub fn oldest(folder: &Path) -> Option<i64> {
    let first = segments(folder).ok()?.into_iter().find_map(|(_, path)| {
        let mut bytes = vec![0; OLDEST_BYTES];
        let read = File::open(path).ok()?.read(&mut bytes).ok()?;
        decode(record(&bytes[..read])?.0).ok()
    });
    first.map(|sampled| sampled.time)
}

/// Where answers were read up to: a segment, and a byte of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// number of the segment
    pub segment: u64,
    /// the first byte that was not read
    pub offset: u64,
}

/// The answers behind a place, oldest first, at most so many, and the place behind them. What is damaged ends its segment; the
/// last one may just not be written as a whole yet.
pub fn next(folder: &Path, from: Place, count: usize) -> std::io::Result<(Vec<Sampled>, Place)> {
    let (mut found, mut place) = (Vec::new(), from);
    for (segment, path) in segments(folder)?.into_iter().filter(|(segment, _)| *segment >= from.segment) {
        let bytes = match std::fs::read(path) {
            // The ring has gone over it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if segment != place.segment {
            place = Place { segment, offset: 0 };
        }
        let mut rest = bytes.get(place.offset as usize..).unwrap_or_default();
        while found.len() < count
            && let Some((payload, behind)) = record(rest)
            && let Ok(sampled) = decode(payload)
        {
            rest = behind;
            place.offset = (bytes.len() - rest.len()) as u64;
            found.push(sampled);
        }
        if found.len() == count {
            break;
        }
    }
    Ok((found, place))
}

/// The next record and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*checksum)).then_some((payload, rest))
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, Damaged> {
    String::from_utf8(cursor.bytes()?.to_vec()).map_err(|_| Damaged)
}

fn decode(payload: &[u8]) -> Result<Sampled, Damaged> {
    let (hash, rest) = payload.split_first_chunk().ok_or(Damaged)?;
    let mut cursor = Cursor::new(rest);
    let cursor = &mut cursor;
    let columns = (0..cursor.length()?).map(|_| Ok((text(cursor)?, text(cursor)?))).collect::<Result<_, _>>()?;
    let time = cursor.signed()?;
    let position = |cursor: &mut Cursor<'_>| {
        let source = text(cursor)?;
        Ok((source, u32::try_from(cursor.varint()?).map_err(|_| Damaged)?, cursor.varint()?))
    };
    let positions = (0..cursor.length()?).map(|_| position(cursor)).collect::<Result<_, _>>()?;
    let (row, values) = (cursor.bytes()?.to_vec(), cursor.bytes()?.to_vec());
    Ok(Sampled { definition_hash: u64::from_le_bytes(*hash), columns, time, positions, row, values })
}

impl Sampled {
    /// The keys and request values, in the types of the plan that is declared now.
    pub fn row(&self, plan: &ReadPlan) -> Result<Vec<Value<'static>>, Damaged> {
        let mut cursor = Cursor::new(&self.row);
        let given = plan.keys.iter().chain(&plan.request);
        given.map(|(_, data_type)| cursor.optional(data_type).map(Value::into_owned)).collect()
    }

    /// What was served, as statuses and values, in the types that the columns have now.
    pub fn values(&self, types: &[&DataType]) -> Result<Vec<(u8, Value<'static>)>, Damaged> {
        let mut cursor = Cursor::new(&self.values);
        types.iter().map(|data_type| Ok((cursor.byte()?, cursor.optional(data_type)?.into_owned()))).collect()
    }
}

/// Whether a recomputed answer is the served one, bit for bit.
pub fn is_same(served: &(u8, Value<'_>), recomputed: &Answer) -> bool {
    let status: Status = recomputed.status;
    served.0 == status as u8 && served.1.same(&recomputed.value)
}
