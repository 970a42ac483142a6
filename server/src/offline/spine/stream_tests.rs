//! Arrow IPC streams as spines: what they give, and what strangers can do with their bytes.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray,
    StructArray, TimestampMillisecondArray,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Fields;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tidemill_features::value::DataType;

use super::*;

fn wanted() -> Wanted {
    Wanted { time: "at".to_string(), keys: vec![("k".to_string(), DataType::Text)], request: Vec::new() }
}

fn times(seconds: impl IntoIterator<Item = i64>) -> ArrayRef {
    let millis = TimestampMillisecondArray::from_iter_values(seconds.into_iter().map(|s| s * 1000));
    Arc::new(millis.with_timezone("America/New_York"))
}

fn bytes(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn file(folder: &TempDir, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join("a.arrows");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(path: &Path, rows_max: usize) -> Result<Vec<SpineRows>, Failure> {
    let mut spine = Spine::open_stream(path, "the spine", &wanted())?;
    let mut all = Vec::new();
    while let Some(rows) = spine.next_rows(rows_max)? {
        all.push(rows);
    }
    Ok(all)
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, code: &str, part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let failure = read(&file(&folder, bytes), 10).map(|rows| rows.len()).unwrap_err();
    assert!(failure.code == code && failure.message.contains(part), "{failure}");
    assert!(failure.message.contains("the spine"), "{failure}");
}

#[test]
fn columns_pass_through_and_keys_are_fitted() {
    let folder = tempfile::tempdir().unwrap();
    let keys: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let first = batch(vec![
        ("lists", Arc::new(lists)),
        ("at", times([5, -5, 0])),
        ("k", Arc::new(keys)),
        ("nothing", Arc::new(NullArray::new(3))),
        ("view", Arc::new(StringViewArray::from(vec!["a text that is too long to be inlined", "", "x"]))),
    ]);
    let other: DictionaryArray<Int8Type> = ["c", "a"].into_iter().collect();
    let second = batch(vec![
        ("lists", first.column(0).slice(1, 2)),
        ("at", times([7, 8])),
        ("k", Arc::new(other)),
        ("nothing", Arc::new(NullArray::new(2))),
        ("view", first.column(4).slice(0, 2)),
    ]);
    let path = file(&folder, bytes(&[first.clone(), second.clone()]));
    let rows = read(&path, 2).unwrap();
    assert_eq!(
        rows.iter().map(|r| (r.first, r.times.clone())).collect::<Vec<_>>(),
        [(0, vec![5_000_000, -5_000_000]), (2, vec![0]), (3, vec![7_000_000, 8_000_000])]
    );
    let keys: Vec<String> =
        rows.iter().flat_map(|r| (0..r.times.len()).map(|row| format!("{:?}", r.keys[0].value(row)))).collect();
    assert_eq!(keys.join(" "), "Text(\"a\") Text(\"b\") Text(\"a\") Text(\"c\") Text(\"a\")");
    assert_eq!(rows[0].columns, first.slice(0, 2));
    assert_eq!(rows[2].columns, second);
    // As a file of a spine it says its own name, and its times alone can be read.
    let failure = Spine::open(&path, &Wanted { time: "then".into(), ..wanted() }).err().unwrap();
    assert!(failure.code == "E3002" && failure.message.contains("a.arrows"), "{failure}");
    let mut only = Spine::open_times(&path, "at").unwrap();
    assert_eq!(only.next_rows(1).unwrap().unwrap().times, [5_000_000]);
}

#[test]
fn what_could_fill_the_memory_is_refused() {
    let of = |name: &'static str, array: ArrayRef| {
        let k: ArrayRef = Arc::new(StringArray::from(vec!["a"; array.len()]));
        bytes(&[batch(vec![("at", times(vec![0; array.len()])), ("k", k), (name, array)])])
    };
    let nested = |items: ArrayRef| -> ArrayRef {
        let field = Arc::new(arrow_schema::Field::new("item", items.data_type().clone(), true));
        let offsets = arrow_buffer::OffsetBuffer::from_lengths([items.len()]);
        Arc::new(ListArray::new(field, offsets, items, None))
    };
    refused(of("x", nested(Arc::new(NullArray::new(9)))), "E3001", "column `x` has values of the type Null");
    let dictionary: DictionaryArray<Int8Type> = ["a"].into_iter().collect();
    refused(of("x", nested(Arc::new(dictionary))), "E3001", "Dictionary");
    refused(of("x", nested(Arc::new(StringViewArray::from(vec!["a"])))), "E3001", "Utf8View");
    refused(of("x", Arc::new(StructArray::new_empty_fields(1, None))), "E3001", "Struct");
    let run_ends = arrow_array::RunArray::<Int32Type>::try_new(&Int32Array::from(vec![1]), &Int64Array::from(vec![1]));
    refused(of("x", Arc::new(run_ends.unwrap())), "E3001", "RunEndEncoded");
    let fields = Fields::from(vec![arrow_schema::Field::new("a", arrow_schema::DataType::Int64, true)]);
    let good = StructArray::new(fields, vec![Arc::new(Int64Array::from(vec![1]))], None);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(&file(&folder, of("x", Arc::new(good))), 10).unwrap().len(), 1);
    // One long text that many rows share comes row by row.
    let long = "x".repeat(crate::limits::SPINE_BATCH_BYTES / 2);
    let shared: DictionaryArray<Int8Type> = vec![long.as_str(); 7].into_iter().collect();
    let path = file(&folder, of("x", Arc::new(shared)));
    let mut spine = Spine::open_stream(&path, "the spine", &wanted()).unwrap();
    assert_eq!(spine.next_rows(100).unwrap().unwrap().times.len(), 1);
    // Claims of bytes that are not there.
    let good = of("x", Arc::new(Int64Array::from(vec![1])));
    let mut header = good.clone();
    header[4..8].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    refused(header, "E3001", "a message with a header of 2147483647 bytes");
    let mut header = good.clone();
    header[4..8].copy_from_slice(&0x00ff_0000u32.to_le_bytes());
    refused(header, "E3001", "cut within a message");
}

#[test]
fn other_kinds_of_arrow_are_told_apart() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let stored = |name: &str| std::fs::read(testdata.join(name)).unwrap();
    refused(stored("compressed.arrows"), "E3001", "its buffers are compressed");
    refused(stored("delta_dictionary.arrows"), "E3001", "it extends a dictionary");
    refused(b"ARROW1\0\0", "E3001", "an Arrow file (Feather); send the stream format");
    let rows = || batch(vec![("at", times([1])), ("k", Arc::new(StringArray::from(vec!["a"])))]);
    refused([bytes(&[rows()]), vec![0]].concat(), "E3001", "1 bytes behind its end mark");
    refused([&bytes(&[rows()])[..], &bytes(&[rows()])[..]].concat(), "E3001", "behind its end mark");
}

/// A flipped bit or a cut anywhere is an error or harmless, never a panic.
#[test]
fn damaged_streams_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let keys: DictionaryArray<Int8Type> = (0..50).map(|i| ["key a", "key b", "key c"][i % 3]).collect();
    let label: StringArray = (0..50).map(|i| Some(format!("label {i}"))).collect();
    let whole = bytes(&[batch(vec![("at", times(0..50)), ("k", Arc::new(keys)), ("label", Arc::new(label))])]);
    assert_eq!(read(&file(&folder, &whole), 100).unwrap()[0].times.len(), 50);
    let mut errors = 0;
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        errors += usize::from(read(&file(&folder, flipped), 7).is_err());
        assert_eq!(read(&file(&folder, &whole[..at]), 7).map(|rows| rows.len()).unwrap_err().code, "E3001");
    }
    assert!(errors > 200, "{errors} of {} flips were found", whole.len());
}

/// What the seeds of the fuzz target ask for, by their first byte.
fn asked(choice: u8) -> Wanted {
    let named = |list: &[(&str, DataType)]| list.iter().map(|(name, of)| (name.to_string(), of.clone())).collect();
    let (keys, request): (Vec<_>, Vec<_>) = match choice % 4 {
        0 => (Vec::new(), Vec::new()),
        1 => (named(&[("key", DataType::Text)]), named(&[("amount", DataType::Float64)])),
        2 => (named(&[("key", DataType::Text), ("other_key", DataType::Int64)]), named(&[("foreign", DataType::Bool)])),
        _ => {
            let tags = DataType::List(Box::new(DataType::Text));
            (named(&[("key", DataType::Bytes)]), named(&[("tags", tags), ("vec", DataType::Vector(2))]))
        }
    };
    Wanted { time: "at".to_string(), keys, request }
}

/// Some bytes of a stream replaced, moved, or gone; among the replacements are the numbers that lengths break on.
fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..bytes.len());
        let numbers = [0, 1, -1, i64::MAX, i64::MIN, 1 << 31, 1 << 40, bytes.len() as i64];
        match random.random_range(0..5) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => {
                let number = numbers[random.random_range(0..numbers.len())].to_le_bytes();
                let at = at & !7;
                let end = (at + [4, 8][random.random_range(0..2)]).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            3 => {
                let (from, length) = (random.random_range(0..bytes.len()), random.random_range(1..64));
                let part: Vec<u8> = bytes[from..].iter().take(length).copied().collect();
                let end = (at + part.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&part[..end - at]);
            }
            _ if random.random_bool(0.1) => bytes.truncate(at.max(1)),
            _ => {}
        }
    }
}

/// The seeds of the fuzz target, damaged at random: an error or rows of the right shape, whatever the bytes say.
#[test]
fn random_damage_is_an_error_or_harmless() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seed, cases) =
        (number("TIDEMILL_SEED").unwrap_or_else(rand::random), number("TIDEMILL_CASES").unwrap_or(3_000));
    println!("stream: TIDEMILL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/arrow_spine");
    let files = std::fs::read_dir(corpus).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut seeds: Vec<Vec<u8>> = files.collect();
    seeds.sort();
    let folder = tempfile::tempdir().unwrap();
    let mut whole = 0;
    for case in 0..cases {
        let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
        let choice = bytes.remove(0);
        if case >= 50 {
            damage(&mut bytes, &mut random);
        }
        let wanted = asked(choice);
        let Ok(mut spine) = Spine::open_stream(&file(&folder, &bytes), "the spine", &wanted) else { continue };
        let mut seen = 0;
        while let Ok(Some(rows)) = spine.next_rows(2) {
            let count = rows.times.len();
            assert!(rows.first == seen && (1..=2).contains(&count) && rows.columns.num_rows() == count);
            assert!((rows.keys.len(), rows.request.len()) == (wanted.keys.len(), wanted.request.len()));
            assert!(rows.keys.iter().all(|column| (0..count).all(|row| !column.value(row).is_null())));
            seen += count as u64;
            if seen > 1_000 {
                break;
            }
        }
        whole += u64::from(seen == 5);
    }
    assert!(whole > 10, "the seeds themselves can be read");
}
