//! Reads of one view by hand.

use super::super::expression::{Expr, Function, Operator};
use super::super::model::{Aggregate, Window};
use super::super::sample::{SECOND, feature, row, source, view};
use super::*;

const DAY: i64 = 86_400 * SECOND;

/// (event time, x) of one key, ids ascending, arrival at the event time.
fn rows(events: &[(i64, f64)]) -> Vec<Row> {
    let numbered = events.iter().enumerate();
    numbered.map(|(i, (time, x))| row(0, i as u64, "a", *time, i as i64, *time, *x)).collect()
}

fn of(view: &View, rows: &[Row], t: i64) -> Answer {
    let answers = read(view, &source(), rows, &[Datum::Text("a".into())], t, None);
    answers.last().expect("an answer").1.clone()
}

fn check(view: &View, rows: &[Row], t: i64, value: Datum, status: Status) {
    let found = of(view, rows, t);
    assert!(found.value.same(&value) && found.status == status, "at {t}: {found:?}");
}

fn count(window: Window) -> View {
    view(vec![feature("n", Aggregate::Count, window)])
}

fn of_x(aggregate: fn(Expr) -> Aggregate, window: Window) -> View {
    view(vec![feature("f", aggregate(Expr::column("x")), window)])
}

#[test]
fn sliding_is_left_closed_right_open() {
    let rows = rows(&[(-5, 1.0)]);
    let view = count(Window::Sliding { width: 10, hop: None });
    check(&view, &rows, -5, Datum::Int(0), Status::NotFound);
    check(&view, &rows, -4, Datum::Int(1), Status::Present);
    check(&view, &rows, 5, Datum::Int(1), Status::Present);
    check(&view, &rows, 6, Datum::Int(0), Status::Empty);
}

#[test]
fn hop_floors_the_left_edge_also_below_zero() {
    let rows = rows(&[(-20, 1.0)]);
    let view = count(Window::Sliding { width: 10, hop: Some(7) });
    check(&view, &rows, -5, Datum::Int(1), Status::Present);
    check(&view, &rows, -4, Datum::Int(0), Status::Empty);
}

#[test]
fn tumbling_is_the_last_complete_bucket() {
    let rows = rows(&[(-1, 1.0), (0, 1.0), (9, 1.0), (10, 1.0)]);
    let view = count(Window::Tumbling(10));
    check(&view, &rows, 9, Datum::Int(1), Status::Present);
    let before_epoch = self::rows(&[(-15, 1.0)]);
    check(&view, &before_epoch, -5, Datum::Int(1), Status::Present);
    check(&view, &before_epoch, -11, Datum::Int(0), Status::Empty);
    check(&view, &rows, 10, Datum::Int(2), Status::Present);
    check(&view, &rows, 20, Datum::Int(1), Status::Present);
    check(&view, &rows, 30, Datum::Int(0), Status::Empty);
}

#[test]
fn last_n_counts_nulls_and_follows_where() {
    let rows = rows(&[(1, 1.0), (2, 2.0), (3, f64::NAN), (4, -4.0)]);
    let mut view = of_x(Aggregate::Sum, Window::LastN(2));
    check(&view, &rows, 5, Datum::Float(-4.0), Status::Present);
    check(&view, &rows, 4, Datum::Float(2.0), Status::Present);
    view.features[0].filter = Some(Expr::binary(Operator::Greater, Expr::column("x"), Expr::int(0)));
    check(&view, &rows, 5, Datum::Float(3.0), Status::Present);
    assert_eq!(of(&view, &rows, 5).newest, Some(2));
}

#[test]
fn statuses_and_defaults() {
    let rows = rows(&[(1, f64::NAN)]);
    let mut view = of_x(Aggregate::Last, Window::Ttl(DAY));
    check(&view, &rows, 2, Datum::Null, Status::Empty);
    view.features[0].default = Some(Datum::Float(7.0));
    check(&view, &rows, 2, Datum::Float(7.0), Status::Defaulted);
    check(&view, &rows, 1, Datum::Float(7.0), Status::NotFound);
    let one = self::rows(&[(1, 1.0)]);
    check(&of_x(Aggregate::Variance, Window::Lifetime), &one, 2, Datum::Null, Status::Present);
    let infinities = self::rows(&[(1, f64::INFINITY), (2, f64::NEG_INFINITY)]);
    check(&of_x(Aggregate::Sum, Window::Lifetime), &infinities, 3, Datum::Null, Status::Error);
}

#[test]
fn offset_is_the_window_as_seen_earlier() {
    let rows = rows(&[(10, 1.0)]);
    let mut view = count(Window::Lifetime);
    view.features[0].offset = 5;
    check(&view, &rows, 15, Datum::Int(0), Status::Empty);
    check(&view, &rows, 16, Datum::Int(1), Status::Present);
}

#[test]
fn equal_times_are_ordered_by_id_then_partition_in_any_arrival_order() {
    let mut rows: Vec<Row> = (0..6).map(|i| row(i % 2, u64::from(i / 2), "a", 1, 0, 9, f64::from(i))).collect();
    for (i, id) in [5, 3, 1, 0, 2, 4].into_iter().enumerate() {
        rows[i].columns[2] = Datum::Int(id);
    }
    check(&of_x(Aggregate::First, Window::Lifetime), &rows, 2, Datum::Float(3.0), Status::Present);
    rows.reverse();
    check(&of_x(Aggregate::First, Window::Lifetime), &rows, 2, Datum::Float(3.0), Status::Present);
    check(&of_x(Aggregate::Last, Window::Lifetime), &rows, 2, Datum::Float(0.0), Status::Present);
}

#[test]
fn late_counts_in_the_past_and_duplicates_never() {
    let mut rows = rows(&[(100 * DAY, 1.0), (DAY, 2.0), (DAY, 4.0)]);
    rows[2].columns[2] = Datum::Int(1);
    let view = of_x(Aggregate::Sum, Window::Sliding { width: DAY, hop: None });
    assert_eq!(accept::fates(&view, &source(), &rows), [Fate::Applied, Fate::Late, Fate::Duplicate]);
    check(&view, &rows, 2 * DAY, Datum::Float(2.0), Status::Present);
    check(&view, &rows, 100 * DAY + 1, Datum::Float(1.0), Status::Present);
}

#[test]
fn derived_takes_the_worst_status_only_when_null() {
    let mut view = of_x(Aggregate::Sum, Window::Sliding { width: 10, hop: None });
    let nullif = Expr::call(Function::NullIf, &[Expr::column("f"), Expr::int(0)]);
    view.derived = vec![("d".into(), Expr::binary(Operator::Divide, Expr::int(1), nullif))];
    check(&view, &rows(&[(1, 4.0)]), 2, Datum::Float(0.25), Status::Present);
    check(&view, &rows(&[(1, 4.0)]), 20, Datum::Null, Status::Empty);
    check(&view, &rows(&[(1, 0.0)]), 2, Datum::Null, Status::Present);
    check(&view, &[], 2, Datum::Null, Status::NotFound);
}

#[test]
fn a_default_feeds_a_derived_feature() {
    let mut view = of_x(Aggregate::Sum, Window::Sliding { width: 10, hop: None });
    view.features[0].default = Some(Datum::Float(2.0));
    view.derived = vec![("d".into(), Expr::binary(Operator::Add, Expr::column("f"), Expr::float(1.0)))];
    check(&view, &[], 2, Datum::Float(3.0), Status::Present);
}

#[test]
fn the_worst_input_is_by_severity() {
    let infinities = self::rows(&[(1, f64::INFINITY), (2, f64::NEG_INFINITY)]);
    let mut view = of_x(Aggregate::Sum, Window::Lifetime);
    view.features.push(feature("g", Aggregate::Max(Expr::column("x")), Window::Ttl(1)));
    view.derived = vec![("d".into(), Expr::binary(Operator::Add, Expr::column("g"), Expr::column("f")))];
    check(&view, &infinities, 9, Datum::Null, Status::Error);
    view.derived[0].1 = Expr::binary(Operator::Add, Expr::column("g"), Expr::column("g"));
    check(&view, &infinities, 9, Datum::Null, Status::Empty);
}

#[test]
fn a_second_delivery_of_everything_changes_no_value() {
    let once = rows(&[(3, 0.1), (1, 0.2), (3, 0.3)]);
    let mut twice = once.clone();
    for (i, row) in once.iter().enumerate() {
        twice.push(Row { offset: 3 + i as u64, arrival: 9, ..row.clone() });
    }
    for aggregate in [Aggregate::Sum, Aggregate::First, Aggregate::Last, Aggregate::Variance] {
        let view = of_x(aggregate, Window::Lifetime);
        assert!(of(&view, &once, 4).same(&of(&view, &twice, 4)));
        assert_eq!(accept::ledger(&view, &source(), &twice).duplicate, 3);
    }
}

fn with_row(view: &View, rows: &[Row], t: i64, x: f64) -> Answer {
    let request = Request::from([("x".into(), Datum::Float(x)), ("event".into(), Datum::Int(3))]);
    let answers = read(view, &source(), rows, &[Datum::Text("a".into())], t, Some(&request));
    answers.last().expect("an answer").1.clone()
}

fn check_with_row(view: &View, rows: &[Row], t: i64, x: f64, expected: (Datum, Status, Option<i64>)) {
    let found = with_row(view, rows, t, x);
    assert!(found.same(&Answer::exact(expected.0, expected.1, expected.2)), "at {t}: {found:?}");
}

#[test]
fn the_row_of_the_request_counts_where_it_is_included() {
    let rows = rows(&[(10, 1.0), (20, 2.0)]);
    let mut view = of_x(Aggregate::Sum, Window::Sliding { width: 10, hop: None });
    check_with_row(&view, &rows, 20, 7.0, (Datum::Float(1.0), Status::Present, Some(10)));
    view.features[0].include_request = true;
    check_with_row(&view, &rows, 20, 7.0, (Datum::Float(8.0), Status::Present, Some(20)));
    check_with_row(&view, &rows, 20, f64::NAN, (Datum::Float(1.0), Status::Present, Some(10)));
    check_with_row(&view, &rows, 10, 7.0, (Datum::Float(7.0), Status::NotFound, Some(10)));
    check_with_row(&view, &rows, 99, f64::NAN, (Datum::Null, Status::Empty, None));
    check(&view, &rows, 20, Datum::Float(1.0), Status::Present);
    view.features[0].offset = 1;
    check_with_row(&view, &rows, 20, 7.0, (Datum::Float(1.0), Status::Present, Some(10)));
}

#[test]
fn the_row_of_the_request_must_pass_both_filters() {
    let positive = || Some(Expr::binary(Operator::Greater, Expr::column("x"), Expr::int(0)));
    let mut view = count(Window::Lifetime);
    view.features[0].include_request = true;
    view.filter = positive();
    check_with_row(&view, &[], 5, 1.0, (Datum::Int(1), Status::NotFound, Some(5)));
    check_with_row(&view, &[], 5, 0.0, (Datum::Int(0), Status::NotFound, None));
    view.features[0].filter = positive();
    view.filter = None;
    check_with_row(&view, &[], 5, f64::NAN, (Datum::Int(0), Status::NotFound, None));
}

#[test]
fn the_row_takes_a_place_of_the_last_n_and_is_the_newest() {
    let rows = rows(&[(10, 1.0), (20, 2.0)]);
    let mut view = of_x(Aggregate::First, Window::LastN(2));
    view.features[0].include_request = true;
    check_with_row(&view, &rows, 21, 7.0, (Datum::Float(2.0), Status::Present, Some(21)));
    check_with_row(&view, &rows, 21, f64::NAN, (Datum::Float(2.0), Status::Present, Some(20)));
    view.features[0].aggregate = Aggregate::TimeSinceLast;
    check_with_row(&view, &rows, 21, 7.0, (Datum::Float(0.0), Status::Present, Some(21)));
    view.features[0].include_request = false;
    check_with_row(&view, &rows, 1_000_020, 7.0, (Datum::Float(1.0), Status::Present, Some(20)));
    view.features[0].offset = 500_000;
    check_with_row(&view, &rows, 1_000_020, 7.0, (Datum::Float(0.5), Status::Present, Some(20)));
}

#[test]
fn the_row_has_its_key_and_time_from_the_read() {
    let mut view = count(Window::Lifetime);
    view.features[0].aggregate = Aggregate::Last(Expr::column("card"));
    view.features[0].include_request = true;
    check_with_row(&view, &[], 5, 1.0, (Datum::Text("a".into()), Status::NotFound, Some(5)));
    view.features[0].aggregate = Aggregate::Last(Expr::column("happened"));
    check_with_row(&view, &[], 5, 1.0, (Datum::Time(5), Status::NotFound, Some(5)));
}

#[test]
fn a_row_with_one_null_argument_is_skipped() {
    let rows = rows(&[(1, 1.0), (2, f64::NAN), (3, 4.0)]);
    let mut view = count(Window::Lifetime);
    let zero_is_null = Expr::call(Function::NullIf, &[Expr::column("event"), Expr::int(0)]);
    view.features[0].aggregate = Aggregate::ArgMin { x: Expr::column("x"), by: zero_is_null };
    check(&view, &rows, 9, Datum::Float(4.0), Status::Present);
    check(&view, &rows, 3, Datum::Null, Status::Empty);
}

#[test]
fn derived_from_a_bounded_value_is_loose_except_for_nulls() {
    let mut view = of_x(Aggregate::Median, Window::Lifetime);
    view.derived = vec![("d".into(), Expr::IsNull { x: Box::new(Expr::column("f")), negated: false })];
    let rows = rows(&[(1, 4.0)]);
    assert!(!of(&view, &rows, 2).accepts(&Datum::Bool(true)));
    view.derived[0].1 = Expr::binary(Operator::Add, Expr::column("f"), Expr::column("f"));
    assert!(of(&view, &rows, 2).accepts(&Datum::Float(7.95)));
    assert!(!of(&view, &rows, 1).accepts(&Datum::Float(7.95)));
}

/// A table of `x` per card; below 0 is a delete, 9 and more is filtered.
fn table() -> (Source, View) {
    let below = |bound: i64| Some(Expr::binary(Operator::Less, Expr::column("x"), Expr::int(bound)));
    let source = Source { table: true, delete_when: below(0), ..source() };
    let mut view = of_x(Aggregate::Last, Window::Lifetime);
    view.filter = below(9);
    (source, view)
}

fn check_table(change: fn(&mut View), events: &[(i64, f64)], t: i64, value: Datum, status: Status) {
    let (source, mut view) = table();
    change(&mut view);
    // Known long after, so that nothing is from the future.
    let rows: Vec<Row> = rows(events).into_iter().map(|row| Row { arrival: 1000 * DAY, ..row }).collect();
    let answers = read(&view, &source, &rows, &[Datum::Text("a".into())], t, None);
    let found = &answers.last().expect("an answer").1;
    assert!(found.value.same(&value) && found.status == status, "at {t}: {found:?}");
}

#[test]
fn of_a_table_only_the_newest_row_counts() {
    let rows = [(20, 2.0), (10, 1.0)];
    check_table(|_| (), &rows, 10, Datum::Null, Status::NotFound);
    check_table(|_| (), &rows, 20, Datum::Float(1.0), Status::Present);
    check_table(|_| (), &rows, 21, Datum::Float(2.0), Status::Present);
    let count = |view: &mut View| view.features[0].aggregate = Aggregate::Count;
    check_table(count, &rows, 21, Datum::Int(1), Status::Present);
    // The row of 20 is outside, but still hides that of 10.
    let offset = |view: &mut View| view.features[0].offset = 5;
    check_table(offset, &rows, 25, Datum::Float(1.0), Status::Present);
    let short = |view: &mut View| view.features[0].window = Window::Ttl(5);
    check_table(short, &[(20, 2.0), (19, 1.0)], 26, Datum::Null, Status::Empty);
    let zero =
        |view: &mut View| view.features[0].filter = Some(Expr::binary(Operator::Less, Expr::column("x"), Expr::int(2)));
    check_table(zero, &rows, 30, Datum::Null, Status::Empty);
}

#[test]
fn deletes_and_filtered_rows_hide_older_ones() {
    check_table(|_| (), &[(10, 1.0), (20, -1.0)], 21, Datum::Null, Status::Empty);
    check_table(|_| (), &[(10, 1.0), (20, -1.0)], 20, Datum::Float(1.0), Status::Present);
    check_table(|_| (), &[(10, 1.0), (20, -1.0), (30, 3.0)], 31, Datum::Float(3.0), Status::Present);
    check_table(|_| (), &[(10, 1.0), (20, 9.0)], 21, Datum::Null, Status::Empty);
    check_table(|_| (), &[(20, -1.0)], 21, Datum::Null, Status::Empty);
    check_table(|_| (), &[(20, 9.0)], 21, Datum::Null, Status::NotFound);
    check_table(|_| (), &[(20, f64::NAN)], 21, Datum::Null, Status::NotFound);
    let default = |view: &mut View| view.features[0].default = Some(Datum::Float(5.0));
    check_table(default, &[(20, -1.0)], 21, Datum::Float(5.0), Status::Defaulted);
}

#[test]
fn a_delete_is_applied_and_late_like_any_row() {
    let (source, mut view) = table();
    view.features[0].window = Window::Ttl(DAY);
    let rows = rows(&[(100 * DAY, 1.0), (DAY, -1.0), (100 * DAY, 9.0), (DAY, 9.0), (100 * DAY, -1.0)]);
    let rows: Vec<Row> = rows.into_iter().map(|row| Row { arrival: 100 * DAY, ..row }).collect();
    let expected = [Fate::Applied, Fate::Late, Fate::Filtered, Fate::Filtered, Fate::Applied];
    assert_eq!(accept::fates(&view, &source, &rows), expected);
    // By a where that no delete passes, too.
    view.filter = Some(Expr::binary(Operator::Less, Expr::column("x"), Expr::int(-5)));
    let expected = [Fate::Filtered, Fate::Applied, Fate::Filtered, Fate::Filtered, Fate::Applied];
    assert_eq!(accept::fates(&view, &source, &rows), expected);
}
