//! Values by category: lists by count, mode, entropy and maps. Equal values are one category; beyond a cap the
//! categories with the smallest hash stay.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

use super::bounded::{Finding, Found};
use super::model::{Accuracy, Datum};
use super::number::Outcome;
use super::statistics;

/// Of maps.
const CATEGORIES_MAX: usize = 1000;
/// Of top_k, bottom_k, mode, distinct and entropy.
const VALUES_MAX: usize = 10_000;

/// Equal values and where they stand in the input, the values ascending.
#[derive(Clone, Debug)]
struct Category {
    value: Datum,
    places: Vec<usize>,
}

/// The values, ascending.
pub fn distinct(values: &[Datum]) -> Found {
    let (categories, accuracy) = capped(categories(values), VALUES_MAX);
    Found { value: Datum::List(categories.into_iter().map(|category| category.value).collect()), accuracy }
}

pub fn count_distinct(values: &[Datum]) -> usize {
    categories(values).len()
}

/// By count descending, ties by the smaller value first.
pub fn top_k(values: &[Datum], k: usize) -> Found {
    by_count(values, k, |a, b| b.cmp(&a))
}

/// By count ascending, ties by the smaller value first.
pub fn bottom_k(values: &[Datum], k: usize) -> Found {
    by_count(values, k, |a, b| a.cmp(&b))
}

pub fn mode(values: &[Datum]) -> Found {
    let Found { value, accuracy } = top_k(values, 1);
    match value {
        Datum::List(mut values) => Found { value: values.remove(0), accuracy },
        other => panic!("{other:?} is no list"),
    }
}

pub fn entropy(values: &[Datum]) -> Finding {
    let (categories, accuracy) = capped(categories(values), VALUES_MAX);
    let counts: Vec<usize> = categories.iter().map(|category| category.places.len()).collect();
    let found = statistics::entropy(&counts)?;
    Ok(if matches!(accuracy, Accuracy::Unknown) { Found { accuracy, ..found } } else { found })
}

/// From each category to what `of` says of the values of its rows; one error is an error of the whole.
pub fn map(by: &[Datum], values: &[Datum], of: fn(&[Datum]) -> Outcome) -> Finding {
    let (categories, accuracy) = capped(categories(by), CATEGORIES_MAX);
    let mut pairs = Vec::new();
    for category in categories {
        let of_category: Vec<Datum> = category.places.iter().map(|place| values[*place].clone()).collect();
        pairs.push((category.value, of(&of_category)?));
    }
    Ok(Found { value: Datum::Map(pairs), accuracy })
}

fn by_count(values: &[Datum], k: usize, order: fn(usize, usize) -> Ordering) -> Found {
    let (mut categories, accuracy) = capped(categories(values), VALUES_MAX);
    // The sort is stable, so that equal counts stay in ascending order.
    categories.sort_by(|a, b| order(a.places.len(), b.places.len()));
    Found { value: Datum::List(categories.into_iter().take(k).map(|category| category.value).collect()), accuracy }
}

fn categories(values: &[Datum]) -> Vec<Category> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|a, b| values[*a].order(&values[*b]));
    let mut categories: Vec<Category> = Vec::new();
    for place in places {
        match categories.last_mut() {
            Some(last) if last.value.order(&values[place]) == Ordering::Equal => last.places.push(place),
            _ => categories.push(Category { value: values[place].clone(), places: vec![place] }),
        }
    }
    categories
}

/// Only of text does the page say what is hashed: which others stay is the engine's own matter.
fn capped(mut categories: Vec<Category>, cap: usize) -> (Vec<Category>, Accuracy) {
    if categories.len() <= cap {
        return (categories, Accuracy::Exact);
    }
    let hash = |category: &Category| match &category.value {
        Datum::Text(text) => Some(xxh3_64(text.as_bytes())),
        _ => None,
    };
    if categories.iter().any(|category| hash(category).is_none()) {
        return (categories, Accuracy::Unknown);
    }
    categories.sort_by_key(hash);
    categories.truncate(cap);
    categories.sort_by(|a, b| a.value.order(&b.value));
    (categories, Accuracy::Exact)
}

#[cfg(test)]
mod tests {
    use super::super::number;
    use super::*;

    fn ints(values: &[i64]) -> Vec<Datum> {
        values.iter().map(|value| Datum::Int(*value)).collect()
    }

    fn check(found: Datum, expected: &[i64]) {
        assert!(found.same(&Datum::List(ints(expected))), "{found:?} is not {expected:?}");
    }

    #[test]
    fn ties_go_to_the_smaller_value() {
        let values = ints(&[5, 3, 5, -1, 3, 9]);
        check(top_k(&values, 3).value, &[3, 5, -1]);
        check(bottom_k(&values, 3).value, &[-1, 9, 3]);
        check(top_k(&values, 99).value, &[3, 5, -1, 9]);
        assert!(mode(&values).value.same(&Datum::Int(3)));
        check(distinct(&values).value, &[-1, 3, 5, 9]);
    }

    #[test]
    fn maps_have_ascending_keys() {
        let by = [Datum::Text("b".into()), Datum::Text("a".into()), Datum::Text("b".into())];
        let sums = map(&by, &ints(&[1, 2, 3]), number::sum).expect("sums").value;
        let expected = vec![(by[1].clone(), Datum::Int(2)), (by[0].clone(), Datum::Int(4))];
        assert!(sums.same(&Datum::Map(expected)), "{sums:?}");
        assert!(map(&by, &ints(&[i64::MAX, 2, 1]), number::sum).is_err());
        assert!(map(&by, &ints(&[i64::MAX, 1, 0]), number::sum).is_ok());
    }

    #[test]
    fn beyond_the_cap_the_smallest_hashes_stay() {
        let by: Vec<Datum> = (0..1001).map(|i| Datum::Text(format!("c{i}"))).collect();
        let hash = |value: &Datum| match value {
            Datum::Text(text) => xxh3_64(text.as_bytes()),
            other => panic!("{other:?}"),
        };
        let lost = by.iter().max_by_key(|value| hash(value)).expect("a category");
        let found = map(&by, &by, |of| Ok(Datum::Int(of.len() as i64))).expect("counts");
        let Datum::Map(pairs) = &found.value else { panic!("{found:?}") };
        assert_eq!(pairs.len(), 1000);
        assert!(pairs.iter().all(|(key, _)| !key.same(lost)));
        assert!(pairs.windows(2).all(|pair| pair[0].0.order(&pair[1].0) == Ordering::Less));
        let numbers = ints(&(0..1001).collect::<Vec<i64>>());
        let found = map(&numbers, &numbers, number::sum).expect("sums");
        assert!(matches!(found.accuracy, Accuracy::Unknown));
    }
}
