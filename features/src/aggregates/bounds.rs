//! What cells cannot hold: more values than a cap, infinities that meet, bytes that are cut short.

use super::tests::{Events, aggregate, all, bytes, cell, edge, finish};
use super::*;
use crate::codec::Cursor;
use crate::value::{DataType, Value};

/// A cap is reached by one value more than it has room for, and the answer says so.
#[test]
fn caps_are_told() {
    let second = |kind, most| (Aggregate { second: Some(DataType::Int64), ..aggregate(kind, DataType::Int64) }, most);
    let first = |kind, most| (aggregate(kind, DataType::Int64), most);
    for (aggregate, most) in [
        first(Kind::Distinct, DISTINCT_MAX),
        first(Kind::TopK(1), DISTINCT_MAX),
        first(Kind::Entropy, DISTINCT_MAX),
        first(Kind::CountBy, CATEGORIES_MAX),
        second(Kind::SumBy, CATEGORIES_MAX),
        second(Kind::AvgBy, CATEGORIES_MAX),
        first(Kind::CountDistinct, usize::MAX),
        first(Kind::Sum, usize::MAX),
    ] {
        let mut cell = Cell::new(&aggregate);
        let add = |cell: &mut Cell, i: usize| {
            let value = Value::Int64(i as i64);
            cell.update(&aggregate, 0, EventOrder::default, Terms::of(&value));
        };
        let room = most.min(DISTINCT_MAX);
        (0..room).for_each(|i| add(&mut cell, i));
        assert!(!cell.is_capped(), "{aggregate:?}");
        add(&mut cell, 0);
        assert!(!cell.is_capped(), "{aggregate:?}");
        add(&mut cell, room);
        assert_eq!(cell.is_capped(), most < usize::MAX, "{aggregate:?}");
        let stored = bytes(&cell);
        let back = Cell::decode(&mut Cursor::new(&stored), &aggregate).unwrap();
        assert_eq!(back.is_capped(), cell.is_capped(), "{aggregate:?}");
    }
}

/// What is cut short is damage, whatever the aggregate; and so are more values than an edge keeps.
#[test]
fn cells_cut_short_are_damage() {
    let place = |time: i64| EventOrder { time, offset: 300, ..EventOrder::default() };
    let events: Events = [(0, 0.25), (60, -0.5), (1 << 40, 0.25)].map(|(time, number)| (place(time), number)).to_vec();
    for aggregate in all() {
        let stored = bytes(&cell(&aggregate, &events));
        for length in 0..stored.len() {
            assert!(Cell::decode(&mut Cursor::new(&stored[..length]), &aggregate).is_err(), "{aggregate:?} {length}");
        }
    }
    let many = |k| aggregate(Kind::Many(edge(true, k, false)), DataType::Int64);
    let three = bytes(&cell(&many(3), &events));
    assert!(Cell::decode(&mut Cursor::new(&three), &many(3)).is_ok());
    assert!(Cell::decode(&mut Cursor::new(&three), &many(2)).is_err());
}

/// Infinities meet only at the end: each aggregate of one, of both, and of one and its neighbour.
#[test]
fn infinities_are_values_until_they_meet() {
    let (up, down) = (f64::INFINITY, f64::NEG_INFINITY);
    let of = |kind: Kind, values: &[f64]| {
        let values: Vec<Value<'static>> = values.iter().map(|v| Value::Float64(*v)).collect();
        match finish(kind, DataType::Float64, &values) {
            Ok(Value::Float64(v)) => Ok(v),
            Ok(other) => panic!("{other:?}"),
            Err(no_value) => Err(no_value),
        }
    };
    for kind in [Kind::Sum, Kind::Avg, Kind::Decayed(1_000)] {
        assert_eq!(of(kind.clone(), &[up, 1.0]), Ok(up), "{kind:?}");
        assert_eq!(of(kind.clone(), &[1.0, down]), Ok(down), "{kind:?}");
        assert_eq!(of(kind.clone(), &[up, up]), Ok(up), "{kind:?}");
        assert_eq!(of(kind.clone(), &[up, down]), Err(NoValue::Undefined), "{kind:?}");
    }
    for kind in [Kind::Variance, Kind::Stddev, Kind::Skewness, Kind::Kurtosis, Kind::Trend] {
        assert_eq!(of(kind.clone(), &[1.0, up, 2.0]), Err(NoValue::Undefined), "{kind:?}");
    }
    let rate = |numerators: &[f64], divisors: &[f64], prior: (f64, f64)| {
        let kind = Kind::Rate(Real::new(prior.0), Real::new(prior.1));
        let aggregate = Aggregate { second: Some(DataType::Float64), ..aggregate(kind, DataType::Float64) };
        let mut cell = Cell::new(&aggregate);
        for (n, d) in numerators.iter().zip(divisors) {
            let (first, second) = (Value::Float64(*n), Value::Float64(*d));
            cell.update(&aggregate, 0, EventOrder::default, Terms { first: &first, second: &second });
        }
        cell.finish(&aggregate, 0).map(|value| if let Value::Float64(v) = value { Some(v) } else { None })
    };
    assert_eq!(rate(&[up], &[2.0], (0.0, 0.0)), Ok(Some(up)));
    assert_eq!(rate(&[up], &[-2.0], (0.0, 0.0)), Ok(Some(down)));
    assert_eq!(rate(&[down], &[-2.0], (0.0, 0.0)), Ok(Some(up)));
    assert_eq!(rate(&[up], &[0.0], (0.0, 0.0)), Ok(None));
    assert_eq!(rate(&[1.0], &[up], (0.0, 0.0)), Ok(Some(0.0)));
    assert_eq!(rate(&[up], &[up], (0.0, 0.0)), Err(NoValue::Undefined));
    assert_eq!(rate(&[1.0], &[0.0], (0.0, 0.0)), Ok(None));
    assert_eq!(rate(&[1.0], &[0.0], (1.0, 4.0)), Ok(Some(0.5)));
    assert_eq!(rate(&[1.0], &[-3.0], (0.0, 1.0)), Ok(Some(-0.5)));
    assert_eq!(rate(&[1e308], &[1e-308], (0.0, 0.0)), Err(NoValue::Overflow));
}
