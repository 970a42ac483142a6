//! What spines are made of, and what is wrong with them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray, StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{DataType as ArrowType, Field};
use tempfile::TempDir;
use tidemill_features::value::Value;

use super::*;
use crate::columnar::ParquetWriter;

fn wanted() -> Wanted {
    Wanted {
        time: "at".to_string(),
        keys: vec![("card".to_string(), DataType::Text)],
        request: vec![("amount".to_string(), DataType::Float64)],
    }
}

fn keys(data_type: DataType) -> Wanted {
    Wanted { time: "at".to_string(), keys: vec![("k".to_string(), data_type)], request: Vec::new() }
}

fn text(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn parquet(folder: &TempDir, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
    let path = folder.path().join("a.parquet");
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let mut writer = ParquetWriter::create(&path, batch.schema(), &[]).unwrap();
    writer.write_row_group(&[batch]).unwrap();
    writer.finish().unwrap();
    path
}

fn times(seconds: Vec<Option<i64>>) -> ArrayRef {
    let millis = seconds.into_iter().map(|s| s.map(|s| s * 1000)).collect::<TimestampMillisecondArray>();
    Arc::new(millis.with_timezone("America/New_York"))
}

/// All rows, or what is wrong.
fn read(path: &Path, wanted: &Wanted) -> Result<Vec<SpineRows>, Failure> {
    let mut spine = Spine::open(path, wanted)?;
    let mut all = Vec::new();
    while let Some(rows) = spine.next_rows(3)? {
        assert!((1..=3).contains(&rows.columns.num_rows()));
        assert_eq!(rows.columns.schema(), spine.schema());
        all.push(rows);
    }
    Ok(all)
}

#[track_caller]
fn refused(path: &Path, wanted: &Wanted, code: &str, parts: &[&str]) {
    let failure = read(path, wanted).map(|rows| rows.len()).unwrap_err();
    let message = failure.to_string();
    assert_eq!(failure.code, code, "{message}");
    assert!(message.contains(&*path.file_name().unwrap().to_string_lossy()), "{message}");
    parts.iter().for_each(|part| assert!(message.contains(part), "{part} in {message}"));
}

fn shown(columns: &[Column]) -> String {
    let row = |row: usize| columns.iter().map(|c| format!("{:?}", c.value(row))).collect::<Vec<_>>().join(" ");
    (0..columns.first().map_or(0, Column::len)).map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn text_gives_what_was_declared_and_learned() {
    let folder = tempfile::tempdir().unwrap();
    let csv = "\u{feff}at,card,amount,label,zip,when,score\n\
               2013-10-01T05:00:00Z,007,1.5,true,01234,2013-10-01,1\n\
               2013-10-01 07:00:00+02:00,\"a,\"\"b\"\"\nc\",,false,99,2013-10-02,2.5\n\
               1969-12-31T23:59:59.999999Z,x,-0,,5,,\n\
               9999-12-31T23:59:59Z,x,2,true,5,,3\n";
    let ndjson = r#"{"at":"2013-10-01T05:00:00Z","card":"007","amount":1.5,"label":true,"zip":"01234","when":"2013-10-01","score":1}

{"card":"a,\"b\"\nc","at":"2013-10-01 07:00:00+02:00","label":false,"zip":99,"when":"2013-10-02","score":2.5,"amount":null}
{"at":"1969-12-31T23:59:59.999999Z","card":"x","amount":-0,"zip":"5"}
{"at":"9999-12-31T23:59:59Z","card":"y","card":"x","amount":2,"label":true,"zip":5,"score":3}"#;
    let crlf = csv.replace("\n2", "\r\n2").replace("\n1", "\r\n1");
    for (name, body) in [("a.csv", csv), ("a.jsonl", ndjson), ("b.csv", crlf.as_str())] {
        let rows = read(&text(&folder, name, body), &wanted()).unwrap();
        assert_eq!(rows.iter().map(|r| r.first).collect::<Vec<_>>(), [0, 3], "{name}");
        assert_eq!(rows[0].times, [1_380_603_600_000_000, 1_380_603_600_000_000, -1]);
        assert_eq!(
            shown(&rows[0].keys),
            "Text(\"007\")\nText(\"a,\\\"b\\\"\\nc\")\nText(\"x\")",
            "{name}: a text key stays as it is written"
        );
        assert_eq!(shown(&rows[0].request), "Float64(1.5)\nNull\nFloat64(0.0)", "{name}");
        let schema = rows[0].columns.schema();
        let types: Vec<String> = schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
        let expected =
            "at:Timestamp(µs, \"UTC\") card:Utf8 amount:Float64 label:Boolean zip:Utf8 when:Utf8 score:Float64";
        assert_eq!(types.join(" "), expected, "{name}");
        assert_eq!(rows[0].columns.column_by_name("zip").unwrap().as_string::<i32>().value(0), "01234");
        assert!(rows[1].columns.column_by_name("when").unwrap().is_null(0));
    }
}

#[test]
fn types_are_learned_from_the_whole_file() {
    use DataType::{Bool, Float64, Int64, Text};
    let cases = [
        (vec!["1", "", "-5"], Int64),
        (vec!["1", "2.5"], Float64),
        (vec!["1e5", "-.5", "NaN", "-inf"], Float64),
        (vec!["true", "False"], Bool),
        (vec!["true", "1"], Text),
        (vec!["", ""], Text),
        (vec!["007", "1"], Text),
        (vec!["9223372036854775807"], Int64),
        (vec!["9223372036854775808"], Text),
        (vec!["9007199254740993", "0.5"], Text),
        (vec!["9007199254740992", "0.5"], Float64),
        (vec!["1e999"], Text),
        (vec!["+5"], Text),
        (vec!["2013-10-01T05:00:00Z"], Text),
        (vec!["1", "2", "x"], Text),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (cells, expected) in cases {
        let rows: String = cells.iter().map(|cell| format!("2013-10-01T05:00:00Z,{cell}\n")).collect();
        let path = text(&folder, "a.csv", format!("at,x\n{rows}"));
        let of_time = Wanted { time: "at".to_string(), ..Wanted::default() };
        let rows = read(&path, &of_time).unwrap();
        let learned = rows[0].columns.column(1).data_type().clone();
        assert_eq!(learned, crate::columnar::arrow_type(&expected), "{cells:?}");
        if expected == Text {
            let written: Vec<String> = rows
                .iter()
                .flat_map(|r| {
                    r.columns
                        .column(1)
                        .as_string::<i32>()
                        .iter()
                        .map(|c| c.unwrap_or("").to_string())
                        .collect::<Vec<_>>()
                })
                .collect();
            assert_eq!(written, cells, "nothing is lost");
        }
    }
}

#[test]
fn nested_json_stays_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let line = r#"{"at":"2013-10-01T05:00:00Z","k":5,"v":[1, {"a":"é"}],"big":18446744073709551616,"vec":[1,2.5]}"#;
    let mut of = keys(DataType::Int64);
    of.request.push(("vec".to_string(), DataType::List(Box::new(DataType::Float64))));
    let rows = read(&text(&folder, "a.ndjson", line), &of).unwrap();
    assert_eq!(rows[0].columns.column_by_name("v").unwrap().as_string::<i32>().value(0), r#"[1, {"a":"é"}]"#);
    assert_eq!(rows[0].columns.column_by_name("big").unwrap().as_string::<i32>().value(0), "18446744073709551616");
    assert_eq!(shown(&rows[0].request), "List([Float64(1.0), Float64(2.5)])");
    assert!(matches!(rows[0].columns.column_by_name("vec").unwrap().data_type(), ArrowType::List(_)));
}

#[test]
fn parquet_columns_pass_through_and_keys_are_fitted() {
    let folder = tempfile::tempdir().unwrap();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let dictionary: DictionaryArray<Int32Type> = ["b", "a"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("labels", Arc::new(lists)),
        ("at", times(vec![Some(5), Some(-5)])),
        ("k", Arc::new(Int32Array::from(vec![7, -7]))),
        ("category", Arc::new(dictionary)),
        ("request.amount", Arc::new(Int64Array::from(vec![Some(3), None]))),
        ("amount", Arc::new(StringArray::from(vec!["not", "this"]))),
        ("view", Arc::new(StringViewArray::from(vec!["a text that is too long to be inlined", ""]))),
    ];
    let path = parquet(&folder, columns.clone());
    let of =
        Wanted { keys: vec![("k".to_string(), DataType::Int64), ("category".to_string(), DataType::Text)], ..wanted() };
    let rows = read(&path, &of).unwrap();
    assert_eq!(rows[0].times, [5_000_000, -5_000_000]);
    assert_eq!(shown(&rows[0].keys), "Int64(7) Text(\"b\")\nInt64(-7) Text(\"a\")");
    assert_eq!(shown(&rows[0].request), "Float64(3.0)\nNull");
    for (at, (name, array)) in columns.iter().enumerate() {
        assert_eq!(rows[0].columns.column(at), array, "{name}");
    }
    let mut only_times = Spine::open_times(&path, "at").unwrap();
    assert_eq!(only_times.schema().fields().len(), 1);
    assert_eq!(only_times.next_rows(1).unwrap().unwrap().times, [5_000_000]);
    assert_eq!(only_times.next_rows(1).unwrap().unwrap().times, [-5_000_000]);
    assert!(only_times.next_rows(1).unwrap().is_none());
}

#[test]
fn times_in_parquet_may_be_text_or_finer_than_a_microsecond() {
    let folder = tempfile::tempdir().unwrap();
    let nanos = TimestampNanosecondArray::from(vec![1999, -1]).with_timezone("UTC");
    let texts = StringArray::from(vec!["1970-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"]);
    let arrays: [ArrayRef; 2] = [Arc::new(nanos), Arc::new(texts)];
    for array in arrays {
        let path = parquet(&folder, vec![("at", array.clone())]);
        let rows = read(&path, &Wanted { time: "at".to_string(), ..Wanted::default() }).unwrap();
        assert_eq!(rows[0].times, [1, -1]);
        assert_eq!(rows[0].columns.column(0), &array, "the column itself stays as it is");
    }
}

#[test]
fn missing_columns_are_named_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let parts = ["the key `card`", "the request value `amount`", "`crd`, `at`, `amuont`", "did you mean `crd`"];
    refused(&text(&folder, "a.csv", "crd,at,amuont\n"), &wanted(), "E3002", &parts);
    let line = r#"{"crd":1,"at":"2013-10-01T05:00:00Z","amuont":2}"#;
    refused(&text(&folder, "a.ndjson", line), &wanted(), "E3002", &parts);
    refused(&parquet(&folder, vec![("x", times(vec![]))]), &wanted(), "E3002", &["the time `at`", "the key `card`"]);
    let failure = Spine::open(&text(&folder, "b.csv", "crd,at,amuont\n"), &wanted()).err().unwrap();
    assert_eq!(failure.near, ["crd", "amuont"]);
    refused(&text(&folder, "a.csv", "at,at\n"), &wanted(), "E3006", &["two columns named `at`"]);
}

#[test]
fn wrong_types_are_refused_before_a_row_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let check = |key: ArrayRef, declared: DataType, parts: &[&str]| {
        let path = parquet(&folder, vec![("at", times(vec![Some(1)])), ("k", key)]);
        assert_eq!(Spine::open(&path, &keys(declared.clone())).err().map(|f| f.code), Some("E3003"));
        refused(&path, &keys(declared), "E3003", parts);
    };
    check(Arc::new(Int64Array::from(vec![7])), DataType::Text, &["the key `k` is Int64", "has to be string"]);
    check(Arc::new(Float64Array::from(vec![7.0])), DataType::Int64, &["Float64", "int64"]);
    check(Arc::new(BooleanArray::from(vec![true])), DataType::Int64, &["Boolean"]);
    let path = text(&folder, "a.csv", "at,k\n2013-10-01T05:00:00Z,1\n2013-10-01T05:00:00Z,x\n");
    refused(&path, &keys(DataType::Int64), "E3007", &["row 2", "`k`", "'x' is not an int64"]);
    let path =
        parquet(&folder, vec![("at", times(vec![Some(1); 2])), ("k", Arc::new(UInt64Array::from(vec![1, u64::MAX])))]);
    refused(&path, &keys(DataType::Int64), "E3007", &["row 2"]);
}

#[test]
fn keys_and_times_are_never_null() {
    let folder = tempfile::tempdir().unwrap();
    let five = |missing: usize| (0..5).map(|i| (i != missing).then_some(1)).collect::<Vec<Option<i64>>>();
    let numbers = |missing| -> ArrayRef { Arc::new(Int64Array::from(five(missing))) };
    let path = parquet(&folder, vec![("at", times(five(9))), ("k", numbers(3))]);
    refused(&path, &keys(DataType::Int64), "E3004", &["row 4", "`k`", "the key is null"]);
    let path = parquet(&folder, vec![("at", times(five(4))), ("k", numbers(9))]);
    refused(&path, &keys(DataType::Int64), "E3004", &["row 5", "`at`", "the time is null"]);
    let path = text(&folder, "a.csv", "at,k\n2013-10-01T05:00:00Z,1\n2013-10-01T05:00:00Z,\n");
    refused(&path, &keys(DataType::Int64), "E3004", &["row 2", "the key is null"]);
    let path = text(&folder, "a.ndjson", "{\"at\":\"2013-10-01T05:00:00Z\",\"k\":1}\n\n{\"k\":1}\n");
    refused(&path, &keys(DataType::Int64), "E3004", &["row 2", "the time is null"]);
}

#[test]
fn times_without_a_zone_are_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let of = Wanted { time: "at".to_string(), ..Wanted::default() };
    let arrays: [(ArrayRef, &str); 3] = [
        (Arc::new(TimestampMillisecondArray::from(vec![1])), "without a zone"),
        (Arc::new(Date32Array::from(vec![1])), "a date is no instant"),
        (Arc::new(Int64Array::from(vec![1])), "integers"),
    ];
    for (array, what) in arrays {
        refused(&parquet(&folder, vec![("at", array)]), &of, "E3005", &[what, "tz_localize", "RFC 3339"]);
    }
    let cases = [
        ("2013-10-01T05:00:00", "no offset"),
        ("2013-10-01", "no offset"),
        ("1380603600", "a number without a unit"),
        ("yesterday", "not an RFC 3339 time"),
        ("0000-01-01T00:00:00Z", "years 1 to 9999"),
    ];
    for (cell, what) in cases {
        refused(&text(&folder, "a.csv", format!("at\n{cell}\n")), &of, "E3005", &["row 1", "`at`", what]);
        refused(&text(&folder, "a.ndjson", format!("{{\"at\":\"{cell}\"}}")), &of, "E3005", &["row 1", what]);
    }
    refused(&text(&folder, "a.ndjson", "{\"at\":1380603600}"), &of, "E3005", &["row 1", "a number without a unit"]);
    let far = TimestampMillisecondArray::from(vec![i64::MAX]).with_timezone("UTC");
    refused(&parquet(&folder, vec![("at", Arc::new(far))]), &of, "E3005", &["row 1", "years 1 to 9999"]);
    let mut request = of.clone();
    request.request.push(("then".to_string(), DataType::Timestamp));
    let naive: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1]));
    let path = parquet(&folder, vec![("at", times(vec![Some(1)])), ("then", naive)]);
    refused(&path, &request, "E3005", &["the request value `then`"]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    refused(&folder.path().join("none.parquet"), &wanted(), "E3001", &["no such file"]);
    refused(&text(&folder, "a.xlsx", "x"), &wanted(), "E3001", &["none of ndjson, csv, parquet"]);
    for name in ["e.csv", "e.ndjson", "e.parquet"] {
        refused(&text(&folder, name, ""), &wanted(), "E3001", &["is empty"]);
    }
    std::fs::create_dir(folder.path().join("f.parquet")).unwrap();
    refused(&folder.path().join("f.parquet"), &wanted(), "E3001", &["is a folder"]);
    refused(&text(&folder, "n.parquet", "not this format"), &wanted(), "E3001", &[]);
    refused(&text(&folder, "n.ndjson", "\n \n"), &wanted(), "E3001", &["no row"]);
    refused(&text(&folder, "n.ndjson", "{\"at\":1}\n{\"at\":"), &wanted(), "E3001", &["row 2", "not a JSON object"]);
    refused(&text(&folder, "n.ndjson", "[1]"), &wanted(), "E3001", &["row 1", "not a JSON object"]);
    refused(&text(&folder, "n.ndjson", b"{\"at\":\"\xff\"}"), &wanted(), "E3001", &["row 1", "not UTF-8"]);
    refused(&text(&folder, "c.csv", "at,card,amount\nx,y\n"), &wanted(), "E3001", &["row 1", "2 cells under 3"]);
    refused(&text(&folder, "c.csv", b"at,card\nx,\xff\n"), &wanted(), "E3001", &["row 1", "cell 2 is not UTF-8"]);
    for open in ["at,k\nx,\"y\nz,w\n", "\u{feff}at,k\nx,\"\"\nx,\"y\n", "at,k\n\"x,y\n"] {
        let of = keys(DataType::Text);
        refused(&text(&folder, "q.csv", open), &of, "E3001", &["a quote is opened and never closed"]);
    }
}

#[test]
fn a_row_cannot_fill_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(crate::limits::SPINE_ROW_BYTES_MAX + 100_000);
    refused(&text(&folder, "a.csv", format!("at,k\n\"{long}")), &keys(DataType::Text), "E3001", &["row 1"]);
    let line = format!("{{\"at\":\"{long}\"}}");
    refused(&text(&folder, "a.ndjson", line), &keys(DataType::Text), "E3001", &["row 1", "more than 16 MB"]);
}

#[test]
fn zero_rows_are_fine_and_quotes_may_end_a_file() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(&text(&folder, "a.csv", "at,card,amount,label"), &wanted()).unwrap().len(), 0);
    let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    let path = parquet(&folder, vec![("at", times(vec![])), ("k", none)]);
    assert_eq!(read(&path, &keys(DataType::Int64)).unwrap().len(), 0);
    let quoted = text(&folder, "a.csv", "at,k\n2013-10-01T05:00:00Z,\"a\"\"\n5\"\" pipe\"");
    assert_eq!(shown(&read(&quoted, &keys(DataType::Text)).unwrap()[0].keys), "Text(\"a\\\"\\n5\\\" pipe\")");
    let stray = text(&folder, "a.csv", "at,k\n2013-10-01T05:00:00Z,5\" pipe\n");
    assert_eq!(shown(&read(&stray, &keys(DataType::Text)).unwrap()[0].keys), "Text(\"5\\\" pipe\")");
}

/// A flipped bit or a cut anywhere in a file is an error or harmless, never a panic.
#[test]
fn damaged_parquet_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("at", times((0..50).map(Some).collect())),
        ("k", Arc::new((0..50).map(|i| Some(format!("key {}", i % 7))).collect::<StringArray>())),
    ];
    let whole = std::fs::read(parquet(&folder, columns)).unwrap();
    let mut errors = 0;
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        errors += usize::from(read(&text(&folder, "flipped.parquet", flipped), &keys(DataType::Text)).is_err());
        if at % 16 == 0 {
            refused(&text(&folder, "cut.parquet", &whole[..at.max(1)]), &keys(DataType::Text), "E3001", &[]);
        }
    }
    assert!(errors > 100, "{errors} of {} flips were found", whole.len());
}

#[test]
fn a_column_has_one_role() {
    let folder = tempfile::tempdir().unwrap();
    let mut of = keys(DataType::Text);
    of.request.push(("k".to_string(), DataType::Int64));
    refused(&text(&folder, "a.csv", "at,k\n"), &of, "E3003", &["`k`", "as string and as int64"]);
    of.request[0].1 = DataType::Text;
    let rows = read(&text(&folder, "a.csv", "at,k\n2013-10-01T05:00:00Z,a\n"), &of).unwrap();
    assert!(rows[0].request[0].value(0).same(&Value::text("a")) && rows[0].keys[0].value(0).same(&Value::text("a")));
    let field = Field::new("k", ArrowType::Utf8, true);
    assert_eq!(rows[0].columns.schema().field(1), &field);
    fn is_send<T: Send>() {}
    is_send::<Spine>();
}
