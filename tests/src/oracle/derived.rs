//! Derived features: an expression over finished answers, defaults included, of the same T. What an input is
//! (a feature, a derived one, one of another view or of another key) is the caller's matter.

use super::expression::Expr;
use super::model::{Accuracy, Answer, Datum, Status};

/// `find` gives the answer of a feature by its name or path, `look_up` that of a view and feature for another key.
pub fn answer(
    expression: &Expr,
    find: &dyn Fn(&str) -> Answer,
    look_up: &dyn Fn(&str, &str, &Datum) -> Answer,
) -> Answer {
    // Every feature that is named counts, also within the key of a lookup and in branches not taken.
    let mut inputs: Vec<Answer> = expression.columns().into_iter().map(find).collect();
    let mut looked_up: Vec<Answer> = Vec::new();
    let plain = expression.without_lookups(&mut |view, feature, key| {
        let found = looked_up_answer(&key, &|name| input(name, find, &looked_up), &|key| look_up(view, feature, key));
        looked_up.push(found);
        Expr::Column(format!("{LOOKED_UP}{}", looked_up.len() - 1))
    });
    inputs.extend(looked_up.iter().cloned());
    let find = |name: &str| input(name, find, &looked_up);
    let value = plain.eval(&|name| find(name).value);
    let worst = inputs.iter().map(|input| input.status).max_by_key(|status| status.severity());
    let status = if value.is_null() { worst.unwrap_or(Status::Present) } else { Status::Present };
    let newest = inputs.iter().filter_map(|input| input.newest).max();
    let is_unknown = |answer: &Answer| matches!(answer.accuracy, Accuracy::Unknown);
    let is_loose = inputs.iter().any(is_unknown) || is_loose(&plain, &find);
    let accuracy = match &plain {
        // The value itself, and so its bounds.
        Expr::Column(name) => find(name).accuracy,
        _ if is_loose => Accuracy::Unknown,
        _ => Accuracy::Exact,
    };
    Answer { value, accuracy, status, newest }
}

/// Stands before the number of a lookup that has been replaced. No feature has a space in its name.
const LOOKED_UP: &str = "lookup ";

fn input(name: &str, find: &dyn Fn(&str) -> Answer, looked_up: &[Answer]) -> Answer {
    match name.strip_prefix(LOOKED_UP) {
        Some(number) => looked_up[number.parse::<usize>().expect("made of a number")].clone(),
        None => find(name),
    }
}

/// A null key has no feature to look up, and adds no status.
fn looked_up_answer(key: &Expr, find: &dyn Fn(&str) -> Answer, look_up: &dyn Fn(&Datum) -> Answer) -> Answer {
    let value = key.eval(&|name| find(name).value).normalised();
    let mut answer = if value.is_null() { Answer::exact(Datum::Null, Status::Present, None) } else { look_up(&value) };
    if is_loose(key, find) {
        answer.accuracy = Accuracy::Unknown;
    }
    answer
}

/// Whether the value hangs on one that is only right within a bound. Whether that one is null is certain.
fn is_loose(expression: &Expr, find: &dyn Fn(&str) -> Answer) -> bool {
    expression.columns_by_value().into_iter().any(|input| !matches!(find(input).accuracy, Accuracy::Exact))
}

#[cfg(test)]
mod tests {
    use super::super::expression::Operator;
    use super::*;

    /// `n` is 2 at time 5; `gone` is null and empty; key 2 has 7 at time 9, key 7 is not found.
    fn check(expression: Expr, expected: Answer) {
        let find = |name: &str| match name {
            "n" => Answer::exact(Datum::Int(2), Status::Present, Some(5)),
            "gone" => Answer::exact(Datum::Null, Status::Empty, None),
            other => panic!("no feature {other}"),
        };
        let look_up = |view: &str, feature: &str, key: &Datum| {
            assert_eq!((view, feature), ("v", "f"));
            match key {
                Datum::Int(2) => Answer::exact(Datum::Int(7), Status::Present, Some(9)),
                _ => Answer::exact(Datum::Null, Status::NotFound, None),
            }
        };
        let found = answer(&expression, &find, &look_up);
        assert!(found.same(&expected), "{} is {found:?}", expression.sql());
    }

    fn lookup(key: Expr) -> Expr {
        Expr::Lookup { view: "v".into(), feature: "f".into(), key: Box::new(key) }
    }

    #[test]
    fn lookups_are_inputs() {
        check(lookup(Expr::column("n")), Answer::exact(Datum::Int(7), Status::Present, Some(9)));
        check(lookup(Expr::int(3)), Answer::exact(Datum::Null, Status::NotFound, None));
        check(lookup(Expr::column("gone")), Answer::exact(Datum::Null, Status::Empty, None));
        check(lookup(Expr::Literal(Datum::Null)), Answer::exact(Datum::Null, Status::Present, None));
        let sum = Expr::binary(Operator::Add, lookup(Expr::int(9)), Expr::column("n"));
        check(sum, Answer::exact(Datum::Null, Status::NotFound, Some(5)));
    }

    #[test]
    fn lookups_nest() {
        let inner = Expr::binary(Operator::Subtract, lookup(Expr::int(2)), Expr::int(5));
        check(lookup(inner), Answer::exact(Datum::Int(7), Status::Present, Some(9)));
        check(lookup(lookup(Expr::int(2))), Answer::exact(Datum::Null, Status::NotFound, Some(9)));
        let nothing = Expr::IsNull { x: Box::new(lookup(lookup(Expr::int(2)))), negated: false };
        check(nothing, Answer::exact(Datum::Bool(true), Status::Present, Some(9)));
    }
}
