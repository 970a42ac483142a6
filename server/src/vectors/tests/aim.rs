//! How many candidates a search keeps that does not say how many, and which of two graphs of dot products is taken.

use super::*;

fn unsaid() -> IndexOptions {
    IndexOptions { ef_search: None, ..small() }
}

fn filled(metric: Metric, options: IndexOptions, rows: &[Vec<f32>]) -> Index {
    let index = Index::new(rows[0].len(), metric, options).unwrap();
    let keys: Vec<[u8; 4]> = (0..rows.len() as u32).map(u32::to_be_bytes).collect();
    let changes = keys.iter().zip(rows).map(|(key, vector)| Change::Upsert { key, vector });
    index.write(&changes.collect::<Vec<_>>()).unwrap();
    index.rebuild(Builder::Flat, 2).unwrap();
    index
}

/// Recall at 10 of walks, with so many candidates or as many as the graph asks for.
fn recall(index: &Index, queries: &[Vec<f32>], ef: Option<usize>) -> f64 {
    let view = index.view();
    let found = |query: &Vec<f32>| {
        let of = |way: Way| view.search(Query { way, ef, ..Query::new(query, 10) }).unwrap().hits;
        let (truth, hits) = (of(Way::Exact), of(Way::Graph));
        hits.iter().filter(|hit| hit.score >= truth[9].score).count()
    };
    queries.iter().map(found).sum::<usize>() as f64 / (10 * queries.len()) as f64
}

fn asked(index: &Index) -> (usize, usize) {
    let view = index.view();
    let body = view.sealed.as_ref().unwrap().body.as_ref().unwrap();
    (body.ef, body.ef_rows)
}

/// Vectors of many directions, in which few candidates find few neighbours.
fn scattered(random: &mut StdRng, dims: usize, count: usize) -> Vec<Vec<f32>> {
    (0..count).map(|_| (0..dims).map(|_| random.random_range(-1.0..1.0f32)).collect()).collect()
}

#[test]
fn searches_keep_as_many_candidates_as_they_need() {
    let mut random = seed(71);
    let rows = scattered(&mut random, 16, 6_000);
    let queries = scattered(&mut random, 16, 150);
    for metric in [Metric::Cosine, Metric::L2] {
        let index = filled(metric, unsaid(), &rows);
        let (ef, of) = asked(&index);
        let (few, found) = (recall(&index, &queries, Some(16)), recall(&index, &queries, None));
        eprintln!("{metric:?}: ef {ef} finds {found:.4}, 16 finds {few:.4}");
        assert_eq!(of, 6_000);
        assert!((33..1_024).contains(&ef) && found > 0.975 && few < 0.95, "{ef} {found} {few}");
    }
}

#[test]
fn what_a_definition_says_is_kept_to() {
    let mut random = seed(72);
    let rows = scattered(&mut random, 16, 3_000);
    let index = filled(Metric::L2, small(), &rows);
    assert_eq!(asked(&index), (16, 3_000));
    let queries = scattered(&mut random, 16, 100);
    let [said, unsaid, same] = [None, Some(200), Some(16)].map(|ef| recall(&index, &queries, ef));
    assert!(said == same && said < unsaid, "{said} {unsaid}");
}

/// An extension keeps the number until the graph has grown by half; a file keeps it, too.
#[test]
fn the_number_of_candidates_outlives_extensions_and_files() {
    let mut random = seed(73);
    let rows = scattered(&mut random, 12, 4_000);
    let folder = tempfile::tempdir().unwrap();
    for home in HOMES {
        let options = IndexOptions { rows: home, ..unsaid() };
        let index = Index::new(12, Metric::Dot, options).unwrap().beside(Some(folder.path()));
        let mut first = (0, 0);
        for (number, vector) in rows.iter().enumerate() {
            index.upsert(&(number as u32).to_be_bytes(), vector).unwrap();
            match number + 1 {
                2_000 => {
                    index.rebuild(Builder::Flat, 1).unwrap();
                    first = asked(&index);
                    assert_eq!(first.1, 2_000);
                }
                2_900 => {
                    index.extend(Builder::Flat, 1).unwrap();
                    assert_eq!(asked(&index), first);
                }
                4_000 => {
                    index.extend(Builder::Flat, 1).unwrap();
                    assert_eq!(asked(&index).1, 4_000);
                }
                _ => {}
            }
        }
        let mut file = Vec::new();
        index.save(3, &mut file).unwrap();
        let expected = Expected { dims: 12, metric: Metric::Dot, options, sequence: 3 };
        let read = (file.len() as u64, &mut &file[..] as &mut dyn std::io::Read);
        let loaded = Index::load(expected, Some(folder.path()), read).unwrap();
        assert_eq!(asked(&loaded), asked(&index));
        let said = Expected { options: IndexOptions { ef_search: Some(9), ..options }, ..expected };
        let read = (file.len() as u64, &mut &file[..] as &mut dyn std::io::Read);
        assert!(Index::load(said, Some(folder.path()), read).is_err());
    }
}

/// Lengths that say nothing about directions, of vectors of many components: with one more component, which makes them equally
/// long, a graph finds half of what it finds without.
#[test]
fn the_better_graph_of_dot_products_is_taken() {
    let mut random = seed(74);
    let cloud = Cloud::new(&mut random, 64, 300);
    let mut rows: Vec<Vec<f32>> = (0..4_000).map(|_| cloud.vector(&mut random)).collect();
    for row in &mut rows {
        let length = random.random_range(0.5..1.5f32);
        row.iter_mut().for_each(|x| *x *= length);
    }
    let queries: Vec<Vec<f32>> = (0..100).map(|_| cloud.vector(&mut random)).collect();
    let index = filled(Metric::Dot, unsaid(), &rows);
    let found = recall(&index, &queries, None);
    let has_tails = index.view().sealed.as_ref().unwrap().body.as_ref().unwrap().has_tails;
    eprintln!("ef {:?}, tails {has_tails}, recall {found:.4}", asked(&index));
    assert!(found > 0.97, "{found}");
}
