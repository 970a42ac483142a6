//! Random derived features: over the outputs of their own view, over those of other views, and over other keys.
//! Each names only outputs that were there before it, so that no circle comes about.

use super::expression::{Expr, Function, Operator};
use super::generate_log::KEYS;
use super::model::{Aggregate, Feature, Type, View};

/// What a derived feature can name.
#[derive(Clone, Debug)]
pub struct Output {
    pub name: String,
    /// `None` for a list or a map.
    pub of: Option<Type>,
    /// An inexact value leaves no bound on what is computed from it.
    pub is_exact: bool,
    /// Neither the request nor another view has a part in it, so another key can be asked for it.
    pub is_of_key_alone: bool,
    /// How many lookups deep it is.
    pub depth: u8,
}

/// A view whose source is not known yet.
#[derive(Clone, Debug)]
pub struct Draft {
    pub view: View,
    pub outputs: Vec<Output>,
    pub source: u8,
}

/// A shape and the two outputs it takes.
pub type Draw = (u8, u8, u8);

impl Output {
    pub fn of_feature(feature: &Feature, of: Option<Type>) -> Output {
        // As good as always exact: few logs hold more than 256 different values.
        let is_exact = feature.aggregate.is_exact() || matches!(feature.aggregate, Aggregate::CountDistinct(_));
        let is_of_key_alone = !feature.include_request;
        Output { name: feature.name.clone(), of, is_exact, is_of_key_alone, depth: 0 }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self.of, None | Some(Type::Vector(_)))
    }

    fn is_number(&self) -> bool {
        self.is_exact && matches!(self.of, Some(Type::Int64 | Type::Float64))
    }

    fn column(&self) -> Expr {
        Expr::column(&self.name)
    }
}

/// Derived features of one view; adds them to its outputs. Shapes without operands are left out.
pub fn local(outputs: &mut Vec<Output>, draws: &[Draw]) -> Vec<(String, Expr)> {
    let mut derived = Vec::new();
    for (i, (shape, left, right)) in draws.iter().enumerate() {
        let inputs = outputs.clone();
        let Some((expression, output)) = over(&inputs, &format!("d{i}"), *shape, *left, *right) else { continue };
        derived.push((output.name.clone(), expression));
        outputs.push(output);
    }
    derived
}

/// More derived features, each of a view of its own and over outputs of all views, by their paths.
pub fn across(drafts: &mut [Draft], draws: &[(u8, Draw)]) {
    for (i, (view, (shape, left, right))) in draws.iter().enumerate() {
        let index = usize::from(*view) % drafts.len();
        let name = format!("x{i}");
        let found = if shape.is_multiple_of(2) {
            over(&all_paths(drafts, index), &name, shape / 2, *left, *right)
        } else {
            over_lookup(drafts, index, &name, shape / 2, *left, *right)
        };
        let Some((expression, output)) = found else { continue };
        drafts[index].view.derived.push((name, expression));
        drafts[index].outputs.push(output);
    }
}

/// The outputs as the view with this index names them, those of other views first.
fn all_paths(drafts: &[Draft], index: usize) -> Vec<Output> {
    let mut paths = Vec::new();
    for (i, draft) in drafts.iter().enumerate() {
        for output in draft.outputs.iter().filter(|_| i != index) {
            let name = format!("{}.{}", draft.view.name, output.name);
            paths.push(Output { name, is_of_key_alone: false, ..output.clone() });
        }
    }
    paths.extend(drafts[index].outputs.iter().cloned());
    paths
}

/// Only scalars are named, and only exact ones in more than IS NULL.
fn over(inputs: &[Output], name: &str, shape: u8, left: u8, right: u8) -> Option<(Expr, Output)> {
    let scalars: Vec<&Output> = inputs.iter().filter(|output| output.is_scalar()).collect();
    let numbers: Vec<&Output> = inputs.iter().filter(|output| output.is_number()).collect();
    let (expression, of, used) = if numbers.is_empty() || shape.is_multiple_of(6) {
        let x = *scalars.get(usize::from(left) % scalars.len().max(1))?;
        (Expr::IsNull { x: Box::new(x.column()), negated: shape.is_multiple_of(12) }, Type::Bool, vec![x])
    } else {
        let number = |index: u8| numbers[usize::from(index) % numbers.len()];
        let (x, y) = (number(left), number(right));
        let (expression, of) = number_expression(shape % 6, (x.column(), x.of?), (y.column(), y.of?));
        (expression, of, vec![x, y])
    };
    let output = Output {
        name: name.to_string(),
        of: Some(of),
        is_exact: true,
        is_of_key_alone: used.iter().all(|input| input.is_of_key_alone),
        depth: used.iter().map(|input| input.depth).max().unwrap_or(0),
    };
    Some((expression, output))
}

fn number_expression(shape: u8, left: (Expr, Type), right: (Expr, Type)) -> (Expr, Type) {
    let ((x, of_x), (y, of_y)) = (left, right);
    let of_both = if (of_x, of_y) == (Type::Int64, Type::Int64) { Type::Int64 } else { Type::Float64 };
    let zero = if of_x == Type::Int64 { Expr::int(0) } else { Expr::float(0.0) };
    match shape {
        1 => {
            let divisor = Expr::call(Function::NullIf, &[y, Expr::int(0)]);
            (Expr::binary(Operator::Divide, x, divisor), Type::Float64)
        }
        2 => (Expr::binary(Operator::Subtract, Expr::call(Function::Coalesce, &[x, zero]), y), of_both),
        3 => (Expr::binary(Operator::Greater, x, y), Type::Bool),
        4 => (Expr::binary(Operator::Multiply, x, y), of_both),
        _ => {
            let doubled = Expr::binary(Operator::Add, x.clone(), x.clone());
            let branches = vec![(Expr::binary(Operator::Less, x, y), doubled)];
            (Expr::Case { branches, otherwise: Some(Box::new(zero)) }, of_x)
        }
    }
}

/// A feature of another key, or how far a number of this key is from it.
fn over_lookup(drafts: &[Draft], index: usize, name: &str, shape: u8, left: u8, right: u8) -> Option<(Expr, Output)> {
    let can_be_looked_up = |output: &Output| output.is_scalar() && output.is_of_key_alone && output.depth < 3;
    let mut targets: Vec<(&View, &Output)> = Vec::new();
    for draft in drafts.iter().filter(|draft| draft.view.entity_keys.len() == 1) {
        targets.extend(draft.outputs.iter().filter(|output| can_be_looked_up(output)).map(|it| (&draft.view, it)));
    }
    let (view, target) = targets.get(usize::from(left) % targets.len().max(1))?;
    let own = &drafts[index].outputs;
    let (key, of_key) = key(&view.entity_keys[0], own, right);
    let lookup = Expr::Lookup { view: view.name.clone(), feature: target.name.clone(), key: Box::new(key) };
    let mut output = Output {
        name: name.to_string(),
        is_of_key_alone: of_key.is_none_or(|key| key.is_of_key_alone),
        depth: 1 + target.depth.max(of_key.map_or(0, |key| key.depth)),
        ..(*target).clone()
    };
    let number = own.iter().find(|output| output.is_number());
    let (false, true, Some(number)) = (shape.is_multiple_of(3), target.is_number(), number) else {
        return Some((lookup, output));
    };
    let (expression, of) = number_expression(2, (lookup, target.of?), (number.column(), number.of?));
    output.of = Some(of);
    output.is_of_key_alone &= number.is_of_key_alone;
    output.depth = output.depth.max(number.depth);
    Some((expression, output))
}

/// A key that the log may have, or an output of the right type, which may be null.
fn key<'a>(column: &str, own: &'a [Output], variety: u8) -> (Expr, Option<&'a Output>) {
    let of = if column == "key_int" { Type::Int64 } else { Type::Text };
    let known = KEYS[usize::from(variety) % KEYS.len()];
    let literal = if of == Type::Int64 { Expr::int(known.1) } else { Expr::text(known.0) };
    let fits = |output: &&Output| output.is_exact && output.of == Some(of) && output.depth < 3;
    match own.iter().rev().find(fits) {
        Some(output) if variety.is_multiple_of(3) => (output.column(), Some(output)),
        Some(output) if variety % 3 == 1 => (Expr::call(Function::Coalesce, &[output.column(), literal]), Some(output)),
        _ => (literal, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Datum, Window};
    use super::super::sample::{feature, view};
    use super::*;

    fn draft(name: &str) -> Draft {
        let count = feature("n", Aggregate::Count, Window::Lifetime);
        let mut view = view(vec![count.clone()]);
        view.name = name.into();
        view.entity_keys = vec!["key_int".into()];
        Draft { view, outputs: vec![Output::of_feature(&count, Some(Type::Int64))], source: 0 }
    }

    #[test]
    fn derived_features_build_on_each_other() {
        let mut outputs = draft("v").outputs;
        let derived = local(&mut outputs, &[(4, 0, 0), (3, 1, 0)]);
        let sql: Vec<String> =
            derived.iter().map(|(name, expression)| format!("{name} = {}", expression.sql())).collect();
        assert_eq!(sql, ["d0 = (n * n)", "d1 = (d0 > n)"]);
        assert!(matches!(outputs[1..], [Output { of: Some(Type::Int64), .. }, Output { of: Some(Type::Bool), .. }]));
    }

    #[test]
    fn paths_and_lookups() {
        let mut drafts = [draft("v"), draft("w")];
        across(&mut drafts, &[(0, (8, 0, 1)), (1, (1, 0, 2)), (1, (1, 2, 0))]);
        assert_eq!(drafts[0].view.derived[0].1.sql(), "(w.n * n)");
        assert!(!drafts[0].outputs[1].is_of_key_alone);
        assert_eq!(drafts[1].view.derived[0].1.sql(), "lookup('v:n', 2)");
        assert_eq!(drafts[1].view.derived[1].1.sql(), "lookup('w:x1', x1)");
        assert_eq!(drafts[1].outputs[2].depth, 2);
    }

    #[test]
    fn keys_of_both_types() {
        assert!(matches!(key("key_text", &[], 0).0, Expr::Literal(Datum::Text(_))));
        assert!(matches!(key("key_int", &[], 0).0, Expr::Literal(Datum::Int(1))));
    }
}
