//! Scans by codes find what scans by vectors find: where codes cannot tell vectors apart, where what passes lies far away, among
//! fresh vectors beside deletes and replacements, and on the disk.

use super::*;

/// Rows in tight groups, in which vectors differ by far less than a step of their codes.
fn crowded(random: &mut StdRng, dims: usize, count: usize) -> Vec<Vec<f32>> {
    let cloud = Cloud::new(random, dims, 6);
    let near = |centre: &Vec<f32>, random: &mut StdRng| -> Vec<f32> {
        centre.iter().map(|x| x + 2e-4 * random.random_range(-1.0..1.0f32)).collect()
    };
    (0..count).map(|number| near(&cloud.centres[number % 6], random)).collect()
}

/// With so many candidates a walk would take longer than any scan here.
const EF: Option<usize> = Some(2_000);

#[track_caller]
fn same(index: &Index, query: Query, of: &str) {
    let (view, query) = (index.view(), Query { ef: EF, ..query });
    let planned = view.search(query).unwrap();
    let exact = view.search(Query { way: Way::Exact, ..query }).unwrap();
    assert_eq!(planned.explained.plan, Plan::Scan, "{of}");
    assert_eq!(planned.hits, exact.hits, "{of}");
}

fn marked(slots: &[u32], one_in: usize) -> Bitmap {
    slots.iter().copied().step_by(one_in).collect()
}

#[test]
fn codes_that_cannot_tell_are_not_believed() {
    let mut random = seed(61);
    let folder = tempfile::tempdir().unwrap();
    for (metric, home) in METRICS.into_iter().flat_map(|metric| HOMES.map(|home| (metric, home))) {
        let index = Index::new(40, metric, small_in(home)).unwrap().beside(Some(folder.path()));
        let rows = crowded(&mut random, 40, 3_000);
        let put = |(number, vector): (usize, &Vec<f32>)| index.upsert(&(number as u32).to_be_bytes(), vector).unwrap();
        let slots: Vec<u32> = rows.iter().enumerate().map(put).collect();
        index.rebuild(Builder::Flat, 2).unwrap();
        let marks = [marked(&slots, 3), marked(&slots, 10), marked(&slots, 100)];
        for (round, query) in crowded(&mut random, 40, 60).iter().enumerate() {
            let k = [1, 10, 40][round % 3];
            let filter = Some(Filter::Slots(&marks[round / 3 % 3]));
            same(&index, Query { filter, ..Query::new(query, k) }, &format!("{metric:?} {home:?} {k}"));
        }
    }
}

/// What passes is the farther half, or tenth: at its border lie many vectors that are about as near.
#[test]
fn what_lies_far_away_is_found_too() {
    let mut random = seed(62);
    for metric in METRICS {
        let index = Index::new(48, metric, small()).unwrap();
        let cloud = Cloud::new(&mut random, 48, 10);
        let rows: Vec<Vec<f32>> = (0..6_000).map(|_| cloud.vector(&mut random)).collect();
        let put = |(number, vector): (usize, &Vec<f32>)| index.upsert(&(number as u32).to_be_bytes(), vector).unwrap();
        let slots: Vec<u32> = rows.iter().enumerate().map(put).collect();
        index.rebuild(Builder::Flat, 2).unwrap();
        for _ in 0..12 {
            let query = cloud.vector(&mut random);
            let mut order: Vec<(f64, u32)> =
                slots.iter().map(|slot| (score(metric, &query, &rows[*slot as usize]), *slot)).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0));
            for passing in [3_000, 600] {
                let far: Bitmap = order.iter().take(passing).map(|(_, slot)| *slot).collect();
                same(&index, Query { filter: Some(Filter::Slots(&far)), ..Query::new(&query, 10) }, "far");
            }
        }
    }
}

/// Fresh vectors have codes as soon as their chunk is full: beside deletes, replacements and later builds every view finds what it
/// would find by vectors, an earlier view too.
#[test]
fn fresh_vectors_are_compared_by_codes() {
    let mut random = seed(63);
    let folder = tempfile::tempdir().unwrap();
    for (metric, home) in METRICS.into_iter().flat_map(|metric| HOMES.map(|home| (metric, home))) {
        let index = Index::new(24, metric, small_in(home)).unwrap().beside(Some(folder.path()));
        let rows = crowded(&mut random, 24, 2_500);
        for (number, vector) in rows.iter().enumerate() {
            index.upsert(&(number as u32).to_be_bytes(), vector).unwrap();
            if number == 1_000 {
                index.rebuild(Builder::Flat, 1).unwrap();
            }
        }
        let marks: Bitmap = (0..2_500).filter(|slot| slot % 2 == 0 || *slot > 1_100).collect();
        let (mut earlier, mut fresh) = (Vec::new(), 0);
        for round in 0..4 {
            for _ in 0..120 {
                let key = random.random_range(0..2_500u32).to_be_bytes();
                match random.random_bool(0.3) {
                    true => assert!(index.delete(&key) || index.slot(&key).is_none()),
                    false => assert!(index.upsert(&key, &rows[random.random_range(0..2_500)]).is_ok()),
                }
            }
            earlier.push(index.view());
            match round {
                1 => index.extend(Builder::Flat, 1).unwrap(),
                2 => index.rebuild(Builder::Flat, 1).unwrap(),
                _ => {}
            }
            for query in crowded(&mut random, 24, 6) {
                // More than are sealed: whatever is found there, fresh ones are looked at as well.
                for view in earlier.iter().chain([&index.view()]) {
                    let query = Query { filter: Some(Filter::Slots(&marks)), ..Query::new(&query, 20) };
                    let exact = view.search(Query { way: Way::Exact, ..query }).unwrap();
                    let walked = view.search(Query { way: Way::Graph, ef: Some(2_000), ..query }).unwrap();
                    let sealed = view.sealed.as_ref().unwrap();
                    let is_fresh = |hit: &&Hit| sealed.row_of(hit.slot).is_none_or(|row| !sealed.lives(row, view.seen));
                    for hit in exact.hits.iter().filter(is_fresh) {
                        assert!(walked.hits.contains(hit), "{metric:?} {home:?} {round}: {hit:?}");
                        fresh += 1;
                    }
                }
            }
        }
        assert!(fresh > 500, "{fresh}");
    }
}

/// A chunk that is full has codes of eight bits beside its vectors, and memory counts them.
#[test]
fn codes_of_fresh_vectors_take_memory() {
    let mut random = seed(64);
    let cloud = Cloud::new(&mut random, 52, 20);
    let index = Index::new(52, Metric::Cosine, small()).unwrap();
    for number in 0..1_000u32 {
        index.upsert(&number.to_be_bytes(), &cloud.vector(&mut random)).unwrap();
    }
    index.rebuild(Builder::Flat, 1).unwrap();
    for number in 1_000..1_640u32 {
        index.upsert(&number.to_be_bytes(), &cloud.vector(&mut random)).unwrap();
    }
    let view = index.view();
    assert_eq!(view.fresh.len(), 10);
    let short: usize = view.fresh.iter().map(|chunk| chunk.short.as_ref().unwrap().own_bytes()).sum();
    assert!((640 * 64..640 * 66).contains(&short), "{short}");
    let all: usize = view.fresh.iter().map(|chunk| chunk.bytes()).sum();
    assert!(all >= short + 640 * 52 * 4);
}
