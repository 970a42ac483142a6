//! The laws that every aggregate obeys, and the values of hard cases.

use proptest::prelude::*;

use super::*;

fn edge(newest: bool, k: usize, distinct: bool) -> Edge {
    Edge { newest, k, distinct }
}

fn all_kinds() -> Vec<Kind> {
    use Kind::*;
    vec![
        Count,
        Sum,
        Avg,
        Min,
        Max,
        Variance,
        Stddev,
        One(edge(false, 1, false)),
        One(edge(true, 1, false)),
        Many(edge(false, 3, false)),
        Many(edge(true, 3, true)),
        Distinct,
        CountDistinct,
    ]
}

fn aggregate(kind: Kind, input: DataType) -> Aggregate {
    Aggregate { kind, input: Some(input), id_type: None }
}

fn cell(aggregate: &Aggregate, events: &[(EventOrder<'static>, Value<'static>)]) -> Cell {
    let mut cell = Cell::new(aggregate);
    events.iter().for_each(|(order, value)| cell.update(order.time, || order.to_owned(), value));
    cell
}

fn bytes(cell: &Cell) -> Vec<u8> {
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

type Events = Vec<(EventOrder<'static>, Value<'static>)>;

fn events() -> impl Strategy<Value = Events> {
    let one = (0i64..6, floats());
    prop::collection::vec(one, 0..24).prop_map(|list| {
        let place = |(offset, (time, value)): (usize, (i64, f64))| {
            let order = EventOrder { time, offset: offset as u64, ..EventOrder::default() };
            (order, Value::Float64(value))
        };
        list.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn order_and_grouping_do_not_matter(
        (list, shuffled) in events().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        cuts in (0usize..24, 0usize..24),
    ) {
        for kind in all_kinds() {
            let aggregate = aggregate(kind, DataType::Float64);
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
            prop_assert_eq!(bytes(&whole), bytes(&left), "{:?}", kind);
            prop_assert_eq!(bytes(&whole), bytes(&right), "{:?}", kind);
        }
    }

    #[test]
    fn stored_cells_come_back(list in events()) {
        for kind in all_kinds() {
            let aggregate = aggregate(kind, DataType::Float64);
            let whole = cell(&aggregate, &list);
            let stored = bytes(&whole);
            let mut cursor = Cursor::new(&stored);
            let back = Cell::decode(&mut cursor, &aggregate).unwrap();
            prop_assert!(cursor.is_empty());
            prop_assert_eq!(bytes(&back), stored);
            match (whole.finish(&aggregate), back.finish(&aggregate)) {
                (Ok(a), Ok(b)) => prop_assert!(a.same(&b)),
                (a, b) => prop_assert_eq!(a.err(), b.err()),
            }
        }
    }

    #[test]
    fn damaged_cells_do_not_panic(garbage: Vec<u8>) {
        for kind in all_kinds() {
            let _ = Cell::decode(&mut Cursor::new(&garbage), &aggregate(kind, DataType::Text));
        }
    }
}

fn finish(kind: Kind, input: DataType, values: &[Value<'static>]) -> Finished {
    let aggregate = aggregate(kind, input);
    let place = |(i, v): (usize, &Value<'static>)| (EventOrder { time: i as i64, ..EventOrder::default() }, v.clone());
    cell(&aggregate, &values.iter().enumerate().map(place).collect::<Vec<_>>()).finish(&aggregate)
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
        forward.update(0, EventOrder::default, &text(i));
        backward.update(0, EventOrder::default, &text(count - 1 - i));
    }
    assert_eq!(bytes(&forward), bytes(&backward));
    assert!(matches!(forward.finish(&aggregate), Ok(Value::List(list)) if list.len() == DISTINCT_MAX));
}
