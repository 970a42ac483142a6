//! Evaluates an expression as §10 "Expressions" says: three-valued logic, null instead of any row error.
//! An ill-typed expression panics: cases are well typed, so that is a bug of the generator.

use std::cmp::Ordering;

use super::expression::{CastTo, Expr, Function, Operator};
use super::model::Datum;

impl Expr {
    pub fn eval(&self, lookup: &dyn Fn(&str) -> Datum) -> Datum {
        let value = match self {
            Expr::Column(name) => lookup(name),
            Expr::Literal(value) => value.clone(),
            Expr::Negate(x) => negate(x.eval(lookup)),
            Expr::Not(x) => not(x.eval(lookup)),
            Expr::Binary(operator, left, right) => binary(*operator, &left.eval(lookup), &right.eval(lookup)),
            Expr::IsNull { x, negated } => Datum::Bool(x.eval(lookup).is_null() != *negated),
            Expr::Case { branches, otherwise } => {
                let taken = branches.iter().find(|(when, _)| matches!(when.eval(lookup), Datum::Bool(true)));
                match (taken, otherwise) {
                    (Some((_, then)), _) => then.eval(lookup),
                    (None, Some(otherwise)) => otherwise.eval(lookup),
                    (None, None) => Datum::Null,
                }
            }
            Expr::In { x, list } => {
                let x = x.eval(lookup);
                let equal = |item: &Expr| binary(Operator::Equal, &x, &item.eval(lookup));
                list.iter().map(equal).fold(Datum::Bool(false), |any, next| binary(Operator::Or, &any, &next))
            }
            Expr::Between { x, low, high } => {
                let x = x.eval(lookup);
                let above = binary(Operator::GreaterOrEqual, &x, &low.eval(lookup));
                let below = binary(Operator::LessOrEqual, &x, &high.eval(lookup));
                binary(Operator::And, &above, &below)
            }
            Expr::Like { x, pattern } => like_or_null(x.eval(lookup), pattern),
            Expr::Cast { x, to, .. } => cast(x.eval(lookup), *to),
            Expr::Call(function, arguments) => {
                call(*function, &arguments.iter().map(|argument| argument.eval(lookup)).collect::<Vec<_>>())
            }
            Expr::Lookup { .. } => panic!("{} stands where no lookup may", self.sql()),
        };
        match value {
            Datum::Float(x) if x.is_nan() => Datum::Null,
            value => value,
        }
    }
}

fn negate(x: Datum) -> Datum {
    match x {
        Datum::Null => Datum::Null,
        Datum::Int(i) => i.checked_neg().map_or(Datum::Null, Datum::Int),
        Datum::Float(f) => Datum::Float(-f),
        other => panic!("ill-typed: - {other:?}"),
    }
}

fn not(x: Datum) -> Datum {
    match x {
        Datum::Null => Datum::Null,
        Datum::Bool(b) => Datum::Bool(!b),
        other => panic!("ill-typed: NOT {other:?}"),
    }
}

fn binary(operator: Operator, left: &Datum, right: &Datum) -> Datum {
    match (operator, left, right) {
        (Operator::And, Datum::Bool(false), _) | (Operator::And, _, Datum::Bool(false)) => Datum::Bool(false),
        (Operator::Or, Datum::Bool(true), _) | (Operator::Or, _, Datum::Bool(true)) => Datum::Bool(true),
        (_, Datum::Null, _) | (_, _, Datum::Null) => Datum::Null,
        (Operator::And, Datum::Bool(true), Datum::Bool(true)) => Datum::Bool(true),
        (Operator::Or, Datum::Bool(false), Datum::Bool(false)) => Datum::Bool(false),
        (Operator::Equal, ..) => Datum::Bool(left.order(right) == Ordering::Equal),
        (Operator::NotEqual, ..) => Datum::Bool(left.order(right) != Ordering::Equal),
        (Operator::Less, ..) => Datum::Bool(left.order(right) == Ordering::Less),
        (Operator::LessOrEqual, ..) => Datum::Bool(left.order(right) != Ordering::Greater),
        (Operator::Greater, ..) => Datum::Bool(left.order(right) == Ordering::Greater),
        (Operator::GreaterOrEqual, ..) => Datum::Bool(left.order(right) != Ordering::Less),
        (Operator::Divide, ..) => float_arithmetic(operator, left, right),
        (_, Datum::Int(a), Datum::Int(b)) => int_arithmetic(operator, *a, *b),
        _ => float_arithmetic(operator, left, right),
    }
}

/// Computed in i128, where nothing overflows, and null when the result is no int64.
fn int_arithmetic(operator: Operator, a: i64, b: i64) -> Datum {
    let (a, b) = (i128::from(a), i128::from(b));
    let exact = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Remainder if b == 0 => return Datum::Null,
        Operator::Remainder => a % b,
        other => panic!("ill-typed: {other:?} of integers"),
    };
    i64::try_from(exact).map_or(Datum::Null, Datum::Int)
}

fn float_arithmetic(operator: Operator, left: &Datum, right: &Datum) -> Datum {
    let (a, b) = (float(left), float(right));
    let result = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide | Operator::Remainder if b == 0.0 => return Datum::Null,
        Operator::Divide => a / b,
        Operator::Remainder => a % b,
        other => panic!("ill-typed: {other:?} of floats"),
    };
    let overflows = result.is_infinite() && a.is_finite() && b.is_finite();
    if overflows || result.is_nan() { Datum::Null } else { Datum::Float(result) }
}

fn float(x: &Datum) -> f64 {
    match x {
        Datum::Int(i) => *i as f64,
        Datum::Float(f) => *f,
        other => panic!("ill-typed: arithmetic with {other:?}"),
    }
}

fn like_or_null(x: Datum, pattern: &str) -> Datum {
    match x {
        Datum::Null => Datum::Null,
        Datum::Text(text) => {
            let text: Vec<char> = text.chars().collect();
            let pattern: Vec<char> = pattern.chars().collect();
            Datum::Bool(like(&text, &pattern))
        }
        other => panic!("ill-typed: {other:?} LIKE"),
    }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skipped| like(&text[skipped..], rest)),
        Some(('_', rest)) => !text.is_empty() && like(&text[1..], rest),
        Some((wanted, rest)) => text.first() == Some(wanted) && like(&text[1..], rest),
    }
}

fn cast(x: Datum, to: CastTo) -> Datum {
    match (x, to) {
        (Datum::Null, _) => Datum::Null,
        (Datum::Int(i), CastTo::Int64) => Datum::Int(i),
        (Datum::Int(i), CastTo::Float64) => Datum::Float(i as f64),
        (Datum::Int(i), CastTo::Text) => Datum::Text(i.to_string()),
        (Datum::Int(i), CastTo::Bool) => Datum::Bool(i != 0),
        (Datum::Float(f), CastTo::Int64) => float_to_int(f),
        (Datum::Float(f), CastTo::Float64) => Datum::Float(f),
        (Datum::Bool(b), CastTo::Int64) => Datum::Int(i64::from(b)),
        (Datum::Bool(b), CastTo::Text) => Datum::Text(b.to_string()),
        (Datum::Bool(b), CastTo::Bool) => Datum::Bool(b),
        (Datum::Text(t), CastTo::Text) => Datum::Text(t),
        (Datum::Text(t), CastTo::Int64) => t.parse().map_or(Datum::Null, Datum::Int),
        (Datum::Text(t), CastTo::Float64) => t.parse().map_or(Datum::Null, Datum::Float),
        (Datum::Text(t), CastTo::Bool) => t.parse().map_or(Datum::Null, Datum::Bool),
        (x, to) => panic!("ill-typed: cast of {x:?} to {to:?}"),
    }
}

/// Half away from zero; null beyond int64.
fn float_to_int(f: f64) -> Datum {
    let rounded = f.round();
    let two_to_63 = 9_223_372_036_854_775_808.0;
    if rounded >= -two_to_63 && rounded < two_to_63 { Datum::Int(rounded as i64) } else { Datum::Null }
}

fn call(function: Function, arguments: &[Datum]) -> Datum {
    let present: Vec<Datum> = arguments.iter().filter(|argument| !argument.is_null()).cloned().collect();
    // These look at nulls themselves; every other function of a null is null.
    match function {
        Function::Coalesce => return present.first().cloned().unwrap_or(Datum::Null),
        Function::Least => return present.into_iter().min_by(Datum::order).unwrap_or(Datum::Null),
        Function::Greatest => return present.into_iter().max_by(Datum::order).unwrap_or(Datum::Null),
        Function::Concat => return Datum::Text(present.iter().map(text).collect::<String>()),
        Function::NullIf => {
            let equal = matches!(binary(Operator::Equal, &arguments[0], &arguments[1]), Datum::Bool(true));
            return if equal { Datum::Null } else { arguments[0].clone() };
        }
        _ => {}
    }
    if present.len() < arguments.len() {
        return Datum::Null;
    }
    match (function, arguments) {
        (Function::Div, [Datum::Int(_), Datum::Int(0)]) => Datum::Null,
        (Function::Div, [Datum::Int(a), Datum::Int(b)]) => a.checked_div(*b).map_or(Datum::Null, Datum::Int),
        (Function::Abs, [Datum::Int(i)]) => i.checked_abs().map_or(Datum::Null, Datum::Int),
        (Function::Abs, [Datum::Float(f)]) => Datum::Float(f.abs()),
        (Function::Floor, [Datum::Float(f)]) => Datum::Float(f.floor()),
        (Function::Ceil, [Datum::Float(f)]) => Datum::Float(f.ceil()),
        (Function::Round, [Datum::Float(f)]) => Datum::Float(f.round()),
        (_, [Datum::Text(_), ..]) => text_function(function, arguments),
        _ => panic!("ill-typed: {function:?} of {arguments:?}"),
    }
}

fn text_function(function: Function, arguments: &[Datum]) -> Datum {
    let subject = text(&arguments[0]);
    match (function, &arguments[1..]) {
        (Function::Lower, []) => Datum::Text(subject.to_lowercase()),
        (Function::Upper, []) => Datum::Text(subject.to_uppercase()),
        (Function::Length, []) => Datum::Int(subject.chars().count() as i64),
        (Function::Trim, []) => Datum::Text(subject.trim_matches(' ').to_string()),
        (Function::StartsWith, [Datum::Text(prefix)]) => Datum::Bool(subject.starts_with(prefix.as_str())),
        (Function::Hash64, []) => Datum::Int(xxhash_rust::xxh3::xxh3_64(subject.as_bytes()) as i64),
        (Function::Substr, [Datum::Int(start)]) => Datum::Text(substr(subject, *start, i64::MAX)),
        (Function::Substr, [Datum::Int(start), Datum::Int(length)]) => Datum::Text(substr(subject, *start, *length)),
        (_, rest) => panic!("ill-typed: {function:?} of {subject:?} and {rest:?}"),
    }
}

/// The characters whose position, counted from 1, lies in `[start, start + length)`.
fn substr(subject: &str, start: i64, length: i64) -> String {
    let end = i128::from(start) + i128::from(length);
    let in_range = |position: &i128| i128::from(start) <= *position && *position < end;
    (1..).zip(subject.chars()).filter(|(position, _)| in_range(position)).map(|(_, character)| character).collect()
}

fn text(x: &Datum) -> &str {
    match x {
        Datum::Text(text) => text,
        other => panic!("ill-typed: {other:?} is not text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(expr: &Expr) -> Datum {
        expr.eval(&|name| panic!("no column {name}"))
    }

    fn check(expr: Expr, expected: Datum) {
        let found = value(&expr);
        assert!(found.same(&expected), "{} is {found:?}, not {expected:?}", expr.sql());
    }

    fn null() -> Expr {
        Expr::Literal(Datum::Null)
    }

    fn bool(value: bool) -> Expr {
        Expr::Literal(Datum::Bool(value))
    }

    fn cast(x: Expr, to: CastTo) -> Expr {
        Expr::Cast { x: Box::new(x), to, quietly: false }
    }

    #[test]
    fn arithmetic() {
        use Operator::*;
        check(Expr::binary(Add, Expr::int(i64::MAX), Expr::int(1)), Datum::Null);
        check(Expr::binary(Remainder, Expr::int(-7), Expr::int(3)), Datum::Int(-1));
        check(Expr::binary(Remainder, Expr::int(i64::MIN), Expr::int(-1)), Datum::Int(0));
        check(Expr::call(Function::Div, &[Expr::int(-7), Expr::int(2)]), Datum::Int(-3));
        check(Expr::call(Function::Div, &[Expr::int(i64::MIN), Expr::int(-1)]), Datum::Null);
        check(Expr::call(Function::Div, &[Expr::int(1), Expr::int(0)]), Datum::Null);
        check(Expr::binary(Divide, Expr::int(1), Expr::int(2)), Datum::Float(0.5));
        check(Expr::binary(Divide, Expr::float(1.0), Expr::float(0.0)), Datum::Null);
        check(Expr::binary(Multiply, Expr::float(1e308), Expr::int(10)), Datum::Null);
        let infinity = Expr::Literal(Datum::Float(f64::INFINITY));
        check(Expr::binary(Add, infinity.clone(), Expr::int(1)), Datum::Float(f64::INFINITY));
        check(Expr::binary(Subtract, infinity.clone(), infinity), Datum::Null);
        check(Expr::Negate(Box::new(Expr::int(i64::MIN))), Datum::Null);
    }

    #[test]
    fn three_valued_logic() {
        use Operator::*;
        check(Expr::binary(And, bool(false), null()), Datum::Bool(false));
        check(Expr::binary(And, null(), bool(true)), Datum::Null);
        check(Expr::binary(Or, null(), bool(true)), Datum::Bool(true));
        check(Expr::binary(Equal, null(), null()), Datum::Null);
        check(Expr::Not(Box::new(null())), Datum::Null);
        let is_in = |x: i64| Expr::In { x: Box::new(Expr::int(x)), list: vec![Expr::int(1), null()] };
        check(is_in(1), Datum::Bool(true));
        check(is_in(2), Datum::Null);
        let between = Expr::Between { x: Box::new(Expr::int(3)), low: Box::new(null()), high: Box::new(Expr::int(2)) };
        check(between, Datum::Bool(false));
        let case = Expr::Case { branches: vec![(null(), Expr::int(1))], otherwise: None };
        check(case, Datum::Null);
        check(Expr::binary(Less, Expr::int(i64::MAX - 1), Expr::float(i64::MAX as f64)), Datum::Bool(true));
    }

    #[test]
    fn casts() {
        check(cast(Expr::float(2.5), CastTo::Int64), Datum::Int(3));
        check(cast(Expr::float(-2.5), CastTo::Int64), Datum::Int(-3));
        check(cast(Expr::float(9.3e18), CastTo::Int64), Datum::Null);
        check(cast(Expr::float(-9_223_372_036_854_775_808.0), CastTo::Int64), Datum::Int(i64::MIN));
        check(cast(Expr::text("abc"), CastTo::Int64), Datum::Null);
        check(cast(Expr::text("1e3"), CastTo::Float64), Datum::Float(1000.0));
        check(cast(bool(true), CastTo::Text), Datum::Text("true".into()));
    }

    #[test]
    fn texts() {
        use Function::*;
        let emoji = Expr::text(" Ä😀b ");
        check(Expr::call(Length, std::slice::from_ref(&emoji)), Datum::Int(5));
        check(Expr::call(Trim, std::slice::from_ref(&emoji)), Datum::Text("Ä😀b".into()));
        check(Expr::call(Substr, &[emoji.clone(), Expr::int(2), Expr::int(2)]), Datum::Text("Ä😀".into()));
        check(Expr::call(Concat, &[Expr::text("a"), null(), Expr::text("b")]), Datum::Text("ab".into()));
        check(Expr::call(Least, &[null(), Expr::int(2), Expr::int(1)]), Datum::Int(1));
        check(Expr::call(Round, &[Expr::float(-0.5)]), Datum::Float(-1.0));
        check(Expr::call(Hash64, &[Expr::text("")]), Datum::Int(0x2d06_8005_38d3_94c2));
        let like = |pattern: &str| Expr::Like { x: Box::new(emoji.clone()), pattern: pattern.into() };
        check(like("_Ä_%"), Datum::Bool(true));
        check(like("%B%"), Datum::Bool(false));
    }
}
