//! Piles: the events of many keys of one view, cut into the buckets of their keys. In memory up to a limit, then in temporary
//! files, so that only some buckets at a time have to fit.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use tidemill_features::aggregates::EventOrder;
use tidemill_features::codec::{Cursor, Damaged, put_bytes, put_optional, put_signed, put_varint};
use tidemill_features::plan::Plan;
use tidemill_features::record::Incoming;

use crate::failure::Failure;
use crate::limits::{PILE_BYTES, SHARDS};
use crate::place::LogPlace;

/// An event as a pile keeps it.
pub(super) struct Piled<'p> {
    /// the number of its key
    pub key: u32,
    pub event: Incoming<'p>,
    pub visible_from: i64,
    /// of its frame
    pub place: LogPlace,
}

/// Events by bucket.
pub(super) struct Pile<'f> {
    folder: &'f Path,
    buckets: Vec<Bucket>,
    in_memory: usize,
    /// how many there are
    pub events: u64,
}

#[derive(Default)]
struct Bucket {
    bytes: Vec<u8>,
    spilled: Option<File>,
}

/// Appends an event.
pub(super) fn put_event(out: &mut Vec<u8>, piled: &Piled<'_>) {
    let Piled { key, event, visible_from, place } = piled;
    put_varint(out, u64::from(*key));
    put_signed(out, event.order.time);
    put_signed(out, event.arrival);
    put_signed(out, *visible_from);
    put_varint(out, place.segment);
    put_varint(out, place.offset);
    put_varint(out, u64::from(event.order.partition));
    put_varint(out, event.order.offset);
    out.push(u8::from(event.passes));
    put_optional(out, &event.order.id);
    put_bytes(out, event.body);
}

/// Reads it again.
pub(super) fn read_event<'p>(plan: &Plan, cursor: &mut Cursor<'p>) -> Result<Piled<'p>, Damaged> {
    let key = u32::try_from(cursor.varint()?).map_err(|_| Damaged)?;
    let (time, arrival, visible_from) = (cursor.signed()?, cursor.signed()?, cursor.signed()?);
    let place = LogPlace { segment: cursor.varint()?, offset: cursor.varint()? };
    let partition = u32::try_from(cursor.varint()?).map_err(|_| Damaged)?;
    let offset = cursor.varint()?;
    let passes = cursor.byte()? != 0;
    let id_type = plan.dedup.as_ref().map(|dedup| &dedup.id_type);
    let id = cursor.optional(id_type.unwrap_or(&tidemill_features::value::DataType::Bool))?;
    let order = EventOrder { time, id, partition, offset };
    Ok(Piled { key, event: Incoming { order, arrival, passes, body: cursor.bytes()? }, visible_from, place })
}

impl<'f> Pile<'f> {
    /// No events yet; temporary files go into the folder.
    pub(super) fn new(folder: &'f Path) -> Self {
        Pile { folder, buckets: (0..SHARDS).map(|_| Bucket::default()).collect(), in_memory: 0, events: 0 }
    }

    /// Takes an event of a bucket in.
    pub(super) fn push(&mut self, bucket: usize, piled: &Piled<'_>) -> Result<(), Failure> {
        let bucket = &mut self.buckets[bucket];
        self.events += 1;
        let before = bucket.bytes.len();
        put_event(&mut bucket.bytes, piled);
        self.in_memory += bucket.bytes.len() - before;
        if self.in_memory > PILE_BYTES { self.spill().map_err(|e| self.failed(&e)) } else { Ok(()) }
    }

    fn spill(&mut self) -> std::io::Result<()> {
        for bucket in &mut self.buckets {
            let file = match &mut bucket.spilled {
                Some(file) => file,
                None => bucket.spilled.insert(tempfile::tempfile_in(self.folder)?),
            };
            file.write_all(&bucket.bytes)?;
            bucket.bytes.clear();
        }
        self.in_memory = 0;
        Ok(())
    }

    /// The bytes of a bucket.
    pub(super) fn load(&self, bucket: usize) -> Result<Vec<u8>, Failure> {
        let Bucket { bytes, spilled } = &self.buckets[bucket];
        let Some(mut file) = spilled.as_ref() else { return Ok(bytes.clone()) };
        let mut all = Vec::new();
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut all));
        read.map_err(|e| self.failed(&e))?;
        all.extend_from_slice(bytes);
        Ok(all)
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::internal("E3020", format!("temporary files in {}: {error}", self.folder.display()))
    }
}
