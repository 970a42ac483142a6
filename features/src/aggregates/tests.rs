//! The laws that every aggregate obeys, and the values of hard cases.

use proptest::prelude::*;

use super::*;
use crate::codec::Cursor;
use crate::value::{DataType, Value};

pub(super) fn edge(newest: bool, k: usize, distinct: bool) -> Edge {
    Edge { newest, k, distinct }
}

/// Every kind over every type of argument that it treats in a way of its own.
pub(super) fn all() -> Vec<Aggregate> {
    use super::Kind::*;
    use crate::value::DataType::{Bool, Float64, Int64, Text, Vector};
    let decimal = DataType::Decimal { precision: 20, scale: 2 };
    let edges = || Histogram([-0.3, 0.0, 0.2].map(Real::new).to_vec().into());
    let numbers = [Sum, Avg, Min, Max, Quantile(Real::new(0.5)), edges(), Decayed(3), Decayed(1_000_000)];
    let floats = [Variance, Stddev, Skewness, Kurtosis, Trend];
    let any = [
        One(edge(false, 1, false)),
        One(edge(true, 1, false)),
        Many(edge(false, 3, false)),
        Many(edge(true, 3, true)),
        Distinct,
        CountDistinct,
        TopK(2),
        BottomK(2),
        Mode,
        Entropy,
        CountBy,
    ];
    let mut all = Vec::new();
    for kind in numbers {
        for input in [Int64, Float64, decimal.clone()] {
            all.push(aggregate(kind.clone(), input));
        }
    }
    all.extend(floats.iter().flat_map(|kind| [Int64, Float64].map(|input| aggregate(kind.clone(), input))));
    all.extend(any.iter().flat_map(|kind| [Int64, Text].map(|input| aggregate(kind.clone(), input))));
    all.extend([Any, All].map(|kind| aggregate(kind, Bool)));
    all.extend([VectorSum, VectorAvg].map(|kind| aggregate(kind, Vector(2))));
    all.extend(
        [Count, TimeSinceLast, MeanGap, Decayed(60)].map(|kind| Aggregate { input: None, ..aggregate(kind, Int64) }),
    );
    for (kind, input, second) in [
        (ArgMax, Text, Float64),
        (ArgMin, Text, Int64),
        (Rate(Real::new(0.5), Real::new(2.0)), Int64, Float64),
        (Rate(Real::new(0.1), Real::new(0.0)), Float64, decimal),
        (SumBy, Float64, Text),
        (AvgBy, Int64, Int64),
    ] {
        all.push(Aggregate { second: Some(second), ..aggregate(kind, input) });
    }
    all
}

pub(super) fn aggregate(kind: Kind, input: DataType) -> Aggregate {
    Aggregate { kind, input: Some(input), second: None, id_type: None }
}

/// A value of a type out of a number: few different ones, so that they meet.
fn value_of(data_type: &DataType, number: f64) -> Value<'static> {
    match data_type {
        DataType::Bool => Value::Bool(number > 0.0),
        DataType::Int64 => Value::Int64((number * 10.0) as i64),
        DataType::Decimal { .. } => Value::Decimal((number * 100.0) as i128),
        DataType::Text => Value::Text(format!("{number:.1}").into()),
        DataType::Vector(_) => Value::List(vec![Value::Float64(f64::from(number as f32)), Value::Float64(0.5)]),
        _ => Value::Float64(number),
    }
}

pub(super) fn cell(aggregate: &Aggregate, events: &[(EventOrder<'static>, f64)]) -> Cell {
    let mut cell = Cell::new(aggregate);
    for (order, number) in events {
        let first = value_of(aggregate.input.as_ref().unwrap_or(&DataType::Int64), *number);
        let second = value_of(aggregate.second.as_ref().unwrap_or(&DataType::Int64), number * 0.5);
        let terms = Terms { first: &first, second: &second };
        cell.update(aggregate, order.time, || order.to_owned(), terms);
    }
    cell
}

pub(super) fn bytes(cell: &Cell) -> Vec<u8> {
    let mut out = Vec::new();
    cell.encode(&mut out);
    out
}

fn floats() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-5i32..5).prop_map(|v| f64::from(v) / 10.0),
        1 => any::<f64>().prop_filter("no NaN in records", |v| !v.is_nan()).prop_map(|v| v + 0.0),
    ]
}

pub(super) type Events = Vec<(EventOrder<'static>, f64)>;

fn events() -> impl Strategy<Value = Events> {
    let one = (prop_oneof![0i64..6, -10_000_000_000i64..10_000_000_000], floats());
    prop::collection::vec(one, 0..24).prop_map(|list| {
        let place = |(offset, (time, value)): (usize, (i64, f64))| {
            (EventOrder { time, offset: offset as u64, ..EventOrder::default() }, value)
        };
        list.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]

    #[test]
    fn order_and_grouping_do_not_matter(
        (list, shuffled) in events().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        cuts in (0usize..24, 0usize..24),
    ) {
        for aggregate in all() {
            let whole = cell(&aggregate, &list);
            let first = cuts.0.min(cuts.1).min(shuffled.len());
            let second = cuts.0.max(cuts.1).min(shuffled.len());
            let [a, b, c] = [&shuffled[..first], &shuffled[first..second], &shuffled[second..]].map(|part| cell(&aggregate, part));
            let mut left = a.clone();
            left.merge(&b);
            left.merge(&c);
            let mut right = c;
            right.merge(&b);
            right.merge(&a);
            prop_assert_eq!(bytes(&whole), bytes(&left), "{:?}", aggregate);
            prop_assert_eq!(bytes(&whole), bytes(&right), "{:?}", aggregate);
        }
    }

    #[test]
    fn stored_cells_come_back(list in events()) {
        for aggregate in all() {
            let whole = cell(&aggregate, &list);
            let stored = bytes(&whole);
            let mut cursor = Cursor::new(&stored);
            let back = Cell::decode(&mut cursor, &aggregate).unwrap();
            prop_assert!(cursor.is_empty());
            prop_assert_eq!(bytes(&back), stored);
            match (whole.finish(&aggregate, 20_000_000_000), back.finish(&aggregate, 20_000_000_000)) {
                (Ok(a), Ok(b)) => prop_assert!(a.same(&b)),
                (a, b) => prop_assert_eq!(a.err(), b.err()),
            }
        }
    }

    #[test]
    fn damaged_cells_do_not_panic(garbage: Vec<u8>) {
        for aggregate in all() {
            if let Ok(cell) = Cell::decode(&mut Cursor::new(&garbage), &aggregate) {
                let _ = cell.finish(&aggregate, 0);
            }
        }
    }

    /// The greatest gap is built from runs beside one another, in either direction.
    #[test]
    fn gaps_of_neighbouring_runs(mut times in prop::collection::vec(-50i64..50, 0..24), cut in 0usize..24) {
        times.sort();
        let aggregate = Aggregate { input: None, ..aggregate(Kind::MaxGap, DataType::Int64) };
        let run = |times: &[i64]| {
            let events: Events = times.iter().map(|t| (EventOrder { time: *t, ..EventOrder::default() }, 0.0)).collect();
            cell(&aggregate, &events)
        };
        let whole = run(&times);
        let (old, new) = times.split_at(cut.min(times.len()));
        let mut upward = run(old);
        upward.merge(&run(new));
        let newest_first: Vec<i64> = new.iter().rev().copied().collect();
        let mut downward = run(&newest_first);
        downward.merge(&run(old));
        prop_assert_eq!(bytes(&whole), bytes(&upward));
        prop_assert_eq!(bytes(&whole), bytes(&downward));
        let greatest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        let expected = greatest.map_or(Value::Null, |gap| Value::Float64(gap as f64 / 1e6));
        prop_assert!(whole.finish(&aggregate, 0).unwrap().same(&expected));
        let stored = bytes(&whole);
        let mut cursor = Cursor::new(&stored);
        let back = Cell::decode(&mut cursor, &aggregate).unwrap();
        prop_assert!(cursor.is_empty() && bytes(&back) == stored);
    }
}

pub(super) fn finish(kind: Kind, input: DataType, values: &[Value<'static>]) -> Finished {
    let aggregate = aggregate(kind, input);
    let mut cell = Cell::new(&aggregate);
    for (i, value) in values.iter().enumerate() {
        let order = || EventOrder { time: i as i64, ..EventOrder::default() };
        cell.update(&aggregate, i as i64, order, Terms::of(value));
    }
    cell.finish(&aggregate, values.len() as i64)
}

#[test]
fn hard_numbers() {
    let float = |values: &[f64], kind| {
        finish(kind, DataType::Float64, &values.iter().map(|v| Value::Float64(*v)).collect::<Vec<_>>())
    };
    let is = |finished: Finished, expected: f64| {
        assert!(finished.clone().unwrap().same(&Value::Float64(expected)), "{finished:?}")
    };
    is(float(&[0.1; 10], Kind::Sum), 1.0);
    is(float(&[1e308, -1e308, 1.0], Kind::Sum), 1.0);
    is(float(&[f64::INFINITY, 1.0], Kind::Avg), f64::INFINITY);
    is(float(&[1e9 + 0.1, 1e9 + 0.2, 1e9 + 0.3], Kind::Variance), 0.00999999284744509);
    assert_eq!(float(&[f64::INFINITY, f64::NEG_INFINITY], Kind::Sum).err(), Some(NoValue::Undefined));
    assert_eq!(float(&[f64::INFINITY, 1.0], Kind::Variance).err(), Some(NoValue::Undefined));
    assert_eq!(float(&[1e308, 1e308], Kind::Sum).err(), Some(NoValue::Overflow));
    assert!(float(&[1.0], Kind::Stddev).unwrap().is_null());
    let ints = [i64::MAX, 1].map(Value::Int64);
    assert_eq!(finish(Kind::Sum, DataType::Int64, &ints).err(), Some(NoValue::Overflow));
    is(finish(Kind::Avg, DataType::Int64, &ints), 4611686018427387904.0);
}

#[test]
fn decimals_sum_to_38_digits() {
    let money = DataType::Decimal { precision: 38, scale: 2 };
    let most = power_of_ten_less_one();
    let sum = finish(Kind::Sum, money.clone(), &[Value::Decimal(most), Value::Decimal(most), Value::Decimal(-most)]);
    assert!(sum.unwrap().same(&Value::Decimal(most)));
    let over = finish(Kind::Sum, money.clone(), &[Value::Decimal(most), Value::Decimal(1)]);
    assert_eq!(over.err(), Some(NoValue::Overflow));
    let mean = finish(Kind::Avg, money, &[Value::Decimal(105), Value::Decimal(106)]).unwrap();
    assert!(mean.same(&Value::Float64(1.055)));
}

fn power_of_ten_less_one() -> i128 {
    crate::value::power_of_ten(38) - 1
}

#[test]
fn distinct_beyond_its_cap_keeps_the_smallest_hashes() {
    let text = |i: usize| Value::Text(format!("value {i}").into());
    let aggregate = aggregate(Kind::Distinct, DataType::Text);
    let mut forward = Cell::new(&aggregate);
    let mut backward = Cell::new(&aggregate);
    let count = DISTINCT_MAX + 5;
    for i in 0..count {
        forward.update(&aggregate, 0, EventOrder::default, Terms::of(&text(i)));
        backward.update(&aggregate, 0, EventOrder::default, Terms::of(&text(count - 1 - i)));
    }
    assert_eq!(bytes(&forward), bytes(&backward));
    assert!(
        forward.is_capped()
            && matches!(forward.finish(&aggregate, 0), Ok(Value::List(list)) if list.len() == DISTINCT_MAX)
    );
}

#[test]
fn moments_of_known_samples() {
    let ints = |values: &[i64], kind| {
        finish(kind, DataType::Int64, &values.iter().map(|v| Value::Int64(*v)).collect::<Vec<_>>())
    };
    let near = |finished: Finished, expected: f64| match finished {
        Ok(Value::Float64(found)) => {
            assert!((found - expected).abs() <= expected.abs() * 1e-15, "{found}, not {expected}")
        }
        other => panic!("{other:?}"),
    };
    // By hand: mean 4, m2 = 10, m3 = 36, m4 = 202.
    near(ints(&[1, 2, 3, 4, 10], Kind::Skewness), 36.0 / libm::pow(10.0, 1.5));
    near(ints(&[1, 2, 3, 4, 10], Kind::Kurtosis), -0.212);
    near(ints(&[-1, -2, -3, -4, -10], Kind::Skewness), -36.0 / libm::pow(10.0, 1.5));
    assert!(ints(&[7, 7, 7], Kind::Skewness).unwrap().is_null());
    assert!(ints(&[7], Kind::Kurtosis).unwrap().is_null());
    near(ints(&[0, 2, 4, 6], Kind::Trend), 2e6);
    assert!(ints(&[1], Kind::Trend).unwrap().is_null());
    near(ints(&[1, 1, 1, 2], Kind::Entropy), 0.5623351446188083);
    near(ints(&[5, 5], Kind::Entropy), 0.0);
}

#[test]
fn halves_every_half_life() {
    let aggregate = aggregate(Kind::Decayed(10), DataType::Float64);
    let mut cell = Cell::new(&aggregate);
    for (time, value) in [(0, 8.0), (10, 4.0), (-5_000_000_000_000, 1e300)] {
        cell.update(&aggregate, time, EventOrder::default, Terms::of(&Value::Float64(value)));
    }
    let at = |time| match cell.finish(&aggregate, time) {
        Ok(Value::Float64(value)) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!((at(10), at(20), at(30)), (8.0, 4.0, 2.0));
    assert!((at(15) - 8.0 * 0.5f64.sqrt()).abs() < 1e-14);
    assert_eq!(at(1_000_000_000_000), 0.0);
}

/// Rounded weights must not carry the greatest float beyond itself.
#[test]
fn the_greatest_float_decays_from_itself() {
    let aggregate = aggregate(Kind::Decayed(1_000_000), DataType::Float64);
    for time in (1_700_000_001_000_000..1_700_000_002_000_000).step_by(997) {
        let mut cell = Cell::new(&aggregate);
        cell.update(&aggregate, time, EventOrder::default, Terms::of(&Value::Float64(f64::MAX)));
        let Ok(Value::Float64(found)) = cell.finish(&aggregate, time) else { panic!("{time}") };
        assert!(found >= f64::MAX * (1.0 - 1e-12), "{time}: {found}");
        cell.update(&aggregate, time, EventOrder::default, Terms::of(&Value::Float64(f64::MAX)));
        assert_eq!(cell.finish(&aggregate, time).err(), Some(NoValue::Overflow));
    }
}

/// Numbers of five shapes, the same at every run.
fn distributions() -> Vec<(&'static str, Vec<f64>)> {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let count = 20_000;
    let normal: Vec<f64> = (0..count)
        .map(|_| libm::sqrt(-2.0 * libm::log(uniform())) * libm::cos(std::f64::consts::TAU * uniform()))
        .collect();
    vec![
        ("uniform", (0..count).map(|_| uniform()).collect()),
        ("log-normal", normal.iter().map(|x| libm::exp(3.0 * x)).collect()),
        ("pareto", (0..count).map(|_| libm::pow(uniform(), -1.0 / 0.7)).collect()),
        ("two hills around zero", normal.iter().map(|x| if *x > 0.0 { x + 50.0 } else { x - 1e-3 }).collect()),
        ("few values", (0..count).map(|_| libm::floor(uniform() * 40.0) - 10.0).collect()),
    ]
}

/// Within 1 % of an element between the two ranks, on every distribution, whatever the order and the grouping.
#[test]
fn quantiles_stay_within_their_bound() {
    for (name, numbers) in distributions() {
        let mut sorted = numbers.clone();
        sorted.sort_by(f64::total_cmp);
        let of = |q| aggregate(Kind::Quantile(Real::new(q)), DataType::Float64);
        let cell_of = |numbers: &mut dyn Iterator<Item = &f64>| {
            // Which rank is asked for makes no difference before the end.
            let (aggregate, mut cell) = (of(0.5), Cell::new(&of(0.5)));
            numbers.for_each(|x| cell.update(&aggregate, 0, EventOrder::default, Terms::of(&Value::Float64(*x))));
            cell
        };
        let whole = cell_of(&mut numbers.iter());
        let mut parts = cell_of(&mut numbers.iter().rev().step_by(2));
        parts.merge(&cell_of(&mut numbers.iter().rev().skip(1).step_by(2)));
        assert_eq!(bytes(&whole), bytes(&parts), "{name}");
        for q in [0.0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.9999, 1.0] {
            let Ok(Value::Float64(found)) = whole.finish(&of(q), 0) else { panic!("{name} {q}") };
            let rank = q * (numbers.len() - 1) as f64;
            let between = &sorted[rank.floor() as usize..=rank.ceil() as usize];
            assert!(
                between.iter().any(|x| (found - x).abs() <= 0.01 * x.abs()),
                "{name} {q}: {found}, not {between:?}"
            );
        }
    }
}

/// Beyond the exact cap, on values of five shapes, and the same bytes in another order and grouping.
#[test]
fn distinct_counts_stay_within_their_bound() {
    let aggregate = aggregate(Kind::CountDistinct, DataType::Float64);
    for (name, numbers) in distributions() {
        let exact = numbers.iter().map(|x| x.to_bits()).collect::<std::collections::BTreeSet<_>>().len();
        let fill = |numbers: &mut dyn Iterator<Item = &f64>| {
            let mut cell = Cell::new(&aggregate);
            numbers.for_each(|x| cell.update(&aggregate, 0, EventOrder::default, Terms::of(&Value::Float64(*x))));
            cell
        };
        let whole = fill(&mut numbers.iter());
        let mut parts = fill(&mut numbers[..100].iter());
        parts.merge(&fill(&mut numbers[100..].iter().rev()));
        assert_eq!(bytes(&whole), bytes(&parts), "{name}");
        let Ok(Value::Int64(found)) = whole.finish(&aggregate, 0) else { panic!("{name}") };
        let error = (found as f64 - exact as f64).abs() / exact as f64;
        let allowed = if exact <= EXACT_MAX { 0.0 } else { 4.0 * 0.017 };
        assert!(error <= allowed, "{name}: {found}, not {exact}");
    }
}
