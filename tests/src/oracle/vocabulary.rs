//! Every aggregate of the page: its arguments, its SQL, its type, and what it is of an empty window.
//! What it computes is in `aggregate` and the files that that one names.

use super::expression::{Expr, literal};
use super::model::{Datum, Type};

#[derive(Clone, Debug)]
pub enum Aggregate {
    Count,
    CountOf(Expr),
    Sum(Expr),
    Avg(Expr),
    Min(Expr),
    Max(Expr),
    Variance(Expr),
    Stddev(Expr),
    First(Expr),
    Last(Expr),
    FirstK {
        x: Expr,
        k: usize,
        distinct: bool,
    },
    LastK {
        x: Expr,
        k: usize,
        distinct: bool,
    },
    Distinct(Expr),
    CountDistinct(Expr),
    Quantile {
        x: Expr,
        q: f64,
    },
    Median(Expr),
    /// Edges ascending, integers or floats.
    Histogram {
        x: Expr,
        edges: Vec<Datum>,
    },
    TopK {
        x: Expr,
        k: usize,
    },
    BottomK {
        x: Expr,
        k: usize,
    },
    Mode(Expr),
    Skewness(Expr),
    Kurtosis(Expr),
    Any(Expr),
    All(Expr),
    ArgMax {
        x: Expr,
        by: Expr,
    },
    ArgMin {
        x: Expr,
        by: Expr,
    },
    /// `(sum of counted + a) / (sum of of + b)`; a and b are integers or floats.
    Rate {
        counted: Expr,
        of: Expr,
        a: Datum,
        b: Datum,
    },
    DecayedSum {
        x: Expr,
        half_life: i64,
    },
    DecayedCount {
        half_life: i64,
    },
    CountBy(Expr),
    SumBy {
        x: Expr,
        category: Expr,
    },
    AvgBy {
        x: Expr,
        category: Expr,
    },
    Entropy(Expr),
    TimeSinceLast,
    MeanGap,
    MaxGap,
    Trend(Expr),
    VectorSum(Expr),
    VectorAvg(Expr),
    VectorLast(Expr),
}

impl Aggregate {
    /// None, one or two column arguments, in the order in which they are written.
    pub fn arguments(&self) -> Vec<&Expr> {
        match self {
            Aggregate::Count
            | Aggregate::DecayedCount { .. }
            | Aggregate::TimeSinceLast
            | Aggregate::MeanGap
            | Aggregate::MaxGap => Vec::new(),
            Aggregate::CountOf(x)
            | Aggregate::Sum(x)
            | Aggregate::Avg(x)
            | Aggregate::Min(x)
            | Aggregate::Max(x)
            | Aggregate::Variance(x)
            | Aggregate::Stddev(x)
            | Aggregate::First(x)
            | Aggregate::Last(x)
            | Aggregate::FirstK { x, .. }
            | Aggregate::LastK { x, .. }
            | Aggregate::Distinct(x)
            | Aggregate::CountDistinct(x)
            | Aggregate::Quantile { x, .. }
            | Aggregate::Median(x)
            | Aggregate::Histogram { x, .. }
            | Aggregate::TopK { x, .. }
            | Aggregate::BottomK { x, .. }
            | Aggregate::Mode(x)
            | Aggregate::Skewness(x)
            | Aggregate::Kurtosis(x)
            | Aggregate::Any(x)
            | Aggregate::All(x)
            | Aggregate::DecayedSum { x, .. }
            | Aggregate::CountBy(x)
            | Aggregate::Entropy(x)
            | Aggregate::Trend(x)
            | Aggregate::VectorSum(x)
            | Aggregate::VectorAvg(x)
            | Aggregate::VectorLast(x) => vec![x],
            Aggregate::ArgMax { x, by } | Aggregate::ArgMin { x, by } => vec![x, by],
            Aggregate::Rate { counted, of, .. } => vec![counted, of],
            Aggregate::SumBy { x, category } | Aggregate::AvgBy { x, category } => vec![x, category],
        }
    }

    /// What an empty window gives: 0 for counts, the empty list or map, null for the rest.
    pub fn of_nothing(&self) -> Datum {
        match self {
            Aggregate::Count | Aggregate::CountOf(_) | Aggregate::CountDistinct(_) => Datum::Int(0),
            Aggregate::FirstK { .. }
            | Aggregate::LastK { .. }
            | Aggregate::Distinct(_)
            | Aggregate::TopK { .. }
            | Aggregate::BottomK { .. }
            | Aggregate::Histogram { .. } => Datum::List(Vec::new()),
            Aggregate::CountBy(_) | Aggregate::SumBy { .. } | Aggregate::AvgBy { .. } => Datum::Map(Vec::new()),
            _ => Datum::Null,
        }
    }

    /// The type of the value for a first argument of type `of`; `None` for a list or a map.
    pub fn result(&self, of: Type) -> Option<Type> {
        match self {
            Aggregate::Count | Aggregate::CountOf(_) | Aggregate::CountDistinct(_) => Some(Type::Int64),
            Aggregate::Avg(_)
            | Aggregate::Variance(_)
            | Aggregate::Stddev(_)
            | Aggregate::Quantile { .. }
            | Aggregate::Median(_)
            | Aggregate::Skewness(_)
            | Aggregate::Kurtosis(_)
            | Aggregate::Rate { .. }
            | Aggregate::DecayedSum { .. }
            | Aggregate::DecayedCount { .. }
            | Aggregate::Entropy(_)
            | Aggregate::TimeSinceLast
            | Aggregate::MeanGap
            | Aggregate::MaxGap
            | Aggregate::Trend(_) => Some(Type::Float64),
            Aggregate::Any(_) | Aggregate::All(_) => Some(Type::Bool),
            Aggregate::Sum(_) => match of {
                Type::Decimal(_, scale) => Some(Type::Decimal(38, scale)),
                other => Some(other),
            },
            Aggregate::Min(_)
            | Aggregate::Max(_)
            | Aggregate::First(_)
            | Aggregate::Last(_)
            | Aggregate::Mode(_)
            | Aggregate::ArgMax { .. }
            | Aggregate::ArgMin { .. }
            | Aggregate::VectorSum(_)
            | Aggregate::VectorAvg(_)
            | Aggregate::VectorLast(_) => Some(of),
            Aggregate::FirstK { .. }
            | Aggregate::LastK { .. }
            | Aggregate::Distinct(_)
            | Aggregate::TopK { .. }
            | Aggregate::BottomK { .. }
            | Aggregate::Histogram { .. }
            | Aggregate::CountBy(_)
            | Aggregate::SumBy { .. }
            | Aggregate::AvgBy { .. } => None,
        }
    }

    /// Whether each value is right to the bit; the others are right within a bound.
    pub fn is_exact(&self) -> bool {
        !matches!(
            self,
            Aggregate::Quantile { .. }
                | Aggregate::Median(_)
                | Aggregate::Skewness(_)
                | Aggregate::Kurtosis(_)
                | Aggregate::DecayedSum { .. }
                | Aggregate::DecayedCount { .. }
                | Aggregate::Entropy(_)
                | Aggregate::Trend(_)
                | Aggregate::CountDistinct(_)
        )
    }

    pub fn sql(&self) -> String {
        let mut arguments: Vec<String> = self.arguments().into_iter().map(Expr::sql).collect();
        match self {
            Aggregate::FirstK { k, .. }
            | Aggregate::LastK { k, .. }
            | Aggregate::TopK { k, .. }
            | Aggregate::BottomK { k, .. } => arguments.push(k.to_string()),
            Aggregate::Quantile { q, .. } => arguments.push(constant(&Datum::Float(*q))),
            Aggregate::Histogram { edges, .. } => {
                let edges: Vec<String> = edges.iter().map(constant).collect();
                arguments.push(format!("ARRAY[{}]", edges.join(", ")));
            }
            Aggregate::Rate { a, b, .. } => arguments.extend([constant(a), constant(b)]),
            Aggregate::DecayedSum { half_life, .. } | Aggregate::DecayedCount { half_life } => {
                arguments.push(format!("'{}'", super::toml::duration(*half_life)));
            }
            _ => {}
        }
        format!("{}({})", self.name(), arguments.join(", "))
    }

    fn name(&self) -> &'static str {
        match self {
            Aggregate::Count | Aggregate::CountOf(_) => "count",
            Aggregate::Sum(_) => "sum",
            Aggregate::Avg(_) => "avg",
            Aggregate::Min(_) => "min",
            Aggregate::Max(_) => "max",
            Aggregate::Variance(_) => "variance",
            Aggregate::Stddev(_) => "stddev",
            Aggregate::First(_) => "first",
            Aggregate::Last(_) => "last",
            Aggregate::FirstK { .. } => "first_k",
            Aggregate::LastK { .. } => "last_k",
            Aggregate::Distinct(_) => "distinct",
            Aggregate::CountDistinct(_) => "count_distinct",
            Aggregate::Quantile { .. } => "quantile",
            Aggregate::Median(_) => "median",
            Aggregate::Histogram { .. } => "histogram",
            Aggregate::TopK { .. } => "top_k",
            Aggregate::BottomK { .. } => "bottom_k",
            Aggregate::Mode(_) => "mode",
            Aggregate::Skewness(_) => "skewness",
            Aggregate::Kurtosis(_) => "kurtosis",
            Aggregate::Any(_) => "any",
            Aggregate::All(_) => "all",
            Aggregate::ArgMax { .. } => "arg_max",
            Aggregate::ArgMin { .. } => "arg_min",
            Aggregate::Rate { .. } => "rate",
            Aggregate::DecayedSum { .. } => "decayed_sum",
            Aggregate::DecayedCount { .. } => "decayed_count",
            Aggregate::CountBy(_) => "count_by",
            Aggregate::SumBy { .. } => "sum_by",
            Aggregate::AvgBy { .. } => "avg_by",
            Aggregate::Entropy(_) => "entropy",
            Aggregate::TimeSinceLast => "time_since_last",
            Aggregate::MeanGap => "mean_gap",
            Aggregate::MaxGap => "max_gap",
            Aggregate::Trend(_) => "trend",
            Aggregate::VectorSum(_) => "vector_sum",
            Aggregate::VectorAvg(_) => "vector_avg",
            Aggregate::VectorLast(_) => "vector_last",
        }
    }
}

/// A parameter. Negative numbers stand without the parentheses that an expression would get.
fn constant(value: &Datum) -> String {
    match value {
        Datum::Int(i) if *i < 0 && *i != i64::MIN => format!("-{}", i.unsigned_abs()),
        Datum::Float(f) if *f < 0.0 => format!("-{}", literal(&Datum::Float(-f))),
        other => literal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(aggregate: Aggregate, sql: &str) {
        assert_eq!(aggregate.sql(), sql);
    }

    #[test]
    fn text_of_aggregates() {
        let (x, y) = (|| Expr::column("x"), || Expr::column("y"));
        check(Aggregate::Count, "count()");
        check(Aggregate::CountOf(x()), "count(x)");
        check(Aggregate::Quantile { x: x(), q: 0.95 }, "quantile(x, 0.95)");
        let edges = vec![Datum::Int(-10), Datum::Float(-0.5), Datum::Int(100)];
        check(Aggregate::Histogram { x: x(), edges }, "histogram(x, ARRAY[-10, -0.5, 100])");
        check(Aggregate::TopK { x: x(), k: 3 }, "top_k(x, 3)");
        check(Aggregate::ArgMax { x: x(), by: y() }, "arg_max(x, y)");
        let rate = Aggregate::Rate { counted: x(), of: y(), a: Datum::Int(1), b: Datum::Float(2.5) };
        check(rate, "rate(x, y, 1, 2.5)");
        check(Aggregate::DecayedSum { x: x(), half_life: 3_600_000_000 }, "decayed_sum(x, '1h')");
        check(Aggregate::DecayedCount { half_life: 90_000_000 }, "decayed_count('90s')");
        check(Aggregate::SumBy { x: x(), category: y() }, "sum_by(x, y)");
        check(Aggregate::TimeSinceLast, "time_since_last()");
    }

    #[test]
    fn nothing_is_zero_or_empty_or_null() {
        assert!(Aggregate::CountBy(Expr::column("x")).of_nothing().same(&Datum::Map(Vec::new())));
        assert!(Aggregate::Mode(Expr::column("x")).of_nothing().is_null());
        assert!(Aggregate::DecayedCount { half_life: 1 }.of_nothing().is_null());
    }
}
