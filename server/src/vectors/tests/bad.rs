//! Bad input is refused by number, before anything changes.

use super::*;
use crate::failure::Failure;

#[track_caller]
fn refused<T>(result: Result<T, Failure>, code: &str, part: &str) {
    let failure = result.err().expect("it is refused");
    assert_eq!(failure.code, code);
    assert!(failure.message.contains(part), "{}", failure.message);
}

#[test]
fn collections_that_cannot_be() {
    refused(Index::new(1_000_000, Metric::Dot, small()), "E4005", "not 1000000");
    refused(Index::new(0, Metric::Dot, small()), "E4005", "not 0");
    refused(Index::new(4, Metric::Dot, IndexOptions { m: 1, ..small() }), "E4006", "`m` is 1");
    let huge = IndexOptions { ef_construction: usize::MAX, ..small() };
    refused(Index::new(4, Metric::Dot, huge), "E4006", "`ef_construction` is 18446744073709551615");
}

#[test]
fn writes_that_cannot_be_change_nothing() {
    HOMES.into_iter().for_each(bad_writes);
}

/// An index whose sealed graph has `a`, and `far` to have neighbours at all.
fn sealed(home: RowsIn) -> Index {
    let index = Index::new(2, Metric::Cosine, small_in(home)).unwrap().beside(Some(&std::env::temp_dir()));
    index.upsert(b"a", &[1.0, 0.0]).unwrap();
    index.upsert(b"far", &[-1.0, 0.0]).unwrap();
    index.rebuild(Builder::Flat, 1).unwrap();
    assert_eq!(index.stats().disk_bytes > 0, home == RowsIn::Disk);
    index
}

fn bad_writes(home: RowsIn) {
    let index = sealed(home);
    refused(index.upsert(b"b", &[1.0, 0.0, 0.0]), "E4001", "has 3 components, and the collection takes 2");
    refused(index.upsert(b"b", &[1.0, f32::NAN]), "E4002", "component 1 of the vector is NaN");
    refused(index.upsert(b"b", &[f32::INFINITY, 1.0]), "E4002", "component 0 of the vector is inf");
    refused(index.upsert(b"b", &[1e20, 1.0]), "E4003", "component 0");
    refused(index.upsert(b"b", &[0.0, 0.0]), "E4004", "length zero");
    refused(index.upsert(&vec![0; 1 << 20], &[1.0, 0.0]), "E4013", "1048576 bytes");
    let changes = [Change::Delete { key: b"a" }, Change::Upsert { key: b"c", vector: &[0.0, 0.0] }];
    refused(index.write(&changes), "E4004", "length zero");
    assert!(!index.delete(b"b") && !index.delete(&vec![0; 1 << 20]));
    assert_eq!(index.stats().live, 2);
    assert_eq!(index.vector(b"a").unwrap(), Some(vec![1.0, 0.0]));
}

#[test]
fn searches_that_cannot_be() {
    let index = Index::new(2, Metric::Cosine, small()).unwrap();
    let empty = index.search(Query::new(&[1.0, 0.0], 5)).unwrap();
    assert!(empty.hits.is_empty());
    HOMES.into_iter().for_each(bad_searches);
}

fn bad_searches(home: RowsIn) {
    let index = sealed(home);
    let good = Query::new(&[1.0, 0.0], 1);
    assert_eq!(index.search(good).unwrap().hits[0].key, b"a");
    refused(index.search(Query { vector: &[1.0], ..good }), "E4001", "has 1 components, and the collection takes 2");
    refused(index.search(Query { vector: &[f32::NAN, 1.0], ..good }), "E4002", "NaN");
    refused(index.search(Query { vector: &[0.0, -0.0], ..good }), "E4004", "length zero");
    refused(index.search(Query { k: 0, ..good }), "E4007", "`k` is 0");
    refused(index.search(Query { k: 1 << 63, ..good }), "E4007", "`k` is 9223372036854775808");
    refused(index.search(Query { ef: Some(usize::MAX), ..good }), "E4007", "`ef` is");
    refused(index.search(Query { ef: Some(0), ..good }), "E4007", "`ef` is 0");
    refused(index.search(Query { min_score: Some(f32::NAN), ..good }), "E4009", "not a number");
    let many = vec![&b"x"[..]; 10_002];
    refused(index.search(Query { exclude: &many, ..good }), "E4008", "10002 keys");
}
