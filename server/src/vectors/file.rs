//! An index at rest: a cache of what can be derived again, so anything that is not as it was written is refused.
//!
//! Sections, each `tag, length, content, checksum`: the head (what it is an index of), then rows, keys, dead marks, levels and
//! lists of the sealed segment, then rows and keys of the fresh vectors. All numbers are little-endian. A section is taken in
//! only if its length is what the head makes of it, and looked at only after its checksum is right. Codes are not in it: they
//! are computed from the vectors. Deleted vectors are in it until the index is built anew.

use std::io::{self, Read, Write};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::codes::{CodeKind, Codes};
use super::graph::{EMPTY, Graph, Links, Shape};
use super::index::Index;
use super::keys::Keys;
use super::metric::Metric;
use super::options::{IndexOptions, RowsIn};
use super::rows::Rows;
use super::segment::{Body, Segment};
use super::view::View;
use crate::failure::Failure;
use crate::limits::{SEARCH_EF_MAX, VECTOR_KEY_BYTES_MAX, VECTOR_ROWS_MAX};

/// The format; another number is another format.
const MAGIC: [u8; 8] = *b"TMVX\x02\0\0\0";
const HEAD_BYTES: usize = 8 + 8 * 11;

/// What a file must be the index of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// components of a vector
    pub dims: usize,
    /// the metric
    pub metric: Metric,
    /// the options; a file does not know where rows are to lie
    pub options: IndexOptions,
    /// what it was made of, by a number of the caller's
    pub sequence: u64,
}

/// What lies in the file.
#[derive(Clone, Copy)]
struct Head {
    expected: Expected,
    rows: usize,
    graph: Option<GraphHead>,
    fresh: usize,
}

/// What is known of its graph.
#[derive(Clone, Copy)]
struct GraphHead {
    kind: CodeKind,
    has_tails: bool,
    ef: usize,
    ef_rows: usize,
}

impl Index {
    /// Writes the index as of now. `sequence` says what of, by a number of the caller's.
    pub fn save(&self, sequence: u64, out: &mut dyn Write) -> io::Result<()> {
        let view = self.view();
        let expected = Expected { dims: view.dims, metric: view.metric, options: view.options, sequence };
        let fresh: Vec<(&Segment, usize)> = view.fresh.iter().flat_map(|chunk| alive(&view, chunk)).collect();
        let sealed = view.sealed.as_deref();
        let body = sealed.and_then(|sealed| sealed.body.as_ref());
        let rows = sealed.map_or(0, Segment::count);
        let head = Head { expected, rows, graph: body.map(GraphHead::of), fresh: fresh.len() };
        section(out, 0, HEAD_BYTES, |write| write(&head.bytes()))?;
        let all: Vec<(&Segment, usize)> =
            sealed.iter().flat_map(|sealed| (0..rows).map(|row| (*sealed, row))).collect();
        write_rows(out, 1, view.dims, &all)?;
        let dead = all.iter().map(|(sealed, row)| u8::from(!sealed.lives(*row as u32, view.seen)));
        section(out, 4, rows, |write| write(&dead.collect::<Vec<u8>>()))?;
        if let Some(body) = body {
            write_graph(out, &body.graph)?;
        }
        write_rows(out, 7, view.dims, &fresh)
    }

    /// Reads an index of `length` bytes. Refuses everything but an unharmed index of what is expected. Vectors that are to lie on
    /// the disk go into a file of the folder.
    pub fn load(
        expected: Expected,
        folder: Option<&Path>,
        (length, from): (u64, &mut dyn Read),
    ) -> Result<Self, Failure> {
        let mut reader = Reader { from, left: length };
        let head = Head::parse(&reader.section(0, HEAD_BYTES)?, expected.options.rows)?;
        if head.expected != expected {
            let message = "the index file is of another state of its collection; rebuild the index from the store";
            return Err(Failure::internal("E4011", message));
        }
        let index = Index::new(expected.dims, expected.metric, expected.options)?.beside(folder);
        let (vectors, keys) = reader.rows(1, head.rows, expected)?;
        let dead = reader.section(4, head.rows)?;
        let graph = head.graph.map(|_| reader.graph(head.rows, expected.options.m)).transpose()?;
        let (fresh, fresh_keys) = reader.rows(7, head.fresh, expected)?;
        if reader.left > 0 {
            return Err(damaged("bytes after its end"));
        }
        if head.rows > 0 {
            index.take_in(expected, (vectors, keys), &dead, graph.zip(head.graph))?;
        }
        index.upsert_kept((0..head.fresh).map(|row| (fresh_keys.get(row), fresh.row(row))));
        Ok(index)
    }

    fn take_in(
        &self,
        expected: Expected,
        (vectors, keys): (Rows<f32>, Keys),
        dead: &[u8],
        graph: Option<(Graph, GraphHead)>,
    ) -> Result<(), Failure> {
        // Slots are given out anew, to the living. The dead keep a number that no key has.
        let mut next = 0;
        let slots = dead.iter().map(|dead| {
            let slot = if *dead == 0 { next } else { u32::MAX };
            next += u32::from(*dead == 0);
            slot
        });
        let slots = slots.collect();
        let mut writer = self.writer.lock();
        let body = graph.map(|(graph, head)| {
            let GraphHead { kind, has_tails, ef, ef_rows } = head;
            let codes = Codes::new(kind, expected.metric, &vectors, expected.options.rows);
            Body { codes, graph, has_tails, ef, ef_rows }
        });
        let mut segment = Segment::plain(writer.segment_id(), vectors, keys, slots);
        segment.body = body;
        segment.note_slots(|row| dead[row] == 0);
        for row in (0..dead.len()).filter(|row| dead[*row] != 0) {
            segment.bury(row, 0);
        }
        self.settle(&mut segment, expected.options.rows);
        if !writer.adopt(segment) {
            return Err(damaged("a key that is there twice"));
        }
        self.publish(&writer);
        Ok(())
    }
}

fn alive<'a>(view: &View, chunk: &'a Segment) -> Vec<(&'a Segment, usize)> {
    (0..chunk.count()).filter(|row| chunk.lives(*row as u32, view.seen)).map(|row| (chunk, row)).collect()
}

fn damaged(what: &str) -> Failure {
    Failure::internal("E4010", format!("the index file is damaged ({what}); rebuild the index from the store"))
}

impl Head {
    fn bytes(&self) -> Vec<u8> {
        let Expected { dims, metric, options, sequence } = self.expected;
        let (graph, ef, ef_rows) = self.graph.map_or((0, 0, 0), |graph| (graph.number(), graph.ef, graph.ef_rows));
        let kinds = u64::from(metric.number()) | graph << 8;
        let IndexOptions { m, ef_construction, ef_search, exact_below, rows: _ } = options;
        let ef_search = ef_search.unwrap_or(0);
        let sizes = [dims, m, ef_construction, ef_search, exact_below, self.rows, self.fresh].map(|size| size as u64);
        let numbers = sizes.into_iter().chain([kinds, sequence, ef as u64, ef_rows as u64]);
        MAGIC.into_iter().chain(numbers.flat_map(u64::to_le_bytes)).collect()
    }

    fn parse(bytes: &[u8], rows_in: RowsIn) -> Result<Self, Failure> {
        if bytes[..8] != MAGIC {
            return Err(damaged("another format"));
        }
        let numbers: Vec<u64> =
            bytes[8..].as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
        let size = |at: usize| usize::try_from(numbers[at]).map_err(|_| damaged("a size"));
        let metrics = [Metric::Cosine, Metric::Dot, Metric::L2];
        let metric = metrics.into_iter().find(|metric| u64::from(metric.number()) == numbers[7] & 0xff);
        let (m, ef_construction, exact_below) = (size(1)?, size(2)?, size(4)?);
        let ef_search = Some(size(3)?).filter(|ef| *ef != 0);
        let options = IndexOptions { m, ef_construction, ef_search, exact_below, rows: rows_in };
        let metric = metric.ok_or_else(|| damaged("its metric"))?;
        let graph = GraphHead::parse(numbers[7] >> 8, size(9)?, size(10)?)?;
        let (rows, fresh) = (size(5)?, size(6)?);
        if rows > VECTOR_ROWS_MAX || fresh > VECTOR_ROWS_MAX {
            return Err(damaged("a size"));
        }
        let expected = Expected { dims: size(0)?, metric, options, sequence: numbers[8] };
        Ok(Head { expected, rows, graph, fresh })
    }
}

impl GraphHead {
    fn of(body: &Body) -> Self {
        GraphHead { kind: body.codes.kind(), has_tails: body.has_tails, ef: body.ef, ef_rows: body.ef_rows }
    }

    fn number(&self) -> u64 {
        let kind = match self.kind {
            CodeKind::Int8 => 1,
            CodeKind::F16 => 2,
            CodeKind::F32 => 3,
        };
        kind | u64::from(self.has_tails) << 8
    }

    fn parse(number: u64, ef: usize, ef_rows: usize) -> Result<Option<Self>, Failure> {
        let kind = match number & 0xff {
            0 => return Ok(None),
            1 => CodeKind::Int8,
            2 => CodeKind::F16,
            3 => CodeKind::F32,
            _ => return Err(damaged("its codes")),
        };
        match (1..=SEARCH_EF_MAX).contains(&ef) && ef_rows <= VECTOR_ROWS_MAX && number >> 9 == 0 {
            true => Ok(Some(GraphHead { kind, has_tails: number >> 8 == 1, ef, ef_rows })),
            false => Err(damaged("what is known of its graph")),
        }
    }
}

fn begun(tag: u64, length: u64) -> Xxh3 {
    let mut hash = Xxh3::new();
    hash.update(&tag.to_le_bytes());
    hash.update(&length.to_le_bytes());
    hash
}

fn checksum(tag: u64, content: &[u8]) -> u64 {
    let mut hash = begun(tag, content.len() as u64);
    hash.update(content);
    hash.digest()
}

/// A section of so many bytes, part by part: an index is not in memory twice.
fn section(
    out: &mut dyn Write,
    tag: u64,
    length: usize,
    content: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(&tag.to_le_bytes())?;
    out.write_all(&(length as u64).to_le_bytes())?;
    let mut hash = begun(tag, length as u64);
    content(&mut |part| {
        hash.update(part);
        out.write_all(part)
    })?;
    out.write_all(&hash.digest().to_le_bytes())
}

/// Vectors, the ends of keys, and keys: three sections.
fn write_rows(out: &mut dyn Write, tag: u64, dims: usize, rows: &[(&Segment, usize)]) -> io::Result<()> {
    section(out, tag, rows.len() * dims * size_of::<f32>(), |write| {
        let (mut buffer, mut bytes) = (Vec::new(), Vec::new());
        for (segment, row) in rows {
            let vector = segment.vectors.row(*row, &mut buffer).map_err(io::Error::other)?;
            bytes.clear();
            bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
            write(&bytes)?;
        }
        Ok(())
    })?;
    let mut end = 0u64;
    let ends: Vec<u64> = rows
        .iter()
        .map(|(segment, row)| {
            end += segment.keys.get(*row).len() as u64;
            end
        })
        .collect();
    section(out, tag + 1, ends.len() * size_of::<u64>(), |write| {
        ends.iter().try_for_each(|end| write(&end.to_le_bytes()))
    })?;
    section(out, tag + 2, end as usize, |write| {
        rows.iter().try_for_each(|(segment, row)| write(segment.keys.get(*row)))
    })
}

/// The level of each node, and all lists node by node, each filled up with `EMPTY`.
fn write_graph(out: &mut dyn Write, graph: &Graph) -> io::Result<()> {
    let shape = graph.shape();
    let nodes = 0..shape.count() as u32;
    let levels: Vec<u8> = nodes.clone().map(|node| shape.level(node) as u8).collect();
    section(out, 5, shape.count(), |write| write(&levels))?;
    let length = (shape.count() * 2 + shape.upper_lists()) * shape.m * size_of::<u32>();
    section(out, 6, length, |write| {
        let mut list = Vec::new();
        for node in nodes {
            list.clear();
            for level in 0..=shape.level(node) {
                let whole = list.len() + shape.length(level) * size_of::<u32>();
                graph.each(level, node, |id| list.extend_from_slice(&id.to_le_bytes()));
                list.resize(whole, u8::MAX);
            }
            write(&list)?;
        }
        Ok(())
    })
}

struct Reader<'a> {
    from: &'a mut dyn Read,
    left: u64,
}

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, Failure> {
        let mut bytes = [0; 8];
        self.left = self.left.checked_sub(8).ok_or_else(|| damaged("it ends too early"))?;
        self.from.read_exact(&mut bytes).map_err(|error| damaged(&error.to_string()))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The content of a section, whose length follows from what is known.
    fn section(&mut self, tag: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let (found, claimed) = (self.number()?, self.number()?);
        if found != tag || claimed != length as u64 {
            return Err(damaged("a section that is not where it belongs"));
        }
        self.content(tag, claimed)
    }

    fn content(&mut self, tag: u64, length: u64) -> Result<Vec<u8>, Failure> {
        self.left = self.left.checked_sub(length).ok_or_else(|| damaged("it ends too early"))?;
        let mut content = Vec::new();
        let read = Read::take(&mut *self.from, length).read_to_end(&mut content);
        read.map_err(|error| damaged(&error.to_string()))?;
        if content.len() as u64 != length {
            return Err(damaged("it ends too early"));
        }
        match self.number()? == checksum(tag, &content) {
            true => Ok(content),
            false => Err(damaged("a checksum")),
        }
    }

    fn rows(&mut self, tag: u64, count: usize, expected: Expected) -> Result<(Rows<f32>, Keys), Failure> {
        let floats = self.section(tag, count * expected.dims * size_of::<f32>())?;
        let mut vectors = Rows::zeros(expected.dims, count);
        let numbers = floats.as_chunks::<4>().0;
        for (row, numbers) in numbers.chunks(expected.dims).enumerate() {
            let vector = vectors.row_mut(row);
            vector.iter_mut().zip(numbers).for_each(|(x, bytes)| *x = f32::from_le_bytes(*bytes));
            expected.metric.check(expected.dims, vector).map_err(|_| damaged("a vector that no collection takes"))?;
        }
        let ends = self.section(tag + 1, count * size_of::<u64>())?;
        let ends = ends.as_chunks::<8>().0.iter().map(|end| u64::from_le_bytes(*end) as usize).collect::<Vec<_>>();
        let bytes = self.section(tag + 2, ends.last().copied().unwrap_or(0))?;
        let mut keys = Keys::default();
        let mut start = 0;
        for end in ends {
            let key = bytes.get(start..end).filter(|key| key.len() <= VECTOR_KEY_BYTES_MAX);
            keys.push(key.ok_or_else(|| damaged("a key"))?);
            start = end;
        }
        Ok((vectors, keys))
    }

    fn graph(&mut self, rows: usize, m: usize) -> Result<Graph, Failure> {
        let levels = self.section(5, rows)?;
        if levels.iter().any(|level| *level > 15) {
            return Err(damaged("a level"));
        }
        let shape = Shape::new(m, levels.iter().map(|level| usize::from(*level)));
        let length = (shape.count() * 2 + shape.upper_lists()) * m;
        let lists = self.section(6, length * size_of::<u32>())?;
        let lists: Vec<u32> = lists.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        if lists.iter().any(|id| *id != EMPTY && *id as usize >= rows) {
            return Err(damaged("a neighbour that does not exist"));
        }
        let starts = Shape::new(m, levels.iter().map(|level| usize::from(*level)));
        Ok(Graph::new(shape, |level, node, list| {
            let before = 2 * node as usize + starts.lists_before(node);
            let start = if level == 0 { before } else { before + 1 + level } * m;
            let length = starts.length(level);
            list.extend(lists[start..start + length].iter().filter(|id| **id != EMPTY));
        }))
    }
}
