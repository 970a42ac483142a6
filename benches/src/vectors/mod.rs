//! How many neighbours a core finds, beside hnswlib, faiss and usearch: `… -- vectors [words|pieces] [ROWS]`.
//!
//! On real vectors (benches/data/vectors fetches them); 1,000 of them are taken out as queries. What is compared is queries a second
//! of CPU of one thread at equal recall, not at equal settings: between the points measured the logarithm is interpolated.

mod churn;
mod filters;
mod peers;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tidemill::vectors::{Builder, Change, Expected, Hit, Index, IndexOptions, Metric, Query, RowsIn, View, Way};

use crate::row;

/// Candidates that a search keeps, of the points that are measured.
const EFS: [usize; 12] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];
const K: usize = 10;
const QUERIES: usize = 1_000;

/// A set of vectors, and others of the same kind that are looked for.
struct Set {
    name: String,
    dims: usize,
    rows: Vec<f32>,
    queries: Vec<f32>,
}

/// A recall, and how many queries a second of CPU answers with it.
#[derive(Clone, Copy)]
struct Point {
    recall: f64,
    speed: f64,
}

/// The tables.
pub fn run(arguments: &[String]) -> Result<()> {
    let folder = peers::fetched()?;
    let most = arguments.get(1).map_or(Ok(usize::MAX), |text| text.parse())?;
    for (name, dims) in [("pieces", 384), ("words", 100)] {
        if arguments.first().is_some_and(|only| only != name) {
            continue;
        }
        let set = Set::read(Path::new(&folder), name, dims, most)?;
        for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
            measured(&set, metric)?;
        }
    }
    Ok(())
}

/// The first vectors of the words.
pub fn words(count: usize, dims: usize) -> Result<Vec<f32>> {
    let bytes = std::fs::read(Path::new(&peers::fetched()?).join("words.f32"))?;
    let floats = bytes.as_chunks::<4>().0.iter().take(count * dims);
    Ok(floats.map(|number| f32::from_le_bytes(*number)).collect())
}

fn measured(set: &Set, metric: Metric) -> Result<()> {
    let of = format!("{} {:?}", set.name, metric).to_lowercase();
    let set = &set.stretched(metric);
    let index = filled(set, metric)?;
    let begun = process_cpu()?;
    index.rebuild(Builder::Flat, 2)?;
    let build = process_cpu()? - begun;
    let stats = index.stats();
    let view = index.view();
    let truth: Vec<Vec<Hit>> = set.queries().map(|query| search(&view, query, Way::Exact, 1)).collect::<Result<_>>()?;
    let points = EFS.iter().map(|ef| point(&view, set, &truth, *ef)).collect::<Result<Vec<_>>>()?;
    let codes = stats.codes.context("a graph")?;
    row(&format!("{of}: CPU of the build"), &format!("{build:.1} s"), "1.0 x hnswlib");
    row(&format!("{of}: bytes a vector, {codes}"), &stats.bytes_per_vector.to_string(), "1.0 x hnswlib");
    for recall in [0.95, 0.99] {
        row(&format!("{of}: queries a CPU second at {recall}"), &shown(at(&points, recall)), "2.0 x hnswlib");
    }
    let folder = tempfile::tempdir()?;
    let disk = on_disk(&index, folder.path())?;
    let (disk_bytes, disk) = (disk.stats().bytes_per_vector, disk.view());
    let disk_points = EFS.iter().map(|ef| point(&disk, set, &truth, *ef)).collect::<Result<Vec<_>>>()?;
    row(&format!("{of}: bytes a vector with rows on disk"), &disk_bytes.to_string(), "0.35 x hnswlib");
    for recall in [0.95, 0.99] {
        let figure = match (at(&disk_points, recall), at(&points, recall)) {
            (Some(disk), Some(memory)) => format!("{disk:.0}; {:.2} x rows in memory", disk / memory),
            (disk, _) => shown(disk),
        };
        row(&format!("{of}: queries a CPU second at {recall} with rows on disk"), &figure, "-");
    }
    let exact = scans(&view, set)?;
    row(&format!("{of}: queries a CPU second of the exact scan"), &format!("{exact:.0}"), "-");
    for engine in peers::ENGINES {
        let peer = peers::measure(engine, set, metric, &truth)?;
        let beside = |ours: f64, theirs: f64| format!("{theirs:.1}; ours is {:.2} x", ours / theirs);
        row(&format!("{of}: {engine}, CPU of the build"), &beside(build, peer.build), "-");
        let bytes = beside(stats.bytes_per_vector as f64, peer.bytes);
        let bytes = format!("{bytes}, {:.2} x with rows on disk", disk_bytes as f64 / peer.bytes);
        row(&format!("{of}: {engine}, bytes a vector"), &bytes, "-");
        for recall in [0.95, 0.99] {
            let figure = match (at(&points, recall), at(&peer.points, recall)) {
                (Some(ours), Some(theirs)) => beside(ours, theirs),
                (_, theirs) => shown(theirs),
            };
            row(&format!("{of}: {engine}, queries a CPU second at {recall}"), &figure, "-");
        }
    }
    if metric == Metric::Cosine {
        filters::run(&of, &view, set)?;
        churn::run(&of, &index, set)?;
    }
    Ok(())
}

impl Set {
    fn read(folder: &Path, name: &str, dims: usize, most: usize) -> Result<Self> {
        let bytes = std::fs::read(folder.join(format!("{name}.f32")))?;
        let floats: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
        let step = floats.len() / dims / QUERIES;
        ensure!(step > 1, "too few vectors in {name}.f32");
        let mut set = Set { name: name.to_string(), dims, rows: Vec::new(), queries: Vec::new() };
        for (number, vector) in floats.chunks(dims).enumerate() {
            match number % step == step / 2 && set.queries.len() < QUERIES * dims {
                true => set.queries.extend_from_slice(vector),
                false if set.rows.len() < most.saturating_mul(dims) => set.rows.extend_from_slice(vector),
                false => {}
            }
        }
        set.name = format!("{name} {} x {dims}", set.rows.len() / dims);
        Ok(set)
    }

    /// Under dot the lengths of vectors count: each is given one between a half and one and a half.
    fn stretched(&self, metric: Metric) -> Set {
        let length = |number: usize| match metric {
            Metric::Dot => 0.5 + (number * 7919 % 1000) as f32 / 1000.0,
            _ => 1.0,
        };
        let vectors = self.rows.chunks(self.dims).enumerate();
        let rows = vectors.flat_map(|(number, vector)| vector.iter().map(move |x| x * length(number))).collect();
        Set { name: self.name.clone(), dims: self.dims, rows, queries: self.queries.clone() }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> + Clone {
        self.rows.chunks(self.dims)
    }

    fn queries(&self) -> impl Iterator<Item = &[f32]> + Clone {
        self.queries.chunks(self.dims)
    }
}

/// An index of all rows; their numbers are the keys.
fn filled(set: &Set, metric: Metric) -> Result<Index> {
    let index = Index::new(set.dims, metric, IndexOptions { exact_below: 10_000, ..IndexOptions::default() })?;
    let keys: Vec<[u8; 4]> = (0..set.rows().count() as u32).map(u32::to_be_bytes).collect();
    let changes: Vec<Change> =
        keys.iter().zip(set.rows()).map(|(key, vector)| Change::Upsert { key, vector }).collect();
    for changes in changes.chunks(1024) {
        index.write(changes)?;
    }
    Ok(index)
}

/// The same index with its vectors in a file.
fn on_disk(index: &Index, folder: &Path) -> Result<Index> {
    let mut file = Vec::new();
    index.save(0, &mut file)?;
    let view = index.view();
    let options = IndexOptions { rows: RowsIn::Disk, ..view.options };
    let expected = Expected { dims: view.dims, metric: view.metric, options, sequence: 0 };
    let index = Index::load(expected, Some(folder), (file.len() as u64, &mut &file[..]))?;
    ensure!(index.stats().disk_bytes > 0, "vectors are in memory");
    Ok(index)
}

fn search(view: &View, query: &[f32], way: Way, ef: usize) -> Result<Vec<Hit>> {
    Ok(view.search(Query { way, ef: Some(ef), ..Query::new(query, K) })?.hits)
}

fn point(view: &View, set: &Set, truth: &[Vec<Hit>], ef: usize) -> Result<Point> {
    let (mut speed, mut recall) = (0.0f64, 0.0);
    for _ in 0..3 {
        let begun = thread_cpu()?;
        let found = set.queries().map(|query| search(view, query, Way::Graph, ef)).collect::<Result<Vec<_>>>()?;
        speed = speed.max(found.len() as f64 / (thread_cpu()? - begun));
        recall = share(&found, truth);
    }
    Ok(Point { recall, speed })
}

fn scans(view: &View, set: &Set) -> Result<f64> {
    let begun = thread_cpu()?;
    for query in set.queries().take(100) {
        search(view, query, Way::Exact, 1)?;
    }
    Ok(100.0 / (thread_cpu()? - begun))
}

/// Share of the true neighbours that were found.
fn share(found: &[Vec<Hit>], truth: &[Vec<Hit>]) -> f64 {
    let hits = |(found, truth): (&Vec<Hit>, &Vec<Hit>)| {
        truth.iter().filter(|hit| found.iter().any(|other| other.key == hit.key)).count()
    };
    let all: usize = truth.iter().map(Vec::len).sum();
    found.iter().zip(truth).map(hits).sum::<usize>() as f64 / all.max(1) as f64
}

/// Queries a second at a recall, between the points to either side of it.
fn at(points: &[Point], recall: f64) -> Option<f64> {
    let pair = points.windows(2).find(|pair| pair[0].recall < recall && pair[1].recall >= recall)?;
    let share = (recall - pair[0].recall) / (pair[1].recall - pair[0].recall);
    Some(pair[0].speed * libm::pow(pair[1].speed / pair[0].speed, share))
}

fn shown(speed: Option<f64>) -> String {
    speed.map_or("not reached".to_string(), |speed| format!("{speed:.0}"))
}

/// CPU seconds of this thread.
fn thread_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().context("schedstat")?.parse()?;
    Ok(nanoseconds / 1e9)
}

/// CPU seconds of all threads of this process, ended ones too.
fn process_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
