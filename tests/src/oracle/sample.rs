//! Small fixed sources, views and rows for the oracle's own tests.

use super::model::{Aggregate, Datum, Feature, Row, Source, Type, View, Window};

pub const SECOND: i64 = 1_000_000;

/// Fields: `card`, `happened` (event time), `event` (event id), `x`.
pub fn source() -> Source {
    Source {
        name: "payments".into(),
        fields: vec![
            ("card".into(), Type::Text),
            ("happened".into(), Type::Time),
            ("event".into(), Type::Int64),
            ("x".into(), Type::Float64),
        ],
        event_time: "happened".into(),
        event_id: Some("event".into()),
        arrival_time: None,
        dedup_horizon: 3600 * SECOND,
        max_future_skew: 300 * SECOND,
        assumed_delay: 0,
        history: false,
        history_until: None,
        table: false,
        delete_when: None,
    }
}

pub fn row(partition: u32, offset: u64, card: &str, happened: i64, event: i64, arrival: i64, x: f64) -> Row {
    let columns = vec![Datum::Text(card.into()), Datum::Time(happened), Datum::Int(event), Datum::Float(x)];
    Row { partition, offset, arrival, columns }
}

pub fn view(features: Vec<Feature>) -> View {
    View {
        name: "cards".into(),
        entity_keys: vec!["card".into()],
        source: "payments".into(),
        filter: None,
        select: Vec::new(),
        joins: Vec::new(),
        features,
        derived: Vec::new(),
    }
}

pub fn feature(name: &str, aggregate: Aggregate, window: Window) -> Feature {
    Feature { name: name.into(), aggregate, filter: None, window, offset: 0, default: None, include_request: false }
}
