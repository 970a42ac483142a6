//! Searches beside writes and rebuilds: what was deleted or replaced before a search began is not found by it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::vectors::segment::Segment;

#[test]
fn searches_beside_writes_see_one_moment() {
    HOMES.into_iter().for_each(beside_writes);
}

/// Keys that move: at each round a key's vector names the round, and odd keys are gone in odd rounds.
fn beside_writes(home: RowsIn) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::new(4, Metric::L2, small_in(home)).unwrap().beside(Some(folder.path()));
    let keys: Vec<Vec<u8>> = (0..300u32).map(|number| number.to_le_bytes().to_vec()).collect();
    let vector = |key: usize, round: u64| [key as f32 * 10.0, round as f32 * 0.001, 0.0, 0.0];
    let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    let write = |round: u64| {
        let vectors: Vec<[f32; 4]> = (0..keys.len()).map(|key| vector(key, round)).collect();
        let change = |key: usize| match key % 2 == 1 && round % 2 == 1 {
            true => Change::Delete { key: &keys[key] },
            false => Change::Upsert { key: &keys[key], vector: &vectors[key] },
        };
        begun.store(round, Ordering::SeqCst);
        index.write(&(0..keys.len()).map(change).collect::<Vec<_>>()).unwrap();
        ended.store(round, Ordering::SeqCst);
    };
    write(0);
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (index, keys, begun, ended, over) = (&index, &keys, &begun, &ended, &over);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(thread);
                while !over.load(Ordering::SeqCst) {
                    let key = random.random_range(0..keys.len());
                    let way = [Way::Planned, Way::Exact, Way::Graph][random.random_range(0..3)];
                    let least = ended.load(Ordering::SeqCst);
                    let query = [key as f32 * 10.0, 0.0, 0.0, 0.0];
                    let answer = index.search(Query { way, ..Query::new(&query, 20) }).unwrap();
                    let most = begun.load(Ordering::SeqCst);
                    // One batch is seen whole or not at all: there is a round that explains all of the answer.
                    let odd = answer.hits.iter().any(|hit| hit.key[0] % 2 == 1);
                    let of_round = |round: &u64| {
                        odd == round.is_multiple_of(2)
                            && answer.hits.iter().all(|hit| {
                                let key = u32::from_le_bytes(hit.key[..].try_into().unwrap()) as usize;
                                Metric::L2.score(&query, &vector(key, *round)) == hit.score
                            })
                    };
                    assert_eq!(answer.hits.len(), 20);
                    assert!((least..=most).any(|round| of_round(&round)), "rounds {least} to {most}: {answer:?}");
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                index.rebuild(Builder::Flat, 1).unwrap();
            }
        });
        for round in 1..times("TIDEMILL_VECTOR_ROUNDS", 80) as u64 {
            write(round);
            std::thread::yield_now();
        }
        over.store(true, Ordering::SeqCst);
    });
}

/// Upkeep follows from writes alone: an index that is written to without end does not grow.
#[test]
fn an_index_that_is_rewritten_does_not_grow() {
    let mut random = seed(5);
    let options = IndexOptions { m: 6, ef_construction: 24, exact_below: 6_000, ..small() };
    let index = Index::new(8, Metric::Cosine, options).unwrap();
    let cloud = Cloud::new(&mut random, 8, 30);
    let mut most = 0;
    for round in 0..5 {
        for keys in (0..9_000u32).collect::<Vec<_>>().chunks(50) {
            let rows: Vec<([u8; 4], Vec<f32>)> =
                keys.iter().map(|key| (key.to_le_bytes(), cloud.vector(&mut random))).collect();
            let changes = rows.iter().map(|(key, vector)| Change::Upsert { key, vector });
            index.write(&changes.collect::<Vec<_>>()).unwrap();
        }
        while index.due() {
            index.upkeep(2).unwrap();
        }
        let stats = index.stats();
        assert_eq!((stats.live, stats.slots), (9_000, 9_000));
        assert!(stats.codes.is_some());
        if round < 2 {
            most = most.max(stats.bytes);
        }
        assert!(stats.bytes <= most * 3 / 2, "{stats:?}, before {most}");
    }
    for number in 0..8_900u32 {
        assert!(index.delete(&number.to_le_bytes()));
    }
    index.upkeep(1).unwrap();
    let stats = index.stats();
    assert_eq!((stats.live, stats.dead, stats.codes), (100, 0, None));
    assert!(stats.bytes < most / 5, "{stats:?}, before {most}");
}

/// What is about to be sealed does not change any more: a chunk that goes on being filled would be forgotten with what it replaces.
#[test]
fn what_is_sealed_is_not_filled_any_more() {
    let index = Index::new(4, Metric::L2, small()).unwrap();
    let (written, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let number = written.fetch_add(1, Ordering::SeqCst);
                index.upsert(&(number % 500).to_be_bytes(), &[number as f32, 0.0, 0.0, 0.0]).unwrap();
                if number.is_multiple_of(500) {
                    index.rebuild(Builder::Flat, 1).unwrap();
                }
            }
        });
        let grew = (0..3_000).any(|_| {
            let (_, view) = index.begun();
            let seen = written.load(Ordering::SeqCst);
            while written.load(Ordering::SeqCst) < seen + 2 {
                std::thread::yield_now();
            }
            let later = index.view();
            let now = |chunk: &Segment| later.fresh.iter().find(|other| other.id == chunk.id).map(|now| now.count());
            view.fresh.iter().any(|chunk| now(chunk).is_some_and(|now| now != chunk.count()))
        });
        over.store(true, Ordering::SeqCst);
        assert!(!grew, "a chunk grows that is about to be sealed");
    });
}
