//! One aggregate over the inputs that a feature picked: present values in the total order, oldest first.
//! Every function here takes at least one input; what nothing gives is `Aggregate::of_nothing`.

use std::cmp::Ordering;

use super::model::{Aggregate, Datum};
use super::number::{self, Outcome};

pub fn aggregate(aggregate: &Aggregate, inputs: &[Datum]) -> Outcome {
    match aggregate {
        Aggregate::Count | Aggregate::CountOf(_) => Ok(Datum::Int(inputs.len() as i64)),
        Aggregate::Sum(_) => number::sum(inputs),
        Aggregate::Avg(_) => number::average(inputs),
        Aggregate::Variance(_) => number::variance(inputs),
        Aggregate::Stddev(_) => number::stddev(inputs),
        Aggregate::Min(_) => Ok(sorted(inputs)[0].clone()),
        Aggregate::Max(_) => Ok(sorted(inputs)[inputs.len() - 1].clone()),
        Aggregate::First(_) => Ok(inputs[0].clone()),
        Aggregate::Last(_) => Ok(inputs[inputs.len() - 1].clone()),
        Aggregate::FirstK { k, distinct, .. } => Ok(take(inputs.to_vec(), *k, *distinct)),
        Aggregate::LastK { k, distinct, .. } => Ok(take(inputs.iter().rev().cloned().collect(), *k, *distinct)),
        Aggregate::Distinct(_) => Ok(Datum::List(distinct(sorted(inputs)))),
        Aggregate::CountDistinct(_) => Ok(Datum::Int(distinct(sorted(inputs)).len() as i64)),
    }
}

fn sorted(inputs: &[Datum]) -> Vec<Datum> {
    let mut values = inputs.to_vec();
    values.sort_by(Datum::order);
    values
}

/// The first `k`; of equal values only the first, if distinct.
fn take(inputs: Vec<Datum>, k: usize, only_distinct: bool) -> Datum {
    let values = if only_distinct { distinct(inputs) } else { inputs };
    Datum::List(values.into_iter().take(k).collect())
}

/// Keeps the first of equal values and the order.
fn distinct(inputs: Vec<Datum>) -> Vec<Datum> {
    let mut kept: Vec<Datum> = Vec::new();
    for value in inputs {
        if kept.iter().all(|other| other.order(&value) != Ordering::Equal) {
            kept.push(value);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::expression::Expr;
    use super::*;

    fn check(kind: Aggregate, inputs: &[i64], expected: &[i64]) {
        let inputs: Vec<Datum> = inputs.iter().map(|i| Datum::Int(*i)).collect();
        let expected = Datum::List(expected.iter().map(|i| Datum::Int(*i)).collect());
        let found = aggregate(&kind, &inputs).expect("no error");
        assert!(found.same(&expected), "{} is {found:?}", kind.sql());
    }

    #[test]
    fn lists() {
        let x = || Expr::column("x");
        check(Aggregate::FirstK { x: x(), k: 2, distinct: false }, &[3, 3, 1], &[3, 3]);
        check(Aggregate::FirstK { x: x(), k: 2, distinct: true }, &[3, 3, 1], &[3, 1]);
        check(Aggregate::LastK { x: x(), k: 9, distinct: false }, &[3, 3, 1], &[1, 3, 3]);
        check(Aggregate::LastK { x: x(), k: 2, distinct: true }, &[1, 3, 1], &[1, 3]);
        check(Aggregate::Distinct(x()), &[3, -1, 3, 1], &[-1, 1, 3]);
    }
}
