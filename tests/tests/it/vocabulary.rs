//! Every aggregate, window and kind of view in one project: 50,000 random events through a real server process, read back over
//! gRPC as of many moments, against the oracle.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemill::serving::wire::{NO_TIME, from_wire};
use tidemill_client::v1;
use tidemill_features::definitions::AGGREGATES;
use tidemill_features::read::{Answer, Status};
use tidemill_tests::bridge::same;
use tidemill_tests::oracle::expression::{Expr, Operator};
use tidemill_tests::oracle::model::{Aggregate, Datum, Feature, Join, Period, Row, Source, Type, View, Window};
use tidemill_tests::oracle::service::{Project, read_service};
use tidemill_tests::oracle::toml;
use tidemill_tests::server::{Server, ndjson, project};

const EVENTS: usize = 50_000;
const TABLE_ROWS: usize = 600;
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const START: i64 = 1_770_000_000 * SECOND;
/// How long the events last.
const SPAN: i64 = 20 * DAY;

fn source(name: &str, fields: &[(&str, Type)], table: bool) -> Source {
    Source {
        name: name.into(),
        fields: fields.iter().map(|(name, of)| (name.to_string(), *of)).collect(),
        event_time: "at".into(),
        event_id: (!table).then(|| "id".into()),
        arrival_time: Some("known_at".into()),
        dedup_horizon: HOUR,
        max_future_skew: 300 * SECOND,
        assumed_delay: 0,
        history: false,
        history_until: None,
        table,
        delete_when: table.then(|| Expr::binary(Operator::Equal, column("op"), Expr::text("d"))),
    }
}

fn sources() -> Vec<Source> {
    let money = Type::Decimal(12, 2);
    let events = [
        ("id", Type::Int64),
        ("card", Type::Text),
        ("shop", Type::Int64),
        ("n", Type::Int64),
        ("x", Type::Float64),
        ("money", money),
        ("country", Type::Text),
        ("flag", Type::Bool),
        ("v", Type::Vector(3)),
        ("at", Type::Time),
        ("known_at", Type::Time),
    ];
    let shops = [
        ("shop", Type::Int64),
        ("op", Type::Text),
        ("risk", Type::Float64),
        ("city", Type::Text),
        ("at", Type::Time),
        ("known_at", Type::Time),
    ];
    vec![source("events", &events, false), source("shops", &shops, true)]
}

fn column(name: &str) -> Expr {
    Expr::column(name)
}

/// Every aggregate of the language, by the name that it is called by.
fn aggregates() -> Vec<(&'static str, Aggregate)> {
    let (x, n, country) = (|| column("x"), || column("n"), || column("country"));
    vec![
        ("count", Aggregate::Count),
        ("sum", Aggregate::Sum(x())),
        ("avg", Aggregate::Avg(column("money"))),
        ("min", Aggregate::Min(x())),
        ("max", Aggregate::Max(column("money"))),
        ("variance", Aggregate::Variance(x())),
        ("stddev", Aggregate::Stddev(n())),
        ("skewness", Aggregate::Skewness(x())),
        ("kurtosis", Aggregate::Kurtosis(n())),
        ("quantile", Aggregate::Quantile { x: x(), q: 0.95 }),
        ("median", Aggregate::Median(n())),
        ("histogram", Aggregate::Histogram { x: x(), edges: [-10, 0, 10].map(Datum::Int).to_vec() }),
        ("first", Aggregate::First(x())),
        ("last", Aggregate::Last(country())),
        ("first_k", Aggregate::FirstK { x: n(), k: 3, distinct: false }),
        ("last_k", Aggregate::LastK { x: country(), k: 3, distinct: true }),
        ("arg_max", Aggregate::ArgMax { x: country(), by: x() }),
        ("arg_min", Aggregate::ArgMin { x: n(), by: column("money") }),
        ("distinct", Aggregate::Distinct(country())),
        ("count_distinct", Aggregate::CountDistinct(n())),
        ("top_k", Aggregate::TopK { x: country(), k: 3 }),
        ("bottom_k", Aggregate::BottomK { x: n(), k: 3 }),
        ("mode", Aggregate::Mode(column("shop"))),
        ("entropy", Aggregate::Entropy(country())),
        ("count_by", Aggregate::CountBy(country())),
        ("sum_by", Aggregate::SumBy { x: column("money"), category: country() }),
        ("avg_by", Aggregate::AvgBy { x: x(), category: column("shop") }),
        ("any", Aggregate::Any(column("flag"))),
        ("all", Aggregate::All(column("flag"))),
        ("rate", Aggregate::Rate { counted: n(), of: x(), a: Datum::Int(1), b: Datum::Float(0.5) }),
        ("decayed_sum", Aggregate::DecayedSum { x: column("money"), half_life: HOUR }),
        ("decayed_count", Aggregate::DecayedCount { half_life: DAY }),
        ("time_since_last", Aggregate::TimeSinceLast),
        ("mean_gap", Aggregate::MeanGap),
        ("max_gap", Aggregate::MaxGap),
        ("trend", Aggregate::Trend(x())),
        ("vector_sum", Aggregate::VectorSum(column("v"))),
        ("vector_avg", Aggregate::VectorAvg(column("v"))),
        ("vector_last", Aggregate::VectorLast(column("v"))),
    ]
}

fn windows() -> Vec<Window> {
    vec![
        Window::Sliding { width: 7 * DAY, hop: None },
        Window::Lifetime,
        Window::Calendar(Period::Day, "Europe/Berlin".into()),
        Window::Sliding { width: 6 * HOUR, hop: Some(HOUR) },
        Window::Session(2 * HOUR),
        Window::Tumbling(DAY),
        Window::LastN(20),
        Window::Calendar(Period::Week, "America/New_York".into()),
        Window::Ttl(DAY),
        Window::Calendar(Period::Month, "Australia/Lord_Howe".into()),
    ]
}

fn feature(name: String, aggregate: Aggregate, window: Window) -> Feature {
    Feature { name, aggregate, filter: None, window, offset: 0, default: None, include_request: false }
}

fn view(name: &str, key: &str, source: &str, features: Vec<Feature>) -> View {
    View {
        name: name.into(),
        entity_keys: vec![key.into()],
        source: source.into(),
        filter: None,
        select: Vec::new(),
        joins: Vec::new(),
        features,
        derived: Vec::new(),
    }
}

fn views() -> Vec<View> {
    let windows = windows();
    let mut all = Vec::new();
    for (i, (name, aggregate)) in aggregates().into_iter().enumerate() {
        // Two windows each, so that every window meets many aggregates.
        for turn in 0..2 {
            let window = windows[(i * 3 + turn * 7) % windows.len()].clone();
            let mut feature = feature(format!("{name}_{turn}"), aggregate.clone(), window);
            feature.offset = if (i + turn) % 5 == 0 { HOUR } else { 0 };
            feature.include_request = (i + turn) % 4 == 0;
            if (i + turn) % 3 == 0 {
                feature.filter = Some(Expr::binary(Operator::Greater, column("n"), Expr::int(0)));
            }
            all.push(feature);
        }
    }
    let day = || Window::Sliding { width: DAY, hop: None };
    let mut cards = view("cards", "card", "events", all);
    cards.derived = vec![("ratio".into(), Expr::binary(Operator::Divide, column("sum_0"), column("count_1")))];
    let mut joined = view(
        "joined",
        "card",
        "events",
        vec![
            feature("risk_sum".into(), Aggregate::Sum(column("shops.risk")), day()),
            feature("cities".into(), Aggregate::CountBy(column("shops.city")), Window::LastN(30)),
            feature("last_shop".into(), Aggregate::Last(column("shop")), Window::Lifetime),
        ],
    );
    joined.joins = vec![Join { name: "shops".into(), source: "shops".into(), on: "shop".into() }];
    let shop_table = view(
        "shop_table",
        "shop",
        "shops",
        vec![
            feature("risk".into(), Aggregate::Last(column("risk")), Window::Lifetime),
            feature("city".into(), Aggregate::Last(column("city")), Window::Ttl(5 * DAY)),
        ],
    );
    let shop_events = view("shop_events", "shop", "events", vec![feature("n".into(), Aggregate::Count, day())]);
    let key = Box::new(column("joined.last_shop"));
    let lookup =
        |view: &str, feature: &str| Expr::Lookup { view: view.into(), feature: feature.into(), key: key.clone() };
    cards.derived.push(("last_shop_risk".into(), lookup("shop_table", "risk")));
    cards.derived.push(("last_shop_events".into(), lookup("shop_events", "n")));
    vec![cards, joined, shop_table, shop_events]
}

fn number(random: &mut StdRng) -> f64 {
    match random.random_range(0..10) {
        0 => 0.0,
        1 => random.random_range(-1e12..1e12),
        2 => f64::from(random.random_range(-40i32..40)) / 10.0,
        _ => random.random_range(-100.0..100.0),
    }
}

/// Mostly in order; some late, some twice, some at the same time.
fn event(random: &mut StdRng, offset: u64) -> Row {
    let pace = SPAN / EVENTS as i64;
    let late =
        if random.random_bool(0.05) { random.random_range(0..3 * DAY) } else { random.random_range(0..120 * SECOND) };
    let known = START + offset as i64 * pace;
    let at = (known - late) / SECOND * SECOND;
    let id = if random.random_bool(0.02) { offset.saturating_sub(random.random_range(1..50)) } else { offset };
    // The twin of an event lies with the same card.
    let card = format!("c{}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59);
    let null = |random: &mut StdRng, datum| if random.random_bool(0.05) { Datum::Null } else { datum };
    let x = number(random);
    let money = random.random_range(-500_000i128..500_000);
    let (n, shop) = (random.random_range(-400..400), random.random_range(0..30));
    let country = ["DE", "FR", "", "Österreich", "IT"][random.random_range(0..5usize)];
    let flag = random.random_bool(0.5);
    let columns = vec![
        Datum::Int(id as i64),
        Datum::Text(card),
        null(random, Datum::Int(shop)),
        null(random, Datum::Int(n)),
        null(random, Datum::Float(x)),
        null(random, Datum::Decimal(money, 2)),
        null(random, Datum::Text(country.into())),
        null(random, Datum::Bool(flag)),
        Datum::Vector((0..3).map(|_| random.random_range(-1000..1000) as f32 / 64.0).collect()),
        Datum::Time(at),
        Datum::Time(known),
    ];
    Row { partition: 0, offset, arrival: known, columns }
}

/// In any order: most rows are dated long before they come.
fn table_row(random: &mut StdRng, offset: u64) -> Row {
    let at = START + random.random_range(-DAY..SPAN);
    let op = if random.random_bool(0.15) { "d" } else { "u" };
    let columns = vec![
        Datum::Int(random.random_range(0..30)),
        Datum::Text(op.into()),
        if random.random_bool(0.1) { Datum::Null } else { Datum::Float(number(random)) },
        Datum::Text(["Ulm", "Köln", "Nice"][random.random_range(0..3usize)].into()),
        Datum::Time(at),
        Datum::Time(START + SPAN),
    ];
    Row { partition: 0, offset, arrival: START + SPAN, columns }
}

fn json(datum: &Datum) -> serde_json::Value {
    match datum {
        Datum::Null => serde_json::Value::Null,
        Datum::Bool(v) => (*v).into(),
        Datum::Int(v) => (*v).into(),
        Datum::Float(v) => (*v).into(),
        Datum::Text(v) => v.as_str().into(),
        Datum::Time(v) => (*v).into(),
        Datum::Decimal(v, scale) => tidemill_features::value::decimal_text(*v, *scale).into(),
        Datum::Vector(items) => items.iter().map(|v| f64::from(*v)).collect::<Vec<_>>().into(),
        other => panic!("no column holds {other:?}"),
    }
}

async fn push(server: &Server, source: &Source, rows: &[Row]) {
    let client = server.client().await;
    for rows in rows.chunks(5_000) {
        let line = |row: &Row| {
            let columns = source.fields.iter().zip(&row.columns).map(|((name, _), datum)| (name.clone(), json(datum)));
            serde_json::Value::Object(columns.collect()).to_string()
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        let answer = client.push(ndjson(&source.name, lines.join("\n"), v1::Wait::Readable)).await.unwrap();
        assert_eq!((answer.accepted, answer.dead_lettered), (rows.len() as u64, 0), "{:?}", answer.dead_letters);
    }
}

fn answers(response: &v1::GetResponse) -> Vec<(String, Answer)> {
    let answer = |column: &v1::Column| {
        let status = match column.statuses.first().copied().unwrap_or(0) {
            0 => Status::Present,
            1 => Status::Defaulted,
            2 => Status::Empty,
            3 => Status::NotFound,
            _ => Status::Error,
        };
        let value = from_wire(&column.name, column).unwrap().value(0).into_owned();
        let newest = column.newest.first().copied().filter(|newest| *newest != NO_TIME);
        (column.name.clone(), Answer { value, status, newest, capped: !column.capped.is_empty() })
    };
    response.columns.iter().map(answer).collect()
}

fn wire(datum: &Datum) -> v1::Column {
    let value = tidemill_tests::bridge::value(datum);
    let of = match datum {
        Datum::Int(_) => tidemill_features::value::DataType::Int64,
        Datum::Float(_) => tidemill_features::value::DataType::Float64,
        Datum::Bool(_) => tidemill_features::value::DataType::Bool,
        Datum::Decimal(_, scale) => tidemill_features::value::DataType::Decimal { precision: 12, scale: *scale },
        Datum::Vector(items) => tidemill_features::value::DataType::Vector(items.len() as u32),
        _ => tidemill_features::value::DataType::Text,
    };
    tidemill::serving::wire::values_to_wire(&of, std::iter::once(&value), 1)
}

#[test]
fn every_name_is_here() {
    let here: Vec<&str> = aggregates().into_iter().map(|(name, _)| name).collect();
    for aggregate in AGGREGATES {
        assert!(here.contains(&aggregate.name), "{} has no feature in this test", aggregate.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_events_of_the_whole_vocabulary() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("the whole vocabulary: TIDEMILL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (sources, views) = (sources(), views());
    let folder = project(&toml::project(&sources, &views));
    let events: Vec<Row> = (0..EVENTS as u64).map(|offset| event(&mut random, offset)).collect();
    let table: Vec<Row> = (0..TABLE_ROWS as u64).map(|offset| table_row(&mut random, offset)).collect();
    let server = Server::start(folder.path()).await;
    // The table comes in the middle: half of the events are there before the rows that they see.
    push(&server, &sources[0], &events[..EVENTS / 2]).await;
    push(&server, &sources[1], &table).await;
    push(&server, &sources[0], &events[EVENTS / 2..]).await;
    let all: Vec<(usize, Row)> =
        events.into_iter().map(|row| (0, row)).chain(table.into_iter().map(|row| (1, row))).collect();
    let project = Project { sources: &sources, views: &views, rows: &all };
    let client = server.client().await;
    let (mut compared, mut present) = (0, 0);
    for round in 0..14 {
        let t = START + if round < 4 { SPAN + round * HOUR } else { random.random_range(0..SPAN) };
        let card = if round == 5 { "nobody".to_string() } else { format!("c{}", random.random_range(0..32)) };
        let keys: HashMap<String, Datum> =
            [("card".to_string(), Datum::Text(card)), ("shop".to_string(), Datum::Int(random.random_range(0..30)))]
                .into();
        let asked = event(&mut random, 7);
        let names = sources[0].fields.iter().map(|(name, _)| name.clone());
        let mut request: HashMap<String, Datum> = names.zip(asked.columns).collect();
        for name in ["id", "card", "at", "known_at"] {
            request.remove(name);
        }
        let shown = client.show("service", "all").await.unwrap();
        let wanted: serde_json::Value = serde_json::from_str(&shown.json).unwrap();
        request.retain(|name, _| wanted["request"].get(name).is_some());
        let expected = read_service(project, &keys, Some(&request), t);
        let columns =
            |of: &HashMap<String, Datum>| of.iter().map(|(name, datum)| (name.clone(), wire(datum))).collect();
        let message = v1::GetRequest {
            service: "all".into(),
            keys: columns(&keys),
            request: columns(&request),
            as_of: Some(t),
            value_times: true,
            ..v1::GetRequest::default()
        };
        let found = answers(&client.get(message).await.unwrap());
        assert_eq!(found.len(), expected.len());
        for ((name, answer), (wanted_name, wanted)) in found.iter().zip(&expected) {
            assert_eq!(name, wanted_name);
            assert!(same(answer, wanted), "TIDEMILL_SEED={seed} {name} of {keys:?} at {t}: {answer:?}, not {wanted:?}");
            compared += 1;
            present += usize::from(answer.status == Status::Present && !answer.value.is_null());
        }
    }
    assert!(present * 2 > compared, "most values should be there: {present} of {compared}");
}
