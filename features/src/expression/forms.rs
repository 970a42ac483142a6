//! Operators and functions form by form: calendars, tests, comparisons at the edges of the types, and what is refused.

use std::cell::Cell;

use arrow_array::{BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};

use super::tests::{Names, check};
use super::*;

/// Every unit at one time, which is a Wednesday.
#[test]
fn units_of_the_calendar() {
    let time = "TIMESTAMP '2026-08-19T23:45:56.789Z'";
    for (unit, start) in [
        ("second", "2026-08-19T23:45:56.000000Z"),
        ("minute", "2026-08-19T23:45:00.000000Z"),
        ("hour", "2026-08-19T23:00:00.000000Z"),
        ("day", "2026-08-19T00:00:00.000000Z"),
        ("week", "2026-08-17T00:00:00.000000Z"),
        ("month", "2026-08-01T00:00:00.000000Z"),
        ("quarter", "2026-07-01T00:00:00.000000Z"),
        ("year", "2026-01-01T00:00:00.000000Z"),
    ] {
        check(&format!("date_trunc('{unit}', {time})"), start);
    }
    for (field, value) in [
        ("second", "56"),
        ("minute", "45"),
        ("hour", "23"),
        ("day", "19"),
        ("week", "34"),
        ("month", "8"),
        ("quarter", "3"),
        ("year", "2026"),
        ("dow", "3"),
        ("doy", "231"),
        ("epoch", "1787183156"),
    ] {
        check(&format!("extract('{field}', {time})"), value);
    }
    for month in 1..=12 {
        let time = format!("TIMESTAMP '2026-{month:02}-28T12:00:00Z'");
        let first = (month - 1) / 3 * 3 + 1;
        check(&format!("date_trunc('quarter', {time})"), &format!("2026-{first:02}-01T00:00:00.000000Z"));
        check(&format!("extract('quarter', {time})"), &((month - 1) / 3 + 1).to_string());
    }
    check("extract('epoch', TIMESTAMP '1969-12-31T23:59:59.5Z')", "-1");
    // Half past two came twice: the hour that began nearer is meant.
    check("date_trunc('hour', TIMESTAMP '2026-10-25T00:30:00Z', 'Europe/Berlin')", "2026-10-25T00:00:00.000000Z");
    check("date_trunc('hour', TIMESTAMP '2026-10-25T01:30:00Z', 'Europe/Berlin')", "2026-10-25T01:00:00.000000Z");
    check("date_trunc('week', TIMESTAMP '2026-08-16T23:00:00Z', 'Europe/Berlin')", "2026-08-16T22:00:00.000000Z");
}

#[test]
fn tests_of_truth_and_null() {
    let unknown = "CAST(NULL AS BOOLEAN)";
    for (test, of_true, of_false, of_unknown) in [
        ("IS TRUE", true, false, false),
        ("IS NOT TRUE", false, true, true),
        ("IS FALSE", false, true, false),
        ("IS NOT FALSE", true, false, true),
        ("IS UNKNOWN", false, false, true),
        ("IS NOT UNKNOWN", true, true, false),
        ("IS NULL", false, false, true),
        ("IS NOT NULL", true, true, false),
    ] {
        for (operand, expected) in [("TRUE", of_true), ("FALSE", of_false), (unknown, of_unknown)] {
            check(&format!("{operand} {test}"), &expected.to_string());
        }
    }
    for (text, expected) in [
        ("i NOT BETWEEN 7 AND 8", "false"),
        ("i BETWEEN 8 AND 9", "false"),
        ("i BETWEEN 6 AND 7", "true"),
        ("s NOT LIKE 'Gr%'", "false"),
        ("i IS NOT DISTINCT FROM 7", "true"),
        ("i IS DISTINCT FROM 7", "false"),
        ("null IS DISTINCT FROM i", "true"),
        ("null IS NOT DISTINCT FROM null", "true"),
        ("nullif(i, 8)", "7"),
        ("nullif(i, null)", "7"),
        ("i NOT IN (7)", "false"),
        ("i NOT IN (1, null)", "null"),
        ("i IN (1, 7, null)", "true"),
        ("i IN (1, 2)", "false"),
        ("coalesce(i, 1)", "7"),
        ("NOT (i = 7)", "false"),
    ] {
        check(text, expected);
    }
}

/// Integers and floats are compared by their exact numbers.
#[test]
fn comparisons_are_exact() {
    for (a, b, ordering) in [
        ("9223372036854775807", "9223372036854775808.0", "<"),
        ("-9223372036854775808", "-9223372036854775808.0", "="),
        ("-9223372036854775808", "-9223372036854777856.0", ">"),
        ("9223372036854775807", "1e300", "<"),
        ("7", "7.5", "<"),
        ("7", "7.0", "="),
        ("7", "6.5", ">"),
        ("-7", "-7.5", ">"),
        ("-7", "-6.5", "<"),
        ("0", "-0.0", "="),
        ("d", "12.5", "="),
        ("d", "12", ">"),
        ("d", "13", "<"),
        ("CAST(1 AS DECIMAL(38,37))", "CAST(2 AS DECIMAL(38,0))", "<"),
        ("CAST(-1 AS DECIMAL(38,37))", "CAST(99999999999999999999999999999999999999 AS DECIMAL(38,0))", "<"),
        ("'a'", "'B'", ">"),
        ("b", "FALSE", ">"),
    ] {
        for (sign, holds) in [("<", ordering == "<"), ("=", ordering == "="), (">", ordering == ">")] {
            check(&format!("{a} {sign} {b}"), &holds.to_string());
            let turned = sign.replace('<', "!").replace('>', "<").replace('!', ">");
            check(&format!("{b} {turned} {a}"), &holds.to_string());
        }
        check(&format!("{a} <= {b}"), &(ordering != ">").to_string());
        check(&format!("{a} >= {b}"), &(ordering != "<").to_string());
        check(&format!("{a} <> {b}"), &(ordering != "=").to_string());
    }
}

#[test]
#[allow(clippy::too_many_lines)]
fn numbers_at_the_edges_of_their_types() {
    for (text, expected) in [
        ("-f", "-2.5"),
        ("+i", "7"),
        ("-d", "-1250d"),
        ("-(-9223372036854775807 - 1)", "null!"),
        ("abs(-9223372036854775807 - 1)", "null!"),
        ("abs(-d)", "1250d"),
        ("abs(-2.5)", "2.5"),
        ("9223372036854775807 * 2", "null!"),
        ("-9223372036854775807 - 2", "null!"),
        ("i - 10", "-3"),
        ("f - 10", "-7.5"),
        ("f / 0", "null!"),
        ("0.0 / 0.0", "null!"),
        ("f % 2", "0.5"),
        ("-7.5 % 2", "-1.5"),
        ("d % 5", "250d"),
        ("d % 0", "null!"),
        ("d - 13", "-50d"),
        ("d + f", "15.0"),
        ("CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)) + 1", "null!"),
        ("div(7, 0)", "null!"),
        ("div(7, -2)", "-3"),
        ("floor(d)", "1200d"),
        ("floor(-d)", "-1300d"),
        ("ceil(-d)", "-1200d"),
        ("round(d)", "1300d"),
        ("round(-d)", "-1300d"),
        ("round(d - 0.01)", "12.0"),
        ("ceil(1.2)", "2.0"),
        ("round(-2.345, 2)", "-2.35"),
        ("round(1234.5, -2)", "1200.0"),
        ("round(1e300, 300)", "1e300"),
        ("round(2.5, -400)", "0.0"),
        ("round(9.5e15, 2)", "9500000000000000.0"),
        ("round(8.9999, 15)", "8.9999"),
        ("power(10, 400)", "null!"),
        ("exp(1000)", "null!"),
        ("exp(0)", "1.0"),
        ("ln(1)", "0.0"),
        ("sqrt(4)", "2.0"),
        ("haversine(0, 0, 0, 0)", "0.0"),
        ("round(haversine(0, 0, 0, 180))", "20015.0"),
        ("round(haversine(10, 20, -30, 40))", "4936.0"),
        ("least(2, 1, 3)", "1"),
        ("greatest(2, 3, 1)", "3"),
        ("least('b', 'a')", "'a'"),
        ("greatest(1, d)", "1250d"),
        ("substr(s, 3)", "'üße, Köln'"),
        ("substr(s, -1, 3)", "'G'"),
        ("substr(s, 2, 0)", "''"),
        ("substr(s, 2, -1)", "null!"),
        ("substr(s, 50)", "''"),
        ("split_part(s, ',', 1)", "'Grüße'"),
        ("split_part(s, ',', 0)", "null!"),
        ("split_part(s, '', 1)", "'Grüße, Köln'"),
        ("split_part(s, '', 2)", "''"),
        ("element(ARRAY[1, 2], 0)", "null"),
        ("element(ARRAY[1, 2], 1)", "1"),
        ("element(ARRAY[1, 2], 3)", "null"),
        ("contains(ARRAY[1, 2], 2)", "true"),
        ("element(v, 2)", "-1.0"),
        ("contains(v, 0.5)", "true"),
        ("contains(v, 0.25)", "false"),
        ("length(v)", "2"),
        ("-NULL", "null"),
        ("starts_with(s, 'rü')", "false"),
        ("regexp_like(s, '^x')", "false"),
        ("lower('ÄB')", "'äb'"),
    ] {
        check(text, expected);
    }
}

#[test]
fn casts_between_all_types() {
    for (text, expected) in [
        ("cast(b AS BIGINT)", "1"),
        ("cast(t AS BIGINT)", "1774749600123456"),
        ("cast(d AS BIGINT)", "13"),
        ("cast(-d AS BIGINT)", "-13"),
        ("cast(9223372036854775807.0 AS BIGINT)", "null!"),
        ("cast(-9223372036854775808.0 AS BIGINT)", "-9223372036854775808"),
        ("cast(' 12 ' AS BIGINT)", "12"),
        ("cast(99999999999999999999 AS BIGINT)", "null!"),
        ("cast('1_0' AS DOUBLE)", "null!"),
        ("cast('nan' AS DOUBLE)", "null!"),
        ("cast(b AS VARCHAR)", "'true'"),
        ("cast(f AS VARCHAR)", "'2.5'"),
        ("cast(d AS VARCHAR)", "'12.50'"),
        ("cast(t AS VARCHAR)", "'2026-03-29T02:00:00.123456Z'"),
        ("cast('1970-01-01T00:00:01Z' AS TIMESTAMP)", "1970-01-01T00:00:01.000000Z"),
        ("cast('noon' AS TIMESTAMP)", "null!"),
        ("cast(1000000 AS TIMESTAMP)", "1970-01-01T00:00:01.000000Z"),
        ("cast(9223372036854775807 AS TIMESTAMP)", "null!"),
        ("cast('FALSE' AS BOOLEAN)", "false"),
        ("cast('yes' AS BOOLEAN)", "null!"),
        ("cast(i AS DECIMAL(10, 2))", "700d"),
        ("cast(i AS DECIMAL(2, 2))", "null!"),
        ("cast(d AS DECIMAL(10, 1))", "125d"),
        ("cast(d AS DECIMAL(10, 0))", "13d"),
        ("cast(d AS DECIMAL(10, 4))", "125000d"),
        ("cast(d AS DECIMAL(3, 2))", "null!"),
        ("cast(f AS DECIMAL(10, 2))", "250d"),
        ("cast(-f AS DECIMAL(10, 1))", "-25d"),
        ("cast(f AS DECIMAL(10, 0))", "3d"),
        ("cast(' 1.5 ' AS DECIMAL(10, 2))", "150d"),
        ("cast('1.234' AS DECIMAL(10, 2))", "null!"),
        ("cast(1e30 AS DECIMAL(10, 2))", "null!"),
        ("cast(9.99 AS DECIMAL(2, 1))", "null!"),
        ("cast(5 AS DECIMAL(38))", "5d"),
        ("cast(cast('98765432109876543210987.65' AS DECIMAL(38, 2)) AS DOUBLE)", "9.876543210987654e22"),
        ("try_cast('yes' AS BOOLEAN)", "null"),
    ] {
        check(text, expected);
    }
}

#[test]
fn what_is_refused_is_told() {
    for (text, message) in [
        ("i + b", "`+` takes numbers, not int64 and bool"),
        ("s * 2", "`*` takes numbers, not string and int64"),
        ("-s", "`-` takes a number, not string"),
        ("-'a'", "`-` takes a number, not string"),
        ("-TRUE", "`-` takes a number, not bool"),
        ("s || i", "`||` takes text, not string and int64"),
        ("i || s", "`||` takes text, not int64 and string"),
        ("i LIKE 'x'", "LIKE takes text, not int64 and string"),
        ("s LIKE i", "LIKE takes text, not string and int64"),
        ("cast(i AS DECIMAL(39, 0))", "cannot cast to DECIMAL(39,0)"),
        ("cast(i AS DECIMAL(5, 6))", "cannot cast to DECIMAL(5,6)"),
        ("cast(i AS DATE)", "cannot cast to DATE"),
        ("cast(t AS DOUBLE)", "timestamp cannot be cast to float64"),
        ("cast(f AS TIMESTAMP)", "float64 cannot be cast to timestamp"),
        ("cast(d AS BOOLEAN)", "decimal(10,2) cannot be cast to bool"),
        ("cast(ARRAY[1] AS VARCHAR)", "list<int64> cannot be cast to string"),
        ("cast(1 AS DECIMAL(38, 20)) * cast(1 AS DECIMAL(38, 19))", "the product has 39 digits behind the point"),
        ("CASE WHEN b THEN 1 ELSE 'a' END", "CASE mixes int64 and string"),
        ("CASE WHEN i THEN 1 END", "WHEN takes bool, not int64"),
        ("coalesce(1, 'a')", "mixes int64 and string"),
        ("least(1, 'a')", "least and greatest mixes int64 and string"),
        ("ARRAY[1, 'a']", "ARRAY mixes int64 and string"),
        ("element(i, 1)", "element takes a list, not int64"),
        ("contains(ARRAY[1], 'a')", "a list of int64 cannot contain string"),
        ("length(i)", "argument 1 of `length` cannot be int64"),
        ("round(f, f)", "argument 2 of `round` cannot be float64"),
        ("t > 'noon'", "'noon' is not an RFC 3339 time with its offset"),
        ("'noon' < t", "'noon' is not an RFC 3339 time with its offset"),
        ("i IN ('a')", "int64 and string cannot be compared"),
        ("NOT i", "NOT takes bool, not int64"),
        ("b OR i", "OR takes bool, not int64"),
        ("i IS TRUE", "IS TRUE takes bool, not int64"),
        ("1e999", "`1e999` is not a number that float64 can hold"),
        ("X'00'", "is not a literal of the expression language"),
        ("i & 1", "`&` is not an operator of the expression language"),
        ("upper(DISTINCT s)", "`upper` takes plain arguments only"),
        ("upper(s) OVER ()", "`upper` takes plain arguments only"),
        ("upper(*)", "`*` is not a value"),
        ("lookup('v:f')", "lookup takes a feature as text and a key"),
        ("lookup(s, s)", "lookup takes a feature as text and a key"),
        ("lookup('v:f', s)", "belongs into derived features"),
        ("date_trunc('day')", "`date_trunc` does not take 1 arguments"),
        ("date_trunc(s, t)", "date_trunc takes its unit as a literal"),
        ("date_trunc('day', t, s)", "date_trunc takes its zone as a literal"),
        ("date_trunc('day', t, 'Mars')", "'Mars' is not a time zone"),
        ("date_trunc('day', i)", "date_trunc takes a timestamp, not int64"),
        ("date_trunc('dow', t)", "'dow' is not one of second"),
        ("extract('moon', t)", "'moon' is not one of second"),
        ("concat(ARRAY[1])", "concat takes scalars, not list<int64>"),
        ("regexp_like(s, s)", "regexp_like takes its pattern as a literal"),
        ("now(1)", "`now` does not take 1 arguments"),
        ("abs()", "`abs` does not take 0 arguments"),
    ] {
        let fault = compile(text, &Names).err().unwrap_or_else(|| panic!("{text} is right"));
        assert!(fault.message.contains(message), "{text}: {fault:?}");
    }
    assert_eq!(compile("lowre(s)", &Names).unwrap_err().near.as_deref(), Some("lower"));
    assert_eq!(compile("date_trunc('dai', t)", &Names).unwrap_err().near.as_deref(), Some("day"));
}

#[test]
fn aggregates_are_calls() {
    let message = |text: &str| compile_call(text, &Names).err().map(|fault| fault.message).unwrap_or_default();
    assert!(message("i + 1").contains("an aggregate is a call"));
    assert!(message("count(*)").contains("`*` is not a value; write count() without an argument"));
    assert!(message("sum(DISTINCT i)").contains("`sum` takes plain arguments only"));
    assert!(message("sum(i) OVER ()").contains("`sum` takes plain arguments only"));
    assert!(message("sum(i) FILTER (WHERE b)").contains("`sum` takes plain arguments only"));
    assert!(message("sum(i) i").contains("expected the end of the aggregate"));
    assert!(message(&format!("sum({})", " ".repeat(65_536))).contains("longer than 65536"));
    let call = compile_call("Last_K( i+1 , 5)", &Names).unwrap();
    assert_eq!(call.text(), "last_k(i + 1, 5)");
    assert_eq!(call.arguments[1].place, (1, 15));
    let literals = call.arguments.iter().map(|argument| argument.literal.is_some());
    assert_eq!(literals.collect::<Vec<_>>(), [false, true]);
}

/// Every kind of column: a value, a null, and nothing beyond the end.
#[test]
fn columns_of_every_kind() {
    let time = 1_700_000_000_000_000;
    let decimals = Decimal128Array::from(vec![Some(125), None]);
    for (column, value) in [
        (Column::Bool(BooleanArray::from(vec![Some(true), None])), Value::Bool(true)),
        (Column::Int64(Int64Array::from(vec![Some(7), None])), Value::Int64(7)),
        (Column::Float64(Float64Array::from(vec![Some(2.5), None])), Value::Float64(2.5)),
        (Column::Text(StringArray::from(vec![Some("ü"), None])), Value::text("ü")),
        (Column::Bytes(BinaryArray::from(vec![Some(&b"x"[..]), None])), Value::Bytes(b"x"[..].into())),
        (Column::Timestamp(Int64Array::from(vec![Some(time), None])), Value::Timestamp(time)),
        (Column::Decimal(decimals), Value::Decimal(125)),
        (Column::Values(vec![Value::text("long text"), Value::Null]), Value::text("long text")),
    ] {
        assert!((column.len(), column.is_empty()) == (2, false) && column.bytes() > 16, "{column:?}");
        assert!(column.value(0).same(&value), "{column:?}");
        assert!(column.value(1).is_null() && column.value(2).is_null(), "{column:?}");
    }
    let empty = Column::Values(Vec::new());
    assert!(empty.is_empty() && empty.bytes() == 0);
    let single = size_of::<Value<'_>>();
    let list = Value::List(vec![Value::text("abc"), Value::Int64(1)]);
    let map = Value::Map(vec![(Value::text("ab"), Value::Bytes(b"xyz"[..].into()))]);
    assert_eq!(Column::Values(vec![list, map]).bytes(), 3 * single + 3 + 3 * single + 5);
}

#[test]
fn only_true_is_true() {
    let errors = Cell::new(0);
    for (text, expected) in [("TRUE", true), ("FALSE", false), ("NULL", false)] {
        let frame = Frame { columns: &[], row: 0, now: 0, errors: &errors };
        assert_eq!(compile(text, &Names).unwrap().is_true(&frame), expected, "{text}");
    }
    assert_eq!(format!("{:?}", compile("i + 1", &Names).unwrap()), "Expression(i + 1)");
}
