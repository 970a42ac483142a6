//! Files of an index: as they were written, or refused.

use super::*;
use crate::failure::Failure;

fn filled(random: &mut StdRng, metric: Metric, home: RowsIn) -> Index {
    let index = Index::new(6, metric, small_in(home)).unwrap().beside(Some(&std::env::temp_dir()));
    let cloud = Cloud::new(random, 6, 5);
    for number in 0..400u32 {
        index.upsert(format!("key {number}").as_bytes(), &cloud.vector(random)).unwrap();
    }
    index.rebuild(Builder::Flat, 1).unwrap();
    for number in 0..60u32 {
        index.upsert(format!("key {}", number * 11).as_bytes(), &cloud.vector(random)).unwrap();
        index.delete(format!("key {}", number * 7).as_bytes());
    }
    index
}

fn expected(metric: Metric, home: RowsIn) -> Expected {
    Expected { dims: 6, metric, options: small_in(home), sequence: 42 }
}

fn saved(index: &Index) -> Vec<u8> {
    let mut file = Vec::new();
    index.save(42, &mut file).unwrap();
    file
}

fn load(file: &[u8], metric: Metric, home: RowsIn) -> Result<Index, Failure> {
    load_as(expected(metric, home), file.len() as u64, file)
}

fn load_as(expected: Expected, length: u64, mut file: &[u8]) -> Result<Index, Failure> {
    Index::load(expected, Some(&std::env::temp_dir()), (length, &mut file))
}

#[test]
fn a_file_gives_back_what_was_saved() {
    let mut random = seed(11);
    // What was written from one home is read into either.
    let homes = [[0, 0], [1, 1], [0, 1], [1, 0]].map(|pair| pair.map(|home| HOMES[home]));
    for (metric, [from, to]) in METRICS.into_iter().flat_map(|metric| homes.map(|homes| (metric, homes))) {
        let index = filled(&mut random, metric, from);
        let loaded = load(&saved(&index), metric, to).unwrap();
        assert_eq!(loaded.stats().live, index.stats().live);
        assert_eq!(loaded.stats().disk_bytes > 0, to == RowsIn::Disk);
        for _ in 0..20 {
            let query: Vec<f32> = (0..6).map(|_| random.random_range(-1.0..1.0)).collect();
            for way in [Way::Exact, Way::Graph] {
                let of = |index: &Index| {
                    let answer = index.search(Query { way, ..Query::new(&query, 10) }).unwrap();
                    answer.hits.into_iter().map(|hit| (hit.key, hit.score)).collect::<Vec<_>>()
                };
                assert_eq!(of(&index), of(&loaded));
            }
        }
        // What was loaded goes on as an index does.
        loaded.upsert(b"new", &[1.0; 6]).unwrap();
        loaded.rebuild(Builder::Flat, 1).unwrap();
        assert_eq!(loaded.search(Query::new(&[1.0; 6], 500)).unwrap().hits.len(), loaded.stats().live);
    }
    let empty = Index::new(6, Metric::Dot, small()).unwrap();
    assert_eq!(load(&saved(&empty), Metric::Dot, RowsIn::Disk).unwrap().stats().live, 0);
}

#[test]
fn flips_and_cuts_anywhere_are_refused() {
    let mut random = seed(12);
    let file = saved(&filled(&mut random, Metric::L2, RowsIn::Disk));
    for number in 0..times("TIDEMILL_VECTOR_FLIPS", 300) {
        let home = HOMES[number % 2];
        let mut flipped = file.clone();
        // Every second flip hits the head, which says how long everything is.
        let most = if random.random() { 200 } else { flipped.len() };
        let at = random.random_range(0..most);
        flipped[at] ^= 1 << random.random_range(0..8);
        let failure = load(&flipped, Metric::L2, home).err().unwrap_or_else(|| panic!("a flip at {at} is not seen"));
        assert!(failure.message.contains("rebuild"), "{failure}");
        let cut = &file[..random.random_range(0..file.len())];
        assert_eq!(load(cut, Metric::L2, home).err().map(|failure| failure.code), Some("E4010"));
        // A file that is shorter than it is said to be, and one that is longer.
        assert!(load_as(expected(Metric::L2, home), file.len() as u64, cut).is_err());
    }
    let longer = [&file[..], &[0]].concat();
    assert_eq!(load(&longer, Metric::L2, RowsIn::Memory).err().map(|failure| failure.code), Some("E4010"));
}

#[test]
fn a_file_of_another_state_is_refused() {
    let mut random = seed(13);
    let file = saved(&filled(&mut random, Metric::L2, RowsIn::Memory));
    let right = expected(Metric::L2, RowsIn::Memory);
    let options = IndexOptions { ef_search: Some(17), ..small() };
    for wrong in [
        Expected { sequence: 43, ..right },
        Expected { dims: 7, ..right },
        Expected { metric: Metric::Dot, ..right },
        Expected { options, ..right },
    ] {
        let failure = load_as(wrong, file.len() as u64, &file).err().unwrap();
        assert_eq!(failure.code, "E4011");
    }
    load_as(right, file.len() as u64, &file).unwrap();
}
