//! Writes the part of the corpus that no editor can: Parquet files, Arrow streams, stored records, gRPC messages, messages of
//! topics. `scripts/fuzz seeds` runs it.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Int8Type};
use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray, Float64Array, Int64Array, NullArray,
    RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
};
use arrow_ipc::writer::StreamWriter;
use libfuzzer_sys::arbitrary::Unstructured;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use prost::Message;
use tidemill_fuzz::rows::{NOW, batch};
use tidemill_fuzz::stored::{Kept, Target};
use tidemill_proto::v1::{self, column::Values};

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).expect("the corpus can be written");
    std::fs::write(folder.join(name), bytes).expect("the corpus can be written");
}

fn main() {
    parquet_files();
    arrow_streams();
    records();
    messages();
    avro_messages();
    protobuf_messages();
}

fn parquet_files() {
    let text = |v: &str| Arc::new(StringArray::from(vec![Some(v), None, Some(v)])) as ArrayRef;
    let id: ArrayRef = Arc::new(StringArray::from(vec!["1", "2", "3"]));
    let at: ArrayRef = Arc::new(arrow_array::TimestampMicrosecondArray::from(vec![NOW, NOW + 1, NOW + 2]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", text("a")),
        ("other_key", Arc::new(Int64Array::from(vec![1, i64::MIN, 3]))),
        ("amount", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)]))),
        ("foreign", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("huge", Arc::new(Decimal128Array::from(vec![1, -1, 0]))),
        ("at_s", Arc::new(arrow_array::TimestampNanosecondArray::from(vec![0, -1, i64::MAX]))),
        ("unknown", Arc::new(arrow_array::DurationSecondArray::from(vec![1, 2, 3]))),
    ];
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for (name, compression) in [("plain", Compression::UNCOMPRESSED), ("snappy", Compression::SNAPPY), ("zstd", zstd)] {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(name != "plain")
            .set_created_by("t".to_string())
            .build();
        for (part, columns) in columns.chunks(3).enumerate() {
            let rows = RecordBatch::try_from_iter(
                [("id", id.clone()), ("at", at.clone())].into_iter().chain(columns.iter().cloned()),
            )
            .expect("equal lengths");
            let mut bytes = Vec::new();
            let mut writer =
                ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties.clone())).expect("the schema is fine");
            writer.write(&rows).expect("memory takes it");
            writer.close().expect("memory takes it");
            write("parquet", &format!("{name}_{part}"), bytes);
        }
    }
}

/// Spines as `arrow_spine` takes them: a choice of wanted columns, then a stream.
fn arrow_streams() {
    let dictionary: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
    let tags = ["x", "y"].map(|tag| Some(vec![Some(tag), None]));
    let mut lists = ListBuilder::new(StringBuilder::new());
    tags.into_iter().chain([None]).for_each(|list| lists.append_option(list));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        [Some([0.5, 1.0]), None, Some([2.0, -1.0])].map(|list| list.map(|list| list.map(Some))),
        2,
    );
    let at = TimestampMicrosecondArray::from(vec![NOW, 1, -1]).with_timezone("UTC");
    let columns: Vec<(u8, &str, ArrayRef)> = vec![
        (1, "key", Arc::new(StringArray::from(vec!["a", "", "c"]))),
        (1, "amount", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)]))),
        (2, "key", Arc::new(dictionary)),
        (2, "other_key", Arc::new(Int64Array::from(vec![1, i64::MIN, 3]))),
        (2, "foreign", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        (2, "huge", Arc::new(Decimal128Array::from(vec![1, -1, 0]))),
        (3, "key", Arc::new(StringViewArray::from(vec!["longer than what is inlined", "b", ""]))),
        (3, "tags", Arc::new(lists.finish())),
        (3, "vec", Arc::new(vectors)),
        (3, "then", Arc::new(at.clone())),
        (0, "nothing", Arc::new(NullArray::new(3))),
    ];
    for choice in 0..4u8 {
        let own = columns.iter().filter(|(of, ..)| *of == choice).map(|(_, name, array)| (*name, array.clone(), true));
        let at: ArrayRef = Arc::new(at.clone());
        let rows = RecordBatch::try_from_iter_with_nullable(own.chain([("at", at, true)])).expect("equal lengths");
        let mut bytes = vec![choice];
        let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema()).expect("the schema is fine");
        writer.write(&rows).expect("memory takes it");
        writer.write(&rows.slice(1, 2)).expect("memory takes it");
        writer.finish().expect("memory takes it");
        drop(writer);
        write("arrow_spine", &format!("columns_{choice}"), bytes);
    }
}

/// Bytes that look random and are the same on each run.
fn noise(seed: u32, length: u32) -> Vec<u8> {
    (0..length).map(|i| ((i ^ seed.wrapping_mul(97)).wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

fn records() {
    for choice in 0..12u8 {
        let target = Target::of(choice);
        let noise = noise(choice.into(), 4_000);
        let mut structured = vec![choice];
        structured.extend(&noise[..1_500]);
        write("record_flips", &format!("noise_{choice}"), structured);
        let events = batch(&target.source(), &mut Unstructured::new(&noise), 0).expect("there is noise enough");
        let prepared = target.prepared(&events);
        let incoming: Vec<_> = (0..events.len().min(9)).map(|row| prepared.incoming(row)).collect();
        let mut kept = Kept::default();
        kept.keep(target.apply(&kept, &incoming).expect("these events are whole"));
        let mut bytes = vec![choice];
        let chunks = kept.chunks.values().map(|chunk| &chunk[..]);
        for part in kept.record.iter().map(|record| &record[..]).chain(chunks.take(4)) {
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_le_bytes());
            bytes.extend(&part[..length.into()]);
        }
        write("record_bytes", &format!("events_{choice}"), bytes);
    }
}

fn texts(values: &[&str]) -> v1::Column {
    let (mut data, mut offsets) = (Vec::new(), vec![0]);
    for value in values {
        data.extend_from_slice(value.as_bytes());
        offsets.push(data.len() as u32);
    }
    column(Values::Texts(v1::Texts { data: data.into(), offsets }))
}

fn column(values: Values) -> v1::Column {
    v1::Column { values: Some(values), ..v1::Column::default() }
}

fn message(kind: u8, name: &str, message: &impl Message) {
    let mut bytes = vec![kind];
    bytes.extend(message.encode_to_vec());
    write("grpc", name, bytes);
}

fn request_values() -> std::collections::HashMap<String, v1::Column> {
    let decimals = v1::Decimals { data: vec![7; 32].into(), scale: 2 };
    let lists = v1::Lists { items: Some(Box::new(texts(&["x", "y"]))), offsets: vec![0, 0, 2] };
    [
        ("amount".to_string(), column(Values::Doubles(v1::Doubles { values: vec![1.5, f64::NAN] }))),
        ("country".to_string(), v1::Column { validity: vec![1].into(), ..texts(&["DE", ""]) }),
        ("price".to_string(), column(Values::Decimals(decimals))),
        ("at".to_string(), column(Values::Timestamps(v1::Int64s { values: vec![NOW, -1] }))),
        ("tags".to_string(), column(Values::Lists(Box::new(lists)))),
    ]
    .into()
}

fn messages() {
    let keys = || [("key".to_string(), texts(&["a", "nobody"]))].into();
    let all = v1::GetRequest { service: "all".into(), keys: keys(), request: request_values(), ..Default::default() };
    message(0, "get_all", &all);
    message(0, "get_arrow", &v1::GetRequest { encoding: 1, value_times: true, ..all.clone() });
    message(0, "get_past", &v1::GetRequest { as_of: Some(NOW - 1), ..all.clone() });
    let few = v1::GetRequest { service: "few".into(), keys: keys(), text_values: true, ..Default::default() };
    message(0, "get_few", &few);
    let pair = v1::GetRequest {
        features: vec!["plain_0:*".into(), "plain_2:f9".into()],
        keys: [
            ("key".to_string(), texts(&["a"])),
            ("other_key".to_string(), column(Values::Int64s(v1::Int64s { values: vec![1] }))),
        ]
        .into(),
        ..Default::default()
    };
    message(0, "get_pair", &pair);
    let push = |rows| v1::PushRequest { source: "s".into(), rows: Some(rows), wait: v1::Wait::Readable as i32 };
    let ndjson = br#"{"id":"9","key":"a","amount":2,"at":"2026-01-01T00:00:00Z"}"#;
    message(1, "push_ndjson", &push(v1::push_request::Rows::Ndjson(ndjson.to_vec().into())));
    let csv = b"id,key,at\n8,a,2026-01-01T00:00:00Z\n";
    message(1, "push_csv", &push(v1::push_request::Rows::Csv(csv.to_vec().into())));
    let named = |name: &str, column: v1::Column| v1::Column { name: name.to_string(), ..column };
    let mut columns: Vec<v1::Column> = request_values().into_iter().map(|(name, c)| named(&name, c)).collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    columns.extend([named("id", texts(&["1", "7"])), named("key", texts(&["a", "b"]))]);
    columns.push(v1::Column { name: "blob".into(), rows: 2, ..Default::default() });
    message(1, "push_columns", &push(v1::push_request::Rows::Columns(v1::Columns { columns })));
    for feature in ["ids_0:f0_1h", "ids_0:ratio", "ids_1:f48", "ids_2:f0", "ids_0:f7"] {
        let explain = v1::ExplainRequest {
            feature: feature.to_string(),
            keys: [("key".to_string(), texts(&["a"]))].into(),
            as_of: Some(NOW + 1),
            ..Default::default()
        };
        message(2, &format!("explain_{}", feature.replace(':', "_")), &explain);
    }
    let file = v1::DefinitionFile { path: "a.toml".into(), text: "[entity.e]\nkey = \"k\"\nkeys = [\"k\"]\n".into() };
    message(3, "check", &v1::CheckRequest { files: vec![file.clone(), file] });
    message(4, "letters", &v1::DeadLettersRequest { source: "s".into(), limit: 3, ..Default::default() });
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn long(number: i64) -> Vec<u8> {
    varint(((number << 1) ^ (number >> 63)) as u64)
}

/// Bytes or text behind their length, as Avro has them.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [long(bytes.len() as i64), bytes.to_vec()].concat()
}

/// Records of `tidemill_fuzz::messages::AVRO`: one with little in it, one with everything, one inside another.
fn avro_messages() {
    let begin = |id: &str| [counted(id.as_bytes()), long(NOW)].concat();
    let floats = [long(2), 0.5f32.to_le_bytes().to_vec(), 1f32.to_le_bytes().to_vec(), long(0)].concat();
    let little = [
        begin("1"),
        long(0),
        long(1),
        [long(2), long(-3)].concat(),
        long(0),
        long(0),
        long(0),
        long(0),
        long(0),
        long(9),
        long(0),
        counted(&[1]),
        long(0),
        [long(0), counted(b"x")].concat(),
        long(0),
        long(0),
        long(0),
        long(0),
        long(0),
    ]
    .concat();
    let whole = |inner: &[u8]| {
        [
            begin("2"),
            [long(1), counted("Grüße".as_bytes())].concat(),
            [long(2), counted(b"-12")].concat(),
            [long(0), 2.5f64.to_le_bytes().to_vec()].concat(),
            long(2),
            vec![2, 1],
            long(1),
            inner.to_vec(),
            [long(1), counted(b"k"), long(3), long(0), long(0)].concat(),
            long(i64::MIN),
            floats.clone(),
            counted(&(-12_340i32).to_be_bytes()),
            [long(1), vec![0xff; 18]].concat(),
            [long(1), vec![1, 2, 3]].concat(),
            [long(-2), long(4), long(0), long(1), counted(b"t"), long(0)].concat(),
            [long(1), long(1), long(1), long(7), long(0)].concat(),
            [long(1), long(20_000)].concat(),
            [long(1), long(NOW / 1_000)].concat(),
            [long(1), long(NOW * 1_000)].concat(),
        ]
        .concat()
    };
    write("avro", "little", &little);
    write("avro", "whole", whole(&long(0)));
    write("avro", "nested", whole(&[long(1), little].concat()));
}

/// Messages of `tidemill_fuzz::messages::PROTOBUF`: the same three, and one with groups.
fn protobuf_messages() {
    let field =
        |number: u64, bytes: &[u8]| [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat();
    let number = |field: u64, number: u64| [varint(field << 3), varint(number)].concat();
    let eight = |field: u64, bytes: [u8; 8]| [varint(field << 3 | 1), bytes.to_vec()].concat();
    let time = [number(1, (NOW / 1_000_000) as u64), number(2, 999_999_999)].concat();
    // The price has no default that is a decimal.
    let little = [field(1, b"1"), field(2, &time), field(15, b"1.50"), field(16, b"7")].concat();
    let whole = [
        little.clone(),
        field(3, "Grüße".as_bytes()),
        number(4, 5),
        eight(5, 2.5f64.to_le_bytes()),
        number(6, 5),
        field(7, &number(1, 1)),
        field(9, &[field(1, b"k"), field(2, &little)].concat()),
        eight(10, 7u64.to_le_bytes()),
        number(11, 8),
        field(13, &time),
        field(14, &[0.5f32.to_le_bytes(), 1f32.to_le_bytes()].concat()),
        field(17, b"\xff\0"),
        field(18, b"t"),
        field(18, b""),
        eight(300, 1f64.to_le_bytes()),
        eight(19, (NOW / 1_000_000).to_le_bytes()),
        number(20, (NOW / 1_000) as u64),
        number(21, (NOW * 1_000) as u64),
    ]
    .concat();
    write("protobuf", "little", &little);
    write("protobuf", "nested", [field(8, &whole), whole.clone()].concat());
    write("protobuf", "groups", [&[0xa3, 6, 8, 1, 0xab, 6, 0xac, 6, 0xa4, 6][..], &little].concat());
    write("protobuf", "whole", whole);
}
