//! Avro against another writer of it, by random schemas and records; evolution, hostile bytes.

use apache_avro::types::Value as Avro;
use apache_avro::{Decimal, Schema as OtherSchema, Uuid};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};
use tidemill_features::definitions::Source;
use tidemill_features::time::DAY;
use tidemill_features::value::Value;

use super::*;
use crate::source::message::testing::{damage, random_cases, source, weight};

/// What the other writer makes of a value.
#[allow(deprecated)]
fn written(schema: &Json, value: Avro) -> Vec<u8> {
    let parsed = OtherSchema::parse_str(&schema.to_string()).unwrap_or_else(|error| panic!("{schema}: {error}"));
    apache_avro::to_avro_datum(&parsed, value.clone()).unwrap_or_else(|error| panic!("{schema}: {value:?}: {error}"))
}

fn read(schema: &str, source: &Source, message: &[u8]) -> Result<Vec<Value<'static>>, String> {
    // The event time is the record's: it says nothing here.
    let layout = AvroLayout::new(schema, [], source, &source.bound_columns()).unwrap();
    let mut row = vec![Value::Null; source.fields.len()];
    layout.fill(message, source, &mut row).map_err(|(code, reason)| format!("{code} {reason}"))?;
    row.pop();
    Ok(row.into_iter().map(Value::into_owned).collect())
}

/// A field: its type, a value of it, and the column that it can be read as, with the value that it then has.
struct Made {
    schema: Json,
    value: Avro,
    column: Option<(String, Value<'static>)>,
}

fn made(schema: Json, value: Avro, data_type: &str, column: Value<'static>) -> Made {
    Made { schema, value, column: Some((data_type.to_string(), column)) }
}

/// Random fields; every named type has a name of its own.
struct Maker<'r> {
    random: &'r mut StdRng,
    names: usize,
}

impl Maker<'_> {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    fn number(&mut self) -> i64 {
        match self.random.random_range(0..3) {
            0 => self.random.random_range(-3..70),
            1 => [i64::MIN, i64::MAX, 0, -1, 63, 64, -64, -65][self.random.random_range(0..8)],
            _ => self.random.random(),
        }
    }

    fn text(&mut self) -> String {
        ["", "a", "Grüße 👋", "0123456789012345678901234567890123456789012345678901234567890123456789"]
            [self.random.random_range(0..4)]
        .to_string()
    }

    fn plain(&mut self) -> Made {
        match self.random.random_range(0..16) {
            0 => {
                let flag = self.random.random();
                made(json!("boolean"), Avro::Boolean(flag), "bool", Value::Bool(flag))
            }
            1 => {
                let number = self.number() as i32;
                made(json!("int"), Avro::Int(number), "int64", Value::Int64(number.into()))
            }
            2 => {
                let number = self.number();
                made(json!("long"), Avro::Long(number), "int64", Value::Int64(number))
            }
            3 => {
                let number = self.number();
                made(json!("long"), Avro::Long(number), "float64", Value::Float64(number as f64))
            }
            4 => {
                let number = self.number() as f32 / 7.0;
                made(json!("float"), Avro::Float(number), "float64", Value::Float64(number.into()).settled())
            }
            5 => {
                let number =
                    [self.number() as f64 / 7.0, f64::NAN, -0.0, f64::INFINITY][self.random.random_range(0..4)];
                made(json!("double"), Avro::Double(number), "float64", Value::Float64(number).settled())
            }
            6 => {
                let text = self.text();
                made(json!("string"), Avro::String(text.clone()), "string", Value::Text(text.into()))
            }
            7 => {
                let bytes = self.text().into_bytes();
                made(json!("bytes"), Avro::Bytes(bytes.clone()), "bytes", Value::Bytes(bytes.into()))
            }
            8 => {
                let schema = json!({"type": "fixed", "name": self.name(), "size": 3});
                made(schema, Avro::Fixed(3, vec![1, 0, 255]), "bytes", Value::Bytes(vec![1, 0, 255].into()))
            }
            9 => {
                let at = self.random.random_range(0..3);
                let schema = json!({"type": "enum", "name": self.name(), "symbols": ["A", "BE", "CEE"]});
                let symbol = ["A", "BE", "CEE"][at];
                made(schema, Avro::Enum(at as u32, symbol.into()), "string", Value::text(symbol))
            }
            10 => self.instant(),
            11 => {
                let days = self.random.random_range(-700_000..2_900_000);
                let schema = json!({"type": "int", "logicalType": "date"});
                made(schema, Avro::Date(days), "timestamp", Value::Timestamp(i64::from(days) * DAY))
            }
            12 => self.decimal(),
            13 => {
                let id = Uuid::from_u128(self.random.random());
                let plain = self.random.random::<bool>().then(|| json!({"type": "string", "logicalType": "uuid"}));
                let fixed = json!({"type": "fixed", "name": self.name(), "size": 16, "logicalType": "uuid"});
                made(plain.unwrap_or(fixed), Avro::Uuid(id), "string", Value::Text(id.to_string().into()))
            }
            14 => {
                let number = self.random.random_range(-1_000_000..1_000_000);
                made(json!("int"), Avro::Int(number), "timestamp[s]", Value::Timestamp(i64::from(number) * 1_000_000))
            }
            _ => {
                let number = self.number();
                made(json!("string"), Avro::String(number.to_string()), "int64", Value::Int64(number))
            }
        }
    }

    fn instant(&mut self) -> Made {
        let micros: i64 = self.random.random_range(-60_000_000_000_000_000..200_000_000_000_000_000);
        let (unit, value, micros) = match self.random.random_range(0..3) {
            0 => ("millis", Avro::TimestampMillis(micros / 1_000), micros / 1_000 * 1_000),
            1 => ("micros", Avro::TimestampMicros(micros), micros),
            // Finer than a microsecond is cut off downwards, before the epoch too.
            _ => (
                "nanos",
                Avro::TimestampNanos(micros % 9_000_000_000_000_000 * 1_000 + 7),
                micros % 9_000_000_000_000_000,
            ),
        };
        let declared = ["timestamp", "timestamp[s]", "timestamp[ns]"][self.random.random_range(0..3)];
        made(
            json!({"type": "long", "logicalType": format!("timestamp-{unit}")}),
            value,
            declared,
            Value::Timestamp(micros),
        )
    }

    fn decimal(&mut self) -> Made {
        let number = i128::from(self.random.random_range(-99_999_999i64..99_999_999));
        let declared = [("decimal(10,2)", number), ("decimal(12,4)", number * 100)][self.random.random_range(0..2)];
        let bytes = number.to_be_bytes();
        // Written with as many bytes as are needed, or more.
        let from = self.random.random_range(0..=12);
        let mut schema = json!({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2});
        if self.random.random() {
            let size = self.random.random_range(4..20);
            schema = json!({"type": "fixed", "name": self.name(), "size": size, "logicalType": "decimal", "precision": 9, "scale": 2});
        }
        made(schema, Avro::Decimal(Decimal::from(&bytes[from..])), declared.0, Value::Decimal(declared.1))
    }

    fn field(&mut self, depth: usize) -> Made {
        match self.random.random_range(0..if depth == 0 { 6 } else { 9 }) {
            0 => {
                let inner = self.plain();
                let is_null: bool = self.random.random();
                let first: bool = self.random.random();
                let schema = if first { json!(["null", inner.schema]) } else { json!([inner.schema, "null"]) };
                let value = match is_null {
                    true => Avro::Union(u32::from(!first), Box::new(Avro::Null)),
                    false => Avro::Union(u32::from(first), Box::new(inner.value)),
                };
                let column =
                    inner.column.map(|(data_type, value)| (data_type, if is_null { Value::Null } else { value }));
                Made { schema, value, column }
            }
            1 => {
                let inner = self.plain();
                let count = self.random.random_range(0..4);
                let column = inner
                    .column
                    .filter(|(data_type, _)| !data_type.contains('['))
                    .map(|(data_type, value)| (format!("list<{data_type}>"), Value::List(vec![value; count])));
                let schema = json!({"type": "array", "items": inner.schema});
                Made { schema, value: Avro::Array(vec![inner.value; count]), column }
            }
            6 => {
                let inner = self.field(depth - 1);
                let entries = (0..self.random.random_range(0..3)).map(|at| (format!("k{at}"), inner.value.clone()));
                let value = Avro::Map(entries.collect());
                Made { schema: json!({"type": "map", "values": inner.schema}), value, column: None }
            }
            7 => {
                let inner = self.field(depth - 1);
                let value = Avro::Array(vec![inner.value; self.random.random_range(0..3)]);
                Made { schema: json!({"type": "array", "items": inner.schema}), value, column: None }
            }
            8 => {
                let fields: Vec<Made> = (0..self.random.random_range(0..4)).map(|_| self.field(depth - 1)).collect();
                let (schema, value) =
                    record(&self.name(), fields.iter().enumerate().map(|(at, f)| (format!("i{at}"), f)));
                Made { schema, value, column: None }
            }
            _ => self.plain(),
        }
    }
}

fn record<'m>(name: &str, fields: impl Iterator<Item = (String, &'m Made)>) -> (Json, Avro) {
    let (mut schemas, mut values) = (Vec::new(), Vec::new());
    for (name, made) in fields {
        schemas.push(json!({"name": name, "type": made.schema}));
        values.push((name, made.value.clone()));
    }
    (json!({"type": "record", "name": name, "fields": schemas}), Avro::Record(values))
}

/// Random records, written by another library: each column has the value that was written, wherever it stands, whatever stands
/// beside it. Cut or damaged bytes are an error or a row, of bounded size.
#[test]
fn random_records_are_read_as_they_were_written() {
    let (mut random, cases) = random_cases("avro", 1_500);
    for case in 0..cases {
        let mut maker = Maker { random: &mut random, names: 0 };
        let made: Vec<Made> = (0..maker.random.random_range(1..7)).map(|_| maker.field(3)).collect();
        let inside: Vec<Made> = (0..2).map(|_| maker.plain()).collect();
        let (inner, inner_value) = record("inner", inside.iter().enumerate().map(|(at, f)| (format!("i{at}"), f)));
        let nested = Made { schema: inner, value: inner_value, column: None };
        let named = made.iter().enumerate().map(|(at, f)| (format!("f{at}"), f));
        let (schema, value) = record("r", named.chain([("deep".to_string(), &nested)]));

        let columns_of = |prefix: &'static str, made: &[Made]| -> Vec<(String, String, Value<'static>)> {
            let column = |(at, made): (usize, &Made)| {
                made.column.clone().map(|(data_type, value)| (format!("{prefix}{at}"), data_type, value))
            };
            made.iter().enumerate().filter_map(column).collect()
        };
        let mut columns = columns_of("f", &made);
        columns.extend(columns_of("deep.i", &inside));
        columns.push(("missing".to_string(), "string".to_string(), Value::Null));
        columns.retain(|_| random.random_bool(0.7));
        columns.sort_by_key(|_| random.random::<u32>());
        let declared: Vec<(&str, &str)> = columns.iter().map(|(name, of, _)| (name.as_str(), of.as_str())).collect();
        let source = source("format = 'avro'\nschema_file = 'a.avsc'", &declared);

        let (text, message) = (schema.to_string(), written(&schema, value));
        let row = read(&text, &source, &message).unwrap_or_else(|error| panic!("case {case}: {text}: {error}"));
        for ((name, data_type, expected), found) in columns.iter().zip(&row) {
            assert!(found.same(expected), "case {case}: {name} {data_type}: {found:?}, not {expected:?}, of {text}");
        }
        if case % 10 == 0 {
            for cut in 0..message.len() {
                assert!(read(&text, &source, &message[..cut]).is_err(), "case {case}: {cut} bytes of {text}");
            }
        }
        let mut broken = message.clone();
        damage(&mut broken, &mut random);
        if let Ok(row) = read(&text, &source, &broken) {
            assert!(weight(&row) < 64 * (broken.len() + 1_100), "case {case}: {text}: {broken:?}");
        }
    }
}

/// What may become of a schema over time: messages of every version are read by their own.
#[test]
fn schemas_evolve() {
    let source = source("format = 'avro'", &[("id", "int64"), ("amount", "float64"), ("note", "string")]);
    let (id, amount) = (Value::Int64(7), Value::Float64(2.5));
    let note = Value::text("hi");
    let version = |fields: Json, values: Vec<(&str, Avro)>| {
        let schema = json!({"type": "record", "name": "r", "namespace": "shop", "fields": fields});
        let values = values.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let message = written(&schema, Avro::Record(values));
        read(&schema.to_string(), &source, &message).unwrap()
    };
    for (row, expected) in [
        // The first version.
        (
            version(
                json!([{"name": "id", "type": "int"}, {"name": "amount", "type": "float"}]),
                vec![("id", Avro::Int(7)), ("amount", Avro::Float(2.5))],
            ),
            [&id, &amount, &Value::Null],
        ),
        // Widened, reordered, with a field added that has a default.
        (
            version(
                json!([{"name": "note", "type": "string", "default": "x"}, {"name": "amount", "type": "double"},
                       {"name": "id", "type": "long"}]),
                vec![("note", Avro::String("hi".into())), ("amount", Avro::Double(2.5)), ("id", Avro::Long(7))],
            ),
            [&id, &amount, &note],
        ),
        // A field made optional, one removed, one called otherwise.
        (
            version(
                json!([{"name": "number", "aliases": ["id"], "type": "long"},
                       {"name": "note", "type": ["null", "string"], "default": null}]),
                vec![("number", Avro::Long(7)), ("note", Avro::Union(0, Box::new(Avro::Null)))],
            ),
            [&id, &Value::Null, &Value::Null],
        ),
    ] {
        assert!(row.iter().zip(expected).all(|(found, expected)| found.same(expected)), "{row:?}");
    }
    // A name counts before another field's alias.
    let both = r#"{"type": "record", "name": "r", "fields": [
        {"name": "old", "aliases": ["id"], "type": "long"}, {"name": "id", "type": "long"}]}"#;
    assert!(read(both, &source, &[16, 14]).unwrap()[0].same(&id));
}

#[test]
fn wrong_types_and_broken_bytes_have_their_reasons() {
    let of = |data_type: &str| source("format = 'avro'", &[("c", data_type)]);
    let record =
        |kind: &str| format!(r#"{{"type": "record", "name": "r", "fields": [{{"name": "c", "type": {kind}}}]}}"#);
    let list = r#"{"type": "array", "items": "long"}"#;
    let recursive = r#"["null", "r"]"#;
    let many_nothings = r#"{"type": "array", "items": "null"}"#;
    for (kind, data_type, message, reason) in [
        (r#""string""#, "float64", &b"\x02x"[..], "E1002 column `c`: the text 'x' is not float64"),
        (r#""string""#, "string", b"\x02\xff", "E1002 column `c`: not UTF-8"),
        (r#""double""#, "int64", &2.5f64.to_le_bytes(), "E1002 column `c`: 2.5 is not int64"),
        (r#"{"type": "map", "values": "int"}"#, "int64", b"\0", "E1002 column `c`: a map is not int64"),
        (r#"["null", {"type": "map", "values": "int"}]"#, "int64", b"\x02", "E1002 column `c`: a map is not int64"),
        (r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#, "timestamp", b"\0", "has no offset from UTC"),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, "int64", b"\0", "an instant is not int64"),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 38}"#,
            "decimal(38,0)",
            &{
                let mut long = vec![34];
                long.extend([1; 17]);
                long
            },
            "more than 38 digits",
        ),
        (list, "vector<2>", b"\x02\x01\0", "a vector of 1 numbers, not 2"),
        (r#""int""#, "int64", b"\xff\xff\xff\xff\xff\x01", "E1001 not a record of its Avro schema"),
        (r#""int""#, "int64", b"\x02\x02", "1 bytes are left behind the record"),
        (r#""boolean""#, "bool", b"\x02", "a boolean of value 2"),
        (r#""string""#, "string", b"\x01", "a length of -1"),
        (r#""string""#, "string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bytes are claimed where 0 are left"),
        (r#"["null", "int"]"#, "int64", b"\x04", "branch 2 of a union that has 2"),
        (r#"["null", "int"]"#, "int64", b"\x01", "branch -1 of a union"),
        (r#"{"type": "enum", "name": "e", "symbols": ["A"]}"#, "string", b"\x02", "symbol 1 of an enum that has 1"),
        (list, "list<int64>", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "items are claimed, more than"),
        (list, "list<int64>", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02", "items are claimed, more than"),
        (list, "list<int64>", b"\x01\x01\0", "a block of -1 bytes"),
        (many_nothings, "list<int64>", b"\x80\x80\x80\x80\x10\0", "items are claimed, more than"),
    ] {
        let source = of(data_type);
        let told = match read(&record(kind), &source, message) {
            // Vectors are looked at with the rest of the row.
            Ok(row) if data_type.starts_with("vector") => {
                format!("a vector of {} numbers, not 2", list_length(&row[0]))
            }
            other => other.unwrap_err(),
        };
        assert!(told.contains(reason), "{kind} as {data_type}: {told}");
    }
    // What nobody asked for is read past with the same care.
    let skipping = source("format = 'avro'", &[("other", "int64")]);
    for (kind, message, reason) in [
        (many_nothings, &b"\x80\x80\x80\x80\x10\0"[..], "items are claimed"),
        (list, b"\x03\x08\x02", "4 bytes are claimed where 1 are left"),
        (recursive, &[2; 100], "nested more than 64 deep"),
    ] {
        let told = read(&record(kind), &skipping, message).unwrap_err();
        assert!(told.contains(reason), "{kind}: {told}");
    }
}

fn list_length(value: &Value<'_>) -> usize {
    if let Value::List(items) = value { items.len() } else { 0 }
}

/// Lists come in blocks; a negative count says how many bytes follow.
#[test]
fn lists_come_in_blocks() {
    let source = source("format = 'avro'", &[("l", "list<int64>"), ("after", "int64")]);
    let schema = r#"{"type": "record", "name": "r", "fields": [
        {"name": "skipped", "type": {"type": "array", "items": "string"}},
        {"name": "l", "type": {"type": "array", "items": ["null", "int"]}}, {"name": "after", "type": "int"}]}"#;
    let skipped = [3, 6, 2, b'a', 2, b'b', 2, 2, b'c', 0];
    let list = [2, 2, 2, 3, 6, 0, 2, 4, 0];
    let message = [&skipped[..], &list, &[10]].concat();
    let error = read(schema, &source, &message).unwrap_err();
    assert!(error.contains("E1001"), "the first block says 3 bytes and has 4: {error}");
    let skipped = [3, 8, 2, b'a', 2, b'b', 2, 2, b'c', 0];
    let row = read(schema, &source, &[&skipped[..], &list, &[10]].concat()).unwrap();
    let expected = Value::List(vec![Value::Int64(1), Value::Null, Value::Int64(2)]);
    assert!(row[0].same(&expected) && row[1].same(&Value::Int64(5)), "{row:?}");
}

/// Schemas whose empty records double on each level would take for ever.
#[test]
fn schemas_without_bytes_come_to_an_end() {
    let mut kind = json!({"type": "record", "name": "r0", "fields": []});
    for level in 1..40 {
        let name = format!("r{level}");
        let again = format!("r{}", level - 1);
        kind = json!({"type": "record", "name": name, "fields": [{"name": "a", "type": kind}, {"name": "b", "type": again}]});
    }
    let source = source("format = 'avro'", &[("other", "int64")]);
    assert!(read(&kind.to_string(), &source, b"").unwrap_err().contains("more than the message has bytes"));
}
