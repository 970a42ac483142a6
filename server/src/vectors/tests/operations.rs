//! Random writes, searches, rebuilds and restarts, each answer compared with brute force over what the index should hold.

use std::collections::BTreeMap;

use super::*;

struct Model {
    metric: Metric,
    folder: tempfile::TempDir,
    index: Index,
    rows: BTreeMap<Vec<u8>, Vec<f32>>,
    cloud: Cloud,
    found: usize,
    wanted: usize,
}

const DIMS: usize = 12;
const SCALE: f64 = 30.0;

/// Which keys pass a filter: a share of one in so many, by a digest of the key, so that it is unlike the vector.
fn passes(key: &[u8], one_in: u64) -> bool {
    xxhash_rust::xxh3::xxh3_64(key).is_multiple_of(one_in)
}

impl Model {
    fn new(metric: Metric, home: RowsIn, random: &mut StdRng) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::new(DIMS, metric, small_in(home)).unwrap().beside(Some(folder.path()));
        Model { metric, folder, index, rows: BTreeMap::new(), cloud: Cloud::new(random, DIMS, 20), found: 0, wanted: 0 }
    }

    fn key(&self, random: &mut StdRng) -> Vec<u8> {
        let number = random.random_range(0..4_000u32);
        format!("{}key-{number}", ["", "\0", "{é}"][number as usize % 3]).into_bytes()
    }

    fn step(&mut self, random: &mut StdRng) {
        match random.random_range(0..1000) {
            0..500 => {
                let (key, vector) = (self.key(random), self.cloud.vector(random));
                let slot = self.index.upsert(&key, &vector).unwrap();
                assert_eq!(self.index.slot(&key), Some(slot));
                self.rows.insert(key, vector);
            }
            500..680 => {
                let key = self.key(random);
                assert_eq!(self.index.delete(&key), self.rows.remove(&key).is_some());
                assert_eq!(self.index.slot(&key), None);
            }
            680..700 => self.batch(random),
            700..995 => self.search(random),
            995..997 => self.index.rebuild(Builder::Flat, 1 + random.random_range(0..2)).unwrap(),
            997 => self.index.extend(Builder::Flat, 1 + random.random_range(0..2)).unwrap(),
            _ => self.restart(),
        }
    }

    fn batch(&mut self, random: &mut StdRng) {
        let rows: Vec<(Vec<u8>, Option<Vec<f32>>)> = (0..random.random_range(1..200))
            .map(|_| (self.key(random), (!random.random_bool(0.3)).then(|| self.cloud.vector(random))))
            .collect();
        self.index.write(&rows.iter().map(change).collect::<Vec<_>>()).unwrap();
        for (key, vector) in rows {
            match vector {
                Some(vector) => drop(self.rows.insert(key, vector)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    fn restart(&mut self) {
        let view = self.index.view();
        let expected = Expected { dims: DIMS, metric: self.metric, options: view.options, sequence: 7 };
        let mut file = Vec::new();
        self.index.save(7, &mut file).unwrap();
        let read = (file.len() as u64, &mut &file[..] as &mut dyn std::io::Read);
        self.index = Index::load(expected, Some(self.folder.path()), read).unwrap();
        let kept: Vec<Vec<u8>> = {
            let view = self.index.view();
            let mut keys: Vec<Vec<u8>> = view.keys().map(|(_, key)| key.to_vec()).collect();
            keys.sort();
            keys
        };
        assert_eq!(kept, self.rows.keys().cloned().collect::<Vec<_>>());
    }

    fn search(&mut self, random: &mut StdRng) {
        let vector = self.cloud.vector(random);
        let k = [1, 3, 10, 50][random.random_range(0..4)];
        let one_in = [1, 1, 2, 10, 100, 5_000][random.random_range(0..6)];
        let excluded: Vec<Vec<u8>> = (0..random.random_range(0..3)).map(|_| self.key(random)).collect();
        let excluded: Vec<&[u8]> = excluded.iter().map(Vec::as_slice).collect();
        let marked: Bitmap;
        let test = |_: u32, key: &[u8]| passes(key, one_in);
        let filter = match (one_in, random.random_bool(0.5)) {
            (1, _) => None,
            (_, true) => Some(Filter::Keys(&test)),
            (_, false) => {
                let view = self.index.view();
                marked = view.keys().filter(|(_, key)| passes(key, one_in)).map(|(slot, _)| slot).collect();
                Some(Filter::Slots(&marked))
            }
        };
        let way = [Way::Planned, Way::Exact, Way::Graph][random.random_range(0..3)];
        let min_score = random.random_bool(0.1).then(|| random.random_range(-1.0..1.0f32));
        let query = Query { filter, exclude: &excluded, way, min_score, ..Query::new(&vector, k) };
        let answer = self.index.search(query).unwrap();
        let matches = |key: &[u8]| passes(key, one_in) && !excluded.contains(&key);
        let scored = |(key, row): (&Vec<u8>, &Vec<f32>)| (score(self.metric, &vector, row), key.clone());
        let mut truth: Vec<(f64, Vec<u8>)> = self.rows.iter().filter(|(key, _)| matches(key)).map(scored).collect();
        truth.retain(|(score, _)| min_score.is_none_or(|least| *score >= f64::from(least)));
        truth.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        truth.truncate(k);
        self.compare(&vector, &answer, &truth, way, min_score);
    }

    /// What is returned is there, passes, and has its right score; how much of the truth is found depends on the way.
    fn compare(&mut self, vector: &[f32], answer: &Answer, truth: &[(f64, Vec<u8>)], way: Way, min_score: Option<f32>) {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * SCALE;
        for pair in answer.hits.windows(2) {
            let ordered =
                pair[0].score > pair[1].score || (pair[0].score == pair[1].score && pair[0].key < pair[1].key);
            assert!(ordered, "{pair:?}");
        }
        for hit in &answer.hits {
            let row = self.rows.get(&hit.key).expect("a deleted vector is not found");
            assert!(near(f64::from(hit.score), score(self.metric, vector, row)), "a replaced vector is not found");
        }
        let exact = way == Way::Exact || answer.explained.plan == Plan::Scan;
        let found = truth.iter().filter(|(_, key)| answer.hits.iter().any(|hit| hit.key == *key)).count();
        if min_score.is_none() || exact {
            assert!(
                answer.hits.len().abs_diff(truth.len()) <= usize::from(min_score.is_some()),
                "as many as asked for"
            );
        }
        if exact {
            for (hit, (score, key)) in answer.hits.iter().zip(truth) {
                assert!(hit.key == *key || near(f64::from(hit.score), *score), "{hit:?} for {key:?} {score}");
            }
        } else {
            self.found += found;
            self.wanted += truth.len();
        }
    }
}

fn change((key, vector): &(Vec<u8>, Option<Vec<f32>>)) -> Change<'_> {
    match vector {
        Some(vector) => Change::Upsert { key, vector },
        None => Change::Delete { key },
    }
}

#[test]
fn random_operations_agree_with_brute_force() {
    let mut random = seed(20261126);
    let operations = times("TIDEMILL_VECTOR_OPERATIONS", 10_000);
    for (metric, home) in METRICS.into_iter().flat_map(|metric| HOMES.map(|home| (metric, home))) {
        let mut model = Model::new(metric, home, &mut random);
        for _ in 0..operations / 6 {
            model.step(&mut random);
        }
        let stats = model.index.stats();
        let recall = model.found as f64 / model.wanted as f64;
        eprintln!("{metric:?} {home:?}: {stats:?}, recall {recall:.4} of {}", model.wanted);
        assert_eq!(stats.live, model.rows.len());
        // Of walks alone, that keep sixteen candidates.
        assert!(recall > 0.85, "{metric:?} {home:?}: {recall}");
        model.index.rebuild(Builder::Flat, 1).unwrap();
        assert_eq!(model.index.stats().disk_bytes > 0, home == RowsIn::Disk);
    }
}
