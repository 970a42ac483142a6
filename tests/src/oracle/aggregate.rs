//! One aggregate over the inputs that a feature picked: rows without a null argument in the total order, oldest
//! first. It takes at least one input; what nothing gives is `Aggregate::of_nothing`.

use super::bounded::{self, Finding};
use super::model::{Aggregate, Datum};
use super::{categories, number, statistics, vectors};

/// What one event contributes: as many values as the aggregate has arguments.
#[derive(Clone, Debug)]
pub struct Input {
    pub event_time: i64,
    pub values: Vec<Datum>,
}

/// `t` is the moment at which the window is seen, offset included.
pub fn aggregate(aggregate: &Aggregate, inputs: &[Input], t: i64) -> Finding {
    let x = argument(inputs, 0);
    let by = argument(inputs, 1);
    match aggregate {
        Aggregate::Count | Aggregate::CountOf(_) => Ok(Datum::Int(inputs.len() as i64).into()),
        Aggregate::Sum(_) => Ok(number::sum(&x)?.into()),
        Aggregate::Avg(_) => Ok(number::average(&x)?.into()),
        Aggregate::Variance(_) => Ok(number::variance(&x)?.into()),
        Aggregate::Stddev(_) => Ok(number::stddev(&x)?.into()),
        Aggregate::Min(_) => Ok(sorted(&x)[0].clone().into()),
        Aggregate::Max(_) => Ok(sorted(&x)[x.len() - 1].clone().into()),
        Aggregate::First(_) => Ok(x[0].clone().into()),
        Aggregate::Last(_) | Aggregate::VectorLast(_) => Ok(x[x.len() - 1].clone().into()),
        Aggregate::FirstK { k, distinct, .. } => Ok(take(x, *k, *distinct).into()),
        Aggregate::LastK { k, distinct, .. } => Ok(take(x.into_iter().rev().collect(), *k, *distinct).into()),
        Aggregate::Distinct(_) => Ok(categories::distinct(&x)),
        Aggregate::CountDistinct(_) => Ok(bounded::near_count(categories::count_distinct(&x))),
        Aggregate::Quantile { q, .. } => statistics::quantile(&sorted(&x), *q),
        Aggregate::Median(_) => statistics::quantile(&sorted(&x), 0.5),
        Aggregate::Histogram { edges, .. } => Ok(statistics::histogram(&x, edges).into()),
        Aggregate::TopK { k, .. } => Ok(categories::top_k(&x, *k)),
        Aggregate::BottomK { k, .. } => Ok(categories::bottom_k(&x, *k)),
        Aggregate::Mode(_) => Ok(categories::mode(&x)),
        Aggregate::Skewness(_) => statistics::skewness(&x),
        Aggregate::Kurtosis(_) => statistics::kurtosis(&x),
        Aggregate::Any(_) => Ok(Datum::Bool(x.iter().any(is_true)).into()),
        Aggregate::All(_) => Ok(Datum::Bool(x.iter().all(is_true)).into()),
        Aggregate::ArgMax { .. } => Ok(at_greatest(&x, &by, |candidate, best| candidate.order(best).is_ge()).into()),
        Aggregate::ArgMin { .. } => Ok(at_greatest(&x, &by, |candidate, best| candidate.order(best).is_le()).into()),
        Aggregate::Rate { a, b, .. } => Ok(number::rate(&x, &by, a, b)?.into()),
        Aggregate::DecayedSum { half_life, .. } => statistics::decayed_sum(&times(inputs), &x, *half_life, t),
        Aggregate::DecayedCount { half_life } => {
            let ones = vec![Datum::Int(1); inputs.len()];
            statistics::decayed_sum(&times(inputs), &ones, *half_life, t)
        }
        Aggregate::CountBy(_) => categories::map(&x, &x, |rows| Ok(Datum::Int(rows.len() as i64))),
        Aggregate::SumBy { .. } => categories::map(&by, &x, number::sum),
        Aggregate::AvgBy { .. } => categories::map(&by, &x, number::average),
        Aggregate::Entropy(_) => categories::entropy(&x),
        Aggregate::TimeSinceLast => statistics::seconds(i128::from(t) - newest(inputs), 1),
        Aggregate::MeanGap => mean_gap(inputs),
        Aggregate::MaxGap => max_gap(inputs),
        Aggregate::Trend(_) => statistics::trend(&times(inputs), &x),
        Aggregate::VectorSum(_) => Ok(vectors::sum(&x)?.into()),
        Aggregate::VectorAvg(_) => Ok(vectors::average(&x)?.into()),
    }
}

/// Empty where the aggregate has fewer arguments.
fn argument(inputs: &[Input], index: usize) -> Vec<Datum> {
    inputs.iter().filter_map(|input| input.values.get(index).cloned()).collect()
}

fn times(inputs: &[Input]) -> Vec<i64> {
    inputs.iter().map(|input| input.event_time).collect()
}

fn newest(inputs: &[Input]) -> i128 {
    i128::from(inputs[inputs.len() - 1].event_time)
}

fn sorted(inputs: &[Datum]) -> Vec<Datum> {
    let mut values = inputs.to_vec();
    values.sort_by(Datum::order);
    values
}

/// The first `k`; of equal values only the first, if distinct.
fn take(inputs: Vec<Datum>, k: usize, only_distinct: bool) -> Datum {
    let mut kept: Vec<Datum> = Vec::new();
    for value in inputs {
        if !only_distinct || kept.iter().all(|other| other.order(&value).is_ne()) {
            kept.push(value);
        }
    }
    kept.truncate(k);
    Datum::List(kept)
}

fn is_true(value: &Datum) -> bool {
    matches!(value, Datum::Bool(true))
}

/// The value beside the best `by`; a later one that is as good takes its place.
fn at_greatest(x: &[Datum], by: &[Datum], is_as_good: fn(&Datum, &Datum) -> bool) -> Datum {
    let mut best = 0;
    for place in 1..by.len() {
        if is_as_good(&by[place], &by[best]) {
            best = place;
        }
    }
    x[best].clone()
}

/// Null below two events.
fn mean_gap(inputs: &[Input]) -> Finding {
    if inputs.len() < 2 {
        return Ok(Datum::Null.into());
    }
    statistics::seconds(newest(inputs) - i128::from(inputs[0].event_time), inputs.len() - 1)
}

fn max_gap(inputs: &[Input]) -> Finding {
    let times = times(inputs);
    let gaps = times.windows(2).map(|pair| i128::from(pair[1]) - i128::from(pair[0]));
    match gaps.max() {
        Some(gap) => statistics::seconds(gap, 1),
        None => Ok(Datum::Null.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::Expr;
    use super::*;

    fn x() -> Expr {
        Expr::column("x")
    }

    fn inputs(rows: &[(i64, &[i64])]) -> Vec<Input> {
        let values = |row: &[i64]| row.iter().map(|i| Datum::Int(*i)).collect();
        rows.iter().map(|(event_time, row)| Input { event_time: *event_time, values: values(row) }).collect()
    }

    fn check_at(kind: Aggregate, rows: &[(i64, &[i64])], t: i64, expected: Datum) {
        let found = aggregate(&kind, &inputs(rows), t).expect("no error");
        assert!(found.value.same(&expected), "{} is {found:?}", kind.sql());
    }

    fn check(kind: Aggregate, values: &[i64], expected: &[i64]) {
        let rows: Vec<Input> = values.iter().map(|i| Input { event_time: 0, values: vec![Datum::Int(*i)] }).collect();
        let expected = Datum::List(expected.iter().map(|i| Datum::Int(*i)).collect());
        let found = aggregate(&kind, &rows, 1).expect("no error");
        assert!(found.value.same(&expected), "{} is {found:?}", kind.sql());
    }

    #[test]
    fn lists() {
        check(Aggregate::FirstK { x: x(), k: 2, distinct: false }, &[3, 3, 1], &[3, 3]);
        check(Aggregate::FirstK { x: x(), k: 2, distinct: true }, &[3, 3, 1], &[3, 1]);
        check(Aggregate::LastK { x: x(), k: 9, distinct: false }, &[3, 3, 1], &[1, 3, 3]);
        check(Aggregate::LastK { x: x(), k: 2, distinct: true }, &[1, 3, 1], &[1, 3]);
        check(Aggregate::Distinct(x()), &[3, -1, 3, 1], &[-1, 1, 3]);
        check(Aggregate::TopK { x: x(), k: 1 }, &[3, -1, 3, -1], &[-1]);
    }

    #[test]
    fn the_newest_of_equal_maxima_wins() {
        let rows: &[(i64, &[i64])] = &[(0, &[10, 5]), (0, &[11, 5]), (1, &[12, 4]), (2, &[13, 4])];
        let arg_max = || Aggregate::ArgMax { x: x(), by: x() };
        check_at(arg_max(), rows, 3, Datum::Int(11));
        check_at(Aggregate::ArgMin { x: x(), by: x() }, rows, 3, Datum::Int(13));
        check_at(arg_max(), &rows[2..3], 3, Datum::Int(12));
    }

    #[test]
    fn gaps_are_seconds_rounded_once() {
        let rows: &[(i64, &[i64])] = &[(0, &[]), (0, &[]), (100_000, &[]), (1_000_000, &[])];
        check_at(Aggregate::TimeSinceLast, rows, 1_100_000, Datum::Float(0.1));
        check_at(Aggregate::MeanGap, rows, 9, Datum::Float(1.0 / 3.0));
        check_at(Aggregate::MaxGap, rows, 9, Datum::Float(0.9));
        check_at(Aggregate::MaxGap, &rows[..2], 9, Datum::Float(0.0));
        check_at(Aggregate::MaxGap, &rows[..1], 9, Datum::Null);
        check_at(Aggregate::MeanGap, &rows[..1], 9, Datum::Null);
        check_at(Aggregate::DecayedCount { half_life: 100_000 }, &rows[3..], 1_100_000, Datum::Float(0.5));
    }

    #[test]
    fn booleans() {
        let of = |flags: &[bool]| {
            let of_flag = |flag: &bool| Input { event_time: 0, values: vec![Datum::Bool(*flag)] };
            let inputs: Vec<Input> = flags.iter().map(of_flag).collect();
            [Aggregate::Any(x()), Aggregate::All(x())]
                .map(|kind| matches!(aggregate(&kind, &inputs, 1).expect("no error").value, Datum::Bool(true)))
        };
        assert_eq!(of(&[true, false]), [true, false]);
        assert_eq!(of(&[true]), [true, true]);
        assert_eq!(of(&[false]), [false, false]);
    }
}
