//! A world of the whole vocabulary: every aggregate, window and kind of view, random events for it, and questions whose answers
//! the oracle knows. The events may come by push or in partitions of topics.

use std::collections::HashMap;

use rand::Rng;
use rand::rngs::StdRng;
use tidemill::serving::wire::{NO_TIME, from_wire};
use tidemill_client::{Client, v1};
use tidemill_features::read::{Answer, Status};
use tidemill_tests::bridge::same;
use tidemill_tests::oracle::expression::{Expr, Operator};
use tidemill_tests::oracle::model::{self, Aggregate, Datum, Feature, Join, Period, Row, Source, Type, View, Window};
use tidemill_tests::oracle::service::{Keys, Project, read_service};
use tidemill_tests::oracle::toml;

const SECOND: i64 = 1_000_000;
pub const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
pub const START: i64 = 1_770_000_000 * SECOND;
/// How long the events last.
pub const SPAN: i64 = 20 * DAY;
/// From here on no window that ends an hour ago has an event behind it.
pub const END: i64 = START + SPAN;

/// Definitions, and how fast their events come.
pub struct World {
    pub sources: Vec<Source>,
    pub views: Vec<View>,
    pace: i64,
}

/// What is asked, and the right answers.
pub struct Question {
    pub time: i64,
    keys: Keys,
    request: HashMap<String, Datum>,
    expected: Vec<(String, model::Answer)>,
}

/// How many values were compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub compared: usize,
    /// that were there
    pub present: usize,
    /// that nobody could tell any more
    pub beyond: usize,
}

impl World {
    /// One in which so many events come in twenty days.
    pub fn of(events: usize) -> World {
        World { sources: sources(), views: views(), pace: SPAN / events as i64 }
    }

    /// Definitions of sources that are pushed to.
    pub fn pushed(&self) -> String {
        toml::project(&self.sources, &self.views)
    }

    /// The same where sources read topics, in their order.
    pub fn reading(&self, topics: &[String]) -> String {
        let mut text = self.pushed();
        for (source, topic) in self.sources.iter().zip(topics) {
            let head = format!("[source.{}]\nconnector = ", source.name);
            let kafka = format!("{head}\"kafka\"\ntopic = \"{topic}\"");
            text = text.replace(&format!("{head}\"push\""), &kafka);
        }
        text
    }

    /// Mostly in order; some late, some twice, some at the same time.
    pub fn event(&self, random: &mut StdRng, nth: u64) -> Row {
        let known = START + nth as i64 * self.pace;
        let late = if random.random_bool(0.05) {
            random.random_range(0..3 * DAY)
        } else {
            random.random_range(0..120 * SECOND)
        };
        let at = (known - late) / SECOND * SECOND;
        let id = if random.random_bool(0.02) { nth.saturating_sub(random.random_range(1..50)) } else { nth };
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
        Row { partition: 0, offset: nth, arrival: known, columns }
    }

    /// One that cannot be read, or comes too early.
    pub fn poison(&self, random: &mut StdRng, nth: u64) -> Row {
        let mut row = self.event(random, nth);
        match random.random_range(0..3) {
            0 => row.columns[9] = Datum::Time(row.arrival + 301 * SECOND),
            1 => row.columns[8] = Datum::Vector(vec![1.0, 2.0]),
            _ => row.columns.fill(Datum::Null),
        }
        row
    }

    /// A row as a line of JSON; what has no columns is no JSON either.
    pub fn line(&self, source: usize, row: &Row) -> String {
        if row.columns.iter().all(Datum::is_null) {
            let broken = ["{\"id\": 1", "[]", "{\"at\": 1e400}", "\u{fffd}", "{\"id\": 7, \"at\": null}"];
            return broken[row.arrival as usize / 7 % broken.len()].to_string();
        }
        let fields = &self.sources[source].fields;
        let columns = fields.iter().zip(&row.columns).map(|((name, _), datum)| (name.clone(), json(datum)));
        serde_json::Value::Object(columns.collect()).to_string()
    }

    /// Random questions at these times, with their answers. The client says which values a request needs.
    pub async fn questions(
        &self,
        client: &Client,
        rows: &[(usize, Row)],
        times: &[i64],
        random: &mut StdRng,
    ) -> Vec<Question> {
        let project = Project { sources: &self.sources, views: &self.views, rows };
        let shown = client.show("service", "all").await.unwrap();
        let wanted: serde_json::Value = serde_json::from_str(&shown.json).unwrap();
        let mut questions = Vec::new();
        for (at, time) in times.iter().enumerate() {
            let card = if at == 5 { "nobody".to_string() } else { format!("c{}", random.random_range(0..32)) };
            let shop = Datum::Int(random.random_range(0..30));
            let keys: Keys = [("card".to_string(), Datum::Text(card)), ("shop".to_string(), shop)].into();
            let asked = self.event(random, 7);
            let names = self.sources[0].fields.iter().map(|(name, _)| name.clone());
            let mut request: HashMap<String, Datum> = names.zip(asked.columns).collect();
            request.retain(|name, _| {
                !["id", "card", "at", "known_at"].contains(&name.as_str()) && wanted["request"].get(name).is_some()
            });
            let expected = read_service(project, &keys, Some(&request), *time);
            questions.push(Question { time: *time, keys, request, expected });
        }
        questions
    }
}

impl Question {
    /// Asks, and compares bit by bit. From `exact_from` on everything is known; before that a value may be beyond what is held,
    /// and then it is an error and not a value.
    pub async fn ask(&self, client: &Client, exact_from: i64, tally: &mut Tally) {
        let columns =
            |of: &HashMap<String, Datum>| of.iter().map(|(name, datum)| (name.clone(), wire(datum))).collect();
        let message = v1::GetRequest {
            service: "all".into(),
            keys: columns(&self.keys),
            request: columns(&self.request),
            as_of: Some(self.time),
            value_times: true,
            ..v1::GetRequest::default()
        };
        let found = answers(&client.get(message).await.unwrap());
        assert_eq!(found.len(), self.expected.len());
        for ((name, answer), (wanted_name, wanted)) in found.iter().zip(&self.expected) {
            assert_eq!(name, wanted_name);
            tally.compared += 1;
            if self.time < exact_from && answer.status == Status::Error && answer.value.is_null() {
                tally.beyond += 1;
                continue;
            }
            assert!(same(answer, wanted), "{name} of {:?} at {}: {answer:?}, not {wanted:?}", self.keys, self.time);
            tally.present += usize::from(answer.status == Status::Present && !answer.value.is_null());
        }
    }
}

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
pub fn aggregates() -> Vec<(&'static str, Aggregate)> {
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

/// In any order: most rows are dated long before they come.
pub fn table_row(random: &mut StdRng, offset: u64) -> Row {
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
