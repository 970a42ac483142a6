//! Protobuf against another reader and writer of it, by random schemas and messages; what its own rules ask for.

use std::collections::HashMap;
use std::fmt::Write;

use prost_reflect::prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind as Proto, MapKey, MessageDescriptor, ReflectMessage, Value as Other,
};
use rand::Rng;
use rand::rngs::StdRng;
use tidemill_features::definitions::Source;
use tidemill_features::value::Value;

use super::*;
use crate::source::message::check_schema_file;
use crate::source::message::testing::{damage, random_cases, source, weight};

fn message_of(text: &str, name: &str) -> MessageDescriptor {
    let descriptors = Descriptors::of_text(text, HashMap::new());
    descriptors.unwrap_or_else(|problem| panic!("{text}: {problem:?}")).message(Some(name)).unwrap()
}

fn read(descriptor: &MessageDescriptor, source: &Source, message: &[u8]) -> Result<Vec<Value<'static>>, String> {
    // The event time is the record's: it says nothing here.
    let layout = ProtobufLayout::new(descriptor, source, &source.bound_columns());
    let mut row = vec![Value::Null; source.fields.len()];
    layout.fill(message, source, &mut row).map_err(|(code, reason)| format!("{code} {reason}"))?;
    row.pop();
    Ok(row.into_iter().map(Value::into_owned).collect())
}

/// What the other reader makes of a column; Err: its value fits no column.
fn reference(message: &DynamicMessage, path: &str) -> Result<Value<'static>, ()> {
    let (name, inside) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(field) = message.descriptor().get_field_by_name(name) else { return Ok(Value::Null) };
    if field.supports_presence() && !message.has_field(&field) {
        return Ok(Value::Null);
    }
    match (&*message.get_field(&field), inside) {
        (Other::Message(inner), Some(rest)) => reference(inner, rest),
        (Other::List(items), None) => {
            items.iter().map(|item| one(item, &field)).collect::<Result<_, _>>().map(Value::List)
        }
        (value, None) => one(value, &field),
        _ => panic!("{path} goes through something else"),
    }
}

fn one(value: &Other, field: &FieldDescriptor) -> Result<Value<'static>, ()> {
    Ok(match value {
        Other::Bool(v) => Value::Bool(*v),
        Other::I32(v) => Value::Int64((*v).into()),
        Other::U32(v) => Value::Int64((*v).into()),
        Other::I64(v) => Value::Int64(*v),
        Other::U64(v) => Value::Float64(*v as f64),
        Other::F32(v) => Value::Float64((*v).into()).settled(),
        Other::F64(v) => Value::Float64(*v).settled(),
        Other::String(v) => Value::Text(v.clone().into()),
        Other::Bytes(v) => Value::Bytes(v.to_vec().into()),
        Other::EnumNumber(number) => {
            let Proto::Enum(of) = field.kind() else { panic!("{field:?}") };
            Value::Text(of.get_value(*number).ok_or(())?.name().to_string().into())
        }
        Other::Message(inner) if inner.descriptor().name() == "Timestamp" => {
            let (Other::I64(seconds), Other::I32(nanos)) =
                (&*inner.get_field_by_name("seconds").unwrap(), &*inner.get_field_by_name("nanos").unwrap())
            else {
                panic!("{inner:?}");
            };
            let years = -62_135_596_800..=253_402_300_799;
            if !years.contains(seconds) || !(0..1_000_000_000).contains(nanos) {
                return Err(());
            }
            Value::Timestamp(seconds * 1_000_000 + i64::from(nanos / 1_000))
        }
        Other::Message(inner) => {
            let value = inner.descriptor().get_field(1).unwrap();
            return one(&inner.get_field(&value), &value);
        }
        other => panic!("{other:?}"),
    })
}

/// Types of fields, and of the columns that they can be.
const TYPES: [(&str, Option<&str>); 24] = [
    ("int32", Some("int64")),
    ("int64", Some("int64")),
    ("uint32", Some("int64")),
    ("uint64", Some("float64")),
    ("sint32", Some("int64")),
    ("sint64", Some("int64")),
    ("fixed32", Some("int64")),
    ("fixed64", Some("float64")),
    ("sfixed32", Some("int64")),
    ("sfixed64", Some("int64")),
    ("float", Some("float64")),
    ("double", Some("float64")),
    ("bool", Some("bool")),
    ("string", Some("string")),
    ("bytes", Some("bytes")),
    ("E", Some("string")),
    ("google.protobuf.Timestamp", Some("timestamp")),
    ("google.protobuf.Int64Value", Some("int64")),
    ("google.protobuf.StringValue", Some("string")),
    ("google.protobuf.UInt64Value", Some("float64")),
    ("google.protobuf.FloatValue", Some("float64")),
    ("google.protobuf.Duration", None),
    ("Loop", None),
    ("map<string, Inner>", None),
];

/// The text of a schema whose message is `M`, and the columns that can be read of it.
fn random_schema(random: &mut StdRng) -> (String, Vec<(String, String)>) {
    let mut text = String::from(
        "syntax = \"proto3\"; package shop;\nimport \"google/protobuf/timestamp.proto\";\n\
         import \"google/protobuf/wrappers.proto\";\nimport \"google/protobuf/duration.proto\";\n\
         enum E { ZERO = 0; ONE = 1; FAR = 70000; NEG = -1; }\n\
         message Inner { string s = 1; optional double d = 3; google.protobuf.Timestamp t = 4; repeated int32 l = 5; }\n\
         message Loop { Loop next = 1; E e = 2; }\nmessage M {\n",
    );
    let mut columns: Vec<(String, String)> = Vec::new();
    let mut numbers: Vec<u32> = (1..12).chain([15, 16, 300, 18_999, 20_000, 536_870_911]).collect();
    let mut number = |random: &mut StdRng| numbers.remove(random.random_range(0..numbers.len()));
    for at in 0..random.random_range(1..8) {
        let (of, column) = TYPES[random.random_range(0..TYPES.len())];
        let label = match random.random_range(0..5) {
            _ if of.starts_with("map") => "",
            0 => "repeated ",
            1 => "optional ",
            _ => "",
        };
        let packable =
            label == "repeated " && at % 2 == 0 && !of.contains('.') && !["string", "bytes", "Loop"].contains(&of);
        let option = if packable { " [packed = false]" } else { "" };
        let _ = writeln!(text, "  {label}{of} f{at} = {}{option};", number(random));
        columns.extend(column.map(|column| {
            let data_type = if label == "repeated " { format!("list<{column}>") } else { column.to_string() };
            (format!("f{at}"), data_type)
        }));
    }
    let _ = writeln!(
        text,
        "  Inner deep = {};\n  oneof choice {{ string o1 = {}; int32 o2 = {}; Inner o3 = {}; google.protobuf.Timestamp o4 = {}; }}\n}}",
        number(random),
        number(random),
        number(random),
        number(random),
        number(random)
    );
    for inner in ["deep", "o3"] {
        for (name, of) in [("s", "string"), ("d", "float64"), ("t", "timestamp"), ("l", "list<int64>")] {
            columns.push((format!("{inner}.{name}"), of.to_string()));
        }
    }
    let others = [("o1", "string"), ("o2", "int64"), ("o4", "timestamp"), ("missing", "string")];
    columns.extend(others.map(|(name, of)| (name.to_string(), of.to_string())));
    (text, columns)
}

fn random_value(kind: &Proto, random: &mut StdRng, depth: usize) -> Other {
    let small = random.random_range(-2i64..3);
    let number: i64 = if random.random() { small } else { random.random() };
    match kind {
        Proto::Int32 | Proto::Sint32 | Proto::Sfixed32 => Other::I32(number as i32),
        Proto::Int64 | Proto::Sint64 | Proto::Sfixed64 => Other::I64(number),
        Proto::Uint32 | Proto::Fixed32 => Other::U32(number as u32),
        Proto::Uint64 | Proto::Fixed64 => Other::U64(number as u64),
        Proto::Float => Other::F32(if random.random_bool(0.1) { f32::NAN } else { small as f32 / 3.0 }),
        Proto::Double => Other::F64([small as f64 / 3.0, -0.0, f64::INFINITY][random.random_range(0..3)]),
        Proto::Bool => Other::Bool(random.random()),
        Proto::String => Other::String(["", "a", "Grüße 👋"][random.random_range(0..3)].to_string()),
        Proto::Bytes => Other::Bytes(vec![0xff; random.random_range(0..3)].into()),
        Proto::Enum(_) => Other::EnumNumber([0, 1, 70_000, -1][random.random_range(0..4)]),
        Proto::Message(of) if of.full_name() == "google.protobuf.Timestamp" => {
            let mut time = DynamicMessage::new(of.clone());
            time.set_field_by_name("seconds", Other::I64(random.random_range(-60_000_000_000..200_000_000_000)));
            time.set_field_by_name("nanos", Other::I32(random.random_range(0..1_000_000_000)));
            Other::Message(time)
        }
        Proto::Message(of) => Other::Message(random_message(of, random, depth + 1)),
    }
}

fn random_message(descriptor: &MessageDescriptor, random: &mut StdRng, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if depth > 4 || random.random_bool(0.3) {
            continue;
        }
        let value = if field.is_map() {
            let Proto::Message(entry) = field.kind() else { panic!("{field:?}") };
            let inner = random_value(&entry.map_entry_value_field().kind(), random, depth);
            Other::Map([(MapKey::String("k".into()), inner)].into())
        } else if field.is_list() {
            Other::List((0..random.random_range(0..4)).map(|_| random_value(&field.kind(), random, depth)).collect())
        } else {
            random_value(&field.kind(), random, depth)
        };
        message.set_field(&field, value);
    }
    message
}

fn compare(columns: &[(String, String)], row: &[Value<'_>], message: &DynamicMessage, told: &str) {
    for ((name, data_type), found) in columns.iter().zip(row) {
        let expected = reference(message, name).unwrap_or_else(|()| panic!("{name} is read as {found:?}, {told}"));
        assert!(found.same(&expected), "{name} {data_type}: {found:?}, not {expected:?}, {told}");
    }
}

/// Random messages, written by another library: each column is what that library reads there, also where two messages stand
/// behind one another, which makes them one. Damaged bytes are an error, or the row that the other library sees as well.
#[test]
fn random_messages_are_read_as_they_were_written() {
    let (mut random, cases) = random_cases("protobuf", 600);
    for case in 0..cases {
        let (text, mut columns) = random_schema(&mut random);
        columns.retain(|_| random.random_bool(0.8));
        let declared: Vec<(&str, &str)> = columns.iter().map(|(name, of)| (name.as_str(), of.as_str())).collect();
        let source = source("format = 'protobuf'\nschema_file = 'a.proto'", &declared);
        let descriptor = message_of(&text, "shop.M");
        for _ in 0..6 {
            let mut bytes = random_message(&descriptor, &mut random, 0).encode_to_vec();
            if random.random_bool(0.3) {
                bytes.extend(random_message(&descriptor, &mut random, 0).encode_to_vec());
            }
            let told = format!("case {case}: {bytes:?} of {text}");
            let row = read(&descriptor, &source, &bytes).unwrap_or_else(|error| panic!("{error}, {told}"));
            compare(&columns, &row, &DynamicMessage::decode(descriptor.clone(), &bytes[..]).unwrap(), &told);
            if case % 20 == 0 {
                for cut in 0..bytes.len() {
                    // A message may end behind any of its fields.
                    let cut = &bytes[..cut];
                    if let (Ok(row), Ok(message)) =
                        (read(&descriptor, &source, cut), DynamicMessage::decode(descriptor.clone(), cut))
                    {
                        compare(&columns, &row, &message, &format!("{cut:?} of {text}"));
                    }
                }
            }
            damage(&mut bytes, &mut random);
            if let Ok(row) = read(&descriptor, &source, &bytes) {
                assert!(weight(&row) < 64 * (bytes.len() + 100), "{bytes:?} of {text}");
                if let Ok(message) = DynamicMessage::decode(descriptor.clone(), &bytes[..]) {
                    compare(&columns, &row, &message, &format!("damaged, {bytes:?} of {text}"));
                }
            }
        }
    }
}

const TXN: &str = "syntax = \"proto3\"; package shop;\nimport \"google/protobuf/timestamp.proto\";\n\
    enum Status { UNKNOWN = 0; PAID = 1; }\nmessage Txn {\n  string id = 1;\n  double amount = 2;\n\
    optional string note = 3;\n  Status status = 4;\n  google.protobuf.Timestamp time = 5;\n  repeated int64 lines = 6;\n\
    map<string, string> labels = 7;\n  uint64 big = 8;\n  message Part { string name = 1; }\n  Part part = 9;\n}\n\
    message Other { int32 n = 1; }\n";

#[test]
fn what_is_missing_is_its_default_or_null() {
    let columns = [
        ("id", "string"),
        ("amount", "float64"),
        ("note", "string"),
        ("status", "string"),
        ("time", "timestamp"),
        ("lines", "list<int64>"),
        ("part.name", "string"),
        ("labels", "string"),
    ];
    let source = source("format = 'protobuf'", &columns);
    let message = message_of(TXN, "shop.Txn");
    let row = read(&message, &source, b"").unwrap();
    let expected = [
        Value::text(""),
        Value::Float64(0.0),
        Value::Null,
        Value::text("UNKNOWN"),
        Value::Null,
        Value::List(vec![]),
        Value::Null,
        Value::Null,
    ];
    assert!(row.iter().zip(&expected).all(|(found, expected)| found.same(expected)), "{row:?}");
    // An empty part is there all the same, and an empty note is not a missing one.
    let row = read(&message, &source, &[0x4a, 0, 0x1a, 0]).unwrap();
    assert!(row[6].same(&Value::text("")) && row[2].same(&Value::text("")), "{row:?}");
}

#[test]
fn wrong_types_and_broken_bytes_have_their_reasons() {
    let message = message_of(TXN, "shop.Txn");
    for (column, data_type, bytes, reason) in [
        ("id", "float64", &b"\x0a\x01x"[..], "E1002 column `id`: the text 'x' is not float64"),
        ("id", "timestamp", b"", "E1002 column `id`: it is missing, and '' is not an RFC 3339 time"),
        ("id", "string", b"\x0a\x01\xff", "not UTF-8"),
        (
            "id",
            "string",
            b"\x08\x01",
            "E1001 not a message of its Protobuf schema: field `id` has the wire type of another",
        ),
        ("id", "string", b"\x0a\x05x", "5 bytes are claimed where 1 are left"),
        ("status", "string", b"\x20\x07", "7 is no value of shop.Status"),
        ("labels", "string", b"\x3a\x00", "a map is not string"),
        ("part", "string", b"\x4a\x00", "a message is not string"),
        ("lines", "int64", b"\x32\x01\x01", "a list is not int64"),
        ("big", "int64", b"\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "out of the range of int64"),
        ("time", "timestamp", b"\x2a\x06\x10\xff\xff\xff\xff\x0f", "an instant with -1 nanoseconds"),
        ("time", "timestamp", b"\x2a\x09\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "outside the years 1 to 9999"),
        ("time", "int64", b"\x2a\x00", "an instant is not int64"),
    ] {
        let told = read(&message, &source("format = 'protobuf'", &[(column, data_type)]), bytes).unwrap_err();
        assert!(told.contains(reason), "{column} as {data_type}: {told}");
    }
    let numbers = source("format = 'protobuf'", &[("status", "int64")]);
    assert!(read(&message, &numbers, b"\x20\x07").unwrap()[0].same(&Value::Int64(7)), "a number needs no name");
}

#[test]
fn messages_are_found_by_name_and_by_place() {
    let of = |text| Descriptors::of_text(text, HashMap::new()).unwrap();
    let descriptors = of(TXN);
    let name = |indexes: &[usize]| descriptors.at(indexes).map(|message| message.full_name().to_string());
    assert_eq!(name(&[0]).as_deref(), Some("shop.Txn"));
    assert_eq!(name(&[1]).as_deref(), Some("shop.Other"));
    // The entry of the map stands before it in the descriptor, and does not count.
    assert_eq!(name(&[0, 0]).as_deref(), Some("shop.Txn.Part"));
    assert_eq!((name(&[2]), name(&[0, 1]), name(&[])), (None, None, None));
    let (message, near) = descriptors.message(Some("shop.Tnx")).unwrap_err();
    assert_eq!((message.as_str(), near.as_deref()), ("there is no message `shop.Tnx`", Some("shop.Txn")));
    assert_eq!(descriptors.message(Some("Txn")).unwrap_err().1.as_deref(), Some("shop.Txn"));
    assert!(descriptors.message(None).unwrap_err().0.contains("shop.Txn, shop.Other"));
    let one = of(
        "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; message A { google.protobuf.Timestamp t = 1; }",
    );
    assert_eq!(one.message(None).unwrap().full_name(), "A");
}

#[test]
fn broken_schemas_name_their_line() {
    let problem = |text: &str| Descriptors::of_text(text, HashMap::new()).err().expect("it is broken");
    let syntax = problem("syntax = \"proto3\";\nmessage A {\n  string a = ;\n}\n");
    assert_eq!(syntax.line, Some(3), "{}", syntax.message);
    let unknown = problem("syntax = \"proto3\";\n\nmessage A { Bee b = 1; }\n");
    assert!(unknown.line == Some(3) && unknown.message.contains("Bee"), "{unknown:?}");
    let import = problem("syntax = \"proto3\";\nimport \"other.proto\";\n");
    assert!(import.line == Some(2) && import.message.contains("other.proto"), "{import:?}");
    let cycle = HashMap::from([("b.proto".to_string(), "import \"b.proto\";".to_string())]);
    assert!(Descriptors::of_text("import \"b.proto\";", cycle).is_err());
}

/// A varint may be longer than its field: what lies beyond the field's bits is cut off, as Protobuf's own libraries do.
#[test]
fn numbers_of_32_bits_are_cut_to_them() {
    let text = "syntax = \"proto3\"; enum E { ZERO = 0; } message A { sint32 a = 1; sint64 b = 2; int32 c = 3; uint32 d = 4; E e = 5; }";
    let columns = [("a", "int64"), ("b", "int64"), ("c", "int64"), ("d", "int64"), ("e", "int64")];
    let varint = [0xc6, 0xc3, 0xad, 0x80, 0xc4, 0x05];
    let bytes: Vec<u8> = (1..6).flat_map(|field| [vec![field << 3], varint.to_vec()].concat()).collect();
    let row = read(&message_of(text, "A"), &source("format = 'protobuf'", &columns), &bytes).unwrap();
    let found: Vec<String> = row.iter().map(|value| format!("{value:?}")).collect();
    let expected = [537_243_875, 95_026_524_387, 1_074_487_750, 1_074_487_750, 1_074_487_750];
    assert_eq!(found, expected.map(|number: i64| format!("Int64({number})")));
}

/// Imports are looked for beside the file, in the project, and in between.
#[test]
fn protobuf_files_import_others_and_sets_hold_them() {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("schemas/shop");
    std::fs::create_dir_all(&shop).unwrap();
    let main = "syntax = \"proto3\"; package shop; import \"shop/money.proto\"; message Txn { Money paid = 1; string id = 2; }";
    std::fs::write(shop.join("txn.proto"), main).unwrap();
    std::fs::write(shop.join("money.proto"), "syntax = \"proto3\"; package shop; message Money { int64 cents = 1; }")
        .unwrap();
    let columns = [("paid.cents", "int64"), ("id", "string")];
    let from_text = source("format = 'protobuf'\nschema_file = 'schemas/shop/txn.proto'", &columns);
    let found = check_schema_file(&from_text, folder.path());
    assert!(found.is_empty(), "{found:?}");
    let mut compiler = protox::Compiler::new([folder.path().join("schemas")]).unwrap();
    compiler.include_imports(true).open_file("shop/txn.proto").unwrap();
    std::fs::write(folder.path().join("txn.desc"), compiler.encode_file_descriptor_set()).unwrap();
    let from_set = source("format = 'protobuf'\nschema_file = 'txn.desc'\nmessage = 'shop.Txn'", &columns);
    let found = check_schema_file(&from_set, folder.path());
    assert!(found.is_empty(), "{found:?}");
}
