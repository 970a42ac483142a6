//! How much graphs find: ours and that of `hnsw_rs`, on each metric, with codes that suffice and such that do not.

use super::*;

struct Case {
    dims: usize,
    rows: usize,
    metric: Metric,
    builder: Builder,
    threads: usize,
}

/// Recall at 10, of queries that are not in the index.
fn recall(case: &Case, vectors: &[Vec<f32>], queries: &[Vec<f32>], ef: usize) -> (f64, &'static str) {
    let options = IndexOptions { m: 12, ef_construction: 100, ef_search: Some(48), exact_below: 0, ..small() };
    let index = Index::new(case.dims, case.metric, options).unwrap();
    for (number, vector) in vectors.iter().enumerate() {
        index.upsert(&(number as u32).to_be_bytes(), vector).unwrap();
    }
    index.rebuild(case.builder, case.threads).unwrap();
    let (mut found, mut wanted) = (0, 0);
    for query in queries {
        let of = |way: Way| index.search(Query { way, ef: Some(ef), ..Query::new(query, 10) }).unwrap().hits;
        let (truth, hits) = (of(Way::Exact), of(Way::Graph));
        assert_eq!(hits.len(), 10);
        // Equal scores are equally good.
        found += hits.iter().filter(|hit| hit.score >= truth[9].score).count();
        wanted += 10;
    }
    (f64::from(found as u32) / f64::from(wanted), index.stats().codes.unwrap())
}

fn vectors(random: &mut StdRng, cloud: &Cloud, count: usize) -> Vec<Vec<f32>> {
    (0..count).map(|_| cloud.vector(random)).collect()
}

#[test]
fn graphs_find_nearly_all_on_each_metric() {
    let mut random = seed(21);
    for metric in METRICS {
        for (builder, threads) in [(Builder::Flat, 1), (Builder::Flat, 2), (Builder::HnswRs, 1)] {
            let case = Case { dims: 24, rows: 2_000, metric, builder, threads };
            let cloud = Cloud::new(&mut random, case.dims, 40);
            let (rows, queries) = (vectors(&mut random, &cloud, case.rows), vectors(&mut random, &cloud, 100));
            let (recall, codes) = recall(&case, &rows, &queries, 64);
            eprintln!("{metric:?} {builder:?} {threads}: {recall:.4} on {codes}");
            assert!(recall > 0.96, "{metric:?} {builder:?}: {recall}");
            assert_eq!(codes, "int8");
        }
    }
}

/// One component that is a thousand times greater than the rest takes all steps of int8; f16 keeps ten bits of each.
#[test]
fn codes_that_lose_too_much_are_not_used() {
    let mut random = seed(22);
    let cloud = Cloud::new(&mut random, 16, 20);
    let mut make = |count: usize| -> Vec<Vec<f32>> {
        let mut rows = vectors(&mut random, &cloud, count);
        rows.iter_mut().enumerate().for_each(|(number, row)| row[0] = if number % 2 == 0 { 3_000.0 } else { -3_000.0 });
        rows
    };
    let (rows, queries) = (make(1_000), make(60));
    let case = Case { dims: 16, rows: 1_000, metric: Metric::L2, builder: Builder::Flat, threads: 1 };
    let (recall, codes) = recall(&case, &rows, &queries, 100);
    eprintln!("outliers: {recall:.4} on {codes}");
    assert_ne!(codes, "int8");
    assert!(recall > 0.9, "{recall}");
}

#[test]
fn equal_vectors_do_not_hide_others() {
    let mut random = seed(23);
    let cloud = Cloud::new(&mut random, 10, 30);
    let mut rows = vectors(&mut random, &cloud, 2_000);
    let copy = rows[0].clone();
    rows.extend(std::iter::repeat_n(copy, 500));
    let queries = vectors(&mut random, &cloud, 60);
    let case = Case { dims: 10, rows: 2_500, metric: Metric::L2, builder: Builder::Flat, threads: 1 };
    let (recall, _) = recall(&case, &rows, &queries, 64);
    assert!(recall > 0.93, "{recall}");
}

/// Ties go by key, however many there are.
#[test]
fn equal_scores_go_by_key() {
    for metric in METRICS {
        let index = Index::new(3, metric, small()).unwrap();
        for number in (0..500u32).rev() {
            index.upsert(&number.to_be_bytes(), &[0.1, 0.2, 0.3]).unwrap();
        }
        index.rebuild(Builder::Flat, 1).unwrap();
        let answer = index.search(Query { way: Way::Exact, ..Query::new(&[1.0, 0.5, 0.1], 40) }).unwrap();
        let keys: Vec<u32> =
            answer.hits.iter().map(|hit| u32::from_be_bytes(hit.key[..].try_into().unwrap())).collect();
        assert_eq!(keys, (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn the_planner_scans_walks_and_gives_up() {
    let mut random = seed(24);
    let cloud = Cloud::new(&mut random, 8, 100);
    let options = IndexOptions { m: 8, ef_construction: 40, ef_search: Some(10), exact_below: 0, ..small() };
    let index = Index::new(8, Metric::L2, options).unwrap();
    let rows = vectors(&mut random, &cloud, 6_000);
    let slots: Vec<u32> =
        rows.iter().enumerate().map(|(n, v)| index.upsert(&(n as u32).to_be_bytes(), v).unwrap()).collect();
    index.rebuild(Builder::Flat, 2).unwrap();
    let query = cloud.vector(&mut random);
    let plan = |marked: &Bitmap| {
        let filter = Some(Filter::Slots(marked));
        let answer = index.search(Query { filter, ..Query::new(&query, 5) }).unwrap();
        assert_eq!(answer.hits.len(), 5.min(marked.count()));
        assert!(answer.hits.iter().all(|hit| marked.get(hit.slot)));
        answer.explained.plan
    };
    assert_eq!(plan(&slots.iter().copied().collect()), Plan::Traverse);
    assert_eq!(plan(&slots.iter().copied().filter(|slot| slot % 100 == 0).collect()), Plan::Scan);
    assert_eq!(plan(&slots.iter().copied().take(3).collect()), Plan::Scan);
    // The farther half of all: a walk from the query outwards would take long, and nothing around its start passes.
    let mut far: Vec<(f64, u32)> =
        slots.iter().map(|slot| (score(Metric::L2, &query, &rows[*slot as usize]), *slot)).collect();
    far.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(plan(&far.iter().take(3_000).map(|(_, slot)| *slot).collect()), Plan::Scan);
    // The nearer third: few of all, but all that is around.
    assert_eq!(plan(&far.iter().skip(4_000).map(|(_, slot)| *slot).collect()), Plan::Traverse);
    // Less than is asked for is to be found by a walk that has no budget: it sees that, and all of it is scanned.
    let marked: Bitmap = far.iter().take(3).map(|(_, slot)| *slot).collect();
    let asked = Query { way: Way::Graph, filter: Some(Filter::Slots(&marked)), ..Query::new(&query, 5) };
    let answer = index.search(asked).unwrap();
    assert_eq!((answer.hits.len(), answer.explained.plan), (3, Plan::Abandoned));
}
