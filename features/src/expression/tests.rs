//! Expressions as users write them, one line a case.

use std::cell::Cell;

use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};

use super::*;

pub(super) struct Names;

const COLUMNS: [(&str, DataType); 7] = [
    ("i", DataType::Int64),
    ("f", DataType::Float64),
    ("s", DataType::Text),
    ("b", DataType::Bool),
    ("t", DataType::Timestamp),
    ("d", DataType::Decimal { precision: 10, scale: 2 }),
    ("v", DataType::Vector(2)),
];

impl Scope for Names {
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)> {
        let at = COLUMNS.iter().position(|(name, _)| [*name] == path);
        let at = at.ok_or_else(|| (format!("unknown column `{}`", path.join(".")), None))?;
        Ok((at, COLUMNS[at].1.clone()))
    }

    fn at_read(&self) -> bool {
        true
    }
}

/// Row 0 has values, row 1 only nulls.
fn columns() -> Vec<Column> {
    vec![
        Column::Int64(Int64Array::from(vec![Some(7), None])),
        Column::Float64(Float64Array::from(vec![Some(2.5), None])),
        Column::Text(StringArray::from(vec![Some("Grüße, Köln"), None])),
        Column::Bool(BooleanArray::from(vec![Some(true), None])),
        Column::Timestamp(Int64Array::from(vec![Some(1_774_749_600_123_456), None])),
        Column::Values(vec![Value::Decimal(1250), Value::Null]),
        Column::Values(vec![Value::List([0.5, -1.0].map(Value::Float64).to_vec()), Value::Null]),
    ]
}

fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Int64(v) => v.to_string(),
        Value::Float64(v) => format!("{v:?}"),
        Value::Text(v) => format!("'{v}'"),
        Value::Timestamp(v) => crate::time::rfc3339(*v),
        Value::Decimal(v) => format!("{v}d"),
        other => format!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn check(text: &str, expected: &str) {
    let expression = compile(text, &Names).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    let (columns, errors) = (columns(), Cell::new(0));
    let frame = Frame { columns: &columns, row: 0, now: 5_000_000, errors: &errors };
    let shown = show(&expression.evaluate(&frame));
    let shown = if errors.get() > 0 { format!("{shown}!") } else { shown };
    assert_eq!(shown, expected, "{text}");
}

/// A row error is shown by `!`.
#[test]
#[allow(clippy::too_many_lines)]
fn values() {
    for (text, expected) in [
        ("i + 1", "8"),
        ("i / 2", "3.5"),
        ("div(-7, 2)", "-3"),
        ("-7 % 3", "-1"),
        ("i / 0", "null!"),
        ("i % 0", "null!"),
        ("9223372036854775807 + 1", "null!"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-9223372036854775808 % -1", "0"),
        ("1e308 * 10", "null!"),
        ("f * 2", "5.0"),
        ("i + f", "9.5"),
        ("d + 1", "1350d"),
        ("d * d", "1562500d"),
        ("d / 2", "6.25"),
        ("d > 12", "true"),
        ("9007199254740993 > 9007199254740992.0", "true"),
        ("i = 7.0 AND NOT b IS NULL", "true"),
        ("null AND false", "false"),
        ("null OR false", "null"),
        ("i IN (1, null)", "null"),
        ("i NOT IN (1, 2)", "true"),
        ("i BETWEEN 7 AND 8", "true"),
        ("s LIKE 'Gr_ße%'", "true"),
        ("s LIKE '%köln'", "false"),
        ("s LIKE '%%K%n'", "true"),
        ("CASE WHEN i > 100 THEN 'big' WHEN b THEN 'flag' END", "'flag'"),
        ("CASE i WHEN 7 THEN 1 ELSE 2.5 END", "1.0"),
        ("coalesce(null, i)", "7"),
        ("nullif(i, 7)", "null"),
        ("cast('12' AS BIGINT)", "12"),
        ("cast('x' AS BIGINT)", "null!"),
        ("try_cast('x' AS BIGINT)", "null"),
        ("cast(2.5 AS BIGINT)", "3"),
        ("cast(3 AS BOOLEAN)", "true"),
        ("cast(0 AS BOOLEAN)", "false"),
        ("cast('True' AS BOOLEAN)", "true"),
        ("cast(-2.5 AS BIGINT)", "-3"),
        ("cast(1e30 AS BIGINT)", "null!"),
        ("cast('1e400' AS DOUBLE)", "null!"),
        ("cast(i AS VARCHAR)", "'7'"),
        ("cast(2.675 AS DECIMAL(10, 2))", "267d"),
        ("cast(0.125 AS DECIMAL(10, 2))", "13d"),
        ("cast(-0.125 AS DECIMAL(10, 2))", "-13d"),
        ("cast(0.5 AS DECIMAL(10, 0))", "1d"),
        ("cast(-2.5 AS DECIMAL(10, 0))", "-3d"),
        ("cast(0.49999999999999994 AS DECIMAL(10, 0))", "0d"),
        ("cast(9.5 AS DECIMAL(1, 0))", "null!"),
        ("upper(s)", "'GRÜSSE, KÖLN'"),
        ("length(s)", "11"),
        ("substr(s, 3, 2)", "'üß'"),
        ("substr(s, 0, 3)", "'Gr'"),
        ("concat(s, null, i)", "'Grüße, Köln7'"),
        ("s || null", "null"),
        ("trim('  a ')", "'a'"),
        ("split_part(s, ', ', 2)", "'Köln'"),
        ("split_part(s, ',', 9)", "''"),
        ("starts_with(s, 'Gr')", "true"),
        ("regexp_like(s, '^Gr.+n$')", "true"),
        ("abs(-3)", "3"),
        ("floor(-2.5)", "-3.0"),
        ("ceil(d)", "1300d"),
        ("round(2.5)", "3.0"),
        ("round(-2.5)", "-3.0"),
        ("round(2.345, 2)", "2.35"),
        ("sqrt(-1)", "null!"),
        ("ln(0)", "null!"),
        ("power(2, 10)", "1024.0"),
        ("least(3, null, 2.5)", "2.5"),
        ("greatest(null, null)", "null"),
        ("date_trunc('day', t, 'Europe/Berlin')", "2026-03-28T23:00:00.000000Z"),
        ("date_trunc('hour', t)", "2026-03-29T02:00:00.000000Z"),
        ("extract('hour', t, 'Europe/Berlin')", "4"),
        ("extract(DAY FROM t)", "29"),
        ("extract('day', t)", "29"),
        ("t > '2026-01-01T00:00:00Z'", "true"),
        ("now()", "1970-01-01T00:00:05.000000Z"),
        ("hash64('')", "3244421341483603138"),
        ("round(haversine(52.52, 13.405, 48.8566, 2.3522))", "877.0"),
        ("length(ARRAY[1, 2])", "2"),
        ("element(ARRAY['a', 'b'], 2)", "'b'"),
        ("contains(ARRAY[1, 2], 3)", "false"),
        ("i IS DISTINCT FROM null", "true"),
        ("(i IS DISTINCT FROM null) AND b", "true"),
    ] {
        check(text, expected);
    }
}

/// Three-valued logic, every pair.
#[test]
fn truth_tables() {
    for (a, left) in [("TRUE", Some(true)), ("FALSE", Some(false)), ("CAST(NULL AS BOOLEAN)", None)] {
        for (b, right) in [("TRUE", Some(true)), ("FALSE", Some(false)), ("CAST(NULL AS BOOLEAN)", None)] {
            let shown = |value: Option<bool>| value.map_or("null".to_string(), |v| v.to_string());
            let both = match (left, right) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            let either = match (left, right) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
            check(&format!("{a} AND {b}"), &shown(both));
            check(&format!("{a} OR {b}"), &shown(either));
        }
    }
}

#[test]
fn casts_to_floats() {
    check("CAST(i AS DOUBLE)", "7.0");
    check("CAST(d AS DOUBLE)", "12.5");
    check("CAST(' -1.5e2 ' AS DOUBLE)", "-150.0");
    check("CAST('inf' AS DOUBLE)", "null!");
    check("CAST('1e999' AS DOUBLE)", "null!");
}

#[test]
fn nulls_give_nulls() {
    let columns = columns();
    for text in ["i + 1", "f * f", "d - d", "s LIKE 'x'", "i < 2", "upper(s)", "sqrt(f)", "t > t", "not b", "-i"] {
        let expression = compile(text, &Names).unwrap();
        let errors = Cell::new(0);
        let frame = Frame { columns: &columns, row: 1, now: 0, errors: &errors };
        assert!(expression.evaluate(&frame).is_null() && errors.get() == 0, "{text}");
    }
}

#[test]
fn faults_name_their_place() {
    for (text, column, message) in [
        ("i + x", 5, "unknown column `x`"),
        ("i +", 1, "expected"),
        ("s > 3", 1, "cannot be compared"),
        ("i = 3 foo", 7, "expected the end"),
        ("lowr(s)", 1, "unknown function"),
        ("lower(i)", 1, "cannot be int64"),
        ("lower(s, s)", 1, "does not take 2"),
        ("regexp_like(s, '(')", 1, "not a regular expression"),
        ("i AND b", 1, "AND takes bool"),
        ("(SELECT 1)", 2, "not part of"),
        ("b IS DISTINCT FROM b AND b", 20, "in parentheses"),
        ("b IS NOT DISTINCT FROM b OR b", 24, "in parentheses"),
        ("cast(b AS DOUBLE)", 6, "cannot be cast"),
        ("date_trunc('dai', t)", 1, "is not one of"),
    ] {
        let fault = compile(text, &Names).unwrap_err();
        assert!(fault.message.contains(message), "{text}: {fault:?}");
        if text != "i +" {
            assert_eq!(fault.column, column, "{text}: {fault:?}");
        }
    }
    let deep = format!("{}i{}", "(".repeat(5000), ")".repeat(5000));
    assert!(compile(&deep, &Names).unwrap_err().message.contains("longer than"));
    let nested = format!("{}i{}", "(".repeat(100), ")".repeat(100));
    assert!(compile(&nested, &Names).unwrap_err().message.contains("nested too deeply"));
    let chain = format!("i{}", " + 1".repeat(5000));
    assert!(compile(&chain, &Names).unwrap_err().message.contains("longer than"));
    let fits = format!("i{}", " + 1".repeat(390));
    assert!(compile(&fits, &Names).is_ok());
}

#[test]
fn what_repeats_its_operand_stays_small() {
    let nested =
        |inner: &str, depth: usize, wrap: fn(&str) -> String| (0..depth).fold(inner.to_string(), |e, _| wrap(&e));
    let case = |e: &str| format!("CASE {e} WHEN 1 THEN 1 WHEN 2 THEN 2 END");
    let between = |e: &str| format!("({e}) BETWEEN false AND true");
    for deep in [nested("i", 40, case), nested("b", 40, between)] {
        let fault = compile(&deep, &Names).unwrap_err();
        assert!(fault.message.contains("repeats itself"), "{fault:?}");
    }
    assert!(compile(&nested("i", 6, case), &Names).is_ok() && compile(&nested("b", 6, between), &Names).is_ok());
}

/// The parser's work doubles with each level of such words: without their limit this would not end.
#[test]
fn broken_words_inside_of_one_another_end_at_once() {
    for word in
        ["floor(", "CAST(", "array[", "substring(", "position(", "interval ", "not(", "case(", "i in (", "- ceil("]
    {
        for end in ["", "i i", "i !"] {
            let text = format!("{}{end}", word.repeat(40));
            let fault = compile(&text, &Names).unwrap_err();
            assert!(fault.message.contains("nested too deeply"), "{text}: {fault:?}");
        }
    }
    let fits = format!("{}f{}", "floor(".repeat(8), ")".repeat(8));
    assert!(compile(&fits, &Names).is_ok());
    let flat = vec!["cast(floor(f) AS BIGINT)"; 20].join(" + ");
    assert!(compile(&flat, &Names).is_ok());
}

#[test]
fn arguments_have_places() {
    let call = compile_call("sum(s)", &Names).unwrap();
    assert_eq!(call.arguments[0].place, (1, 5));
}
