//! From a key and a time T to the answers of a view: pick events, aggregate, then the derived features.
//! Applied and late events count alike: a late one lies outside every window of a live read, and is
//! still seen by a read in the past. Duplicates, filtered and keyless events and dead letters never count.

use super::accept::{self, Event, Fate};
use super::aggregate::aggregate;
use super::model::{Answer, Datum, Feature, Row, Source, Status, View, Window};

/// `rows` are all rows of the view's source, in log order. Features in order, then derived ones.
pub fn read(view: &View, source: &Source, rows: &[Row], key: &[Datum], t: i64) -> Vec<(String, Answer)> {
    answer(view, source, &events_of(view, source, rows, key), t)
}

/// The applied and late events of a key, in the total order. For many reads of one key.
pub fn events_of(view: &View, source: &Source, rows: &[Row], key: &[Datum]) -> Vec<Event> {
    let fates = accept::fates(view, source, rows);
    let mut events = Vec::new();
    for (row, fate) in rows.iter().zip(fates) {
        if fate != Fate::Applied && fate != Fate::Late {
            continue;
        }
        let event = accept::accept(source, row).expect("an accepted row");
        if same_key(&accept::key_of(view, source, &event), key) {
            events.push(event);
        }
    }
    events.sort_by(|a, b| {
        let ids = match (&a.event_id, &b.event_id) {
            (Some(a), Some(b)) => a.order(b),
            _ => std::cmp::Ordering::Equal,
        };
        let positions = (a.partition, a.offset).cmp(&(b.partition, b.offset));
        a.event_time.cmp(&b.event_time).then(ids).then(positions)
    });
    events
}

/// The answers at `t` over the events that `events_of` gave.
pub fn answer(view: &View, source: &Source, events: &[Event], t: i64) -> Vec<(String, Answer)> {
    let is_known = events.iter().any(|event| event.event_time < t);
    let mut answers: Vec<(String, Answer)> = Vec::new();
    for feature in &view.features {
        answers.push((feature.name.clone(), feature_answer(feature, view, source, events, t, is_known)));
    }
    for (name, expression) in &view.derived {
        let find = |input: &str| {
            let found = answers.iter().find(|(name, _)| name == input);
            &found.unwrap_or_else(|| panic!("no feature {input}")).1
        };
        let inputs: Vec<&Answer> = expression.columns().into_iter().map(find).collect();
        let value = expression.eval(&|input| find(input).value.clone());
        let worst = inputs.iter().map(|input| input.status).max_by_key(|status| status.severity());
        let status = if value.is_null() { worst.unwrap_or(Status::Present) } else { Status::Present };
        let newest = inputs.iter().filter_map(|input| input.newest).max();
        answers.push((name.clone(), Answer { value, status, newest }));
    }
    answers
}

fn feature_answer(feature: &Feature, view: &View, source: &Source, events: &[Event], t: i64, is_known: bool) -> Answer {
    let inputs = inputs_of(feature, view, source, events, t);
    let newest = inputs.iter().map(|(event_time, _)| *event_time).max();
    if inputs.is_empty() {
        let status = match (is_known, &feature.default) {
            (false, _) => Status::NotFound,
            (true, Some(_)) => Status::Defaulted,
            (true, None) => Status::Empty,
        };
        let value = feature.default.clone().unwrap_or(feature.aggregate.of_nothing());
        return Answer { value, status, newest };
    }
    let values: Vec<Datum> = inputs.into_iter().map(|(_, value)| value).collect();
    match aggregate(&feature.aggregate, &values) {
        Ok(value) => Answer { value, status: Status::Present, newest },
        Err(_) => Answer { value: Datum::Null, status: Status::Error, newest },
    }
}

/// Event time and argument of each contributing event, oldest first: `where`, then window, then nulls.
fn inputs_of(feature: &Feature, view: &View, source: &Source, events: &[Event], t: i64) -> Vec<(i64, Datum)> {
    let passing = events.iter().filter(|event| accept::passes(&feature.filter, view, source, event));
    let in_window = pick(&feature.window, passing.collect(), t - feature.offset);
    let mut inputs = Vec::new();
    for event in in_window {
        let argument = match feature.aggregate.argument() {
            // count() counts events, whatever they hold.
            None => Datum::Bool(true),
            Some(x) => x.eval(&|name| accept::column(view, source, event, name)).normalised(),
        };
        if !argument.is_null() {
            inputs.push((event.event_time, argument));
        }
    }
    inputs
}

fn pick<'a>(window: &Window, events: Vec<&'a Event>, t: i64) -> Vec<&'a Event> {
    let (from, to) = match window {
        Window::Sliding { width, hop: None } | Window::Ttl(width) => (t - width, t),
        Window::Sliding { width, hop: Some(hop) } => ((t - width).div_euclid(*hop) * hop, t),
        Window::Tumbling(width) => (t.div_euclid(*width) * width - width, t.div_euclid(*width) * width),
        Window::Lifetime | Window::LastN(_) => (i64::MIN, t),
    };
    let held = |event: &&Event| from <= event.event_time && event.event_time < to;
    let mut events: Vec<&Event> = events.into_iter().filter(held).collect();
    if let Window::LastN(n) = window {
        events.drain(..events.len().saturating_sub(*n));
    }
    events
}

/// By type and value.
fn same_key(a: &[Datum], b: &[Datum]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(&b.clone().normalised()))
}

#[cfg(test)]
mod tests {
    use super::super::expression::{Expr, Function, Operator};
    use super::super::model::Aggregate;
    use super::super::sample::{SECOND, feature, row, source, view};
    use super::*;

    const DAY: i64 = 86_400 * SECOND;

    /// (event time, x) of one key, ids ascending, arrival at the event time.
    fn rows(events: &[(i64, f64)]) -> Vec<Row> {
        let numbered = events.iter().enumerate();
        numbered.map(|(i, (time, x))| row(0, i as u64, "a", *time, i as i64, *time, *x)).collect()
    }

    fn of(view: &View, rows: &[Row], t: i64) -> Answer {
        let answers = read(view, &source(), rows, &[Datum::Text("a".into())], t);
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
}
