//! A project whose log is cut, with all that was sent to it, and what the oracle says of it.

use rand::{Rng, SeedableRng};
use serde_json::{Value as Json, json};
use tidemill_client::v1;
use tidemill_tests::oracle::expression::Expr;
use tidemill_tests::oracle::model::{Aggregate, Answer, Datum, Feature, Row, Source, Type, View, Window};
use tidemill_tests::oracle::read::read;
use tidemill_tests::oracle::toml;
use tidemill_tests::server::{Server, ndjson, project};

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const EVENTS: i64 = 2400;
/// Between two events: all of them are 20 hours.
pub(super) const STEP: i64 = 30 * SECOND;

pub(super) fn source(name: &str, with_id: bool) -> Source {
    let fields = [("id", Type::Int64), ("key", Type::Text), ("x", Type::Float64), ("at", Type::Time)];
    Source {
        name: name.into(),
        fields: fields.map(|(name, of)| (name.to_string(), of)).to_vec(),
        event_time: "at".into(),
        event_id: with_id.then(|| "id".into()),
        arrival_time: None,
        dedup_horizon: HOUR,
        max_future_skew: 5 * MINUTE,
        assumed_delay: 0,
        history: false,
        history_until: None,
        table: false,
        delete_when: None,
    }
}

pub(super) fn feature(name: &str, aggregate: Aggregate, window: Window, offset: i64) -> Feature {
    Feature { name: name.into(), aggregate, filter: None, window, offset, default: None, include_request: false }
}

pub(super) fn view(name: &str, source: &str, features: Vec<Feature>) -> View {
    let (entity_keys, source) = (vec!["key".to_string()], source.to_string());
    let (select, joins, derived) = (Vec::new(), Vec::new(), Vec::new());
    View { name: name.into(), entity_keys, source, filter: None, select, joins, features, derived }
}

/// Windows with a left edge; live reads need three hours.
pub(super) fn bounded(name: &str, source: &str) -> View {
    let hour = |hop| Window::Sliding { width: HOUR, hop };
    let features = vec![
        feature("n_1h", Aggregate::Count, hour(None), 0),
        feature("sum", Aggregate::Sum(Expr::Column("x".into())), hour(None), 30 * MINUTE),
        feature("bucket", Aggregate::Count, Window::Tumbling(HOUR), 0),
    ];
    let present = Expr::IsNull { x: Box::new(Expr::Column("sum".into())), negated: true };
    let derived = vec![("any".to_string(), present)];
    View { derived, ..view(name, source, features) }
}

/// Windows without one.
pub(super) fn unbounded(name: &str, source: &str) -> View {
    let x = || Expr::Column("x".into());
    let features = vec![
        feature("total", Aggregate::Sum(x()), Window::Lifetime, 0),
        feature("three", Aggregate::LastK { x: x(), k: 3, distinct: false }, Window::LastN(3), 0),
        feature("run", Aggregate::Count, Window::Session(25 * MINUTE), 0),
    ];
    view(name, source, features)
}

/// A source's events, one partition, in the order of their times: those of one key end early, another key begins late. Some ids
/// come twice.
pub(super) fn rows(start: i64) -> Vec<Row> {
    let row = |i: i64| {
        let key = match i {
            ..40 => "gone".to_string(),
            2000.. if i % 5 == 0 => "young".to_string(),
            _ => format!("k{}", (i * 31) % 13),
        };
        let id = if i % 50 == 7 { i - 1 } else { i };
        let x = Datum::Float((i % 1000) as f64 + 0.5);
        let columns = vec![Datum::Int(id), Datum::Text(key), x, Datum::Time(start + i * STEP)];
        Row { partition: 0, offset: i as u64, arrival: start + EVENTS * STEP, columns }
    };
    (0..EVENTS).map(row).collect()
}

/// A running project with all that was sent to it.
pub(super) struct World {
    pub folder: tempfile::TempDir,
    pub sources: Vec<Source>,
    pub views: Vec<View>,
    pub rows: Vec<Row>,
    pub start: i64,
}

impl World {
    pub(super) fn new(sources: Vec<Source>, views: Vec<View>, settings: &str) -> World {
        let folder = project(&toml::project(&sources, &views));
        let now = tidemill::clock::Clock::default().now();
        let start = now / SECOND * SECOND - EVENTS * STEP - MINUTE;
        let world = World { folder, sources, views, rows: rows(start), start };
        world.set(settings);
        world
    }

    pub(super) fn set(&self, settings: &str) {
        let text = format!("verify_share = 1.0\n[log]\nsegment_mb = 0.003\n{settings}\n");
        std::fs::write(self.folder.path().join("tidemill.toml"), text).unwrap();
    }

    pub(super) async fn push_all(&self, server: &Server) {
        let client = server.client().await;
        for rows in self.rows.chunks(20) {
            let line = |row: &Row| {
                let [Datum::Int(id), Datum::Text(key), Datum::Float(x), Datum::Time(at)] = &row.columns[..] else {
                    panic!("as made above")
                };
                format!("{}\n", json!({ "id": id, "key": key, "x": x, "at": at }))
            };
            let lines: String = rows.iter().map(line).collect();
            for source in &self.sources {
                client.push(ndjson(&source.name, lines.clone(), v1::Wait::Readable)).await.unwrap();
            }
        }
    }

    pub(super) fn oldest(&self, key: &str) -> Option<i64> {
        let of_key = |row: &&Row| matches!(&row.columns[1], Datum::Text(own) if own == key);
        self.rows.iter().find(of_key).map(time_of)
    }

    pub(super) fn expected(&self, view: &View, key: &str, t: i64) -> Vec<(String, Answer)> {
        let source = self.sources.iter().find(|source| source.name == view.source).unwrap();
        read(view, source, &self.rows, &[Datum::Text(key.into())], t, None)
    }

    /// Keys and times to ask for, the same for everybody.
    pub(super) fn questions(&self, seed: u64) -> Vec<(String, i64)> {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let keys = ["gone", "young", "unknown", "k0", "k1", "k5", "k12"];
        let question = |_| {
            let at = self.start + random.random_range(-2 * HOUR / STEP..EVENTS + 4) * STEP;
            (keys[random.random_range(0..keys.len())].to_string(), at + random.random_range(-1..2))
        };
        (0..220).map(question).collect()
    }
}

pub(super) fn time_of(row: &Row) -> i64 {
    let Datum::Time(time) = row.columns[3] else { panic!("as made above") };
    time
}

/// What is cut: the first events, of each source alike.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub events: usize,
}

impl Cut {
    pub(super) fn of(world: &World, log: &Json) -> Cut {
        Cut { events: log["cut_events"].as_u64().unwrap() as usize / world.sources.len() }
    }

    /// Whether an event of the key may be gone in `[from, to)`.
    pub(super) fn matters(self, world: &World, key: &str, from: i64, to: i64) -> bool {
        let Some(oldest) = world.oldest(key).filter(|_| self.events > 0) else { return false };
        let (least, most) = (oldest.max(world.start), time_of(&world.rows[self.events - 1]));
        least <= most && least < to && most >= from
    }
}

/// The left and right edge of a feature's window.
pub(super) fn edges(feature: &Feature, t: i64) -> (i64, i64) {
    let t = t - feature.offset;
    match &feature.window {
        Window::Sliding { width, .. } => (t - width, t),
        Window::Tumbling(width) => (t.div_euclid(*width) * width - width, t.div_euclid(*width) * width),
        _ => (i64::MIN, t),
    }
}
