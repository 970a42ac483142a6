//! How many neighbours a core finds, beside hnswlib, faiss and usearch: `… -- vectors [words|pieces] [cosine|l2|dot] [ROWS]
//! [--no-peers|hnswlib|faiss|usearch|usearch-f16]`.
//!
//! On real vectors (benches/data/vectors fetches them); 1,000 of them are taken out as queries. What is compared is queries a second
//! of CPU of one thread at equal recall, not at equal settings: between the points measured the logarithm is interpolated.

mod churn;
mod filters;
mod peers;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use tidemill::vectors::{Builder, Change, Expected, Hit, Index, IndexOptions, Metric, Query, RowsIn, View, Way};

use crate::row;

/// Candidates that a search keeps, of the points that are measured.
const EFS: [usize; 15] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048];
/// What is measured of all points; those that keep more candidates only until this recall is reached.
const RECALL_MOST: f64 = 0.99;
/// Points that are measured in any case.
const EF_USUAL: usize = 512;
const RECALLS: [f64; 2] = [0.95, RECALL_MOST];
/// CPU seconds of each of the three measurements of a point, of which the fastest counts; peers have as many.
const POINT_SECONDS: f64 = 1.0 / 6.0;
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
    ef: usize,
    recall: f64,
    speed: f64,
}

/// The tables.
pub fn run(arguments: &[String]) -> Result<()> {
    let folder = peers::fetched()?;
    let names = |name: &str| arguments.iter().any(|argument| argument == name);
    let most = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(usize::MAX);
    let mut engines = peers::ENGINES.to_vec();
    if names("--no-peers") || engines.iter().any(|engine| names(engine)) {
        engines.retain(|engine| names(engine));
    }
    let sets = [("pieces", 384), ("words", 100)];
    let metrics = [("cosine", Metric::Cosine), ("l2", Metric::L2), ("dot", Metric::Dot)];
    let all_sets = !sets.iter().any(|(name, _)| names(name));
    let all_metrics = !metrics.iter().any(|(name, _)| names(name));
    for (name, dims) in sets.into_iter().filter(|(name, _)| all_sets || names(name)) {
        let set = Set::read(Path::new(&folder), name, dims, most)?;
        for (_, metric) in metrics.iter().filter(|(name, _)| all_metrics || names(name)) {
            measured(&set, *metric, &engines)?;
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

fn measured(set: &Set, metric: Metric, engines: &[&str]) -> Result<()> {
    let of = format!("{} {:?}", set.name, metric).to_lowercase();
    let set = &set.stretched(metric);
    let index = filled(set, metric)?;
    let begun = process_cpu()?;
    index.rebuild(Builder::Flat, 2)?;
    let build = process_cpu()? - begun;
    let stats = index.stats();
    let view = index.view();
    let truth: Vec<Vec<Hit>> = set.queries().map(|query| search(&view, query, Way::Exact, 1)).collect::<Result<_>>()?;
    let ours = points(&view, set, &truth)?;
    let codes = stats.codes.context("a graph")?;
    row(&format!("{of}: CPU of the build"), &format!("{build:.1} s"), "1.0 x hnswlib");
    row(&format!("{of}: bytes a vector, {codes}"), &stats.bytes_per_vector.to_string(), "1.0 x hnswlib");
    for recall in RECALLS {
        row(&format!("{of}: queries a CPU second at {recall}"), &shown(&ours, recall), "2.0 x hnswlib");
    }
    row(&format!("{of}: recall at equal ef"), &recalls(&ours), "-");
    let disk_bytes = from_disk(&of, &index, set, &truth, &ours)?;
    let exact = scans(&view, set)?;
    row(&format!("{of}: queries a CPU second of the exact scan"), &format!("{exact:.0}"), "-");
    for engine in engines {
        let peer = peers::measure(engine, set, metric, &truth)?;
        let beside = |ours: f64, theirs: f64| format!("{theirs:.1}; ours is {:.2} x", ours / theirs);
        row(&format!("{of}: {engine}, CPU of the build"), &beside(build, peer.build), "-");
        let bytes = beside(stats.bytes_per_vector as f64, peer.bytes);
        let bytes = format!("{bytes}, {:.2} x with rows on disk", disk_bytes as f64 / peer.bytes);
        row(&format!("{of}: {engine}, bytes a vector"), &bytes, "-");
        for recall in RECALLS {
            let figure = match (at(&ours, recall), at(&peer.points, recall)) {
                (Some(ours), Some(theirs)) => beside(ours, theirs),
                _ => shown(&peer.points, recall),
            };
            row(&format!("{of}: {engine}, queries a CPU second at {recall}"), &figure, "-");
        }
        row(&format!("{of}: {engine}, recall at equal ef"), &recalls(&peer.points), "-");
    }
    if metric == Metric::Cosine {
        filters::run(&of, &view, set)?;
        churn::run(&of, &index, set)?;
    }
    Ok(())
}

/// The same with vectors on the disk; the bytes of memory that are left.
fn from_disk(of: &str, index: &Index, set: &Set, truth: &[Vec<Hit>], memory: &[Point]) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let disk = on_disk(index, folder.path())?;
    let (bytes, disk) = (disk.stats().bytes_per_vector, disk.view());
    let disk = points(&disk, set, truth)?;
    row(&format!("{of}: bytes a vector with rows on disk"), &bytes.to_string(), "0.35 x hnswlib");
    for recall in RECALLS {
        let figure = match (at(&disk, recall), at(memory, recall)) {
            (Some(disk), Some(memory)) => format!("{disk:.0}; {:.2} x rows in memory", disk / memory),
            _ => shown(&disk, recall),
        };
        row(&format!("{of}: queries a CPU second at {recall} with rows on disk"), &figure, "-");
    }
    Ok(bytes)
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

/// Points of all numbers of candidates, those of the greatest only where fewer do not suffice.
fn points(view: &View, set: &Set, truth: &[Vec<Hit>]) -> Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::new();
    for ef in EFS {
        let suffices = points.last().is_some_and(|last| last.recall >= RECALL_MOST);
        if ef <= EF_USUAL || !suffices {
            points.push(point(view, set, truth, ef)?);
        }
    }
    Ok(points)
}

fn point(view: &View, set: &Set, truth: &[Vec<Hit>], ef: usize) -> Result<Point> {
    let (mut speed, mut recall) = (0.0f64, 0.0);
    for _ in 0..3 {
        let (mut count, mut seconds) = (0, 0.0);
        while seconds < POINT_SECONDS {
            let begun = thread_cpu()?;
            let found = set.queries().map(|query| search(view, query, Way::Graph, ef)).collect::<Result<Vec<_>>>()?;
            seconds += thread_cpu()? - begun;
            count += found.len();
            recall = share(&found, truth);
        }
        speed = speed.max(count as f64 / seconds);
    }
    Ok(Point { ef, recall, speed })
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

/// The same in words, where a recall is not among the points, too.
fn shown(points: &[Point], recall: f64) -> String {
    match (at(points, recall), points.first(), points.last()) {
        (Some(speed), ..) => format!("{speed:.0}"),
        (None, Some(first), _) if first.recall >= recall => {
            format!("more than {:.0}, which it does with {:.4}", first.speed, first.recall)
        }
        (None, _, Some(last)) => format!("not reached; {:.0} with {:.4} at ef {}", last.speed, last.recall, last.ef),
        _ => "not measured".to_string(),
    }
}

fn recalls(points: &[Point]) -> String {
    let shown = |point: &Point| format!("{} {:.4} ({:.0}/s)", point.ef, point.recall, point.speed);
    points.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// CPU seconds of this thread, to the nanosecond: what the scheduler tells in files is as old as its last tick.
fn thread_cpu() -> Result<f64> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// CPU seconds of all threads of this process, ended ones too.
fn process_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
