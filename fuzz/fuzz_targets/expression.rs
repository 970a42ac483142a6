//! Any text as an expression over columns of every type: a fault, or a value of the promised type for every row.
#![no_main]

use std::cell::Cell;
use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use tidemill_features::definitions::parse_type;
use tidemill_features::expression::{Column, Expression, Frame, Scope, compile, compile_call};
use tidemill_features::value::{DataType, Value};
use tidemill_fuzz::rows::{NOW, edges, is_of};

const COLUMNS: [(&str, &str); 13] = [
    ("b", "bool"),
    ("i", "int64"),
    ("j", "int64"),
    ("f", "float64"),
    ("s", "string"),
    ("y", "bytes"),
    ("t", "timestamp"),
    ("d", "decimal(10,2)"),
    ("h", "decimal(38,20)"),
    ("l", "list<string>"),
    ("n", "list<int64>"),
    ("m", "list<float32>"),
    ("v", "vector<3>"),
];

/// As many rows as the type with the most edge values has, times the next prime number for the others.
const ROWS: usize = 11;

static TYPES: LazyLock<Vec<DataType>> = LazyLock::new(|| {
    COLUMNS.iter().map(|(_, text)| parse_type(text).expect("the types are those of the language").data_type).collect()
});

static VALUES: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let column = |(at, data_type): (usize, &DataType)| {
        let edges = edges(data_type);
        // Columns of one type must differ, or comparisons would always be equal.
        Column::Values((0..ROWS).map(|row| edges[(row * (at + 1)) % edges.len()].clone()).collect())
    };
    TYPES.iter().enumerate().map(column).collect()
});

struct EveryType;

impl Scope for EveryType {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        let at = COLUMNS.iter().position(|(name, _)| [*name] == path);
        let at = at.ok_or_else(|| (format!("unknown column `{}`", path.join(".")), None))?;
        Ok((at, TYPES[at].clone()))
    }

    fn at_read(&self) -> bool {
        true
    }
}

fn evaluate(expression: &Expression) {
    let errors = Cell::new(0);
    for row in 0..ROWS {
        let frame = Frame { columns: &VALUES, row, now: NOW, errors: &errors };
        let value = expression.evaluate(&frame);
        match &expression.data_type {
            // Rounding may carry a decimal beyond the digits of its type, never beyond 38.
            Some(DataType::Decimal { scale, .. }) => {
                let widest = DataType::Decimal { precision: 38, scale: *scale };
                assert!(is_of(&value, &widest), "{value:?} is not {widest}");
            }
            Some(data_type) => assert!(is_of(&value, data_type), "{value:?} is not {data_type}"),
            None => assert!(matches!(value, Value::Null), "{value:?} out of NULL"),
        }
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    if let Ok(expression) = compile(text, &EveryType) {
        evaluate(&expression);
    }
    if let Ok(call) = compile_call(text, &EveryType) {
        call.arguments.iter().for_each(|argument| evaluate(&argument.expression));
    }
    Corpus::Keep
});
