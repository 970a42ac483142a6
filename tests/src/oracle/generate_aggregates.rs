//! Random aggregates with arguments of the right types. Drawn as small numbers and mapped, for shrinking to
//! `count()`; a little less than half of them are of the kinds that most definitions use.

use proptest::prelude::*;
use proptest::sample::select;

use super::expression::Expr;
use super::generate_sql::{Expressions, PLAIN_COLUMNS, VECTOR_COLUMN};
use super::model::{Aggregate, Datum, Type};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;

/// An argument and its type.
type Argument = (Expr, Type);

#[derive(Clone, Debug)]
struct Draw {
    kind: u8,
    x: Argument,
    other: Argument,
    category: Expr,
    k: usize,
    distinct: bool,
    variety: u8,
}

/// With the type of its value, `None` for a list or a map.
pub fn aggregate(of: &Expressions) -> impl Strategy<Value = (Aggregate, Option<Type>)> + use<> {
    let category = prop_oneof![
        3 => select(vec!["c", "c", "flag", "s", "key_int", "moment"]).prop_map(Expr::column),
        1 => of.ints.clone(),
        1 => of.texts.clone(),
    ];
    let numbers = (any::<u8>(), 1..6_usize, any::<bool>(), any::<u8>());
    (numbers, argument(of), argument(of), category).prop_map(|((kind, k, distinct, variety), x, other, category)| {
        let draw = Draw { kind, x, other, category, k, distinct, variety };
        match kind {
            0..=111 => common(draw),
            112.. => special(draw),
        }
    })
}

fn argument(of: &Expressions) -> impl Strategy<Value = Argument> + use<> {
    prop_oneof![
        4 => of.ints.clone().prop_map(|x| (x, Type::Int64)),
        4 => of.floats.clone().prop_map(|x| (x, Type::Float64)),
        2 => of.texts.clone().prop_map(|x| (x, Type::Text)),
        1 => of.bools.clone().prop_map(|x| (x, Type::Bool)),
        2 => select(PLAIN_COLUMNS.to_vec()).prop_map(|(name, of)| (Expr::column(name), of)),
    ]
}

fn common(draw: Draw) -> (Aggregate, Option<Type>) {
    let ((x, of), k, distinct) = (draw.x, draw.k, draw.distinct);
    let aggregate = match draw.kind % 16 {
        0 => Aggregate::Count,
        1 | 2 if is_number(of) => Aggregate::Sum(x),
        3 if is_number(of) => Aggregate::Avg(x),
        4 if has_moments(of) => Aggregate::Variance(x),
        5 if has_moments(of) => Aggregate::Stddev(x),
        6 => Aggregate::Min(x),
        7 => Aggregate::Max(x),
        8 => Aggregate::First(x),
        9 => Aggregate::Last(x),
        10 => Aggregate::FirstK { x, k, distinct },
        11 => Aggregate::LastK { x, k, distinct },
        12 => Aggregate::CountDistinct(x),
        13 => Aggregate::Distinct(x),
        14 => Aggregate::CountOf(x),
        _ => Aggregate::Last(x),
    };
    let result = aggregate.result(of);
    (aggregate, result)
}

fn special(draw: Draw) -> (Aggregate, Option<Type>) {
    let kind = (draw.kind - 112) % 26;
    let (x, of) = match kind {
        0..=2 | 12 | 13 | 16 | 17 => numeric(draw.x.clone()),
        6 | 7 | 22 if !has_moments(draw.x.1) => (Expr::column("x"), Type::Float64),
        8 | 9 if draw.x.1 != Type::Bool => (Expr::column("flag"), Type::Bool),
        23.. => (Expr::column(VECTOR_COLUMN.0), VECTOR_COLUMN.1),
        _ => draw.x.clone(),
    };
    let aggregate = match kind {
        0 => Aggregate::Quantile { x, q: one_of(draw.variety, &[0.5, 0.0, 1.0, 0.95, 0.1, 0.25, 0.999]) },
        1 => Aggregate::Median(x),
        2 => Aggregate::Histogram { x, edges: edges(draw.variety) },
        3 => Aggregate::TopK { x, k: draw.k },
        4 => Aggregate::BottomK { x, k: draw.k },
        5 => Aggregate::Mode(x),
        6 => Aggregate::Skewness(x),
        7 => Aggregate::Kurtosis(x),
        8 => Aggregate::Any(x),
        9 => Aggregate::All(x),
        10 => Aggregate::ArgMax { x, by: ordered(draw.other) },
        11 => Aggregate::ArgMin { x, by: ordered(draw.other) },
        12 => {
            let (a, b) = priors(draw.variety);
            Aggregate::Rate { counted: x, of: numeric(draw.other).0, a, b }
        }
        13 => Aggregate::DecayedSum { x, half_life: half_life(draw.variety) },
        14 => Aggregate::DecayedCount { half_life: half_life(draw.variety) },
        15 => Aggregate::CountBy(draw.category),
        16 => Aggregate::SumBy { x, category: draw.category },
        17 => Aggregate::AvgBy { x, category: draw.category },
        18 => Aggregate::Entropy(x),
        19 => Aggregate::TimeSinceLast,
        20 => Aggregate::MeanGap,
        21 => Aggregate::MaxGap,
        22 => Aggregate::Trend(x),
        23 => Aggregate::VectorSum(x),
        24 => Aggregate::VectorAvg(x),
        _ => Aggregate::VectorLast(x),
    };
    let result = aggregate.result(of);
    (aggregate, result)
}

fn is_number(of: Type) -> bool {
    matches!(of, Type::Int64 | Type::Float64 | Type::Decimal(..))
}

/// The page gives decimals a sum and a mean, but no variance.
fn has_moments(of: Type) -> bool {
    matches!(of, Type::Int64 | Type::Float64)
}

fn numeric((x, of): Argument) -> Argument {
    if is_number(of) { (x, of) } else { (Expr::column("x"), Type::Float64) }
}

/// What arg_max may go by: no bytes.
fn ordered((x, of): Argument) -> Expr {
    if of == Type::Bytes { Expr::column("a") } else { x }
}

/// All of them exact in binary, so that decimals beside them are no matter of reading.
fn edges(variety: u8) -> Vec<Datum> {
    let (int, float) = (Datum::Int, Datum::Float);
    match variety % 5 {
        0 => vec![int(0)],
        1 => vec![int(-1), int(0), int(2), int(100)],
        2 => vec![float(-2.5), float(0.0), float(2.5), float(1e9)],
        3 => vec![int(0), float(0.5), int(1)],
        _ => (-20..20).map(int).collect(),
    }
}

fn priors(variety: u8) -> (Datum, Datum) {
    let (int, float) = (Datum::Int, Datum::Float);
    match variety % 5 {
        0 => (int(0), int(0)),
        1 => (int(1), int(2)),
        2 => (float(0.1), float(1.0)),
        3 => (float(2.5), int(7)),
        _ => (int(0), float(0.0)),
    }
}

fn half_life(variety: u8) -> i64 {
    one_of(variety, &[HOUR, SECOND, 1, 24 * HOUR, 90 * SECOND, 7 * 24 * HOUR, 1_000_003])
}

fn one_of<T: Copy>(variety: u8, values: &[T]) -> T {
    values[usize::from(variety) % values.len()]
}
