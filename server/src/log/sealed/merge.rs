//! Sorted files of events made one, in one pass and little memory: a few thousand rows of each input, and the row group that is
//! being put together.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use tidemill_features::stream::encode_key;

use super::disk::{NewFile, damaged, io_error, open_checked};
use super::group::{file_fields, group_length};
use super::manifest::{EventsFile, SealedFile};
use super::{BUCKET, OFFSET, POSITION, SEGMENT};
use crate::columnar::{ParquetTable, TableRequest, TableWriter, column, interleaved};
use crate::limits::{MERGE_ROWS, SEALED_GROUP_ROWS};
use crate::log::{LogError, LogPlace, SourceSchema};

/// Where a row stands in a file: bucket, encoded key, event time, then the order of the log.
type Rank = (u8, Vec<u8>, i64, LogPlace, u64);

/// Rows of one input.
struct Batch {
    columns: Vec<ArrayRef>,
    ranks: Vec<Rank>,
}

/// A file that is being merged.
struct Input {
    path: PathBuf,
    table: ParquetTable,
    names: Vec<String>,
    batch: Arc<Batch>,
    row: usize,
}

/// The next row of an input; ordered by rank.
#[derive(PartialEq, Eq)]
struct Head {
    rank: Rank,
    input: usize,
}

/// Rows that are not written yet.
#[derive(Default)]
struct Pending {
    batches: Vec<Arc<Batch>>,
    /// batch and row
    rows: Vec<(usize, usize)>,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then(self.input.cmp(&other.input))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Merges files that have the same columns and are sorted by the same key. None: it was to stop.
pub(super) fn merge(
    folder: &Path,
    name: String,
    schema: &SourceSchema,
    files: &[EventsFile],
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<SealedFile>, LogError> {
    let path = folder.join(&name);
    let failed = |what: String| io_error(&path)(std::io::Error::other(what));
    let mut inputs = Vec::with_capacity(files.len());
    let mut heap = BinaryHeap::new();
    for file in files {
        let opened = open_checked(folder, &file.file)?;
        let opened = opened.ok_or_else(|| damaged(&folder.join(&file.file.path), "it is missing"))?;
        let mut input = Input::open(folder.join(&file.file.path), opened)?;
        if input.read(schema, &file.key)? {
            heap.push(Reverse(Head { rank: input.batch.ranks[0].clone(), input: inputs.len() }));
        }
        inputs.push(input);
    }
    let sorted_by = schema.fields.len();
    let mut writer = TableWriter::new(NewFile::create(folder, name.clone())?, file_fields(schema), Some(sorted_by))
        .map_err(failed)?;
    let (mut pending, mut rows) = (Pending::default(), 0);
    while let Some(Reverse(Head { input: at, .. })) = heap.pop() {
        let input = &mut inputs[at];
        pending.push(&input.batch, input.row);
        rows += 1;
        input.row += 1;
        if input.row < input.batch.ranks.len() || input.read(schema, &files[at].key)? {
            heap.push(Reverse(Head { rank: input.batch.ranks[input.row].clone(), input: at }));
        }
        if pending.rows.len() > SEALED_GROUP_ROWS {
            if !go_on() {
                return Ok(None);
            }
            writer.write_group(pending.next_group().map_err(failed)?).map_err(failed)?;
        }
    }
    while !pending.rows.is_empty() {
        writer.write_group(pending.next_group().map_err(failed)?).map_err(failed)?;
    }
    writer.finish().map_err(failed)?.finish(rows).map(Some)
}

impl Input {
    fn open(path: PathBuf, file: std::fs::File) -> Result<Input, LogError> {
        let request = TableRequest { columns: None, within: None, batch_rows: MERGE_ROWS };
        let table = ParquetTable::open(file, &request).map_err(|what| damaged(&path, what))?;
        let (names, batch) = (table.names(), Arc::new(Batch { columns: Vec::new(), ranks: Vec::new() }));
        Ok(Input { path, table, names, batch, row: 0 })
    }

    /// Reads the next rows. False: there are none.
    fn read(&mut self, schema: &SourceSchema, key: &[String]) -> Result<bool, LogError> {
        loop {
            let Some(rows) = self.table.next_batch().map_err(|what| damaged(&self.path, what))? else {
                return Ok(false);
            };
            if rows.num_rows() > 0 {
                let columns = rows.columns().to_vec();
                let ranks = self.ranks(&columns, schema, key).map_err(|what| damaged(&self.path, what))?;
                (self.batch, self.row) = (Arc::new(Batch { columns, ranks }), 0);
                return Ok(true);
            }
        }
    }

    fn ranks(&self, columns: &[ArrayRef], schema: &SourceSchema, key: &[String]) -> Result<Vec<Rank>, String> {
        let array = |name: &str| {
            let at = self.names.iter().position(|own| own == name).ok_or(format!("it has no `{name}`"))?;
            columns.get(at).ok_or(format!("it has no `{name}`"))
        };
        let integers = |name: &str| {
            let array = array(name)?.as_primitive_opt::<Int64Type>().ok_or(format!("`{name}` is no number"))?;
            Ok::<_, String>(array.values().clone())
        };
        let (buckets, offsets) = (integers(BUCKET)?, integers(OFFSET)?);
        let (segments, positions) = (integers(SEGMENT)?, integers(POSITION)?);
        let time = &schema.fields.get(schema.event_time).ok_or("it has no event time")?.0;
        let times =
            array(time)?.as_primitive_opt::<TimestampMicrosecondType>().ok_or("its event times are no times")?;
        let mut of_key = Vec::with_capacity(key.len());
        for name in key {
            of_key.push(column(array(name)?).ok_or("a key has a type that there is not")?);
        }
        let encoded = |row: usize| match of_key.is_empty() {
            true => Vec::new(),
            false => encode_key(of_key.iter().map(|column| column.value(row))).unwrap_or_default(),
        };
        let rank = |row: usize| {
            let place = LogPlace { segment: segments[row] as u64, offset: positions[row] as u64 };
            (buckets[row] as u8, encoded(row), times.value(row), place, offsets[row] as u64)
        };
        Ok((0..buckets.len()).map(rank).collect())
    }
}

impl Pending {
    fn push(&mut self, batch: &Arc<Batch>, row: usize) {
        // Inputs take turns, so a batch may be any of the last few.
        let known = self.batches.iter().rposition(|known| Arc::ptr_eq(known, batch));
        let at = known.unwrap_or_else(|| {
            self.batches.push(batch.clone());
            self.batches.len() - 1
        });
        self.rows.push((at, row));
    }

    /// The columns of the next row group.
    fn next_group(&mut self) -> Result<Vec<ArrayRef>, String> {
        let length = group_length(&self.rows, |(batch, row)| self.batches[*batch].ranks[*row].0);
        let rest = self.rows.split_off(length);
        let rows = std::mem::replace(&mut self.rows, rest);
        let width = self.batches.first().map_or(0, |batch| batch.columns.len());
        let mut group = Vec::with_capacity(width);
        for column in 0..width {
            let arrays: Vec<ArrayRef> = self.batches.iter().map(|batch| batch.columns[column].clone()).collect();
            group.push(interleaved(&arrays, &rows)?);
        }
        // Batches that are written whole go.
        let mut places = vec![usize::MAX; self.batches.len()];
        let mut kept = Vec::new();
        for (batch, _) in &mut self.rows {
            if places[*batch] == usize::MAX {
                places[*batch] = kept.len();
                kept.push(self.batches[*batch].clone());
            }
            *batch = places[*batch];
        }
        self.batches = kept;
        Ok(group)
    }
}
