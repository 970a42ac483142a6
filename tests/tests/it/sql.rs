//! Expressions against a SQL engine: random ones of the common subset, over random rows, by our compiled closures and by
//! DuckDB. What our contract says differently is a table (`forms::DIFFERENT`); every other disagreement is a bug of one side.
//!
//! Reading order: `forms` (what is generated), `rows` (columns and their values), `duckdb` (the other side).

pub mod duckdb;
mod forms;
mod rows;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use proptest::test_runner::TestCaseError;
use serde_json::{Value as Json, json};
use tidemill_features::expression::{Column, Expression, Frame, Scope, compile};
use tidemill_features::value::{DataType, Value, decimal_text};

use self::duckdb::DuckDb;
pub use self::duckdb::python;
use self::forms::{BARE, COLUMNS, DIFFERENT, KINDS, Kind, LEFT_OUT, LITERALS, OUTERMOST, SAME};
use self::rows::{Row, arrays, data_type, json_of, row};
use crate::parity::{cases, run};

/// Expressions that DuckDB answers at once.
const TOGETHER: usize = 20;
/// How far results of `exp`, `ln` and `power` may lie apart, relatively: theirs come from the system's library.
const NEAR: f64 = 1e-14;

/// One expression as both sides write it.
#[derive(Clone, Debug)]
struct Pair {
    ours: String,
    theirs: String,
}

type Level = HashMap<Kind, BoxedStrategy<Pair>>;

fn filled(template: &str, operands: &[Pair], text: impl Fn(&Pair) -> &String) -> String {
    let mut whole = template.to_string();
    for (at, operand) in operands.iter().enumerate() {
        whole = whole.replace(&format!("{{{at}}}"), text(operand));
    }
    whole
}

fn form(takes: &[Kind], ours: &'static str, theirs: &'static str, of: &Level) -> BoxedStrategy<Pair> {
    let operands: Vec<BoxedStrategy<Pair>> = takes.iter().map(|kind| of[kind].clone()).collect();
    let pair = move |operands: Vec<Pair>| Pair {
        ours: filled(ours, &operands, |pair| &pair.ours),
        theirs: filled(theirs, &operands, |pair| &pair.theirs),
    };
    operands.prop_map(pair).boxed()
}

/// Columns, and now and then a literal.
fn leaves() -> Level {
    let of_kind = |kind: Kind| {
        let columns: Vec<Pair> =
            COLUMNS.iter().filter(|column| column.1 == kind).map(|column| named(column.0)).collect();
        let literals: Vec<Pair> = LITERALS
            .iter()
            .filter(|literal| literal.0 == kind)
            .map(|(_, ours, theirs)| Pair { ours: ours.to_string(), theirs: theirs.to_string() })
            .collect();
        match (columns.is_empty(), literals.is_empty()) {
            (false, false) => prop_oneof![4 => select(columns), 1 => select(literals)].boxed(),
            _ => select(columns).boxed(),
        }
    };
    KINDS.into_iter().map(|kind| (kind, of_kind(kind))).collect()
}

fn named(column: &str) -> Pair {
    Pair { ours: column.to_string(), theirs: column.to_string() }
}

/// Expressions one level deeper; the simpler ones first, for shrinking.
fn deeper(level: &Level) -> Level {
    let mut next = Level::new();
    for kind in KINDS {
        let same =
            SAME.iter().filter(|(gives, ..)| *gives == kind).map(|(_, takes, text)| form(takes, text, text, level));
        let different = DIFFERENT.iter().filter(|(gives, ..)| *gives == kind);
        let forms: Vec<_> =
            same.chain(different.map(|(_, takes, ours, theirs, _)| form(takes, ours, theirs, level))).collect();
        let plain = level[&kind].clone();
        let both = if forms.is_empty() { plain } else { prop_oneof![1 => plain, 3 => Union::new(forms)].boxed() };
        next.insert(kind, both);
    }
    next
}

fn expressions() -> BoxedStrategy<Pair> {
    let leaves = leaves();
    let deep = deeper(&deeper(&deeper(&leaves)));
    let outermost: Vec<_> =
        OUTERMOST.iter().map(|(takes, ours, theirs, _)| form(takes, ours, theirs, &leaves)).collect();
    let any_kind: Vec<_> = KINDS[..6].iter().map(|kind| deep[kind].clone()).collect();
    prop_oneof![5 => Union::new(any_kind), 1 => Union::new(outermost)].boxed()
}

struct Names;

impl Scope for Names {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        let at = COLUMNS.iter().position(|(name, ..)| [*name] == path);
        let at = at.ok_or_else(|| (format!("unknown column {path:?}"), None))?;
        Ok((at, data_type(COLUMNS[at].2)))
    }

    fn at_read(&self) -> bool {
        false
    }
}

fn evaluate(expression: &Expression, columns: &[Column], row: usize) -> Value<'static> {
    let errors = Cell::new(0);
    expression.evaluate(&Frame { columns, row, now: 0, errors: &errors }).into_owned()
}

/// Our values by row: as a batch of arrays, and each row by itself, which must be the same to the bit.
fn our_values(expression: &Expression, rows: &[Row]) -> Result<Vec<Value<'static>>, TestCaseError> {
    let batch = arrays(rows);
    let mut values = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let of_batch = evaluate(expression, &batch, at);
        let alone: Vec<Column> = row.iter().map(|value| Column::Values(vec![value.clone()])).collect();
        let of_row = evaluate(expression, &alone, 0);
        prop_assert!(of_batch.same(&of_row), "{}: {of_batch:?} in a batch, {of_row:?} alone", expression.text);
        values.push(of_batch);
    }
    Ok(values)
}

/// A decimal's digits without zeros at the end: 1.50 and 1.5 are one number, and so are 2.0 and 2.
fn shortest(digits: &str) -> String {
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    if digits == "-0" { "0".to_string() } else { digits.to_string() }
}

fn agree(ours: &Value<'_>, of: Option<&DataType>, theirs: &Json) -> bool {
    let number = theirs.get("int").or(theirs.get("decimal")).and_then(Json::as_str);
    let scale = if let Some(DataType::Decimal { scale, .. }) = of { *scale } else { 0 };
    match ours {
        Value::Null => theirs.is_null(),
        Value::Bool(v) => theirs.as_bool() == Some(*v),
        Value::Int64(v) | Value::Timestamp(v) => number.is_some_and(|text| shortest(text) == v.to_string()),
        Value::Decimal(v) => number.is_some_and(|text| shortest(text) == shortest(&decimal_text(*v, scale))),
        Value::Float64(v) => {
            let their = theirs.get("float").and_then(Json::as_str).and_then(|text| text.parse::<f64>().ok());
            their.is_some_and(|their| *v == their || (v - their).abs() <= NEAR * v.abs())
        }
        Value::Text(v) => theirs.get("text").and_then(Json::as_str) == Some(&**v),
        _ => false,
    }
}

/// As DuckDB is asked: times as microseconds, which JSON can carry.
fn asked(pair: &Pair, expression: &Expression) -> String {
    match expression.data_type {
        Some(DataType::Timestamp) => format!("epoch_us({})", pair.theirs),
        _ => pair.theirs.clone(),
    }
}

fn check(duckdb: &mut DuckDb, pairs: &[Pair], rows: &[Row]) -> Result<(), TestCaseError> {
    let compiled: Vec<Expression> = pairs
        .iter()
        .map(|pair| compile(&pair.ours, &Names).unwrap_or_else(|f| panic!("{}: {f:?}", pair.ours)))
        .collect();
    let columns: Vec<Json> = COLUMNS.iter().map(|(name, _, of)| json!([name, of])).collect();
    let rows_sent: Vec<Vec<Json>> = rows.iter().map(json_of).collect();
    let ask: Vec<String> = pairs.iter().zip(&compiled).map(|(pair, expression)| asked(pair, expression)).collect();
    let answers = duckdb.ask(&json!({ "columns": columns, "rows": rows_sent, "ask": ask }));
    let mut disagreements = Vec::new();
    for ((pair, expression), theirs) in pairs.iter().zip(&compiled).zip(answers["answers"].as_array().unwrap()) {
        disagreements.extend(disagreement(pair, expression, theirs, rows)?);
    }
    prop_assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    Ok(())
}

/// What DuckDB 2.0.0 says of some right expressions, such as `coalesce(u, s) IN (s, split_part(s, ',', 2))`: a fault of its own
/// planner. There is nothing to compare with then.
const DUCKDB_FAULT: &str = "BindBuiltinScalarFunction did not return";

/// The first row for which the two sides differ.
fn disagreement(
    pair: &Pair,
    expression: &Expression,
    theirs: &Json,
    rows: &[Row],
) -> Result<Option<String>, TestCaseError> {
    if let Some(message) = theirs.get("failed") {
        if message.to_string().contains(DUCKDB_FAULT) {
            return Ok(None);
        }
        return Ok(Some(format!("DuckDB refuses {}: {message}", pair.theirs)));
    }
    let ours = our_values(expression, rows)?;
    let differs = |at: &usize| !agree(&ours[*at], expression.data_type.as_ref(), &theirs[*at]);
    Ok((0..rows.len()).find(differs).map(|at| {
        let (ours, theirs_said) = (&ours[at], &theirs[at]);
        format!("{} is {ours:?}; DuckDB: {} is {theirs_said} ({:?})", pair.ours, pair.theirs, rows[at])
    }))
}

#[test]
fn expressions_equal_duckdb() {
    LEFT_OUT.iter().for_each(|(what, why)| println!("left out: {what} ({why})"));
    let duckdb = RefCell::new(DuckDb::start());
    let strategy = (prop::collection::vec(expressions(), 1..=TOGETHER), prop::collection::vec(row(), 1..=12));
    run("expressions = DuckDB", strategy, cases() / 20, |(pairs, rows)| check(&mut duckdb.borrow_mut(), pairs, rows));
}

/// Each form by itself, over many rows: none is left to chance.
#[test]
fn every_form_equals_duckdb() {
    let duckdb = RefCell::new(DuckDb::start());
    let leaves = leaves();
    let same = SAME.iter().map(|(_, takes, text)| form(takes, text, text, &leaves));
    let different = DIFFERENT.iter().map(|(_, takes, ours, theirs, _)| form(takes, ours, theirs, &leaves));
    let outermost = OUTERMOST.iter().map(|(takes, ours, theirs, _)| form(takes, ours, theirs, &leaves));
    let bare = BARE.iter().map(|text| form(&[], text, text, &leaves));
    let all: Vec<BoxedStrategy<Pair>> = same.chain(different).chain(outermost).chain(bare).collect();
    let strategy = (all, prop::collection::vec(row(), 1..=60));
    run("every form = DuckDB", strategy, 5, |(pairs, rows)| check(&mut duckdb.borrow_mut(), pairs, rows));
}
