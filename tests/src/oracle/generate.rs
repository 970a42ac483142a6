//! Random cases: definitions, a log, and reads at the edges of what the log holds.
//! Everything is drawn as independent small values and put together by one map, so that proptest can
//! drop rows, features and reads one by one when it shrinks.

use proptest::prelude::*;
use proptest::sample::select;

use super::calendar;
use super::generate_definitions;
use super::generate_log::{self, Indices, KEYS, Recipe};
use super::generate_sql::VECTOR_COLUMN;
use super::model::{Datum, Row, Source, View, Window};
use super::read::Request;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

#[derive(Clone, Debug)]
pub struct Case {
    pub sources: Vec<Source>,
    pub views: Vec<View>,
    /// The log of all sources, each row with the index of its source. NaN floats occur: where a format has none,
    /// null means the same.
    pub rows: Vec<(usize, Row)>,
    pub reads: Vec<Question>,
}

/// One read.
#[derive(Clone, Debug)]
pub struct Question {
    /// The index of a view.
    pub view: usize,
    pub key: Vec<Datum>,
    pub t: i64,
    /// A value for each column of the source, but for the key and the event time.
    pub request: Request,
}

impl Case {
    /// The rows of one source, in log order: what `accept` and `read` take.
    pub fn rows_of(&self, source: &str) -> Vec<Row> {
        let is_of = |row: &&(usize, Row)| self.sources[row.0].name == source;
        self.rows.iter().filter(is_of).map(|(_, row)| row.clone()).collect()
    }

    pub fn source_of(&self, view: &View) -> &Source {
        self.sources.iter().find(|source| source.name == view.source).expect("a view of a source of the case")
    }
}

/// One to 400 rows, in clusters, so that shrinking drops many at once. A test does well to allow 20,000
/// shrinking steps (`max_shrink_iters`).
pub fn case() -> impl Strategy<Value = Case> {
    let start = select(vec![1_700_000_000 * SECOND, 0, -3000 * SECOND, 951_782_400 * SECOND]);
    let clusters = prop::collection::vec(prop::collection::vec(generate_log::recipe(), 1..=20), 1..=20);
    let reads = prop::collection::vec(draw(), 1..=40);
    let definitions = (generate_definitions::sources(), generate_definitions::views());
    (clusters, reads, definitions, start, 1..=4_u8).prop_map(|(clusters, reads, (sources, views), start, keys)| {
        assemble(sources, views, start, keys, &clusters.concat(), &reads)
    })
}

fn assemble(
    sources: Vec<Source>,
    views: Vec<(View, u8)>,
    start: i64,
    keys: u8,
    recipes: &[Recipe],
    reads: &[Read],
) -> Case {
    let of_source = |(mut view, index): (View, u8)| {
        view.source = sources[usize::from(index) % sources.len()].name.clone();
        view
    };
    let views: Vec<View> = views.into_iter().map(of_source).collect();
    let rows = generate_log::log(&sources, &views, start, keys, recipes);
    let mut case = Case { sources, views, rows, reads: Vec::new() };
    case.reads = reads.iter().map(|read| case.read(read, start)).collect();
    case
}

/// How one read comes about: beside the edge of a feature's window around one of the rows.
#[derive(Clone, Debug)]
struct Read {
    view: u8,
    feature: u8,
    row: u16,
    edge: u8,
    distance: i64,
    key: u8,
    values: Indices,
}

fn draw() -> impl Strategy<Value = Read> {
    let distance = select(vec![0, 1, -1]);
    let places = (0..3_u8, 0..5_u8, any::<u16>());
    (places, 0..20_u8, distance, any::<u8>(), generate_log::values_of_columns()).prop_map(
        |((view, feature, row), edge, distance, key, values)| Read { view, feature, row, edge, distance, key, values },
    )
}

impl Case {
    fn read(&self, read: &Read, start: i64) -> Question {
        let view_index = usize::from(read.view) % self.views.len();
        let view = &self.views[view_index];
        let feature = &view.features[usize::from(read.feature) % view.features.len()];
        let rows = self.rows_of(&view.source);
        let row = rows.get(usize::from(read.row) % rows.len().max(1));
        let anchor = match row.map(|row| &row.columns[0]) {
            Some(Datum::Time(time)) => *time,
            _ => start,
        };
        let t = edge(&feature.window, feature.offset, anchor, read.edge) + read.distance;
        let key = match row {
            // Mostly the key of that very row, if it has one.
            Some(row) if read.key < 200 => key_of(view, self.source_of(view), row),
            _ => None,
        };
        let key = key.unwrap_or_else(|| key_number(view, usize::from(read.key)));
        Question { view: view_index, key, t, request: request(view, self.source_of(view), &read.values) }
    }
}

fn request(view: &View, source: &Source, indices: &Indices) -> Request {
    let mut values = generate_log::values(indices, 0, 0);
    let vector = source.field_index(VECTOR_COLUMN.0).expect("a field of every source");
    // A broken one would make the whole request invalid, which is no matter of values.
    values[vector] = generate_log::vector(indices[15]);
    let fields = source.fields.iter().map(|(name, _)| name.clone()).zip(values);
    let is_given = |name: &String| *name != source.event_time && !view.entity_keys.contains(name);
    fields.filter(|(name, _)| is_given(name)).collect()
}

/// The moment at which the event at `anchor` enters or leaves the window, or another telling one.
fn edge(window: &Window, offset: i64, anchor: i64, edge: u8) -> i64 {
    let (enters, leaves) = match window {
        Window::Sliding { width, hop: None } | Window::Ttl(width) => (anchor, anchor + width),
        // The first T whose left edge is beyond the event.
        Window::Sliding { width, hop: Some(hop) } => (anchor, (anchor.div_euclid(*hop) + 1) * hop + width),
        Window::Tumbling(width) => {
            let end_of_bucket = (anchor.div_euclid(*width) + 1) * width;
            (end_of_bucket, end_of_bucket + width)
        }
        Window::Session(gap) => (anchor, anchor + gap),
        Window::Calendar(period, zone) => (anchor, calendar::next_start(*period, zone, anchor)),
        Window::Lifetime | Window::LastN(_) => (anchor, anchor + DAY),
    };
    match edge {
        0 | 1 => anchor,
        2..=8 => leaves + offset,
        9..=12 => enters + offset,
        13 => leaves,
        14..=17 => anchor + SECOND,
        18 => anchor + 1000 * DAY,
        _ => anchor - 30 * DAY,
    }
}

fn key_of(view: &View, source: &Source, row: &Row) -> Option<Vec<Datum>> {
    let column = |name: &String| row.columns[source.field_index(name).expect("a declared field")].clone();
    let key: Vec<Datum> = view.entity_keys.iter().map(column).collect();
    if key.iter().any(Datum::is_null) { None } else { Some(key) }
}

/// The last of them is of no row.
fn key_number(view: &View, index: usize) -> Vec<Datum> {
    let (text, int, more) = KEYS.get(index % (KEYS.len() + 1)).copied().unwrap_or(("nobody", 99, "none"));
    let value = |name: &String| match name.as_str() {
        "key_text" => Datum::Text(text.into()),
        "key_int" => Datum::Int(int),
        _ => Datum::Text(more.into()),
    };
    view.entity_keys.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, TestRng, TestRunner};

    use super::super::model::Status;
    use super::super::{accept, read, toml};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is drawn is well typed, and the ledger adds up.
        #[test]
        fn cases_can_be_read(case in case()) {
            for view in &case.views {
                let source = case.source_of(view);
                let rows = case.rows_of(&source.name);
                let ledger = accept::ledger(view, source, &rows);
                let sum = ledger.applied + ledger.filtered + ledger.keyless + ledger.late + ledger.duplicate;
                prop_assert_eq!(sum, accept::source_ledger(source, &rows).accepted);
            }
            for Question { view, key, t, request } in &case.reads {
                let view = &case.views[*view];
                let source = case.source_of(view);
                let rows = case.rows_of(&source.name);
                let answers = read::read(view, source, &rows, key, *t, None);
                prop_assert_eq!(answers.len(), view.features.len() + view.derived.len());
                prop_assert!(answers.iter().all(|(_, answer)| answer.newest.is_none_or(|newest| newest < *t)));
                let answers = read::read(view, source, &rows, key, *t, Some(request));
                prop_assert!(answers.iter().all(|(_, answer)| answer.newest.is_none_or(|newest| newest <= *t)));
                prop_assert!(answers.iter().all(|(_, answer)| answer.accepts(&answer.value)));
            }
            prop_assert!(toml::project(&case.sources, &case.views).ends_with("]\n"));
        }

        /// Late is only a count: what the record may forget lies outside every window of a live read.
        #[test]
        fn forgetting_late_events_changes_no_live_read(case in case()) {
            for view in &case.views {
                let source = case.source_of(view);
                let rows = case.rows_of(&source.name);
                let fates = accept::fates(view, source, &rows);
                let kept = rows.iter().zip(&fates).filter(|(_, fate)| **fate == accept::Fate::Applied);
                let kept: Vec<Row> = kept.map(|(row, _)| row.clone()).collect();
                let accepted = rows.iter().filter_map(|row| accept::accept(source, row));
                let now = accepted.map(|event| event.event_time).max().unwrap_or(0) + 1;
                for index in 0..KEYS.len() {
                    let key = key_number(view, index);
                    let all = read::read(view, source, &rows, &key, now, None);
                    let without_late = read::read(view, source, &kept, &key, now, None);
                    for ((name, a), (_, b)) in all.iter().zip(&without_late) {
                        prop_assert!(a.same(b), "{}: {:?} is not {:?}", name, a, b);
                    }
                }
            }
        }
    }

    /// Prints what 200 cases hold; fails when something that they exist for does not occur at all.
    #[test]
    fn cases_hit_what_they_aim_at() {
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Default::default()));
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..200 {
            let case = case().new_tree(&mut runner).expect("a case").current();
            for view in &case.views {
                let source = case.source_of(view);
                for fate in accept::fates(view, source, &case.rows_of(&source.name)) {
                    *seen.entry(format!("{fate:?}")).or_default() += 1;
                }
            }
            for Question { view, key, t, request } in &case.reads {
                let view = &case.views[*view];
                let source = case.source_of(view);
                let answers = read::read(view, source, &case.rows_of(&source.name), key, *t, Some(request));
                for (i, (_, answer)) in answers.iter().enumerate() {
                    *seen.entry(format!("{:?}", answer.status)).or_default() += 1;
                    if let (Some(feature), false) = (view.features.get(i), answer.value.is_null()) {
                        let sql = feature.aggregate.sql();
                        *seen.entry(sql.split('(').next().unwrap_or_default().to_string()).or_default() += 1;
                    }
                }
            }
        }
        println!("{seen:#?}");
        for fate in ["DeadLetter", "Keyless", "Duplicate", "Filtered", "Late", "Applied"] {
            assert!(seen.contains_key(fate), "no {fate}");
        }
        for status in [Status::Present, Status::Defaulted, Status::Empty, Status::NotFound, Status::Error] {
            assert!(seen.contains_key(&format!("{status:?}")), "no {status:?}");
        }
        let kinds = "count sum avg min max variance stddev first last first_k last_k distinct count_distinct quantile \
            median histogram top_k bottom_k mode skewness kurtosis any all arg_max arg_min rate decayed_sum \
            decayed_count count_by sum_by avg_by entropy time_since_last mean_gap max_gap trend vector_sum vector_avg \
            vector_last";
        for kind in kinds.split_whitespace() {
            assert!(seen.contains_key(kind), "no value of {kind}");
        }
    }
}
