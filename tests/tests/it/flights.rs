//! Real data: `get` as of past moments, `explain` and the oracle agree on a thousand random (entity, feature, T) of the flights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::{Rng, SeedableRng};
use tidemill::columnar::ParquetFile;
use tidemill_client::{Client, texts, v1};
use tidemill_features::value::Value;
use tidemill_tests::oracle::accept::Event;
use tidemill_tests::oracle::expression::{Expr, Function, Operator};
use tidemill_tests::oracle::model::{Aggregate, Answer, Datum, Feature, Row, Source, Status, Type, View, Window};
use tidemill_tests::oracle::read::{answer, events_of};
use tidemill_tests::server::{Server, binary};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/definitions/flights")
}

/// A source of the project, and its rows as the files have them.
fn source(name: &str, fields: &[(&str, Type)], arrival: &str) -> (Source, Vec<Row>) {
    let source = Source {
        name: name.to_string(),
        fields: fields.iter().map(|(name, of)| (name.to_string(), *of)).collect(),
        event_time: "departed_at".into(),
        event_id: Some("flight_id".into()),
        arrival_time: Some(arrival.into()),
        dedup_horizon: HOUR,
        max_future_skew: 300_000_000,
        assumed_delay: 0,
        history: false,
        history_until: None,
        table: false,
        delete_when: None,
    };
    let mut rows = Vec::new();
    let mut file = ParquetFile::open(&project().join(format!("data/{name}.parquet")), 0).unwrap();
    while let Some(next) = file.next_columns() {
        let (columns, count) = next.unwrap();
        let by_field: Vec<_> =
            fields.iter().map(|(name, _)| &columns.iter().find(|(given, _)| given == name).unwrap().1).collect();
        for row in 0..count {
            let columns = by_field.iter().map(|column| datum(&column.value(row))).collect();
            rows.push(Row { partition: 0, offset: rows.len() as u64, arrival: 0, columns });
        }
    }
    (source, rows)
}

pub fn datum(value: &Value<'_>) -> Datum {
    match value {
        Value::Null => Datum::Null,
        Value::Int64(v) => Datum::Int(*v),
        Value::Text(v) => Datum::Text(v.to_string()),
        Value::Timestamp(v) => Datum::Time(*v),
        other => panic!("{other:?} in the flights"),
    }
}

fn feature(name: &str, aggregate: Aggregate, window: Window) -> Feature {
    Feature {
        name: name.to_string(),
        aggregate,
        filter: None,
        window,
        offset: 0,
        default: None,
        include_request: false,
    }
}

fn view(name: &str, keys: &[&str], source: &str, features: Vec<Feature>) -> View {
    let entity_keys = keys.iter().map(|key| key.to_string()).collect();
    let (filter, select, derived) = (None, Vec::new(), Vec::new());
    View {
        name: name.to_string(),
        entity_keys,
        source: source.to_string(),
        filter,
        joins: Vec::new(),
        select,
        features,
        derived,
    }
}

/// The project's views once more, in the oracle's words.
pub fn views() -> Vec<View> {
    let column = Expr::column;
    let sliding = |width| Window::Sliding { width, hop: None };
    let delay = || column("dep_delay");
    let late = Expr::binary(Operator::Greater, column("arr_delay"), Expr::int(15));
    let route = Expr::call(Function::Concat, &[column("origin"), Expr::text("-"), column("dest")]);
    vec![
        view(
            "origin_departures",
            &["origin"],
            "departures",
            vec![
                feature("flights_1h", Aggregate::Count, sliding(HOUR)),
                feature("delay_mean_3h", Aggregate::Avg(delay()), sliding(3 * HOUR)),
                feature("delay_worst_3h", Aggregate::Max(delay()), sliding(3 * HOUR)),
            ],
        ),
        view(
            "carrier_departures",
            &["carrier"],
            "departures",
            vec![
                feature("delay_mean_24h", Aggregate::Avg(delay()), sliding(DAY)),
                feature("delay_spread_24h", Aggregate::Stddev(delay()), sliding(DAY)),
            ],
        ),
        view(
            "aircraft_departures",
            &["tailnum"],
            "departures",
            vec![
                Feature {
                    default: Some(Datum::Int(0)),
                    ..feature("last_delay", Aggregate::Last(delay()), Window::Ttl(2 * DAY))
                },
                feature(
                    "last_origins",
                    Aggregate::LastK { x: column("origin"), k: 3, distinct: true },
                    Window::Lifetime,
                ),
                feature("routes_7d", Aggregate::CountDistinct(route), sliding(7 * DAY)),
                feature("miles_7d", Aggregate::Sum(column("distance")), sliding(7 * DAY)),
            ],
        ),
        view(
            "aircraft_arrivals",
            &["tailnum"],
            "arrivals",
            vec![
                feature("flights_7d", Aggregate::Count, sliding(7 * DAY)),
                Feature { filter: Some(late), ..feature("late_7d", Aggregate::Count, sliding(7 * DAY)) },
                feature("delay_mean_10", Aggregate::Avg(column("arr_delay")), Window::LastN(10)),
            ],
        ),
        view(
            "route_arrivals",
            &["origin", "dest"],
            "arrivals",
            vec![
                feature("delay_mean_7d", Aggregate::Avg(column("arr_delay")), sliding(7 * DAY)),
                feature("air_time_best", Aggregate::Min(column("air_time")), Window::Lifetime),
            ],
        ),
    ]
}

fn status(answer: &Answer) -> u8 {
    match answer.status {
        Status::Present => 0,
        Status::Defaulted => 1,
        Status::Empty => 2,
        Status::NotFound => 3,
        Status::Error => 4,
    }
}

/// The first value of a column in the oracle's words.
fn first(column: &v1::Column) -> Datum {
    use v1::column::Values;
    if column.validity.first().is_some_and(|bits| bits & 1 == 0) {
        return Datum::Null;
    }
    match column.values.as_ref().unwrap() {
        Values::Int64s(v) => Datum::Int(v.values[0]),
        Values::Doubles(v) => Datum::Float(v.values[0]),
        Values::Lists(list) => {
            let Some(Values::Texts(texts)) = list.items.as_ref().and_then(|items| items.values.as_ref()) else {
                panic!()
            };
            let text =
                |w: &[u32]| Datum::Text(String::from_utf8(texts.data[w[0] as usize..w[1] as usize].to_vec()).unwrap());
            Datum::List(texts.offsets.windows(2).map(text).collect())
        }
        other => panic!("{other:?}"),
    }
}

async fn served(client: &Client, view: &View, key: &[Datum], t: i64) -> v1::GetResponse {
    let features = view.features.iter().map(|f| format!("{}:{}", view.name, f.name)).collect();
    client.get(v1::GetRequest { features, keys: keys(view, key), as_of: Some(t), ..Default::default() }).await.unwrap()
}

fn keys(view: &View, key: &[Datum]) -> HashMap<String, v1::Column> {
    let text = |datum: &Datum| match datum {
        Datum::Text(text) => texts([text]),
        other => panic!("{other:?}"),
    };
    view.entity_keys.iter().cloned().zip(key.iter().map(text)).collect()
}

/// Both sources with their rows.
pub fn sources() -> HashMap<&'static str, (Source, Vec<Row>)> {
    let common = [
        ("flight_id", Type::Int64),
        ("carrier", Type::Text),
        ("tailnum", Type::Text),
        ("origin", Type::Text),
        ("dest", Type::Text),
        ("departed_at", Type::Time),
    ];
    let departures = [&common[..], &[("dep_delay", Type::Int64), ("distance", Type::Int64)]].concat();
    let arrivals =
        [&common[..], &[("landed_at", Type::Time), ("arr_delay", Type::Int64), ("air_time", Type::Int64)]].concat();
    HashMap::from([
        ("departures", source("departures", &departures, "departed_at")),
        ("arrivals", source("arrivals", &arrivals, "landed_at")),
    ])
}

/// A project folder with the flights' definitions, a server on it, and all flights pushed.
pub async fn loaded() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("features")).unwrap();
    std::fs::copy(project().join("features/flights.toml"), folder.path().join("features/flights.toml")).unwrap();
    let server = Server::start(folder.path()).await;
    for name in ["departures", "arrivals"] {
        let file = project().join(format!("data/{name}.parquet"));
        let pushed = Command::new(binary())
            .args(["push", name, file.to_str().unwrap(), "--wait", "--quiet"])
            .env("TIDEMILL_SERVER", &server.address)
            .status()
            .unwrap();
        assert!(pushed.success());
    }
    (folder, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_moments_of_the_flights() {
    let (_folder, server) = loaded().await;
    let client = server.client().await;
    let sources = sources();
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("flights: TIDEMILL_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut known: HashMap<String, Vec<Event>> = HashMap::new();
    let views = views();
    let mut compared = 0;
    while compared < 1000 {
        let view = &views[random.random_range(0..views.len())];
        let (source, rows) = &sources[view.source.as_str()];
        let chosen = &rows[random.random_range(0..rows.len())];
        let column = |name: &String| chosen.columns[source.field_index(name).unwrap()].clone();
        let key: Vec<Datum> = view.entity_keys.iter().map(column).collect();
        let Datum::Time(near) = column(&source.event_time) else { panic!() };
        if key.iter().any(Datum::is_null) {
            continue;
        }
        // At the very event, a little beside it, or days later.
        let t = near + [0, 1, -1, HOUR, random.random_range(-DAY..10 * DAY)][random.random_range(0..5)];
        let events = known.entry(format!("{} {key:?}", view.name)).or_insert_with(|| {
            let of_key = |row: &&Row| {
                view.entity_keys
                    .iter()
                    .zip(&key)
                    .all(|(name, k)| row.columns[source.field_index(name).unwrap()].same(k))
            };
            let rows: Vec<Row> = rows.iter().filter(of_key).cloned().collect();
            events_of(view, source, &rows, &key)
        });
        let expected = answer(view, source, events, t, None);
        let answers = served(&client, view, &key, t).await;
        for ((name, expected), column) in expected.iter().zip(&answers.columns) {
            let got = first(column);
            let got_status = column.statuses.first().copied().unwrap_or(0);
            assert!(
                got.same(&expected.value) && got_status == status(expected),
                "{}:{name} of {key:?} at {t}: {got:?} {got_status}, not {expected:?}",
                view.name
            );
        }
        let at = random.random_range(0..view.features.len());
        let explained = client.explain(v1::ExplainRequest {
            feature: format!("{}:{}", view.name, view.features[at].name),
            keys: keys(view, &key),
            as_of: Some(t),
            ..Default::default()
        });
        let explained = explained.await.unwrap();
        assert!(explained.bit_identical && first(explained.value.as_ref().unwrap()).same(&expected[at].1.value));
        compared += 1;
    }
}
