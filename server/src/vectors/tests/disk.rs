//! Vectors on the disk: the same answers as from memory, and what becomes of a disk that fails.

use std::path::Path;

use super::*;
use crate::failure::{Failure, Remedy};
use crate::vectors::home::Vectors;

/// An index of 3,000 vectors, half of them in a graph that was extended, and a few fresh ones.
fn filled(metric: Metric, options: IndexOptions, folder: Option<&Path>) -> Index {
    let mut random = StdRng::seed_from_u64(31);
    let cloud = Cloud::new(&mut random, 20, 30);
    let index = Index::new(20, metric, options).unwrap().beside(folder);
    for number in 0..3_000u32 {
        index.upsert(&number.to_be_bytes(), &cloud.vector(&mut random)).unwrap();
        match number {
            1_500 => index.rebuild(Builder::Flat, 1).unwrap(),
            2_900 => index.extend(Builder::Flat, 1).unwrap(),
            _ => {}
        }
    }
    (0..200u32).for_each(|number| assert!(index.delete(&(number * 13).to_be_bytes())));
    index
}

fn file_of(index: &Index, change: impl FnOnce(&std::fs::File)) {
    match &index.view().sealed.as_ref().unwrap().vectors {
        Vectors::Disk(rows) => change(rows.file()),
        Vectors::Memory(_) | Vectors::Packed(_) => panic!("vectors are in memory"),
    }
}

#[test]
fn both_homes_give_the_same_answers() {
    let mut random = seed(32);
    let folder = tempfile::tempdir().unwrap();
    for metric in METRICS {
        let [memory, disk] = HOMES.map(|home| filled(metric, small_in(home), Some(folder.path())));
        let (in_memory, on_disk) = (memory.stats(), disk.stats());
        assert_eq!((in_memory.disk_bytes, on_disk.disk_bytes), (0, 2_901 * 20 * 4));
        // In memory a row of 20 components takes 72 bytes, and no space beside the graph that one on the disk would not take.
        let packed = in_memory.bytes - on_disk.bytes;
        assert!((2_901 * 72..2_901 * 73).contains(&packed), "{on_disk:?} {in_memory:?}");
        let marked: Bitmap = (0..3_000).filter(|slot| slot % 5 == 0).collect();
        for round in 0..100 {
            let vector: Vec<f32> = (0..20).map(|_| random.random_range(-1.5..1.5)).collect();
            let way = [Way::Planned, Way::Exact, Way::Graph][round % 3];
            let filter = (round % 4 == 0).then_some(Filter::Slots(&marked));
            let query = Query { way, filter, ..Query::new(&vector, [1, 10, 100][round % 5 % 3]) };
            let (a, b) = (memory.search(query).unwrap(), disk.search(query).unwrap());
            assert_eq!(a.hits, b.hits);
            assert_eq!(a.explained.candidates, b.explained.candidates);
        }
        for number in (0..3_000u32).step_by(101) {
            let key = number.to_be_bytes();
            assert_eq!(memory.vector(&key).unwrap(), disk.vector(&key).unwrap());
        }
        // Nothing of it has a name.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// Of the candidates that a walk gives, most are known to be too far without a look at their vectors.
#[test]
fn few_vectors_are_looked_at() {
    let mut random = seed(33);
    let index = filled(Metric::Cosine, small(), None);
    let cloud = Cloud::new(&mut StdRng::seed_from_u64(31), 20, 30);
    let mut looked_at = 0;
    for _ in 0..100 {
        let vector = cloud.vector(&mut random);
        let query = Query { way: Way::Graph, ef: Some(64), ..Query::new(&vector, 10) };
        let answer = index.search(query).unwrap();
        looked_at += answer.explained.candidates;
    }
    eprintln!("{looked_at} vectors of 100 walks");
    assert!((1_000..2_000).contains(&looked_at), "{looked_at}");
}

#[test]
fn a_disk_that_cannot_be_read_is_an_error_and_no_wrong_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    let index = filled(Metric::L2, small_in(RowsIn::Disk), Some(folder.path()));
    let vector = [0.5; 20];
    let right = index.search(Query::new(&vector, 5)).unwrap().hits;
    // A page is lost at the end of the file, then all of it.
    for length in [2_901 * 20 * 4 - 1, 0] {
        file_of(&index, |file| file.set_len(length).unwrap());
        let exact = Query { way: Way::Exact, ..Query::new(&vector, 5) };
        let failure = index.search(exact).unwrap_err();
        assert_eq!((failure.code, failure.remedy), ("E4014", Remedy::Internal));
        assert!(failure.message.starts_with("a vector cannot be read from the disk"), "{failure}");
        match index.search(Query { way: Way::Graph, ..Query::new(&vector, 5) }) {
            Ok(answer) => assert!(length > 0 && answer.hits == right),
            Err(failure) => assert_eq!(failure.code, "E4014"),
        }
    }
    let lost = 1_000u32.to_be_bytes();
    let failed = |result: Result<(), Failure>| assert_eq!(result.unwrap_err().code, "E4014");
    failed(index.vector(&lost).map(drop));
    failed(index.rebuild(Builder::Flat, 1));
    failed(index.save(1, &mut Vec::new()).map_err(|error| Failure::internal("E4014", error.to_string())));
    // Whoever asks whether a vector is the same is told that it is not, writes it again, and has it.
    assert_eq!(index.slot_of_same(&lost, Some(&vector)), None);
    index.upsert(&lost, &vector).unwrap();
    assert_eq!(index.vector(&lost).unwrap(), Some(vector.to_vec()));
}

#[test]
fn a_disk_that_takes_nothing_leaves_vectors_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("a file");
    std::fs::write(&blocked, "").unwrap();
    let nowhere = blocked.join("below");
    let expected = filled(Metric::Cosine, small(), None).search(Query::new(&[0.5; 20], 9)).unwrap().hits;
    for folder in [None, Some(nowhere.as_path())] {
        let index = filled(Metric::Cosine, small_in(RowsIn::Disk), folder);
        assert_eq!(index.stats().disk_bytes, 0);
        assert_eq!(index.search(Query::new(&[0.5; 20], 9)).unwrap().hits, expected);
    }
    // The same where a graph that is on the disk already is to go on.
    let index = filled(Metric::Cosine, small_in(RowsIn::Disk), Some(folder.path()));
    let read_only = |segment: &crate::vectors::segment::Segment| match &segment.vectors {
        Vectors::Disk(rows) => Vectors::Disk(rows.read_only()),
        Vectors::Memory(_) | Vectors::Packed(_) => panic!("vectors are in memory"),
    };
    let vectors = read_only(index.view().sealed.as_ref().unwrap());
    let more = crate::vectors::rows::Rows::zeros(20, 3);
    let all = vectors.with(&more).unwrap();
    assert_eq!((all.count(), all.disk_bytes()), (2_904, 0));
    let view = index.view();
    let before = &view.sealed.as_ref().unwrap().vectors;
    for row in [0, 1_700, 2_900] {
        assert_eq!(all.row(row, &mut Vec::new()).unwrap(), before.row(row, &mut Vec::new()).unwrap());
    }
    assert_eq!(all.row(2_902, &mut Vec::new()).unwrap(), [0.0; 20]);
}

/// Where codes lose too much, the walk is on the vectors themselves, which then stay in memory.
#[test]
fn what_is_walked_on_its_vectors_stays_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::new(4, Metric::L2, small_in(RowsIn::Disk)).unwrap().beside(Some(folder.path()));
    let mut random = seed(34);
    for number in 0..1_000u32 {
        // Differences far below a step of f16.
        let vector: Vec<f32> = (0..4).map(|_| 1_000.0 + random.random_range(-0.01..0.01f32)).collect();
        let far = [if number % 2 == 0 { 1e6 } else { -1e6 }, vector[1], vector[2], vector[3]];
        index.upsert(&number.to_be_bytes(), &far).unwrap();
    }
    index.rebuild(Builder::Flat, 1).unwrap();
    let stats = index.stats();
    assert_eq!((stats.codes, stats.disk_bytes), (Some("f32"), 0));
}

/// What 14,000 vectors of 100 components take, beside the vectors: codes 112 or 128, lists 96 and 4 above the bottom, a key 4,
/// its slot 8 and its place in the table 5, what a walk has seen 1.
#[test]
fn a_vector_takes_no_more_than_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = seed(35);
    let cloud = Cloud::new(&mut random, 100, 200);
    let rows: Vec<Vec<f32>> = (0..14_000).map(|_| cloud.vector(&mut random)).collect();
    for (home, most) in [(RowsIn::Memory, 600), (RowsIn::Disk, 232)] {
        let options = IndexOptions { ef_construction: 16, exact_below: 0, rows: home, ..IndexOptions::default() };
        let index = Index::new(100, Metric::Cosine, options).unwrap().beside(Some(folder.path()));
        for (number, vector) in rows.iter().enumerate() {
            index.upsert(&(number as u32).to_be_bytes(), vector).unwrap();
        }
        index.rebuild(Builder::Flat, 2).unwrap();
        index.search(Query { way: Way::Graph, ..Query::new(&rows[0], 10) }).unwrap();
        let stats = index.stats();
        eprintln!("{stats:?}");
        assert!(stats.bytes_per_vector <= most, "{stats:?}");
        // A few that have ended cost little, and only where they lie.
        (0..10u32).for_each(|number| assert!(index.delete(&number.to_be_bytes())));
        assert!(index.stats().bytes < stats.bytes + 10_000);
    }
}
