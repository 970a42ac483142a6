//! Training sets out of any spine: what comes out is what went in, row by row, or nothing at all.

use std::collections::BTreeMap;
use std::fs;

use arrow_array::types::Int32Type;
use arrow_array::{
    BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow_select::concat::concat_batches;
use arrow_select::take::take;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tidemill_features::read::Status;
use tidemill_features::time::{DAY, rfc3339};

use super::files::Sizes;
use super::*;
use crate::columnar::{ParquetFile, ParquetWriter};
use crate::offline::spine::{Spine, Wanted};

/// One row of a random spine and its features.
#[derive(Clone, Debug)]
struct Row {
    time: i64,
    key: String,
    number: Option<i64>,
    float: Option<f64>,
    list: Option<Vec<Option<i32>>>,
    answers: Vec<Answer>,
}

fn types() -> Vec<(String, DataType)> {
    let list = |of: DataType| DataType::List(Box::new(of));
    let map = DataType::Map(Box::new(DataType::Text), Box::new(DataType::Float64));
    let types = [
        DataType::Int64,
        DataType::Float64,
        DataType::Bool,
        DataType::Text,
        DataType::Bytes,
        DataType::Timestamp,
        DataType::Decimal { precision: 12, scale: 2 },
        list(DataType::Text),
        list(DataType::Decimal { precision: 38, scale: 3 }),
        DataType::Vector(3),
        map,
    ];
    types.into_iter().enumerate().map(|(at, of)| (format!("v__f{at}"), of)).collect()
}

fn value(of: &DataType) -> BoxedStrategy<Value<'static>> {
    let null = Just(Value::Null);
    let some = match of {
        DataType::Int64 => any::<i64>().prop_map(Value::Int64).boxed(),
        DataType::Float64 => prop_oneof![-1e6..1e6, Just(f64::INFINITY)].prop_map(Value::Float64).boxed(),
        DataType::Float32 => (-100i16..100).prop_map(|v| Value::Float64(f64::from(v) / 4.0)).boxed(),
        DataType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        DataType::Text => "[a-zé]{0,3}".prop_map(|v| Value::Text(v.into())).boxed(),
        DataType::Bytes => prop::collection::vec(any::<u8>(), 0..3).prop_map(|v| Value::Bytes(v.into())).boxed(),
        DataType::Timestamp => (-DAY..DAY).prop_map(Value::Timestamp).boxed(),
        DataType::Decimal { .. } => (-99_999i128..99_999).prop_map(Value::Decimal).boxed(),
        DataType::List(of) => prop::collection::vec(value(of), 0..3).prop_map(Value::List).boxed(),
        DataType::Vector(dims) => prop::collection::vec(-100i16..100, *dims as usize..=*dims as usize)
            .prop_map(|v| Value::List(v.into_iter().map(|x| Value::Float64(f64::from(x) / 4.0)).collect()))
            .boxed(),
        DataType::Map(_, values) => prop::collection::btree_map("[a-c]", value(values), 0..3)
            .prop_map(|map| Value::Map(map.into_iter().map(|(k, v)| (Value::Text(k.into()), v)).collect()))
            .boxed(),
    };
    prop_oneof![1 => null, 4 => some].boxed()
}

fn row() -> impl Strategy<Value = Row> {
    let status =
        prop::sample::select(vec![Status::Present, Status::Defaulted, Status::Empty, Status::NotFound, Status::Error]);
    let values: Vec<_> = types().iter().map(|(_, of)| value(of)).collect();
    let answers = (values, status).prop_map(|(values, status)| {
        values.into_iter().map(|value| Answer { value, status, newest: None, capped: false }).collect()
    });
    let list = prop::option::of(prop::collection::vec(prop::option::of(any::<i32>()), 0..3));
    // Few days and many equal times.
    let time = prop_oneof![-2 * DAY..2 * DAY, (-2i64..2).prop_map(|day| day * DAY)];
    (time, "[a-c]{0,2}", any::<Option<i64>>(), prop::option::of(-1e9..1e9), list, answers)
        .prop_map(|(time, key, number, float, list, answers)| Row { time, key, number, float, list, answers })
}

fn spine_batch(rows: &[Row]) -> RecordBatch {
    let times = rows.iter().map(|row| Some(row.time)).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    let decimals = rows.iter().map(|row| row.number.map(|v| i128::from(v) / 7)).collect::<Decimal128Array>();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("number", Arc::new(rows.iter().map(|row| row.number).collect::<Int64Array>())),
        ("at", Arc::new(times)),
        ("float", Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>())),
        ("k", Arc::new(rows.iter().map(|row| Some(row.key.as_str())).collect::<StringArray>())),
        ("label", Arc::new(rows.iter().map(|row| row.number.map(|v| v > 0)).collect::<BooleanArray>())),
        ("day", Arc::new(rows.iter().map(|row| row.number.map(|v| v as i32 % 9999)).collect::<Date32Array>())),
        ("price", Arc::new(decimals.with_precision_and_scale(20, 2).unwrap())),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows.iter().map(|row| row.list.clone())))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn spine_file(folder: &TempDir, batch: &RecordBatch) -> PathBuf {
    let path = folder.path().join("spine.parquet");
    let mut writer = ParquetWriter::create(&path, batch.schema(), &[]).unwrap();
    writer.write_row_group(std::slice::from_ref(batch)).unwrap();
    writer.finish().unwrap();
    path
}

fn wanted() -> Wanted {
    Wanted { time: "at".into(), keys: vec![("k".into(), DataType::Text)], request: Vec::new() }
}

fn feature_columns<'a>(types: &'a [(String, DataType)], answers: &'a [Vec<Answer>]) -> Vec<FeatureColumn<'a>> {
    let column = |((name, data_type), answers): (&'a (String, DataType), &'a Vec<Answer>)| FeatureColumn {
        name: name.clone(),
        data_type,
        answers,
    };
    types.iter().zip(answers).map(column).collect()
}

/// Writes a training set out of a spine file.
fn export(
    spine: &Path,
    rows: &[Row],
    out: &Path,
    layout: Layout,
    (rows_max, sizes): (usize, Option<Sizes>),
) -> Result<Written, Failure> {
    let types = types();
    let mut spine = Spine::open(spine, &wanted())?;
    let mut set = TrainingSet::create(out, spine.schema(), &types, layout)?;
    set.files.sizes = sizes.unwrap_or(set.files.sizes);
    while let Some(next) = spine.next_rows(rows_max)? {
        let range = next.first as usize..next.first as usize + next.times.len();
        let answers: Vec<Vec<Answer>> = (0..types.len())
            .map(|at| rows[range.clone()].iter().map(|row| row.answers[at].clone()).collect())
            .collect();
        set.write(&next, &feature_columns(&types, &answers))?;
    }
    set.finish(json!({ "visibility": "served" }).as_object().cloned().unwrap_or_default())
}

fn read(path: &Path) -> Vec<RecordBatch> {
    let mut file = ParquetFile::open_batches(path, 1000, 1 << 20, None).unwrap();
    std::iter::from_fn(|| file.next_batch()).map(Result::unwrap).collect()
}

/// What should come out, as one batch.
fn expected(rows: &[Row]) -> RecordBatch {
    let spine = spine_batch(rows);
    let (mut fields, mut columns) = (spine.schema().fields().to_vec(), spine.columns().to_vec());
    for (at, (name, of)) in types().iter().enumerate() {
        let values: Vec<&Value<'_>> = rows.iter().map(|row| &row.answers[at].value).collect();
        columns.push(array(of, &values).unwrap());
        fields.push(Arc::new(Field::new(name, arrow_type(of), true)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn manifest(written: &Written) -> Json {
    serde_json::from_slice(&fs::read(&written.manifest).unwrap()).unwrap()
}

fn hidden_names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().to_string());
    names.filter(|name| name.starts_with('.')).collect()
}

/// Files by folder, each folder's in the order of their names; checked against the manifest.
fn contents(out: &Path, written: &Written) -> BTreeMap<String, RecordBatch> {
    let schema: SchemaRef = expected(&[]).schema();
    let (manifest, mut folders, mut rows) = (manifest(written), BTreeMap::<String, Vec<RecordBatch>>::new(), 0);
    let listed = manifest["files"].as_array().unwrap();
    assert_eq!(listed.len(), written.files.len());
    for (file, path) in listed.iter().zip(&written.files) {
        let bytes = fs::read(path).unwrap();
        assert_eq!(&out.join(file["path"].as_str().unwrap()), path);
        assert_eq!(file["bytes"], json!(bytes.len()));
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(file["sha256"], json!(sum));
        let batches = read(path);
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(file["rows"], json!(count));
        rows += count;
        let folder = path.parent().unwrap().strip_prefix(out).unwrap().to_string_lossy().to_string();
        folders.entry(folder).or_default().extend(batches);
    }
    assert_eq!((written.rows, &manifest["rows"]), (rows as u64, &json!(rows)));
    folders.into_iter().map(|(name, batches)| (name, concat_batches(&schema, &batches).unwrap())).collect()
}

fn taken(batch: &RecordBatch, rows: &[usize]) -> RecordBatch {
    let numbers = UInt32Array::from(rows.iter().map(|row| *row as u32).collect::<Vec<_>>());
    let columns = batch.columns().iter().map(|column| take(column, &numbers, None).unwrap());
    RecordBatch::try_new(batch.schema(), columns.collect()).unwrap()
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1usize..16, 1u64..40, 1usize..20_000, 1usize..3).prop_map(|(group_rows, file_rows, buffer_bytes, files_open)| {
        Sizes { group_rows, file_rows, buffer_bytes, files_open }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the sizes, the files in the order of their names are the spine, with the values beside it.
    #[test]
    fn what_goes_in_comes_out(rows in prop::collection::vec(row(), 0..60), rows_max in 1usize..9, sizes in sizes()) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("set");
        let spine = spine_file(&folder, &spine_batch(&rows));
        let written = export(&spine, &rows, &out, Layout::default(), (rows_max, Some(sizes))).unwrap();
        let contents = contents(&out, &written);
        prop_assert_eq!(contents.len(), 1);
        prop_assert_eq!(&contents[""], &expected(&rows));
        prop_assert!(hidden_names(folder.path()).is_empty());
    }

    /// With sets and folders, each has its rows, in the order of the spine.
    #[test]
    fn every_row_is_in_its_folder(rows in prop::collection::vec(row(), 0..60), rows_max in 1usize..9, sizes in sizes()) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("set");
        let spine = spine_file(&folder, &spine_batch(&rows));
        let mut times = Spine::open_times(&spine, "at").unwrap();
        let split = Split::parse("train=0.6,test=0.4").unwrap();
        let split = split.resolved(|| Ok(times.next_rows(7)?.map(|rows| rows.times)), folder.path()).unwrap();
        let until = split.until(0).unwrap();
        let hive = HiveKey::parse_list("service,date").unwrap();
        let layout = Layout { service: "fraud".into(), definition_hash: "h".into(), split: Some(split), hive };
        let written = export(&spine, &rows, &out, layout, (rows_max, Some(sizes))).unwrap();
        let mut by_folder: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, row) in rows.iter().enumerate() {
            let set = if row.time < until { "train" } else { "test" };
            let date = rfc3339(row.time)[..10].to_string();
            by_folder.entry(format!("{set}/service=fraud/date={date}")).or_default().push(number);
        }
        for set in ["train", "test"] {
            if !by_folder.keys().any(|folder| folder.starts_with(set)) {
                by_folder.insert(format!("{set}/service=fraud/date=__HIVE_DEFAULT_PARTITION__"), Vec::new());
            }
        }
        let all = expected(&rows);
        let expected: BTreeMap<String, RecordBatch> =
            by_folder.into_iter().map(|(folder, numbers)| (folder, taken(&all, &numbers))).collect();
        prop_assert_eq!(contents(&out, &written), expected);
        let sets = manifest(&written)["split"].clone();
        let train = rows.iter().filter(|row| row.time < until).count();
        prop_assert_eq!(&sets[0]["rows"], &json!(train));
        prop_assert_eq!(&sets[0]["until"], &json!(rfc3339(until)));
        prop_assert_eq!(&sets[1], &json!({ "name": "test", "until": null, "rows": rows.len() - train }));
    }

    /// The manifest's numbers against sorting and adding up.
    #[test]
    fn the_manifest_tells_what_values_are_like(rows in prop::collection::vec(row(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let spine = spine_file(&folder, &spine_batch(&rows));
        let written = export(&spine, &rows, &folder.path().join("set"), Layout::default(), (9, None)).unwrap();
        let manifest = manifest(&written);
        prop_assert_eq!(&manifest["visibility"], &json!("served"));
        let column = |at: usize| manifest["columns"].as_array().unwrap().iter().find(|c| c["name"] == format!("v__f{at}")).unwrap().clone();
        let share = |count: usize| json!(count as f64 / rows.len() as f64);
        for at in 0..types().len() {
            let answers: Vec<&Answer> = rows.iter().map(|row| &row.answers[at]).collect();
            let column = column(at);
            prop_assert_eq!(&column["null_rate"], &share(answers.iter().filter(|a| a.value.is_null()).count()));
            let defaulted = answers.iter().filter(|a| a.status == Status::Defaulted).count();
            prop_assert_eq!(&column["default_rate"], &share(defaulted));
            prop_assert_eq!(&column["statuses"]["DEFAULTED"], &json!(defaulted));
            let absent = answers.iter().filter(|a| a.status == Status::NotFound).count();
            prop_assert_eq!(&column["statuses"]["NOT_FOUND"], &json!(absent));
        }
        let mut numbers: Vec<i64> = rows.iter().filter_map(|row| match row.answers[0].value { Value::Int64(v) => Some(v), _ => None }).collect();
        numbers.sort_unstable();
        let column = column(0);
        prop_assert_eq!(&column["min"], &json!(numbers.first()));
        prop_assert_eq!(&column["max"], &json!(numbers.last()));
        let sum: i128 = numbers.iter().map(|v| i128::from(*v)).sum();
        match column["mean"].as_f64() {
            Some(mean) => prop_assert!((mean - sum as f64 / numbers.len() as f64).abs() <= 1e-12 * mean.abs()),
            None => prop_assert!(numbers.is_empty()),
        }
        for q in ["0.01", "0.25", "0.5", "0.99"] {
            let Some(found) = column["quantiles"][q].as_f64() else { prop_assert!(numbers.is_empty()); continue };
            let element = numbers[(q.parse::<f64>().unwrap() * (numbers.len() - 1) as f64) as usize] as f64;
            prop_assert!((found - element).abs() <= 0.01 * element.abs(), "{} at {}: {}", found, q, element);
        }
    }
}

fn one_row() -> Vec<Row> {
    let answer = |(_, of): (String, DataType)| {
        let value = if matches!(of, DataType::Decimal { .. }) { Value::Decimal(1250) } else { Value::Null };
        Answer { value, status: Status::Present, newest: None, capped: false }
    };
    let answers = types().into_iter().map(answer).collect();
    vec![Row { time: 0, key: "a".into(), number: Some(1), float: None, list: None, answers }]
}

#[test]
fn a_training_set_needs_an_empty_place() {
    let folder = tempfile::tempdir().unwrap();
    let rows = one_row();
    let spine = spine_file(&folder, &spine_batch(&rows));
    let export_to = |out: &Path| export(&spine, &rows, out, Layout::default(), (9, None));
    let out = folder.path().join("new/and/deep");
    assert_eq!(export_to(&out).unwrap().files, [out.join("part-00000.parquet")]);
    assert_eq!(export_to(&out).unwrap_err().code, "E3010", "it is there already");
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let failure = export_to(&file).unwrap_err();
    assert!(failure.code == "E3010" && failure.message.contains("is a file"), "{failure}");
    assert_eq!(export_to(&file.join("below")).unwrap_err().code, "E3011");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(export_to(&empty).unwrap().rows, 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = fs::metadata(folder.path().join("new")).unwrap().permissions().mode();
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode(), plain, "a folder like any other");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("link")).unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        assert!(export_to(&folder.path().join("link")).unwrap().files[0].exists());
        assert!(folder.path().join("elsewhere/_manifest.json").exists(), "a link leads to where the set is");
    }
    assert!(hidden_names(folder.path()).is_empty());
}

#[test]
fn what_stops_midway_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rows = one_row();
    let mut spine = Spine::open(&spine_file(&folder, &spine_batch(&rows)), &wanted()).unwrap();
    let types = types();
    let out = folder.path().join("set");
    let mut set = TrainingSet::create(&out, spine.schema(), &types, Layout::default()).unwrap();
    set.files.sizes.group_rows = 1;
    let next = spine.next_rows(1).unwrap().unwrap();
    let answers: Vec<Vec<Answer>> = (0..types.len()).map(|at| vec![rows[0].answers[at].clone()]).collect();
    set.write(&next, &feature_columns(&types, &answers)).unwrap();
    assert_eq!(hidden_names(folder.path()).len(), 1);
    assert_eq!(set.write(&next, &feature_columns(&types, &answers)).unwrap_err().code, "E3014", "the same rows again");
    drop(set);
    assert!(hidden_names(folder.path()).is_empty() && !out.exists());
    let set = TrainingSet::create(&out, spine.schema(), &types, Layout::default()).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("x"), "someone was faster").unwrap();
    assert_eq!(set.finish(Default::default()).unwrap_err().code, "E3010");
    assert!(hidden_names(folder.path()).is_empty());
}

/// Linux has a file on which every write meets a full disk.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_said() {
    let batch = spine_batch(&one_row());
    let mut writer = ParquetWriter::create(Path::new("/dev/full"), batch.schema(), &[]).unwrap();
    let written = writer.write_row_group(&[batch]).and_then(|()| writer.finish().map(drop));
    assert!(written.unwrap_err().contains("No space left on device"));
    let folder = tempfile::tempdir().unwrap();
    let rows = one_row();
    let spine = spine_file(&folder, &spine_batch(&rows));
    let (mut spine, types) = (Spine::open(&spine, &wanted()).unwrap(), types());
    let out = folder.path().join("set");
    let mut set = TrainingSet::create(&out, spine.schema(), &types, Layout::default()).unwrap();
    std::os::unix::fs::symlink("/dev/full", set.folder.path().join("part-00000.parquet")).unwrap();
    let next = spine.next_rows(1).unwrap().unwrap();
    let answers: Vec<Vec<Answer>> = (0..types.len()).map(|at| vec![rows[0].answers[at].clone()]).collect();
    let ended = set.write(&next, &feature_columns(&types, &answers)).and_then(|()| set.finish(Default::default()));
    let failure = ended.unwrap_err();
    assert_eq!(failure.code, "E3011");
    assert!(failure.message.contains("part-00000.parquet") && failure.message.contains("No space left"), "{failure}");
    assert!(hidden_names(folder.path()).is_empty() && !out.exists());
}

#[test]
fn names_stand_once() {
    let folder = tempfile::tempdir().unwrap();
    let spine = spine_batch(&[]).schema();
    let create = |features: &[&str], layout: Layout| {
        let features: Vec<_> = features.iter().map(|name| (name.to_string(), DataType::Int64)).collect();
        TrainingSet::create(&folder.path().join("set"), spine.clone(), &features, layout).err().map(|f| f.to_string())
    };
    assert!(
        create(&["v__f", "label"], Layout::default()).unwrap().starts_with("E3006: the spine has a column `label`")
    );
    assert!(create(&["v__f", "v__f"], Layout::default()).unwrap().contains("asked for twice"));
    let hive = |hive| Layout { hive, ..Layout::default() };
    assert_eq!(create(&["v__f"], hive(vec![HiveKey::Date])), None, "`day` is not `date`");
    assert!(create(&["date"], hive(vec![HiveKey::Date])).unwrap().contains("folders named `date=…`"));
    assert_eq!(HiveKey::parse_list("service, date").unwrap(), [HiveKey::Service, HiveKey::Date]);
    let failure = HiveKey::parse_list("dat").unwrap_err();
    assert_eq!((failure.code, failure.near), ("E3015", vec!["date".to_string()]));
    assert!(HiveKey::parse_list("date,date").is_err());
    let split = Split::parse("train=0.5,test=0.5").ok();
    assert!(create(&["v__f"], Layout { split, ..Layout::default() }).unwrap().contains("has not been resolved"));
}

#[test]
fn files_say_what_they_were_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let rows = one_row();
    let spine = spine_file(&folder, &spine_batch(&rows));
    let layout = Layout { service: "fraud_v1".into(), definition_hash: "abc123".into(), ..Layout::default() };
    let written = export(&spine, &rows, &folder.path().join("set"), layout, (9, None)).unwrap();
    let notes = crate::columnar::parquet_notes(&written.files[0]).unwrap();
    assert!(notes.contains(&("tidemill.service".into(), "fraud_v1".into())));
    assert!(notes.contains(&("tidemill.definition_hash".into(), "abc123".into())));
    let column = manifest(&written)["columns"][14].clone();
    assert_eq!(column["type"], "decimal(12,2)");
    assert_eq!((&column["min"], &column["mean"]), (&json!("12.50"), &json!(12.5)));
    assert!((column["quantiles"]["0.5"].as_f64().unwrap() - 12.5).abs() <= 0.125, "{column}");
}
