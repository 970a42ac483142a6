//! Golden records: what is on disks out there must be read for ever, and its bytes change only on purpose.
//!
//! Each folder `tests/golden/record-format-N` holds definitions, and for some of their views a record that this code or an
//! older one made of the events below (`NAME.bin`: the record and its chunks, sealed as on a disk) with the values that it
//! answers (`NAME.txt`). The folder of today's format is made anew and compared byte by byte; every folder is read and its
//! values are compared. `TIDEMILL_GOLDEN=write` writes today's folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::definitions::{DefinitionFile, HISTORY_PARTITIONS, Registry, View, check};
use tidemill_features::expression::Column;
use tidemill_features::read::{Context, ReadError, Stored, read_view, table_row};
use tidemill_features::record::{Envelope, FORMAT, NodeId};
use tidemill_features::stream::{EventBatch, Prepared, encode_key};
use tidemill_features::value::Value;
use tidemill_tests::oracle::accept::Ledger;

use crate::engine::{Of, Records, by_key};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;
const START: i64 = 1_700_000_000 * SECOND;
/// Stands for the record itself among the chunks of a file; no ladder has as many levels.
const RECORD_LEVEL: u8 = u8::MAX;

/// When events come.
#[derive(Clone, Copy)]
enum Pace {
    /// so many, one in twenty minutes
    Steady(u64),
    /// 700, most of them within a second
    Burst,
}

/// The views that have a golden record, and the events in it.
const GOLDEN: [(&str, Pace); 19] = [
    ("leaf", Pace::Steady(24)),
    ("sums", Pace::Steady(720)),
    ("extremes", Pace::Steady(720)),
    ("edges", Pace::Steady(720)),
    ("moments", Pace::Steady(720)),
    ("values", Pace::Steady(720)),
    ("registers", Pace::Steady(720)),
    ("maps", Pace::Steady(720)),
    ("gaps", Pace::Steady(720)),
    ("vectors", Pace::Steady(720)),
    ("base", Pace::Steady(720)),
    ("burst", Pace::Burst),
    ("windows", Pace::Steady(720)),
    ("ids", Pace::Steady(24)),
    ("id_pages", Pace::Steady(400)),
    ("rested_ids", Pace::Steady(100)),
    ("rested_id_pages", Pace::Steady(400)),
    ("table", Pace::Steady(24)),
    ("states@key", Pace::Steady(24)),
];

fn folder(format: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/record-format-{format}"))
}

fn registry(folder: &Path) -> Registry {
    let path = folder.join("definitions.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    check(&[DefinitionFile { path: "definitions.toml".into(), text }]).unwrap_or_else(|p| panic!("{}", p[0]))
}

/// Without a pattern that anyone would see, and the same for ever.
fn scatter(i: u64, salt: u64) -> i64 {
    let mixed =
        (i + 1).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(salt.wrapping_mul(1_442_695_040_888_963_407));
    ((mixed ^ (mixed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as i64
}

fn time(pace: Pace, i: u64) -> i64 {
    let i_signed = i as i64;
    match pace {
        Pace::Steady(_) => START + i_signed * 20 * MINUTE + scatter(i, 1) % (10 * MINUTE),
        Pace::Burst if i < 40 => START + i_signed * DAY / 4,
        Pace::Burst => START + 10 * DAY + scatter(i, 1) % SECOND,
    }
}

/// By the fields of the sources, which all have the same.
fn columns(time: i64, i: u64) -> Vec<Value<'static>> {
    let unless = |null: bool, value: Value<'static>| if null { Value::Null } else { value };
    let n = scatter(i, 2);
    let x = (scatter(i, 3) % 2001 - 1000) as f64 / 10.0;
    let words = ["red", "green", "blue", "", "Grün", "😀"];
    let element = |salt: u64| Value::Float64(f64::from((scatter(i, salt) % 100) as f32 / 8.0));
    vec![
        Value::text("golden"),
        Value::Timestamp(time),
        // Now and then the id of an event before.
        Value::Int64(if i % 10 == 9 { i as i64 - 3 } else { i as i64 }),
        unless(i % 13 == 5, Value::Int64(n % 40 - 10)),
        unless(i % 11 == 3, Value::Float64(if i % 97 == 50 { x * 1e15 } else { x })),
        unless(i % 7 == 4, Value::Decimal(i128::from(scatter(i, 4) % 1_000_000 - 300_000))),
        unless(i % 17 == 8, Value::text(words[(scatter(i, 5) % 6) as usize])),
        unless(i % 19 == 2, Value::Bool(scatter(i, 6) % 4 == 0)),
        unless(i % 5 == 1, Value::Bytes(vec![i as u8; (i % 4) as usize].into())),
        unless(i % 23 == 7, Value::Timestamp(-scatter(i, 7) * SECOND)),
        Value::List(vec![element(8), element(9), element(10)]),
    ]
}

/// The events in batches of fifty, by turns of two partitions.
fn batches(pace: Pace) -> Vec<EventBatch> {
    let count = if let Pace::Steady(count) = pace { count } else { 700 };
    let events: Vec<u64> = (0..count).collect();
    let mut batches = Vec::new();
    for (number, numbers) in events.chunks(50).enumerate() {
        let times: Vec<i64> = numbers.iter().map(|i| time(pace, *i)).collect();
        let rows: Vec<Vec<Value<'static>>> = numbers.iter().zip(&times).map(|(i, time)| columns(*time, *i)).collect();
        let column = |at: usize| Column::Values(rows.iter().map(|row| row[at].clone()).collect());
        batches.push(EventBatch {
            columns: (0..rows[0].len()).map(column).collect(),
            arrivals: times.iter().map(|time| time + SECOND).collect(),
            times,
            partition: number as u32 % 2,
            offsets: numbers.to_vec(),
        });
    }
    batches
}

fn view<'r>(registry: &'r Registry, name: &str) -> &'r Arc<View> {
    registry.views.iter().find(|view| view.name == name).unwrap_or_else(|| panic!("no view {name}"))
}

fn key() -> Vec<u8> {
    encode_key([Value::text("golden")]).unwrap()
}

fn build(registry: &Registry, name: &str, pace: Pace) -> Records {
    let view = view(registry, name);
    let stream = view.stream.as_ref().unwrap();
    let source = &registry.sources[stream.source];
    let mut records = Records::default();
    for mut batch in batches(pace) {
        if source.history.is_some() && batch.partition == 1 {
            batch.partition = HISTORY_PARTITIONS + 1;
        }
        let prepared = Prepared::new(view, stream, source, &batch);
        let mut ledger = Ledger::default();
        records.apply(view, &by_key(&prepared, &batch, &mut ledger), &mut ledger);
    }
    records
}

/// The record and its chunks one after the other: level, slot, length, sealed bytes.
fn file_of(records: &Records) -> Vec<u8> {
    let mut pieces: Vec<(NodeId, &[u8])> = records.chunks.iter().map(|((_, id), chunk)| (*id, &**chunk)).collect();
    pieces.sort_by_key(|(id, _)| *id);
    pieces.insert(0, (NodeId { level: RECORD_LEVEL, slot: 0 }, &records.records[&key()]));
    let mut file = Vec::new();
    for (id, body) in pieces {
        let sealed = Envelope { definition: 1, sequence: 2, body }.seal();
        file.push(id.level);
        file.extend_from_slice(&id.slot.to_le_bytes());
        file.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        file.extend_from_slice(&sealed);
    }
    file
}

fn records_of(file: &[u8]) -> Result<Records, Damaged> {
    let (mut cursor, mut records) = (Cursor::new(file), Records::default());
    while !cursor.rest().is_empty() {
        let level = cursor.byte()?;
        let slot = u64::from_le_bytes(cursor.take(8)?.try_into().unwrap());
        let length = u32::from_le_bytes(cursor.take(4)?.try_into().unwrap());
        let body = Envelope::open(cursor.take(length as usize)?)?.body;
        if level == RECORD_LEVEL {
            records.records.insert(key(), body.to_vec());
        } else {
            records.chunks.insert((key(), NodeId { level, slot }), body.into());
        }
    }
    Ok(records)
}

/// What a record answers at some moments, one line a feature.
fn values(view: &View, records: &Records, pace: Pace) -> String {
    let (plan, key) = (&view.plan, key());
    let nodes = Of(records, &key);
    let stored = Stored { record: records.records.get(&key).map(Vec::as_slice), nodes: &nodes };
    let last = batches(pace).iter().flat_map(|batch| batch.times.clone()).max().unwrap();
    let mut text = String::new();
    for moment in [last + 1, last - 3 * 60 * MINUTE, last + 2 * DAY, last - SECOND / 2, START + DAY] {
        text += &format!("at {moment}\n");
        if plan.features.is_empty() {
            text += &format!("  row = {:?}\n", table_row(plan, stored, moment).unwrap());
        }
        for (at, feature) in plan.features.iter().enumerate() {
            let mut answers = Vec::new();
            let said = match read_view(plan, stored, &Context::default(), &[at], moment, &mut answers) {
                Ok(()) => format!("{:?} {} newest {:?}", answers[0].value, answers[0].status.name(), answers[0].newest),
                Err(ReadError::BeyondRecord) => "beyond the record".to_string(),
                Err(ReadError::Damaged(_)) => "damaged".to_string(),
            };
            text += &format!("  {} = {said}\n", feature.name);
        }
    }
    text
}

fn path(folder: &Path, name: &str, ending: &str) -> PathBuf {
    folder.join(format!("{}.{ending}", name.replace('@', "_by_")))
}

/// Today's folder, after writing it where that is wanted.
fn todays_folder() -> PathBuf {
    let today = folder(FORMAT);
    if std::env::var("TIDEMILL_GOLDEN").is_ok_and(|wanted| wanted == "write") {
        std::fs::create_dir_all(&today).unwrap();
        let definitions = today.join("definitions.toml");
        if !definitions.exists() {
            std::fs::copy(folder(FORMAT - 1).join("definitions.toml"), &definitions).unwrap();
        }
        let registry = registry(&today);
        for (name, pace) in GOLDEN {
            let records = build(&registry, name, pace);
            std::fs::write(path(&today, name, "bin"), file_of(&records)).unwrap();
            std::fs::write(path(&today, name, "txt"), values(view(&registry, name), &records, pace)).unwrap();
        }
    }
    assert!(
        today.exists(),
        "records now have format {FORMAT}, which has no golden files. Write them with \
         `TIDEMILL_GOLDEN=write cargo test -p tidemill-tests --test it golden` and commit them. Leave the folders of older \
         formats as they are: such records are on disks, so `Envelope::open` must go on reading them, or a migration must \
         turn them into new ones, and then `records_of` in this test calls it"
    );
    today
}

#[test]
fn records_have_the_bytes_of_their_format() {
    let today = todays_folder();
    let registry = registry(&today);
    for (name, pace) in GOLDEN {
        let golden = std::fs::read(path(&today, name, "bin")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let made = file_of(&build(&registry, name, pace));
        assert!(
            made == golden,
            "the record of `{name}` has other bytes than golden ({} and {}), but FORMAT is still {FORMAT}. A change of the \
             bytes needs a new FORMAT in features/src/record/envelope.rs and a folder of its own; only where no such record \
             was ever released, `TIDEMILL_GOLDEN=write` makes the golden files anew",
            made.len(),
            golden.len()
        );
    }
}

#[test]
fn records_of_every_format_give_their_values() {
    todays_folder();
    let mut read = 0;
    for format in (1..=FORMAT).filter(|format| folder(*format).exists()) {
        let folder = folder(format);
        let registry = registry(&folder);
        for (name, pace) in GOLDEN {
            let Ok(file) = std::fs::read(path(&folder, name, "bin")) else { continue };
            let records = records_of(&file).unwrap_or_else(|_| {
                panic!(
                    "the golden record `{name}` of format {format} cannot be read any more: records of it are on disks. Keep \
                     reading format {format}, or migrate it and call the migration in `records_of`"
                )
            });
            let expected = std::fs::read_to_string(path(&folder, name, "txt")).unwrap();
            let found = values(view(&registry, name), &records, pace);
            let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
            assert_eq!(found, expected, "`{name}` of format {format} gives other values, first {differing:?}");
            read += 1;
        }
    }
    assert!(read >= GOLDEN.len());
}

/// What the golden files are for: each part of a record is in one of them.
#[test]
fn golden_records_hold_every_part() {
    let registry = registry(&todays_folder());
    let built: HashMap<&str, Records> =
        GOLDEN.iter().map(|(name, pace)| (*name, build(&registry, name, *pace))).collect();
    let chunks = |name: &str| built[name].chunks.len();
    let outline = |name: &str| tidemill_features::record::Outline::parse(&built[name].records[&key()]).unwrap();
    assert_eq!((chunks("leaf"), chunks("ids"), chunks("table")), (0, 0, 0), "records in one piece");
    assert!(chunks("sums") > 1 && outline("sums").base.is_some(), "a ladder above a base");
    assert!(chunks("base") == 0 && outline("base").base.is_some(), "a base alone");
    let levels: std::collections::HashSet<u8> = built["burst"].chunks.keys().map(|(_, id)| id.level).collect();
    assert!(levels.len() > 1, "ladders within a ladder");
    assert!(outline("ids").ids.is_some_and(|ids| ids[0] == 0), "ids in the record");
    assert!(chunks("id_pages") > 1 && outline("id_pages").ids.is_some_and(|ids| ids[0] > 0), "ids in pages");
    assert!(outline("rested_ids").ids.is_some_and(|ids| ids[0] == 0), "ids of a history in the record");
    assert!(outline("rested_id_pages").ids.is_some_and(|ids| ids[0] > 0), "and in pages");
}
